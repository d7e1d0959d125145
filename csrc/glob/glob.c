#include "glob/glob.h"

#include <string.h>

#define NOWHERE SIZE_MAX

/* The length of the UTF-8 sequence at `at`, by its first byte; never past the end, whatever the bytes. */
static inline size_t step(const uint8_t *text, size_t at, size_t length)
{
    uint8_t lead = text[at];
    size_t size = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return size <= length - at ? size : length - at;
}

/* The code point at `at`; moves `at` past it. */
static uint32_t next_code_point(const uint8_t *text, size_t *at, size_t length)
{
    size_t size = step(text, *at, length);
    uint32_t code_point = text[*at];
    if (size > 1) {
        code_point &= 0xffu >> (size + 1);
        for (size_t i = 1; i < size; i++) {
            code_point = code_point << 6 | (text[*at + i] & 0x3f);
        }
    }
    *at += size;
    return code_point;
}

typedef enum class_problem { CLASS_SOUND, CLASS_OPEN, CLASS_ESCAPE, CLASS_REVERSED } class_problem;

/* One end of a member: a character or an escaped one. */
static class_problem next_end(const uint8_t *text, size_t *at, size_t length, uint32_t *code_point)
{
    if (*at < length && text[*at] == '\\') {
        ++*at;
        if (*at == length) {
            return CLASS_ESCAPE;
        }
    }
    if (*at == length) {
        return CLASS_OPEN;
    }
    *code_point = next_code_point(text, at, length);
    return CLASS_SOUND;
}

/* Reads the class whose '[' is at `at` and tells whether `subject` is in it. Moves `at` past the ']', or, when there
 * is a problem, to the byte that a message should point at. */
static class_problem read_class(const uint8_t *text, size_t *at, size_t length, uint32_t subject, bool *inside)
{
    size_t opening = (*at)++;
    bool negated = *at < length && (text[*at] == '^' || text[*at] == '!');
    *at += negated;
    bool found = false;
    for (bool first = true; first || *at == length || text[*at] != ']'; first = false) {
        size_t member = *at;
        uint32_t low = 0;
        class_problem problem = next_end(text, at, length, &low);
        uint32_t high = low;
        if (problem == CLASS_SOUND && length - *at >= 2 && text[*at] == '-' && text[*at + 1] != ']') {
            ++*at;
            problem = next_end(text, at, length, &high);
        }
        if (problem == CLASS_SOUND && low > high) {
            problem = CLASS_REVERSED;
        }
        if (problem != CLASS_SOUND) {
            *at = problem == CLASS_OPEN ? opening : problem == CLASS_ESCAPE ? length - 1 : member;
            return problem;
        }
        found = found || (low <= subject && subject <= high);
    }
    ++*at;
    *inside = found != negated;
    return CLASS_SOUND;
}

static ss_status fail(ss_glob_error *error, size_t position, const char *problem)
{
    *error = (ss_glob_error){position, problem};
    return SS_PATTERN;
}

ss_status ss_glob_parse(ss_glob *glob, const uint8_t *pattern, size_t length, ss_glob_error *error)
{
    static const char *const trailing = "nothing follows the backslash; expected the character it makes literal";
    size_t head = NOWHERE;      /* where the first byte that is not literal stands */
    size_t tail = NOWHERE;      /* what follows the last '*', if it is all literal */
    size_t only_stars = length; /* the first byte past the head that is no '*' */
    size_t at = 0;
    while (at < length) {
        uint8_t byte = pattern[at];
        bool special = byte == '*' || byte == '?' || byte == '[' || byte == '\\';
        if (special && head == NOWHERE) {
            head = at;
        }
        if (byte == '*') {
            tail = ++at;
            continue;
        }
        if (special) {
            tail = NOWHERE;
        }
        if (head != NOWHERE && only_stars == length) {
            only_stars = at;
        }
        if (byte == '[') {
            bool unused;
            switch (read_class(pattern, &at, length, 0, &unused)) {
            case CLASS_OPEN: return fail(error, at, "this '[' is not closed; expected a ']' after its members");
            case CLASS_ESCAPE: return fail(error, at, trailing);
            case CLASS_REVERSED: return fail(error, at, "this range is reversed; expected its lower end first");
            case CLASS_SOUND: break;
            }
            continue;
        }
        if (byte == '\\' && ++at == length) {
            return fail(error, at - 1, trailing);
        }
        at++;
    }
    head = head == NOWHERE ? length : head;
    tail = tail == NOWHERE ? length : tail;
    *glob = (ss_glob){
        .text = pattern,
        .length = length,
        .head = head,
        .tail = length - tail,
        .any_core = head < tail && only_stars >= tail,
    };
    return SS_OK;
}

/* Where in the key a match of the rest of the pattern can begin at the earliest, from `at` on. */
static size_t next_candidate(const uint8_t *pattern, size_t pattern_at, size_t pattern_length, const uint8_t *key,
                             size_t at, size_t length)
{
    uint8_t first = pattern_at < pattern_length ? pattern[pattern_at] : '*';
    if (first == '*' || first == '?' || first == '[' || first == '\\' || at == length) {
        return at;
    }
    const uint8_t *found = memchr(key + at, first, length - at);
    return found == NULL ? length : (size_t)(found - key);
}

static ss_glob_answer match_core(const uint8_t *pattern, size_t pattern_length, const uint8_t *key, size_t length,
                                 ss_glob_progress *progress, size_t *effort)
{
    size_t star = progress->star; /* the last '*': what follows it in the pattern, and where that was last tried */
    size_t tried = progress->tried;
    size_t pattern_at = star;
    size_t at = tried;
    while (at < length) {
        size_t seen = pattern_at; /* what was read of the pattern in vain, if this is where it ends */
        uint8_t byte = pattern_at < pattern_length ? pattern[pattern_at] : 0;
        if (pattern_at == pattern_length) {
            /* only a '*' can take what is left of the key */
        } else if (byte == '*') {
            star = ++pattern_at;
            at = tried = next_candidate(pattern, star, pattern_length, key, at, length);
            continue;
        } else if (byte == '?') {
            pattern_at++;
            at += step(key, at, length);
            continue;
        } else if (byte == '[') {
            size_t pattern_next = pattern_at;
            size_t next = at;
            bool inside = false;
            uint32_t code_point = next_code_point(key, &next, length);
            if (read_class(pattern, &pattern_next, pattern_length, code_point, &inside) == CLASS_SOUND && inside) {
                pattern_at = pattern_next;
                at = next;
                continue;
            }
            seen = pattern_next;
        } else {
            size_t escape = byte == '\\' && pattern_length - pattern_at > 1;
            if (pattern[pattern_at + escape] == key[at]) {
                pattern_at += 1 + escape;
                at++;
                continue;
            }
        }
        if (star == 0) {
            return SS_GLOB_NO;
        }
        tried += step(key, tried, length);
        at = tried = next_candidate(pattern, star, pattern_length, key, tried, length);
        pattern_at = star;
        size_t spent = seen - star + 1;
        if (spent >= *effort) {
            *effort = 0;
            *progress = (ss_glob_progress){star, tried};
            return SS_GLOB_UNFINISHED;
        }
        *effort -= spent;
    }
    while (pattern_at < pattern_length && pattern[pattern_at] == '*') {
        pattern_at++;
    }
    return pattern_at == pattern_length ? SS_GLOB_YES : SS_GLOB_NO;
}

ss_glob_answer ss_glob_go_on(const ss_glob *glob, const uint8_t *key, size_t length, ss_glob_progress *progress,
                             size_t *effort)
{
    if (glob->length == 0 || length < glob->head + glob->tail || memcmp(key, glob->text, glob->head) != 0 ||
        memcmp(key + length - glob->tail, glob->text + glob->length - glob->tail, glob->tail) != 0) {
        return SS_GLOB_NO;
    }
    if (glob->any_core) {
        return SS_GLOB_YES;
    }
    return match_core(glob->text + glob->head, glob->length - glob->head - glob->tail, key + glob->head,
                      length - glob->head - glob->tail, progress, effort);
}

size_t ss_glob_prefix(const ss_glob *glob, uint8_t *out)
{
    size_t written = 0;
    for (size_t at = 0; at < glob->length; at++) {
        uint8_t byte = glob->text[at];
        if (byte == '*' || byte == '?' || byte == '[') {
            break;
        }
        if (byte == '\\') {
            at++;
        }
        out[written++] = glob->text[at];
    }
    return written;
}
