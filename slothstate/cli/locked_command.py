"""A command that runs while a lock is held, as with flock(1)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from types import FrameType
from typing import Final, NoReturn

from slothstate import Lock, LockLost, LockTimeout, State
from slothstate.cli import under
from slothstate.cli.exits import MISUSE, STORE_ERROR, Failure, say
from slothstate.cli.formatting import escaped, is_terminal
from slothstate.cli.store import open_state, store_path

__all__ = ["run_locked"]

NOTICE_AFTER: Final = 1.0
"""Seconds of waiting after which a terminal is told for whom."""

CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127

_PASSED_ON: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

_PR_SET_PDEATHSIG: Final = 1
_SI_KERNEL: Final = 128


def run_locked(name: str, command: Sequence[str], timeout: float | None, conflict: int, db: str | None) -> int:
    """Run a command under a lock; return its exit code, or `conflict` when the lock was not acquired.

    Raises: `Failure`, as the help of with-lock says.
    """
    if not hasattr(os, "fork"):
        raise Failure("with-lock needs fork(), which this system does not have", MISUSE)
    with _leaving_on_signals(), _Child(command) as child, _open(child, db) as state:
        code = 0
        if under.runs_under(state, name):
            raise Failure(f"lock {name!r} was not acquired: {under.REASON}", conflict)
        try:
            with _held(state, name, timeout) as lock:
                code = child.run(
                    {
                        "SLOTHSTATE_LOCK_NAME": name,
                        "SLOTHSTATE_LOCK_TOKEN": str(lock.token),
                        "SLOTHSTATE_DB": store_path(db),
                        under.VARIABLE: under.extended(state, lock),
                    }
                )
        except LockTimeout as error:
            raise Failure(f"lock {name!r} was not acquired: {_holder(state, name)}", conflict) from error
        except LockLost as error:
            raise Failure(f"{error}; the command ended with code {code}", STORE_ERROR) from error
        return code


@contextlib.contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """End in good order on SIGTERM and SIGHUP while there is no command yet to pass them on to."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _open(child: _Child, db: str | None) -> Iterator[State]:
    with contextlib.ExitStack() as stack:
        # The thread of a State inherits the mask: a signal that it took would not be there to be passed on. What comes
        # after opening starts it, if it is more than one read.
        with child.signals_blocked():
            state = stack.enter_context(open_state(db, create=True))
            with state.snapshot():
                pass
        yield state


@contextlib.contextmanager
def _held(state: State, name: str, timeout: float | None) -> Iterator[Lock]:
    """Hold the lock; who waits for it at a terminal is told who has it."""
    with contextlib.ExitStack() as stack:
        if is_terminal(sys.stderr) and (timeout is None or timeout > NOTICE_AFTER):
            try:
                lock = stack.enter_context(state.locked(name, NOTICE_AFTER))
            except LockTimeout:
                say(escaped(f"slothstate: waiting for lock {name!r}: {_holder(state, name)}"))
                rest = None if timeout is None else timeout - NOTICE_AFTER
                lock = stack.enter_context(state.locked(name, rest))
        else:
            lock = stack.enter_context(state.locked(name, timeout))
        yield lock


def _holder(state: State, name: str) -> str:
    from slothstate.cli.locks import holder_of  # what it needs takes time to import, and few have to wait

    return holder_of(state, name)


class _Child:
    """A process that waits for its turn, then becomes the command.

    It is forked first of all, while this process has no thread and no open store that a fork would have to mind. What
    holds the lock is a descriptor that it never has, so nothing the command leaves behind can keep the lock.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        # Ignored by whoever started us, it would have the kernel drop the child's exit code.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        passed_on = [signal.Signals[name] for name in _PASSED_ON]
        self._signals = {
            signal.SIGCHLD,
            *(number for number in passed_on if signal.getsignal(number) != signal.SIG_IGN),
        }
        die_with_parent = _parent_death()
        read_turn, write_turn = os.pipe()
        read_failure, write_failure = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            try:
                die_with_parent()
                os.close(write_turn)
                if os.getppid() == parent:
                    _become(command, read_turn, write_failure)
            finally:
                os._exit(NOT_FOUND)
        os.close(read_turn)
        os.close(write_failure)
        # Unbuffered: closing one whose reader has died must not fail.
        self._turn = FileIO(write_turn, "w")
        self._failure = FileIO(read_failure)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        # A child whose turn never came sees the end of the pipe and leaves.
        self._turn.close()
        self._failure.close()
        if self._pid:
            os.waitpid(self._pid, 0)

    def run(self, variables: Mapping[str, str]) -> int:
        """Run the command with these environment variables added, pass signals on, and return its exit code.

        Raises: `Failure` when the command cannot be run.
        """
        with self.signals_blocked():
            with contextlib.suppress(BrokenPipeError):
                # No variable holds NUL.
                self._turn.write(b"\0".join(os.fsencode(f"{name}={value}") for name, value in variables.items()))
            self._turn.close()
            problem = self._failure.read()
            if problem:
                number = int(problem)
                message = f"cannot run {self._command[0]!r}: {os.strerror(number)}"
                raise Failure(message, NOT_FOUND if number == errno.ENOENT else CANNOT_EXECUTE)
            return self._wait()

    @contextlib.contextmanager
    def signals_blocked(self) -> Iterator[None]:
        """Keep the signals that go to the command, and SIGCHLD, from this thread and those it starts meanwhile."""
        # Blocked and taken one by one: only so does the kernel tell where a signal comes from.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self) -> int:
        while True:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._pid = 0
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            number, from_terminal = _next_signal(self._signals)
            # The terminal's own (Ctrl-C, a hang-up) went to the command as well, which is in the same process group.
            if number != signal.SIGCHLD and not from_terminal:
                os.kill(self._pid, number)


def _next_signal(numbers: set[signal.Signals]) -> tuple[int, bool]:
    """Wait for one of these blocked signals; return it, and whether the terminal sent it."""
    if sys.platform == "linux":
        found = signal.sigwaitinfo(numbers)
        return found.si_signo, found.si_code == _SI_KERNEL
    number = signal.sigwait(numbers)
    return number, number in (signal.SIGINT, signal.SIGQUIT) and is_terminal(sys.stdin)


def _parent_death() -> Callable[[], object]:
    """Return what a child calls to be killed when its parent dies; nothing happens where there is no such thing."""
    if sys.platform != "linux":
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _become(command: Sequence[str], turn: int, failure: int) -> None:
    """Wait until the parent holds the lock, then run the command in this process's place."""
    with open(turn, "rb") as pipe:
        message = pipe.read()
    if not message:
        return
    # Python ignores these two; a command expects them as they are by default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        added = (os.fsdecode(variable).partition("=") for variable in message.split(b"\0"))
        os.execvpe(command[0], list(command), {**os.environ, **{name: value for name, _, value in added}})
    except OSError as error:
        os.write(failure, str(error.errno).encode())
