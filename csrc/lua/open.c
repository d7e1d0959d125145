/* The entry point that package.loadlib finds, which builds the table `state` (see lua/lua.h). */
#include <string.h>

#include "lua/stack.h"

/* A script can reach and call it with the debug library only; any argument is fine. What was collected has no magic any
 * more, wherever its memory turns up again. */
int ss_lua_collect_userdata(const ss_lua_api *lua, lua_State *L)
{
    ss_lua_verb *verb = ss_lua_checked_userdata(lua, L, 1, sizeof *verb, SS_LUA_VERB_MAGIC);
    ss_lua_box *box = ss_lua_checked_userdata(lua, L, 1, sizeof *box, SS_LUA_BOX_MAGIC);
    if (verb != NULL) {
        verb->magic = 0;
        ss_lua_drop(&verb->callable);
    } else if (box != NULL) {
        box->magic = 0;
        ss_lua_binding_release(box->binding);
    }
    return 0;
}

static void push_text(const ss_lua_api *lua, lua_State *L, const char *text)
{
    lua->pushlstring(L, text, strlen(text));
}

void *ss_lua_push_owner(const ss_lua_api *lua, lua_State *L, size_t size)
{
    void *owner = lua->newuserdata(L, size);
    ss_lua_push_registered(lua, L, &ss_lua_metatable);
    if (lua->touserdata(L, -2) != owner || lua->type(L, -1) != LUA_TTABLE) {
        ss_lua_raise_plain(lua, L, "the script took a part of the state away");
    }
    memset(owner, 0, size);
    lua->setmetatable(L, -2);
    return owner;
}

void ss_lua_push_closure(const ss_lua_api *lua, lua_State *L, lua_CFunction function, int box, int builder)
{
    lua->pushvalue(L, box);
    lua->pushvalue(L, builder);
    lua->pushcclosure(L, function, 3);
}

/* Pushes the table that the registry holds under `key`, a new one unless it is there: it may be in use. */
static void push_registry_table(const ss_lua_api *lua, lua_State *L, char *key)
{
    ss_lua_push_registered(lua, L, key);
    if (lua->type(L, -1) != LUA_TTABLE) {
        lua->settop(L, -2);
        lua->createtable(L, 0, 2);
        lua->pushlightuserdata(L, key);
        lua->pushvalue(L, -2);
        lua->rawset(L, lua->registry);
    }
}

static void need_table(const ss_lua_api *lua, lua_State *L, int index)
{
    if (lua->type(L, index) != LUA_TTABLE) {
        ss_lua_raise_plain(lua, L, "the script took a part of the state away");
    }
}

/* table[name] = value, of the two at the top; pops the value. */
static void set_field(const ss_lua_api *lua, lua_State *L, const char *name)
{
    push_text(lua, L, name);
    lua->pushvalue(L, -2);
    need_table(lua, L, -4);
    lua->rawset(L, -4);
    lua->settop(L, -2);
}

static void prepare_registry(const ss_lua_api *lua, lua_State *L)
{
    int top = lua->gettop(L);
    push_registry_table(lua, L, &ss_lua_metatable);
    lua->pushcclosure(L, lua->collect_userdata, 0);
    set_field(lua, L, "__gc");
    /* Of the iterator that a generic `for` is left with, in a Lua that closes it. */
    lua->pushcclosure(L, lua->collect_userdata, 0);
    set_field(lua, L, "__close");
    lua->pushboolean(L, 0);
    set_field(lua, L, "__metatable");
    push_registry_table(lua, L, &ss_lua_lists);
    lua->createtable(L, 0, 1);
    push_text(lua, L, "k");
    set_field(lua, L, "__mode");
    need_table(lua, L, -1);
    need_table(lua, L, -2);
    lua->setmetatable(L, -2);
    lua->settop(L, top);
}

enum { SLOT_TOKEN = 1, SLOT_RAISER, SLOT_BOX, SLOT_BUILDER_MADE, SLOT_STATE, SLOT_META };

/* Adds the `index`th function of the binding to the table `state`, or to its metatable if it begins with "__". False
 * past the last. */
static bool add_function(const ss_lua_api *lua, lua_State *L, size_t index)
{
    bool is_scope = false;
    char name[SS_LUA_NAME_SIZE];
    ss_lua_verb *verb = ss_lua_push_owner(lua, L, sizeof *verb);
    const ss_lua_box *box = ss_lua_checked_userdata(lua, L, SLOT_BOX, sizeof *box, SS_LUA_BOX_MAGIC);
    if (box == NULL || !ss_lua_binding_verb(box->binding, index, verb, &is_scope)) {
        return false;
    }
    memcpy(name, verb->name, sizeof name);
    ss_lua_push_closure(lua, L, is_scope ? lua->call_scope : lua->call_verb, SLOT_BOX, SLOT_BUILDER_MADE);
    lua->pushvalue(L, strncmp(name, "__", 2) == 0 ? SLOT_META : SLOT_STATE);
    lua->pushvalue(L, -2);
    set_field(lua, L, name);
    lua->settop(L, SLOT_META);
    return true;
}

/* A bind allocates, so a script's finalizers may run throughout: what they took away is an error, and Lua owns every part
 * at once. */
int ss_lua_build_state(const ss_lua_api *lua, lua_State *L)
{
    if (lua->gettop(L) != 2 || lua->type(L, SLOT_TOKEN) != LUA_TSTRING || !lua->checkstack(L, 24)) {
        ss_lua_raise_text(lua, L, "slothstate: use slothstate.lua.bind");
    }
    prepare_registry(lua, L);
    ss_lua_box *box = ss_lua_push_owner(lua, L, sizeof *box);
    size_t length = 0;
    const char *token = lua->type(L, SLOT_TOKEN) == LUA_TSTRING ? lua->tolstring(L, SLOT_TOKEN, &length) : "";
    box->binding = ss_lua_binding_new(token, length);
    if (box->binding == NULL) {
        ss_lua_raise_text(lua, L, "slothstate: use slothstate.lua.bind");
    }
    box->magic = SS_LUA_BOX_MAGIC;
    lua->pushvalue(L, SLOT_BOX);
    lua->pushvalue(L, SLOT_RAISER);
    ss_lua_push_registered(lua, L, &ss_lua_lists);
    lua->pushcclosure(L, lua->run_build, 3);
    lua->createtable(L, 0, 64);
    lua->createtable(L, 0, 2);
    for (size_t i = 0; add_function(lua, L, i); i++) {
    }
    lua->settop(L, SLOT_META);
    lua->pushboolean(L, 0);
    set_field(lua, L, "__metatable");
    need_table(lua, L, SLOT_STATE);
    lua->setmetatable(L, SLOT_STATE);
    lua->pushlightuserdata(L, NULL);
    set_field(lua, L, "null");
    return 1;
}
