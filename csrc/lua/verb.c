/* The C closures that `state` consists of (see lua/lua.h).
 *
 * Each has three upvalues: its ss_lua_verb, the box of the binding, the builder. A script can exchange them at any
 * moment that runs script code, and those are the call of Python, a scope's function, the builder, and every error. So
 * they are looked at anew each time, and nothing that they own is used afterwards but the binding.
 */
#include <inttypes.h>
#include <stdio.h>

#include "lua/stack.h"

/* The upvalues of each. */
enum { VERB = 1, BOX, BUILDER };

/* Whether script code could catch an error raised here: whether anything but Lua functions and our own, which rethrow,
 * lies between here and the runtime's caller. What is left are a `__close` and a debug.traceback that a script replaced
 * (lupa's message handler): they see the error go by. */
static bool is_catchable(const ss_lua_api *lua, lua_State *L)
{
    ss_debug debug;
    int top = lua->gettop(L);
    bool catchable = !lua->pushthread(L); /* a coroutine: resume catches */
    for (int level = 0; !catchable && lua->getstack(L, level, &debug); level++) {
        lua->getinfo(L, "f", &debug);
        if (lua->iscfunction(L, -1)) {
            lua_CFunction function = lua->tocfunction(L, -1);
            catchable = function != lua->call_verb && function != lua->call_scope;
        }
        lua->settop(L, top);
    }
    lua->settop(L, top);
    return catchable;
}

/* Carries a KeyboardInterrupt or SystemExit on: to the caller of the runtime as itself if no script code can see it on
 * the way, else as the string "interrupted", and again in Python as soon as the script ends or calls a verb. Ends the
 * use of the binding. */
static _Noreturn void raise_interrupted(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding,
                                        ss_lua_outcome *outcome)
{
    bool raised =
        !is_catchable(lua, L) && ss_lua_run_builder(lua, L, binding, outcome, ss_lua_upvalue(lua, BUILDER)) < 0;
    ss_lua_redeliver(binding->pending, binding->is_main_thread);
    ss_lua_binding_release(binding);
    if (raised) {
        ss_lua_raise_top(lua, L);
    }
    ss_lua_raise_text(lua, L, "interrupted");
}

/* What needs the builder: any other result, or an error. Ends the use of the binding. */
static int push_object_outcome(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome)
{
    bool is_error = outcome->kind == SS_LUA_OUTCOME_ERROR;
    int count = ss_lua_run_builder(lua, L, binding, outcome, ss_lua_upvalue(lua, BUILDER));
    ss_lua_outcome_release(outcome);
    ss_lua_binding_release(binding);
    if (!is_error && count >= 0) {
        return count;
    }
    if (lua->type(L, -1) == LUA_TSTRING) {
        ss_lua_raise_here(lua, L);
    }
    ss_lua_raise_top(lua, L);
}

/* The results of a finished call, on the stack. Ends the use of the binding, before anything can raise. */
static int push_outcome(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome, int kept)
{
    if (outcome->kind == SS_LUA_OUTCOME_INTERRUPTED) {
        raise_interrupted(lua, L, binding, outcome);
    }
    if (outcome->kind >= SS_LUA_OUTCOME_OBJECT) {
        return push_object_outcome(lua, L, binding, outcome);
    }
    ss_lua_binding_release(binding);
    switch (outcome->kind) {
    case SS_LUA_OUTCOME_FALSE:
    case SS_LUA_OUTCOME_TRUE: lua->pushboolean(L, outcome->kind == SS_LUA_OUTCOME_TRUE); return 1;
    case SS_LUA_OUTCOME_INTEGER:
        if (!ss_lua_holds(lua, outcome->integer)) {
            char message[96];
            snprintf(message, sizeof message, SS_NOT_HELD, outcome->integer);
            ss_lua_raise_text(lua, L, message);
        }
        lua->pushinteger(L, outcome->integer);
        return 1;
    case SS_LUA_OUTCOME_NUMBER: lua->pushnumber(L, outcome->number); return 1;
    case SS_LUA_OUTCOME_SHORT: lua->pushlstring(L, outcome->bytes, outcome->length); return 1;
    case SS_LUA_OUTCOME_ABSENT:
        if (kept != 0) {
            lua->pushvalue(L, kept);
            return 1;
        }
        break;
    default: break;
    }
    lua->pushnil(L);
    return 1;
}

/* Collects the arguments of the running closure. The call then uses the binding, whatever becomes of the upvalues. */
static ss_lua_binding *enter_verb(const ss_lua_api *lua, lua_State *L, ss_lua_arguments *a, ss_lua_value *few)
{
    ss_lua_box *box = ss_lua_checked_userdata(lua, L, ss_lua_upvalue(lua, BOX), sizeof *box, SS_LUA_BOX_MAGIC);
    a->lua = lua;
    a->L = L;
    a->verb = ss_lua_checked_userdata(lua, L, ss_lua_upvalue(lua, VERB), sizeof *a->verb, SS_LUA_VERB_MAGIC);
    if (a->verb == NULL || box == NULL) {
        ss_lua_raise_text(lua, L, "this function no longer belongs to a state");
    }
    a->binding = box->binding;
    ss_lua_collect_arguments(a, few);
    a->binding->uses++;
    return a->binding;
}

int ss_lua_call_verb(const ss_lua_api *lua, lua_State *L)
{
    ss_lua_arguments a;
    ss_lua_value few[SS_LUA_FEW];
    ss_lua_outcome outcome;
    ss_lua_binding *binding = enter_verb(lua, L, &a, few);
    ss_lua_call(binding, a.verb->callable, a.values, a.count, &outcome);
    return push_outcome(lua, L, binding, &outcome, a.kept <= a.top ? a.kept : 0);
}

int ss_lua_call_scope(const ss_lua_api *lua, lua_State *L)
{
    ss_lua_arguments a;
    ss_lua_value few[SS_LUA_FEW];
    ss_lua_outcome outcome;
    void *leave = NULL;
    if (*ss_lua_scopes() >= SS_LUA_SCOPE_DEPTH) {
        ss_lua_raise_text(lua, L, "transactions and locks nest too deeply");
    }
    ss_lua_binding *binding = enter_verb(lua, L, &a, few);
    int base = lua->gettop(L);
    ss_lua_call(binding, a.verb->callable, a.values, a.count, &outcome);
    if (!ss_lua_entered(&outcome, &leave)) {
        return push_outcome(lua, L, binding, &outcome, 0);
    }
    /* From here to ss_lua_leave nothing may jump: these pushes fit the room that ss_lua_collect_arguments made. */
    lua->pushvalue(L, a.kept);
    int given = 0;
    if (outcome.kind == SS_LUA_OUTCOME_OBJECT) {
        given = ss_lua_run_builder(lua, L, binding, &outcome, ss_lua_upvalue(lua, BUILDER));
        ss_lua_outcome_release(&outcome);
    } else if (outcome.kind == SS_LUA_OUTCOME_INTEGER && ss_lua_holds(lua, outcome.integer)) {
        lua->pushinteger(L, outcome.integer);
        given = 1;
    }
    ++*ss_lua_scopes();
    /* What this Lua cannot hold is an error of the function that was to get it. */
    bool failed = given < 0 || lua->pcall(L, given, LUA_MULTRET) != 0;
    --*ss_lua_scopes();
    ss_lua_leave(binding, leave, failed, &outcome);
    if (outcome.kind == SS_LUA_OUTCOME_INTERRUPTED || (!failed && outcome.kind != SS_LUA_OUTCOME_NIL)) {
        lua->settop(L, base);
        return push_outcome(lua, L, binding, &outcome, 0);
    }
    if (outcome.kind >= SS_LUA_OUTCOME_OBJECT) {
        ss_lua_outcome_release(&outcome); /* the first error is the one to report */
    }
    ss_lua_binding_release(binding);
    if (given < 0 && lua->type(L, -1) == LUA_TSTRING) {
        ss_lua_raise_here(lua, L);
    }
    if (failed) {
        ss_lua_raise_top(lua, L);
    }
    return lua->gettop(L) - base;
}
