"""Doing something once, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

from slothstate import SlothStateError, State, WrongType
from slothstate.recipes.checks import check_function, check_state

__all__ = ["once"]


def once(state: State, key: str, fn: Callable[[], Any]) -> Any:
    """Return what `fn()` returned the first time that anybody asked under this key, in any process.

    One calls it, the others wait; if that one dies another calls it, so it may begin twice, but only one result is ever
    kept. An exception goes on, and the next one tries again. The result is what a list can hold: no bytes, but None is
    one. `delete(key)` forgets it. The lock meanwhile is `once:KEY` (past 4,096 bytes `once:` and the key's SHA-256).
    Raises: `InvalidKey`; `InvalidValue` for a result that cannot be stored, and then it counts as never called, and for
    an `fn` that is no plain function; `WrongType` if the key holds something else; `SlothStateError` inside a
    transaction or a snapshot, unless the result is there already.
    """
    check_state(state)
    # In a list, because None is a result and no value.
    found = state.get(key)
    if found is None:
        check_function(fn)
        octets = key.encode()
        with ExitStack() as stack:
            try:
                stack.enter_context(state.locked(f"once:{key if len(octets) <= 4091 else sha256(octets).hexdigest()}"))
            except SlothStateError as error:
                if type(error) is not SlothStateError:
                    raise
                raise SlothStateError(f"once calls its function under a lock, so call it before: {error}") from error
            found = state.get(key)
            if found is None:
                found = [fn()]
                state.set(key, found)
                # As the others will see it; it may have been deleted by now.
                found = state.get(key, found)
    if not isinstance(found, list) or len(found) != 1:
        raise WrongType(f"{key!r} holds something that once has not kept there", key)
    return found[0]
