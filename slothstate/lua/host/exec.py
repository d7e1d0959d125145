"""Shell commands: run one, bounded in time, and end it with every process that it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from slothstate.hints import TYPE_CHECKING, Any, Literal
from slothstate.lua.host.family import end_family

if TYPE_CHECKING:
    from slothstate.lua.host.place import Identity

__all__ = ["CommandResult", "CommandRunner"]

Stopped = Literal["timeout", "interrupt"]

CANNOT_RUN = 127
"""The code of a command that could not be started, as in a shell."""

_SIGNAL_GRACE = 0.2
"""Seconds that a signal which has ended a command has to come to this process, too."""

_TERMINATE_GRACE = 0.5
"""Seconds between asking a command to end (SIGTERM) and ending it (SIGKILL)."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended: its exit code (128 + n after signal n) and, unless inherited, its output.

    `stopped` says that it did not end by itself but ran out of time or was interrupted.
    """

    code: int
    stdout: bytes = b""
    stderr: bytes = b""
    stopped: Stopped | None = None
    signal: int = 0
    """The number of the signal that ended it, if one did."""


class _Process(subprocess.Popen[bytes]):
    """The process of a command."""

    def __init__(self, command: list[str], *, start_new_session: bool = False, **options: Any) -> None:
        self._leads_session = start_new_session
        super().__init__(command, start_new_session=start_new_session, **options)

    def signal_all(self, *, kill: bool) -> None:
        """Ask it to end, or end it, with all that it has started."""
        if os.name == "nt":
            self.kill()
        elif not self._leads_session:
            end_family(self.pid, itself=self.returncode is None, kill=kill)
        else:
            # Its pid names the group; a group whose last process is gone has no members.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL if kill else signal.SIGTERM)


class CommandRunner:
    """Runs one command at a time, and ends it with everything it started.

    Those of `run` have a session of their own, no terminal and an empty standard input: they never wait for an answer
    that nobody sees asked.
    """

    def __init__(self) -> None:
        # Reentrant: the handler of a signal may interrupt the very thread that starts a command.
        self._lock = threading.RLock()
        self._running: _Process | None = None
        self._interrupted = threading.Event()

    def run(
        self,
        command: str | bytes,
        *,
        workdir: str | bytes | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        timeout: float | None = None,
        capture: bool = True,
        user: Identity | None = None,
    ) -> CommandResult:
        """Run a shell command and wait for its end.

        `env` is added to this process's own variables, with those that name the `user`. `capture=False` lets
        the command write to this process's stdout and stderr. After `timeout` seconds, or an `interrupt()`, the
        command is ended with all of its session. As in a shell, output is complete when nobody can write to it
        any more: what a command leaves running in the background must have its output elsewhere, or it is
        waited for. A command that cannot be started (no such `workdir`) has the code 127 and says why on its
        stderr.
        """
        if self._interrupted.is_set():
            return CommandResult(CANNOT_RUN, stopped="interrupt")
        output = subprocess.PIPE if capture else None
        variables = {os.fsdecode(name): os.fsdecode(value) for name, value in (env or {}).items()}
        try:
            # Whoever interrupts, and leaves at once, waits until it knows what to end.
            with self._lock:
                process = self._running = _Process(
                    [*_shell(), os.fsdecode(command)],
                    cwd=os.fsdecode(workdir) if workdir is not None else None,
                    env={**os.environ, **(user.variables if user else {}), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    **(user.credentials if user else {}),
                )
        except OSError as error:
            what = os.fsdecode(error.filename or "shell")
            return CommandResult(CANNOT_RUN, stderr=f"{what}: {error.strerror}\n".encode())
        return self._ended(process, timeout)

    def run_in_terminal(self, command: str | bytes, timeout: float | None = None) -> CommandResult:
        """Run a command as C's `system` does, with the terminal and standard input of this process.

        It ends as one of `run` does: with all that is below it then.
        """
        if self._interrupted.is_set():
            return CommandResult(CANNOT_RUN, stopped="interrupt")
        try:
            with self._lock:
                process = self._running = _Process(["/bin/sh", "-c", os.fsdecode(command)], close_fds=False)
        except OSError:
            return CommandResult(CANNOT_RUN)
        result = self._ended(process, timeout)
        if signal.SIGINT in (result.signal, result.code - 128) and self._interrupted.wait(_SIGNAL_GRACE):
            # Of a Ctrl-C at the terminal, which comes to all of its processes.
            return replace(result, stopped="interrupt")
        return result

    def _ended(self, process: _Process, timeout: float | None) -> CommandResult:
        stopped: Stopped | None = None
        with process, self._registered(process):
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                stopped = "timeout"
                stdout, stderr = _end(process)
            except BaseException:
                _end(process)
                raise
        if self._interrupted.is_set():
            stopped = "interrupt"
        code = process.returncode
        return CommandResult(
            code if code >= 0 else 128 - code, stdout or b"", stderr or b"", stopped, signal=max(0, -code)
        )

    @property
    def is_busy(self) -> bool:
        """Whether a command runs."""
        return self._running is not None

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._interrupted.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not past an `interrupt`."""
        self._interrupted.wait(seconds)

    def interrupt(self, *, kill: bool = False) -> None:
        """Ask the running command to end (`kill`: end it), and start no other. Called from any thread."""
        self._interrupted.set()
        with self._lock:
            if self._running is not None:
                self._running.signal_all(kill=kill)

    @contextlib.contextmanager
    def _registered(self, process: _Process) -> Iterator[None]:
        if self._interrupted.is_set():
            process.signal_all(kill=True)
        try:
            yield
        finally:
            with self._lock:
                self._running = None


def _shell() -> list[str]:
    """bash where there is one, as in sloth-runner, whose scripts rely on it; else the system's shell."""
    if os.name == "nt":
        return [os.environ.get("COMSPEC", "cmd.exe"), "/c"]
    return [shutil.which("bash") or "/bin/sh", "-c"]


def _end(process: _Process) -> tuple[bytes, bytes]:
    """End a command with everything that it started; returns what it had written."""
    for kill in (False, True):
        process.signal_all(kill=kill)
        try:
            output = process.communicate(timeout=_TERMINATE_GRACE)
        except subprocess.TimeoutExpired as expired:
            # Past the second signal only a process that left the session can hold the pipes open: leave it alone.
            output = (expired.stdout or b"", expired.stderr or b"")
        else:
            # The leader went politely; what it left behind goes as well.
            process.signal_all(kill=True)
            return output
    return output
