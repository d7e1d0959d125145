"""What a connection has to know of owners."""

from __future__ import annotations

from slothstate.hints import Protocol

__all__ = ["Owners"]


class Owners(Protocol):
    """What tells which owners live (`locks.owner.Ownership`)."""

    @property
    def name(self) -> str | None:
        """The name of this process's own, None if there is none."""

    def is_dead(self, name: str) -> bool:
        """Return whether an owner is dead for certain."""
