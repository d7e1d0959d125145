"""A process for each peer, and the pipe over which it is told what to do."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bench import peers
from bench.measure import Round, Source, Workload, measure

__all__ = ["Worker", "at_close", "directory_for", "share_imports"]

# Not fork: nothing of the parent, and no other peer's library, may be in the child.
_context: Any = multiprocessing.get_context("spawn")

STOP_SECONDS: Final = 10.0


def share_imports(modules: list[str]) -> None:
    """Fork workers from a process that has imported these modules, and the peers: where no figure counts."""
    global _context
    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload([*modules, "redis", "slothstate.engines.postgres.engine"])


class Worker:
    """A peer in a process of its own. `run` calls a function there with the peer before its other arguments."""

    def __init__(self, peer: str, directory: Path, **options: Any) -> None:
        self.peer = peer
        self.directory = directory
        self._pipe, theirs = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(theirs, peer, directory, options))
        self._process.start()
        theirs.close()
        self.receive()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `function(peer, *arguments)` returns in the worker; its exception is raised here."""
        self.send(function, *arguments)
        return self.receive()

    def round(self, workload: Workload, options: dict[str, Any], limit: int, budget: float) -> Round:
        """Measure one round of a workload, which is prepared the first time it is asked for."""
        result: Round = self.run(_round, workload, options, limit, budget)
        return result

    def send(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Let it run without waiting; `receive` waits."""
        self._pipe.send((function, arguments))

    def receive(self) -> Any:
        """Return the result of the oldest call that was sent. Raises: RuntimeError with the worker's traceback."""
        try:
            ok, result = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the worker of {self.peer} ended (exit code {self._process.exitcode})") from None
        if not ok:
            raise RuntimeError(f"in the worker of {self.peer}:\n{result}")
        return result

    def load(self, *functions: Callable[..., Any]) -> None:
        """Import the modules of functions there, so that a call that is waited for with a clock begins at once."""
        self.run(_nothing, *functions)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, nothing is closed."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


@contextmanager
def directory_for(name: str) -> Iterator[Path]:
    """A directory of its own for one peer, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory:
        yield Path(directory)


def _nothing(peer: peers.Peer, *_: object) -> None:
    pass


at_close: Final = ExitStack()
"""In a worker: what to close before its peer. A second process that a workload starts belongs here."""

_sources: Final[dict[tuple[Any, ...], Source]] = {}


def _round(peer: peers.Peer, workload: Workload, options: dict[str, Any], limit: int, budget: float) -> Round:
    identity = (workload, *sorted(options.items()))
    source = _sources.get(identity)
    if source is None:
        source = _sources[identity] = workload(peer, **options)
    return measure(source, limit, budget, peer.is_served)


def _serve(pipe: Connection, name: str, directory: Path, options: dict[str, Any]) -> None:
    # Ctrl-C goes to the whole group: the parent answers it, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        peer: peers.Peer = peers.load(name).open(directory, **options)
        # Before each measurement garbage is collected, which these modules are not.
        gc.freeze()
    except BaseException:
        pipe.send((False, traceback.format_exc()))
        return
    try:
        pipe.send((True, None))
        while True:
            try:
                function, arguments = pipe.recv()
            except EOFError:
                return
            try:
                answer = (True, function(peer, *arguments))
            except Exception:
                answer = (False, traceback.format_exc())
            pipe.send(answer)
    finally:
        at_close.close()
        peer.close()
