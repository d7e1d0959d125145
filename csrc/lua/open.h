/* Template: the entry point that package.loadlib finds, which builds the table `state` (see lua/lua.h). */

#include "base/export.h"

/* __gc of both kinds of userdata. A script can reach and call it with the debug library only; any argument is fine. What
 * was collected has no magic any more, wherever its memory turns up again. */
static int collect_userdata(lua_State *L)
{
    ss_lua_verb *verb = checked_userdata(L, 1, sizeof *verb, SS_LUA_VERB_MAGIC);
    ss_lua_box *box = checked_userdata(L, 1, sizeof *box, SS_LUA_BOX_MAGIC);
    if (verb != NULL) {
        verb->magic = 0;
        ss_lua_drop(&verb->callable);
    } else if (box != NULL) {
        box->magic = 0;
        ss_lua_binding_release(box->binding);
    }
    return 0;
}

static void push_text(lua_State *L, const char *text)
{
    lua.pushlstring(L, text, strlen(text));
}

/* Pushes a zeroed userdata with our metatable, so that whatever it comes to own is freed; its magic comes with that.
 * Valid until something runs script code. */
static void *push_owner(lua_State *L, size_t size)
{
    void *owner = new_userdata(L, size);
    push_registered(L, &userdata_metatable);
    if (lua.touserdata(L, -2) != owner || lua.type(L, -1) != LUA_TTABLE) {
        build_error(L, "the script took a part of the state away");
    }
    memset(owner, 0, size);
    lua.setmetatable(L, -2);
    return owner;
}

/* Makes a closure of the verb at the top; `box` and `builder` are the stack indices of its other upvalues. */
static void push_closure(lua_State *L, lua_CFunction function, int box, int builder)
{
    lua.pushvalue(L, box);
    lua.pushvalue(L, builder);
    lua.pushcclosure(L, function, 3);
}

/* Pushes the table that the registry holds under `key`, a new one unless it is there: it may be in use. */
static void push_registry_table(lua_State *L, char *key)
{
    push_registered(L, key);
    if (lua.type(L, -1) != LUA_TTABLE) {
        lua.settop(L, -2);
        lua.createtable(L, 0, 2);
        lua.pushlightuserdata(L, key);
        lua.pushvalue(L, -2);
        lua.rawset(L, LUA_REGISTRYINDEX);
    }
}

static void need_table(lua_State *L, int index)
{
    if (lua.type(L, index) != LUA_TTABLE) {
        build_error(L, "the script took a part of the state away");
    }
}

/* table[name] = value, of the two at the top; pops the value. */
static void set_field(lua_State *L, const char *name)
{
    push_text(L, name);
    lua.pushvalue(L, -2);
    need_table(L, -4);
    lua.rawset(L, -4);
    lua.settop(L, -2);
}

static void prepare_registry(lua_State *L)
{
    int top = lua.gettop(L);
    push_registry_table(L, &userdata_metatable);
    lua.pushcclosure(L, collect_userdata, 0);
    set_field(L, "__gc");
    lua.pushboolean(L, 0);
    set_field(L, "__metatable");
    push_registry_table(L, &lists);
    lua.createtable(L, 0, 1);
    push_text(L, "k");
    set_field(L, "__mode");
    need_table(L, -1);
    need_table(L, -2);
    lua.setmetatable(L, -2);
    lua.settop(L, top);
}

enum { SLOT_TOKEN = 1, SLOT_RAISER, SLOT_BOX, SLOT_BUILDER_MADE, SLOT_STATE, SLOT_META };

/* Adds the `index`th function of the binding to the table `state`, or to its metatable if it begins with "__". False
 * past the last. */
static bool add_function(lua_State *L, size_t index)
{
    bool is_scope = false;
    char name[SS_LUA_NAME_SIZE];
    ss_lua_verb *verb = push_owner(L, sizeof *verb);
    const ss_lua_box *box = checked_userdata(L, SLOT_BOX, sizeof *box, SS_LUA_BOX_MAGIC);
    if (box == NULL || !ss_lua_binding_verb(box->binding, index, verb, &is_scope)) {
        return false;
    }
    memcpy(name, verb->name, sizeof name);
    push_closure(L, is_scope ? call_scope : call_verb, SLOT_BOX, SLOT_BUILDER_MADE);
    lua.pushvalue(L, strncmp(name, "__", 2) == 0 ? SLOT_META : SLOT_STATE);
    lua.pushvalue(L, -2);
    set_field(L, name);
    lua.settop(L, SLOT_META);
    return true;
}

/* Arguments: the one-time token that Python registered the parts of the binding under, and the function that raises
 * the pending interruption. Returns the table. A bind allocates, so a script's finalizers may run throughout: what they
 * took away is an error, and Lua owns every part at once. */
SS_EXPORT int SS_LUA_FN(open)(lua_State *L)
{
    if (!is_attached) {
        return 0; /* loaded by hand, before any bind: there is no Lua to call */
    }
    if (lua.gettop(L) != 2 || lua.type(L, SLOT_TOKEN) != LUA_TSTRING || !lua.checkstack(L, 24)) {
        raise_text(L, "slothstate: use slothstate.lua.bind");
    }
    prepare_registry(L);
    ss_lua_box *box = push_owner(L, sizeof *box);
    size_t length = 0;
    const char *token = lua.type(L, SLOT_TOKEN) == LUA_TSTRING ? lua.tolstring(L, SLOT_TOKEN, &length) : "";
    box->binding = ss_lua_binding_new(token, length);
    if (box->binding == NULL) {
        raise_text(L, "slothstate: use slothstate.lua.bind");
    }
    box->magic = SS_LUA_BOX_MAGIC;
    lua.pushvalue(L, SLOT_BOX);
    lua.pushvalue(L, SLOT_RAISER);
    push_registered(L, &lists);
    lua.pushcclosure(L, run_build, 3);
    lua.createtable(L, 0, 40);
    lua.createtable(L, 0, 2);
    for (size_t i = 0; add_function(L, i); i++) {
    }
    lua.settop(L, SLOT_META);
    lua.pushboolean(L, 0);
    set_field(L, "__metatable");
    need_table(L, SLOT_STATE);
    lua.setmetatable(L, SLOT_STATE);
    lua.pushlightuserdata(L, NULL);
    set_field(L, "null");
    return 1;
}
