#define SS_LUA_VERSION 504
#define SS_LUA_FN(name) ss_lua_##name##_lua54
#include "lua/implementation.h"
