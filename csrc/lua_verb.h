/* Template: the C closures that `state` consists of (see ss_lua.h).
 *
 * Each has three upvalues: its ss_lua_verb, the runtime's ss_lua_binding, the builder.
 */

#define UPVALUE_VERB SS_UPVALUE(1)
#define UPVALUE_BINDING SS_UPVALUE(2)
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
 * the way, else as the string "interrupted", and again in Python as soon as the script ends or calls a verb. */
static int raise_interrupted(lua_State *L, ss_lua_binding *binding)
{
    bool catchable = is_catchable(L);
    if (!ss_lua_interrupt(binding, catchable)) {
        push_registered(L, &raise_pending);
        plain_call(L, 0, 0);
    }
    return raise_text(L, "interrupted");
}

/* The results of a finished call, on the stack. */
static int push_outcome(lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome, int kept)
{
    switch (outcome->kind) {
    case SS_LUA_OUTCOME_NIL:
        lua.pushnil(L);
        return 1;
    case SS_LUA_OUTCOME_FALSE:
    case SS_LUA_OUTCOME_TRUE:
        lua.pushboolean(L, outcome->kind == SS_LUA_OUTCOME_TRUE);
        return 1;
    case SS_LUA_OUTCOME_INTEGER:
        if (!holds(outcome->integer)) {
            char message[96];
            snprintf(message, sizeof message, SS_NOT_HELD, outcome->integer);
            return raise_text(L, message);
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
        if (kept == 0) {
            lua.pushnil(L);
        } else {
            lua.pushvalue(L, kept);
        }
        return 1;
    case SS_LUA_OUTCOME_INTERRUPTED:
        return raise_interrupted(L, binding);
    default:
        break;
    }
    bool is_error = outcome->kind == SS_LUA_OUTCOME_ERROR;
    int count = build_results(L, binding, outcome, UPVALUE_BUILDER);
    if (is_error || count < 0) {
        return lua.type(L, -1) == LUA_TSTRING ? raise_here(L) : lua.error(L);
    }
    return count;
}

/* Collects the arguments of the running closure. Returns its binding, which is left on the stack. */
static ss_lua_binding *enter_verb(lua_State *L, arguments *a, ss_lua_value *few)
{
    a->L = L;
    a->verb = checked_userdata(L, UPVALUE_VERB, sizeof *a->verb, SS_LUA_VERB_MAGIC);
    a->binding = checked_userdata(L, UPVALUE_BINDING, sizeof *a->binding, SS_LUA_BINDING_MAGIC);
    if (a->verb == NULL || a->binding == NULL || a->verb->callable == NULL || a->binding->encoded == NULL) {
        raise_text(L, "this function no longer belongs to a state");
    }
    collect_arguments(a, few);
    lua.pushvalue(L, UPVALUE_BINDING); /* stays alive, even if a script takes the upvalue away meanwhile */
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
    ss_lua_binding *binding = enter_verb(L, &a, few);
    int base = lua.gettop(L);
    if (binding->scopes >= SS_SCOPE_DEPTH) {
        return raise_text(L, "transactions and locks nest too deeply");
    }
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
    binding->scopes++;
    bool failed = protected_call(L, has_token ? 1 : 0, LUA_MULTRET) != 0;
    binding->scopes--;
    ss_lua_leave(binding, leave, failed, &outcome);
    if (outcome.kind == SS_LUA_OUTCOME_INTERRUPTED) {
        lua.settop(L, base);
        return raise_interrupted(L, binding);
    }
    if (failed) {
        if (outcome.kind >= SS_LUA_OUTCOME_OBJECT) {
            ss_lua_outcome_release(&outcome); /* the first error is the one to report */
        }
        return lua.error(L);
    }
    if (outcome.kind != SS_LUA_OUTCOME_NIL) {
        lua.settop(L, base);
        return push_outcome(L, binding, &outcome, 0);
    }
    return lua.gettop(L) - base;
}
