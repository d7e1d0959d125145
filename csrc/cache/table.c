#include "cache/table.h"
#include "python/tree.h"

enum { CAPACITY_FIRST = 64, ALLOCATOR_ROUNDING = 32 };

static size_t slots_size(size_t capacity)
{
    return (capacity + SS_CACHE_WINDOW) * sizeof(ss_cache_entry);
}

/* The memory of an entry beside its slot; SIZE_MAX for what is not kept. */
static size_t entry_cost(PyObject *key, PyObject *value)
{
    size_t cost = ss_plain_size(key) + ALLOCATOR_ROUNDING;
    if (value == NULL || !(PyDict_CheckExact(value) || PyList_CheckExact(value))) {
        cost += ss_plain_size(value);
    } else if (!ss_tree_size(value, &cost)) {
        return SIZE_MAX;
    }
    return cost;
}

/* Whether the table has room for it, with all else out if need be; more than that would push out everything else. */
static bool is_small_enough(const ss_cache_table *table, size_t cost)
{
    return cost <= table->limit / 4 && cost <= UINT32_MAX;
}

static void drop(ss_cache_table *table, ss_cache_entry *slot)
{
    PyObject *key = slot->key;
    PyObject *value = slot->value;
    if (key == NULL) {
        return;
    }
    table->count--;
    table->bytes -= slot->cost;
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
    table->bytes += entry.cost;
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

static void put(ss_cache_table *table, ss_cache_entry entry)
{
    ss_cache_remove(table, entry.key);
    if (table->count >= table->crowded) {
        relieve(table);
    }
    while (table->count > 0 && table->bytes + entry.cost > table->limit) {
        evict_one(table);
    }
    if (table->bytes + entry.cost > table->limit) {
        return;
    }
    entry.generation = table->generation;
    Py_INCREF(entry.key);
    Py_XINCREF(entry.value);
    place(table, entry);
}

void ss_cache_put(ss_cache_table *table, PyObject *key, PyObject *value, uint8_t form, int64_t expires_at_ms)
{
    size_t cost = entry_cost(key, value);
    if (!is_small_enough(table, cost)) {
        ss_cache_remove(table, key);
        return;
    }
    put(table, (ss_cache_entry){
                   .key = key,
                   .value = value,
                   .hash = PyObject_Hash(key),
                   .expires_at_ms = expires_at_ms,
                   .cost = (uint32_t)cost,
                   .form = form,
               });
}

bool ss_cache_exchange(ss_cache_table *table, const ss_cache_entry *entry, PyObject *tree)
{
    size_t cost = entry_cost(entry->key, tree);
    if (!is_small_enough(table, cost)) {
        return false;
    }
    ss_tree_hide(tree);
    ss_cache_entry exchanged = *entry;
    exchanged.value = tree;
    exchanged.cost = (uint32_t)cost;
    Py_INCREF(exchanged.key); /* the entry, which goes first, may have the last reference */
    put(table, exchanged);
    Py_DECREF(exchanged.key);
    return true;
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
