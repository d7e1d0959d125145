"""`state.watch` and `state.unwatch`: loops that are left, by `break`, `return` or an error, end their watch."""

from __future__ import annotations

import weakref
from contextlib import suppress
from pathlib import Path

from slothstate.calling_off import CalledOff
from slothstate.errors import SlothStateError
from slothstate.hints import Any
from slothstate.lua.runtime import is_lua
from slothstate.state import State
from slothstate.values import Seconds, check_seconds

__all__ = ["Watching", "collecting"]


class Watching:
    """What the scripts of one runtime watch.

    A Lua that closes what a loop is left with (5.4 and later) ends the watch at once. In the others the collector does,
    which watch.lua runs before another watch begins; and `unwatch()`.
    """

    def __init__(self, view: State) -> None:
        self._view = view
        self._open: weakref.WeakSet[_Following] = weakref.WeakSet()

    def watch(
        self, pattern: str | None = None, *, name: str | None = None, timeout: Seconds | None = None
    ) -> _Following:
        """Return an iterator over keys and what became of them; it ends `timeout` seconds after the last change.

        One with a name ends that which this runtime has under the name.
        """
        seconds = None if timeout is None else check_seconds(timeout, "timeout", zero=True)
        if name is not None:
            for each in list(self._open):
                if each.name == name:
                    each.close(f"this watch has ended: another one goes on as {name!r}")
        following = _Following(self._view, pattern, name, seconds)
        self._open.add(following)
        return following

    def unwatch(self, name: str | None = None) -> bool:
        """Forget the watch of a name; without one end all that this runtime watches. Return whether there was any."""
        if name is not None:
            return self._view.unwatch(name)
        ended = [each.close() for each in list(self._open)]
        return any(ended)


def collecting(runtime: Any, watch: Any) -> Any:
    """Return the function `watch` of a runtime, such that it lets go of what loops have left; where its Lua can."""
    names = runtime.globals()
    functions = [names[name] for name in (b"collectgarbage", b"next", b"setmetatable")]
    if not all(is_lua(function, "function") for function in functions):
        return watch
    source = Path(__file__).with_name("watch.lua").read_bytes()
    return runtime.execute(source, watch, *functions, name=b"=slothstate:watch")


class _Following:
    """An iterator over the changes of one watch, which ends when nobody has it any more."""

    def __init__(self, view: State, pattern: str | None, name: str | None, timeout: float | None) -> None:
        self._watch = view.watch(pattern, name=name)
        self._timeout = timeout
        self._refusal = ""
        self.name = name
        self._end = weakref.finalize(self, _end, view, self._watch)
        self._end.atexit = False

    def __call__(self, at_most: float | None = None) -> tuple[str, str] | None:
        """Return a key and what became of it, None at the end; or after `at_most` seconds, which is no end."""
        if self._refusal:
            raise SlothStateError(self._refusal)
        if not self._end.alive:
            return None
        is_cut = at_most is not None and (self._timeout is None or at_most < self._timeout)
        change = self._watch.next(at_most if is_cut else self._timeout)
        if change is not None:
            return change.key, change.op
        if not is_cut:
            self.close()
        return None

    def close(self, refusal: str = "") -> bool:
        """End the watch; return whether it had not ended. `refusal` is the error of who asks for the next change."""
        is_open = self._end.alive
        if is_open:
            self._refusal = refusal
            self._end()
        return is_open


def _end(view: State, watch: Any) -> None:
    """End a watch, also out of Lua's collector, which runs anywhere; what cannot be ended now ends with its process."""
    with suppress(SlothStateError, CalledOff):
        if view._engine.in_transaction:
            view._engine.after_transaction(watch.close)
        else:
            watch.close()
