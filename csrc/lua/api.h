/* The functions of one Lua implementation, as a table (see lua/lua.h).
 *
 * Declared here rather than taken from a lua.h, which does not exist for the Lua inside a lupa module. implementation.h
 * fills a table for each, and hides in it what differs between them.
 */
#ifndef SS_LUA_API_H
#define SS_LUA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lua_State lua_State;
typedef int (*lua_CFunction)(lua_State *);

#define LUA_TNONE (-1)
#define LUA_TNIL 0
#define LUA_TBOOLEAN 1
#define LUA_TLIGHTUSERDATA 2
#define LUA_TNUMBER 3
#define LUA_TSTRING 4
#define LUA_TTABLE 5
#define LUA_TFUNCTION 6
#define LUA_TUSERDATA 7
#define LUA_MULTRET (-1)

/* Room for any implementation's lua_Debug, whose layout need not be known to name a level of the stack. */
typedef union ss_debug {
    max_align_t align;
    char room[1024];
} ss_debug;

/* Of the same type in all of them. */
#define SS_LUA_COMMON(X) \
    X(int, gettop, lua_gettop, (lua_State *)) \
    X(void, settop, lua_settop, (lua_State *, int)) \
    X(void, pushvalue, lua_pushvalue, (lua_State *, int)) \
    X(int, checkstack, lua_checkstack, (lua_State *, int)) \
    X(int, type, lua_type, (lua_State *, int)) \
    X(const char *, type_name, lua_typename, (lua_State *, int)) \
    X(int, iscfunction, lua_iscfunction, (lua_State *, int)) \
    X(lua_CFunction, tocfunction, lua_tocfunction, (lua_State *, int)) \
    X(int, toboolean, lua_toboolean, (lua_State *, int)) \
    X(const char *, tolstring, lua_tolstring, (lua_State *, int, size_t *)) \
    X(void *, touserdata, lua_touserdata, (lua_State *, int)) \
    X(const void *, topointer, lua_topointer, (lua_State *, int)) \
    X(void, pushnil, lua_pushnil, (lua_State *)) \
    X(void, pushboolean, lua_pushboolean, (lua_State *, int)) \
    X(void, pushnumber, lua_pushnumber, (lua_State *, double)) \
    X(void, pushlightuserdata, lua_pushlightuserdata, (lua_State *, void *)) \
    X(void, pushcclosure, lua_pushcclosure, (lua_State *, lua_CFunction, int)) \
    X(int, pushthread, lua_pushthread, (lua_State *)) \
    X(void, createtable, lua_createtable, (lua_State *, int, int)) \
    X(int, next, lua_next, (lua_State *, int)) \
    X(void, rawset, lua_rawset, (lua_State *, int)) \
    X(int, setmetatable, lua_setmetatable, (lua_State *, int)) \
    X(void, concat, lua_concat, (lua_State *, int)) \
    X(int, error, lua_error, (lua_State *)) \
    X(int, getstack, lua_getstack, (lua_State *, int, ss_debug *)) \
    X(int, getinfo, lua_getinfo, (lua_State *, const char *, ss_debug *)) \
    X(void, where, luaL_where, (lua_State *, int))

typedef struct ss_lua_api {
#define SS_LUA_FIELD(result, field, symbol, parameters) result(*field) parameters;
    SS_LUA_COMMON(SS_LUA_FIELD)
    void (*pushlstring)(lua_State *, const char *, size_t);
    void (*pushinteger)(lua_State *, int64_t);
    void (*rawget)(lua_State *, int);
    void (*rawgeti)(lua_State *, int, int64_t);
    void (*rawseti)(lua_State *, int, int64_t);
    size_t (*rawlen)(lua_State *, int);
    double (*tonumber)(lua_State *, int);
    /* Whether the number counts as an integer; stores it. Without an integer type every whole number within 2^53 does,
     * but not -0.0, whose sign an integer would lose. */
    bool (*tointeger)(lua_State *, int, int64_t *);
    /* No continuation, so a coroutine cannot yield across either: Lua raises an error instead. */
    void (*call)(lua_State *, int arguments, int results);
    int (*pcall)(lua_State *, int arguments, int results);
    void *(*newuserdata)(lua_State *, size_t);

    int registry; /* its pseudo-index */
    int upvalues; /* the pseudo-index of upvalue `i` is this - i */
    bool has_integers;
    bool closes; /* Whether a generic `for` closes its fourth value when it is left. */

    /* What Lua is given to call: ss_lua_call_verb and so on with this table. */
    lua_CFunction call_verb, call_scope, run_build, collect_userdata;
} ss_lua_api;

static inline int ss_lua_upvalue(const ss_lua_api *lua, int i)
{
    return lua->upvalues - i;
}

/* Whether this Lua's numbers hold `value` exactly. Without an integer type that ends at 2^53. */
static inline bool ss_lua_holds(const ss_lua_api *lua, int64_t value)
{
    return lua->has_integers || (value >= -(INT64_C(1) << 53) && value <= INT64_C(1) << 53);
}

/* Looks a function up in a loaded library, as dlsym does. */
typedef void *(*ss_lua_resolver)(void *library, const char *symbol);

/* Fills `functions`, an array of function pointers or a structure of nothing else, with what `resolve` finds for each of
 * `symbols`. Returns the first that is missing, or NULL. */
const char *ss_lua_resolve(void *functions, const char *const *symbols, size_t count, ss_lua_resolver resolve,
                           void *library);

/* The same for the first fields of a table, those of SS_LUA_COMMON. */
const char *ss_lua_resolve_common(ss_lua_api *lua, ss_lua_resolver resolve, void *library);

#endif
