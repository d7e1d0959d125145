/* Lua values from Python results and JSON text (see lua/lua.h).
 *
 * All of this runs inside lua_pcall, so it may raise: whatever is owned belongs to the caller of lua_pcall, and the
 * messages carry no position yet.
 *
 * Each new string, table and closure may run a script's finalizers, and through them any Python code. So the text being
 * read belongs to an immutable object that the build owns, and a Python list or dict is gone through by a snapshot of
 * its own. Not looked at again is the table being filled, which is nowhere but on the stack: a finalizer that writes
 * with debug.setlocal into the slots of a running C function crashes Lua's own library likewise (table.sort).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json/json.h"
#include "lua/stack.h"

#define RESULT_DEPTH 8    /* of Python lists and dicts that verbs return; tables travel as JSON */
#define EXPECTED_FIELDS 4 /* room made in a new table, which spares small ones most of the rehashing */

/* The upvalues of the builder. */
enum { BOX = 1, RAISER, LISTS };

/* What a builder works on; lives in the C frame that called lua_pcall, which frees it. */
typedef struct build {
    ss_lua_outcome *outcome;
    ss_json_reader reader;
    void *snapshots[RESULT_DEPTH]; /* of the Python lists and dicts being gone through */
} build;

static void need_stack(const ss_lua_api *lua, lua_State *L, int slots)
{
    if (!lua->checkstack(L, slots)) {
        ss_lua_raise_plain(lua, L, "the result does not fit this Lua's stack");
    }
}

/* Pushes an integer, or raises if this Lua would make another number of it. */
static void push_exact(const ss_lua_api *lua, lua_State *L, int64_t integer)
{
    if (!ss_lua_holds(lua, integer)) {
        char message[96];
        snprintf(message, sizeof message, SS_NOT_HELD, integer);
        ss_lua_raise_plain(lua, L, message);
    }
    lua->pushinteger(L, integer);
}

/* Pushes the value of one JSON document. */
static void push_json(const ss_lua_api *lua, lua_State *L, ss_json_reader *reader, const char *text, size_t length)
{
    int64_t items[SS_JSON_MAX_DEPTH]; /* of each open array; -1 for an object */
    int depth = 0;
    ss_json_reader_init(reader, (const uint8_t *)text, length);
    for (;;) {
        ss_json_token token = ss_json_next(reader);
        switch (token) {
        case SS_JSON_KEY: lua->pushlstring(L, (const char *)reader->text, reader->text_length); continue;
        case SS_JSON_STRING: lua->pushlstring(L, (const char *)reader->text, reader->text_length); break;
        case SS_JSON_INTEGER: push_exact(lua, L, reader->integer); break;
        case SS_JSON_DOUBLE: lua->pushnumber(L, reader->number); break;
        case SS_JSON_TRUE:
        case SS_JSON_FALSE: lua->pushboolean(L, token == SS_JSON_TRUE); break;
        case SS_JSON_NULL: lua->pushlightuserdata(L, NULL); break;
        case SS_JSON_ARRAY_BEGIN:
        case SS_JSON_OBJECT_BEGIN:
            need_stack(lua, L, 8);
            items[depth++] = token == SS_JSON_ARRAY_BEGIN ? 0 : -1;
            lua->createtable(L, 0, token == SS_JSON_ARRAY_BEGIN ? 0 : EXPECTED_FIELDS);
            continue;
        case SS_JSON_ARRAY_END:
            depth--;
            ss_lua_note_list(lua, L, ss_lua_upvalue(lua, LISTS));
            break;
        case SS_JSON_OBJECT_END: depth--; break;
        case SS_JSON_END: ss_json_reader_free(reader); return;
        default: ss_lua_raise_plain(lua, L, "a stored table is damaged");
        }
        if (depth > 0) {
            if (items[depth - 1] >= 0) {
                lua->rawseti(L, -2, ++items[depth - 1]);
            } else {
                lua->rawset(L, -3);
            }
        }
    }
}

static void push_object(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, build *work, void *object,
                        int depth);

/* Pushes the table of a Python list, or tuple, or dict, of this many entries. */
static void push_container(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, build *work, void *container,
                           const ss_lua_item *item, int depth)
{
    size_t length = item->length;
    void *entries = container;
    if (depth == RESULT_DEPTH) {
        ss_lua_raise_plain(lua, L, "the result is nested too deeply");
    }
    if (item->kind != SS_LUA_ITEM_TUPLE) {
        entries = work->snapshots[depth] = ss_lua_snapshot(container, &length);
        if (entries == NULL) {
            ss_lua_raise_plain(lua, L, "not enough memory");
        }
    }
    bool is_dict = item->kind == SS_LUA_ITEM_DICT;
    lua->createtable(L, is_dict ? 0 : (int)length, is_dict ? (int)length : 0);
    for (size_t i = 0; i < length; i++) {
        void *entry = ss_lua_sequence_item(entries, i);
        if (is_dict) {
            push_object(lua, L, binding, work, ss_lua_sequence_item(entry, 0), depth + 1);
            push_object(lua, L, binding, work, ss_lua_sequence_item(entry, 1), depth + 1);
            lua->rawset(L, -3);
        } else {
            push_object(lua, L, binding, work, entry, depth + 1);
            lua->rawseti(L, -2, (int64_t)(i + 1));
        }
    }
    if (!is_dict) {
        ss_lua_note_list(lua, L, ss_lua_upvalue(lua, LISTS));
    }
    ss_lua_drop(&work->snapshots[depth]);
}

/* Pushes what stands for a Python object, which something that the build owns keeps alive. */
static void push_object(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, build *work, void *object,
                        int depth)
{
    ss_lua_item item;
    ss_lua_inspect(binding, object, &item);
    need_stack(lua, L, 8);
    switch (item.kind) {
    case SS_LUA_ITEM_NIL: lua->pushnil(L); return;
    case SS_LUA_ITEM_BOOLEAN: lua->pushboolean(L, item.integer != 0); return;
    case SS_LUA_ITEM_INTEGER: push_exact(lua, L, item.integer); return;
    case SS_LUA_ITEM_NUMBER: lua->pushnumber(L, item.number); return;
    case SS_LUA_ITEM_STRING: lua->pushlstring(L, item.text, item.length); return;
    case SS_LUA_ITEM_JSON: push_json(lua, L, &work->reader, item.text, item.length); return;
    case SS_LUA_ITEM_CALLABLE:
        /* A generic `for` gives its iterator two arguments. */
        ss_lua_verb_fill(ss_lua_push_owner(lua, L, sizeof(ss_lua_verb)), "iterator", ".", object);
        ss_lua_push_closure(lua, L, lua->call_verb, ss_lua_upvalue(lua, BOX), 1); /* the builder itself is at index 1 */
        return;
    case SS_LUA_ITEM_TOO_BIG: ss_lua_raise_plain(lua, L, "the result is an integer past 64 bits");
    case SS_LUA_ITEM_FOREIGN: {
        char message[128];
        snprintf(message, sizeof message, "no Lua value stands for a Python %.60s", item.text);
        ss_lua_raise_plain(lua, L, message);
    }
    default: push_container(lua, L, binding, work, object, &item, depth);
    }
}

/* The four values of a generic `for`: the iterator, no state, no first value, and what the loop closes when it is left,
 * which lets go of the iterator's callable. */
static int push_closing_iterator(const ss_lua_api *lua, lua_State *L, void *object)
{
    need_stack(lua, L, 8);
    ss_lua_verb_fill(ss_lua_push_owner(lua, L, sizeof(ss_lua_verb)), "iterator", ".", object);
    int verb = lua->gettop(L);
    lua->pushvalue(L, verb);
    ss_lua_push_closure(lua, L, lua->call_verb, ss_lua_upvalue(lua, BOX), 1);
    lua->pushnil(L);
    lua->pushnil(L);
    lua->pushvalue(L, verb);
    return 4;
}

int ss_lua_run_build(const ss_lua_api *lua, lua_State *L)
{
    ss_lua_box *box = ss_lua_checked_userdata(lua, L, ss_lua_upvalue(lua, BOX), sizeof *box, SS_LUA_BOX_MAGIC);
    ss_lua_binding *binding = box == NULL ? NULL : box->binding;
    build *work = binding == NULL ? NULL : binding->build;
    if (work == NULL) {
        return 0; /* a script got hold of it through the debug library */
    }
    binding->build = NULL;
    if (work->outcome->kind == SS_LUA_OUTCOME_INTERRUPTED) {
        lua->pushvalue(L, ss_lua_upvalue(lua, RAISER));
        lua->call(L, 0, 0);
        return 0;
    }
    void *object = work->outcome->object;
    ss_lua_item item;
    ss_lua_inspect(binding, object, &item);
    if (item.kind == SS_LUA_ITEM_CALLABLE && lua->closes) {
        return push_closing_iterator(lua, L, object);
    }
    if (item.kind != SS_LUA_ITEM_TUPLE) {
        push_object(lua, L, binding, work, object, 0);
        return 1;
    }
    need_stack(lua, L, (int)item.length + 8);
    for (size_t i = 0; i < item.length; i++) {
        push_object(lua, L, binding, work, ss_lua_sequence_item(object, i), 1);
    }
    return (int)item.length;
}

int ss_lua_run_builder(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome,
                       int builder)
{
    build work;
    memset(&work, 0, sizeof work);
    work.outcome = outcome;
    int top = lua->gettop(L);
    /* Saved and restored: a debug hook may run a script, and with it other verbs, between here and run_build. */
    void *outer = binding->build;
    binding->build = &work;
    lua->pushvalue(L, builder);
    lua->pushvalue(L, builder);
    int failed = lua->pcall(L, 1, LUA_MULTRET);
    binding->build = outer;
    ss_json_reader_free(&work.reader);
    for (int depth = 0; depth < RESULT_DEPTH; depth++) {
        if (work.snapshots[depth] != NULL) {
            ss_lua_drop(&work.snapshots[depth]);
        }
    }
    return failed ? -1 : lua->gettop(L) - top;
}
