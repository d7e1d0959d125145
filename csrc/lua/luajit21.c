#define SS_LUA_VERSION 501
#define SS_LUA_FN(name) ss_lua_##name##_luajit21
#include "lua/implementation.h"
