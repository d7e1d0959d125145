/* Where in a table something is wrong: `value.config.ports[3]`, cut to a fixed room, always printable UTF-8. */
#ifndef SS_LUA_PATH_H
#define SS_LUA_PATH_H

#include "lua/api.h"

/* Room for a problem, the sentence "path: what"; at most half of it is the path. */
#define SS_PROBLEM_SIZE 640

typedef struct ss_path {
    const ss_lua_api *lua;
    lua_State *L;
    char *text;
    size_t length;
    bool is_cut;
} ss_path;

/* Begins a path with `root` and, unless `key` is 0, the string at this index of the stack. `problem` has room for
 * SS_PROBLEM_SIZE bytes. */
void ss_path_begin(ss_path *path, const ss_lua_api *lua, lua_State *L, char *problem, const char *root, int key);

/* Adds the string at index `key`: as `.name`, or as `["name"]` where it is no identifier. */
void ss_path_key(ss_path *path, int key);

/* Adds `[index]`. */
void ss_path_index(ss_path *path, int64_t index);

/* Adds ": what". */
void ss_path_end(ss_path *path, const char *what);

#endif
