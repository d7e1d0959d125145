"""One acquisition of a lock: what holds it, and whether waiting for it would be waiting for oneself."""

from __future__ import annotations

from slothstate.caller import current, is_alone, is_cooperative
from slothstate.errors import AlreadyHeld
from slothstate.hints import NoReturn
from slothstate.identity import new_nonce

__all__ = ["Acquisition", "refuse_own"]


class Acquisition:
    """One caller's hold on a lock, or its wait for one.

    `nonce` is a random number that no other acquisition has. `key` is what a State finds it by: a caller holds a name
    once at most. `life` stands for the State before or after a fork: what the parent acquired is not the child's.
    `is_scoped`: a block of its caller ends it. `shared` and `slots` say who else may hold the lock at the same time.
    """

    __slots__ = (
        "caller",
        "has_ttl",
        "is_ended",
        "is_scoped",
        "key",
        "life",
        "name",
        "nonce",
        "shared",
        "slots",
        "token",
    )

    def __init__(
        self, name: str, life: object, *, has_ttl: bool, is_scoped: bool = False, shared: bool = False, slots: int = 1
    ) -> None:
        self.name = name
        self.shared = shared
        self.slots = slots
        self.nonce = new_nonce()
        self.caller = current()
        self.key = (name, self.caller.identity)
        self.life = life
        self.has_ttl = has_ttl
        self.is_scoped = is_scoped
        self.is_ended = False
        self.token = 0


def refuse_own(holder: Acquisition, mine: Acquisition, timeout: float | None, *, same_state: bool) -> None:
    """Refuse a wait that only the waiting thread could end, since `holder` is of this process and holds the lock.

    Raises: `AlreadyHeld`.
    """
    if not holder.caller.shares_thread(mine.caller):
        return
    is_same = holder.caller == mine.caller
    if is_same and (mine.shared or mine.slots > 1 or holder.shared or holder.slots > 1):
        # There may be room for it, but who holds a lock twice in one thread has lost count.
        refuse(holder, mine, same_state=same_state)
    if not is_same and is_cooperative():
        return
    if is_same and same_state:
        # Any thread may unlock what no block holds: a job's lock, which a later job in the same thread waits for.
        waits = timeout and not holder.is_scoped and (is_cooperative() or not is_alone())
    elif timeout == 0 or holder.has_ttl:
        waits = True
    else:
        # Another task of the thread cannot go on while this one waits.
        waits = is_same and timeout is not None and not holder.is_scoped
    if not waits:
        refuse(holder, mine, same_state=same_state)


def refuse(holder: Acquisition, mine: Acquisition, *, same_state: bool) -> NoReturn:
    """Raise `AlreadyHeld`."""
    through = "this State" if same_state else "another State of this process"
    is_same = holder.caller == mine.caller
    raise AlreadyHeld(
        f"lock {mine.name!r} is already held by {through}, in {holder.caller.describe()} (token {holder.token}): "
        f"{'it' if is_same else mine.caller.describe()} would wait for itself"
    )
