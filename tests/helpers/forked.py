"""Running `slothstate` to its end in a process that is forked from one which has imported all of it.

It has arguments, streams, a directory, an environment and an exit of its own, and takes a sixth of the time of one that
is started: most of that goes into imports. What matters as a process starts (signals meanwhile, variables that Python
reads, what is imported) is to be tested with one that is started, by `helpers.command.start`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

import slothstate
from helpers.support import SANITIZED, at_exit
from slothstate.__main__ import main

__all__ = ["IS_POSSIBLE", "finished", "serve"]

IS_POSSIBLE: Final = hasattr(os, "pidfd_open") and not SANITIZED


def finished(
    words: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float, patch: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `slothstate` with these words, and pipes for its streams, to its end, and before it the Python code `patch`.

    Raises: subprocess.TimeoutExpired.
    """
    words = [*map(str, words)]
    answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (reading, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = (os.pipe() for _ in range(3))
    request = pickle.dumps((words, os.fspath(cwd), dict(env), patch))
    socket.send_fds(_server(), [request], [reading, stdout, stderr, theirs.fileno()])
    theirs.close()
    for descriptor in (reading, stdout, stderr):
        os.close(descriptor)
    with answer, ThreadPoolExecutor(3) as pool:
        pool.submit(_write, to_stdin, stdin)
        said = [pool.submit(_read, descriptor) for descriptor in (from_stdout, from_stderr)]
        pid = int(answer.recv(16))
        answer.settimeout(timeout)
        try:
            code = int(answer.recv(16))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout) from None
        out, err = (each.result(timeout) for each in said)
    return subprocess.CompletedProcess(words, code, out, err)


def _write(descriptor: int, data: bytes) -> None:
    # Who reads may have ended.
    with suppress(BrokenPipeError), open(descriptor, "wb") as stream:
        stream.write(data)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as stream:
        return stream.read()


@cache
def _server() -> socket.socket:
    """Start the process that is forked from, which ends with this one; return where it is told of commands."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tests = str(Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(1, {tests!r}); from helpers.forked import serve; serve({theirs.fileno()})"
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            # Like those of the commands: what Python makes of its streams depends on what they are.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end() -> None:
        ours.close()
        server.communicate(timeout=60)

    at_exit(end)
    return ours


# In the server


def serve(descriptor: int) -> None:
    """Become each command that this socket tells of, in a child; end with the last of its other ends."""
    for module in pkgutil.walk_packages(slothstate.__path__, "slothstate."):
        # Of an extra that is not installed.
        with suppress(ImportError):
            importlib.import_module(module.name)
    gc.freeze()
    requests = socket.socket(fileno=descriptor)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not requests:
                    selector.unregister(key.fd)
                    _tell_the_end(key.fd, *key.data)
                    continue
                request, descriptors, _, _ = socket.recv_fds(requests, 2**20, 4)
                if not request:
                    return
                command = os.fork()
                if command == 0:
                    _become(request, descriptors)
                *streams, answer = descriptors
                for stream in streams:
                    os.close(stream)
                asker = socket.socket(fileno=answer)
                asker.send(str(command).encode())
                selector.register(os.pidfd_open(command), selectors.EVENT_READ, (command, asker))


def _tell_the_end(pidfd: int, command: int, asker: socket.socket) -> None:
    os.close(pidfd)
    with asker:
        asker.send(str(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])).encode())


def _become(request: bytes, descriptors: list[int]) -> NoReturn:
    for number, stream in enumerate(descriptors[:3]):
        os.dup2(stream, number)
    os.closerange(3, 2**16)
    words, directory, variables, patch = pickle.loads(request)
    sys.argv[1:] = words
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    exec(patch, {})
    code = main()
    # What Python does at its end, but for taking everything apart, which takes as long as a start.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(code)
