#include "python/functions.h"

#include <math.h>
#include <string.h>

#include "python/versions.h"
#include "base/buf.h"
#include "base/time.h"

enum { KEY_MAX = 4096 };

static bool is_plain_text(PyObject *text, Py_ssize_t longest)
{
    if (!ss_make_ready(text)) {
        PyErr_Clear();
        return false;
    }
    return PyUnicode_IS_ASCII(text) && PyUnicode_GET_LENGTH(text) <= longest;
}

bool ss_is_plain_key(PyObject *key)
{
    return PyUnicode_CheckExact(key) && is_plain_text(key, KEY_MAX) && PyUnicode_GET_LENGTH(key) > 0 &&
           memchr(PyUnicode_1BYTE_DATA(key), 0, (size_t)PyUnicode_GET_LENGTH(key)) == NULL;
}

/* The column value of `value` as a new reference, and its kind; NULL without an exception if Python must look at it. */
static PyObject *store(PyObject *self, PyObject *value, int *kind)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type) {
        *kind = SS_KIND_STRING;
        return is_plain_text(value, (Py_ssize_t)SS_BUF_MAX) ? Py_NewRef(value) : NULL;
    }
    if (type == &PyLong_Type) {
        int overflow;
        *kind = SS_KIND_NUMBER;
        PyLong_AsLongLongAndOverflow(value, &overflow);
        return overflow == 0 ? Py_NewRef(value) : NULL;
    }
    if (type == &PyFloat_Type) {
        *kind = SS_KIND_NUMBER;
        return isfinite(PyFloat_AS_DOUBLE(value)) ? Py_NewRef(value) : NULL;
    }
    if (type == &PyBool_Type) {
        *kind = SS_KIND_BOOLEAN;
        return PyLong_FromLong(value == Py_True);
    }
    if (type == &PyDict_Type || type == &PyList_Type) {
        *kind = type == &PyDict_Type ? SS_KIND_TABLE : SS_KIND_LIST;
        return ss_json_encode_plain(self, value); /* if it fails Python encodes it again, and names the path */
    }
    return NULL;
}

PyObject *ss_encode_row(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("encode_row", count, 3)) {
        return NULL;
    }
    int kind;
    PyObject *stored = ss_is_plain_key(arguments[0]) ? store(self, arguments[1], &kind) : NULL;
    if (stored == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *row = PyTuple_Pack(2, PyTuple_GET_ITEM(arguments[2], kind), stored);
    Py_DECREF(stored);
    return row;
}

/* Adds an empty list to the dict and borrows it. */
static PyObject *new_list(PyObject *rows, PyObject *kind)
{
    PyObject *list = PyList_New(0);
    if (list != NULL && PyDict_SetItem(rows, kind, list) < 0) {
        Py_CLEAR(list);
    }
    Py_XDECREF(list);
    return list;
}

PyObject *ss_encode_rows(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("encode_rows", count, 2)) {
        return NULL;
    }
    if (!PyDict_CheckExact(arguments[0])) {
        Py_RETURN_NONE;
    }
    PyObject *lists[SS_KIND_COUNT] = {NULL};
    PyObject *rows = PyDict_New();
    Py_ssize_t position = 0;
    PyObject *key;
    PyObject *value;
    /* No Python code runs in between, unless an allocation starts the collector: so the key is owned. */
    while (rows != NULL && PyDict_Next(arguments[0], &position, &key, &value)) {
        int kind;
        Py_INCREF(key);
        PyObject *stored = ss_is_plain_key(key) ? store(self, value, &kind) : NULL;
        if (stored == NULL) {
            Py_DECREF(key);
            Py_DECREF(rows);
            Py_RETURN_NONE;
        }
        if (lists[kind] == NULL) {
            lists[kind] = new_list(rows, PyTuple_GET_ITEM(arguments[1], kind));
        }
        PyObject *row = lists[kind] == NULL ? NULL : PyTuple_Pack(2, key, stored);
        Py_DECREF(stored);
        Py_DECREF(key);
        if (row != NULL) {
            PyObject_GC_UnTrack(row); /* str and numbers alone: thousands of them would only slow the collector */
        }
        if (row == NULL || PyList_Append(lists[kind], row) < 0) {
            Py_CLEAR(rows);
        }
        Py_XDECREF(row);
    }
    return rows;
}

PyObject *ss_now_ms(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromLongLong(ss_wall_clock() / SS_MILLISECOND);
}
