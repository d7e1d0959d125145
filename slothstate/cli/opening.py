"""Which store a command works on, and how it is opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import slothstate
from slothstate import State
from slothstate.cli.exits import STORE_ERROR, Failure
from slothstate.cli.formatting import escaped
from slothstate.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import click

__all__ = ["SETTINGS", "has_store", "open_settings", "open_state", "sharing_state", "store_address", "store_path"]

SETTINGS: Final = "slothstate.settings"
"""Under this name click's context holds how the store is to be opened: arguments of `slothstate.open`."""

_SHARED: Final = "slothstate.shared"

_STATE: Final = "slothstate.state"


def _context() -> click.Context | None:
    """Return click's context, if the command was found by click and not by `slothstate.cli.quick`."""
    if "click" not in sys.modules:
        return None
    context: click.Context | None = sys.modules["click"].get_current_context(silent=True)
    return context


def store_path(db: str | None) -> str:
    """Return where the store is that `db` stands for (None: the default): its path, or its URL without a password."""
    return db if db == "" else slothstate.display_address(db)


def store_address(db: str | None) -> str:
    """Return what another process opens the same store by: for its environment alone, a URL may have a password."""
    if slothstate.is_server(db):
        return os.environ["SLOTHSTATE_DB"] if db is None else db
    return store_path(db)


def open_state(db: str | None, *, create: bool = False) -> AbstractContextManager[State]:
    """Open the store; a missing one is created only if `create`: reading must not make an empty store appear.

    Inside `sharing_state` it is the one that was opened before, and stays open.

    Raises: `Failure` with the code `STORE_ERROR` if there is no store.
    """
    context = _context()
    shared: ExitStack | None = None if context is None else context.meta.get(_SHARED)
    if context is None or shared is None:
        return _open(db, create)
    if _STATE not in context.meta:
        context.meta[_STATE] = shared.enter_context(_open(db, create))
    return nullcontext(context.meta[_STATE])


@contextmanager
def sharing_state(context: click.Context) -> Iterator[None]:
    """Let all commands that run in the block, below this context, work on one open store: the first one opens it."""
    with ExitStack() as context.meta[_SHARED]:
        yield


def _open(db: str | None, create: bool) -> State:
    path = store_path(db)
    if not create and not has_store(db):
        advice = "name another with --db or $SLOTHSTATE_DB; 'slothstate set' creates it"
        raise Failure(f"there is no store at {escaped(path)}: {advice}", STORE_ERROR)
    return slothstate.open(db, **open_settings())


def open_settings() -> dict[str, Any]:
    """Return how the command was told to open its store: arguments of `slothstate.open`."""
    context = _context()
    return {} if context is None else dict(context.meta.get(SETTINGS, {}))


def has_store(db: str | None) -> bool:
    """Return whether there is a store, or something in its place that opening it will tell of."""
    return slothstate.has_store(db) if db != "" else True
