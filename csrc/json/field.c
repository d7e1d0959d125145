#include "json/field.h"

/* Where the next token begins: past white space, and past the comma before it. */
static size_t skip_to_token(const ss_json_reader *reader, size_t at)
{
    while (at < reader->length && (ss_json_is_space(reader->data[at]) || reader->data[at] == ',')) {
        at++;
    }
    return at;
}

static bool opens(ss_json_token token)
{
    return token == SS_JSON_ARRAY_BEGIN || token == SS_JSON_OBJECT_BEGIN;
}

static bool closes(ss_json_token token)
{
    return token == SS_JSON_ARRAY_END || token == SS_JSON_OBJECT_END;
}

/* Reads to the end of the value whose first token was just read. False at an error. */
static bool skip_value(ss_json_reader *reader, ss_json_token token)
{
    unsigned outside = opens(token) ? reader->depth - 1 : reader->depth;
    while (reader->depth > outside) {
        if (ss_json_next(reader) == SS_JSON_ERROR) {
            return false;
        }
    }
    return true;
}

/* In the object that was just opened: stands at the value of `name`, whose first token it returns; SS_JSON_OBJECT_END if
 * there is none, SS_JSON_ERROR. */
static ss_json_token find_name(ss_json_reader *reader, const ss_json_step *step, ss_json_place *place)
{
    place->is_first = true;
    place->before = reader->position;
    for (;;) {
        ss_json_token token = ss_json_next(reader);
        if (token != SS_JSON_KEY) {
            return token;
        }
        bool is_it = reader->text_length == step->length &&
                     (step->length == 0 || memcmp(reader->text, step->name, step->length) == 0);
        place->start = skip_to_token(reader, reader->position);
        token = ss_json_next(reader);
        if (is_it || token == SS_JSON_ERROR) {
            return token;
        }
        if (!skip_value(reader, token)) {
            return SS_JSON_ERROR;
        }
        place->before = reader->position;
        place->is_first = false;
    }
}

/* In the array that was just opened: the same for a position from 0; `count` items were passed. */
static ss_json_token find_position(ss_json_reader *reader, uint64_t position, ss_json_place *place, uint64_t *count)
{
    place->is_first = true;
    place->before = reader->position;
    for (*count = 0;; ++*count) {
        place->start = skip_to_token(reader, reader->position);
        ss_json_token token = ss_json_next(reader);
        if (token == SS_JSON_ARRAY_END || token == SS_JSON_ERROR || *count == position) {
            return token;
        }
        if (!skip_value(reader, token)) {
            return SS_JSON_ERROR;
        }
        place->before = reader->position;
        place->is_first = false;
    }
}

/* The same for a position from the end: the items are counted first. */
static ss_json_token find_from_end(ss_json_reader *reader, int64_t position, ss_json_place *place)
{
    /* A reader at the same place; what it had in `scratch` is of no use to it. */
    ss_json_reader counter = *reader;
    counter.scratch = (ss_buf){0};
    uint64_t count;
    ss_json_token token = find_position(&counter, UINT64_MAX, place, &count);
    ss_json_reader_free(&counter);
    if (token == SS_JSON_ERROR) {
        reader->status = counter.status;
        return token;
    }
    uint64_t back = (uint64_t)0 - (uint64_t)position;
    return back > count ? SS_JSON_ARRAY_END : find_position(reader, count - back, place, &count);
}

ss_status ss_json_find(const uint8_t *text, size_t length, const ss_json_step *path, size_t steps, ss_json_place *place)
{
    ss_json_reader reader;
    ss_json_reader_init(&reader, text, length);
    *place = (ss_json_place){.found = SS_JSON_FOUND, .is_first = true};
    place->start = skip_to_token(&reader, 0);
    ss_json_token token = place->token = ss_json_next(&reader);
    for (; token != SS_JSON_ERROR && place->taken < steps; place->taken++) {
        const ss_json_step *step = &path[place->taken];
        if (token != (step->name == NULL ? SS_JSON_ARRAY_BEGIN : SS_JSON_OBJECT_BEGIN)) {
            place->found = SS_JSON_OTHER;
            break;
        }
        place->depth = reader.depth;
        uint64_t count;
        if (step->name != NULL) {
            token = find_name(&reader, step, place);
        } else if (step->position < 0) {
            token = find_from_end(&reader, step->position, place);
        } else {
            token = find_position(&reader, (uint64_t)step->position, place, &count);
        }
        if (closes(token)) {
            place->found = step->name != NULL ? SS_JSON_MISSING : SS_JSON_OUTSIDE;
            place->start = place->end = place->before;
            break;
        }
        place->token = token;
    }
    if (token != SS_JSON_ERROR && place->found == SS_JSON_FOUND && skip_value(&reader, token)) {
        place->end = reader.position;
    }
    ss_json_reader_free(&reader);
    return reader.status;
}

/* SS_TOO_DEEP if a value inside `depth` containers nests deeper than can be read. */
static ss_status check_depth(size_t depth, const uint8_t *value, size_t length)
{
    ss_json_reader reader;
    ss_json_reader_init(&reader, value, length);
    unsigned deepest = 0;
    ss_json_token token;
    do {
        token = ss_json_next(&reader);
        deepest = reader.depth > deepest ? reader.depth : deepest;
    } while (token != SS_JSON_END && token != SS_JSON_ERROR);
    ss_json_reader_free(&reader);
    if (reader.status != SS_OK) {
        return reader.status;
    }
    return depth > SS_JSON_MAX_DEPTH - deepest ? SS_TOO_DEEP : SS_OK;
}

/* The first that is not SS_OK. */
#define TRY(call) \
    do { \
        ss_status tried = (call); \
        if (tried != SS_OK) { \
            return tried; \
        } \
    } while (0)

ss_status ss_json_put(ss_buf *buf, const uint8_t *text, size_t length, const ss_json_step *path, size_t steps,
                      const ss_json_place *place, const uint8_t *value, size_t value_length)
{
    size_t added = place->found == SS_JSON_MISSING ? steps - place->taken : 0;
    if (added > SS_JSON_MAX_DEPTH) {
        return SS_TOO_DEEP;
    }
    TRY(check_depth(place->depth + (added > 0 ? added - 1 : 0), value, value_length));
    TRY(ss_buf_append(buf, text, place->start));
    if (added > 0 && !place->is_first) {
        TRY(ss_buf_push(buf, ','));
    }
    for (size_t i = 0; i < added; i++) {
        const ss_json_step *step = &path[place->taken + i];
        if (i > 0) {
            TRY(ss_buf_push(buf, '{'));
        }
        TRY(ss_json_write_string(buf, step->name, step->length));
        TRY(ss_buf_push(buf, ':'));
    }
    TRY(ss_buf_append(buf, value, value_length));
    for (size_t i = 1; i < added; i++) {
        TRY(ss_buf_push(buf, '}'));
    }
    return ss_buf_append(buf, text + place->end, length - place->end);
}

ss_status ss_json_cut(ss_buf *buf, const uint8_t *text, size_t length, const ss_json_place *place)
{
    size_t end = place->end;
    if (place->is_first) {
        /* The comma that would have been between it and the next. */
        size_t next = end;
        while (next < length && ss_json_is_space(text[next])) {
            next++;
        }
        end = next < length && text[next] == ',' ? next + 1 : end;
    }
    TRY(ss_buf_append(buf, text, place->before));
    return ss_buf_append(buf, text + end, length - end);
}
