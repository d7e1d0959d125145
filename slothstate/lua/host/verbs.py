"""The verbs of `state` as a script of the host has them: no longer than its task may take, and none that acts elsewhere
in a dry run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from slothstate import State, StateBusy
from slothstate.calling_off import CalledOff
from slothstate.hints import Any, Final
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

_READS: Final = frozenset(
    (
        *("get", "exists", "keys", "scan", "get_ttl", "get_many", "get_field", "list_range", "claims", "watches"),
        *("locks", "stats", "check", "backup", "__index"),
    )
)
"""The verbs that wait for no other writer: they are as fast as they are."""

_LEAVING: Final = 1.0
"""Seconds that what ends a block may wait for other writers, though the time of its task is up."""


def in_time(verb: Verb, state: State, limit: Callable[[], float | None]) -> Verb:
    """Let a verb wait, also for other writers, no longer than to a moment of the monotonic clock, where there is one.

    One that has waited in vain until then raises: the task is over.
    """
    if verb.name in _READS:
        return verb
    within = state._engine.changes.within

    def function(*arguments: Any, **options: Any) -> Any:
        end = limit()
        if end is None:
            return _later(verb, verb.function(*arguments, **options), within, limit)
        left = max(0.0, end - time.monotonic())
        given = _cut(verb.name, arguments, left)
        try:
            with within(max(left, 0.001)):
                result = verb.function(*(given or arguments), **options)
        except StateBusy:
            # A server counts in milliseconds.
            time.sleep(max(0.0, min(0.01, end - time.monotonic())))
            raise
        if given is not None and _is_in_vain(verb.name, given, result):
            _end_at(end)
        return _later(verb, result, within, limit)

    return verb._replace(function=function)


def _cut(name: str, arguments: tuple[Any, ...], left: float) -> list[Any] | None:
    """Return the arguments with which a verb waits no longer than that; None where it would not."""
    if name not in _WAITS:
        return None
    place, default = _WAITS[name]
    given = [*arguments, *[None] * (place + 1 - len(arguments))]
    timeout = default if given[place] is None else given[place]
    if timeout is not None and timeout <= left:
        return None
    given[place] = left
    return given


def _is_in_vain(name: str, given: Sequence[Any], result: Any) -> bool:
    """Return whether a verb has waited for nothing: what it has taken is never thrown away."""
    if name in ("list_pop", "list_shift"):
        return result is given[1]
    if name in ("with_lock", "list_claim"):
        return result[0] is None
    return name == "wait" or not result


def _later(verb: Verb, result: Any, within: Callable[[float], Any], limit: Callable[[], float | None]) -> Any:
    """Return what a verb returned, with what the script calls of it later as much in time."""
    if verb.name == "watch":
        return _following_in_time(result, limit)
    if verb.is_scope and result[0] is not None:
        leave, given = result
        return _leaving_in_time(leave, within, limit), given
    return result


def _end_at(end: float) -> None:
    """Raise if that moment has come."""
    if time.monotonic() >= end:
        raise CalledOff("timed out")


def _leaving_in_time(
    leave: Callable[[bool], Any], within: Callable[[float], Any], limit: Callable[[], float | None]
) -> Callable[[bool], Any]:
    """Return the end of a scope, which the end of its task's time does not keep from being written."""

    def leaving(failed: bool) -> Any:
        end = limit()
        if end is None:
            return leave(failed)
        with within(max(_LEAVING, end - time.monotonic())):
            return leave(failed)

    return leaving


def _following_in_time(following: Callable[..., Any], limit: Callable[[], float | None]) -> Callable[[], Any]:
    """Return the iterator of a watch, whose waits are as long as whoever calls it may take then."""

    def next_in_time() -> Any:
        end = limit()
        if end is None:
            return following()
        found = following(max(0.0, end - time.monotonic()))
        if found is None:
            _end_at(end)
        return found

    return next_in_time


def only_said(verb: Verb, reporter: Reporter) -> Verb:
    """Let the one verb that writes elsewhere than to the store only say so."""
    if verb.name != "backup":
        return verb

    def function(path: str) -> bool:
        reporter.log("info", f"dry run, not done: state.backup {path}")
        return True

    return verb._replace(function=function)
