#include "python/functions.h"

#include <string.h>

#include "json/json.h"

/* A container being filled; both references are owned. `key` is of the value that comes next, in a dict. */
typedef struct level {
    PyObject *container;
    PyObject *key;
} level;

typedef struct decoder {
    ss_json_reader reader;
    ss_key_cache *cache;
    PyObject *result;
    unsigned depth;
    level levels[SS_JSON_MAX_DEPTH];
} decoder;

/* A new reference to the str of the key just read. */
static PyObject *make_key(decoder *d)
{
    const uint8_t *text = d->reader.text;
    size_t length = d->reader.text_length;
    if (length > SS_CACHED_KEY_LENGTH || !d->reader.text_is_ascii) {
        return ss_new_str(text, length, d->reader.text_is_ascii);
    }
    size_t hash = length;
    for (size_t i = 0; i < length; i++) {
        hash = hash * 31 + text[i];
    }
    PyObject **slot = &d->cache->keys[hash % SS_CACHED_KEYS];
    PyObject *key = *slot;
    if (key == NULL || (size_t)PyUnicode_GET_LENGTH(key) != length ||
        memcmp(PyUnicode_1BYTE_DATA(key), text, length) != 0) {
        key = ss_new_str(text, length, true);
        Py_XSETREF(*slot, key);
    }
    return Py_XNewRef(key);
}

/* Puts a value (whose reference it takes, NULL included) where it belongs. */
static bool place(decoder *d, PyObject *value)
{
    if (value == NULL) {
        return false;
    }
    if (d->depth == 0) {
        d->result = value;
        return true;
    }
    level *top = &d->levels[d->depth - 1];
    int failed;
    if (top->key == NULL) {
        failed = PyList_Append(top->container, value);
    } else {
        failed = PyDict_SetItem(top->container, top->key, value);
        Py_CLEAR(top->key);
    }
    Py_DECREF(value);
    return failed == 0;
}

static bool push(decoder *d, PyObject *container)
{
    if (container == NULL) {
        return false;
    }
    d->levels[d->depth++] = (level){container, NULL}; /* the reader counts the same depth, and has its limit */
    return true;
}

static void raise_reader_error(const ss_json_reader *reader)
{
    const char *what = "this is not JSON";
    switch (reader->status) {
    case SS_NO_MEMORY: PyErr_NoMemory(); return;
    case SS_BAD_UTF8: what = "this is not UTF-8"; break;
    case SS_TOO_DEEP: what = "nested too deep (past 500 levels)"; break;
    case SS_OUT_OF_RANGE: what = "an integer past 64 bits"; break;
    case SS_NOT_FINITE: what = "a number past the largest float"; break;
    default: break;
    }
    PyErr_Format(PyExc_ValueError, "invalid JSON text at byte %zu of %zu: %s", reader->position, reader->length, what);
}

/* Reads one token into the tree; false with an exception set when that fails. */
static bool take(decoder *d, ss_json_token token)
{
    ss_json_reader *reader = &d->reader;
    switch (token) {
    case SS_JSON_NULL: return place(d, Py_NewRef(Py_None));
    case SS_JSON_FALSE: return place(d, Py_NewRef(Py_False));
    case SS_JSON_TRUE: return place(d, Py_NewRef(Py_True));
    case SS_JSON_INTEGER: return place(d, PyLong_FromLongLong(reader->integer));
    case SS_JSON_DOUBLE: return place(d, PyFloat_FromDouble(reader->number));
    case SS_JSON_STRING: return place(d, ss_new_str(reader->text, reader->text_length, reader->text_is_ascii));
    case SS_JSON_KEY: {
        PyObject *key = make_key(d);
        d->levels[d->depth - 1].key = key;
        return key != NULL;
    }
    case SS_JSON_ARRAY_BEGIN: return push(d, PyList_New(0));
    case SS_JSON_OBJECT_BEGIN: return push(d, PyDict_New());
    case SS_JSON_ARRAY_END:
    case SS_JSON_OBJECT_END: return place(d, d->levels[--d->depth].container);
    default: raise_reader_error(reader); return false;
    }
}

static PyObject *decode(PyObject *self, const uint8_t *data, size_t length)
{
    decoder d; /* the levels need no initial value */
    d.cache = ss_key_cache_of(self);
    d.result = NULL;
    d.depth = 0;
    ss_json_reader_init(&d.reader, data, length);
    for (;;) {
        ss_json_token token = ss_json_next(&d.reader);
        if (token == SS_JSON_END) {
            break;
        }
        if (!take(&d, token)) {
            while (d.depth > 0) {
                d.depth--;
                Py_DECREF(d.levels[d.depth].container);
                Py_XDECREF(d.levels[d.depth].key);
            }
            Py_CLEAR(d.result);
            break;
        }
    }
    ss_json_reader_free(&d.reader);
    return d.result;
}

PyObject *ss_json_decode(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("json_decode", count, 1)) {
        return NULL;
    }
    if (PyUnicode_Check(arguments[0])) {
        const uint8_t *data;
        size_t length;
        return ss_utf8_of(arguments[0], &data, &length) ? decode(self, data, length) : NULL;
    }
    if (PyBytes_Check(arguments[0])) {
        const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
        return decode(self, data, (size_t)PyBytes_GET_SIZE(arguments[0]));
    }
    return ss_raise_type(PyExc_TypeError, "json_decode() takes str or bytes, not %U", arguments[0]);
}

PyObject *ss_json_check(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    const uint8_t *data;
    size_t length;
    if (!ss_check_count("json_check", count, 1)) {
        return NULL;
    }
    if (!PyUnicode_Check(arguments[0])) {
        return ss_raise_type(PyExc_TypeError, "json_check() takes str, not %U", arguments[0]);
    }
    if (!ss_utf8_of(arguments[0], &data, &length)) {
        return NULL;
    }
    ss_json_reader reader;
    ss_json_token token;
    ss_json_reader_init(&reader, data, length);
    do {
        token = ss_json_next(&reader);
    } while (token != SS_JSON_END && token != SS_JSON_ERROR);
    if (token == SS_JSON_ERROR) {
        raise_reader_error(&reader);
    }
    ss_json_reader_free(&reader);
    return token == SS_JSON_ERROR ? NULL : Py_NewRef(Py_None);
}
