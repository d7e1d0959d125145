"""Messages of Python as Lua says it: positions from 1, Lua's names of types and values."""

from __future__ import annotations

import re
from collections.abc import Callable

from slothstate.hints import Final

__all__ = ["in_lua", "path_in_lua"]

_TYPES: Final = {
    "str": "string",
    "bytes": "string",
    "int": "number",
    "float": "number",
    "bool": "boolean",
    "dict": "table",
    "list": "table",
}


def _one_more(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) + 1}{found[3]}"


def _got(found: re.Match[str]) -> str:
    value = found[2] or ""
    return f"got {_TYPES[found[1]]}{value.lower() if found[1] == 'bool' else value}"


_WORDS: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"^(items\[)(\d+)(\])", _one_more),
        (r"^(pattern '.*', position )(\d+)(: )", _one_more),
        (r"( \(at index )(\d+)(\))$", _one_more),
        (r"\bgot (str|bytes|int|float|bool|dict|list)( [^,]*)?$", _got),
        (r" must be an int\b", " must be a whole number"),
        (r" must be a str\b", " must be a string"),
        (r" must be True or False\b", " must be true or false"),
        (r" or None, got\b", " or nil, got"),
        (r" a number of seconds or a timedelta\b", " a number of seconds"),
        (r"\bexpected a finite float$", "expected a finite number"),
        (
            r"\bbytes cannot be stored inside a table or list; expected .*$",
            "bytes that are not UTF-8 cannot be stored here",
        ),
        (r"\bwhat new=None deletes\b", "what nil as the new value deletes"),
    )
)

_INDEX: Final = re.compile(r"(\[)(\d+)(\])")
_NAME: Final = re.compile(r"\['([A-Za-z_]\w*)'\]")


def in_lua(message: str) -> str:
    """Return the message of an error that a verb raises about its arguments."""
    for pattern, words in _WORDS:
        message = pattern.sub(words, message)
    return message


def path_in_lua(message: str) -> str:
    """Return a message that begins with the path to a part of a value."""
    path, colon, rest = message.partition(": ")
    return _NAME.sub(r".\1", _INDEX.sub(_one_more, path)) + colon + in_lua(rest)
