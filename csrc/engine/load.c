#include "python/functions.h"

#include <math.h>

#include "engine/load.h"
#include "cache/type.h"

#define CALLED_BACK(X) \
    X(CACHE, "cache") \
    X(ENSURE_IDENTITY, "ensure_identity") \
    X(EXECUTE, "execute") \
    X(GET, "get") \
    X(READ, "read") \
    X(STORE, "store") \
    X(SYNC, "sync")
SS_NAMES(CALLED_BACK)

/* As `verify` of slothstate/values.py. */
static bool is_stored_as(enum ss_kind kind, PyObject *stored)
{
    switch (kind) {
    case SS_KIND_NUMBER:
        return PyLong_CheckExact(stored) || (PyFloat_CheckExact(stored) && isfinite(PyFloat_AS_DOUBLE(stored)));
    case SS_KIND_BOOLEAN: return PyLong_CheckExact(stored);
    case SS_KIND_STRING:
    case SS_KIND_TABLE:
    case SS_KIND_LIST: return PyUnicode_CheckExact(stored);
    case SS_KIND_BYTES: return PyBytes_CheckExact(stored);
    default: return false;
    }
}

/* connection.execute(statement, row); steals `row`, which may be NULL with an exception set. */
static PyObject *execute(PyObject *connection, PyObject *statement, PyObject *row)
{
    PyObject *all[3] = {connection, statement, row};
    PyObject *cursor = row == NULL ? NULL : PyObject_VectorcallMethod(names[EXECUTE], all, 3, NULL);
    Py_XDECREF(row);
    return cursor;
}

/* get(connection, now, key); its `self` is the tuple (statement, rarely). */
static PyObject *get_row(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("get", count, 3)) {
        return NULL;
    }
    PyObject *cursor = execute(arguments[0], PyTuple_GET_ITEM(self, 0), PyTuple_Pack(1, arguments[2]));
    PyObject *row = cursor == NULL ? NULL : PyObject_GetAttr(cursor, names[GET]);
    Py_XDECREF(cursor);
    if (row == Py_None || (row == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))) {
        return row;
    }
    if (row != NULL && PyTuple_CheckExact(row) && PyTuple_GET_SIZE(row) == 3 &&
        is_stored_as(ss_kind_of(PyTuple_GET_ITEM(row, 0)), PyTuple_GET_ITEM(row, 1))) {
        PyObject *expires = PyTuple_GET_ITEM(row, 2);
        int expired = expires == Py_None ? 0 : PyObject_RichCompareBool(expires, arguments[1], Py_LE);
        if (expired > 0) {
            Py_SETREF(row, Py_NewRef(Py_None));
        } else if (expired < 0) {
            Py_CLEAR(row);
        }
        return row;
    }
    PyErr_Clear();
    Py_XDECREF(row);
    return PyObject_Vectorcall(PyTuple_GET_ITEM(self, 1), arguments, 3, NULL);
}

/* The cache, and the state of the store before a row was read. */
typedef struct moment {
    PyObject *cache;
    PyObject *token; /* of a stand-in for a ReadCache; else NULL */
    uint64_t stamp;  /* of a ReadCache, if `known` */
    bool known;
} moment;

/* Tells the cache what was read. False with an exception set. */
static bool keep(const moment *before, PyObject *key, enum ss_form form, PyObject *value, PyObject *expires_at_ms)
{
    ss_read_cache *cache = ss_read_cache_of(before->cache);
    if (cache != NULL) {
        return !before->known || ss_read_cache_store(cache, before->stamp, key, (long)form, value, expires_at_ms);
    }
    PyObject *number = PyLong_FromLong((long)form);
    PyObject *all[6] = {before->cache, before->token, key, number, value, expires_at_ms};
    PyObject *done = number == NULL ? NULL : PyObject_VectorcallMethod(names[STORE], all, 6, NULL);
    Py_XDECREF(number);
    Py_XDECREF(done);
    return done != NULL;
}

/* The value of a row as a new reference, kept in the cache. `self`: as in `load_value`. */
static PyObject *value_of(PyObject *self, PyObject *const *arguments, const moment *before, PyObject *row)
{
    PyObject *kind = PyTuple_GET_ITEM(row, 0), *stored = PyTuple_GET_ITEM(row, 1), *value;
    PyObject *kept = stored;
    enum ss_form form = SS_FORM_SCALAR;
    enum ss_kind which = ss_kind_of(kind);
    switch (which) {
    case SS_KIND_TABLE:
    case SS_KIND_LIST: {
        PyObject *all[4] = {arguments[1], arguments[2], kind, stored};
        form = which == SS_KIND_TABLE ? SS_FORM_TABLE : SS_FORM_LIST;
        value = PyObject_Vectorcall(PyTuple_GET_ITEM(self, 2), all, 4, NULL);
        break;
    }
    case SS_KIND_BOOLEAN: kept = value = PyBool_FromLong(PyLong_AsLongLong(stored) == 1); break;
    default: value = Py_NewRef(stored);
    }
    if (value != NULL && !keep(before, arguments[2], form, kept, PyTuple_GET_ITEM(row, 2))) {
        Py_CLEAR(value);
    }
    return value;
}

/* cache.sync(). False with an exception set. */
static bool sync_cache(moment *before)
{
    ss_read_cache *cache = ss_read_cache_of(before->cache);
    if (cache != NULL) {
        before->known = ss_read_cache_sync(cache, &before->stamp);
        return true;
    }
    Py_XSETREF(before->token, PyObject_CallMethodNoArgs(before->cache, names[SYNC]));
    before->known = before->token != Py_None;
    return before->token != NULL;
}

/* The moment before a row is read; the files are looked at first if that is due. False with an exception set. */
static bool begin(PyObject *engine, moment *before)
{
    *before = (moment){.cache = PyObject_GetAttr(engine, names[CACHE])};
    if (before->cache == NULL || !sync_cache(before)) {
        return false;
    }
    if (before->known) {
        return true;
    }
    PyObject *done = PyObject_CallMethodNoArgs(engine, names[ENSURE_IDENTITY]);
    Py_XDECREF(done);
    return done != NULL && sync_cache(before);
}

/* engine.read(get, key) with a key that was checked. `self`: as in `load_value`. */
static PyObject *read_row(PyObject *self, PyObject *engine, PyObject *key)
{
    PyObject *checked = ss_is_plain_key(key) ? Py_NewRef(key) : PyObject_CallOneArg(PyTuple_GET_ITEM(self, 1), key);
    if (checked == NULL) {
        return NULL;
    }
    PyObject *all[3] = {engine, PyTuple_GET_ITEM(self, 0), checked};
    PyObject *row = PyObject_VectorcallMethod(names[READ], all, 3, NULL);
    Py_DECREF(checked);
    if (row != NULL && row != Py_None && !(PyTuple_Check(row) && PyTuple_GET_SIZE(row) == 3)) {
        Py_CLEAR(row);
        PyErr_SetString(PyExc_TypeError, "a row of three columns is expected");
    }
    return row;
}

/* load_value(engine, decode, key, default); its `self` is the tuple (get, check_key, decoded). */
static PyObject *load_value(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("load_value", count, 4)) {
        return NULL;
    }
    /* The token is taken before the row is read and compared after it, so nothing that was overwritten in between is
     * kept; what a transaction reads is its own and never kept. */
    moment before;
    PyObject *row = begin(arguments[0], &before) ? read_row(self, arguments[0], arguments[2]) : NULL;
    PyObject *value = NULL;
    if (row == Py_None) {
        value = keep(&before, arguments[2], SS_FORM_ABSENT, Py_None, Py_None) ? Py_NewRef(arguments[3]) : NULL;
    } else if (row != NULL) {
        value = value_of(self, arguments, &before, row);
    }
    Py_XDECREF(row);
    Py_XDECREF(before.token);
    Py_XDECREF(before.cache);
    return value;
}

/* A built-in function whose `self` are the arguments it is made from. */
static PyObject *bind(PyMethodDef *method, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *self = PyTuple_New(count);
    if (self == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(self, i, Py_NewRef(arguments[i]));
    }
    PyObject *function = PyCFunction_NewEx(method, self, NULL);
    Py_DECREF(self);
    return function;
}

static PyObject *row_getter(PyObject *unused, PyObject *const *arguments, Py_ssize_t count)
{
    static PyMethodDef get = {"get", SS_FASTCALL(get_row), METH_FASTCALL,
                              "get($module, connection, now, key, /)\n--\n\nThe live row of a key, or None."};
    (void)unused;
    return ss_check_count("row_getter", count, 2) ? bind(&get, arguments, count) : NULL;
}

static PyObject *value_loader(PyObject *unused, PyObject *const *arguments, Py_ssize_t count)
{
    static PyMethodDef load = {"load_value", SS_FASTCALL(load_value), METH_FASTCALL,
                               "load_value($module, engine, decode, key, default, /)\n--\n\nRead a key, and keep it."};
    (void)unused;
    return ss_check_count("value_loader", count, 3) ? bind(&load, arguments, count) : NULL;
}

int ss_load_export(PyObject *into)
{
    static PyMethodDef methods[] = {
        {"row_getter", SS_FASTCALL(row_getter), METH_FASTCALL, "row_getter($module, statement, rarely, /)\n--\n\n"},
        {"value_loader", SS_FASTCALL(value_loader), METH_FASTCALL,
         "value_loader($module, get, check_key, decoded, /)\n--\n\n"},
        {NULL, NULL, 0, NULL},
    };
    return intern_names() ? ss_export_functions(into, methods, NULL) : -1;
}
