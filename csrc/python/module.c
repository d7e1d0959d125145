#include "python/functions.h"

#include "cache/type.h"
#include "engine/fork.h"
#include "engine/lender.h"
#include "engine/load.h"
#include "engine/log.h"
#include "engine/signals.h"
#include "python/module.h"
#include "python/scope.h"
#include "engine/state.h"

static void free_key_cache(PyObject *capsule)
{
    ss_key_cache *cache = PyCapsule_GetPointer(capsule, NULL);
    for (size_t i = 0; i < SS_CACHED_KEYS; i++) {
        Py_XDECREF(cache->keys[i]);
    }
    PyMem_Free(cache);
}

/* The `self` of the codec and the matcher: (InvalidValue, OutOfRange, PatternError, key cache). */
static PyObject *make_self(PyObject *const *errors)
{
    ss_key_cache *cache = PyMem_Calloc(1, sizeof *cache);
    if (cache == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = PyCapsule_New(cache, NULL, free_key_cache);
    if (capsule == NULL) {
        PyMem_Free(cache);
        return NULL;
    }
    PyObject *self = PyTuple_Pack(4, errors[0], errors[1], errors[2], capsule);
    Py_DECREF(capsule);
    return self;
}

/* What `threading.get_ident` returned before anybody (gevent, eventlet) put a function of theirs in its place. */
static PyObject *thread_ident(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
}

/* The system gives the ident of a thread that has ended to the next one; this number is given once in a process. */
static PyObject *thread_serial(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong(PyThreadState_GetID(PyThreadState_Get()));
}

static PyObject *functions(PyObject *unused, PyObject *const *errors, Py_ssize_t count)
{
    /* CPython keeps pointers to these for the life of the functions; nothing writes to them. */
    static PyMethodDef methods[] = {
        {"json_encode", SS_FASTCALL(ss_json_encode), METH_FASTCALL,
         "json_encode($module, value, name, /)\n--\n\nThe JSON text of a value; name begins the path in errors."},
        {"json_encode_item", SS_FASTCALL(ss_json_encode_item), METH_FASTCALL,
         "json_encode_item($module, value, name, /)\n--\n\nThe same of an item of a list, one level less deep."},
        {"json_check", SS_FASTCALL(ss_json_check), METH_FASTCALL,
         "json_check($module, text, /)\n--\n\nRaise what json_decode would raise."},
        {"json_decode", SS_FASTCALL(ss_json_decode), METH_FASTCALL,
         "json_decode($module, text, /)\n--\n\nThe value of a JSON text (str, or UTF-8 as bytes)."},
        {"json_field", SS_FASTCALL(ss_json_field), METH_FASTCALL,
         "json_field($module, text, path, change, /)\n--\n\n(found, taken, result, kind): see slothstate.native."},
        {"encode_row", SS_FASTCALL(ss_encode_row), METH_FASTCALL,
         "encode_row($module, key, value, kinds, /)\n--\n\n(kind, stored), or None if Python must look."},
        {"encode_rows", SS_FASTCALL(ss_encode_rows), METH_FASTCALL,
         "encode_rows($module, mapping, kinds, /)\n--\n\n{kind: [(key, stored), ...]}, or None if Python must look."},
        {"thread_ident", thread_ident, METH_NOARGS,
         "thread_ident($module, /)\n--\n\nThe ident of the thread of the operating system that calls."},
        {"thread_serial", thread_serial, METH_NOARGS,
         "thread_serial($module, /)\n--\n\nA number of the calling thread that no other thread ever has."},
        {"now_ms", ss_now_ms, METH_NOARGS, "now_ms($module, /)\n--\n\nThe system's clock, in ms since the epoch."},
        {"glob_check", SS_FASTCALL(ss_glob_check_str), METH_FASTCALL,
         "glob_check($module, pattern, /)\n--\n\nNone, or PatternError naming the position."},
        {"glob_match", SS_FASTCALL(ss_glob_match_str), METH_FASTCALL,
         "glob_match($module, pattern, key, /)\n--\n\nWhether the whole key matches."},
        {"glob_filter", SS_FASTCALL(ss_glob_filter_page), METH_FASTCALL,
         "glob_filter($module, pattern, page, /)\n--\n\nThe matching keys of a page joined with NUL, in order."},
        {"glob_prefix", SS_FASTCALL(ss_glob_prefix_str), METH_FASTCALL,
         "glob_prefix($module, pattern, /)\n--\n\nThe literal characters every match begins with."},
        {NULL, NULL, 0, NULL},
    };
    static int (*const others[])(PyObject *) = {
        ss_read_cache_export, ss_log_export,   ss_fork_export,  ss_signals_export, ss_lender_export,
        ss_load_export,       ss_state_export, ss_scope_export, ss_mutex_export,
    };
    (void)unused;
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        /* Neither apsw nor cffi keeps interpreters apart, and ending one ends the process if a thread of it sweeps. The
         * types belong to the main interpreter, too: one more export would put others in their place. */
        return PyErr_Format(PyExc_ImportError, "slothstate cannot be used in a sub-interpreter, only in the main one; "
                                               "use processes instead");
    }
    PyObject *self = ss_check_count("functions", count, 3) ? make_self(errors) : NULL;
    PyObject *into = self == NULL ? NULL : PyDict_New();
    int result = into == NULL ? -1 : ss_export_functions(into, methods, self);
    for (size_t i = 0; result == 0 && i < sizeof others / sizeof *others; i++) {
        result = others[i](into);
    }
    Py_XDECREF(self);
    if (result != 0) {
        Py_CLEAR(into);
    }
    return into;
}

int ss_export(void *list)
{
    static PyMethodDef method = {"functions", SS_FASTCALL(functions), METH_FASTCALL, NULL};
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *function = PyCFunction_NewEx(&method, NULL, NULL);
    int result = function == NULL ? -1 : PyList_Append((PyObject *)list, function);
    Py_XDECREF(function);
    PyErr_Clear(); /* cffi cannot pass it on: the status says it */
    PyGILState_Release(gil);
    return result;
}
