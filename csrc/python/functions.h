/* The built-in functions of the Python front end, one file each family, and what they share. */
#ifndef SS_PYTHON_FUNCTIONS_H
#define SS_PYTHON_FUNCTIONS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#error "slothstate reads dicts and lists in place under the GIL: build it for a Python that has one"
#endif

/* In the order of KINDS of slothstate/values.py. */
enum ss_kind {
    SS_KIND_STRING,
    SS_KIND_NUMBER,
    SS_KIND_BOOLEAN,
    SS_KIND_TABLE,
    SS_KIND_LIST,
    SS_KIND_BYTES,
    SS_KIND_COUNT
};

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

/* PyMethodDef has room for one pointer type; a METH_FASTCALL function goes through a cast, as in CPython itself. */
#define SS_FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

/* Whether a call of `function` got `expected` positional arguments; raises TypeError if not. */
bool ss_check_count(const char *function, Py_ssize_t count, Py_ssize_t expected);

/* Sorts the arguments of a call into `values`, in the order of the `most` parameters and borrowed; NULL for one that was
 * not given, which the first `needed` must be. False with TypeError set. */
bool ss_take_arguments(const char *function, const char *const *parameters, Py_ssize_t needed, Py_ssize_t most,
                       PyObject **values, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);

/* Fills `names` with interned strs of the texts, those that are still NULL. False with an exception set. */
bool ss_intern(PyObject **names, const char *const *texts, size_t count);

/* Appends the type that `spec` describes to the Python list `list`. It is made once a process and kept for good in
 * `type`: a module that is loaded again must find the type of the objects that are there. 0, or -1 with an exception
 * set. */
int ss_export_type(PyTypeObject **type, PyType_Spec *spec, void *list);

/* Borrows the UTF-8 of a str, for as long as the str lives. False and UnicodeEncodeError for a lone surrogate. */
bool ss_utf8_of(PyObject *text, const uint8_t **data, size_t *length);

/* A new str of UTF-8 that is known to be well-formed. */
PyObject *ss_new_str(const uint8_t *data, size_t length, bool is_ascii);

/* repr() of a str (of a subclass too, without calling it), cut after 60 characters. */
PyObject *ss_short_repr(PyObject *text);

/* A new str, the name of an object's type: with its module where the name alone is that of a type of Python's own, as
 * numpy.bool. May run Python code. */
PyObject *ss_type_name(PyObject *object);

/* Raises TypeError with `format`, into which "%U" puts the name of an object's type; returns NULL. */
PyObject *ss_raise_type(const char *format, PyObject *object);

/* The JSON text of a value of which no Python code needs to run; else NULL, without an exception. */
PyObject *ss_json_encode_plain(PyObject *self, PyObject *value);

/* Whether it is a key as `check_key` of slothstate/values.py asks for, and a common one: a str of ASCII. */
bool ss_is_plain_key(PyObject *key);

PyObject *ss_json_encode(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_encode_item(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_json_decode(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_encode_row(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_encode_rows(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_now_ms(PyObject *self, PyObject *unused);
PyObject *ss_glob_check_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_match_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_filter_page(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_glob_prefix_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

#endif
