/* Template: the Lua front end for one Lua implementation (see lua/lua.h).
 *
 * ss_lua_<implementation>.c includes this after defining SS_LUA_VERSION and SS_LUA_FN.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json/json.h"
#include "lua/lua.h"
#include "lua/path.h"

#define SS_PROBLEM_SIZE 640
#define SS_RESULT_DEPTH 8     /* of Python lists and dicts that verbs return; tables travel as JSON */
#define SS_EXPECTED_FIELDS 4  /* room made in a new table, which spares small ones most of the rehashing */
#define SS_NOT_HELD "the integer %" PRId64 " is past 2^53: this Lua cannot hold it exactly"

#ifdef __GNUC__
#define SS_NO_INLINE __attribute__((noinline))
#else
#define SS_NO_INLINE
#endif

/* Their addresses are this implementation's keys in the registry of each runtime. */
static char userdata_metatable;
static char lists; /* a table with weak keys: each is a list, even when it is empty */

#include "lua/api.h"

static int call_verb(lua_State *L);
static int call_scope(lua_State *L);

/* Raises the value at the top. */
static _Noreturn void raise_top(lua_State *L)
{
    for (;;) {
        lua.error(L); /* never returns, which its type does not say */
    }
}

static void push_registered(lua_State *L, char *key)
{
    lua.pushlightuserdata(L, key);
    lua.rawget(L, LUA_REGISTRYINDEX);
}

/* The userdata at `index` if it is one of ours and alive, else NULL: with the debug library a script can put any value
 * where ours are kept, so neither its size nor its contents are taken for granted. Runs no script code. */
static void *checked_userdata(lua_State *L, int index, size_t size, uint64_t magic)
{
    if (lua.type(L, index) != LUA_TUSERDATA || lua.rawlen(L, index) != size) {
        return NULL;
    }
    void *userdata = lua.touserdata(L, index);
    uint64_t found = 0;
    memcpy(&found, userdata, sizeof found);
    return found == magic ? userdata : NULL;
}

#include "lua/lists.h"
#include "lua/decode.h"
#include "lua/encode.h"
#include "lua/arguments.h"
#include "lua/verb.h"
#include "lua/open.h"
