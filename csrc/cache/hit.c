#include "cache/type.h"
#include "python/tree.h"
#include "base/inline.h"
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

/* The time, after `read_given_clock`: the system's clock is read where it is needed, most hits do without. */
static inline int64_t time_of(const ss_read_cache *self, int64_t given_ms)
{
    return self->clock == NULL ? ss_wall_clock() / SS_MILLISECOND : given_ms;
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

static SS_ALWAYS_INLINE bool is_usable(const ss_read_cache *self)
{
    return self->header != NULL && ss_coarse_clock() < self->verified_until_ns && !is_in_transaction(self);
}

bool ss_read_cache_usable(const ss_read_cache *self)
{
    return is_usable(self);
}

/* What is known of a key and still true; NULL: ask the store. */
static SS_ALWAYS_INLINE ss_cache_entry *look(const ss_read_cache *self, PyObject *key)
{
    if (!is_usable(self) || !PyUnicode_CheckExact(key) || ss_walindex_stamp(self->header) != self->seen.stamp) {
        return NULL;
    }
    return ss_cache_find(&self->table, key);
}

static inline bool is_there(const ss_read_cache *self, const ss_cache_entry *found, int64_t now_ms)
{
    if (found->expires_at_ms == SS_CACHE_NEVER) {
        return found->form != SS_FORM_ABSENT;
    }
    return found->expires_at_ms > time_of(self, now_ms);
}

/* A new reference to a function of the reader: it must outlive a call that takes it away. NULL with an exception set. */
static PyObject *given(PyObject *function)
{
    if (function == NULL) {
        PyErr_SetString(PyExc_TypeError, "the State is not set up");
    }
    return Py_XNewRef(function);
}

/* The JSON text of a table or list that is kept, as a new reference. */
static PyObject *text_of(const ss_reader *reader, PyObject *key, PyObject *kept)
{
    if (PyUnicode_CheckExact(kept)) {
        return Py_NewRef(kept);
    }
    PyObject *both[2] = {kept, key};
    PyObject *encode = given(reader->encode);
    PyObject *text = encode == NULL ? NULL : PyObject_Vectorcall(encode, both, 2, NULL);
    Py_XDECREF(encode);
    return text;
}

/* What to hand out of a value that was built from `text`: a copy, if it is kept in place of the text from now on. */
static PyObject *keep_built(ss_read_cache *self, PyObject *key, PyObject *text, PyObject *built)
{
    /* Building may have run Python code: the entry need not be there any more. */
    const ss_cache_entry *entry = ss_cache_find(&self->table, key);
    if (entry == NULL || entry->value != text ||
        !(entry->form == SS_FORM_TABLE ? PyDict_CheckExact(built) : PyList_CheckExact(built)) ||
        !ss_cache_exchange(&self->table, entry, built)) {
        return built;
    }
    PyObject *copy = ss_tree_copy(built);
    Py_DECREF(built);
    return copy;
}

/* A new reference to the value of a table or list. Kept out of the way of a scalar. */
static SS_NO_INLINE PyObject *container_of(const ss_reader *reader, ss_read_cache *self, PyObject *key,
                                           const ss_cache_entry *found)
{
    PyObject *kept = Py_NewRef(found->value); /* what follows may take the entry out */
    bool copies = reader->encode == Py_None;
    PyObject *result = NULL;
    if (copies && !PyUnicode_CheckExact(kept)) {
        result = ss_tree_copy(kept);
    } else {
        PyObject *build = given(found->form == SS_FORM_TABLE ? reader->table : reader->list);
        PyObject *text = build == NULL ? NULL : text_of(reader, key, kept);
        result = text == NULL ? NULL : PyObject_CallOneArg(build, text);
        Py_XDECREF(build);
        if (copies && result != NULL) {
            result = keep_built(self, key, text, result);
        }
        Py_XDECREF(text);
    }
    Py_DECREF(kept);
    return result;
}

static PyObject *value_of(const ss_reader *reader, ss_read_cache *self, PyObject *key, const ss_cache_entry *found)
{
    return found->form == SS_FORM_SCALAR ? Py_NewRef(found->value) : container_of(reader, self, key, found);
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
        if (found != NULL && found->form != SS_FORM_LENGTH) {
            self->hits++;
            return is_there(self, found, now_ms) ? value_of(reader, self, key, found) : Py_NewRef(fallback);
        }
        self->misses++;
    }
    PyObject *both[2] = {key, fallback};
    PyObject *load = given(reader->load);
    PyObject *result = load == NULL ? NULL : PyObject_Vectorcall(load, both, 2, NULL);
    Py_XDECREF(load);
    return result;
}

/* Adds what is known of a key to `values`. False if it is not known, or with an exception set. */
static bool add_known(const ss_reader *reader, ss_read_cache *self, PyObject *key, int64_t now_ms, PyObject *values)
{
    const ss_cache_entry *found = PyUnicode_CheckExact(key) ? ss_cache_find(&self->table, key) : NULL;
    if (found == NULL || found->form == SS_FORM_LENGTH) {
        return false;
    }
    if (found->form == SS_FORM_ABSENT || found->expires_at_ms <= now_ms) {
        return true;
    }
    PyObject *value = value_of(reader, self, key, found);
    bool added = value != NULL && PyDict_SetItem(values, key, value) == 0;
    Py_XDECREF(value);
    return added;
}

/* Whether the store is in this state, and the caller may be answered from the cache. */
static bool is_of(const ss_read_cache *self, uint64_t stamp)
{
    return is_usable(self) && ss_walindex_stamp(self->header) == stamp;
}

PyObject *ss_read_cache_get_many(const ss_reader *reader, PyObject *keys)
{
    int64_t now_ms;
    ss_read_cache *self = ss_read_cache_of(reader->cache);
    if (self == NULL) {
        Py_RETURN_NONE;
    }
    if (!PyList_CheckExact(keys)) {
        return PyErr_Format(PyExc_TypeError, "a list of keys is expected");
    }
    if (!read_given_clock(self, &now_ms)) {
        return NULL;
    }
    now_ms = time_of(self, now_ms);
    PyObject *values = PyDict_New();
    if (values == NULL) {
        return NULL;
    }
    const uint64_t stamp = self->seen.stamp;
    bool known = is_of(self, stamp);
    for (Py_ssize_t i = 0; known && i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = Py_NewRef(PyList_GET_ITEM(keys, i));
        known = add_known(reader, self, key, now_ms, values);
        Py_DECREF(key);
    }
    /* One look at the end for all: whatever ran meanwhile, if the store is in the state that the cache was in at the
     * beginning, it was in it all the time, for no stamp comes again. */
    if (known && self->seen.stamp == stamp && is_of(self, stamp)) {
        self->many_hits++;
        return values;
    }
    self->misses++;
    Py_DECREF(values);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyObject *ss_read_cache_length(const ss_reader *reader, PyObject *key)
{
    ss_read_cache *self = ss_read_cache_of(reader->cache);
    int64_t now_ms = 0;
    if (self == NULL) {
        Py_RETURN_NONE;
    }
    if (!read_given_clock(self, &now_ms)) {
        return NULL;
    }
    const ss_cache_entry *found = look(self, key);
    PyObject *length = NULL;
    /* Only of what was measured: a list from which items are claimed grows without a commit when an owner dies. */
    if (found == NULL || !found->measured) {
        length = NULL;
    } else if (!is_there(self, found, now_ms)) {
        length = PyLong_FromLong(0);
    } else if (found->form == SS_FORM_LENGTH) {
        length = Py_NewRef(found->value);
    } else if (found->form == SS_FORM_LIST && PyList_CheckExact(found->value)) {
        length = PyLong_FromSsize_t(PyList_GET_SIZE(found->value));
    }
    if (length == NULL) {
        self->misses++;
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    self->length_hits++;
    return length;
}

PyObject *ss_read_cache_remaining_ms(PyObject *object, PyObject *key)
{
    ss_read_cache *self = (ss_read_cache *)object;
    int64_t now_ms;
    if (!read_given_clock(self, &now_ms)) {
        return NULL;
    }
    now_ms = time_of(self, now_ms);
    const ss_cache_entry *found = look(self, key);
    if (found == NULL) {
        Py_RETURN_NONE;
    }
    if (found->expires_at_ms == SS_CACHE_NEVER) {
        return PyLong_FromLong(found->form == SS_FORM_ABSENT ? NO_KEY : NO_TTL);
    }
    return PyLong_FromLongLong(found->expires_at_ms <= now_ms ? NO_KEY : found->expires_at_ms - now_ms);
}
