#include "engine/log.h"

#include <structmember.h>

#include "base/atomic.h"
#include "base/export.h"
#include "base/sqlite_file.h"

/* The beginning of `sqlite3_api_routines`, in the order of sqlite3ext.h: SQLite only ever adds to its end. */
typedef struct sqlite_routines {
    void (*before_commit_hook[40])(void);
    void *(*commit_hook)(void *db, int (*hook)(void *log), void *log);
    void (*before_libversion_number[26])(void);
    int (*libversion_number)(void);
    void (*before_rollback_hook[22])(void);
    void *(*rollback_hook)(void *db, void (*hook)(void *log), void *log);
    void (*before_file_control[36])(void);
    int (*file_control)(void *db, const char *name, int operation, void *argument);
    void (*before_wal_hook[47])(void);
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

/* These three run without the GIL, in the thread that commits; only that one looks at the log until the connection is lent
 * on. */
static int before_commit(void *log)
{
    ss_log *self = log;
    if (self->frames != NULL) {
        ss_frames_begin(self->frames);
    }
    return 0; /* go on */
}

static void on_rollback(void *log)
{
    ss_log *self = log;
    if (self->frames != NULL) {
        ss_frames_undo(self->frames);
    }
}

static int on_commit(void *log, void *db, const char *name, int pages)
{
    enum { SQLITE_FCNTL_JOURNAL_POINTER = 28, SQLITE_OK = 0 };
    ss_log *self = log;
    note(self, pages);
    if (self->frames == NULL) {
        /* The first one: SQLite has opened the file by now. */
        const sqlite_routines *routines = ss_load_pointer(&sqlite);
        ss_sqlite_file *file = NULL;
        if (routines->file_control(db, name, SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK && file != NULL) {
            self->frames = ss_frames_join(file);
        }
    }
    return SQLITE_OK;
}

static PyObject *log_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    long long limit;
    if (!ss_check_no_keywords("Log", keywords) || !PyArg_ParseTuple(arguments, "L:Log", &limit)) {
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
    ss_log *self = (ss_log *)object;
    if (self->frames != NULL) {
        ss_frames_drop(self->frames);
    }
    ss_free_object(object);
}

static PyObject *log_hook(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("hook", count, 3)) {
        return NULL;
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
    routines->commit_hook(db, before_commit, object);
    routines->rollback_hook(db, on_rollback, object);
    Py_RETURN_TRUE;
}

static PyObject *log_sync_commits(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    ss_log *self = (ss_log *)object;
    if (!ss_check_count("sync_commits", count, 2)) {
        return NULL;
    }
    ss_sqlite_file *log = PyLong_AsVoidPtr(arguments[0]);
    void *database = log == NULL ? NULL : PyLong_AsVoidPtr(arguments[1]);
    if (database == NULL || log->methods == NULL) {
        return PyErr_Occurred() ? NULL
                                : PyErr_Format(PyExc_ValueError, "sync_commits() takes the addresses of open files");
    }
    self->file = log;
    self->header = ss_walindex_map(database);
    self->synced = 0; /* no checksum of a header: the first sync is always made */
    Py_RETURN_NONE;
}

/* A result code of SQLite's VFS as Python's; NULL if a VFS in Python has raised an exception. */
static PyObject *result_of(int code)
{
    return code != 0 && PyErr_Occurred() ? NULL : PyLong_FromLong(code);
}

static PyObject *log_sync(PyObject *object, PyObject *unused)
{
    enum { SQLITE_SYNC_NORMAL = 2 };
    ss_log *self = (ss_log *)object;
    (void)unused;
    if (!ss_log_is_behind(self)) {
        return PyLong_FromLong(0);
    }
    ss_sqlite_file *file = self->file;
    /* Before the sync: of what is committed meanwhile nobody knows whether it is covered. */
    uint64_t stamp = self->header == NULL ? 0 : ss_walindex_stamp(self->header);
    int code;
    Py_BEGIN_ALLOW_THREADS
    code = file->methods->sync(file, SQLITE_SYNC_NORMAL);
    Py_END_ALLOW_THREADS
    if (code == 0) {
        self->synced = stamp;
    }
    return result_of(code);
}

static int write_again(ss_sqlite_file *file)
{
    char bytes[4096];
    long long size;
    int code = file->methods->file_size(file, &size);
    for (long long offset = 0; code == 0 && offset < size; offset += (long long)sizeof bytes) {
        int count = size - offset < (long long)sizeof bytes ? (int)(size - offset) : (int)sizeof bytes;
        code = file->methods->read(file, bytes, count, offset);
        if (code == 0) {
            code = file->methods->write(file, bytes, count, offset);
        }
    }
    return code;
}

static PyObject *log_write_again(PyObject *object, PyObject *unused)
{
    ss_sqlite_file *file = ((ss_log *)object)->file;
    int code = 0;
    (void)unused;
    if (file != NULL) {
        Py_BEGIN_ALLOW_THREADS
        code = write_again(file);
        Py_END_ALLOW_THREADS
    }
    return result_of(code);
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
        {"sync_commits", SS_FASTCALL(log_sync_commits), METH_FASTCALL,
         "sync_commits(log, database): have commits synced; takes the addresses of two sqlite3_file."},
        {"sync", log_sync, METH_NOARGS, "sync(): SQLite's result code of syncing what is not on the disk yet."},
        {"write_again", log_write_again, METH_NOARGS, "write_again(): SQLite's result code of writing what is there."},
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
