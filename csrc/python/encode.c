#include "python/functions.h"

#include <stdarg.h>
#include <string.h>

#include "json/json.h"
#include "python/path.h"
#include "python/versions.h"
#include "base/plain.h"
#include "base/utf8.h"

typedef struct encoder {
    PyObject *self;
    PyObject *name;
    ss_buf buf;
    bool is_ascii;
    bool runs_code; /* whether it may; if not, a container that asks for it is an error */
    unsigned depth;
    unsigned depth_max;
    ss_frame *frames; /* of SS_JSON_MAX_DEPTH */
} encoder;

/* Raises `type` with "<path><message>" and returns false. An exception may run other code, so nothing borrowed may be
 * used after it. */
static bool raise_at(const encoder *e, unsigned depth, PyObject *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    PyObject *path = message == NULL ? NULL : ss_path_through(e->name, e->frames, depth);
    if (path != NULL) {
        PyErr_Format(type, "%U%U", path, message);
    }
    Py_XDECREF(path);
    Py_XDECREF(message);
    return false;
}

static bool raise_status(const encoder *e, ss_status status)
{
    if (status == SS_NO_MEMORY) {
        PyErr_NoMemory();
        return false;
    }
    if (status == SS_NOT_FINITE) {
        return raise_at(e, e->depth, ss_invalid_value(e->self),
                        ": NaN and infinities cannot be stored; expected a finite float");
    }
    return raise_at(e, 0, ss_invalid_value(e->self), ": the value is larger than %zu bytes of JSON", SS_BUF_MAX);
}

static bool raise_type(const encoder *e, PyObject *value)
{
    static const char expected[] = "expected str, bool, int, float, None, dict or list";
    if (PyBytes_Check(value)) {
        return raise_at(e, e->depth, ss_invalid_value(e->self), ": bytes cannot be stored inside a table or list; %s",
                        expected);
    }
    PyObject *type = ss_type_name(value);
    if (type != NULL) {
        bool vowel = PyUnicode_GET_LENGTH(type) > 0 && PyUnicode_READ_CHAR(type, 0) < 128 &&
                     strchr("aeiouAEIOU", (int)PyUnicode_READ_CHAR(type, 0)) != NULL;
        raise_at(e, e->depth, ss_invalid_value(e->self), ": %s %U cannot be stored; %s", vowel ? "an" : "a", type,
                 expected);
        Py_DECREF(type);
    }
    return false;
}

static bool raise_key_type(const encoder *e, PyObject *key)
{
    PyObject *type = ss_type_name(key);
    if (type != NULL) {
        raise_at(e, e->depth - 1, ss_invalid_value(e->self), ": the keys of a dict must be str, not %U", type);
        Py_DECREF(type);
    }
    return false;
}

/* At the depth limit: a cycle shows as one object twice on the stack. */
static bool raise_depth(const encoder *e, PyObject *container)
{
    for (unsigned i = 0; i < e->depth; i++) {
        for (unsigned j = i + 1; j <= e->depth; j++) {
            PyObject *inner = j == e->depth ? container : e->frames[j].container;
            if (e->frames[i].container == inner) {
                PyObject *outer = ss_path_through(e->name, e->frames, i);
                if (outer != NULL) {
                    raise_at(e, j, ss_invalid_value(e->self), " is %U itself again; a cycle cannot be stored", outer);
                    Py_DECREF(outer);
                }
                return false;
            }
        }
    }
    return raise_at(e, e->depth, ss_invalid_value(e->self), ": nested too deep; at most %d levels can be stored",
                    (int)e->depth_max);
}

static inline bool check(const encoder *e, ss_status status)
{
    return status == SS_OK || raise_status(e, status);
}

/* Completes what was written with `status` by the byte that follows it. */
static inline bool end_value(encoder *e, ss_status status, uint8_t follower)
{
    return check(e, status == SS_OK ? ss_buf_push(&e->buf, follower) : status);
}

/* The short way for the text of most documents: one look at the capacity, one update of the length. */
static inline bool write_ascii(encoder *e, const uint8_t *text, size_t length, uint8_t follower)
{
    ss_buf *buf = &e->buf;
    if (length < SS_BUF_MAX && ss_buf_reserve(buf, length + 3) == SS_OK) {
        uint8_t *out = buf->data + buf->length;
        out[0] = '"';
        if (ss_copy_plain(out + 1, text, length)) {
            out[length + 1] = '"';
            out[length + 2] = follower;
            buf->length += length + 3;
            return true;
        }
    }
    return end_value(e, ss_json_write_string(buf, text, length), follower);
}

/* Transcodes a str that is not ASCII. CPython would do it too, but keep the UTF-8 with the str for as long as that
 * lives, which doubles the memory of what the user stores. */
static ss_status write_wide(encoder *e, PyObject *text, Py_ssize_t *surrogate)
{
    uint8_t chunk[512];
    size_t filled = 0;
    int kind = (int)PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    e->is_ascii = false;
    ss_status status = ss_buf_push(&e->buf, '"');
    for (Py_ssize_t i = 0; status == SS_OK && i < length; i++) {
        Py_UCS4 character = PyUnicode_READ(kind, data, i);
        if (Py_UNICODE_IS_SURROGATE(character)) {
            *surrogate = i;
            return SS_BAD_UTF8;
        }
        filled += ss_utf8_encode(character, chunk + filled);
        if (filled > sizeof chunk - 4 || i == length - 1) {
            status = ss_json_write_text(&e->buf, chunk, filled);
            filled = 0;
        }
    }
    return status == SS_OK ? ss_buf_push(&e->buf, '"') : status;
}

/* Writes a str and what follows it: ':' after a key, ',' after a value. */
static bool write_str(encoder *e, PyObject *text, uint8_t follower)
{
    if (!ss_make_ready(text)) {
        return false;
    }
    if (PyUnicode_IS_ASCII(text)) {
        return write_ascii(e, PyUnicode_1BYTE_DATA(text), (size_t)PyUnicode_GET_LENGTH(text), follower);
    }
    Py_ssize_t surrogate = -1;
    ss_status status = write_wide(e, text, &surrogate);
    if (surrogate < 0) {
        return end_value(e, status, follower);
    }
    return raise_at(e, e->depth, ss_invalid_value(e->self),
                    ": the %s has a lone surrogate at position %zd; expected text that UTF-8 can hold",
                    follower == ':' ? "key" : "str", surrogate);
}

static bool write_integer(encoder *e, PyObject *value)
{
    int overflow;
    long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) {
        return raise_at(e, e->depth, ss_out_of_range(e->self),
                        ": the int is past 64 bits; expected one from -2**63 to 2**63 - 1");
    }
    return end_value(e, ss_json_write_integer(&e->buf, integer), ',');
}

/* A new dict with the entries of `dict` in the order in which iterating over it gives its keys. Their number and values
 * are those of its storage: no other method of a subclass is called. */
static PyObject *in_own_order(const encoder *e, PyObject *dict)
{
    PyObject *entries = PyDict_New();
    PyObject *keys = entries == NULL ? NULL : PyObject_GetIter(dict);
    /* One more than there are, in case the iteration has no end. */
    for (Py_ssize_t left = PyDict_GET_SIZE(dict); left >= 0 && !PyErr_Occurred(); left--) {
        PyObject *key = PyIter_Next(keys);
        if (key == NULL) {
            break;
        }
        PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
        if (value != NULL) {
            PyDict_SetItem(entries, key, value);
        }
        Py_XDECREF(value);
        Py_DECREF(key);
    }
    Py_XDECREF(keys);
    if (!PyErr_Occurred() && PyDict_GET_SIZE(entries) != PyDict_GET_SIZE(dict)) {
        raise_at(e, e->depth, ss_invalid_value(e->self), ": iterating over this dict does not give its keys");
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(entries);
    }
    return entries;
}

/* Whether a dict is of a subclass that has an order of its own. */
static inline bool has_own_order(PyObject *container)
{
    return PyDict_Check(container) && Py_TYPE(container)->tp_iter != PyDict_Type.tp_iter;
}

static bool open_container(encoder *e, PyObject *container, uint8_t bracket)
{
    if (e->depth == e->depth_max) {
        return raise_depth(e, container);
    }
    PyObject *entries;
    Py_INCREF(container);
    if (!has_own_order(container)) {
        entries = Py_NewRef(container);
    } else if (e->runs_code) {
        entries = in_own_order(e, container);
    } else {
        entries = NULL;
        PyErr_SetString(PyExc_TypeError, "this dict has an order of its own");
    }
    if (entries == NULL) {
        Py_DECREF(container);
        return false;
    }
    e->frames[e->depth++] = (ss_frame){container, entries, 0, 0};
    return check(e, ss_buf_push(&e->buf, bracket));
}

static void drop_frame(encoder *e)
{
    e->depth--;
    Py_DECREF(e->frames[e->depth].entries);
    Py_DECREF(e->frames[e->depth].container);
}

/* Writes a scalar and a comma, or the opening bracket of a container that next_value then walks through. Subclasses are
 * stored as their base type, read in place: none of their methods is called. */
static bool write_value(encoder *e, PyObject *value)
{
    if (PyUnicode_Check(value)) {
        return write_str(e, value, ',');
    }
    if (value == Py_True || value == Py_False) {
        return end_value(e, ss_json_write_bool(&e->buf, value == Py_True), ',');
    }
    if (PyLong_Check(value)) {
        return write_integer(e, value);
    }
    if (PyFloat_Check(value)) {
        return end_value(e, ss_json_write_double(&e->buf, PyFloat_AS_DOUBLE(value)), ',');
    }
    if (PyDict_Check(value)) {
        return open_container(e, value, '{');
    }
    if (PyList_Check(value) || PyTuple_Check(value)) {
        return open_container(e, value, '[');
    }
    if (value == Py_None) {
        return end_value(e, ss_json_write_null(&e->buf), ',');
    }
    return raise_type(e, value);
}

/* Writes the end of the innermost container: over the comma after its last value, if it had any. */
static bool close_container(encoder *e, uint8_t bracket)
{
    drop_frame(e);
    if (e->buf.data[e->buf.length - 1] == ',') {
        e->buf.data[e->buf.length - 1] = bracket;
        return end_value(e, SS_OK, ',');
    }
    return end_value(e, ss_buf_push(&e->buf, bracket), ',');
}

/* The next value of the innermost container, its key written; NULL when the container has been closed. */
static PyObject *next_value(encoder *e, bool *sound)
{
    ss_frame *top = &e->frames[e->depth - 1];
    PyObject *entries = top->entries;
    if (PyDict_Check(entries)) {
        PyObject *key, *value;
        top->at = top->next;
        if (!PyDict_Next(entries, &top->next, &key, &value)) {
            *sound = close_container(e, '}');
            return NULL;
        }
        if (!PyUnicode_Check(key)) {
            *sound = raise_key_type(e, key);
            return NULL;
        }
        *sound = write_str(e, key, ':');
        return value;
    }
    /* The size is read again for each item: it is the storage that counts, whatever a subclass says. */
    if (top->next >= PySequence_Fast_GET_SIZE(entries)) {
        *sound = close_container(e, ']');
        return NULL;
    }
    top->next++;
    return PySequence_Fast_GET_ITEM(entries, top->next - 1);
}

/* Writes the document, and the comma that every value is followed by. */
static bool write_document(encoder *e, PyObject *value)
{
    bool sound = write_value(e, value);
    while (sound && e->depth > 0) {
        PyObject *next = next_value(e, &sound);
        if (sound && next != NULL) {
            sound = write_value(e, next);
        }
    }
    return sound;
}

static PyObject *encode(PyObject *self, PyObject *value, PyObject *name, unsigned depth_max, bool runs_code)
{
    ss_frame frames[SS_JSON_MAX_DEPTH]; /* need no initial value */
    encoder e = {
        .self = self, .name = name, .is_ascii = true, .runs_code = runs_code, .depth_max = depth_max, .frames = frames};
    PyObject *text = NULL;
    if (write_document(&e, value)) {
        text = ss_new_str(e.buf.data, e.buf.length - 1, e.is_ascii);
    }
    while (e.depth > 0) {
        drop_frame(&e);
    }
    ss_buf_free(&e.buf);
    return text;
}

static PyObject *encode_named(PyObject *self, const char *function, unsigned depth_max, PyObject *const *arguments,
                              Py_ssize_t count)
{
    if (!ss_check_count(function, count, 2)) {
        return NULL;
    }
    if (!PyUnicode_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "%s() takes a str as name", function);
    }
    return encode(self, arguments[0], arguments[1], depth_max, true);
}

PyObject *ss_json_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return encode_named(self, "json_encode", SS_JSON_MAX_DEPTH, arguments, count);
}

PyObject *ss_json_encode_item(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return encode_named(self, "json_encode_item", SS_JSON_MAX_DEPTH - 1, arguments, count);
}

PyObject *ss_json_encode_plain(PyObject *self, PyObject *value)
{
    PyObject *name = PyUnicode_New(0, 0); /* the shared empty str */
    PyObject *text = name == NULL ? NULL : encode(self, value, name, SS_JSON_MAX_DEPTH, false);
    Py_XDECREF(name);
    PyErr_Clear();
    return text;
}
