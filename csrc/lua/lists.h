/* Template: which tables are lists although they may be empty (see lua/lua.h).
 *
 * An empty Lua table says nothing about what it was. Every list that the store gave a script, or took from one, is
 * noted, for as long as it lives: emptied, it goes back as a list. The notes are a table of the registry, not a
 * metatable: a script finds nothing on its lists that it could see, or change for the lists of others.
 *
 * None of this runs script code.
 */

/* Whether the table at the top is among the notes at index `notes`, which a debug library can reach: they may be
 * anything. Needs a slot. */
static bool is_noted_list(lua_State *L, int notes)
{
    if (lua.type(L, notes) != LUA_TTABLE) {
        return false;
    }
    lua.pushvalue(L, -1);
    lua.rawget(L, notes);
    bool noted = lua.type(L, -1) != LUA_TNIL;
    lua.settop(L, -2);
    return noted;
}

/* Adds the table at the top to the notes at index `notes`. Needs 2 slots. */
static void note_list(lua_State *L, int notes)
{
    if (lua.type(L, notes) == LUA_TTABLE) {
        lua.pushvalue(L, -1);
        lua.pushboolean(L, 1);
        lua.rawset(L, notes);
    }
}
