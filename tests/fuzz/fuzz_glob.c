/* The matcher on an arbitrary pattern and key (the input up to its first NUL, and the rest).
 *
 * It stays inside both, whatever the bytes; of well-formed text its answer is that of a table filled in naively.
 */
#include <string.h>

#include "fuzz.h"
#include "glob/glob.h"

#define TABLE_MAX 256

/* Reads a character at `at`, which must be well-formed, and moves past it. */
static uint32_t take(const uint8_t *text, size_t *at)
{
    uint32_t lead = text[(*at)++];
    if (lead < 0x80) {
        return lead;
    }
    unsigned more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    uint32_t code_point = lead & (0x3fu >> more);
    for (; more > 0; more--) {
        code_point = code_point << 6 | (text[(*at)++] & 0x3fu);
    }
    return code_point;
}

static uint32_t take_escaped(const uint8_t *text, size_t *at)
{
    *at += text[*at] == '\\';
    return take(text, at);
}

/* Whether the item at `at` of a sound pattern, no '*', takes the character; moves past the item. */
static bool item_takes(const uint8_t *pattern, size_t *at, uint32_t character)
{
    if (pattern[*at] == '?') {
        ++*at;
        return true;
    }
    if (pattern[*at] != '[') {
        return take_escaped(pattern, at) == character;
    }
    ++*at;
    bool negated = pattern[*at] == '^' || pattern[*at] == '!';
    *at += negated;
    bool found = false;
    do {
        uint32_t low = take_escaped(pattern, at);
        uint32_t high = low;
        if (pattern[*at] == '-' && pattern[*at + 1] != ']') {
            ++*at;
            high = take_escaped(pattern, at);
        }
        found = found || (low <= character && character <= high);
    } while (pattern[*at] != ']');
    ++*at;
    return found != negated;
}

/* reached[i]: what was read of the pattern can match the first i characters of the key. */
static bool naive_match(const uint8_t *pattern, size_t pattern_length, const uint32_t *key, size_t length)
{
    bool reached[TABLE_MAX + 1] = {true};
    size_t at = 0;
    while (at < pattern_length) {
        if (pattern[at] == '*') {
            at++;
            for (size_t i = 1; i <= length; i++) {
                reached[i] = reached[i] || reached[i - 1];
            }
            continue;
        }
        size_t next = at;
        item_takes(pattern, &next, 0);
        for (size_t i = length; i > 0; i--) {
            size_t item = at;
            reached[i] = reached[i - 1] && item_takes(pattern, &item, key[i - 1]);
        }
        reached[0] = false;
        at = next;
    }
    return pattern_length > 0 && reached[length];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *separator = size == 0 ? NULL : memchr(data, 0, size);
    size_t pattern_length = separator == NULL ? size : (size_t)(separator - data);
    size_t key_length = separator == NULL ? 0 : size - pattern_length - 1;
    /* Blocks of exactly their size, so that a read past either end is seen. */
    uint8_t *pattern = malloc(pattern_length + 1);
    uint8_t *key = malloc(key_length + 1);
    uint8_t *prefix = malloc(pattern_length + 1);
    REQUIRE(pattern != NULL && key != NULL && prefix != NULL);
    uint8_t *pattern_text = pattern + 1; /* one past the front: the end of the block is the end of the text */
    uint8_t *key_text = key + 1;
    if (pattern_length > 0) {
        memcpy(pattern_text, data, pattern_length);
    }
    if (key_length > 0) {
        memcpy(key_text, data + pattern_length + 1, key_length);
    }
    ss_glob glob;
    ss_glob_error error;
    if (ss_glob_parse(&glob, pattern_text, pattern_length, &error) == SS_OK) {
        ss_glob_progress at_once = {0}, progress = {0};
        size_t enough = SIZE_MAX;
        bool matches = ss_glob_go_on(&glob, key_text, key_length, &at_once, &enough) == SS_GLOB_YES;
        ss_glob_answer answer = SS_GLOB_UNFINISHED;
        for (size_t steps = 0; answer == SS_GLOB_UNFINISHED; steps++) {
            size_t effort = 1;
            REQUIRE(steps <= key_length);
            answer = ss_glob_go_on(&glob, key_text, key_length, &progress, &effort);
        }
        REQUIRE(matches == (answer == SS_GLOB_YES));
        size_t prefix_length = ss_glob_prefix(&glob, prefix);
        REQUIRE(prefix_length <= pattern_length);
        REQUIRE(!matches || (prefix_length <= key_length && memcmp(key_text, prefix, prefix_length) == 0));
        if (key_length <= TABLE_MAX && ss_utf8_valid(pattern_text, pattern_length) &&
            ss_utf8_valid(key_text, key_length)) {
            uint32_t characters[TABLE_MAX];
            size_t count = 0;
            for (size_t at = 0; at < key_length;) {
                characters[count++] = take(key_text, &at);
            }
            REQUIRE(matches == naive_match(pattern_text, pattern_length, characters, count));
        }
    } else {
        REQUIRE(error.position < pattern_length && error.problem != NULL);
    }
    free(pattern);
    free(key);
    free(prefix);
    return 0;
}
