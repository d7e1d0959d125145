"""A store as its parts use it: statements (`Pool`), and the blocks that hold on to a connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from slothstate import native
from slothstate.engines.postgres.blocks import SnapshotBlock, TransactionBlock
from slothstate.engines.postgres.pool import Pool

__all__ = ["Store"]


class Store(Pool):
    """The store of one engine."""

    def transaction(self, first: Callable[[], object] | None = None) -> AbstractContextManager[None]:
        block = TransactionBlock(self, first)
        return native.Scope(block.begin, block.end)

    def step(self) -> AbstractContextManager[None]:
        """A transaction for one verb of several statements: to those who watch it is one change."""
        block = TransactionBlock(self, is_step=True)
        return native.Scope(block.begin, block.end)

    def snapshot(self) -> AbstractContextManager[None]:
        block = SnapshotBlock(self)
        return native.Scope(block.begin, block.end)
