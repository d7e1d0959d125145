"""What the parts of a run need of the host that puts them together (`slothstate.lua.host.host`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from slothstate.hints import Any, Protocol
from slothstate.lua.host.exec import CommandResult
from slothstate.lua.host.place import Place
from slothstate.lua.host.workflow import Task

__all__ = ["Surroundings"]


class Surroundings(Protocol):
    """The runtime and its Lua parts, commands, and what ends a run early."""

    reporter: Any
    workers: Any
    exit_code: int

    @property
    def has_lost_output(self) -> bool:
        """Whether something that the script printed could not be written."""

    def note_lost_output(self) -> None:
        """Note that something that was printed could not be written."""

    @property
    def interrupted(self) -> bool:
        """Whether the run is to end."""

    def go_on(self) -> None:
        """Raise if the run is to end."""

    def interrupt(self, *, kill: bool = False) -> None:
        """Ask the run to end."""

    def overrun(self) -> float:
        """Return for how long the task has run past its limit."""

    def part(self, name: bytes) -> Any:
        """Return one of the Lua parts."""

    def table(self, fields: Mapping[str, Any]) -> Any:
        """Return a Lua table."""

    def raw_table(self, fields: Mapping[bytes, Any] | Sequence[Any]) -> Any:
        """Return a Lua table of these very keys, or of a sequence."""

    def decode(self, text: bytes) -> Any:
        """Return the Lua value of a JSON text."""

    def command(self, command: str, place: Place, timeout: float | None) -> CommandResult:
        """Run a shell command."""

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is interrupted."""

    def explained(self, message: str, task: Task) -> str:
        """Return a message as it is shown for a task."""

    def placed(self, place: Place) -> AbstractContextManager[None]:
        """Let what runs in the block run at a place."""

    def attempting(self, task: Task, limit: float | None) -> AbstractContextManager[None]:
        """Let the block be an attempt at a task, for so many seconds at most."""
