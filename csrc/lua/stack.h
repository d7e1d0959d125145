/* What the files share that touch a lua_State: error.c, registry.c, open.c, verb.c, for phase 1 of a call path.c,
 * arguments.c and encode.c, for phase 3 decode.c. Each is compiled once, for all implementations (see lua/lua.h). */
#ifndef SS_LUA_STACK_H
#define SS_LUA_STACK_H

#include <string.h>

#include "lua/api.h"
#include "base/inline.h"
#include "lua/lua.h"
#include "lua/path.h"

#define SS_NOT_HELD "the integer %" PRId64 " is past 2^53: this Lua cannot hold it exactly"

/* Raises the value at the top. */
_Noreturn void ss_lua_raise_top(const ss_lua_api *lua, lua_State *L);

/* Raises the string at the top, with the position of the innermost Lua code that led here. */
_Noreturn void ss_lua_raise_here(const ss_lua_api *lua, lua_State *L);

/* Raises a text, with that position; without, for what comes by way of lua_pcall. */
_Noreturn void ss_lua_raise_text(const ss_lua_api *lua, lua_State *L, const char *text);
_Noreturn void ss_lua_raise_plain(const ss_lua_api *lua, lua_State *L, const char *text);

/* Their addresses are our keys in the registry of each runtime. Nothing down to ss_lua_note_list runs script code. */
extern char ss_lua_metatable; /* the metatable of our userdata */
extern char ss_lua_lists;     /* a table with weak keys: each is a list, even when it is empty */

void ss_lua_push_registered(const ss_lua_api *lua, lua_State *L, char *key);

/* The userdata at `index` if it is one of ours and alive, else NULL: with the debug library a script can put any value
 * where ours are kept, so neither its size nor its contents are taken for granted. */
static inline void *ss_lua_checked_userdata(const ss_lua_api *lua, lua_State *L, int index, size_t size, uint64_t magic)
{
    if (lua->type(L, index) != LUA_TUSERDATA || lua->rawlen(L, index) != size) {
        return NULL;
    }
    void *userdata = lua->touserdata(L, index);
    uint64_t found = 0;
    memcpy(&found, userdata, sizeof found);
    return found == magic ? userdata : NULL;
}

/* Whether the table at the top is among the notes at index `notes`, which a debug library can reach: they may be
 * anything. Needs a slot. */
bool ss_lua_is_noted_list(const ss_lua_api *lua, lua_State *L, int notes);

/* Adds the table at the top to the notes at index `notes`. Needs 2 slots. */
void ss_lua_note_list(const ss_lua_api *lua, lua_State *L, int notes);

/* Pushes a zeroed userdata with our metatable, so that whatever it comes to own is freed; its magic comes with that.
 * Valid until something runs script code, as this does. */
void *ss_lua_push_owner(const ss_lua_api *lua, lua_State *L, size_t size);

/* Makes a closure of the verb at the top; `box` and `builder` are the stack indices of its other upvalues. */
void ss_lua_push_closure(const ss_lua_api *lua, lua_State *L, lua_CFunction function, int box, int builder);

/* What package.loadlib finds. Arguments: the one-time token that Python registered the parts of the binding under, and
 * the function that raises the pending interruption. Returns the table `state`. */
int ss_lua_build_state(const ss_lua_api *lua, lua_State *L);

/* __gc of both kinds of userdata. */
int ss_lua_collect_userdata(const ss_lua_api *lua, lua_State *L);

typedef struct ss_lua_arguments {
    const ss_lua_api *lua;
    lua_State *L;
    ss_lua_binding *binding;
    const ss_lua_verb *verb;
    int top;     /* the arguments are 1..top */
    int index;   /* of the one being collected */
    int deepest; /* how many levels a table may nest: an item will be inside its list */
    ss_lua_value *values;
    size_t count;
    size_t room;
    int kept; /* stack index of the argument that stays in Lua; 0 without one */
} ss_lua_arguments;

/* Collects what the verb's signature asks for; raises on misuse. Afterwards the stack holds at least the arguments
 * that the signature names. Trailing absent arguments are left out, so Python's defaults apply. `few` has room for
 * SS_LUA_FEW values. The caller sets lua, L, binding and verb. */
void ss_lua_collect_arguments(ss_lua_arguments *a, ss_lua_value *few);

/* Appends the JSON of the table at `index` to binding->text. False: `problem`, of SS_PROBLEM_SIZE bytes, says "path:
 * what"; the path begins with `root`, and goes on with the string key at the stack index `root_key` unless that is 0.
 * Either way the stack is as before. */
bool ss_lua_encode_table(const ss_lua_arguments *a, int index, const char *root, int root_key, char *problem);

/* Calls the builder at index `builder` for an outcome. Returns how many values it left on the stack; -1 with an error
 * value at the top. */
int ss_lua_run_builder(const ss_lua_api *lua, lua_State *L, ss_lua_binding *binding, ss_lua_outcome *outcome,
                       int builder);

/* The builder: a C function that only ever runs through ss_lua_run_builder, whose caller uses the binding. Its upvalues
 * are the box, the function that raises the pending interruption, and the notes of lists. Returns the Lua values of the
 * outcome. */
int ss_lua_run_build(const ss_lua_api *lua, lua_State *L);

/* What a function of `state` does. */
int ss_lua_call_verb(const ss_lua_api *lua, lua_State *L);

/* A verb that runs a Lua function inside something Python entered: a transaction, a lock. Python's `enter` returns
 * (leave, token) or (None, message); the function gets the token, if any, and `leave(failed)` ends it whatever
 * happened. All results pass through, and so does the function's own error value. */
int ss_lua_call_scope(const ss_lua_api *lua, lua_State *L);

#endif
