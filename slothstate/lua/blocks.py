"""The verbs that call a Lua function: what they do before it, and, as what they return, after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from slothstate import Lock
from slothstate.errors import LockTimeout
from slothstate.hints import Any
from slothstate.lua import lists
from slothstate.state import State
from slothstate.values import Encoded

__all__ = ["enter_block", "enter_claim", "enter_lock"]


class _Failed(Exception):
    """Tells a block that the Lua function in it failed."""


def enter_block(block: Callable[[], AbstractContextManager[None]]) -> tuple[Callable[[bool], None], None]:
    """Enter a transaction or a snapshot."""
    manager = block()
    manager.__enter__()

    def leave(failed: bool) -> None:
        with suppress(_Failed):
            manager.__exit__(_Failed if failed else None, _Failed() if failed else None, None)

    return leave, None


def enter_lock(
    view: State, name: str, timeout: float | None = None, **options: Any
) -> tuple[Callable[[bool], None] | None, Any]:
    """Acquire a lock, which the function is given the token of; without one, say why."""
    manager = view.locked(name, timeout, **options)
    try:
        lock = manager.__enter__()
    except LockTimeout as error:
        return None, str(error)

    def leave(failed: bool) -> None:
        # The function may have unlocked it itself, which is no loss.
        is_over = failed or (isinstance(lock, Lock) and lock._held.is_ended)
        manager.__exit__(_Failed if is_over else None, None, None)

    return leave, lock.token


def enter_claim(
    view: State, key: str | Encoded, timeout: float | None = 0, **options: Any
) -> tuple[Callable[[bool], None] | None, Any]:
    """Claim an item, which the function is given with its attempt; without one, say why."""
    claim = view.list_claim(lists.keys_of(key), 0 if timeout is None else timeout, **options)
    if claim is None:
        return None, "timeout"

    def leave(failed: bool) -> None:
        claim.__exit__(_Failed if failed else None, None, None)

    return leave, (claim.item, claim.attempt)
