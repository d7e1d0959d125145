/* The header of SQLite's wal-index, as SQLite itself has mapped it.
 *
 * Every commit by any process rewrites this header in shared memory before COMMIT returns, so an unchanged header means
 * that nothing in the database changed. Layout: https://sqlite.org/walformat.html#the_wal_index_file_format, "the
 * header is 48 bytes, twice"; a writer writes the second copy first. The file format promises that it stays.
 *
 * SQLite is not linked here: another copy of it in the process would drop the first one's POSIX locks. The mapping is
 * found through the public xShmMap method of the sqlite3_file that SQLITE_FCNTL_FILE_POINTER gives.
 */
#ifndef SS_WALINDEX_H
#define SS_WALINDEX_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ss_walindex_state {
    uint64_t stamp;  /* the header's own checksum: a new one with every commit */
    uint32_t change; /* iChange: counts the commits since the wal-index was made */
} ss_walindex_state;

/* The header that belongs to an open `sqlite3_file *`, NULL if it is not in WAL mode or has no mapping.
 *
 * It is borrowed and dies with the connection: reading it after the connection was closed is a segmentation fault. The
 * connection must have read from the database before, and must not be in use by another thread during the call.
 */
const uint8_t *ss_walindex_map(void *file);

/* The stamp alone: one load with acquire semantics, so that what a commit wrote before it is visible after it. */
static inline uint64_t ss_walindex_stamp(const uint8_t *header)
{
    const uint64_t *stamp = (const uint64_t *)(const void *)(header + 40);
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(stamp, __ATOMIC_ACQUIRE);
#else
    return *(const volatile uint64_t *)stamp; /* MSVC: volatile loads acquire on x86 and with /volatile:ms */
#endif
}

/* Stamp and change counter of one and the same header. False while another process is rewriting it. */
bool ss_walindex_read(const uint8_t *header, ss_walindex_state *state);

#endif
