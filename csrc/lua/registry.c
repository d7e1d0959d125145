/* What we keep in a runtime: its registry holds the metatable of our userdata and the notes of lists.
 *
 * An empty Lua table says nothing about what it was. Every list that the store gave a script, or took from one, is
 * noted, for as long as it lives: emptied, it goes back as a list. The notes are a table of the registry, not a
 * metatable: a script finds nothing on its lists that it could see, or change for the lists of others.
 *
 * None of this runs script code.
 */
#include "lua/stack.h"

char ss_lua_metatable;
char ss_lua_lists;

void ss_lua_push_registered(const ss_lua_api *lua, lua_State *L, char *key)
{
    lua->pushlightuserdata(L, key);
    lua->rawget(L, lua->registry);
}

bool ss_lua_is_noted_list(const ss_lua_api *lua, lua_State *L, int notes)
{
    if (lua->type(L, notes) != LUA_TTABLE) {
        return false;
    }
    lua->pushvalue(L, -1);
    lua->rawget(L, notes);
    bool noted = lua->type(L, -1) != LUA_TNIL;
    lua->settop(L, -2);
    return noted;
}

void ss_lua_note_list(const ss_lua_api *lua, lua_State *L, int notes)
{
    if (lua->type(L, notes) == LUA_TTABLE) {
        lua->pushvalue(L, -1);
        lua->pushboolean(L, 1);
        lua->rawset(L, notes);
    }
}
