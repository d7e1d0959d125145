"""A command that runs while something of the store is held for it: a lock, a claim."""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from types import FrameType
from typing import Final, NoReturn, TypeAlias

from slothstate import State
from slothstate.cli.exits import NOT_FOUND, cannot_run
from slothstate.cli.formatting import is_terminal
from slothstate.cli.opening import open_state

__all__ = ["Child", "leaving_on_signals", "open_beside"]

_ENDING: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")

_PASSED_ON: Final = (*_ENDING, "SIGUSR1", "SIGUSR2")

_PR_SET_PDEATHSIG: Final = 1
_SI_KERNEL: Final = 128


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
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
def open_beside(child: Child, db: str | None, *, create: bool = True) -> Iterator[State]:
    """Open the store while a command waits for its turn."""
    with contextlib.ExitStack() as stack:
        # The thread of a State inherits the mask: a signal that it took would not be there to be passed on. What comes
        # after opening starts it, if it is more than one read.
        with child.signals_blocked():
            state = stack.enter_context(open_state(db, create=create))
            with state.snapshot():
                pass
        yield state


_Turn: TypeAlias = "tuple[dict[str, str], bytes | None, list[str]]"
"""What a child is told when its turn comes: environment variables, stdin, and which variables may be left out."""


class Child:
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
        self.told_to_end: int | None = None
        """The signal that did, if one came while the command ran."""
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

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        # A child whose turn never came sees the end of the pipe and leaves.
        self._turn.close()
        self._failure.close()
        if self._pid:
            os.waitpid(self._pid, 0)

    def run(self, variables: Mapping[str, str], stdin: bytes | None = None, large: Sequence[str] = ()) -> int:
        """Run the command with these environment variables added, pass signals on, and return its exit code.

        `stdin` is what it reads there. Variables in `large` are left out where the system cannot hold them.
        Raises: `Failure` when the command cannot be run.
        """
        with self.signals_blocked():
            with contextlib.suppress(BrokenPipeError):
                turn: _Turn = dict(variables), stdin, list(large)
                _write_all(self._turn, marshal.dumps(turn))
            self._turn.close()
            problem = self._failure.read()
            if problem:
                raise cannot_run(self._command[0], int(problem))
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
            if signal.Signals(number).name in _ENDING:
                self.told_to_end = number
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
    told: _Turn = marshal.loads(message)
    variables, stdin, large = told
    if stdin is not None:
        import tempfile  # with all that it needs, and few commands read anything here

        # A file and not a pipe: nobody has to fill it while the command runs.
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            os.dup2(file.fileno(), 0)
    # Python ignores these two; a command expects them as they are by default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    environment = {name: value for name, value in os.environ.items() if name not in large}
    try:
        with contextlib.suppress(ValueError):
            # A value with NUL is none.
            _execute(command, {**environment, **variables}, large)
        _execute(command, {**environment, **_without(variables, large)}, ())
    except OSError as error:
        os.write(failure, str(error.errno).encode())


def _execute(command: Sequence[str], environment: Mapping[str, str], large: Sequence[str]) -> None:
    """Become the command; return if variables in `large` are too large for the system. Raises: `OSError`."""
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if error.errno != errno.E2BIG or not large:
            raise


def _without(variables: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def _write_all(file: FileIO, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[file.write(view) or 0 :]
