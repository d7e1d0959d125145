"""A command that runs while something of the store is held for it: a lock, a claim, a change of a watch."""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import FileIO
from types import FrameType

from slothstate.cli.exits import NOT_FOUND, STORE_ERROR, Failure, cannot_run
from slothstate.cli.formatting import is_terminal
from slothstate.hints import Final, NoReturn, TypeAlias

__all__ = ["Child", "Repeated", "leaving_on_signals", "signals_blocked", "signals_free"]

_ENDING: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")

_PASSED_ON: Final = (*_ENDING, "SIGUSR1", "SIGUSR2")

_SHELL: Final = "/bin/sh"

_HEAD: Final = 256
"""Bytes at the beginning of a file that tell whether it is text."""

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
def signals_blocked() -> Iterator[set[int]]:
    """Keep the signals that go to a command, and SIGCHLD, from this thread and those it starts meanwhile.

    Yields the mask that was before, in which a command is to run and a wait to be ended.
    """
    # Blocked and taken one by one: only so does the kernel tell where a signal comes from.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _signals_taken())
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def signals_free(mask: set[int]) -> Iterator[None]:
    """Let signals end what the block waits for, inside `signals_blocked`, which gave the `mask`."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signals_taken() -> set[signal.Signals]:
    """Return SIGCHLD, and the signals that go to the command: those that nobody has ignored."""
    passed_on = [signal.Signals[name] for name in _PASSED_ON]
    return {signal.SIGCHLD, *(number for number in passed_on if signal.getsignal(number) != signal.SIG_IGN)}


_Turn: TypeAlias = "tuple[dict[str, str], bytes | None, list[str]]"
"""What a child is told when its turn comes: environment variables, stdin, and which variables may be left out."""


class Child:
    """A process that waits for its turn, then becomes the command.

    It is forked first of all, while this process has no thread and no open store that a fork would have to mind. What
    holds the lock is a descriptor that it never has, so nothing the command leaves behind can keep the lock.
    """

    def __init__(self, command: Sequence[str], mask: set[int] | None = None) -> None:
        """Fork it; `mask` are the signals that are blocked for the command, by default those that are."""
        self._command = command
        # Ignored by whoever started us, it would have the kernel drop the child's exit code.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._signals = _signals_taken()
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
                if mask is not None:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
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
        with signals_blocked():
            with contextlib.suppress(BrokenPipeError):
                turn: _Turn = dict(variables), stdin, list(large)
                _write_all(self._turn, marshal.dumps(turn))
            self._turn.close()
            problem = self._failure.read()
            if problem:
                number = int(problem)
                raise cannot_run(self._command[0], number, _why_not(self._command[0], number))
            return self._wait()

    def _wait(self) -> int:
        while True:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._pid = 0
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            self.told_to_end = _pass_on(self._signals, self._pid) or self.told_to_end


class Repeated:
    """A process that runs a command whenever it is told to, one at a time.

    Forked first of all, as a `Child` is, because each command is forked by it: a fork of a process that has a store
    open ends the threads of the store and begins them anew, which takes longer than many a command.
    """

    def __init__(self, command: Sequence[str], mask: set[int]) -> None:
        """Fork it inside `signals_blocked`, which gave the `mask`."""
        self.told_to_end: int | None = None
        """The signal that did, if one came while the command ran."""
        self._signals = _signals_taken()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent = _parent_death()
        read_turn, write_turn = os.pipe()
        read_result, write_result = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            try:
                die_with_parent()
                os.close(write_turn)
                os.close(read_result)
                if os.getppid() == parent:
                    _serve(command, mask, FileIO(read_turn), FileIO(write_result, "w"), parent)
            finally:
                os._exit(0)
        os.close(read_turn)
        os.close(write_result)
        self._turns = FileIO(write_turn, "w")
        self._results = FileIO(read_result)

    def __enter__(self) -> Repeated:
        return self

    def __exit__(self, *_: object) -> None:
        self._turns.close()
        self._results.close()
        os.waitpid(self._pid, 0)

    def run(self, variables: Mapping[str, str]) -> int:
        """Run the command once, inside `signals_blocked`; as `Child.run`."""
        with contextlib.suppress(BrokenPipeError):
            _write_all(self._turns, marshal.dumps(dict(variables)))
        while not select.select([self._results], [], [], 0)[0]:
            # The process sends SIGCHLD when a command has ended, and the kernel does when the process has.
            self.told_to_end = _pass_on(self._signals, self._pid) or self.told_to_end
        try:
            code, why = marshal.load(self._results)
        except EOFError:
            raise Failure("the process that runs the command was killed", STORE_ERROR) from None
        if why:
            raise Failure(why, code)
        return int(code)


def _serve(command: Sequence[str], mask: set[int], turns: FileIO, results: FileIO, parent: int) -> None:
    """Run the command for each message, until there are no more."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            variables = marshal.load(turns)
            try:
                with Child(command, mask) as child:
                    result = child.run(variables), ""
            except Failure as error:
                result = error.exit_code, str(error)
            _write_all(results, marshal.dumps(result))
            os.kill(parent, signal.SIGCHLD)


def _why_not(program: str, number: int) -> str:
    """Return why a command cannot be run, where errno `number` alone would mislead; else ""."""
    if number == errno.ENOENT and (path := _found(program, os.environ)) and (interpreter := _interpreter(path)):
        return f"there is no {interpreter!r}, which its first line names"
    return ""


def _interpreter(path: str) -> str:
    """Return the program that the first line of a script names, "" if that is none."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        line = file.readline(256)
        if line.startswith(b"#!"):
            return os.fsdecode((line[2:].split() or [b""])[0])
    return ""


def _found(program: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of the file that a command's first word means, None if there is none."""
    import shutil  # few commands cannot be run

    return shutil.which(program, path=environment.get("PATH", os.defpath))


def _pass_on(numbers: set[signal.Signals], pid: int) -> int | None:
    """Wait for one of these blocked signals, and send it to a process; return it if it tells that to end."""
    number, from_terminal = _next_signal(numbers)
    # The terminal's own (Ctrl-C, a hang-up) went to the process as well, which is in the same group.
    if number != signal.SIGCHLD and not from_terminal:
        os.kill(pid, number)
    return number if signal.Signals(number).name in _ENDING else None


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
    if not command[0]:
        # As from a variable that is not set. Python would say that it is no argument at all.
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if error.errno == errno.ENOEXEC and (script := _shell_script(command[0], environment)) is not None:
            os.execve(_SHELL, [_SHELL, script, *command[1:]], environment)
        if error.errno != errno.E2BIG or not large:
            raise


def _shell_script(program: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of a file without a first line `#!` that is text: for the shell, as execvp(3) has it."""
    path = _found(program, environment)
    if path is not None:
        with open(path, "rb") as file:
            # A program of another machine is none.
            return None if b"\0" in file.read(_HEAD) else path
    return None


def _without(variables: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def _write_all(file: FileIO, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[file.write(view) or 0 :]
