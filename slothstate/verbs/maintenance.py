"""Looking after a store."""

from __future__ import annotations

import os

from slothstate.errors import SlothStateError
from slothstate.verbs.base import Verbs

__all__ = ["MaintenanceVerbs"]


class MaintenanceVerbs(Verbs):
    """The verbs of whoever operates a store."""

    def sweep(self) -> int:
        """Remove now what has expired, keys and locks; return how many keys went.

        >>> state.sweep()
        0
        """
        self._engine.locks.sweep()
        self._engine.watches.sweep()
        return self._engine.upkeep.sweep()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the store to a new file (0600) while others go on using it.

        Raises: `UnsafeState` when `path` exists; `StateIOError` when it cannot be written.
        """
        self._engine.upkeep.backup(path)

    def compact(self) -> None:
        """Remove what has expired and rewrite the file without the space that deleted keys left in it.

        Others can read meanwhile, and write once it is done. It needs about twice the size of the store in free disk
        space.
        Raises: `SlothStateError` inside a transaction; `StateFull`.
        """
        self._engine.require_usable()
        self._engine.require_writable()
        if self._engine.in_transaction:
            raise SlothStateError("a store cannot be compacted inside a transaction")
        self.sweep()
        self._engine.upkeep.compact()

    def check(self) -> list[str]:
        """Return a sentence for everything that is wrong with the store; an empty list when it is sound.

        >>> state.check()
        []
        """
        return self._engine.upkeep.check()
