/* Template: Lua values from Python results and JSON text (see ss_lua.h).
 *
 * All of this runs inside lua_pcall, so it may raise: whatever is owned belongs to the caller of lua_pcall, and the
 * messages carry no position yet.
 */

/* What a builder works on; lives in the C frame that called lua_pcall. */
typedef struct build {
    ss_lua_outcome *outcome;
    ss_json_reader reader;
} build;

static int build_error(lua_State *L, const char *message)
{
    lua.pushlstring(L, message, strlen(message));
    return lua.error(L);
}

static void need_stack(lua_State *L, int slots)
{
    if (!lua.checkstack(L, slots)) {
        build_error(L, "the result does not fit this Lua's stack");
    }
}

/* Pushes an integer, or raises if this Lua would make another number of it. */
static void push_exact(lua_State *L, int64_t integer)
{
    if (!holds(integer)) {
        char message[96];
        snprintf(message, sizeof message, SS_NOT_HELD, integer);
        build_error(L, message);
    }
    push_integer(L, integer);
}

static void push_registered(lua_State *L, char *key)
{
    lua.pushlightuserdata(L, key);
    lua.rawget(L, LUA_REGISTRYINDEX);
}

/* Whether the table at `index` came from an empty stored list: by its raw metatable, so no script code runs. */
static bool is_marked_list(lua_State *L, int index)
{
    if (!lua.getmetatable(L, index)) {
        return false;
    }
    push_registered(L, &list_metatable);
    bool marked = lua.rawequal(L, -1, -2) != 0;
    lua.settop(L, -3);
    return marked;
}

static void mark_list(lua_State *L)
{
    push_registered(L, &list_metatable);
    lua.setmetatable(L, -2);
}

/* Pushes the value of one JSON document. */
static void push_json(lua_State *L, ss_json_reader *reader, const char *text, size_t length)
{
    int64_t items[SS_JSON_MAX_DEPTH]; /* of each open array; -1 for an object */
    int depth = 0;
    ss_json_reader_init(reader, (const uint8_t *)text, length);
    for (;;) {
        ss_json_token token = ss_json_next(reader);
        switch (token) {
        case SS_JSON_KEY:
            lua.pushlstring(L, (const char *)reader->text, reader->text_length);
            continue;
        case SS_JSON_STRING:
            lua.pushlstring(L, (const char *)reader->text, reader->text_length);
            break;
        case SS_JSON_INTEGER:
            push_exact(L, reader->integer);
            break;
        case SS_JSON_DOUBLE:
            lua.pushnumber(L, reader->number);
            break;
        case SS_JSON_TRUE:
        case SS_JSON_FALSE:
            lua.pushboolean(L, token == SS_JSON_TRUE);
            break;
        case SS_JSON_NULL:
            lua.pushlightuserdata(L, NULL);
            break;
        case SS_JSON_ARRAY_BEGIN:
        case SS_JSON_OBJECT_BEGIN:
            need_stack(L, 8);
            items[depth++] = token == SS_JSON_ARRAY_BEGIN ? 0 : -1;
            lua.createtable(L, 0, token == SS_JSON_ARRAY_BEGIN ? 0 : SS_EXPECTED_FIELDS);
            continue;
        case SS_JSON_ARRAY_END:
            if (items[--depth] == 0) {
                mark_list(L);
            }
            break;
        case SS_JSON_OBJECT_END:
            depth--;
            break;
        case SS_JSON_END:
            ss_json_reader_free(reader);
            return;
        default:
            build_error(L, "a stored table is damaged");
        }
        if (depth > 0) {
            if (items[depth - 1] >= 0) {
                lua.rawseti(L, -2, (SS_INDEX)++items[depth - 1]);
            } else {
                lua.rawset(L, -3);
            }
        }
    }
}

static void push_function(lua_State *L, const ss_lua_declared *declared, int binding, int builder);

/* Pushes what stands for a Python object; the builder itself is at stack index 1. */
static void push_object(lua_State *L, ss_lua_binding *binding, build *work, void *object, int depth)
{
    ss_lua_item item;
    ss_lua_inspect(binding, object, &item);
    need_stack(L, 8);
    switch (item.kind) {
    case SS_LUA_ITEM_NIL:
        lua.pushnil(L);
        return;
    case SS_LUA_ITEM_BOOLEAN:
        lua.pushboolean(L, item.integer != 0);
        return;
    case SS_LUA_ITEM_INTEGER:
        push_exact(L, item.integer);
        return;
    case SS_LUA_ITEM_NUMBER:
        lua.pushnumber(L, item.number);
        return;
    case SS_LUA_ITEM_STRING:
        lua.pushlstring(L, item.text, item.length);
        return;
    case SS_LUA_ITEM_JSON:
        push_json(L, &work->reader, item.text, item.length);
        return;
    case SS_LUA_ITEM_CALLABLE: {
        ss_lua_declared iterator = {.name = "iterator", .signature = "", .callable = object};
        push_function(L, &iterator, SS_UPVALUE(1), 1);
        return;
    }
    case SS_LUA_ITEM_TOO_BIG:
        build_error(L, "the result is an integer past 64 bits");
        return;
    case SS_LUA_ITEM_FOREIGN: {
        char message[128];
        snprintf(message, sizeof message, "no Lua value stands for a Python %.60s", item.text);
        build_error(L, message);
        return;
    }
    default:
        break;
    }
    if (depth == SS_RESULT_DEPTH) {
        build_error(L, "the result is nested too deeply");
    }
    if (item.kind == SS_LUA_ITEM_DICT) {
        ptrdiff_t position = 0;
        void *key = NULL;
        void *value = NULL;
        lua.createtable(L, 0, (int)item.length);
        while (ss_lua_dict_next(object, &position, &key, &value)) {
            push_object(L, binding, work, key, depth + 1);
            push_object(L, binding, work, value, depth + 1);
            lua.rawset(L, -3);
        }
        return;
    }
    lua.createtable(L, (int)item.length, 0);
    for (size_t i = 0; i < item.length; i++) {
        push_object(L, binding, work, ss_lua_sequence_item(object, i), depth + 1);
        lua.rawseti(L, -2, (SS_INDEX)(i + 1));
    }
    if (item.length == 0) {
        mark_list(L);
    }
}

/* The builder: a C function that only ever runs through build_results. Returns the Lua values of the outcome. */
static int run_build(lua_State *L)
{
    ss_lua_binding *binding = checked_userdata(L, SS_UPVALUE(1), sizeof *binding, SS_LUA_BINDING_MAGIC);
    build *work = binding == NULL ? NULL : binding->build;
    if (work == NULL) {
        return 0; /* a script got hold of it through the debug library */
    }
    binding->build = NULL;
    void *object = work->outcome->object;
    ss_lua_item item;
    ss_lua_inspect(binding, object, &item);
    if (item.kind != SS_LUA_ITEM_TUPLE) {
        push_object(L, binding, work, object, 0);
        return 1;
    }
    need_stack(L, (int)item.length + 8);
    for (size_t i = 0; i < item.length; i++) {
        push_object(L, binding, work, ss_lua_sequence_item(object, i), 1);
    }
    return (int)item.length;
}

/* Turns an outcome that holds an object into Lua values on the stack, and releases it. Returns how many; -1 with an
 * error value at the top. `builder` is the stack index of the builder. */
static int build_results(lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome, int builder)
{
    build work;
    memset(&work, 0, sizeof work);
    work.outcome = outcome;
    int top = lua.gettop(L);
    /* Saved and restored: a debug hook may run a script, and with it other verbs, between here and run_build. */
    void *outer = binding->build;
    binding->build = &work;
    lua.pushvalue(L, builder);
    lua.pushvalue(L, builder);
    int failed = protected_call(L, 1, LUA_MULTRET);
    binding->build = outer;
    ss_json_reader_free(&work.reader);
    ss_lua_outcome_release(outcome);
    return failed ? -1 : lua.gettop(L) - top;
}
