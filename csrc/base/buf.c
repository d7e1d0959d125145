#include "base/buf.h"

#include <stdlib.h>

#define FIRST_CAPACITY ((size_t)256)

#if defined(__GNUC__)
__attribute__((noinline, cold))
#endif
ss_status ss_buf_grow(ss_buf *buf, size_t extra)
{
    if (extra > SS_BUF_MAX || buf->length > SS_BUF_MAX - extra) {
        return SS_TOO_LARGE;
    }
    size_t needed = buf->length + extra;
    size_t capacity = buf->capacity < FIRST_CAPACITY / 2 ? FIRST_CAPACITY : buf->capacity * 2;
    if (capacity > SS_BUF_MAX) {
        capacity = SS_BUF_MAX;
    }
    if (capacity < needed) {
        capacity = needed;
    }
    uint8_t *data = realloc(buf->data, capacity);
    if (data == NULL) {
        return SS_NO_MEMORY;
    }
    buf->data = data;
    buf->capacity = capacity;
    return SS_OK;
}

void ss_buf_free(ss_buf *buf)
{
    free(buf->data);
    *buf = (ss_buf){0};
}
