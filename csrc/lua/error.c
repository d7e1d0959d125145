/* Errors raised in Lua. Each runs script code: what was read from Lua before is gone. */
#include <string.h>

#include "lua/stack.h"

/* How the names of our own chunks begin (slothstate/lua/host). */
#define OURS "slothstate:"

_Noreturn void ss_lua_raise_top(const ss_lua_api *lua, lua_State *L)
{
    for (;;) {
        lua->error(L); /* never returns, which its type does not say */
    }
}

_Noreturn void ss_lua_raise_here(const ss_lua_api *lua, lua_State *L)
{
    ss_debug debug;
    int message = lua->gettop(L);
    bool has_room = lua->checkstack(L, 8) != 0;
    for (int level = 1; has_room && lua->getstack(L, level, &debug); level++) {
        size_t length = 0;
        lua->where(L, level);
        const char *text = lua->tolstring(L, -1, &length);
        /* Lua code of ours, between the script and Python, is no place in the script. */
        if (length > 0 && strncmp(text, OURS, sizeof OURS - 1) != 0) {
            lua->pushvalue(L, message);
            lua->concat(L, 2);
            ss_lua_raise_top(lua, L);
        }
        lua->settop(L, message);
    }
    ss_lua_raise_top(lua, L);
}

_Noreturn void ss_lua_raise_text(const ss_lua_api *lua, lua_State *L, const char *text)
{
    lua->pushlstring(L, text, strlen(text)); /* a C function has a slot left for its error */
    ss_lua_raise_here(lua, L);
}

_Noreturn void ss_lua_raise_plain(const ss_lua_api *lua, lua_State *L, const char *text)
{
    lua->pushlstring(L, text, strlen(text));
    ss_lua_raise_top(lua, L);
}
