#include "python/arguments.h"

#include <structmember.h>

#include "base/atomic.h"
#include "base/export.h"
#include "engine/log.h"

/* The beginning of `sqlite3_api_routines`, in the order of sqlite3ext.h: SQLite only ever adds to its end. */
typedef struct sqlite_routines {
    void (*before_libversion_number[67])(void);
    int (*libversion_number)(void);
    void (*before_wal_hook[107])(void);
    void *(*wal_hook)(void *db, int (*hook)(void *log, void *db, const char *name, int pages), void *log);
} sqlite_routines;

/* The `sqlite_routines` of the SQLite that loaded us last; a process has one (slothstate/engines/sqlite/schema.py says why).
 * Atomic: SQLite calls `ss_sqlite_init` without the GIL. */
static const void *sqlite;

SS_EXPORT int ss_sqlite_init(void *db, char **message, const void *routines);

/* What SQLite calls when it loads this library as an extension. */
int ss_sqlite_init(void *db, char **message, const void *routines)
{
    enum { OLDEST = 3051003, NEXT_MAJOR = 4000000, SQLITE_OK = 0, SQLITE_ERROR = 1 };
    (void)db;
    (void)message;
    const sqlite_routines *found = routines;
    int version = found->libversion_number();
    if (version < OLDEST || version >= NEXT_MAJOR) {
        return SQLITE_ERROR;
    }
    ss_store_pointer(&sqlite, found);
    return SQLITE_OK;
}

static PyTypeObject *log_type;

static void note(ss_log *self, long long pages)
{
    self->pages = pages;
    self->committed = 1;
}

/* Runs without the GIL, in the thread that commits; only that one looks at the log until the connection is lent on. */
static int on_commit(void *log, void *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    note(log, pages);
    return 0; /* SQLITE_OK */
}

static PyObject *log_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    long long limit;
    if (keywords != NULL && PyDict_GET_SIZE(keywords) != 0) {
        return PyErr_Format(PyExc_TypeError, "Log() takes no keyword arguments");
    }
    if (!PyArg_ParseTuple(arguments, "L:Log", &limit)) {
        return NULL;
    }
    ss_log *self = (ss_log *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->limit = limit;
    }
    return (PyObject *)self;
}

static void log_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *log_hook(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "hook() takes db, name, pages");
    }
    long long pages = PyLong_AsLongLong(arguments[2]);
    if (pages == -1 && PyErr_Occurred()) {
        return NULL;
    }
    note((ss_log *)object, pages);
    return PyLong_FromLong(0); /* SQLITE_OK */
}

static PyObject *log_hook_directly(PyObject *object, PyObject *pointer)
{
    void *db = PyLong_AsVoidPtr(pointer);
    if (db == NULL) {
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_ValueError, "hook_directly() takes the address of an sqlite3");
    }
    const sqlite_routines *routines = ss_load_pointer(&sqlite);
    if (routines == NULL) {
        Py_RETURN_FALSE;
    }
    routines->wal_hook(db, on_commit, object);
    Py_RETURN_TRUE;
}

ss_log *ss_log_of(PyObject *object)
{
    if (object != NULL && !Py_IS_TYPE(object, log_type)) {
        PyErr_Format(PyExc_TypeError, "a connection's log must be a Log, not %s", Py_TYPE(object)->tp_name);
        Py_CLEAR(object);
    }
    return (ss_log *)object;
}

int ss_log_export(PyObject *into)
{
    static PyMethodDef methods[] = {
        {"hook", SS_FASTCALL(log_hook), METH_FASTCALL, "hook(db, name, pages): SQLite's wal_hook."},
        {"hook_directly", log_hook_directly, METH_O,
         "hook_directly(pointer): let SQLite call the hook without Python."},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {
        {"pages", T_LONGLONG, offsetof(ss_log, pages), 0, NULL},
        {"committed", T_BOOL, offsetof(ss_log, committed), 0, NULL},
        {NULL, 0, 0, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "Log(limit): see slothstate/engines/sqlite/wal_hook.py."},
        {Py_tp_new, log_new},
        {Py_tp_dealloc, log_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.Log", sizeof(ss_log), 0, Py_TPFLAGS_DEFAULT, slots};
    return ss_export_type(into, &log_type, &spec);
}
