/* The read cache: values by key (cache/table.h), valid as long as the wal-index (cache/walindex.h) stays as it is.
 *
 * A Python type, `ReadCache`; slothstate/engines/sqlite/read_cache.py describes its methods. One file each: the type
 * itself with what a miss and a write do (type.c), hits (hit.c), attaching and waiting (life.c). Everything runs under the
 * GIL; only `wait`, and `detach` while it waits for waiters, release it. Between finding that the header is unchanged
 * and answering no Python code runs.
 */
#ifndef SS_CACHE_TYPE_H
#define SS_CACHE_TYPE_H

#include "cache/table.h"
#include "cache/walindex.h"

/* As in slothstate/engines/sqlite/read_cache.py. */
enum ss_form { SS_FORM_SCALAR, SS_FORM_TABLE, SS_FORM_LIST, SS_FORM_ABSENT, SS_FORM_LENGTH };

/* As in slothstate/engines/sqlite/read_cache.py. Every other mark is a version. */
enum { SS_NO_MARK = -1, SS_UNVERIFIED = -2 };

typedef struct ss_read_cache {
    PyObject_HEAD
    ss_cache_table table;
    const uint8_t *header;  /* borrowed from `owner`; NULL: detached, nothing hits */
    ss_walindex_state seen; /* the state that the entries of the table's generation are of */
    long long version;      /* counts the changes of `seen` */
    int64_t verified_until_ns;
    PyObject *owner;        /* owned; the connection whose mapping `header` is */
    PyObject *clock;        /* owned; NULL: the system's */
    PyObject *transactions; /* owned; a dict whose keys are the idents of the threads that hold one */
    uint32_t attachment;    /* counts attaching and detaching; atomic: waiters read it without the GIL */
    unsigned waiters;       /* of this attachment */
    unsigned leaving;       /* waiters of earlier ones, which still look at the mapping for a moment */
    unsigned long long hits;        /* of `get` */
    unsigned long long many_hits;   /* of `get_many`, each one call */
    unsigned long long length_hits; /* of `list_length` */
    unsigned long long misses;      /* of all three */
} ss_read_cache;

/* Puts the type `ReadCache` into the dict `into`. 0, or -1 with an exception set. */
int ss_read_cache_export(PyObject *into);

/* Whether there is a wal-index to compare with, the files were seen lately, and the thread holds no transaction. */
bool ss_read_cache_usable(const ss_read_cache *self);

/* `object` if it is a ReadCache, NULL for a stand-in (tests have some), whose methods must then be called. */
ss_read_cache *ss_read_cache_of(PyObject *object);

/* What the methods do, without Python's numbers. `sync` is false where there is no token; `settle` and `store` are with
 * an exception set. */
bool ss_read_cache_sync(ss_read_cache *self, uint64_t *token);
bool ss_read_cache_store(ss_read_cache *self, uint64_t token, PyObject *key, long form, PyObject *value,
                         PyObject *expires_at_ms);
long long ss_read_cache_mark(ss_read_cache *self);
bool ss_read_cache_settle(ss_read_cache *self, long long mark, PyObject *key);

/* What reading a key needs, all owned by whoever has it: a cache (or None: nothing is kept), a function (key, default)
 * for what it does not answer, functions that build the value of a table or list from its JSON text, and json_encode,
 * which gives the text of what is kept as a tree. With None in its place the builders are Python's own: what they build
 * at the first hit is kept as a tree, and copies of it are handed out. */
typedef struct ss_reader {
    PyObject *cache;
    PyObject *load;
    PyObject *table;
    PyObject *list;
    PyObject *encode;
} ss_reader;

/* get(key, default=None) with the arguments of a METH_FASTCALL | METH_KEYWORDS function. */
PyObject *ss_read_cache_get(const ss_reader *reader, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

/* The dict that get_many returns for a list of keys, all of one moment; None unless all is known. */
PyObject *ss_read_cache_get_many(const ss_reader *reader, PyObject *keys);

/* The number of items of a list, 0 for a missing key; None if it is not known. */
PyObject *ss_read_cache_length(const ss_reader *reader, PyObject *key);

/* Methods. */
PyObject *ss_read_cache_remaining_ms(PyObject *self, PyObject *key);
PyObject *ss_read_cache_attach(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *ss_read_cache_detach(PyObject *self, PyObject *unused);
PyObject *ss_read_cache_forked(PyObject *self, PyObject *unused);
PyObject *ss_read_cache_verified(PyObject *self, PyObject *seconds);
PyObject *ss_read_cache_wait(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

#endif
