/* Finding the Lua inside a lupa module that is loaded already: the only code here that knows the dynamic loader. */
#include <stdio.h>
#include <string.h>

#include "lua/api.h"
#include "lua/lua.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
static void *open_loaded(const char *path)
{
    return GetModuleHandleA(path);
}
static void close_loaded(void *library)
{
    (void)library;
}
static void *find(void *library, const char *symbol)
{
    void *address = NULL;
    FARPROC function = GetProcAddress(library, symbol);
    memcpy(&address, &function, sizeof address);
    return address;
}
#else
#include <dlfcn.h>
static void *open_loaded(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_NOLOAD);
}
static void close_loaded(void *library)
{
    dlclose(library); /* the module itself stays: Python never unloads one */
}
static void *find(void *library, const char *symbol)
{
    return dlsym(library, symbol);
}
#endif

#define IMPLEMENTATIONS(X) X(luajit20) X(luajit21) X(lua51) X(lua52) X(lua53) X(lua54) X(lua55)

#define DECLARE(name) const char *ss_lua_attach_##name(ss_lua_resolver resolve, void *library);
IMPLEMENTATIONS(DECLARE)

#define ROW(name) {#name, ss_lua_attach_##name},
static const struct {
    const char *name;
    const char *(*attach)(ss_lua_resolver resolve, void *library);
} implementations[] = {IMPLEMENTATIONS(ROW)};

const char *ss_lua_resolve(void *functions, const char *const *symbols, size_t count, ss_lua_resolver resolve,
                           void *library)
{
    char *place = functions;
    for (size_t i = 0; i < count; i++) {
        void *address = resolve(library, symbols[i]);
        if (address == NULL) {
            return symbols[i];
        }
        /* memcpy: C has no conversion from an object pointer to a function pointer. */
        memcpy(place + i * sizeof address, &address, sizeof address);
    }
    return NULL;
}

const char *ss_lua_resolve_common(ss_lua_api *lua, ss_lua_resolver resolve, void *library)
{
#define SYMBOL(result, field, symbol, parameters) #symbol,
    static const char *const symbols[] = {SS_LUA_COMMON(SYMBOL)};
    return ss_lua_resolve(lua, symbols, sizeof symbols / sizeof *symbols, resolve, library);
}

bool ss_lua_lost_output(void)
{
    return ferror(stdout) != 0;
}

const char *ss_lua_attach(const char *implementation, const char *path)
{
    static _Thread_local char problem[160];
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++) {
        if (strcmp(implementations[i].name, implementation) != 0) {
            continue;
        }
        void *library = open_loaded(path);
        if (library == NULL) {
            return "the lupa module is not a loaded library";
        }
        const char *missing = implementations[i].attach(find, library);
        close_loaded(library);
        if (missing == NULL) {
            return NULL;
        }
        snprintf(problem, sizeof problem, "the lupa module does not export %s", missing);
        return problem;
    }
    snprintf(problem, sizeof problem, "the Lua implementation %.40s is not supported", implementation);
    return problem;
}
