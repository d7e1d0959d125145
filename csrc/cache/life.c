#include "cache/type.h"
#include "base/time.h"

/* Long enough to cost a waiter a per cent of a core at most, short enough for a hand-over within a millisecond. */
enum { WAIT_STEP_NS = 900000, WAIT_SLICE_STEPS = 22 };

/* From here on nothing looks at the mapping but the waiters in `leaving`. Returns what keeps it, for `release`. */
static PyObject *let_go(ss_read_cache *self)
{
    PyObject *owner = self->owner;
    self->owner = NULL;
    self->header = NULL;
    ss_count32(&self->attachment);
    self->leaving += self->waiters;
    self->waiters = 0;
    ss_cache_clear(&self->table);
    return owner;
}

static void release(ss_read_cache *self, PyObject *owner)
{
    while (self->leaving > 0) {
        Py_BEGIN_ALLOW_THREADS
        ss_sleep(100000);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(owner);
}

PyObject *ss_read_cache_detach(PyObject *object, PyObject *unused)
{
    (void)unused;
    ss_read_cache *self = (ss_read_cache *)object;
    release(self, let_go(self));
    Py_RETURN_NONE;
}

PyObject *ss_read_cache_forked(PyObject *object, PyObject *unused)
{
    (void)unused;
    ss_read_cache *self = (ss_read_cache *)object;
    /* Not released: its last reference would close it. */
    let_go(self);
    self->leaving = 0;
    Py_RETURN_NONE;
}

PyObject *ss_read_cache_attach(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    ss_read_cache *self = (ss_read_cache *)object;
    if (!ss_check_count("attach", count, 2)) {
        return NULL;
    }
    void *file = PyLong_AsVoidPtr(arguments[0]);
    if (file == NULL) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "attach() takes the address of a sqlite3_file");
    }
    const uint8_t *header = ss_walindex_map(file);
    PyObject *former = let_go(self);
    self->header = header;
    self->owner = header == NULL ? NULL : Py_NewRef(arguments[1]);
    self->seen = (ss_walindex_state){0};
    self->version++;
    release(self, former);
    return PyBool_FromLong(header != NULL);
}

PyObject *ss_read_cache_verified(PyObject *object, PyObject *seconds)
{
    double value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    ((ss_read_cache *)object)->verified_until_ns = ss_coarse_clock() + ss_from_seconds(value);
    Py_RETURN_NONE;
}

PyObject *ss_read_cache_wait(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    ss_read_cache *self = (ss_read_cache *)object;
    if (!ss_check_count("wait", count, 2)) {
        return NULL;
    }
    uint64_t token = PyLong_AsUnsignedLongLong(arguments[0]);
    double seconds = PyErr_Occurred() ? 0 : PyFloat_AsDouble(arguments[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    int64_t deadline = ss_steady_clock() + ss_from_seconds(seconds);
    const uint8_t *header = self->header;
    const uint32_t attachment = self->attachment;
    bool changed = false;
    bool late = header == NULL;
    while (!changed && !late && self->attachment == attachment) {
        self->waiters++;
        Py_BEGIN_ALLOW_THREADS
        for (unsigned step = 0; step < WAIT_SLICE_STEPS && ss_load32(&self->attachment) == attachment; step++) {
            changed = ss_walindex_stamp(header) != token;
            int64_t left = deadline - ss_steady_clock();
            late = left <= 0;
            if (changed || late) {
                break;
            }
            ss_sleep(left < WAIT_STEP_NS ? left : WAIT_STEP_NS);
        }
        Py_END_ALLOW_THREADS
        if (self->attachment == attachment) {
            self->waiters--;
        } else {
            self->leaving--;
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
    return PyBool_FromLong(changed);
}
