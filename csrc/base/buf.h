/* A growable byte buffer: the one write primitive of the codec.
 *
 * A zeroed ss_buf is empty and valid. The buffer owns `data` (malloc); ss_buf_free releases it and leaves an empty
 * buffer. Appending inlines to a compare and a copy; growth lives in a no-inline slow path. After a failure the
 * contents are what they were before the call.
 */
#ifndef SS_BASE_BUF_H
#define SS_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

/* SQLite's default SQLITE_MAX_LENGTH: no value that is larger can be stored. */
#define SS_BUF_MAX ((size_t)1000000000)

typedef struct ss_buf {
    uint8_t *data;
    size_t length;
    size_t capacity;
} ss_buf;

/* Makes room for `extra` more bytes. SS_OK, SS_NO_MEMORY, or SS_TOO_LARGE past SS_BUF_MAX. */
ss_status ss_buf_grow(ss_buf *buf, size_t extra);

/* Releases the memory and leaves an empty buffer. */
void ss_buf_free(ss_buf *buf);

static inline ss_status ss_buf_reserve(ss_buf *buf, size_t extra)
{
    return extra <= buf->capacity - buf->length ? SS_OK : ss_buf_grow(buf, extra);
}

static inline ss_status ss_buf_append(ss_buf *buf, const void *bytes, size_t length)
{
    ss_status status = ss_buf_reserve(buf, length);
    if (status == SS_OK && length > 0) {
        memcpy(buf->data + buf->length, bytes, length);
        buf->length += length;
    }
    return status;
}

static inline ss_status ss_buf_push(ss_buf *buf, uint8_t byte)
{
    ss_status status = ss_buf_reserve(buf, 1);
    if (status == SS_OK) {
        buf->data[buf->length++] = byte;
    }
    return status;
}

#endif
