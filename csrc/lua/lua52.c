#define SS_LUA_VERSION 502
#define SS_LUA_FN(name) ss_lua_##name##_lua52
#include "lua/implementation.h"
