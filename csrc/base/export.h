/* What others look up in this library by name: Lua (package.loadlib) and SQLite (sqlite3_load_extension). */
#ifndef SS_BASE_EXPORT_H
#define SS_BASE_EXPORT_H

#ifdef _WIN32
#define SS_EXPORT __declspec(dllexport)
#else
#define SS_EXPORT __attribute__((visibility("default")))
#endif

#endif
