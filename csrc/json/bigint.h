/* Exact comparison of a decimal number with a binary one: the last resort of ss_double_parse. */
#ifndef SS_JSON_BIGINT_H
#define SS_JSON_BIGINT_H

#include <stddef.h>
#include <stdint.h>

/* Less than, equal to or greater than 0 as the magnitude of the JSON number `token` is less than, equal to or greater
 * than significand * 2^exponent. The magnitude must lie between 10^-325 and 10^309, and significand * 2^exponent be a
 * double or the point halfway between two (so that digits past the 800th matter only by not being 0). */
int ss_bigint_compare_decimal(const uint8_t *token, size_t length, uint64_t significand, int exponent);

#endif
