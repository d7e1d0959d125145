/* The read cache: values by key, valid as long as the wal-index header says that nothing was committed.
 *
 * A Python type, `ReadCache`, whose methods slothstate/read_cache.py describes. All of them run under the GIL; only
 * `wait` releases it. The table is a fixed-window open-addressing hash: a key lives in one of WINDOW slots, an insert
 * replaces a dead entry of its window or else the next one in turn, and the table doubles while it is small.
 */
#ifndef SS_READ_CACHE_H
#define SS_READ_CACHE_H

/* Appends the type `ReadCache` to the Python list `list`. Takes the GIL itself. Returns 0, or -1. */
int ss_read_cache_export(void *list);

#endif
