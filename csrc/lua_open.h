/* Template: the entry point that package.loadlib finds, which builds the table `state` (see ss_lua.h). */

#include "ss_export.h"

/* __gc of both kinds of userdata. A script can reach and call it with the debug library only; any argument is fine. */
static int collect_userdata(lua_State *L)
{
    ss_lua_verb *verb = checked_userdata(L, 1, sizeof *verb, SS_LUA_VERB_MAGIC);
    ss_lua_binding *binding = checked_userdata(L, 1, sizeof *binding, SS_LUA_BINDING_MAGIC);
    if (verb != NULL) {
        ss_lua_verb_clear(verb);
    } else if (binding != NULL) {
        ss_lua_binding_clear(binding);
    }
    return 0;
}

static void push_text(lua_State *L, const char *text)
{
    lua.pushlstring(L, text, strlen(text));
}

/* Pushes a zeroed userdata with our metatable, so that whatever it comes to own is freed. */
static void *push_owner(lua_State *L, size_t size, uint64_t magic)
{
    void *owner = new_userdata(L, size);
    memset(owner, 0, size);
    memcpy(owner, &magic, sizeof magic);
    push_registered(L, &userdata_metatable);
    lua.setmetatable(L, -2);
    return owner;
}

/* Pushes the closure of a verb; `binding` and `builder` are the stack indices of its other upvalues. */
static void push_function(lua_State *L, const ss_lua_declared *declared, int binding, int builder)
{
    ss_lua_verb *verb = push_owner(L, sizeof *verb, SS_LUA_VERB_MAGIC);
    ss_lua_verb_fill(verb, declared->name, declared->signature, declared->callable);
    lua.pushvalue(L, binding);
    lua.pushvalue(L, builder);
    lua.pushcclosure(L, declared->is_scope ? call_scope : call_verb, 3);
}

/* Makes sure that the registry holds a table under `key`, leaving one that is there: it may be in use. */
static void register_table(lua_State *L, char *key)
{
    push_registered(L, key);
    if (lua.type(L, -1) == LUA_TNIL) {
        lua.pushlightuserdata(L, key);
        lua.createtable(L, 0, 2);
        lua.rawset(L, LUA_REGISTRYINDEX);
    }
    lua.settop(L, -2);
}

static void prepare_registry(lua_State *L, int raiser)
{
    register_table(L, &list_metatable);
    register_table(L, &userdata_metatable);
    push_registered(L, &userdata_metatable);
    push_text(L, "__gc");
    lua.pushcclosure(L, collect_userdata, 0);
    lua.rawset(L, -3);
    push_text(L, "__metatable");
    lua.pushboolean(L, 0);
    lua.rawset(L, -3);
    lua.settop(L, -2);
    lua.pushlightuserdata(L, &raise_pending);
    lua.pushvalue(L, raiser);
    lua.rawset(L, LUA_REGISTRYINDEX);
}

/* Arguments: the one-time token that Python registered the parts of the binding under, and the function that raises
 * the pending interruption. Returns the table. */
SS_EXPORT int SS_LUA_FN(open)(lua_State *L)
{
    if (lua.gettop == NULL) {
        return 0; /* loaded by hand, before any bind: there is no Lua to call */
    }
    if (lua.gettop(L) != 2 || lua.type(L, 1) != LUA_TSTRING) {
        return raise_text(L, "slothstate: use slothstate.lua.bind");
    }
    lua.checkstack(L, 24);
    prepare_registry(L, 2);
    ss_lua_binding *binding = push_owner(L, sizeof *binding, SS_LUA_BINDING_MAGIC); /* 3 */
    size_t length = 0;
    const char *token = lua.tolstring(L, 1, &length);
    if (!ss_lua_binding_fill(binding, token, length)) {
        return raise_text(L, "slothstate: use slothstate.lua.bind");
    }
    lua.pushvalue(L, 3);
    lua.pushcclosure(L, run_build, 1); /* 4 */
    lua.createtable(L, 0, 32);         /* 5 */
    ss_lua_declared declared;
    for (size_t i = 0; ss_lua_binding_verb(binding, i, &declared); i++) {
        push_text(L, declared.name);
        push_function(L, &declared, 3, 4);
        lua.rawset(L, 5);
    }
    push_text(L, "null");
    lua.pushlightuserdata(L, NULL);
    lua.rawset(L, 5);
    return 1;
}
