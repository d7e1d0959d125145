#include "cache/type.h"
#include "base/time.h"

/* What is now the newest state of the store; entries of another state stop being valid. */
static void move_to(ss_read_cache *self, ss_walindex_state state)
{
    if (self->seen.stamp != state.stamp) {
        self->seen = state;
        self->version++;
        ss_cache_outdate(&self->table);
    }
}

bool ss_read_cache_sync(ss_read_cache *self, uint64_t *token)
{
    ss_walindex_state state;
    if (!ss_read_cache_usable(self) || !ss_walindex_read(self->header, &state)) {
        return false;
    }
    move_to(self, state);
    *token = state.stamp;
    return true;
}

static PyObject *cache_sync(PyObject *object, PyObject *unused)
{
    (void)unused;
    uint64_t token;
    if (!ss_read_cache_sync((ss_read_cache *)object, &token)) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLongLong(token);
}

/* Keeps that the number of the items of a list is known, beside what else is known of the key if anything is. */
static void store_length(ss_read_cache *self, PyObject *key, PyObject *length, int64_t expires_at_ms)
{
    if (ss_cache_find(&self->table, key) == NULL) {
        ss_cache_put(&self->table, key, length, SS_FORM_LENGTH, expires_at_ms);
    }
    ss_cache_entry *entry = ss_cache_find(&self->table, key);
    if (entry != NULL) {
        entry->measured = true;
    }
}

/* Whether a value can be kept: its end runs no Python code, and no cycle leads through it. */
static bool is_plain(PyObject *value, long form)
{
    switch (form) {
    case SS_FORM_SCALAR:
        return PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
               PyBool_Check(value) || PyBytes_CheckExact(value);
    case SS_FORM_TABLE:
    case SS_FORM_LIST: return PyUnicode_CheckExact(value);
    case SS_FORM_LENGTH: return PyLong_CheckExact(value);
    default: return form == SS_FORM_ABSENT && value == Py_None;
    }
}

bool ss_read_cache_store(ss_read_cache *self, uint64_t token, PyObject *key, long form, PyObject *value,
                         PyObject *expires_at_ms)
{
    int64_t expires = SS_CACHE_NEVER;
    if (expires_at_ms != Py_None) {
        expires = PyLong_AsLongLong(expires_at_ms);
        if (expires == -1 && PyErr_Occurred()) {
            return false;
        }
    }
    if (!is_plain(value, form)) {
        PyErr_Format(PyExc_TypeError, "store() keeps no %s in form %ld", Py_TYPE(value)->tp_name, form);
        return false;
    }
    /* Nothing was committed between the caller's sync() and now: what it read in between is the newest state. */
    ss_acquire_fence();
    if (PyUnicode_CheckExact(key) && token == self->seen.stamp && self->header != NULL &&
        ss_walindex_stamp(self->header) == token) {
        if (form == SS_FORM_LENGTH) {
            store_length(self, key, value, expires);
        } else {
            ss_cache_put(&self->table, key, form == SS_FORM_ABSENT ? NULL : value, (uint8_t)form, expires);
        }
    }
    return true;
}

static PyObject *cache_store(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("store", count, 5)) {
        return NULL;
    }
    if (!PyUnicode_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "store() takes a str as key");
    }
    if (arguments[0] == Py_None) {
        Py_RETURN_NONE;
    }
    uint64_t token = PyLong_AsUnsignedLongLong(arguments[0]);
    long form = PyErr_Occurred() ? 0 : PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred() ||
        !ss_read_cache_store((ss_read_cache *)object, token, arguments[1], form, arguments[3], arguments[4])) {
        return NULL;
    }
    Py_RETURN_NONE;
}

long long ss_read_cache_mark(ss_read_cache *self)
{
    ss_walindex_state state;
    if (ss_coarse_clock() >= self->verified_until_ns) {
        return SS_UNVERIFIED;
    }
    if (self->header == NULL || !ss_walindex_read(self->header, &state)) {
        return SS_NO_MARK;
    }
    move_to(self, state);
    return self->version;
}

static PyObject *cache_mark(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLongLong(ss_read_cache_mark((ss_read_cache *)object));
}

bool ss_read_cache_settle(ss_read_cache *self, long long mark, PyObject *key)
{
    PyObject *plain = PyUnicode_FromObject(key); /* an instance of a subclass means the same key */
    if (plain == NULL) {
        return false;
    }
    ss_cache_remove(&self->table, plain);
    Py_DECREF(plain);
    ss_walindex_state state;
    /* One commit since the mark, and ours was one: nobody else's came in between, all other entries still hold. A
     * recovery in between, which starts the counter again, would have to be followed by exactly as many commits. */
    if (mark == self->version && self->header != NULL && ss_walindex_read(self->header, &state) &&
        state.change == self->seen.change + 1) {
        self->seen = state;
        self->version++;
    }
    return true;
}

static PyObject *cache_settle(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("settle", count, 2)) {
        return NULL;
    }
    long long mark = PyLong_AsLongLong(arguments[0]);
    if ((mark == -1 && PyErr_Occurred()) || !ss_read_cache_settle((ss_read_cache *)object, mark, arguments[1])) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *cache_commits(PyObject *object, PyObject *unused)
{
    (void)unused;
    ss_read_cache *self = (ss_read_cache *)object;
    ss_walindex_state state;
    if (self->header == NULL || !ss_walindex_read(self->header, &state)) {
        return PyLong_FromLong(-1);
    }
    return PyLong_FromUnsignedLong(state.change);
}

static PyObject *cache_figures(PyObject *object, PyObject *unused)
{
    (void)unused;
    ss_read_cache *self = (ss_read_cache *)object;
    return Py_BuildValue("{sKsKsKsKsnsn}", "hits", self->hits, "many_hits", self->many_hits, "length_hits",
                         self->length_hits, "misses", self->misses, "entries", (Py_ssize_t)self->table.count, "bytes",
                         (Py_ssize_t)self->table.bytes);
}

static PyTypeObject *cache_type;

ss_read_cache *ss_read_cache_of(PyObject *object)
{
    return Py_IS_TYPE(object, cache_type) ? (ss_read_cache *)object : NULL;
}

static PyObject *cache_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    Py_ssize_t limit;
    PyObject *clock, *transactions;
    if (!ss_check_no_keywords("ReadCache", names) ||
        !PyArg_ParseTuple(arguments, "nOO!:ReadCache", &limit, &clock, &PyDict_Type, &transactions)) {
        return NULL;
    }
    if (limit < 0) {
        return PyErr_Format(PyExc_ValueError, "ReadCache() takes a limit in bytes >= 0");
    }
    ss_read_cache *self = (ss_read_cache *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->clock = clock == Py_None ? NULL : Py_NewRef(clock);
    self->transactions = Py_NewRef(transactions);
    if (!ss_cache_table_init(&self->table, (size_t)limit)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int cache_traverse(PyObject *object, visitproc visit, void *arg)
{
    ss_read_cache *self = (ss_read_cache *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->owner);
    Py_VISIT(self->clock);
    Py_VISIT(self->transactions);
    return 0; /* no cycle leads through the table: `is_plain`, and trees are hidden from the collector */
}

static void cache_dealloc(PyObject *object)
{
    ss_read_cache *self = (ss_read_cache *)object;
    PyObject_GC_UnTrack(object);
    ss_cache_table_free(&self->table);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->clock);
    Py_XDECREF(self->transactions);
    ss_free_object(object);
}

int ss_read_cache_export(PyObject *into)
{
    static PyMethodDef methods[] = {
        {"remaining_ms", ss_read_cache_remaining_ms, METH_O, "remaining_ms(key): what is left of a key, if known."},
        {"sync", cache_sync, METH_NOARGS, "sync(): a token for the present state of the store, or None."},
        {"store", SS_FASTCALL(cache_store), METH_FASTCALL, "store(token, key, form, value, expires_at_ms)"},
        {"mark", cache_mark, METH_NOARGS, "mark(): a number for settle()."},
        {"settle", SS_FASTCALL(cache_settle), METH_FASTCALL, "settle(mark, key): after a write of one key."},
        {"attach", SS_FASTCALL(ss_read_cache_attach), METH_FASTCALL,
         "attach(file, owner): whether it has a wal-index."},
        {"detach", ss_read_cache_detach, METH_NOARGS, "detach(): stop using the wal-index."},
        {"forked", ss_read_cache_forked, METH_NOARGS, "forked(): forget the parent's wal-index."},
        {"verified", ss_read_cache_verified, METH_O, "verified(seconds): allow hits for so long."},
        {"wait", SS_FASTCALL(ss_read_cache_wait), METH_FASTCALL, "wait(token, seconds): whether the state changed."},
        {"commits", cache_commits, METH_NOARGS, "commits(): how many the wal-index counts."},
        {"figures", cache_figures, METH_NOARGS, "figures(): hits, misses, entries and bytes."},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "ReadCache(limit, clock, transactions): see slothstate/engines/sqlite/read_cache.py."},
        {Py_tp_new, cache_new},
        {Py_tp_traverse, cache_traverse},
        {Py_tp_dealloc, cache_dealloc},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.ReadCache", sizeof(ss_read_cache), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
    return ss_export_type(into, &cache_type, &spec);
}
