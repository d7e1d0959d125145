"""Wildcard patterns over keys: the grammar, and what the engine needs to turn one into a range of keys.

    pattern  item*                    the empty pattern matches nothing
    item     *                        any run of characters, also an empty one
             ?                        one character
             [abc] [a-z]              one character of the class
             [^abc] [!abc]            one character that is not in the class
             \\x                       the character x, whatever x is
             x                        the character x

A pattern is matched against the whole key. A character is a Unicode code point; case counts; nothing is
normalized. Inside a class `\\` escapes too, `]` straight after `[`, `[^` or `[!` is a member, and a hyphen
that comes first, last or straight after a range is a hyphen. An unterminated `[`, a trailing `\\` and a
reversed range are `PatternError`, as is anything that is not a str or holds a lone surrogate. Matching takes
at most O(pattern x key) steps.

The C matcher (csrc/glob/glob.h) decides; the functions here only narrow down which keys it must look at.
"""

from __future__ import annotations

from slothstate.errors import InvalidKey
from slothstate.hints import Final
from slothstate.native import glob_check, glob_filter, glob_match, glob_prefix
from slothstate.values import describe, shorten

__all__ = ["check", "exact", "filter", "key_range", "literal", "match", "matches", "prefix"]

check = glob_check
match = glob_match
filter = glob_filter
prefix = glob_prefix

_WILDCARDS: Final = frozenset("*?[")
_SPECIAL: Final = _WILDCARDS | {"\\"}
_LAST_CODE_POINT: Final = "\U0010ffff"
_BEFORE_SURROGATES: Final = "\ud7ff"
_AFTER_SURROGATES: Final = "\ue000"


def exact(pattern: str) -> str | None:
    """Return the one key that a pattern without wildcards matches, its escapes resolved.

    None if the pattern has a wildcard, or is empty and so matches nothing.

    Raises: `PatternError`.

    >>> exact(r"price \\*"), exact("user:*")
    ('price *', None)
    """
    key = glob_prefix(pattern)
    escaped = False
    for character in pattern:
        if not escaped and character in _WILDCARDS:
            return None
        escaped = character == "\\" and not escaped
    return key or None


def literal(text: str) -> str:
    """Return the pattern that matches this text alone, whatever characters it has.

    >>> from slothstate import literal
    >>> literal("price *")
    'price \\\\*'
    """
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def matches(pattern: str, key: str) -> bool:
    """Return whether a pattern matches a key, as `State.keys` decides it; for what is no key, or is one elsewhere.

    Raises: `PatternError`; `InvalidKey` for a key that is no str, or none of UTF-8.

    >>> from slothstate import matches
    >>> matches("user:*", "user:1"), matches("user:?", "user:10")
    (True, False)
    """
    if not isinstance(key, str):
        raise InvalidKey(f"key must be a str, got {describe(key)}")
    try:
        return glob_match(pattern, key)
    except UnicodeEncodeError as error:
        raise InvalidKey(f"key {shorten(key)} has a lone surrogate at index {error.start}") from error


def key_range(pattern: str) -> tuple[str, str | None]:
    """Return the bounds that every matching key lies between: the first inclusive, the second exclusive.

    The second is None where nothing bounds the keys from above. Both hold in SQLite's BINARY order of UTF-8,
    which is the order of code points. The empty pattern gives an empty range.

    Raises: `PatternError`.

    >>> key_range("user:*"), key_range("*:profile")
    (('user:', 'user;'), ('', None))
    """
    lower = glob_prefix(pattern)
    if not pattern:
        return "", ""
    kept = lower.rstrip(_LAST_CODE_POINT)
    if not kept:
        return lower, None
    # UTF-8 has no surrogates: the code point after U+D7FF is U+E000.
    last = kept[-1]
    following = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else chr(ord(last) + 1)
    return lower, kept[:-1] + following
