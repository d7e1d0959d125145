"""Limiting how often something is done."""

from __future__ import annotations

from datetime import timedelta

from slothstate import InvalidKey, InvalidValue, State
from slothstate.recipes.checks import check_state

__all__ = ["rate_limit"]


def rate_limit(state: State, name: str, limit: int, per: float | timedelta) -> bool:
    """Count one use of `name` and return whether it is among the first `limit` of this period, over all processes.

    A period of `per` seconds begins with the first use after the last one has ended (a fixed window, as Redis's INCR
    and EXPIRE are used for it, without the race between the two): in the worst case twice `limit` uses follow each
    other where two periods meet. Uses past the limit count, too. The key is `rate_limit:NAME`.
    Raises: `InvalidValue` unless `limit` is an int >= 0 and `per` > 0; `InvalidKey` unless `name` is a str that is not
    empty, and short enough for the key; `WrongType` if the key holds something else.
    """
    check_state(state)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidValue(f"limit must be an int >= 0, got {limit!r}")
    if not isinstance(name, str) or not name:
        raise InvalidKey(f"name must be a str that is not empty, got {name!r}")
    if per is None:
        raise InvalidValue("per must be a number of seconds > 0 or a timedelta, got None")
    try:
        return state.increment(f"rate_limit:{name}", ttl=per) <= limit
    except InvalidKey as error:
        raise InvalidKey(f"name must fit into a key: {error}") from error
    except InvalidValue as error:
        raise InvalidValue(f"per: {error}") from error
