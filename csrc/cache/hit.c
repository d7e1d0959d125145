#include "python/arguments.h"
#include "cache/type.h"
#include "base/time.h"

/* As slothstate.engines.sqlite.keys calls them. */
enum { NO_TTL = -1, NO_KEY = -2 };

/* Reads the clock that was given, if one was. False with an exception set. */
static bool read_given_clock(const ss_read_cache *self, int64_t *now_ms)
{
    *now_ms = 0;
    if (self->clock == NULL) {
        return true;
    }
    PyObject *seconds = PyObject_CallNoArgs(self->clock);
    double value = seconds == NULL ? -1.0 : PyFloat_AsDouble(seconds);
    Py_XDECREF(seconds);
    if (PyErr_Occurred()) {
        return false;
    }
    if (!(value > -1e12 && value < 1e12)) {
        PyErr_SetString(PyExc_ValueError, "the clock must return seconds since the epoch");
        return false;
    }
    *now_ms = (int64_t)(value * 1000);
    return true;
}

/* Whether the calling thread holds a transaction, and so must read its own writes. */
static bool is_in_transaction(const ss_read_cache *self)
{
    if (PyDict_GET_SIZE(self->transactions) == 0) {
        return false;
    }
    PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    int found = thread == NULL ? -1 : PyDict_Contains(self->transactions, thread);
    Py_XDECREF(thread);
    PyErr_Clear(); /* out of memory: the store itself answers */
    return found != 0;
}

bool ss_read_cache_usable(const ss_read_cache *self)
{
    return self->header != NULL && ss_coarse_clock() < self->verified_until_ns && !is_in_transaction(self);
}

/* What is known of a key and still true; NULL: ask the store. */
static inline ss_cache_entry *look(const ss_read_cache *self, PyObject *key)
{
    if (!ss_read_cache_usable(self) || !PyUnicode_CheckExact(key) ||
        ss_walindex_stamp(self->header) != self->seen.stamp) {
        return NULL;
    }
    return ss_cache_find(&self->table, key);
}

static inline bool is_there(const ss_read_cache *self, const ss_cache_entry *found, int64_t now_ms)
{
    if (found->expires_at_ms == SS_CACHE_NEVER) {
        return found->form != SS_FORM_ABSENT;
    }
    return found->expires_at_ms > (self->clock == NULL ? ss_wall_clock() / SS_MILLISECOND : now_ms);
}

/* A new reference to a function of the reader: it must outlive a call that takes it away. NULL with an exception set. */
static PyObject *given(PyObject *function)
{
    if (function == NULL) {
        PyErr_SetString(PyExc_TypeError, "the State is not set up");
    }
    return Py_XNewRef(function);
}

/* A new reference to what the entry stands for. */
static PyObject *value_of(const ss_reader *reader, const ss_cache_entry *found)
{
    PyObject *value = Py_NewRef(found->value); /* building may run Python code, which may take the entry out */
    if (found->form == SS_FORM_SCALAR) {
        return value;
    }
    PyObject *build = given(found->form == SS_FORM_TABLE ? reader->table : reader->list);
    PyObject *result = build == NULL ? NULL : PyObject_CallOneArg(build, value);
    Py_XDECREF(build);
    Py_DECREF(value);
    return result;
}

PyObject *ss_read_cache_get(const ss_reader *reader, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    static const char *const parameters[] = {"key", "default"};
    PyObject *passed[2] = {count > 0 ? arguments[0] : NULL, count > 1 ? arguments[1] : NULL};
    bool common = names == NULL && (count == 1 || count == 2);
    if (!common && !ss_take_arguments("get", parameters, 1, 2, passed, arguments, count, names)) {
        return NULL;
    }
    PyObject *key = passed[0];
    PyObject *fallback = passed[1] == NULL ? Py_None : passed[1];
    ss_read_cache *self = ss_read_cache_of(reader->cache);
    const ss_cache_entry *found = NULL;
    int64_t now_ms = 0;
    if (self != NULL) {
        /* Read before the look, because it is Python code. */
        if (!read_given_clock(self, &now_ms)) {
            return NULL;
        }
        found = look(self, key);
        if (found != NULL) {
            self->hits++;
            return is_there(self, found, now_ms) ? value_of(reader, found) : Py_NewRef(fallback);
        }
        self->misses++;
    }
    PyObject *both[2] = {key, fallback};
    PyObject *load = given(reader->load);
    PyObject *result = load == NULL ? NULL : PyObject_Vectorcall(load, both, 2, NULL);
    Py_XDECREF(load);
    return result;
}

PyObject *ss_read_cache_remaining_ms(PyObject *object, PyObject *key)
{
    ss_read_cache *self = (ss_read_cache *)object;
    int64_t now_ms;
    if (!read_given_clock(self, &now_ms)) {
        return NULL;
    }
    if (self->clock == NULL) {
        now_ms = ss_wall_clock() / SS_MILLISECOND;
    }
    const ss_cache_entry *found = look(self, key);
    if (found == NULL) {
        Py_RETURN_NONE;
    }
    if (found->expires_at_ms == SS_CACHE_NEVER) {
        return PyLong_FromLong(found->form == SS_FORM_ABSENT ? NO_KEY : NO_TTL);
    }
    return PyLong_FromLongLong(found->expires_at_ms <= now_ms ? NO_KEY : found->expires_at_ms - now_ms);
}
