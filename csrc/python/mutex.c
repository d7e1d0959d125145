#include "python/scope.h"

/* A lock of threads whose holding is an object: it ends with the object, so it cannot be lost between the call that
 * takes the lock and the step that remembers it. Not Python's own lock, which gevent and eventlet replace. */
typedef struct mutex {
    PyObject_HEAD
    PyThread_type_lock lock;
    unsigned long owner; /* the thread, if `count` > 0; both change under the GIL */
    Py_ssize_t count;    /* a signal handler may use a store in the middle of anything, so it can be taken again */
} mutex;

typedef struct holding {
    PyObject_HEAD
    mutex *held; /* NULL: not taken, or let go */
} holding;

static PyTypeObject *holding_type;

/* 1: taken; 0: not within the time; -1: an exception is set. `seconds` < 0: for ever. */
static int take(mutex *self, double seconds)
{
    unsigned long thread = PyThread_get_thread_ident();
    if (self->count == 0 || self->owner != thread) {
        PyLockStatus status = PyThread_acquire_lock_timed(self->lock, 0, 0);
        /* In slices, because the time left after an interruption is not told. */
        const double slice = 0.1;
        while (status != PY_LOCK_ACQUIRED && seconds != 0) {
            double now = seconds < 0 || seconds > slice ? slice : seconds;
            Py_BEGIN_ALLOW_THREADS
            status = PyThread_acquire_lock_timed(self->lock, (PY_TIMEOUT_T)(now * 1e6) + 1, 1);
            Py_END_ALLOW_THREADS
            if (status != PY_LOCK_ACQUIRED && PyErr_CheckSignals()) {
                return -1;
            }
            seconds -= seconds < 0 ? 0 : now;
        }
        if (status != PY_LOCK_ACQUIRED) {
            return 0;
        }
        self->owner = thread;
    }
    self->count++;
    return 1;
}

static void let_go(holding *self)
{
    mutex *held = self->held;
    self->held = NULL;
    if (held != NULL) {
        if (--held->count == 0) {
            PyThread_release_lock(held->lock);
        }
        Py_DECREF(held);
    }
}

static PyObject *mutex_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    (void)arguments;
    (void)keywords;
    mutex *self = (mutex *)type->tp_alloc(type, 0);
    if (self != NULL && (self->lock = PyThread_allocate_lock()) == NULL) {
        Py_CLEAR(self);
        PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void mutex_dealloc(PyObject *object)
{
    mutex *self = (mutex *)object;
    if (self->lock != NULL) {
        PyThread_free_lock(self->lock);
    }
    ss_free_object(object);
}

static PyObject *mutex_hold(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    double seconds = -1;
    if (count > 1) {
        return PyErr_Format(PyExc_TypeError, "hold() takes at most 1 argument, got %zd", count);
    }
    if (count == 1) {
        seconds = PyFloat_AsDouble(arguments[0]);
        if (PyErr_Occurred()) {
            return NULL;
        }
        seconds = seconds > 0 ? seconds : 0;
    }
    holding *result = (holding *)holding_type->tp_alloc(holding_type, 0);
    if (result != NULL) {
        int taken = take((mutex *)object, seconds);
        if (taken < 0) {
            Py_CLEAR(result);
        } else if (taken) {
            result->held = (mutex *)Py_NewRef(object);
        }
    }
    return (PyObject *)result;
}

static void holding_dealloc(PyObject *object)
{
    let_go((holding *)object);
    ss_free_object(object);
}

static PyObject *holding_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(object);
}

static PyObject *holding_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    (void)arguments;
    (void)count;
    let_go((holding *)object);
    Py_RETURN_NONE;
}

static int holding_bool(PyObject *object)
{
    return ((holding *)object)->held != NULL;
}

int ss_mutex_export(PyObject *into)
{
    static PyMethodDef mutex_methods[] = {
        {"hold", SS_FASTCALL(mutex_hold), METH_FASTCALL, "hold(seconds=None): take it; a holding."},
        {NULL, NULL, 0, NULL},
    };
    static PyMethodDef holding_methods[] = {
        {"__enter__", holding_enter, METH_NOARGS, NULL},
        {"__exit__", SS_FASTCALL(holding_exit), METH_FASTCALL, NULL},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot mutex_slots[] = {
        {Py_tp_doc, "Mutex(): see slothstate/native.py."},
        {Py_tp_new, mutex_new},
        {Py_tp_dealloc, mutex_dealloc},
        {Py_tp_methods, mutex_methods},
        {0, NULL},
    };
    static PyType_Slot holding_slots[] = {
        {Py_tp_doc, "The holding of a Mutex."},
        {Py_tp_dealloc, holding_dealloc},
        {Py_tp_methods, holding_methods},
        {Py_nb_bool, holding_bool},
        {0, NULL},
    };
    static PyType_Spec mutex_spec = {"slothstate._native.Mutex", sizeof(mutex), 0, Py_TPFLAGS_DEFAULT, mutex_slots};
    static PyType_Spec holding_spec = {"slothstate._native.Holding", sizeof(holding), 0,
                                       Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, holding_slots};
    static PyTypeObject *type;
    return ss_export_type(into, &holding_type, &holding_spec) != 0 ? -1 : ss_export_type(into, &type, &mutex_spec);
}
