/* Template: the API table of one Lua implementation (see lua/lua.h).
 *
 * Declared here rather than taken from a lua.h, which does not exist for the Lua inside a lupa module. The including
 * file defines SS_LUA_VERSION (501 to 505; LuaJIT is 501) and SS_LUA_FN(name), which appends the implementation.
 */
#include <limits.h>

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
#define LUA_TTHREAD 8
#define LUA_MULTRET (-1)

#if SS_LUA_VERSION == 501
#define LUA_REGISTRYINDEX (-10000)
#define SS_UPVALUE(i) (-10002 - (i))
#elif SS_LUA_VERSION < 505
/* -LUAI_MAXSTACK - 1000 */
#define LUA_REGISTRYINDEX (-1001000)
#define SS_UPVALUE(i) (LUA_REGISTRYINDEX - (i))
#else
#define LUA_REGISTRYINDEX (-(INT_MAX / 2 + 1000))
#define SS_UPVALUE(i) (LUA_REGISTRYINDEX - (i))
#endif

#if SS_LUA_VERSION >= 503
typedef long long lua_Integer;
typedef intptr_t lua_Context;
typedef int (*lua_Continuation)(lua_State *, int, lua_Context);
#define SS_PUSHED int /* these functions return the type of what they pushed */
#define SS_INDEX lua_Integer
#else
typedef ptrdiff_t lua_Integer;
typedef int lua_Context;
typedef lua_CFunction lua_Continuation;
#define SS_PUSHED void
#define SS_INDEX int
#endif

/* Room for any implementation's lua_Debug, whose layout need not be known to name a level of the stack. */
typedef union ss_debug {
    max_align_t align;
    char room[1024];
} ss_debug;

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
    X(SS_PUSHED, rawget, lua_rawget, (lua_State *, int)) \
    X(SS_PUSHED, rawgeti, lua_rawgeti, (lua_State *, int, SS_INDEX)) \
    X(void, rawset, lua_rawset, (lua_State *, int)) \
    X(void, rawseti, lua_rawseti, (lua_State *, int, SS_INDEX)) \
    X(int, setmetatable, lua_setmetatable, (lua_State *, int)) \
    X(void, concat, lua_concat, (lua_State *, int)) \
    X(int, error, lua_error, (lua_State *)) \
    X(int, getstack, lua_getstack, (lua_State *, int, ss_debug *)) \
    X(int, getinfo, lua_getinfo, (lua_State *, const char *, ss_debug *)) \
    X(void, where, luaL_where, (lua_State *, int))

#if SS_LUA_VERSION == 501
#define SS_LUA_OWN(X) \
    X(void, pushlstring, lua_pushlstring, (lua_State *, const char *, size_t)) \
    X(size_t, rawlen, lua_objlen, (lua_State *, int)) \
    X(double, tonumber, lua_tonumber, (lua_State *, int)) \
    X(void, call, lua_call, (lua_State *, int, int)) \
    X(int, pcall, lua_pcall, (lua_State *, int, int, int)) \
    X(void *, newuserdata, lua_newuserdata, (lua_State *, size_t))
#else
#define SS_LUA_MODERN(X) \
    X(const char *, pushlstring, lua_pushlstring, (lua_State *, const char *, size_t)) \
    X(double, tonumberx, lua_tonumberx, (lua_State *, int, int *)) \
    X(void, callk, lua_callk, (lua_State *, int, int, lua_Context, lua_Continuation)) \
    X(int, pcallk, lua_pcallk, (lua_State *, int, int, int, lua_Context, lua_Continuation))
#if SS_LUA_VERSION >= 504
#define SS_LUA_OWN(X) \
    SS_LUA_MODERN(X) \
    X(unsigned long long, rawlen, lua_rawlen, (lua_State *, int)) \
    X(int, isinteger, lua_isinteger, (lua_State *, int)) \
    X(lua_Integer, tointegerx, lua_tointegerx, (lua_State *, int, int *)) \
    X(void, pushinteger, lua_pushinteger, (lua_State *, lua_Integer)) \
    X(void *, newuserdatauv, lua_newuserdatauv, (lua_State *, size_t, int))
#elif SS_LUA_VERSION == 503
#define SS_LUA_OWN(X) \
    SS_LUA_MODERN(X) \
    X(size_t, rawlen, lua_rawlen, (lua_State *, int)) \
    X(int, isinteger, lua_isinteger, (lua_State *, int)) \
    X(lua_Integer, tointegerx, lua_tointegerx, (lua_State *, int, int *)) \
    X(void, pushinteger, lua_pushinteger, (lua_State *, lua_Integer)) \
    X(void *, newuserdata, lua_newuserdata, (lua_State *, size_t))
#else
#define SS_LUA_OWN(X) \
    SS_LUA_MODERN(X) \
    X(size_t, rawlen, lua_rawlen, (lua_State *, int)) \
    X(void *, newuserdata, lua_newuserdata, (lua_State *, size_t))
#endif
#endif

/* Written by the first attach, before anything of this implementation is called. */
static _Atomic bool is_attached;
static struct {
#define SS_FIELD(result, field, symbol, parameters) result (*field) parameters;
    SS_LUA_COMMON(SS_FIELD)
    SS_LUA_OWN(SS_FIELD)
#undef SS_FIELD
} lua;

const char *SS_LUA_FN(attach)(ss_lua_resolver resolve, void *library)
{
    void *address = NULL;
    if (is_attached) {
        return NULL;
    }
    /* memcpy: C has no conversion from an object pointer to a function pointer. */
#define SS_RESOLVE(result, field, symbol, parameters) \
    address = resolve(library, #symbol); \
    if (address == NULL) { \
        return #symbol; \
    } \
    memcpy(&lua.field, &address, sizeof address);
    SS_LUA_COMMON(SS_RESOLVE)
    SS_LUA_OWN(SS_RESOLVE)
#undef SS_RESOLVE
    is_attached = true;
    return NULL;
}

/* ---- The differences between the versions, in one place ---- */

static double to_number(lua_State *L, int index)
{
#if SS_LUA_VERSION == 501
    return lua.tonumber(L, index);
#else
    return lua.tonumberx(L, index, NULL);
#endif
}

static int protected_call(lua_State *L, int arguments, int results)
{
    /* No continuation, so a coroutine cannot yield across it: Lua raises an error instead. */
#if SS_LUA_VERSION == 501
    return lua.pcall(L, arguments, results, 0);
#else
    return lua.pcallk(L, arguments, results, 0, 0, NULL);
#endif
}

static void plain_call(lua_State *L, int arguments, int results)
{
#if SS_LUA_VERSION == 501
    lua.call(L, arguments, results);
#else
    lua.callk(L, arguments, results, 0, NULL);
#endif
}

static void *new_userdata(lua_State *L, size_t size)
{
#if SS_LUA_VERSION >= 504
    return lua.newuserdatauv(L, size, 0);
#else
    return lua.newuserdata(L, size);
#endif
}

/* Whether this Lua's numbers hold `value` exactly. Without an integer type that ends at 2^53. */
static bool holds(int64_t value)
{
#if SS_LUA_VERSION >= 503
    (void)value;
    return true;
#else
    return value >= -(INT64_C(1) << 53) && value <= INT64_C(1) << 53;
#endif
}

static void push_integer(lua_State *L, int64_t value)
{
#if SS_LUA_VERSION >= 503
    lua.pushinteger(L, value);
#else
    lua.pushnumber(L, (double)value);
#endif
}

/* Whether the number at `index` counts as an integer; stores it. Without an integer type every whole number within
 * 2^53 does, but not -0.0, whose sign an integer would lose. */
static bool to_integer(lua_State *L, int index, int64_t *integer)
{
#if SS_LUA_VERSION >= 503
    if (!lua.isinteger(L, index)) {
        return false;
    }
    *integer = lua.tointegerx(L, index, NULL);
    return true;
#else
    double number = to_number(L, index);
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
