#include "cache/walindex.h"

#include <stddef.h>
#include <string.h>

#include "base/sqlite_file.h"

enum { HEADER_SIZE = 48, CHANGE_OFFSET = 8, INITIALIZED_OFFSET = 12, STAMP_OFFSET = 40, REGION_SIZE = 32768 };

const uint8_t *ss_walindex_map(void *file)
{
    const ss_io_methods *methods = ((const ss_sqlite_file *)file)->methods;
    void volatile *address = NULL;
    if (methods == NULL || methods->version < 2 || methods->shm_map == NULL) {
        return NULL;
    }
    if (methods->shm_map(file, 0, REGION_SIZE, 0, &address) != 0 || (uintptr_t)address % sizeof(uint64_t) != 0) {
        return NULL;
    }
    return (const uint8_t *)(uintptr_t)address;
}

/* The checksum of walChecksumBytes, in the byte order of this machine as the header's is. */
static uint64_t checksum(const uint8_t *header)
{
    uint32_t sums[2] = {0, 0};
    for (size_t offset = 0; offset < STAMP_OFFSET; offset += 2 * sizeof(uint32_t)) {
        uint32_t words[2];
        memcpy(words, header + offset, sizeof words);
        sums[0] += words[0] + sums[1];
        sums[1] += words[1] + sums[0];
    }
    uint64_t stamp;
    memcpy(&stamp, sums, sizeof stamp);
    return stamp;
}

bool ss_walindex_read(const uint8_t *header, ss_walindex_state *state)
{
    uint8_t first[HEADER_SIZE];
    uint8_t second[HEADER_SIZE];
    memcpy(first, header, HEADER_SIZE);
    ss_acquire_fence();
    memcpy(second, header + HEADER_SIZE, HEADER_SIZE);
    ss_acquire_fence(); /* and whatever the caller looks at next is at least as new */
    memcpy(&state->stamp, first + STAMP_OFFSET, sizeof state->stamp);
    memcpy(&state->change, first + CHANGE_OFFSET, sizeof state->change);
    return memcmp(first, second, HEADER_SIZE) == 0 && first[INITIALIZED_OFFSET] != 0 && checksum(first) == state->stamp;
}
