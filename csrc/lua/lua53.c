#define SS_LUA_VERSION 503
#define SS_LUA_FN(name) ss_lua_##name##_lua53
#include "lua/implementation.h"
