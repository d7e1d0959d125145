/* JSON text from a Lua table, by walking the Lua stack (see lua/lua.h).
 *
 * Raw access only, so no metamethod runs; nothing is allocated in Lua that steps its collector, so no finalizer runs
 * either: the tables stay as they are from their first pair to their last, and the one buffer of the binding suffices.
 * An open table at depth d keeps two slots: itself and the key it has come to.
 */
#include <math.h>
#include <stdio.h>

#include "json/json.h"
#include "lua/stack.h"

typedef enum walk {
    WALK_KEYS,  /* string keys, by lua_next */
    WALK_ORDER, /* 1, 2, 3 ... as lua_next happens to give them */
    WALK_INDEX  /* a list that lua_next gives in another order: by index, up to `last` */
} walk;

typedef struct open_table {
    const void *identity;
    int64_t position; /* of the item being written */
    int64_t last;
    walk walk;
} open_table;

typedef struct encoder {
    const ss_lua_api *lua;
    lua_State *L;
    ss_buf *text;
    int base;         /* the table at depth d is at base + 2d; the notes of lists are before it */
    int depth;        /* of the innermost open table; -1 before the first */
    int deepest;      /* how many levels are allowed, up to SS_JSON_MAX_DEPTH */
    const char *root; /* begins the path in messages */
    int root_key;     /* 0, or the stack index of the string key that follows it */
    char *problem;    /* of SS_PROBLEM_SIZE bytes */
    open_table open[SS_JSON_MAX_DEPTH];
} encoder;

/* Writes "path: what" into encoder->problem; the path ends at the innermost key, or with `own_key` false before it. */
static bool encode_problem(encoder *e, bool own_key, const char *what)
{
    ss_path path;
    ss_path_begin(&path, e->lua, e->L, e->problem, e->root, e->root_key);
    for (int depth = 0; depth < e->depth + (own_key ? 1 : 0); depth++) {
        const open_table *table = &e->open[depth];
        if (table->walk == WALK_KEYS) {
            ss_path_key(&path, e->base + 2 * depth + 1);
        } else {
            ss_path_index(&path, table->position);
        }
    }
    ss_path_end(&path, what);
    return false;
}

static bool encode_status(encoder *e, ss_status status)
{
    switch (status) {
    case SS_OK: return true;
    case SS_BAD_UTF8: return encode_problem(e, true, "a string inside a table must be valid UTF-8");
    case SS_NOT_FINITE: return encode_problem(e, true, "nan and inf cannot be stored; expected a finite number");
    case SS_TOO_LARGE: return encode_problem(e, true, "the table is too large to be stored");
    default: return encode_problem(e, true, "not enough memory");
    }
}

/* The key at the top is none that a table or a list can have. */
static bool encode_bad_key(encoder *e, int key_type)
{
    if (key_type == LUA_TNUMBER || key_type == LUA_TSTRING) {
        return encode_problem(e, false, "a table must have only string keys, or be a list with the keys 1 to n");
    }
    char what[80];
    snprintf(what, sizeof what, "a %s cannot be a key; expected strings, or the numbers 1 to n",
             e->lua->type_name(e->L, key_type));
    return encode_problem(e, false, what);
}

/* With [table, key, value] on the stack and a key that is not the expected position: checks that all the keys still
 * to come are exactly position..n, and goes on by index: leaves [table, nil, value]. */
static bool encode_by_index(encoder *e, open_table *table, int at)
{
    const ss_lua_api *lua = e->lua;
    lua_State *L = e->L;
    int64_t count = 0;
    double largest = 0;
    do {
        lua->settop(L, at + 1);
        int key_type = lua->type(L, at + 1);
        double key = key_type == LUA_TNUMBER ? lua->tonumber(L, at + 1) : 0;
        if (key_type != LUA_TNUMBER || !(key >= (double)table->position) || key != floor(key)) {
            return encode_bad_key(e, key_type);
        }
        largest = key > largest ? key : largest;
        count++;
    } while (lua->next(L, at));
    table->walk = WALK_INDEX;
    table->last = table->position - 1 + count;
    lua->pushnil(L);
    if (largest != (double)table->last) {
        do {
            lua->settop(L, at + 1);
            lua->rawgeti(L, at, table->position++);
        } while (lua->type(L, -1) != LUA_TNIL);
        table->position--;
        return encode_problem(e, true, "a list must have no holes");
    }
    lua->rawgeti(L, at, table->position);
    return true;
}

/* Opens the table at the top: afterwards either it is empty, written and popped (*opened false), or [table, key,
 * value] of its first pair is on the stack. */
static bool encode_open(encoder *e, bool *opened)
{
    const ss_lua_api *lua = e->lua;
    lua_State *L = e->L;
    const void *identity = lua->topointer(L, -1);
    for (int depth = 0; depth <= e->depth; depth++) {
        if (e->open[depth].identity == identity) {
            return encode_problem(e, true, "the table contains itself");
        }
    }
    if (e->depth + 1 == e->deepest) {
        char what[64];
        snprintf(what, sizeof what, "tables nest deeper than %d levels", e->deepest);
        return encode_problem(e, true, what);
    }
    if (!lua->checkstack(L, 8)) {
        return encode_problem(e, true, "tables nest deeper than this Lua's stack");
    }
    int at = e->base + 2 * (e->depth + 1);
    lua->pushnil(L);
    if (!lua->next(L, at)) {
        bool is_list = ss_lua_is_noted_list(lua, L, e->base - 1);
        lua->settop(L, at - 1);
        *opened = false;
        return encode_status(e, ss_buf_append(e->text, is_list ? "[]" : "{}", 2));
    }
    open_table *table = &e->open[++e->depth];
    int key_type = lua->type(L, at + 1);
    table->identity = identity;
    table->position = 0;
    table->walk = key_type == LUA_TNUMBER ? WALK_ORDER : WALK_KEYS;
    if (key_type != LUA_TNUMBER && key_type != LUA_TSTRING) {
        return encode_bad_key(e, key_type);
    }
    *opened = true;
    return encode_status(e, ss_buf_push(e->text, table->walk == WALK_KEYS ? '{' : '['));
}

/* With [table, key, value] on the stack: writes what precedes the value. */
static bool encode_key(encoder *e)
{
    const ss_lua_api *lua = e->lua;
    lua_State *L = e->L;
    open_table *table = &e->open[e->depth];
    int at = e->base + 2 * e->depth;
    if (table->position++ > 0) {
        ss_status status = ss_buf_push(e->text, ',');
        if (status != SS_OK) {
            return encode_status(e, status);
        }
    }
    if (table->walk == WALK_KEYS) {
        int key_type = lua->type(L, at + 1);
        if (key_type != LUA_TSTRING) {
            return encode_bad_key(e, key_type);
        }
        size_t length = 0;
        const char *name = lua->tolstring(L, at + 1, &length);
        ss_status status = ss_json_write_string(e->text, (const uint8_t *)name, length);
        if (status == SS_BAD_UTF8) {
            return encode_problem(e, false, "a key must be valid UTF-8");
        }
        return encode_status(e, status == SS_OK ? ss_buf_push(e->text, ':') : status);
    }
    if (table->walk == WALK_ORDER) {
        int key_type = lua->type(L, at + 1);
        if (key_type != LUA_TNUMBER || lua->tonumber(L, at + 1) != (double)table->position) {
            return encode_by_index(e, table, at);
        }
    }
    return true;
}

/* Writes the value at the top, unless it is a table. */
static bool encode_scalar(encoder *e, int type)
{
    const ss_lua_api *lua = e->lua;
    lua_State *L = e->L;
    size_t length = 0;
    int64_t integer = 0;
    switch (type) {
    case LUA_TSTRING: {
        const char *text = lua->tolstring(L, -1, &length);
        return encode_status(e, ss_json_write_string(e->text, (const uint8_t *)text, length));
    }
    case LUA_TNUMBER:
        if (lua->tointeger(L, -1, &integer)) {
            return encode_status(e, ss_json_write_integer(e->text, integer));
        }
        return encode_status(e, ss_json_write_double(e->text, lua->tonumber(L, -1)));
    case LUA_TBOOLEAN: return encode_status(e, ss_json_write_bool(e->text, lua->toboolean(L, -1) != 0));
    case LUA_TLIGHTUSERDATA:
        if (lua->touserdata(L, -1) == NULL) {
            return encode_status(e, ss_json_write_null(e->text));
        }
        break;
    default: break;
    }
    char what[64];
    snprintf(what, sizeof what, "a %s cannot be stored", lua->type_name(L, type));
    return encode_problem(e, true, what);
}

/* Steps to the next pair of the innermost table: [table, key] becomes [table, key, value]. Tables that end are closed
 * and popped; *done when the outermost was one of them. */
static bool encode_step(encoder *e, bool *done)
{
    const ss_lua_api *lua = e->lua;
    lua_State *L = e->L;
    for (;;) {
        open_table *table = &e->open[e->depth];
        int at = e->base + 2 * e->depth;
        if (table->walk == WALK_INDEX) {
            if (table->position < table->last) {
                lua->rawgeti(L, at, table->position + 1);
                return true;
            }
        } else if (lua->next(L, at)) {
            return true;
        }
        ss_status status = ss_buf_push(e->text, table->walk == WALK_KEYS ? '}' : ']');
        if (table->walk != WALK_KEYS) {
            lua->settop(L, at);
            ss_lua_note_list(lua, L, e->base - 1);
        }
        lua->settop(L, at - 1);
        if (status != SS_OK) {
            return encode_status(e, status);
        }
        if (e->depth-- == 0) {
            *done = true;
            return true;
        }
    }
}

/* Not inlined, not even by an optimizing linker: its 16 KB must not become part of the frame of a scope, which stays
 * while the script's function runs. */
SS_NO_INLINE bool ss_lua_encode_table(const ss_lua_arguments *a, int index, const char *root, int root_key,
                                      char *problem)
{
    encoder room;
    encoder *e = &room;
    const ss_lua_api *lua = a->lua;
    lua_State *L = a->L;
    int top = lua->gettop(L);
    bool opened = false;
    bool done = false;
    e->lua = lua;
    e->L = L;
    e->text = &a->binding->text;
    e->base = top + 2;
    e->depth = -1;
    e->deepest = a->deepest;
    e->root = root;
    e->root_key = root_key;
    e->problem = problem;
    if (!lua->checkstack(L, 8)) {
        return encode_problem(e, true, "this Lua's stack is full");
    }
    ss_lua_push_registered(lua, L, &ss_lua_lists);
    lua->pushvalue(L, index);
    bool fine = encode_open(e, &opened);
    done = !opened;
    while (fine && !done) {
        fine = encode_key(e);
        if (!fine) {
            break;
        }
        int type = lua->type(L, -1);
        opened = false;
        if (type == LUA_TTABLE) {
            fine = encode_open(e, &opened);
        } else {
            fine = encode_scalar(e, type);
            lua->settop(L, -2);
        }
        if (fine && !opened) {
            fine = encode_step(e, &done);
        }
    }
    lua->settop(L, top);
    return fine;
}
