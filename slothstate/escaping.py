"""Text that is safe to show: what could drive a terminal, or cannot be seen, is written as an escape."""

from __future__ import annotations

from functools import cache

from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re

__all__ = ["printable"]

# Controls (C0, DEL, C1), format characters (category Cf: bidirectional overrides and isolates, zero width, tags), line
# and paragraph separators, what Unicode lists as Default_Ignorable_Code_Point (fillers, variation selectors), and lone
# surrogates, which stand for bytes that are not UTF-8. Written out, so that it is the same with every Python's Unicode.
_UNSEEN: Final = (
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_NAMES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def printable(text: str, keep: str = "", *, json: bool = False) -> str:
    r"""Return the text with control and invisible characters escaped, but for those in `keep`.

    `\n`, `\x1b`, `\u202e`, `\U000e0041`; a byte that was not UTF-8 is `\xff`. With `json` the text is a JSON document:
    the escapes are those of JSON, and it still stands for the same value.

    >>> from slothstate import printable
    >>> print(printable("a\x1b[31m\u202e"))
    a\x1b[31m\u202e
    """
    escape = _json_escape if json else _escape
    if text.isascii() and text.isprintable():
        return text
    return _unseen().sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


@cache
def _unseen() -> re.Pattern[str]:
    # Here, and not at each start of a program that escapes nothing: it takes as long as a dozen modules.
    import re

    return re.compile(_UNSEEN)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape's way to keep a byte
        code -= 0xDC00
    if code < 0x100:
        return _NAMES.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    octets = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{octets[unit : unit + 4]}" for unit in range(0, len(octets), 4))
