"""The verbs of `state` as a script of the host has them: no longer than its task may take, and none that acts elsewhere
in a dry run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from slothstate.lua.binding import Verb
from slothstate.lua.host.report import Reporter

__all__ = ["in_time", "only_said"]

_WAITS: Final[dict[str, tuple[int, float | None]]] = {
    "lock": (1, None),
    "with_lock": (1, None),
    "wait": (2, None),
    "list_pop": (2, 0),
    "list_shift": (2, 0),
    "list_claim": (1, 0),
}
"""The verbs that wait: which argument says how long (a function is none), and what it is if it is absent."""


def in_time(verb: Verb, limit: Callable[[], float | None]) -> Verb:
    """Let a verb that waits wait no longer than to a moment of the monotonic clock, where there is one."""
    if verb.name not in _WAITS:
        return verb
    place, default = _WAITS[verb.name]

    def function(*arguments: Any, **options: Any) -> Any:
        end = limit()
        if end is not None:
            left = max(0.0, end - time.monotonic())
            given = list(arguments) + [None] * (place + 1 - len(arguments))
            timeout = default if given[place] is None else given[place]
            if timeout is None or timeout > left:
                given[place] = left
                return verb.function(*given, **options)
        return verb.function(*arguments, **options)

    return verb._replace(function=function)


def only_said(verb: Verb, reporter: Reporter) -> Verb:
    """Let the one verb that writes elsewhere than to the store only say so."""
    if verb.name != "backup":
        return verb

    def function(path: str) -> bool:
        reporter.log("info", f"dry run, not done: state.backup {path}")
        return True

    return verb._replace(function=function)
