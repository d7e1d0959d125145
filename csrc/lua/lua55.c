#define SS_LUA_VERSION 505
#define SS_LUA_FN(name) ss_lua_##name##_lua55
#include "lua/implementation.h"
