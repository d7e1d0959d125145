#define SS_LUA_VERSION 501
#define SS_LUA_FN(name) ss_lua_##name##_luajit20
#include "lua/implementation.h"
