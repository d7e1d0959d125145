#include "json/float.h"

#include <float.h>
#include <string.h>

#include "json/bigint.h"
#include "ss_float_table.h"

#define SIGNIFICAND_BITS 52
#define HIDDEN_BIT ((uint64_t)1 << SIGNIFICAND_BITS)
#define EXPONENT_MASK 0x7ff
#define INFINITY_BITS ((uint64_t)EXPONENT_MASK << SIGNIFICAND_BITS)
/* A double is significand * 2^(biased - EXPONENT_BIAS). */
#define EXPONENT_BIAS 1075
#define SMALLEST_EXPONENT (1 - EXPONENT_BIAS)

/* The table holds 10^k exactly for these k: 5^55 is the last power of five below 2^128. */
#define EXACT_POWER_MAX 55

typedef struct wide {
    uint64_t high;
    uint64_t low;
} wide;

static inline wide multiply(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    return (wide){(uint64_t)(product >> 64), (uint64_t)product};
#else
    uint64_t a_low = (uint32_t)a, a_high = a >> 32, b_low = (uint32_t)b, b_high = b >> 32;
    uint64_t low = a_low * b_low, middle = a_high * b_low + (low >> 32), other = a_low * b_high + (uint32_t)middle;
    return (wide){a_high * b_high + (middle >> 32) + (other >> 32), other << 32 | (uint32_t)low};
#endif
}

static inline int leading_zeros(uint64_t value)
{
#ifdef __GNUC__
    return __builtin_clzll(value);
#else
    int zeros = 0;
    for (; value >> 63 == 0; value <<= 1) {
        zeros++;
    }
    return zeros;
#endif
}

/* floor(value / 2^bits). Shifting a negative number right is arithmetic on every compiler we know; this is portable. */
static inline int shift_floor(int value, int bits)
{
    return value >= 0 ? value >> bits : -((-value + (1 << bits) - 1) >> bits);
}

/* floor(log2(10^power)), right for |power| <= 1233. */
static inline int log2_of_power(int power)
{
    return shift_floor(power * 1741647, 19);
}

static inline bool power_is_exact(int power)
{
    return power >= 0 && power <= EXACT_POWER_MAX;
}

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                  "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

static inline void put_pair(uint8_t *out, uint32_t pair)
{
    memcpy(out, digit_pairs + pair * 2, 2);
}

size_t ss_digits_format(uint64_t value, uint8_t *out)
{
    uint8_t digits[24]; /* filled from its end */
    size_t at = sizeof digits;
    while (value >= 100000000) {
        /* Eight digits at once: their divisions do not wait for one another. */
        uint32_t eight = (uint32_t)(value % 100000000);
        value /= 100000000;
        at -= 8;
        put_pair(digits + at, eight / 1000000);
        put_pair(digits + at + 2, eight / 10000 % 100);
        put_pair(digits + at + 4, eight / 100 % 100);
        put_pair(digits + at + 6, eight % 100);
    }
    uint32_t rest = (uint32_t)value;
    for (; rest >= 100; rest /= 100) {
        at -= 2;
        put_pair(digits + at, rest % 100);
    }
    if (rest >= 10) {
        at -= 2;
        put_pair(digits + at, rest);
    } else {
        digits[--at] = (uint8_t)('0' + rest);
    }
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}

/* floor(power * factor / 2^128), made odd when the division was not exact: section 9.8 of the paper. */
static inline uint64_t round_to_odd(wide power, uint64_t factor)
{
    wide low = multiply(power.low, factor);
    wide high = multiply(power.high, factor);
    uint64_t middle = high.low + low.high;
    return (high.high + (middle < high.low)) | (middle > 1);
}

/* The shortest decimal of a positive double. */
static ss_decimal shortest(uint64_t fraction, int biased)
{
    uint64_t significand = biased == 0 ? fraction : fraction | HIDDEN_BIT;
    int exponent = biased == 0 ? SMALLEST_EXPONENT : biased - EXPONENT_BIAS;
    if (exponent <= 0 && exponent > -(SIGNIFICAND_BITS + 1) && (significand & (((uint64_t)1 << -exponent) - 1)) == 0) {
        return (ss_decimal){significand >> -exponent, 0, false};
    }
    bool lower_is_closer = fraction == 0 && biased > 1;
    uint64_t open = significand & 1; /* the ends of the interval read back to an even significand only */
    int power = shift_floor(exponent * 1262611 - (lower_is_closer ? 524031 : 0), 22);
    int shift = exponent + log2_of_power(-power) + 1;
    const uint64_t *row = ss_powers[-power - SS_POWER_MIN];
    wide rounded_up = {row[0], row[1] + (power_is_exact(-power) ? 0 : 1)}; /* no row ends in 64 ones */
    uint64_t center = significand * 4;
    uint64_t lower = round_to_odd(rounded_up, (center - 2 + lower_is_closer) << shift) + open;
    uint64_t value = round_to_odd(rounded_up, center << shift);
    uint64_t upper = round_to_odd(rounded_up, (center + 2) << shift) - open;
    uint64_t digits = value / 4;
    if (digits >= 10) {
        uint64_t shorter = digits / 10;
        bool down_inside = lower <= 40 * shorter;
        bool up_inside = 40 * shorter + 40 <= upper;
        if (down_inside != up_inside) {
            return (ss_decimal){shorter + up_inside, power + 1, false};
        }
    }
    bool down_inside = lower <= 4 * digits;
    bool up_inside = 4 * digits + 4 <= upper;
    if (down_inside != up_inside) {
        return (ss_decimal){digits + up_inside, power, false};
    }
    uint64_t middle = 4 * digits + 2;
    return (ss_decimal){digits + (value > middle || (value == middle && (digits & 1))), power, false};
}

static uint8_t *put_zeros(uint8_t *out, int count)
{
    memset(out, '0', (size_t)count);
    return out + count;
}

size_t ss_double_format(double value, uint8_t *out)
{
    uint64_t bits = bits_of(value);
    uint8_t *end = out;
    if (bits >> 63) {
        *end++ = '-';
    }
    bits &= ~((uint64_t)1 << 63);
    if (bits == 0) {
        memcpy(end, "0.0", 3);
        return (size_t)(end + 3 - out);
    }
    ss_decimal decimal = shortest(bits & (HIDDEN_BIT - 1), (int)(bits >> SIGNIFICAND_BITS));
    uint8_t digits[20];
    int length = (int)ss_digits_format(decimal.digits, digits);
    int point = length + (int)decimal.exponent; /* the value is 0.digits * 10^point */
    while (length > 1 && digits[length - 1] == '0') {
        length--;
    }
    if (point > 16 || point <= -4) {
        *end++ = digits[0];
        if (length > 1) {
            *end++ = '.';
            memcpy(end, digits + 1, (size_t)(length - 1));
            end += length - 1;
        }
        int exponent = point - 1;
        *end++ = 'e';
        *end++ = exponent < 0 ? '-' : '+';
        exponent = exponent < 0 ? -exponent : exponent;
        if (exponent < 10) {
            *end++ = '0';
        }
        end += ss_digits_format((uint64_t)exponent, end);
    } else if (point <= 0) {
        memcpy(end, "0.", 2);
        end = put_zeros(end + 2, -point);
        memcpy(end, digits, (size_t)length);
        end += length;
    } else {
        int whole = length < point ? length : point;
        memcpy(end, digits, (size_t)whole);
        end = put_zeros(end + whole, point - whole);
        *end++ = '.';
        if (length > whole) {
            memcpy(end, digits + whole, (size_t)(length - whole));
            end += length - whole;
        } else {
            *end++ = '0';
        }
    }
    return (size_t)(end - out);
}

/* Where doubles are not computed as doubles (x87, s390x) two of them do not suffice. */
#if FLT_EVAL_METHOD == 0
static const double small_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#define SMALL_POWER_MAX 22
#endif

/* The bits of the double nearest to product * 2^exponent, ties to even; `more` says that the value is a little larger
 * than that. The first bit of `product` is bit 127 or 126. */
static uint64_t round_product(wide product, bool more, int exponent)
{
    int top = 126 + (int)(product.high >> 63);
    int magnitude = exponent + top; /* floor(log2(value)) */
    if (magnitude > 1023) {
        return INFINITY_BITS;
    }
    int shift = top - 64 - SIGNIFICAND_BITS; /* drops the bits of `high` past the significand: 10 or 11 */
    uint64_t biased = 0;
    if (magnitude < -1022) {
        shift += -1022 - magnitude;
        if (shift > 64) {
            return 0;
        }
    } else {
        biased = (uint64_t)(magnitude + 1022); /* one less than the field: the hidden bit adds the one */
    }
    uint64_t significand = shift == 64 ? 0 : product.high >> shift;
    uint64_t half = (uint64_t)1 << (shift - 1);
    uint64_t rest = shift == 64 ? product.high : product.high & (2 * half - 1);
    more = more || product.low != 0;
    significand += rest > half || (rest == half && (more || (significand & 1)));
    return (biased << SIGNIFICAND_BITS) + significand; /* a carry moves into the exponent, as it must */
}

/* The doubles nearest to the two ends of the interval that holds digits * 10^power; equal when it is a point. */
static void round_interval(uint64_t digits, int power, bool truncated, uint64_t *lower, uint64_t *upper)
{
    int shift = leading_zeros(digits);
    const uint64_t *row = ss_powers[power - SS_POWER_MIN];
    wide high = multiply(digits << shift, row[0]);
    wide low = multiply(digits << shift, row[1]);
    wide product = {high.high, high.low + low.high};
    product.high += product.low < low.high;
    int exponent = log2_of_power(power) - 127 - shift + 64;
    bool exact = power_is_exact(power) && !truncated;
    *lower = round_product(product, low.low != 0 || !exact, exponent);
    *upper = *lower;
    if (!exact) {
        /* The table's rounding adds less than one unit of product.low. */
        product.low++;
        product.high += product.low == 0;
        *upper = round_product(product, true, exponent);
    }
}

double ss_double_parse(ss_decimal decimal, const uint8_t *token, size_t length)
{
    if (decimal.digits == 0 || decimal.exponent < SS_POWER_MIN) {
        return 0.0; /* below 10^-324, whatever the digits: nearer to 0 than to the smallest double */
    }
    if (decimal.exponent > DBL_MAX_10_EXP) {
        return double_of(INFINITY_BITS);
    }
    int power = (int)decimal.exponent;
#if FLT_EVAL_METHOD == 0
    if (decimal.digits <= (uint64_t)1 << 53 && !decimal.truncated && power >= -SMALL_POWER_MAX &&
        power <= SMALL_POWER_MAX) {
        double digits = (double)decimal.digits; /* exact, as is the power, so that one rounding remains */
        return power < 0 ? digits / small_powers[-power] : digits * small_powers[power];
    }
#endif
    uint64_t lower, upper;
    round_interval(decimal.digits, power, decimal.truncated, &lower, &upper);
    if (decimal.truncated) {
        uint64_t unused;
        round_interval(decimal.digits + 1, power, true, &unused, &upper);
    }
    if (lower == upper) {
        return double_of(lower);
    }
    /* The interval is far narrower than the gap between doubles, so these two are neighbours. */
    uint64_t biased = lower >> SIGNIFICAND_BITS;
    uint64_t fraction = lower & (HIDDEN_BIT - 1);
    uint64_t halfway = 2 * (biased == 0 ? fraction : fraction | HIDDEN_BIT) + 1;
    int exponent = (biased == 0 ? SMALLEST_EXPONENT : (int)biased - EXPONENT_BIAS) - 1;
    int order = ss_bigint_compare_decimal(token, length, halfway, exponent);
    bool up = order > 0 || (order == 0 && (lower & 1));
    return double_of(up ? upper : lower);
}
