#include "engine/frames.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 24, SIZE_AFTER_COMMIT = 4, MOST = 16, CAPACITY = MOST * (HEADER + 2048), SQLITE_OK = 0 };

struct ss_frames {
    ss_io_methods methods; /* first: it is what SQLite finds in the file */
    const ss_io_methods *below; /* the VFS's own */
    bool is_open;
    bool is_dropped;
    bool is_committing;
    bool is_last; /* whether the frame whose header came last ends a commit */
    long long end; /* of the last frame that came, whether it waits or not */
    long long page_due; /* where a page comes that belongs to the header before it; -1: nowhere */
    long long begin; /* of what waits */
    int size; /* of what waits */
    unsigned char waiting[CAPACITY];
};

static ss_frames *frames_of(void *file)
{
    return (ss_frames *)((ss_sqlite_file *)file)->methods;
}

/* Writes what waits. Should it fail, SQLite undoes the transaction: nothing waits any more in any case. */
static int flush(ss_frames *self, void *file)
{
    int size = self->size;
    self->size = 0;
    return size == 0 ? SQLITE_OK : self->below->write(file, self->waiting, size, self->begin);
}

static int keep(ss_frames *self, void *file, const void *from, int size, long long offset)
{
    if (self->size + size > CAPACITY || offset != self->begin + self->size) {
        int code = flush(self, file);
        if (code != SQLITE_OK) {
            return code;
        }
        self->begin = offset;
    }
    memcpy(self->waiting + self->size, from, (size_t)size);
    self->size += size;
    return SQLITE_OK;
}

static int frames_write(void *file, const void *from, int size, long long offset)
{
    ss_frames *self = frames_of(file);
    bool is_page = offset == self->page_due;
    bool is_header = !is_page && size == HEADER;
    self->page_due = is_header ? offset + HEADER : -1;
    if (is_header) {
        static const unsigned char none[4];
        self->is_last = memcmp((const unsigned char *)from + SIZE_AFTER_COMMIT, none, sizeof none) != 0;
        /* One that only gets another checksum (`walRewriteChecksums`) was written before, and no page follows. */
        if (offset >= self->end) {
            return keep(self, file, from, size, offset);
        }
    } else if (is_page) {
        self->end = offset + size;
        if (self->size > 0 && size <= CAPACITY - HEADER) {
            int code = keep(self, file, from, size, offset);
            if (code != SQLITE_OK || (self->is_committing && !self->is_last)) {
                return code;
            }
            self->is_committing = false;
            return flush(self, file);
        }
    }
    int code = flush(self, file);
    return code == SQLITE_OK ? self->below->write(file, from, size, offset) : code;
}

static int frames_read(void *file, void *into, int size, long long offset)
{
    ss_frames *self = frames_of(file);
    int code = flush(self, file);
    return code == SQLITE_OK ? self->below->read(file, into, size, offset) : code;
}

static int frames_truncate(void *file, long long size)
{
    ss_frames *self = frames_of(file);
    int code = flush(self, file);
    return code == SQLITE_OK ? self->below->truncate(file, size) : code;
}

static int frames_sync(void *file, int flags)
{
    ss_frames *self = frames_of(file);
    int code = flush(self, file);
    return code == SQLITE_OK ? self->below->sync(file, flags) : code;
}

static int frames_file_size(void *file, long long *size)
{
    ss_frames *self = frames_of(file);
    int code = flush(self, file);
    return code == SQLITE_OK ? self->below->file_size(file, size) : code;
}

static void free_unneeded(ss_frames *self)
{
    if (!self->is_open && self->is_dropped) {
        free(self);
    }
}

/* What waits belongs to a transaction that nobody ends any more, or to the parent of this process. */
static int frames_close(void *file)
{
    ss_frames *self = frames_of(file);
    ((ss_sqlite_file *)file)->methods = self->below;
    int code = self->below->close(file);
    self->is_open = false;
    free_unneeded(self);
    return code;
}

ss_frames *ss_frames_join(ss_sqlite_file *log)
{
    ss_frames *self = log->methods == NULL ? NULL : calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    int version = log->methods->version;
    size_t known = version == 1   ? offsetof(ss_io_methods, shm_map)
                   : version == 2 ? offsetof(ss_io_methods, fetch_and_unfetch)
                                  : sizeof self->methods;
    memcpy(&self->methods, log->methods, known);
    self->methods.version = version < 3 ? version : 3;
    self->methods.close = frames_close;
    self->methods.read = frames_read;
    self->methods.write = frames_write;
    self->methods.truncate = frames_truncate;
    self->methods.sync = frames_sync;
    self->methods.file_size = frames_file_size;
    self->page_due = -1;
    self->is_open = true;
    self->below = log->methods;
    log->methods = &self->methods;
    return self;
}

void ss_frames_begin(ss_frames *self)
{
    self->is_committing = true;
}

void ss_frames_undo(ss_frames *self)
{
    self->size = 0;
    self->is_committing = false;
}

void ss_frames_drop(ss_frames *self)
{
    self->is_dropped = true;
    free_unneeded(self);
}
