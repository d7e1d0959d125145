/* Status codes shared by every part of the C layer. */
#ifndef SS_BASE_STATUS_H
#define SS_BASE_STATUS_H

typedef enum ss_status {
    SS_OK = 0,
    SS_NO_MEMORY,    /* malloc or realloc returned NULL; nothing was changed */
    SS_TOO_LARGE,    /* a length would pass SIZE_MAX or SS_BUF_MAX */
    SS_TOO_DEEP,     /* containers nest deeper than SS_JSON_MAX_DEPTH */
    SS_BAD_UTF8,     /* not well-formed UTF-8 (Unicode 15, table 3-7): overlongs and surrogates included */
    SS_NOT_FINITE,   /* NaN or an infinity, which JSON cannot hold */
    SS_OUT_OF_RANGE, /* an integer past 64 bits */
    SS_SYNTAX,       /* input that RFC 8259 does not allow */
    SS_PATTERN       /* a wildcard pattern that does not follow the grammar in glob/glob.h */
} ss_status;

#endif
