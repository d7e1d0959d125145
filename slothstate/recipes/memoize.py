"""Remembering what a function returned, for every process that uses the store."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, ParamSpec, TypeVar

from slothstate import InvalidValue, OutOfRange, SlothStateError, State, WrongType, parse_json, to_json
from slothstate.recipes.checks import check_function, check_state
from slothstate.recipes.naming import name_of

__all__ = ["memoize"]

P = ParamSpec("P")
R = TypeVar("R")

_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")
"""What no key may have."""


def memoize(
    state: State, ttl: float | timedelta | None = None, *, name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: results are kept for `ttl` seconds, for good without, and computed by one caller at a time.

    Of several that call with the same arguments at once, in any processes, one computes and the others wait for it; if
    it dies another goes on at once. An exception is kept for nobody. Arguments and results are plain values, what a
    list can hold, so no bytes; a result comes back as from there, a tuple as a list; None is remembered too. The key is
    `memoize:NAME:` and the arguments as canonical JSON (past 4,096 bytes their SHA-256), positional and by keyword
    alike, with defaults, a tuple as a list. NAME is `name`, or the function's MODULE.QUALNAME.
    Raises: `InvalidValue` without a `name` for a second lambda, method or inner function that would share its name with
    another one of this process; for a wrong `ttl` or `name`; for arguments or results that are no plain values, and
    for a function that returns none, as coroutine functions and generators do.
    `WrongType` if the key holds something else. `SlothStateError` inside a transaction or a snapshot, unless the result
    is there already.
    """
    check_state(state)
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds <= 10_000_000_000):
        raise InvalidValue(
            f"ttl must be a number of seconds > 0 and at most 10000000000, a timedelta or None, got {ttl!r:.60}"
        )
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 500 and not _NO_TEXT.search(name)):
        raise InvalidValue(f"name must be a str of 1 to 500 characters without NUL and surrogates, got {name!r:.60}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        check_function(function)
        prefix = f"memoize:{name_of(state, function) if name is None else name}:"
        signature = inspect.signature(function)

        @functools.wraps(function)
        def remembered(*arguments: P.args, **options: P.kwargs) -> R:
            key = _key(prefix, signature, arguments, options)
            # In a list, because None is a result and no value.
            found: Any = state.get(key)
            if found is None:
                with ExitStack() as stack:
                    try:
                        stack.enter_context(state.locked(key))
                    except SlothStateError as error:
                        if type(error) is not SlothStateError:
                            raise
                        raise SlothStateError(f"memoize computes under a lock, so call it before: {error}") from error
                    found = state.get(key)
                    if found is None:
                        found = [function(*arguments, **options)]
                        state.set(key, found, ttl)
                        # As the others will see it; it may have expired by now.
                        found = state.get(key, found)
            if not isinstance(found, list) or len(found) != 1:
                raise WrongType(f"{key!r} holds something that memoize has not kept there", key)
            result: R = found[0]
            return result

        return remembered

    return decorate


def _key(prefix: str, signature: inspect.Signature, arguments: Any, options: Any) -> str:
    bound = signature.bind(*arguments, **options)
    bound.apply_defaults()
    try:
        value = parse_json(to_json(bound.arguments))
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (InvalidValue, OutOfRange, RecursionError) as error:
        raise InvalidValue(f"arguments must be plain values: {str(error).removeprefix('value')}") from error
    key = prefix + text
    return key if len(key.encode()) <= 4096 else prefix + sha256(text.encode()).hexdigest()
