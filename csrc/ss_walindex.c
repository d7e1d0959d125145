#include "ss_walindex.h"

#include <stddef.h>
#include <string.h>

enum { HEADER_SIZE = 48, CHANGE_OFFSET = 8, STAMP_OFFSET = 40, REGION_SIZE = 32768 };

/* The beginning of sqlite3_io_methods and sqlite3_file (sqlite3.h, unchanged since 3.7.0); methods that are not called
 * here are only counted. */
struct io_methods {
    int version;
    int (*not_called[12])(void);
    int (*shm_map)(void *file, int region, int region_size, int extend, void volatile **address);
};

struct file {
    const struct io_methods *methods;
};

const uint8_t *ss_walindex_map(void *file)
{
    const struct io_methods *methods = ((struct file *)file)->methods;
    void volatile *address = NULL;
    if (methods == NULL || methods->version < 2 || methods->shm_map == NULL) {
        return NULL;
    }
    if (methods->shm_map(file, 0, REGION_SIZE, 0, &address) != 0 || address == NULL) {
        return NULL;
    }
    return (const uint8_t *)(uintptr_t)address;
}

bool ss_walindex_read(const uint8_t *header, ss_walindex_state *state)
{
    uint8_t first[HEADER_SIZE];
    uint8_t second[HEADER_SIZE];
    /* SQLite's own order (walIndexTryHdr): the first copy is read first because it is written last. */
    uint64_t before = ss_walindex_stamp(header);
    memcpy(first, header, HEADER_SIZE);
    memcpy(&state->stamp, first + STAMP_OFFSET, sizeof state->stamp);
    memcpy(&state->change, first + CHANGE_OFFSET, sizeof state->change);
    memcpy(second, header + HEADER_SIZE, HEADER_SIZE);
    return memcmp(first, second, HEADER_SIZE) == 0 && state->stamp == before && ss_walindex_stamp(header) == before;
}
