/* The codec and the matcher as built-in functions, one file each family, and what they share. */
#ifndef SS_PYTHON_FUNCTIONS_H
#define SS_PYTHON_FUNCTIONS_H

#include "python/arguments.h"
#include "python/kinds.h"
#include "python/text.h"

/* Tables come with the same few keys again and again: one str each is faster and takes less memory than a new one
 * each time. Every slot holds NULL or an owned str of ASCII whose hash leads there. Only used under the GIL. */
#define SS_CACHED_KEYS 256
#define SS_CACHED_KEY_LENGTH 32

typedef struct ss_key_cache {
    PyObject *keys[SS_CACHED_KEYS];
} ss_key_cache;

/* Each function's `self` is a tuple, the error classes and a capsule with the key cache: no state outside of Python's
 * own objects. */
static inline PyObject *ss_invalid_value(PyObject *self)
{
    return PyTuple_GET_ITEM(self, 0);
}

static inline PyObject *ss_out_of_range(PyObject *self)
{
    return PyTuple_GET_ITEM(self, 1);
}

static inline PyObject *ss_pattern_error(PyObject *self)
{
    return PyTuple_GET_ITEM(self, 2);
}

static inline ss_key_cache *ss_key_cache_of(PyObject *self)
{
    return PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 3), NULL);
}

/* The JSON text of a value of which no Python code needs to run; else NULL, without an exception. */
PyObject *ss_json_encode_plain(PyObject *self, PyObject *value);

/* Whether it is a key as `check_key` of slothstate/values.py asks for, and a common one: a str of ASCII. */
bool ss_is_plain_key(PyObject *key);

PyObject *ss_json_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_encode_item(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_decode(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_check(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_field(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_encode_row(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_encode_rows(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_now_ms(PyObject *self, PyObject *unused);
PyObject *ss_glob_check_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_match_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_filter_page(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_prefix_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

#endif
