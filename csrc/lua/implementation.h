/* Template: the table of one Lua implementation, and what Lua calls (see lua/lua.h).
 *
 * <implementation>.c includes this after defining SS_LUA_VERSION (501 to 505; LuaJIT is 501) and SS_LUA_FN(name), which
 * appends the implementation. Here are the differences between the versions, and nothing else.
 */
#include <limits.h>
#include <math.h>

#include "base/export.h"
#include "lua/stack.h"

#if SS_LUA_VERSION == 501
#define REGISTRY (-10000)
#define UPVALUES (-10002)
#elif SS_LUA_VERSION < 505
#define REGISTRY (-1001000) /* -LUAI_MAXSTACK - 1000 */
#define UPVALUES REGISTRY
#else
#define REGISTRY (-(INT_MAX / 2 + 1000))
#define UPVALUES REGISTRY
#endif

#if SS_LUA_VERSION >= 503
typedef long long lua_Integer;
typedef intptr_t lua_Context;
typedef int (*lua_Continuation)(lua_State *, int, lua_Context);
#define PUSHED int /* these functions return the type of what they pushed */
#define INDEX lua_Integer
#else
typedef int lua_Context;
typedef lua_CFunction lua_Continuation;
#define PUSHED void
#define INDEX int
#endif

/* MODERN is for an argument that the functions of 5.1 do not have. */
#if SS_LUA_VERSION == 501
#define MODERN(argument)
#define VERSIONED(X) \
    X(void, pushlstring, lua_pushlstring, (lua_State *, const char *, size_t)) \
    X(size_t, rawlen, lua_objlen, (lua_State *, int)) \
    X(double, tonumber, lua_tonumber, (lua_State *, int)) \
    X(void, call, lua_call, (lua_State *, int, int)) \
    X(int, pcall, lua_pcall, (lua_State *, int, int, int))
#else
#define MODERN(argument) , argument
#define VERSIONED(X) \
    X(const char *, pushlstring, lua_pushlstring, (lua_State *, const char *, size_t)) \
    X(LENGTH, rawlen, lua_rawlen, (lua_State *, int)) \
    X(double, tonumber, lua_tonumberx, (lua_State *, int, int *)) \
    X(void, call, lua_callk, (lua_State *, int, int, lua_Context, lua_Continuation)) \
    X(int, pcall, lua_pcallk, (lua_State *, int, int, int, lua_Context, lua_Continuation))
#endif

#if SS_LUA_VERSION >= 503
#define INTEGERS(X) \
    X(int, isinteger, lua_isinteger, (lua_State *, int)) \
    X(lua_Integer, tointeger, lua_tointegerx, (lua_State *, int, int *)) \
    X(void, pushinteger, lua_pushinteger, (lua_State *, lua_Integer))
#else
#define INTEGERS(X)
#endif

#if SS_LUA_VERSION >= 504
#define LENGTH unsigned long long
#define USERDATA(X) X(void *, newuserdata, lua_newuserdatauv, (lua_State *, size_t, int))
#else
#define LENGTH size_t
#define USERDATA(X) X(void *, newuserdata, lua_newuserdata, (lua_State *, size_t))
#endif

#define OWN(X) \
    VERSIONED(X) \
    INTEGERS(X) \
    USERDATA(X) \
    X(PUSHED, rawget, lua_rawget, (lua_State *, int)) \
    X(PUSHED, rawgeti, lua_rawgeti, (lua_State *, int, INDEX)) \
    X(void, rawseti, lua_rawseti, (lua_State *, int, INDEX))

/* Written by the first attach, before anything of this implementation is called. */
static _Atomic bool is_attached;
static struct {
    OWN(SS_LUA_FIELD)
} own;
static ss_lua_api lua;

static void pushlstring(lua_State *L, const char *text, size_t length)
{
    own.pushlstring(L, text, length);
}

static void rawget(lua_State *L, int index)
{
    own.rawget(L, index);
}

static void rawgeti(lua_State *L, int index, int64_t at)
{
    own.rawgeti(L, index, (INDEX)at);
}

static void rawseti(lua_State *L, int index, int64_t at)
{
    own.rawseti(L, index, (INDEX)at);
}

static size_t rawlen(lua_State *L, int index)
{
    return (size_t)own.rawlen(L, index);
}

static double tonumber(lua_State *L, int index)
{
    return own.tonumber(L, index MODERN(NULL));
}

static void pushinteger(lua_State *L, int64_t value)
{
#if SS_LUA_VERSION >= 503
    own.pushinteger(L, value);
#else
    lua.pushnumber(L, (double)value);
#endif
}

static bool tointeger(lua_State *L, int index, int64_t *integer)
{
#if SS_LUA_VERSION >= 503
    if (!own.isinteger(L, index)) {
        return false;
    }
    *integer = own.tointeger(L, index, NULL);
    return true;
#else
    double number = tonumber(L, index);
    if (!(number >= -9007199254740992.0 && number <= 9007199254740992.0)) {
        return false;
    }
    int64_t whole = (int64_t)number;
    if ((double)whole != number || (whole == 0 && signbit(number))) {
        return false;
    }
    *integer = whole;
    return true;
#endif
}

static void call(lua_State *L, int arguments, int results)
{
    own.call(L, arguments, results MODERN(0) MODERN(NULL));
}

static int pcall(lua_State *L, int arguments, int results)
{
    return own.pcall(L, arguments, results, 0 MODERN(0) MODERN(NULL));
}

static void *newuserdata(lua_State *L, size_t size)
{
#if SS_LUA_VERSION >= 504
    return own.newuserdata(L, size, 0);
#else
    return own.newuserdata(L, size);
#endif
}

#define CALLED(name) \
    static int name(lua_State *L) \
    { \
        return ss_lua_##name(&lua, L); \
    }
CALLED(call_verb)
CALLED(call_scope)
CALLED(run_build)
CALLED(collect_userdata)

static ss_lua_api lua = {
    .pushlstring = pushlstring,
    .pushinteger = pushinteger,
    .rawget = rawget,
    .rawgeti = rawgeti,
    .rawseti = rawseti,
    .rawlen = rawlen,
    .tonumber = tonumber,
    .tointeger = tointeger,
    .call = call,
    .pcall = pcall,
    .newuserdata = newuserdata,
    .registry = REGISTRY,
    .upvalues = UPVALUES,
    .has_integers = SS_LUA_VERSION >= 503,
    .closes = SS_LUA_VERSION >= 504,
    .call_verb = call_verb,
    .call_scope = call_scope,
    .run_build = run_build,
    .collect_userdata = collect_userdata,
};

/* Loaded by hand, before any bind, there is no Lua to call. */
SS_EXPORT int SS_LUA_FN(open)(lua_State *L)
{
    return is_attached ? ss_lua_build_state(&lua, L) : 0;
}

const char *SS_LUA_FN(attach)(ss_lua_resolver resolve, void *library)
{
#define SYMBOL(result, field, symbol, parameters) #symbol,
    static const char *const symbols[] = {OWN(SYMBOL)};
    if (is_attached) {
        return NULL;
    }
    const char *missing = ss_lua_resolve_common(&lua, resolve, library);
    if (missing == NULL) {
        missing = ss_lua_resolve(&own, symbols, sizeof symbols / sizeof *symbols, resolve, library);
    }
    is_attached = missing == NULL;
    return missing;
}
