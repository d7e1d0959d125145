#define SS_LUA_VERSION 501
#define SS_LUA_FN(name) ss_lua_##name##_lua51
#include "lua/implementation.h"
