/* The reader on arbitrary bytes: it stays inside them, ends, and what it accepts it accepts again after writing. */
#include "fuzz.h"

/* Writes the token that the reader has just read. */
static ss_status write_token(ss_buf *out, const ss_json_reader *reader, ss_json_token token)
{
    switch (token) {
    case SS_JSON_NULL: return ss_json_write_null(out);
    case SS_JSON_FALSE: return ss_json_write_bool(out, false);
    case SS_JSON_TRUE: return ss_json_write_bool(out, true);
    case SS_JSON_INTEGER: return ss_json_write_integer(out, reader->integer);
    case SS_JSON_DOUBLE: return ss_json_write_double(out, reader->number);
    case SS_JSON_ARRAY_BEGIN: return ss_buf_push(out, '[');
    case SS_JSON_OBJECT_BEGIN: return ss_buf_push(out, '{');
    case SS_JSON_ARRAY_END: return ss_buf_push(out, ']');
    case SS_JSON_OBJECT_END: return ss_buf_push(out, '}');
    default: return ss_json_write_string(out, reader->text, reader->text_length);
    }
}

static bool ends_container(ss_json_token token)
{
    return token == SS_JSON_ARRAY_END || token == SS_JSON_OBJECT_END;
}

static bool begins_container(ss_json_token token)
{
    return token == SS_JSON_ARRAY_BEGIN || token == SS_JSON_OBJECT_BEGIN;
}

/* Reads a document and writes it without white space; whether it was accepted. */
static bool rewrite(const uint8_t *data, size_t length, ss_buf *out)
{
    ss_json_reader reader;
    ss_json_reader_init(&reader, data, length);
    ss_json_token before = SS_JSON_ARRAY_BEGIN;
    unsigned depth = 0;
    for (;;) {
        ss_json_token token = ss_json_next(&reader);
        REQUIRE(reader.position <= length);
        if (token == SS_JSON_ERROR || token == SS_JSON_END) {
            REQUIRE((token == SS_JSON_ERROR) == (reader.status != SS_OK));
            REQUIRE(ss_json_next(&reader) == token);
            ss_json_reader_free(&reader);
            return token == SS_JSON_END;
        }
        if (before == SS_JSON_KEY) {
            REQUIRE(ss_buf_push(out, ':') == SS_OK);
        } else if (depth > 0 && !begins_container(before) && !ends_container(token)) {
            REQUIRE(ss_buf_push(out, ',') == SS_OK);
        }
        if (token == SS_JSON_STRING || token == SS_JSON_KEY) {
            REQUIRE(ss_utf8_valid(reader.text, reader.text_length));
        }
        REQUIRE(write_token(out, &reader, token) == SS_OK);
        depth += begins_container(token);
        depth -= ends_container(token);
        REQUIRE(depth <= SS_JSON_MAX_DEPTH);
        before = token;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_buf once = {0};
    ss_buf twice = {0};
    if (rewrite(data, size, &once)) {
        REQUIRE(ss_utf8_valid(once.data, once.length));
        REQUIRE(rewrite(once.data, once.length, &twice));
        REQUIRE(once.length == twice.length && memcmp(once.data, twice.data, once.length) == 0);
    }
    ss_buf_free(&once);
    ss_buf_free(&twice);
    return 0;
}
