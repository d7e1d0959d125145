"""Parts of an engine for programs that never ask for them: imported and made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Late"]


class Late:
    """Stands for a part of an engine until there is one.

    `make` makes it, or gives the one that was made, and puts it in place of this. `quiet` are members that end or
    forget what the part did, and so do nothing here.
    """

    def __init__(self, make: Callable[[], Any], *quiet: str) -> None:
        self._make = make
        self._quiet = quiet

    def __getattr__(self, member: str) -> Any:
        if member.startswith("__"):
            raise AttributeError(member)
        if member in self._quiet:
            return _nothing
        found = getattr(self._make(), member)
        # For who goes on asking this one.
        self.__dict__[member] = found
        return found


def _nothing() -> None:
    pass
