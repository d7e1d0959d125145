"""What many test modules share: a clock to move, waiting, exact comparison, scripts in a fresh interpreter."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import pytest

from slothstate import State
from slothstate.acquisition import Acquisition

T = TypeVar("T")

SANITIZED: Final = "asan" in os.environ.get("LD_PRELOAD", "")
"""Whether AddressSanitizer is loaded, which holds back freed memory and may hang in a child forked beside threads."""


PATIENCE: Final = 60.0
"""Seconds after which what does not come will never come."""


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> float:
        # Half a millisecond more, so that no rounding of the product with 1000 changes the reading.
        return (self.ms + 0.5) / 1000

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def in_time(attempt: Callable[[], float], bound: float, attempts: int = 10) -> bool:
    """Whether one of some attempts takes at most `bound` seconds: a busy machine may pause a process in the others."""
    return any(attempt() <= bound for _ in range(attempts))


def quick_and_long(
    names: str, quick: tuple[object, ...], long: tuple[object, ...], timeout: float = 300
) -> pytest.MarkDecorator:
    """Run a test with arguments that take a moment, and in the long tier with others, for up to `timeout` seconds."""
    marks = [pytest.mark.long, pytest.mark.timeout(timeout)]
    return pytest.mark.parametrize(
        names, [pytest.param(*quick, id="quick"), pytest.param(*long, id="long", marks=marks)]
    )


def processor_time(call: Callable[[], object]) -> float:
    """Return how many seconds this thread computes in a call; what else the machine does hardly counts."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def until(condition: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Do something again and again until the condition holds; fail when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.001)


def at_exit(end: Callable[[], object]) -> None:
    """Call something as this process ends, but in no child of it."""
    owner = os.getpid()
    atexit.register(lambda: end() if os.getpid() == owner else None)


def in_threads(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Make calls side by side, each in a thread of its own; return what they return."""
    calls = list(calls)
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls, timeout=PATIENCE))


def wanted(name: str, nonce: int, shared: bool = False) -> Acquisition:
    """Return an acquisition with a nonce of the test's own, for an engine."""
    acquisition = Acquisition(name, object(), has_ttl=False, shared=shared)
    acquisition.nonce = nonce
    return acquisition


def exactly(value: Any) -> Any:
    """Return something that is equal only for values of the same types, order of keys and sign of zero included."""
    if isinstance(value, dict):
        return "dict", [(key, exactly(item)) for key, item in value.items()]
    if isinstance(value, list):
        return "list", [exactly(item) for item in value]
    return type(value), repr(value)


def exact_dump(state: State) -> list[str]:
    """Return every record as text that tells 1 from 1.0 from True, and 0.0 from -0.0."""
    return [repr(tuple(record)) for record in state.dump()]


def run_program(words: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it printed is text."""
    settings = {"capture_output": True, "text": True, "timeout": 60, "check": False} | options
    return subprocess.run([*map(str, words)], **settings)


DEVELOPMENT: Final = ("-X", "dev", "-W", "error")


def run_script(code: str, *arguments: object, options: Sequence[str] = DEVELOPMENT) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh interpreter, by default in development mode, warnings being errors."""
    return run_program([sys.executable, *options, "-c", code, *map(str, arguments)])


def run_python(code: str, *arguments: object, options: Sequence[str] = ()) -> str:
    """Return what such a script printed; fail on a non-zero exit or on stderr output."""
    done = run_script(code, *arguments, options=options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout
