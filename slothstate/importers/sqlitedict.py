"""A table of sqlitedict: https://github.com/piskvorky/sqlitedict."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator

from slothstate.hints import Any
from slothstate.importers.database import pairs
from slothstate.importers.found import Found, Options, Skipped
from slothstate.record import Record
from slothstate.values import parse_json

__all__ = ["read"]


def read(options: Options) -> Iterator[Found]:
    """Yield the keys of a table `(key text, value blob)`, pickles unless `encode` was given."""

    def found(name: str, value_type: str, content: Any) -> Found:
        if value_type == "blob" and _is_pickle(content):
            return Skipped(name, "it is pickled")
        return _of_json(name, content) if options.json else Record.of(name, content)

    return pairs(options.path, options.table, "rowid", found)


def _of_json(name: str, content: Any) -> Found:
    try:
        value = parse_json(content if isinstance(content, str | bytes) else str(content))
    except ValueError:
        return Skipped(name, "it is not JSON")
    return Skipped(name, "it is null") if value is None else Record.of(name, value)


def _is_pickle(octets: bytes) -> bool:
    """Return whether these bytes read as a whole pickle; its operations are listed, none is carried out."""
    if not octets.endswith(b"."):
        return False
    count = position = 0
    try:
        for count, (_, _, found) in enumerate(pickletools.genops(octets), start=1):  # noqa: B007 - the last ones count
            position = found or 0
    except Exception:  # whatever the bytes are, a parser that stumbles over them says that they are no pickle
        return False
    # One operation alone is the end of a pickle without anything in it: a full stop.
    return count > 1 and position == len(octets) - 1
