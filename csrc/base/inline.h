/* What the compiler must not weigh anew whenever a function gets one more caller: the way of a hit is counted. */
#ifndef SS_BASE_INLINE_H
#define SS_BASE_INLINE_H

#if defined(__GNUC__)
#define SS_ALWAYS_INLINE inline __attribute__((always_inline))
#define SS_NO_INLINE __attribute__((noinline))
#else
#define SS_ALWAYS_INLINE inline
#define SS_NO_INLINE
#endif

#endif
