#include <stdarg.h>
#include <string.h>

#include "ss_json.h"
#include "ss_plain.h"
#include "ss_pyfunctions.h"
#include "ss_utf8.h"

/* A container being written. `key` is of the dict entry being written, NULL in a list or tuple. Everything is
 * borrowed: no Python code runs while a document is encoded, so nothing can change or die. */
typedef struct frame {
    PyObject *container;
    PyObject *key;
    Py_ssize_t position; /* in a sequence the next index, in a dict what PyDict_Next left */
} frame;

typedef struct encoder {
    PyObject *self;
    PyObject *name;
    ss_buf buf;
    bool is_ascii;
    unsigned depth;
    frame frames[SS_JSON_MAX_DEPTH];
} encoder;

/* One step of a path ("['ports']", "[2]"), or "..." for the middle of a long one. */
static PyObject *path_step(const frame *f)
{
    if (f->key == NULL) {
        return PyUnicode_FromFormat("[%zd]", f->position - 1);
    }
    PyObject *quoted = ss_short_repr(f->key);
    PyObject *step = quoted == NULL ? NULL : PyUnicode_FromFormat("[%U]", quoted);
    Py_XDECREF(quoted);
    return step;
}

/* The path through the first `depth` frames; of a long one the first and the last ten steps. */
static PyObject *path_to(const encoder *e, unsigned depth)
{
    const unsigned shown = 10;
    PyObject *path = Py_NewRef(e->name);
    for (unsigned i = 0; path != NULL && i < depth; i++) {
        bool skip = depth > 2 * shown && i == shown;
        PyObject *step = skip ? PyUnicode_FromString("...") : path_step(&e->frames[i]);
        if (skip) {
            i = depth - shown - 1;
        }
        PyObject *longer = step == NULL ? NULL : PyUnicode_Concat(path, step);
        Py_XDECREF(step);
        Py_SETREF(path, longer);
    }
    return path;
}

/* Raises `type` with "<path><message>" and returns false. An exception may run other code, so nothing borrowed may be
 * used after it. */
static bool raise_at(const encoder *e, unsigned depth, PyObject *type, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    PyObject *path = message == NULL ? NULL : path_to(e, depth);
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
        return raise_at(e, e->depth, ss_invalid_value(e->self), ": NaN and infinities cannot be stored; "
                                                                "expected a finite float");
    }
    return raise_at(e, 0, ss_invalid_value(e->self), ": the value is larger than %zu bytes of JSON", SS_BUF_MAX);
}

static bool raise_type(const encoder *e, PyObject *value)
{
    static const char expected[] = "expected str, bool, int, float, None, dict or list";
    const char *type = ss_type_name(value);
    if (PyBytes_Check(value)) {
        return raise_at(e, e->depth, ss_invalid_value(e->self), ": bytes cannot be stored inside a table or list; %s",
                        expected);
    }
    const char *article = strchr("aeiouAEIOU", type[0]) != NULL ? "an" : "a";
    return raise_at(e, e->depth, ss_invalid_value(e->self), ": %s %s cannot be stored; %s", article, type, expected);
}

/* At the depth limit: a cycle shows as one object twice on the stack. */
static bool raise_depth(const encoder *e, PyObject *container)
{
    for (unsigned i = 0; i < e->depth; i++) {
        for (unsigned j = i + 1; j <= e->depth; j++) {
            PyObject *inner = j == e->depth ? container : e->frames[j].container;
            if (e->frames[i].container == inner) {
                PyObject *outer = path_to(e, i);
                if (outer != NULL) {
                    raise_at(e, j, ss_invalid_value(e->self), " is %U itself again; a cycle cannot be stored", outer);
                    Py_DECREF(outer);
                }
                return false;
            }
        }
    }
    return raise_at(e, e->depth, ss_invalid_value(e->self), ": nested too deep; at most %d levels can be stored",
                    SS_JSON_MAX_DEPTH);
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
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(text) < 0) {
        return false;
    }
#endif
    if (PyUnicode_IS_ASCII(text)) {
        return write_ascii(e, PyUnicode_1BYTE_DATA(text), (size_t)PyUnicode_GET_LENGTH(text), follower);
    }
    Py_ssize_t surrogate = -1;
    ss_status status = write_wide(e, text, &surrogate);
    if (surrogate < 0) {
        return end_value(e, status, follower);
    }
    return raise_at(e, e->depth, ss_invalid_value(e->self), ": the %s has a lone surrogate at position %zd; "
                    "expected text that UTF-8 can hold", follower == ':' ? "key" : "str", surrogate);
}

static bool write_integer(encoder *e, PyObject *value)
{
    int overflow;
    long long integer = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) {
        return raise_at(e, e->depth, ss_out_of_range(e->self), ": the int is past 64 bits; expected one from -2**63 "
                                                               "to 2**63 - 1");
    }
    return end_value(e, ss_json_write_integer(&e->buf, integer), ',');
}

static bool open_container(encoder *e, PyObject *container, uint8_t bracket)
{
    if (e->depth == SS_JSON_MAX_DEPTH) {
        return raise_depth(e, container);
    }
    e->frames[e->depth++] = (frame){container, NULL, 0};
    return check(e, ss_buf_push(&e->buf, bracket));
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
    e->depth--;
    if (e->buf.data[e->buf.length - 1] == ',') {
        e->buf.data[e->buf.length - 1] = bracket;
        return end_value(e, SS_OK, ',');
    }
    return end_value(e, ss_buf_push(&e->buf, bracket), ',');
}

/* The next value of the innermost container, its key written; NULL when the container has been closed. */
static PyObject *next_value(encoder *e, bool *sound)
{
    frame *top = &e->frames[e->depth - 1];
    PyObject *value = NULL;
    if (PyDict_Check(top->container)) {
        PyObject *key;
        if (!PyDict_Next(top->container, &top->position, &key, &value)) {
            *sound = close_container(e, '}');
            return NULL;
        }
        if (!PyUnicode_Check(key)) {
            e->depth--;
            *sound = raise_at(e, e->depth, ss_invalid_value(e->self), ": the keys of a dict must be str, not %s",
                              ss_type_name(key));
            return NULL;
        }
        top->key = key;
        *sound = write_str(e, key, ':');
        return value;
    }
    /* The size is read again for each item: it is the storage that counts, whatever a subclass says. */
    if (PyList_Check(top->container)) {
        value = top->position < PyList_GET_SIZE(top->container) ? PyList_GET_ITEM(top->container, top->position) : NULL;
    } else {
        value =
            top->position < PyTuple_GET_SIZE(top->container) ? PyTuple_GET_ITEM(top->container, top->position) : NULL;
    }
    if (value == NULL) {
        *sound = close_container(e, ']');
        return NULL;
    }
    top->position++;
    return value;
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

PyObject *ss_json_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("json_encode", count, 2)) {
        return NULL;
    }
    if (!PyUnicode_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "json_encode() takes a str as name, not %s", ss_type_name(arguments[1]));
    }
    encoder e; /* the frames need no initial value */
    e.self = self;
    e.name = arguments[1];
    e.buf = (ss_buf){0};
    e.is_ascii = true;
    e.depth = 0;
    PyObject *text = NULL;
    if (write_document(&e, arguments[0])) {
        text = ss_new_str(e.buf.data, e.buf.length - 1, e.is_ascii);
    }
    ss_buf_free(&e.buf);
    return text;
}
