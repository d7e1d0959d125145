"""The state of sloth-runner: https://github.com/chalkan3-sloth/sloth-runner, internal/state."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator

from slothstate.hints import Any, Final
from slothstate.importers.database import pairs
from slothstate.importers.found import Found, Options
from slothstate.record import Record
from slothstate.values import parse_json

__all__ = ["read"]


def read(options: Options) -> Iterator[Found]:
    """Yield the keys of the table `state (key text, value text, ...)`, which has no TTLs."""

    def found(name: str, _: str, content: Any) -> Found:
        return Record.of(name, _guessed(content) if options.guess_types and isinstance(content, str) else content)

    return pairs(options.path, "state", "key", found)


_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?")


def _guessed(text: str) -> Any:
    """Return what a text looks like: a number, a boolean, a JSON object or array, else itself."""
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text) and text != "-0" and len(text) <= 20:
        number = int(text)
        return number if -(2**63) <= number < 2**63 else text
    if _NUMBER.fullmatch(text):
        # sloth-runner writes a number with six digits (%g): a million is "1e+06", and it was a whole number.
        fraction = float(text)
        if not math.isfinite(fraction):
            return text
        return int(fraction) if "e" in text and fraction.is_integer() and abs(fraction) < 2**53 else fraction
    if text[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return parse_json(text)
    return text
