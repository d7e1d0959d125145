/* What the last commit of a connection left in the write-ahead log, noted by SQLite's wal_hook.
 *
 * A Python type, `Log`, described in slothstate/engines/sqlite/wal_hook.py. SQLite is not linked: a second copy of it in the process
 * would be a danger to the files. Its functions are those that it passes to an extension that it loads
 * (https://sqlite.org/loadext.html), and this library lets itself be loaded as one.
 */
#ifndef SS_ENGINE_LOG_H
#define SS_ENGINE_LOG_H

#include "python/arguments.h"
#include "cache/walindex.h"
#include "engine/frames.h"

typedef struct ss_log {
    PyObject_HEAD
    long long pages; /* in the log after the last commit that wrote to it */
    long long limit; /* pages after which it is to be copied into the database */
    char committed;  /* whether there was such a commit since this was last set to 0 */
    ss_frames *frames; /* how the connection writes to its file; NULL before its first commit */

    /* Of a connection that has its log on the disk before a write is acknowledged; NULL in others, and then the rest means
     * nothing. All of it is borrowed from the connection, like the object's use. */
    void *file; /* SQLite's own of the log */
    const uint8_t *header; /* of the wal-index, NULL where there is no mapping */
    uint64_t synced; /* the header's stamp: all that it counts in is on the disk */
} ss_log;

/* Whether there may be something in the log that is not on the disk, of this connection or of any other of any process. */
static inline bool ss_log_is_behind(const ss_log *self)
{
    return self->file != NULL && (self->header == NULL || ss_walindex_stamp(self->header) != self->synced);
}

/* `object` itself, or NULL with an exception set if it is none. Takes the reference over. */
ss_log *ss_log_of(PyObject *object);

/* Puts the type `Log` into the dict `into`. 0, or -1 with an exception set. */
int ss_log_export(PyObject *into);

#endif
