"""The model of a whole store for the simulation: keys with their time to live, transactions, and one lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from helpers.checkers import apply
from helpers.histories import UNKNOWN, Operation

__all__ = ["LOCK_VERBS", "Timed", "store_model"]

LOCK: Final = "(lock)"
LOCK_VERBS: Final = ("try_lock", "acquire", "unlock")


@dataclass(frozen=True)
class Timed(Operation):
    """An operation with the clock when it was called and when it returned, and its own last reading of it."""

    began_ms: int = 0
    ended_ms: int = 0
    reading_ms: int = 0

    def __str__(self) -> str:
        return (
            f"[{self.called:4}, {self.returned:4}] {self.began_ms % 10**6}-{self.ended_ms % 10**6} {super().__str__()}"
        )


def store_model(state: tuple[Any, ...], operation: Timed) -> tuple[Any, Any]:
    """The model of a whole store: pairs of a key, and its value with the moment that it expires at."""
    entries = dict(state)
    if operation.verb in (*LOCK_VERBS, "fenced"):
        after, result = _lock(entries, operation)
    else:
        after, result = entries, None
        for moment in _moments(entries, operation):
            after, result = _at(moment, entries, operation)
            if operation.result is UNKNOWN or (type(result), result) == (type(operation.result), operation.result):
                break
    return tuple(sorted(after.items(), key=lambda item: item[0])), result


def _moments(entries: dict[str, Any], operation: Timed) -> Iterator[int]:
    """The moments that an operation may have taken for now, as far as they differ; its own reading is tried first.

    The others, because what was expired for one is gone for another that had looked at the clock before it.
    """
    yield operation.reading_ms
    yield operation.began_ms
    for key, (_, *expires) in entries.items():
        if key != LOCK and expires[0] is not None and operation.began_ms < expires[0] <= operation.ended_ms:
            yield expires[0]


def _at(moment: int, entries: dict[str, Any], operation: Timed) -> tuple[dict[str, Any], Any]:
    verb, arguments = operation.verb, operation.arguments
    expiries = {key: expires for key, (_, expires, *_) in entries.items() if key != LOCK}
    live = {key: entries[key][0] for key, expires in expiries.items() if expires is None or expires > moment}
    key = arguments[0] if arguments else ""
    if verb == "exists":
        return entries, key in live
    if verb == "persist":
        had = key in live and expiries[key] is not None
        return ({**entries, key: (live[key], None)} if had else entries), had
    if verb == "set_ttl":
        if key not in live:
            return entries, False
        return {**entries, key: (live[key], operation.reading_ms + round(arguments[1] * 1000))}, True
    if verb == "undone":
        return entries, apply(live, "increment", arguments)[1]
    after, result = apply(live, verb, arguments)
    kept = {key: entry for key, entry in entries.items() if key not in live}
    for key, value in after.items():
        expires = expiries[key] if key in live else None
        if verb == "set" and key == arguments[0]:
            expires = operation.reading_ms + round(arguments[2] * 1000) if len(arguments) > 2 else None
        elif (verb == "set_many" and key in arguments) or (verb == "transfer" and key == arguments[0]):
            expires = None
        kept[key] = (value, expires)
    return kept, result


def _lock(entries: dict[str, Any], operation: Timed) -> tuple[dict[str, Any], Any]:
    """The model of the lock: who holds it (0: nobody), its last token, and between which moments it expires."""
    holder, last, earliest, latest = entries.get(LOCK, (0, 0, 0, 0))
    verb, result, who = operation.verb, operation.result, operation.worker
    if verb in ("try_lock", "acquire"):
        if not result:
            # Whoever cannot have it at once goes without, also when the store is busy.
            return entries, result
        token, ttl = result if verb == "acquire" else last + 1, round(operation.arguments[0] * 1000)
        if (holder and operation.ended_ms < earliest) or token <= last:
            return entries, "refused"
        return {**entries, LOCK: (who, token, operation.began_ms + ttl, operation.ended_ms + ttl)}, result
    if holder == who and operation.ended_ms < earliest:
        possible = result
    else:
        possible = not result or (holder == who and operation.began_ms < latest)
    if not possible:
        return entries, not result
    if verb == "unlock":
        return ({**entries, LOCK: (0, last, 0, 0)} if holder == who else entries), result
    return ({**entries, operation.arguments[0]: (operation.arguments[1], None)} if result else entries), result
