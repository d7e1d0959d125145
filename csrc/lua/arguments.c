/* The arguments of a verb, checked and collected before Python is entered (see lua/lua.h).
 *
 * A signature is a string of letters, one an argument:
 *   u  a string of valid UTF-8           v i w o  a value; its name in messages is value, item, new, old
 *   s  a string of any bytes                      (o and w may be nil)
 *   n  a number                          k  a table, handed over as JSON: a list of keys
 *   a  anything: it stays in Lua         m  a table of string keys, handed over as key, value, key, value ...
 *   f  a function: it stays in Lua       p  a string or a table, handed over as JSON: a path
 *   q  the same: a key or a list of them  t  a table of options, the last argument: keyword arguments of Python
 *   d  a value of a field; it and i will be inside a table, so either may be state.null
 *   |  what follows may be absent or nil
 *   *  any number of items, to the end   .  whatever else is given is ignored
 * Further arguments are an error, nil among them. Nothing is coerced: a number is no string, "10" no number.
 *
 * None of this runs script code, until it raises: nothing here allocates in Lua but a message. So what was read from a
 * table or string is still true when ss_lua_call makes Python's objects of it.
 */
#include <stdio.h>
#include <string.h>

#include "json/json.h"
#include "lua/stack.h"

static _Noreturn void argument_error(const ss_lua_arguments *a, int index, const char *what)
{
    char message[SS_PROBLEM_SIZE + SS_LUA_NAME_SIZE + 64];
    if (strcmp(a->verb->name, "__index") == 0) {
        snprintf(message, sizeof message, "state has only verbs: expected the name of one, got %s",
                 a->lua->type_name(a->L, a->top < 2 ? LUA_TNONE : a->lua->type(a->L, 2)));
    } else {
        snprintf(message, sizeof message, "bad argument #%d to '%s' (%s)", index, a->verb->name, what);
    }
    ss_buf_free(&a->binding->text); /* a verb that failed keeps no memory */
    ss_buf_free(&a->binding->many);
    ss_lua_raise_text(a->lua, a->L, message);
}

static int type_at(const ss_lua_arguments *a, int index)
{
    return index > a->top ? LUA_TNONE : a->lua->type(a->L, index);
}

static _Noreturn void type_error(const ss_lua_arguments *a, int index, const char *expected)
{
    char what[96];
    int type = type_at(a, index);
    snprintf(what, sizeof what, "%s expected, got %s", expected, a->lua->type_name(a->L, type));
    argument_error(a, index, what);
}

/* Raises unless the argument, which is of the given type, is of the one that is needed. */
static void need(const ss_lua_arguments *a, int index, int type, int needed)
{
    if (type != needed) {
        type_error(a, index, a->lua->type_name(a->L, needed));
    }
}

/* Makes more room: values past a few live in the binding. */
SS_NO_INLINE static void more_room(ss_lua_arguments *a)
{
    ss_buf *many = &a->binding->many;
    size_t used = a->count * sizeof *a->values;
    ss_status status = SS_OK;
    if (a->room == SS_LUA_FEW) {
        many->length = 0;
        status = ss_buf_append(many, a->values, used);
    }
    many->length = used;
    if (status != SS_OK || ss_buf_reserve(many, used) != SS_OK) {
        argument_error(a, a->index, "too many values for one call");
    }
    a->values = (ss_lua_value *)(void *)many->data;
    a->room = many->capacity / sizeof *a->values;
}

static ss_lua_value *add_value(ss_lua_arguments *a, ss_lua_kind kind)
{
    if (a->count == a->room) {
        more_room(a);
    }
    ss_lua_value *value = &a->values[a->count++];
    value->kind = kind;
    return value;
}

static void add_string(ss_lua_arguments *a, int index)
{
    ss_lua_value *value = add_value(a, SS_LUA_STRING);
    value->as.text = a->lua->tolstring(a->L, index, &value->length);
}

static void add_utf8(ss_lua_arguments *a, int index)
{
    size_t length = 0;
    const char *text = a->lua->tolstring(a->L, index, &length);
    if (!ss_utf8_valid((const uint8_t *)text, length)) {
        argument_error(a, index, "valid UTF-8 expected");
    }
    add_string(a, index);
}

static void add_number(ss_lua_arguments *a, int index)
{
    ss_lua_value *value = add_value(a, SS_LUA_INTEGER);
    if (!a->lua->tointeger(a->L, index, &value->as.integer)) {
        value->kind = SS_LUA_NUMBER;
        value->as.number = a->lua->tonumber(a->L, index);
    }
}

/* Adds the table at `index` as JSON. `argument` is the one to blame; root and root_key as of ss_lua_encode_table. */
static void add_table(ss_lua_arguments *a, int argument, int index, const char *root, int root_key)
{
    char problem[SS_PROBLEM_SIZE];
    const ss_buf *text = &a->binding->text;
    size_t offset = text->length;
    if (!ss_lua_encode_table(a, index, root, root_key, problem)) {
        argument_error(a, argument, problem);
    }
    ss_lua_value *value = add_value(a, text->data[offset] == '[' ? SS_LUA_LIST : SS_LUA_TABLE);
    value->as.offset = offset;
    value->length = text->length - offset;
}

static bool is_null(const ss_lua_arguments *a, int index, int type)
{
    return type == LUA_TLIGHTUSERDATA && a->lua->touserdata(a->L, index) == NULL;
}

/* Adds the value of the given type at `index`; the other parameters as for add_table. */
static void add_any(ss_lua_arguments *a, int argument, int index, int type, const char *root, int root_key)
{
    switch (type) {
    case LUA_TSTRING: add_string(a, index); return;
    case LUA_TNUMBER: add_number(a, index); return;
    case LUA_TBOOLEAN: add_value(a, a->lua->toboolean(a->L, index) ? SS_LUA_TRUE : SS_LUA_FALSE); return;
    case LUA_TTABLE: add_table(a, argument, index, root, root_key); return;
    case LUA_TNONE:
    case LUA_TNIL: type_error(a, argument, "value");
    default: break;
    }
    char problem[SS_PROBLEM_SIZE];
    ss_path path;
    ss_path_begin(&path, a->lua, a->L, problem, root, root_key);
    if (is_null(a, index, type)) {
        ss_path_end(&path, "state.null can only be inside a table");
    } else {
        char what[64];
        snprintf(what, sizeof what, "a %s cannot be stored", a->lua->type_name(a->L, type));
        ss_path_end(&path, what);
    }
    argument_error(a, argument, problem);
}

static void add_mapping(ss_lua_arguments *a, int index)
{
    const ss_lua_api *lua = a->lua;
    lua_State *L = a->L;
    lua->pushnil(L);
    int key = lua->gettop(L);
    while (lua->next(L, index)) {
        if (lua->type(L, key) != LUA_TSTRING) {
            argument_error(a, index, "values: every key must be a string");
        }
        size_t length = 0;
        const char *text = lua->tolstring(L, key, &length);
        if (!ss_utf8_valid((const uint8_t *)text, length)) {
            argument_error(a, index, "values: a key must be valid UTF-8");
        }
        add_string(a, key);
        add_any(a, index, key + 1, lua->type(L, key + 1), "values", key);
        lua->settop(L, key);
    }
}

static void add_argument(ss_lua_arguments *a, char letter, int index)
{
    int type = type_at(a, index);
    a->deepest = letter == 'i' ? SS_JSON_MAX_DEPTH - 1 : SS_JSON_MAX_DEPTH;
    switch (letter) {
    case 'u':
        need(a, index, type, LUA_TSTRING);
        add_utf8(a, index);
        return;
    case 's':
        need(a, index, type, LUA_TSTRING);
        add_string(a, index);
        return;
    case 'n':
        need(a, index, type, LUA_TNUMBER);
        add_number(a, index);
        return;
    case 'k':
        need(a, index, type, LUA_TTABLE);
        add_table(a, index, index, "keys", 0);
        return;
    case 'm':
        need(a, index, type, LUA_TTABLE);
        add_mapping(a, index);
        return;
    case 'a':
        a->kept = index;
        add_value(a, SS_LUA_ABSENT);
        return;
    case 'f':
        need(a, index, type, LUA_TFUNCTION);
        a->kept = index;
        return;
    case 'p':
    case 'q':
        if (type == LUA_TSTRING) {
            add_utf8(a, index);
        } else if (type == LUA_TTABLE) {
            add_table(a, index, index, letter == 'p' ? "path" : "key", 0);
        } else {
            type_error(a, index, "string or table");
        }
        return;
    case 't':
        need(a, index, type, LUA_TTABLE);
        add_table(a, index, index, "options", 0);
        a->values[a->count - 1].kind = SS_LUA_OPTIONS;
        return;
    case 'o':
    case 'w':
        if (type == LUA_TNIL) {
            add_value(a, SS_LUA_NIL);
            return;
        }
        add_any(a, index, index, type, letter == 'w' ? "new" : "old", 0);
        return;
    case 'i':
    case 'd':
        if (is_null(a, index, type)) {
            add_value(a, SS_LUA_NIL);
            return;
        }
        add_any(a, index, index, type, letter == 'i' ? "item" : "value", 0);
        return;
    default: add_any(a, index, index, type, "value", 0); return;
    }
}

void ss_lua_collect_arguments(ss_lua_arguments *a, ss_lua_value *few)
{
    bool optional = false;
    bool is_open = false;
    size_t present = 0;
    a->top = a->lua->gettop(a->L);
    a->index = 0;
    a->values = few;
    a->count = 0;
    a->room = SS_LUA_FEW;
    a->kept = 0;
    a->binding->text.length = 0;
    if (!a->lua->checkstack(a->L, 16)) {
        ss_lua_raise_text(a->lua, a->L, "this Lua's stack is full");
    }
    for (const char *letter = a->verb->signature; *letter != '\0'; letter++) {
        if (*letter == '|') {
            optional = true;
            continue;
        }
        if (*letter == '*') {
            while (a->index < a->top) {
                a->index++;
                add_argument(a, 'i', a->index);
            }
            present = a->count;
            continue;
        }
        if (*letter == '.') {
            is_open = true;
            continue;
        }
        a->index++;
        if (optional && *letter != 'a' && type_at(a, a->index) <= LUA_TNIL) {
            add_value(a, SS_LUA_NIL);
        } else {
            add_argument(a, *letter, a->index);
            present = a->count;
        }
    }
    if (a->index < a->top && !is_open) {
        type_error(a, a->index + 1, "no value");
    }
    a->count = present;
}
