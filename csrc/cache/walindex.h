/* The header of SQLite's wal-index, as SQLite itself has mapped it.
 *
 * Every commit by any process rewrites this header in shared memory before COMMIT returns, so an unchanged header means
 * that nothing in the database changed. The layout is documented and fixed:
 * https://sqlite.org/walformat.html#the_wal_index_file_format. Two copies of 48 bytes; a writer writes the second, a
 * barrier, then the first (walIndexWriteHdr), a reader reads them the other way round (walIndexTryHdr).
 *
 * What rewrites it: a commit, which counts `change` up by one; the restart of a log that was copied into the database
 * whole (new salts, the same `change`, no change of content); and the recovery of an index whose writer was killed
 * within the few nanoseconds between the two copies, which starts `change` at 0 again.
 *
 * The mapping is found through the public xShmMap method of SQLite's own file (base/sqlite_file.h).
 */
#ifndef SS_CACHE_WALINDEX_H
#define SS_CACHE_WALINDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

typedef struct ss_walindex_state {
    uint64_t stamp;  /* the header's own checksum: a new one with every rewriting */
    uint32_t change; /* iChange */
} ss_walindex_state;

/* The header that belongs to an open `sqlite3_file *`, NULL if it is not in WAL mode or has no mapping.
 *
 * It is borrowed and dies with the connection: reading it after the connection was closed is a segmentation fault. The
 * connection must have read from the database before, and must not be in use by another thread during the call.
 */
const uint8_t *ss_walindex_map(void *file);

/* The stamp alone, with acquire semantics: what was written before it is visible to what comes after. One load, and
 * during a rewriting the old stamp, the new one or, if the writer's memcpy copies less than 8 bytes at once, a mixture:
 * never the old one any more when the writer's COMMIT has returned. */
static inline uint64_t ss_walindex_stamp(const uint8_t *header)
{
    return ss_load64((const uint64_t *)(const void *)(header + 40));
}

/* Stamp and change counter of one and the same header. False while it is being rewritten, and before it ever was. */
bool ss_walindex_read(const uint8_t *header, ss_walindex_state *state);

#endif
