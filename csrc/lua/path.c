#include "lua/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json/json.h"

#define KEY_SHOWN 48

static void add(ss_path *path, const char *text, size_t length)
{
    static const char cut[] = "...";
    if (path->is_cut) {
        return;
    }
    if (path->length + length + sizeof cut > SS_PROBLEM_SIZE / 2) {
        path->is_cut = true;
        memcpy(path->text + path->length, cut, sizeof cut);
        path->length += sizeof cut - 1;
        return;
    }
    memcpy(path->text + path->length, text, length);
    path->length += length;
    path->text[path->length] = '\0';
}

static bool is_letter(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static bool is_identifier(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)name[i];
        if (!is_letter(byte) && !(i > 0 && byte >= '0' && byte <= '9')) {
            return false;
        }
    }
    return length > 0 && length <= KEY_SHOWN;
}

void ss_path_key(ss_path *path, int key)
{
    char shown[KEY_SHOWN + 8];
    size_t length = 0;
    const char *name = path->lua->tolstring(path->L, key, &length);
    if (is_identifier(name, length)) {
        shown[0] = '.';
        memcpy(shown + 1, name, length);
        add(path, shown, length + 1);
        return;
    }
    size_t kept = length < KEY_SHOWN ? length : KEY_SHOWN;
    while (kept < length && kept > 0 && ((uint8_t)name[kept] & 0xC0) == 0x80) {
        kept--; /* not in the middle of a character */
    }
    bool is_text = ss_utf8_valid((const uint8_t *)name, kept);
    size_t used = 0;
    shown[used++] = '[';
    shown[used++] = '"';
    for (size_t i = 0; i < kept; i++) {
        uint8_t byte = (uint8_t)name[i];
        bool is_plain = byte >= 0x20 && byte != 0x7F && (byte < 0x80 || is_text);
        shown[used++] = is_plain ? name[i] : '?';
    }
    if (kept < length) {
        shown[used++] = '.';
        shown[used++] = '.';
    }
    shown[used++] = '"';
    shown[used++] = ']';
    add(path, shown, used);
}

void ss_path_begin(ss_path *path, const ss_lua_api *lua, lua_State *L, char *problem, const char *root, int key)
{
    *path = (ss_path){.lua = lua, .L = L, .text = problem};
    add(path, root, strlen(root));
    if (key != 0) {
        ss_path_key(path, key);
    }
}

void ss_path_index(ss_path *path, int64_t index)
{
    char shown[32];
    int length = snprintf(shown, sizeof shown, "[%" PRId64 "]", index);
    add(path, shown, (size_t)length);
}

void ss_path_end(ss_path *path, const char *what)
{
    snprintf(path->text + path->length, SS_PROBLEM_SIZE - path->length, ": %s", what);
}
