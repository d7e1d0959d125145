"""`protocol.Counters` as operations on a connection (see `operations`), imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from slothstate.engines.sqlite import counters
from slothstate.engines.sqlite.operations import VERBS, writing_key

if TYPE_CHECKING:
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["CounterOperations"]

VERBS.update(
    {
        counters.increment: "increment",
        counters.append: "append",
    }
)


class CounterOperations:
    """`protocol.Counters`."""

    def __init__(self, store: Runner) -> None:
        # The last argument of the three may be left out, which `RunOnKey` does not say.
        self.increment = cast("Callable[..., int | float]", writing_key(store, counters.increment))
        self.append = writing_key(store, counters.append)
