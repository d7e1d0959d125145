/* The Lua front end: the extension doubles as a Lua C module that puts State's verbs into a lupa runtime.
 *
 * Each lupa module links its own Lua, so C code that Lua calls must use the lua_* functions of exactly that module.
 * What touches a lua_State (stack.h says which files) is compiled once and calls through a table of these functions
 * (api.h), which ss_lua_attach fills by name. implementation.h, compiled for each Lua by <implementation>.c, holds that
 * table, what differs between the versions, and the C functions that Lua is given to call, which know their table. What
 * touches only Python is in python.c and result.c.
 *
 * Two worlds with two ways to fail meet here, and one rule keeps them apart: a Lua error is a jump, so no Lua function
 * that can raise one is called while a Python reference or the GIL is held, unless inside lua_pcall. A call of a verb
 * goes through phases:
 *   1. without the GIL, the arguments become ss_lua_value structs and JSON text (misuse is a Lua error, at once);
 *   2. ss_lua_call takes the GIL, builds the Python arguments, calls, and sorts what came back into an ss_lua_outcome;
 *   3. small results are plain C data by then and the GIL is released; all others are built inside a protected call.
 *
 * Per bind there is one ss_lua_binding, in C's own memory, and in Lua a ss_lua_box that points to it; each function has
 * a ss_lua_verb, a Lua userdata. Nothing else is mutable but the API tables.
 *
 * Who may run script code, and so pull away whatever a script can reach (the files say it again where it matters):
 *   - A Lua function that allocates an object (pushlstring, createtable, newuserdata, pushcclosure, concat, luaL_where)
 *     may take a step of Lua's collector, which runs finalizers. They can do anything: change a table that is being
 *     read, call verbs, take a closure's upvalues or a C function's stack slots away with the debug library, raise.
 *   - A call runs hooks, and in some versions such a step. Entering Python may run Python's finalizers and signal
 *     handlers, and these any runtime.
 *   - Raw access (next, rawget, rawset, rawseti), pushes of what exists already, checkstack and setmetatable run
 *     nothing: a rehash allocates, but steps no collector. Metamethods never run: only raw access is used.
 * So phase 1 allocates nothing in Lua until it raises, and nothing runs between the first pair of a table and its last;
 * phase 2 makes Python's objects before it calls Python, with Python's collector off; phase 3 reads only what it owns.
 * What a call needs throughout, the binding, no script can reach: the call counts as one of its uses.
 */
#ifndef SS_LUA_H
#define SS_LUA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Fills the API table of `implementation` ("luajit21", "lua54", ...) from the already loaded lupa module at `path`.
 * Idempotent. NULL, or a sentence saying why it cannot be done (valid until the next call in this thread). */
const char *ss_lua_attach(const char *implementation, const char *path);

/* Registers the dict through which Python hands over the parts of a binding to ss_lua_open_*: one-time token (bytes) to
 * a tuple as in ss_lua_binding. Borrowed for ever: the caller keeps `dictionary` alive. */
void ss_lua_handover(void *dictionary);

/* Whether C's stdout, which print and io.write of every Lua in this process share, could not be written at some time
 * since the process began. Lua's print tells nobody. */
bool ss_lua_lost_output(void);

/* Takes the exception out that is the first of the list `pending`, if any: `raise_pending` did not raise it, for
 * lupa to carry to the caller of the runtime as it is. In the main thread, as `is_main_thread` says it, it is raised
 * again at the next bytecode. In the plain binding (slothstate/lua/plain.py) Lua calls this and the next one as built-in
 * functions, in which no interruption can come. */
void ss_lua_redeliver(void *pending, void *is_main_thread);

/* While more calls with 1 than with -1 were made in a thread, what was redelivered to it waits. */
void ss_lua_shield(int change);

#define SS_LUA_SHORT 1024
#define SS_LUA_TEXT_KEPT ((size_t)1 << 20)
#define SS_LUA_NAME_SIZE 24
#define SS_LUA_SIGNATURE_SIZE 16

/* Arguments of one call that live on the C stack; more of them live in the binding. */
#define SS_LUA_FEW 8

/* Transactions and locks in each other: what a thread's small C stack can take. */
#define SS_LUA_SCOPE_DEPTH 100

/* Guards against a script that swaps upvalues with the debug library: any userdata is checked before it is used. */
#define SS_LUA_BOX_MAGIC UINT64_C(0x736c6f7468626e64)
#define SS_LUA_VERB_MAGIC UINT64_C(0x736c6f7468766572)

typedef enum ss_lua_kind {
    SS_LUA_NIL,
    SS_LUA_FALSE,
    SS_LUA_TRUE,
    SS_LUA_INTEGER,
    SS_LUA_NUMBER,
    SS_LUA_STRING, /* text, length: bytes that Lua keeps alive, as nothing of it runs before they are read */
    SS_LUA_TABLE,  /* offset, length: JSON in binding->text */
    SS_LUA_LIST,   /* the same */
    SS_LUA_OPTIONS, /* the same, the last of a call: its fields are keyword arguments */
    SS_LUA_ABSENT  /* stands for a default that stays in Lua */
} ss_lua_kind;

typedef struct ss_lua_value {
    ss_lua_kind kind;
    union {
        int64_t integer;
        double number;
        const char *text;
        size_t offset;
    } as;
    size_t length;
} ss_lua_value;

/* What a call of Python came to. Before SS_LUA_OUTCOME_OBJECT the GIL is released and nothing is held; from
 * SS_LUA_OUTCOME_OBJECT on `object` is owned and the GIL held until ss_lua_outcome_release. */
typedef enum ss_lua_outcome_kind {
    SS_LUA_OUTCOME_NIL,
    SS_LUA_OUTCOME_FALSE,
    SS_LUA_OUTCOME_TRUE,
    SS_LUA_OUTCOME_INTEGER,
    SS_LUA_OUTCOME_NUMBER,
    SS_LUA_OUTCOME_ABSENT,      /* the callable returned the "absent" object: the Lua default is the result */
    SS_LUA_OUTCOME_SHORT,       /* a string of at most SS_LUA_SHORT bytes, in `bytes` */
    SS_LUA_OUTCOME_INTERRUPTED, /* KeyboardInterrupt, SystemExit: see ss_lua_redeliver */
    SS_LUA_OUTCOME_OBJECT,      /* any other result */
    SS_LUA_OUTCOME_ERROR        /* the message, a str */
} ss_lua_outcome_kind;

typedef struct ss_lua_outcome {
    ss_lua_outcome_kind kind;
    int gil; /* PyGILState_STATE */
    void *object;
    int64_t integer;
    double number;
    size_t length;
    char bytes[SS_LUA_SHORT];
} ss_lua_outcome;

typedef struct ss_lua_binding {
    size_t uses;           /* its box, and each call under way; by the one thread that runs this Lua */
    void *parts;           /* the tuple that owns what follows, in this order, down to `verbs` */
    void *encoded;         /* the type values.Encoded */
    void *absent;          /* passed for, and returned as, a default that stays in Lua */
    void *explain;         /* explain(exception) -> str: the message a script sees */
    void *pending;         /* a list: the interruption that `raise_pending` raises */
    void *is_main_thread;  /* is_main_thread() -> bool */
    void *with_options;    /* with_options(callable, *arguments, options): calls it with keywords */
    void *verbs;           /* a tuple of (name, signature, callable, is_scope) */
    ss_buf text;           /* JSON of the arguments of the call being prepared */
    ss_buf many;           /* its ss_lua_values, if they are more than a few */
    void *build;           /* handed to the builder that runs next */
} ss_lua_binding;

/* The userdata through which Lua owns a binding. */
typedef struct ss_lua_box {
    uint64_t magic;
    ss_lua_binding *binding; /* NULL once collected */
} ss_lua_box;

typedef struct ss_lua_verb {
    uint64_t magic;
    void *callable; /* NULL once collected */
    char name[SS_LUA_NAME_SIZE];
    char signature[SS_LUA_SIGNATURE_SIZE];
} ss_lua_verb;

/* A binding, with one use, of the parts that Python handed over under `token`, once; NULL for an unknown token. */
ss_lua_binding *ss_lua_binding_new(const char *token, size_t length);

/* Ends one use of the binding; with the last one it is gone. No Lua error may jump past it. */
void ss_lua_binding_free(ss_lua_binding *binding);
static inline void ss_lua_binding_release(ss_lua_binding *binding)
{
    if (--binding->uses == 0) {
        ss_lua_binding_free(binding);
    }
}

/* Fills a zeroed verb with the `index`th of the binding, as binding.py declares it; false past the last, or if it is
 * not well-formed. */
bool ss_lua_binding_verb(const ss_lua_binding *binding, size_t index, ss_lua_verb *verb, bool *is_scope);

void ss_lua_verb_fill(ss_lua_verb *verb, const char *name, const char *signature, void *callable);

/* Gives up a reference to a Python object, with or without the GIL; NULL is harmless. */
void ss_lua_drop(void **reference);

/* How many scopes this thread has entered and not left, for whoever enters them to count. */
unsigned *ss_lua_scopes(void);

/* Calls `callable` with `count` values and says what came back. Reads the values, and takes binding->text and
 * binding->many, before any Python code runs. */
void ss_lua_call(ss_lua_binding *binding, void *callable, const ss_lua_value *values, size_t count,
                 ss_lua_outcome *outcome);

/* Leaves a scope that Python entered, keeping redelivered interruptions out: leave(failed). Consumes `leave`. */
void ss_lua_leave(ss_lua_binding *binding, void *leave, bool failed, ss_lua_outcome *outcome);

/* What entering a scope returned, (leave, given) or (None, message), taken apart: true, with a reference in *leave, when
 * it was entered. What its function is given is then the outcome: an integer, nothing, or for a tuple an object. */
bool ss_lua_entered(ss_lua_outcome *outcome, void **leave);

/* Ends a call of Python: sorts `result` (stolen; NULL when an exception is set) into `outcome`, and gives the GIL back,
 * as PyGILState_Ensure returned it, unless the outcome needs it. */
void ss_lua_finish(ss_lua_binding *binding, ss_lua_outcome *outcome, void *result, int gil);

void ss_lua_outcome_release(ss_lua_outcome *outcome);

/* A Python result as the builder sees it, with the GIL held; nothing that looks at one raises a Lua error. */
typedef struct ss_lua_item {
    enum {
        SS_LUA_ITEM_NIL,
        SS_LUA_ITEM_BOOLEAN,
        SS_LUA_ITEM_INTEGER,
        SS_LUA_ITEM_NUMBER,
        SS_LUA_ITEM_STRING, /* text, length */
        SS_LUA_ITEM_JSON,   /* text, length */
        SS_LUA_ITEM_TUPLE,  /* length */
        SS_LUA_ITEM_LIST,   /* length */
        SS_LUA_ITEM_DICT,   /* length */
        SS_LUA_ITEM_CALLABLE,
        SS_LUA_ITEM_FOREIGN, /* no Lua value stands for it; text is its type's name */
        SS_LUA_ITEM_TOO_BIG  /* an integer past 64 bits */
    } kind;
    int64_t integer;
    double number;
    const char *text;
    size_t length;
} ss_lua_item;

void ss_lua_inspect(const ss_lua_binding *binding, void *object, ss_lua_item *item);

/* Borrowed: the `index`th item of a tuple or of a snapshot. */
void *ss_lua_sequence_item(void *sequence, size_t index);

/* What a list holds now, or the pairs of what a dict does: a new sequence, which nobody else can change while a builder
 * goes through it. NULL without memory. */
void *ss_lua_snapshot(void *container, size_t *length);

#endif
