/* The table of the read cache: keys and what is known of them, within a limit of bytes.
 *
 * Open addressing in windows: a key lives in one of the SS_CACHE_WINDOW slots from the one its hash leads to, so a look
 * costs the same however full the table is, and removing leaves nothing behind. All entries together can be outdated in
 * one step; they make room as others need it. When the limit is reached, a hand goes round the slots and takes out what
 * was not asked for since it last passed (CLOCK): the slots are in the order of the hashes, so even keys that are read
 * in turn, more than fit, are found about every second time, where the oldest out first would never find any.
 *
 * Everything here runs under the GIL and calls no Python code: keys are exact str, values exact str, bytes, int, float,
 * bool or a tree (python/tree.h), whose end runs none either.
 */
#ifndef SS_CACHE_TABLE_H
#define SS_CACHE_TABLE_H

#include "python/arguments.h"

#include <string.h>

enum { SS_CACHE_WINDOW = 16 };

#define SS_CACHE_NEVER INT64_MAX

typedef struct ss_cache_entry {
    PyObject *key;   /* owned; NULL: the slot is free, and everything else in it is 0 */
    PyObject *value; /* owned; NULL if there is none */
    Py_hash_t hash;
    uint64_t generation;
    int64_t expires_at_ms; /* SS_CACHE_NEVER without a time to live; the caller's to judge */
    uint32_t cost;         /* its part of the table's bytes */
    uint8_t form;          /* the caller's */
    bool measured;         /* likewise */
    bool used;             /* found since the hand last passed */
} ss_cache_entry;

typedef struct ss_cache_table {
    ss_cache_entry *slots; /* capacity + SS_CACHE_WINDOW, so that a window never wraps */
    size_t capacity;       /* a power of two */
    size_t count;          /* entries, outdated ones included */
    size_t crowded;        /* the count at which to look for outdated ones, and to grow */
    size_t bytes;          /* of the slots and, about, of the objects in them */
    size_t limit;
    size_t hand;
    uint64_t generation; /* entries of another one are outdated */
} ss_cache_table;

/* False: no memory. */
bool ss_cache_table_init(ss_cache_table *table, size_t limit);

/* Also for a table that is all zeros. */
void ss_cache_table_free(ss_cache_table *table);

/* Keeps what is known of a key, in the place of what was known before; takes references of its own. It may be left out
 * or taken out again at any time: when it is larger than a quarter of the limit, or when memory runs out. */
void ss_cache_put(ss_cache_table *table, PyObject *key, PyObject *value, uint8_t form, int64_t expires_at_ms);

/* Puts a tree in the place of the text that an entry of this generation has; the entry is not to be used any more.
 * False, and nothing is changed, if it is none, if anybody else has a part of it, or if it is too large. */
bool ss_cache_exchange(ss_cache_table *table, const ss_cache_entry *entry, PyObject *tree);

void ss_cache_remove(ss_cache_table *table, PyObject *key);

/* Nothing that was put until now is found any more. */
void ss_cache_outdate(ss_cache_table *table);

/* The same, and gives the memory of the values back. */
void ss_cache_clear(ss_cache_table *table);

static inline bool ss_cache_same_text(PyObject *left, PyObject *right)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(left);
    return length == PyUnicode_GET_LENGTH(right) && PyUnicode_KIND(left) == PyUnicode_KIND(right) &&
           memcmp(PyUnicode_DATA(left), PyUnicode_DATA(right), (size_t)length * PyUnicode_KIND(left)) == 0;
}

/* The entry of a key, outdated or not; NULL if there is none. */
static inline ss_cache_entry *ss_cache_slot(const ss_cache_table *table, PyObject *key)
{
    Py_hash_t hash = ((PyASCIIObject *)key)->hash;
    if (hash == -1) {
        hash = PyObject_Hash(key); /* keeps it in the str; cannot fail for an exact one */
    }
    /* Python's hash of a str is SipHash: its low bits are as good as any. */
    ss_cache_entry *slot = table->slots + ((size_t)hash & (table->capacity - 1));
    for (unsigned i = 0; i < SS_CACHE_WINDOW; i++, slot++) {
        if (slot->hash == hash && slot->key != NULL && (slot->key == key || ss_cache_same_text(slot->key, key))) {
            return slot;
        }
    }
    return NULL;
}

/* What is known of a key; NULL: nothing. Borrowed, until the next call of a function above. */
static inline ss_cache_entry *ss_cache_find(const ss_cache_table *table, PyObject *key)
{
    ss_cache_entry *slot = ss_cache_slot(table, key);
    if (slot == NULL || slot->generation != table->generation) {
        return NULL;
    }
    slot->used = true;
    return slot;
}

#endif
