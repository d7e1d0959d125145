#include "engine/lender.h"

#include <structmember.h>

#include "engine/fork.h"
#include "engine/log.h"
#include "python/versions.h"
#include "cache/type.h"

/* As in slothstate/engines/sqlite/pool.py. */
enum { IDLE_CONNECTIONS = 8 };

#define CALLED_BACK(X) \
    X(APPEND, "append") \
    X(BORROW, "_borrow") \
    X(CHECKPOINT, "checkpoint") \
    X(CHECK_IDENTITY, "_check_identity") \
    X(FORKED, "_notice_fork") \
    X(LOG, "log") \
    X(MARK, "mark") \
    X(OWN_TRANSACTION, "own_transaction") \
    X(RECOVER, "_recover") \
    X(RUN_INSIDE, "_run_inside") \
    X(WRITE_INSIDE, "_write_inside") \
    X(SETTLE, "settle") \
    X(SYNC, "sync") \
    X(THREAD, "thread") \
    X(TRIM, "_trim")
SS_NAMES(CALLED_BACK)

typedef struct lender {
    PyObject_HEAD
    PyObject *operations;   /* a dict that counts the calls of each operation */
    PyObject *transactions; /* a dict whose keys are the idents of the threads that hold one */
    PyObject *idle;         /* a list of connections; of a subclass while a fork is under way */
    PyObject *refusal;      /* None, or why no connection is idle any more */
    PyObject *cache;
    PyObject *now; /* a function that returns the time in milliseconds */
} ss_lender;

enum use { READ, WRITE, WRITE_KEY };

/* Calls object.name(); false with an exception set. */
static bool call(PyObject *object, enum name name)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, names[name]);
    Py_XDECREF(result);
    return result != NULL;
}

/* operations[operation] += 1 */
static bool count_call(PyObject *operations, PyObject *operation)
{
    PyObject *before = Py_XNewRef(PyDict_GetItemWithError(operations, operation));
    if (before == NULL && PyErr_Occurred()) {
        return false;
    }
    PyObject *after = PyLong_FromLong(1);
    if (before != NULL && after != NULL) {
        Py_SETREF(after, PyNumber_Add(before, after)); /* has no last number */
    }
    bool done = after != NULL && PyDict_SetItem(operations, operation, after) == 0;
    Py_XDECREF(before);
    Py_XDECREF(after);
    return done;
}

static bool is_set_up(const ss_lender *self)
{
    return self->operations != NULL && PyDict_Check(self->operations) && self->transactions != NULL &&
           PyDict_Check(self->transactions) && self->idle != NULL && PyList_Check(self->idle) &&
           self->refusal != NULL && self->cache != NULL && self->now != NULL;
}

/* A new reference to a member. Any call of Python code may have put another in its place, or taken it away: then NULL
 * with an exception set. */
static PyObject *own(PyObject *member)
{
    if (member == NULL) {
        PyErr_SetString(PyExc_TypeError, "the lender is not set up");
    }
    return Py_XNewRef(member);
}

/* The same of the list of idle connections. */
static PyObject *own_idle(const ss_lender *self)
{
    return own(self->idle != NULL && PyList_Check(self->idle) ? self->idle : NULL);
}

/* A new reference to a connection that nobody else uses. */
static PyObject *lend(ss_lender *self, PyObject *thread)
{
    PyObject *idle = own_idle(self);
    if (idle == NULL) {
        return NULL;
    }
    PyObject *connection;
    Py_ssize_t count = PyList_GET_SIZE(idle);
    if (count == 0) {
        connection = PyObject_CallMethodNoArgs((PyObject *)self, names[BORROW]);
    } else {
        connection = Py_NewRef(PyList_GET_ITEM(idle, count - 1));
        if (PyList_SetSlice(idle, count - 1, count, NULL)) {
            Py_CLEAR(connection);
        }
    }
    Py_DECREF(idle);
    if (connection != NULL && PyObject_SetAttr(connection, names[THREAD], thread)) {
        Py_CLEAR(connection);
    }
    return connection;
}

/* `appended` tells whether it is idle now, even if the rest failed. */
static bool take_back(ss_lender *self, PyObject *connection, bool *appended)
{
    PyObject *idle = own_idle(self);
    if (idle == NULL) {
        return false;
    }
    /* Another list than before if a fork began meanwhile: it closes what it is given. */
    if (PyList_CheckExact(idle)) {
        *appended = PyList_Append(idle, connection) == 0;
    } else {
        PyObject *done = PyObject_CallMethodOneArg(idle, names[APPEND], connection);
        *appended = done != NULL;
        Py_XDECREF(done);
    }
    bool surplus = self->refusal != Py_None || PyList_GET_SIZE(idle) > IDLE_CONNECTIONS;
    Py_DECREF(idle);
    return *appended && (!surplus || call((PyObject *)self, TRIM));
}

/* `_recover` takes the connection back and returns what the error stands for, or None: the error itself is meant. An
 * exception of a signal handler can strike it; it is then called again, without an error. */
static void recover(ss_lender *self, PyObject *connection)
{
    enum { MOST_STRIKES = 1000 };
    PyObject *error = ss_take_exception();
    PyObject *meant = PyObject_CallMethodObjArgs((PyObject *)self, names[RECOVER], connection, error, NULL);
    for (int strikes = 0; meant == NULL && strikes < MOST_STRIKES; strikes++) {
        Py_SETREF(error, ss_take_exception());
        meant = PyObject_CallMethodObjArgs((PyObject *)self, names[RECOVER], connection, Py_None, NULL);
    }
    if (meant == NULL || !PyExceptionInstance_Check(meant)) {
        ss_put_exception(error);
    } else {
        PyException_SetCause(meant, error);
        PyErr_SetObject((PyObject *)Py_TYPE(meant), meant);
    }
    Py_XDECREF(meant);
}

/* operation(connection, now, *arguments); `arguments` begins with the operation. */
static PyObject *operate(ss_lender *self, PyObject *connection, PyObject *const *arguments, Py_ssize_t count)
{
    enum { MOST = 10 };
    PyObject *all[MOST];
    if (count + 1 > MOST) {
        return PyErr_Format(PyExc_TypeError, "an operation takes at most %d arguments, got %zd", MOST - 2, count - 1);
    }
    PyObject *clock = own(self->now);
    PyObject *now = clock == NULL ? NULL : PyObject_CallNoArgs(clock);
    Py_XDECREF(clock);
    if (now == NULL) {
        return NULL;
    }
    all[0] = connection;
    all[1] = now;
    for (Py_ssize_t i = 1; i < count; i++) {
        all[i + 1] = arguments[i];
    }
    PyObject *result = PyObject_Vectorcall(arguments[0], all, (size_t)count + 1, NULL);
    Py_DECREF(now);
    return result;
}

/* What `mark` of the cache gives, once it is known that the files are in place. False with an exception set. */
static bool mark_cache(ss_lender *self, long long *mark)
{
    PyObject *object = own(self->cache);
    if (object == NULL) {
        return false;
    }
    ss_read_cache *cache = ss_read_cache_of(object);
    if (cache != NULL) {
        *mark = ss_read_cache_mark(cache);
    } else {
        PyObject *number = PyObject_CallMethodNoArgs(object, names[MARK]);
        *mark = number == NULL ? -1 : PyLong_AsLongLong(number);
        Py_XDECREF(number);
    }
    bool failed = cache == NULL && *mark == -1 && PyErr_Occurred();
    Py_DECREF(object);
    return !failed && (*mark != SS_UNVERIFIED || call((PyObject *)self, CHECK_IDENTITY));
}

/* Tells the cache what happened to a key. */
static bool settle_cache(ss_lender *self, long long mark, bool committed, PyObject *key)
{
    long long valid = committed ? mark : SS_NO_MARK;
    PyObject *object = own(self->cache);
    if (object == NULL) {
        return false;
    }
    ss_read_cache *cache = ss_read_cache_of(object);
    bool settled;
    if (cache != NULL) {
        settled = ss_read_cache_settle(cache, valid, key);
    } else {
        PyObject *number = PyLong_FromLongLong(valid);
        PyObject *all[3] = {object, number, key};
        PyObject *done = number == NULL ? NULL : PyObject_VectorcallMethod(names[SETTLE], all, 3, NULL);
        Py_XDECREF(number);
        Py_XDECREF(done);
        settled = done != NULL;
    }
    Py_DECREF(object);
    return settled;
}

/* On a connection of its own; `mark` belongs to a WRITE_KEY alone. */
static PyObject *run_outside(ss_lender *self, PyObject *connection, long long mark, enum use use,
                             PyObject *const *arguments, Py_ssize_t count)
{
    ss_log *log = NULL;
    if (use != READ) {
        log = ss_log_of(PyObject_GetAttr(connection, names[LOG]));
        if (log == NULL) {
            return NULL;
        }
        log->committed = 0;
    }
    PyObject *result = operate(self, connection, arguments, count);
    bool is_idle = false;
    bool done = result != NULL && (use != WRITE_KEY || settle_cache(self, mark, log->committed, arguments[1])) &&
                (log == NULL || !ss_log_is_behind(log) || call(connection, SYNC)) &&
                (log == NULL || log->pages < log->limit || call(connection, CHECKPOINT)) &&
                take_back(self, connection, &is_idle);
    if (!done && !is_idle) {
        recover(self, connection);
    }
    Py_XDECREF(log);
    if (!done) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *run_inside(ss_lender *self, enum use use, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *rest = PyTuple_New(count - 1);
    if (rest == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 1; i < count; i++) {
        PyTuple_SET_ITEM(rest, i - 1, Py_NewRef(arguments[i]));
    }
    PyObject *result = PyObject_CallMethodObjArgs((PyObject *)self, names[use == READ ? RUN_INSIDE : WRITE_INSIDE],
                                                  arguments[0], rest, NULL);
    Py_DECREF(rest);
    return result;
}

static PyObject *run(ss_lender *self, enum use use, PyObject *const *arguments, Py_ssize_t count)
{
    if (count < (use == WRITE_KEY ? 2 : 1)) {
        return PyErr_Format(PyExc_TypeError, "an operation and its arguments are expected");
    }
    if (!is_set_up(self)) {
        return PyErr_Format(PyExc_TypeError, "the lender is not set up");
    }
    PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    if (thread == NULL || (ss_has_forked && !call((PyObject *)self, FORKED))) {
        Py_XDECREF(thread);
        return NULL;
    }
    PyObject *result = NULL;
    int inside = PyDict_GET_SIZE(self->transactions) == 0 ? 0 : PyDict_Contains(self->transactions, thread);
    PyObject *operations = inside < 0 ? NULL : own(self->operations);
    if (operations == NULL || !count_call(operations, arguments[0])) {
        inside = -1;
    }
    Py_XDECREF(operations);
    if (inside > 0) {
        /* It can be another task's, which raises; or another greenlet's, which has ended by now. */
        inside = call((PyObject *)self, OWN_TRANSACTION) ? PyDict_Contains(self->transactions, thread) : -1;
    }
    if (inside > 0) {
        result = run_inside(self, use, arguments, count);
    } else if (inside == 0) {
        /* All that can refuse the write comes before a connection is lent: a fork waits for those in use. */
        long long mark = SS_NO_MARK;
        PyObject *connection = use == READ || mark_cache(self, &mark) ? lend(self, thread) : NULL;
        if (connection != NULL) {
            result = run_outside(self, connection, mark, use, arguments, count);
            Py_DECREF(connection);
        }
    }
    Py_DECREF(thread);
    return result;
}

static PyObject *lender_lend(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (ss_has_forked && !call(self, FORKED)) {
        return NULL;
    }
    PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    PyObject *connection = thread == NULL ? NULL : lend((ss_lender *)self, thread);
    Py_XDECREF(thread);
    return connection;
}

static PyObject *lender_read(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return run((ss_lender *)self, READ, arguments, count);
}

static PyObject *lender_write(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return run((ss_lender *)self, WRITE, arguments, count);
}

static PyObject *lender_write_key(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return run((ss_lender *)self, WRITE_KEY, arguments, count);
}

#define MEMBERS(X) \
    X("operations", operations) \
    X("_transactions", transactions) \
    X("_idle", idle) \
    X("_refusal", refusal) \
    X("cache", cache) \
    X("now", now)
#define MEMBER(name, field) {name, T_OBJECT_EX, offsetof(ss_lender, field), 0, NULL},

SS_TRAVERSE_AND_CLEAR(lender, ss_lender, MEMBERS)

static void lender_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    lender_clear(object);
    ss_free_object(object);
}

int ss_lender_export(PyObject *into)
{
    static PyMethodDef methods[] = {
        {"_lend", lender_lend, METH_NOARGS, "_lend(): a connection that nobody else uses"},
        {"read", SS_FASTCALL(lender_read), METH_FASTCALL, "read(operation, *arguments)"},
        {"write", SS_FASTCALL(lender_write), METH_FASTCALL, "write(operation, *arguments)"},
        {"write_key", SS_FASTCALL(lender_write_key), METH_FASTCALL, "write_key(operation, key, *arguments)"},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {MEMBERS(MEMBER){NULL, 0, 0, 0, NULL}};
    static PyType_Slot slots[] = {
        {Py_tp_doc, "The base of a pool of connections: see slothstate/engines/sqlite/lender.py."},
        {Py_tp_traverse, lender_traverse},
        {Py_tp_clear, lender_clear},
        {Py_tp_dealloc, lender_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.Lender", sizeof(ss_lender), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
    static PyTypeObject *type;
    return intern_names() ? ss_export_type(into, &type, &spec) : -1;
}
