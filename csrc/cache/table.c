#include "cache/table.h"

enum { CAPACITY_FIRST = 64, SMALL_OBJECT = 32, ALLOCATOR_ROUNDING = 32 };

static size_t slots_size(size_t capacity)
{
    return (capacity + SS_CACHE_WINDOW) * sizeof(ss_cache_entry);
}

/* About the memory of an object, and always the same for the same one. */
static size_t cost_of(PyObject *object)
{
    if (object == NULL || PyBool_Check(object)) {
        return 0;
    }
    if (PyBytes_Check(object)) {
        return sizeof(PyBytesObject) + (size_t)PyBytes_GET_SIZE(object);
    }
    if (!PyUnicode_Check(object)) {
        return SMALL_OBJECT;
    }
    size_t length = (size_t)PyUnicode_GET_LENGTH(object);
    if (PyUnicode_IS_ASCII(object)) {
        return sizeof(PyASCIIObject) + length + 1;
    }
    /* Python keeps the UTF-8 of a str in it once somebody has asked for it, as SQLite and the decoder do. */
    size_t width = (size_t)PyUnicode_KIND(object);
    size_t utf8_width = width == 4 ? 4 : width + 1;
    return sizeof(PyCompactUnicodeObject) + (length + 1) * width + length * utf8_width;
}

static size_t entry_cost(PyObject *key, PyObject *value)
{
    return cost_of(key) + cost_of(value) + ALLOCATOR_ROUNDING;
}

static void drop(ss_cache_table *table, ss_cache_entry *slot)
{
    PyObject *key = slot->key;
    PyObject *value = slot->value;
    if (key == NULL) {
        return;
    }
    table->count--;
    table->bytes -= entry_cost(key, value);
    *slot = (ss_cache_entry){0};
    Py_DECREF(key);
    Py_XDECREF(value);
}

/* A free slot for a key that is not in the table; if its window has none, the entry that is missed least goes. */
static ss_cache_entry *vacate(ss_cache_table *table, Py_hash_t hash)
{
    ss_cache_entry *window = table->slots + ((size_t)hash & (table->capacity - 1));
    ss_cache_entry *victim = NULL;
    for (unsigned i = 0; i < SS_CACHE_WINDOW; i++) {
        if (window[i].key == NULL) {
            return &window[i];
        }
        if (window[i].generation != table->generation) {
            victim = &window[i];
            break;
        }
        if (victim == NULL && !window[i].used) {
            victim = &window[i];
        }
    }
    if (victim == NULL) {
        for (unsigned i = 0; i < SS_CACHE_WINDOW; i++) {
            window[i].used = false;
        }
        victim = window;
    }
    drop(table, victim);
    return victim;
}

static void place(ss_cache_table *table, ss_cache_entry entry)
{
    ss_cache_entry *slot = vacate(table, entry.hash);
    *slot = entry;
    table->count++;
    table->bytes += entry_cost(entry.key, entry.value);
}

static void grow(ss_cache_table *table)
{
    size_t capacity = table->capacity * 2;
    size_t grown = slots_size(capacity) - slots_size(table->capacity);
    /* Never at the expense of entries: a table that is full to its limit serves better with crowded windows. */
    if (table->bytes + grown > table->limit) {
        return;
    }
    ss_cache_entry *slots = PyMem_Calloc(1, slots_size(capacity));
    if (slots == NULL) {
        return;
    }
    ss_cache_entry *old = table->slots;
    size_t old_count = table->capacity + SS_CACHE_WINDOW;
    table->slots = slots;
    table->capacity = capacity;
    table->count = 0;
    table->bytes = slots_size(capacity);
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].key != NULL) {
            place(table, old[i]);
        }
    }
    PyMem_Free(old);
}

/* Takes the outdated entries out of a crowded table and, if they were few, makes it larger. */
static void relieve(ss_cache_table *table)
{
    for (size_t i = 0; i < table->capacity + SS_CACHE_WINDOW; i++) {
        if (table->slots[i].generation != table->generation) {
            drop(table, &table->slots[i]);
        }
    }
    if (table->count > table->capacity / 4) {
        grow(table);
    }
    /* Never again before an eighth of the table was put: the way through all slots is paid for by then. Half full is
     * where windows begin to overflow. */
    size_t usual = table->capacity / 2;
    size_t next = table->count + table->capacity / 8;
    table->crowded = next > usual ? next : usual;
}

static void evict_one(ss_cache_table *table)
{
    for (;;) {
        if (table->hand >= table->capacity + SS_CACHE_WINDOW) {
            table->hand = 0;
        }
        ss_cache_entry *slot = &table->slots[table->hand++];
        if (slot->key == NULL) {
            continue;
        }
        if (!slot->used || slot->generation != table->generation) {
            drop(table, slot);
            return;
        }
        slot->used = false;
    }
}

bool ss_cache_table_init(ss_cache_table *table, size_t limit)
{
    *table = (ss_cache_table){.capacity = CAPACITY_FIRST, .crowded = CAPACITY_FIRST / 2, .limit = limit};
    table->bytes = slots_size(CAPACITY_FIRST);
    table->slots = PyMem_Calloc(1, table->bytes);
    return table->slots != NULL;
}

void ss_cache_table_free(ss_cache_table *table)
{
    if (table->slots != NULL) {
        ss_cache_clear(table);
        PyMem_Free(table->slots);
        table->slots = NULL;
    }
}

void ss_cache_put(ss_cache_table *table, PyObject *key, PyObject *value, uint8_t form, int64_t expires_at_ms)
{
    ss_cache_remove(table, key);
    size_t cost = entry_cost(key, value);
    if (cost > table->limit / 4) {
        return;
    }
    if (table->count >= table->crowded) {
        relieve(table);
    }
    while (table->count > 0 && table->bytes + cost > table->limit) {
        evict_one(table);
    }
    if (table->bytes + cost > table->limit) {
        return;
    }
    place(table, (ss_cache_entry){
                     .key = Py_NewRef(key),
                     .value = Py_XNewRef(value),
                     .hash = PyObject_Hash(key),
                     .generation = table->generation,
                     .expires_at_ms = expires_at_ms,
                     .form = form,
                 });
}

void ss_cache_remove(ss_cache_table *table, PyObject *key)
{
    ss_cache_entry *slot = ss_cache_slot(table, key);
    if (slot != NULL) {
        drop(table, slot);
    }
}

void ss_cache_outdate(ss_cache_table *table)
{
    table->generation++;
}

void ss_cache_clear(ss_cache_table *table)
{
    table->generation++;
    for (size_t i = 0; table->count > 0 && i < table->capacity + SS_CACHE_WINDOW; i++) {
        drop(table, &table->slots[i]);
    }
}
