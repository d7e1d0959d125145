"""The connections of a store, taken through a fork: `forking` calls this around one, each step run to the end."""

from __future__ import annotations

import time

from slothstate import native
from slothstate.caller import thread_ident
from slothstate.engines.sqlite import forking
from slothstate.engines.sqlite.idle import Departing
from slothstate.engines.sqlite.pool import Pool
from slothstate.errors import StateClosed

__all__ = ["ForkablePool"]


class ForkablePool(Pool):
    """A pool that no child takes over."""

    def before_fork(self, deadline: float) -> None:
        """Close the connections, so that the child inherits none; wait until `deadline` for those in use."""
        if not self._paused:
            self._paused = self._opening.hold(deadline - time.monotonic())
        own = self._transactions.get(thread_ident())
        # From now on a connection that is given back is closed, or threads that never pause would never be without.
        self._dismiss_idle(Departing(self._close))
        while any(connection not in (own, self._anchor) for connection in self._open_connections()):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.0005)
        if own is None:
            self._drop_anchor()

    def after_fork_in_parent(self) -> None:
        """Go on, with connections that are opened when they are needed."""
        self._forget_log()
        self._idle = self._new_idle()
        self._paused = None

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, and refuse to go on if there are any."""
        inherited = self._open_connections()
        for connection in inherited:
            connection.inherited = True
            forking.keep(connection)
        self._opening = native.Mutex()
        self._paused = None
        self._idle = self._new_idle()
        self._transactions.clear()
        self._anchor = None
        self.cache.forked()
        if inherited:
            self._refusal = StateClosed(f"the state on {self.path} cannot be used in this process: {forking.reason()}")
        # For a second run not before this.
        self._connections.clear()
        self._kept.clear()
        self._forget_log()
