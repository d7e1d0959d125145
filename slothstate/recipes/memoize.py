"""Remembering what a function returned, for every process that uses the store."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, ParamSpec, TypeVar

from slothstate import InvalidValue, State

__all__ = ["memoize"]

P = ParamSpec("P")
R = TypeVar("R")

KEY_MAX_BYTES: Final = 4096
"""A longer key ends with the SHA-256 of its arguments in their place."""


def memoize(state: State, ttl: float | timedelta | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator: results are kept for `ttl` seconds, for good without, and computed by one caller at a time.

    Of several that call with the same arguments at once, in any processes, one computes and the others wait for it; if
    it dies another goes on at once. An exception is kept for nobody. Arguments and results are plain values, what JSON
    has; a result comes back as it would from the store, a tuple as a list; None is remembered too. The key is
    `memoize:MODULE.QUALNAME:` and the arguments as canonical JSON, positional and by keyword alike, with defaults.
    Raises: `InvalidValue` for arguments or results that are no plain values.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        name = f"memoize:{function.__module__}.{function.__qualname__}:"

        @functools.wraps(function)
        def remembered(*arguments: P.args, **options: P.kwargs) -> R:
            key = _key(name, signature, arguments, options)
            # In a list, because None is a result and no value.
            found: Any = state.get(key)
            if found is None:
                with state.locked(key):
                    found = state.get(key)
                    if found is None:
                        found = [function(*arguments, **options)]
                        state.set(key, found, ttl)
                        # As the others will see it; it may have expired by now.
                        found = state.get(key, found)
            result: R = found[0]
            return result

        return remembered

    return decorate


def _key(name: str, signature: inspect.Signature, arguments: Any, options: Any) -> str:
    bound = signature.bind(*arguments, **options)
    bound.apply_defaults()
    try:
        text = json.dumps(bound.arguments, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"arguments must be plain values, what JSON has: {error}") from error
    key = name + text
    return key if len(key.encode()) <= KEY_MAX_BYTES else name + sha256(text.encode()).hexdigest()
