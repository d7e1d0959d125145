/* Template: the C closures that `state` consists of (see lua/lua.h).
 *
 * Each has three upvalues: its ss_lua_verb, the box of the binding, the builder. A script can exchange them at any
 * moment that runs script code, and those are the call of Python, a scope's function, the builder, and every error. So
 * they are looked at anew each time, and nothing that they own is used afterwards but the binding.
 */

#define UPVALUE_VERB SS_UPVALUE(1)
#define UPVALUE_BOX SS_UPVALUE(2)
#define UPVALUE_BUILDER SS_UPVALUE(3)

/* Whether script code could catch an error raised here: whether anything but Lua functions and our own, which rethrow,
 * lies between here and the runtime's caller. What is left are a `__close` and a debug.traceback that a script replaced
 * (lupa's message handler): they see the error go by. */
static bool is_catchable(lua_State *L)
{
    ss_debug debug;
    int top = lua.gettop(L);
    bool catchable = !lua.pushthread(L); /* a coroutine: resume catches */
    for (int level = 0; !catchable && lua.getstack(L, level, &debug); level++) {
        lua.getinfo(L, "f", &debug);
        if (lua.iscfunction(L, -1)) {
            lua_CFunction function = lua.tocfunction(L, -1);
            catchable = function != call_verb && function != call_scope;
        }
        lua.settop(L, top);
    }
    lua.settop(L, top);
    return catchable;
}

/* Carries a KeyboardInterrupt or SystemExit on: to the caller of the runtime as itself if no script code can see it on
 * the way, else as the string "interrupted", and again in Python as soon as the script ends or calls a verb. Ends the
 * use of the binding. */
static _Noreturn void raise_interrupted(lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome)
{
    bool raised = !is_catchable(L) && run_builder(L, binding, outcome, UPVALUE_BUILDER) < 0;
    ss_lua_redeliver(binding);
    ss_lua_binding_release(binding);
    if (raised) {
        raise_top(L);
    }
    raise_text(L, "interrupted");
}

/* What needs the builder: any other result, or an error. Ends the use of the binding. */
static int push_object_outcome(lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome)
{
    bool is_error = outcome->kind == SS_LUA_OUTCOME_ERROR;
    int count = run_builder(L, binding, outcome, UPVALUE_BUILDER);
    ss_lua_outcome_release(outcome);
    ss_lua_binding_release(binding);
    if (!is_error && count >= 0) {
        return count;
    }
    if (lua.type(L, -1) == LUA_TSTRING) {
        raise_here(L);
    }
    raise_top(L);
}

/* The results of a finished call, on the stack. Ends the use of the binding, before anything can raise. */
static int push_outcome(lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome, int kept)
{
    if (outcome->kind == SS_LUA_OUTCOME_INTERRUPTED) {
        raise_interrupted(L, binding, outcome);
    }
    if (outcome->kind >= SS_LUA_OUTCOME_OBJECT) {
        return push_object_outcome(L, binding, outcome);
    }
    ss_lua_binding_release(binding);
    switch (outcome->kind) {
    case SS_LUA_OUTCOME_FALSE:
    case SS_LUA_OUTCOME_TRUE:
        lua.pushboolean(L, outcome->kind == SS_LUA_OUTCOME_TRUE);
        return 1;
    case SS_LUA_OUTCOME_INTEGER:
        if (!holds(outcome->integer)) {
            char message[96];
            snprintf(message, sizeof message, SS_NOT_HELD, outcome->integer);
            raise_text(L, message);
        }
        push_integer(L, outcome->integer);
        return 1;
    case SS_LUA_OUTCOME_NUMBER:
        lua.pushnumber(L, outcome->number);
        return 1;
    case SS_LUA_OUTCOME_SHORT:
        lua.pushlstring(L, outcome->bytes, outcome->length);
        return 1;
    case SS_LUA_OUTCOME_ABSENT:
        if (kept != 0) {
            lua.pushvalue(L, kept);
            return 1;
        }
        break;
    default:
        break;
    }
    lua.pushnil(L);
    return 1;
}

/* Collects the arguments of the running closure. The call then uses the binding, whatever becomes of the upvalues. */
static ss_lua_binding *enter_verb(lua_State *L, arguments *a, ss_lua_value *few)
{
    ss_lua_box *box = checked_userdata(L, UPVALUE_BOX, sizeof *box, SS_LUA_BOX_MAGIC);
    a->L = L;
    a->verb = checked_userdata(L, UPVALUE_VERB, sizeof *a->verb, SS_LUA_VERB_MAGIC);
    if (a->verb == NULL || box == NULL) {
        raise_text(L, "this function no longer belongs to a state");
    }
    a->binding = box->binding;
    collect_arguments(a, few);
    a->binding->uses++;
    return a->binding;
}

static int call_verb(lua_State *L)
{
    arguments a;
    ss_lua_value few[SS_LUA_FEW];
    ss_lua_outcome outcome;
    ss_lua_binding *binding = enter_verb(L, &a, few);
    ss_lua_call(binding, a.verb->callable, a.values, a.count, &outcome);
    return push_outcome(L, binding, &outcome, a.kept <= a.top ? a.kept : 0);
}

/* A verb that runs a Lua function inside something Python entered: a transaction, a lock. Python's `enter` returns
 * (leave, token) or (None, message); the function gets the token, if any, and `leave(failed)` ends it whatever
 * happened. All results pass through, and so does the function's own error value. */
static int call_scope(lua_State *L)
{
    arguments a;
    ss_lua_value few[SS_LUA_FEW];
    ss_lua_outcome outcome;
    void *leave = NULL;
    if (*ss_lua_scopes() >= SS_LUA_SCOPE_DEPTH) {
        raise_text(L, "transactions and locks nest too deeply");
    }
    ss_lua_binding *binding = enter_verb(L, &a, few);
    int base = lua.gettop(L);
    ss_lua_call(binding, a.verb->callable, a.values, a.count, &outcome);
    if (!ss_lua_entered(&outcome, &leave)) {
        return push_outcome(L, binding, &outcome, 0);
    }
    /* From here to ss_lua_leave nothing may jump: these pushes fit the room that collect_arguments made. */
    lua.pushvalue(L, a.kept);
    bool has_token = outcome.kind == SS_LUA_OUTCOME_INTEGER && holds(outcome.integer);
    if (has_token) {
        push_integer(L, outcome.integer);
    }
    ++*ss_lua_scopes();
    bool failed = protected_call(L, has_token ? 1 : 0, LUA_MULTRET) != 0;
    --*ss_lua_scopes();
    ss_lua_leave(binding, leave, failed, &outcome);
    if (outcome.kind == SS_LUA_OUTCOME_INTERRUPTED || (!failed && outcome.kind != SS_LUA_OUTCOME_NIL)) {
        lua.settop(L, base);
        return push_outcome(L, binding, &outcome, 0);
    }
    if (outcome.kind >= SS_LUA_OUTCOME_OBJECT) {
        ss_lua_outcome_release(&outcome); /* the first error is the one to report */
    }
    ss_lua_binding_release(binding);
    if (failed) {
        raise_top(L);
    }
    return lua.gettop(L) - base;
}
