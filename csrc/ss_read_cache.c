#include "ss_read_cache.h"

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "ss_time.h"
#include "ss_walindex.h"

enum { WINDOW = 16, CAPACITY_FIRST = 1024, CAPACITY_MAX = 1 << 20, ENTRY_OVERHEAD = 200 };

enum { FORM_SCALAR, FORM_TABLE, FORM_LIST, FORM_ABSENT };

static const int64_t NEVER = INT64_MAX;

typedef struct entry {
    PyObject *key;   /* owned, exact str; NULL: the slot is free */
    PyObject *value; /* owned: the scalar, or the JSON text of a table or list; NULL for an absent key */
    int64_t expires_at_ms;
    uint64_t generation;
    size_t size;
    int form;
} entry;

typedef struct read_cache {
    PyObject_HEAD
    entry *entries; /* capacity + WINDOW, so that a window never wraps */
    size_t capacity;
    size_t count;
    size_t bytes;
    size_t limit;
    unsigned turn;
    const uint8_t *header; /* borrowed from SQLite; NULL: detached, nothing hits */
    ss_walindex_state seen;
    uint64_t generation; /* what was stored in an earlier one is not valid any more */
    unsigned bypass;
    unsigned waiters;
    int64_t verified_until_ns;
    PyObject *clock; /* owned; NULL: the system's */
    unsigned long long hits;
    unsigned long long misses;
} read_cache;

/* Milliseconds since the epoch, -1 with an exception set. */
static int64_t now_ms(read_cache *self)
{
    if (self->clock == NULL) {
        return ss_wall_clock() / SS_MILLISECOND;
    }
    PyObject *seconds = PyObject_CallNoArgs(self->clock);
    double value = seconds == NULL ? -1.0 : PyFloat_AsDouble(seconds);
    Py_XDECREF(seconds);
    return PyErr_Occurred() ? -1 : (int64_t)(value * 1000);
}

static void clear_entry(read_cache *self, entry *slot)
{
    if (slot->key != NULL) {
        PyObject *key = slot->key;
        PyObject *value = slot->value;
        self->count--;
        self->bytes -= slot->size;
        slot->key = NULL;
        slot->value = NULL;
        Py_DECREF(key);
        Py_XDECREF(value);
    }
}

static void clear_all(read_cache *self)
{
    for (size_t i = 0; self->count > 0 && i < self->capacity + WINDOW; i++) {
        clear_entry(self, &self->entries[i]);
    }
}

/* What is now the newest state of the store; entries of another state stop being valid. */
static void move_to(read_cache *self, ss_walindex_state state)
{
    if (self->seen.stamp != state.stamp) {
        self->generation++;
    }
    self->seen = state;
}

static bool same_text(PyObject *left, PyObject *right)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(left);
    return length == PyUnicode_GET_LENGTH(right) && PyUnicode_KIND(left) == PyUnicode_KIND(right) &&
           memcmp(PyUnicode_DATA(left), PyUnicode_DATA(right), (size_t)length * PyUnicode_KIND(left)) == 0;
}

static entry *window_of(read_cache *self, Py_hash_t hash)
{
    /* Python's hash of a str is SipHash: its low bits are as good as any. */
    return self->entries + ((size_t)hash & (self->capacity - 1));
}

static entry *find(read_cache *self, PyObject *key)
{
    Py_hash_t hash = PyObject_Hash(key); /* kept inside the str; cannot fail for an exact one */
    entry *slot = window_of(self, hash);
    for (unsigned i = 0; i < WINDOW; i++, slot++) {
        if (slot->key == key || (slot->key != NULL && ((PyASCIIObject *)slot->key)->hash == hash && same_text(slot->key, key))) {
            return slot;
        }
    }
    return NULL;
}

/* A slot for a key that is not in the table: a free or dead one of its window, else the next in turn. */
static entry *make_room(read_cache *self, PyObject *key)
{
    entry *window = window_of(self, PyObject_Hash(key));
    for (unsigned i = 0; i < WINDOW; i++) {
        if (window[i].key == NULL || window[i].generation != self->generation) {
            clear_entry(self, &window[i]);
            return &window[i];
        }
    }
    entry *victim = &window[self->turn++ % WINDOW];
    clear_entry(self, victim);
    return victim;
}

static bool grow(read_cache *self)
{
    size_t capacity = self->capacity * 2;
    entry *entries = PyMem_Calloc(capacity + WINDOW, sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    entry *old = self->entries;
    size_t old_slots = self->capacity + WINDOW;
    self->entries = entries;
    self->capacity = capacity;
    self->count = 0;
    self->bytes = 0;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i].key == NULL) {
            continue;
        }
        if (old[i].generation != self->generation) {
            Py_DECREF(old[i].key);
            Py_XDECREF(old[i].value);
            continue;
        }
        entry *slot = make_room(self, old[i].key);
        *slot = old[i];
        self->count++;
        self->bytes += slot->size;
    }
    PyMem_Free(old);
    return true;
}

/* ---- get ---- */

/* `self` of a reader: (cache, miss, table, list). */
static PyObject *answer(PyObject *reader, entry *found, PyObject *fallback)
{
    PyObject *value = found->value;
    switch (found->form) {
    case FORM_ABSENT:
        return Py_NewRef(fallback);
    case FORM_SCALAR:
        return Py_NewRef(value);
    default: {
        PyObject *build = PyTuple_GET_ITEM(reader, found->form == FORM_TABLE ? 2 : 3);
        Py_INCREF(value); /* building may run Python code, which may replace the entry */
        PyObject *result = PyObject_CallOneArg(build, value);
        Py_DECREF(value);
        return result;
    }
    }
}

static PyObject *read_key(PyObject *reader, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    read_cache *self = (read_cache *)PyTuple_GET_ITEM(reader, 0);
    PyObject *key = count > 0 ? arguments[0] : NULL;
    PyObject *fallback = count > 1 ? arguments[1] : Py_None;
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (count < 2 && PyUnicode_CompareWithASCIIString(name, "default") == 0) {
            fallback = arguments[count + i];
        } else if (count < 1 && PyUnicode_CompareWithASCIIString(name, "key") == 0) {
            key = arguments[count + i];
        } else {
            return PyErr_Format(PyExc_TypeError, "get() got an unexpected keyword argument %R", name);
        }
    }
    if (key == NULL || count > 2) {
        return PyErr_Format(PyExc_TypeError, "get() takes a key and a default, got %zd arguments", count + named);
    }
    if (self->header != NULL && self->bypass == 0 && PyUnicode_CheckExact(key) &&
        ss_walindex_stamp(self->header) == self->seen.stamp && ss_coarse_clock() < self->verified_until_ns) {
        entry *found = find(self, key);
        if (found != NULL && found->generation == self->generation) {
            if (found->expires_at_ms != NEVER) {
                int64_t now = now_ms(self);
                if (now == -1 && PyErr_Occurred()) {
                    return NULL;
                }
                /* An injected clock is Python code: look again. */
                found = self->clock == NULL ? found : find(self, key);
                if (found == NULL || found->expires_at_ms <= now) {
                    self->hits++;
                    return Py_NewRef(fallback);
                }
            }
            self->hits++;
            return answer(reader, found, fallback);
        }
    }
    self->misses++;
    PyObject *both[2] = {key, fallback};
    return PyObject_Vectorcall(PyTuple_GET_ITEM(reader, 1), both, 2, NULL);
}

static PyObject *cache_reader(PyObject *object, PyObject *arguments)
{
    static PyMethodDef get = {"get", (PyCFunction)(void (*)(void))read_key, METH_FASTCALL | METH_KEYWORDS,
                              "get($module, /, key, default=None)\n--\n\nState.get, answered from the read cache."};
    PyObject *miss, *table, *list;
    if (!PyArg_ParseTuple(arguments, "OOO:reader", &miss, &table, &list)) {
        return NULL;
    }
    PyObject *reader = PyTuple_Pack(4, object, miss, table, list);
    PyObject *function = reader == NULL ? NULL : PyCFunction_NewEx(&get, reader, NULL);
    Py_XDECREF(reader);
    return function;
}

/* ---- filling ---- */

static PyObject *cache_sync(PyObject *object, PyObject *unused)
{
    (void)unused;
    read_cache *self = (read_cache *)object;
    ss_walindex_state state;
    if (self->header == NULL || !ss_walindex_read(self->header, &state)) {
        Py_RETURN_NONE;
    }
    move_to(self, state);
    return PyLong_FromUnsignedLongLong(state.stamp);
}

static PyObject *cache_store(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    read_cache *self = (read_cache *)object;
    if (count != 5 || !PyUnicode_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "store() takes token, key, form, value, expires_at_ms");
    }
    PyObject *key = arguments[1];
    if (arguments[0] == Py_None || self->header == NULL || !PyUnicode_CheckExact(key)) {
        Py_RETURN_NONE;
    }
    uint64_t token = PyLong_AsUnsignedLongLong(arguments[0]);
    long form = PyLong_AsLong(arguments[2]);
    int64_t expires = arguments[4] == Py_None ? NEVER : PyLong_AsLongLong(arguments[4]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    /* Nothing was committed between the caller's sync() and now: what it read in between is the newest state. */
    if (token != self->seen.stamp || ss_walindex_stamp(self->header) != token) {
        Py_RETURN_NONE;
    }
    PyObject *value = form == FORM_ABSENT ? NULL : arguments[3];
    size_t size = ENTRY_OVERHEAD + (size_t)PyUnicode_GET_LENGTH(key) * PyUnicode_KIND(key);
    if (value != NULL && PyUnicode_Check(value)) {
        size += (size_t)PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value);
    } else if (value != NULL && PyBytes_Check(value)) {
        size += (size_t)PyBytes_GET_SIZE(value);
    }
    if (size > self->limit / 4) {
        Py_RETURN_NONE;
    }
    if (self->bytes + size > self->limit) {
        clear_all(self);
    }
    entry *slot = find(self, key);
    if (slot != NULL) {
        clear_entry(self, slot);
    } else {
        if (self->count >= self->capacity / 2 && self->capacity < CAPACITY_MAX && !grow(self)) {
            return PyErr_NoMemory();
        }
        slot = make_room(self, key);
    }
    *slot = (entry){Py_NewRef(key), Py_XNewRef(value), expires, self->generation, size, (int)form};
    self->count++;
    self->bytes += size;
    Py_RETURN_NONE;
}

/* ---- own writes ---- */

/* As in slothstate/read_cache.py; every other mark is a change counter. */
enum { NO_MARK = -1, UNVERIFIED = -2 };

static PyObject *cache_mark(PyObject *object, PyObject *unused)
{
    (void)unused;
    read_cache *self = (read_cache *)object;
    ss_walindex_state state;
    if (ss_coarse_clock() >= self->verified_until_ns) {
        return PyLong_FromLong(UNVERIFIED);
    }
    if (self->header == NULL || !ss_walindex_read(self->header, &state)) {
        return PyLong_FromLong(NO_MARK);
    }
    move_to(self, state);
    return PyLong_FromUnsignedLong(state.change);
}

static PyObject *cache_settle(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    read_cache *self = (read_cache *)object;
    if (count != 2 || !PyUnicode_Check(arguments[1])) {
        return PyErr_Format(PyExc_TypeError, "settle() takes mark, key");
    }
    long long mark = PyLong_AsLongLong(arguments[0]);
    if (mark == -1 && PyErr_Occurred()) {
        return NULL;
    }
    entry *slot = PyUnicode_CheckExact(arguments[1]) ? find(self, arguments[1]) : NULL;
    if (slot != NULL) {
        clear_entry(self, slot);
    }
    ss_walindex_state state;
    /* One more commit than at the mark, and ours was one: nobody else's came between, all other entries still hold. */
    if (mark >= 0 && self->header != NULL && self->seen.change == (uint32_t)mark &&
        ss_walindex_read(self->header, &state) && state.change == (uint32_t)mark + 1) {
        self->seen = state;
    }
    Py_RETURN_NONE;
}

/* ---- life ---- */

static PyObject *cache_attach(PyObject *object, PyObject *file)
{
    read_cache *self = (read_cache *)object;
    void *address = PyLong_AsVoidPtr(file);
    if (address == NULL) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "attach() takes the address of a sqlite3_file");
    }
    self->header = ss_walindex_map(address);
    self->generation++;
    memset(&self->seen, 0, sizeof self->seen);
    return PyBool_FromLong(self->header != NULL);
}

static PyObject *cache_detach(PyObject *object, PyObject *unused)
{
    (void)unused;
    read_cache *self = (read_cache *)object;
    self->header = NULL;
    clear_all(self);
    while (self->waiters > 0) { /* they still look at the mapping that is about to go */
        Py_BEGIN_ALLOW_THREADS
        ss_sleep(100000);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *cache_forked(PyObject *object, PyObject *unused)
{
    (void)unused;
    read_cache *self = (read_cache *)object;
    self->header = NULL;
    self->waiters = 0; /* threads of the parent: detach() would wait for them for ever */
    clear_all(self);
    Py_RETURN_NONE;
}

static PyObject *cache_verified(PyObject *object, PyObject *seconds)
{
    double value = PyFloat_AsDouble(seconds);
    if (value == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    ((read_cache *)object)->verified_until_ns = ss_coarse_clock() + (int64_t)(value * 1e9);
    Py_RETURN_NONE;
}

static PyObject *cache_enter_transaction(PyObject *object, PyObject *unused)
{
    (void)unused;
    ((read_cache *)object)->bypass++;
    Py_RETURN_NONE;
}

static PyObject *cache_leave_transaction(PyObject *object, PyObject *unused)
{
    (void)unused;
    ((read_cache *)object)->bypass--;
    Py_RETURN_NONE;
}

/* ---- waiting ---- */

/* Long enough to cost a waiter a few per cent of a core at most, short enough for a hand-over within a millisecond. */
enum { WAIT_STEP_NS = 900000, WAIT_SLICE_STEPS = 22 };

static PyObject *cache_wait(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    read_cache *self = (read_cache *)object;
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "wait() takes token, seconds");
    }
    uint64_t token = arguments[0] == Py_None ? 0 : PyLong_AsUnsignedLongLong(arguments[0]);
    double seconds = PyFloat_AsDouble(arguments[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    int64_t deadline = ss_coarse_clock() + (int64_t)(seconds * 1e9);
    bool changed = false;
    while (!changed && self->header != NULL) {
        const uint8_t *header = self->header;
        bool late = false;
        self->waiters++; /* detach() waits for the end of this slice */
        Py_BEGIN_ALLOW_THREADS
        for (unsigned step = 0; step < WAIT_SLICE_STEPS && !changed && !late; step++) {
            changed = ss_walindex_stamp(header) != token;
            late = ss_coarse_clock() >= deadline;
            if (!changed && !late) {
                ss_sleep(WAIT_STEP_NS);
            }
        }
        Py_END_ALLOW_THREADS
        self->waiters--;
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
        if (late) {
            break;
        }
    }
    return PyBool_FromLong(changed);
}

/* ---- the type ---- */

static int cache_init(PyObject *object, PyObject *arguments, PyObject *names)
{
    read_cache *self = (read_cache *)object;
    Py_ssize_t limit;
    PyObject *clock = Py_None;
    if (names != NULL || !PyArg_ParseTuple(arguments, "n|O:ReadCache", &limit, &clock) || limit < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "ReadCache() takes a limit in bytes >= 0 and a clock");
        }
        return -1;
    }
    if (self->entries == NULL) {
        self->entries = PyMem_Calloc(CAPACITY_FIRST + WINDOW, sizeof *self->entries);
        if (self->entries == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->capacity = CAPACITY_FIRST;
    }
    self->limit = (size_t)limit;
    Py_XSETREF(self->clock, clock == Py_None ? NULL : Py_NewRef(clock));
    return 0;
}

static int cache_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((read_cache *)object)->clock);
    return 0; /* the values are str, bytes and numbers: no cycle leads through them */
}

static int cache_clear(PyObject *object)
{
    Py_CLEAR(((read_cache *)object)->clock);
    return 0;
}

static void cache_dealloc(PyObject *object)
{
    read_cache *self = (read_cache *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    cache_clear(object);
    if (self->entries != NULL) {
        clear_all(self);
        PyMem_Free(self->entries);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *cache_figures(PyObject *object, PyObject *unused)
{
    (void)unused;
    read_cache *self = (read_cache *)object;
    return Py_BuildValue("{sKsKsnsn}", "hits", self->hits, "misses", self->misses, "entries", (Py_ssize_t)self->count,
                         "bytes", (Py_ssize_t)self->bytes);
}

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

int ss_read_cache_export(void *list)
{
    static PyMethodDef methods[] = {
        {"reader", cache_reader, METH_VARARGS, NULL},
        {"sync", cache_sync, METH_NOARGS, NULL},
        {"store", FASTCALL(cache_store), METH_FASTCALL, NULL},
        {"mark", cache_mark, METH_NOARGS, NULL},
        {"settle", FASTCALL(cache_settle), METH_FASTCALL, NULL},
        {"attach", cache_attach, METH_O, NULL},
        {"detach", cache_detach, METH_NOARGS, NULL},
        {"forked", cache_forked, METH_NOARGS, NULL},
        {"verified", cache_verified, METH_O, NULL},
        {"enter_transaction", cache_enter_transaction, METH_NOARGS, NULL},
        {"leave_transaction", cache_leave_transaction, METH_NOARGS, NULL},
        {"wait", FASTCALL(cache_wait), METH_FASTCALL, NULL},
        {"figures", cache_figures, METH_NOARGS, NULL},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "See slothstate/read_cache.py."},
        {Py_tp_init, cache_init},
        {Py_tp_traverse, cache_traverse},
        {Py_tp_clear, cache_clear},
        {Py_tp_dealloc, cache_dealloc},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.ReadCache", sizeof(read_cache), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *type = PyType_FromSpec(&spec);
    int result = type == NULL ? -1 : PyList_Append((PyObject *)list, type);
    Py_XDECREF(type);
    PyErr_Clear(); /* cffi cannot pass it on: the status says it */
    PyGILState_Release(gil);
    return result;
}
