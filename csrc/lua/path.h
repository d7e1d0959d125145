/* Where in a table something is wrong: `value.config.ports[3]`, cut to a fixed room, always printable UTF-8. */
#ifndef SS_LUA_PATH_H
#define SS_LUA_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ss_path {
    char *text;
    size_t length;
    size_t room; /* for the path alone, its NUL included */
    bool is_cut;
} ss_path;

/* Begins a path in `text`, which has `room` bytes (at least 16) for it. */
void ss_path_begin(ss_path *path, char *text, size_t room, const char *root);

/* Adds `.name`, or `["name"]` where the name is no identifier. */
void ss_path_key(ss_path *path, const char *name, size_t length);

/* Adds `[index]`. */
void ss_path_index(ss_path *path, int64_t index);

/* Adds ": what"; the whole has `size` bytes. */
void ss_path_end(ss_path *path, size_t size, const char *what);

#endif
