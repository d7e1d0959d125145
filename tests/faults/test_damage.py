"""Damage to the files of a store: named errors or the truth, never a crash, never a silent repair.

`test_schema.py` has the headers and cut-off databases, `test_audit.py` damaged rows, `test_identity.py` files that are
replaced under an open store.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

import slothstate
from helpers.processes import Channel, Worker, processes
from helpers.support import quick_and_long
from slothstate import SlothStateError, State, StateCorrupt
from slothstate.engines.sqlite.schema import PAGE_SIZE

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.damaged

FOLDED, LOGGED = 50, 50
"""Keys in the database itself, and later ones that only the log has."""

MUTATIONS = 150
MUTATIONS_LONG = 2000
FINDINGS = (384, 1982)
"""Seeds that once made something else come out than an error of ours."""

DEADLINE = 10
"""Seconds that one damaged store may take, of wall clock and of processor time."""

Image = dict[str, bytes]


def write_and_wait(channel: Channel, path: str) -> None:
    """Fill a store, half of it behind a checkpoint, and wait to be killed."""
    state = slothstate.open(path)
    for number in range(FOLDED + LOGGED):
        if number == FOLDED:
            state.compact()
        with state.transaction():
            state.set(f"key:{number:03}", number)
            state.list_push("list", number)
    channel.send("written")
    channel.receive()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The files that a killed process left, by suffix."""
    path = str(tmp_path_factory.mktemp("crashed") / "state.db")
    with processes() as start:
        worker = start(write_and_wait, path)
        worker.receive()
        worker.kill()
    return {suffix: Path(path + suffix).read_bytes() for suffix in ("", "-wal", "-shm")}


def lay_out(image: Image, path: str) -> None:
    for suffix, content in image.items():
        Path(path + suffix).write_bytes(content)


def surviving(path: str) -> int:
    """Return how many of the transactions are there; they must be the first ones, whole, in a sound store."""
    with slothstate.open(path) as state:
        assert state.check() == []
        keys = state.keys("key:*")
        assert state.get_many(keys) == {f"key:{number:03}": number for number in range(len(keys))}
        assert state.list_range("list") == list(range(len(keys)))
        assert state.set("new", 1)
        return len(keys)


def test_killed_store_is_whole(image: Image, path: str) -> None:
    """Without damage everything is there: what the tests below take away was there before."""
    lay_out(image, path)
    assert surviving(path) == FOLDED + LOGGED


LOG_DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda log: None,
    "emptied": lambda log: b"",
    "garbage": lambda log: b"garbage " * (len(log) // 8),
    "header": lambda log: bytes(32) + log[32:],
    "header-short": lambda log: log[:20],
    "first-frame": lambda log: flipped(log, 32 + 24 + 100),
    "middle": lambda log: flipped(log, len(log) // 2),
    "last": lambda log: flipped(log, len(log) - 1),
    "half": lambda log: log[: len(log) // 2],
    "in-a-frame": lambda log: log[: len(log) - 700],
    "zeros-behind": lambda log: log + bytes(5000),
    "garbage-behind": lambda log: log + b"garbage " * 600,
}


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("how", LOG_DAMAGE)
def test_damaged_log_gives_an_earlier_state(image: Image, path: str, how: str) -> None:
    """A damaged log is cut where its checksums end: the store is a whole earlier one, never a mixture."""
    log = LOG_DAMAGE[how](image["-wal"])
    lay_out({"": image[""], **({"-wal": log} if log is not None else {})}, path)
    left = surviving(path)
    assert FOLDED <= left <= FOLDED + LOGGED
    if how in ("deleted", "emptied", "garbage", "header", "header-short", "first-frame"):
        assert left == FOLDED
    if how in ("zeros-behind", "garbage-behind"):
        assert left == FOLDED + LOGGED


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\0" * 32768, b"\xff" * 32768, b"garbage " * 4096, b"short"],
    ids=["deleted", "empty", "zeros", "ones", "garbage", "short"],
)
def test_damaged_shared_memory_is_made_anew(image: Image, path: str, content: bytes | None) -> None:
    """The -shm of a store that nobody has open says nothing: it is made anew from the log."""
    lay_out({"": image[""], "-wal": image["-wal"], **({"-shm": content} if content is not None else {})}, path)
    assert surviving(path) == FOLDED + LOGGED


@pytest.mark.parametrize("version", [bytes((9, 9)), bytes((2, 9)), bytes((9, 2))], ids=str)
def test_unknown_format_version(image: Image, path: str, version: bytes) -> None:
    """A header with a format version that SQLite does not know is an error of ours, and the file stays as it is."""
    content = image[""][:18] + version + image[""][20:]
    lay_out({"": content}, path)
    with pytest.raises(SlothStateError), slothstate.open(path) as state:
        state.set("k", 1)
    assert Path(path).read_bytes() == content


def test_every_damaged_page_is_named(tmp_path: Path) -> None:
    """Whichever page is overwritten, errors are `StateCorrupt`, `check` finds it, other keys can be read."""
    source = tmp_path / "source.db"
    with slothstate.open(source) as state:
        state.set_many({f"key:{number:03}": f"value {number} " * 60 for number in range(150)})
        state.list_push("list", *range(300))
    content, size = source.read_bytes(), PAGE_SIZE
    assert len(content) > 40 * size
    found = readable = 0
    for page in range(1, len(content) // size):
        path = tmp_path / f"{page}.db"
        path.write_bytes(content[: page * size] + Random(page).randbytes(size) + content[(page + 1) * size :])
        try:
            with slothstate.open(path) as state:
                found += state.check() != []
                for number in range(150):
                    try:
                        readable += state.get(f"key:{number:03}") == f"value {number} " * 60
                    except StateCorrupt:
                        continue
        except StateCorrupt:
            found += 1
    pages = len(content) // size - 1
    assert found == pages
    assert readable > 0.5 * pages * 150


def test_shared_memory_cut_off_under_an_open_store(path: str) -> None:
    """Who cuts off the -shm of an open store kills its processes (the kernel does): nothing acknowledged is lost."""
    with processes() as start:
        worker = start(write_until_told, path)
        while (message := worker.receive()) != "ready":
            acknowledged = message
        os.truncate(path + "-shm", 0)
        worker.send("go on")
        worker.process.join(DEADLINE)
        acknowledged = max([acknowledged, *(message for message in worker.acknowledged() if message != "ready")])
        assert worker.process.exitcode == -signal.SIGBUS
    with slothstate.open(path) as state:
        assert state.check() == []
        assert state.get("n") >= acknowledged


def write_until_told(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    for _ in range(50):
        channel.send(state.increment("n"))
    channel.ready()
    for _ in range(50):
        channel.send(state.increment("n"))


def mutate(image: Image, chance: Random) -> Image:
    """Overwrite 1 to 64 bytes, somewhere, mostly where structure is: in headers and at the beginning of pages."""
    changed = dict(image)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        suffix = chance.choice(("", "", "-wal", "-wal", "-shm"))
        content = bytearray(changed[suffix])
        at = chance.randrange(len(content))
        if chance.random() < 0.5:
            at = at // 1024 * 1024 + chance.randrange(40) if suffix == "" else at // 1048 * 1048 + chance.randrange(90)
        size = chance.choice((1, 1, 2, 4, 64))
        new = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
        content[at : at + size] = new[: max(0, len(content) - at)]
        changed[suffix] = bytes(content)
    return changed


def use_everything(path: str) -> str:
    """Use a damaged store in every way; return what came of it. Only errors of ours may come out."""
    errors = 0
    uses: tuple[Callable[[State], object], ...] = (
        lambda state: [state.get(key) for key in state],
        lambda state: list(state.items()),
        lambda state: state.list_range("list"),
        lambda state: state.list_pop("list"),
        lambda state: state.list_push("list", 1, 2),
        lambda state: state.set("key:010", "x" * 3000),
        lambda state: state.increment("new"),
        lambda state: state.set_many({f"more:{number}": number for number in range(100)}, ttl=0.001),
        lambda state: state.delete("key:020"),
        lambda state: (state.try_lock("l"), state.unlock("l")),
        lambda state: state.stats(),
        lambda state: state.check(),
        lambda state: time.sleep(0.002) or state.sweep(),
        lambda state: state.compact(),
        lambda state: state.clear("key:*"),
    )
    try:
        with slothstate.open(path, busy_timeout=0.5) as state:
            for use in uses:
                try:
                    use(state)
                except (SlothStateError, MemoryError):
                    errors += 1
    except SlothStateError:
        return "refused"
    return "damaged" if errors else "worked"


def open_damaged(channel: Channel, path: str) -> str:
    resource.setrlimit(resource.RLIMIT_CPU, (DEADLINE, DEADLINE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return use_everything(path)


def outcomes(image: Image, directory: Path, seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield what came of each seed's damage, each in a process of its own, two at a time."""

    def begin(seed: int) -> tuple[int, Worker]:
        path = str(directory / f"{seed}.db")
        lay_out(mutate(image, Random(seed)), path)
        return seed, start(open_damaged, path)

    def end(seed: int, worker: Worker) -> tuple[int, str]:
        try:
            outcome = worker.result(DEADLINE * 2)
        except AssertionError as error:
            outcome = f"seed {seed}: {error}"
        worker.end()
        for file in directory.glob(f"{seed}.db*"):
            if file.is_file():
                file.unlink()
        return seed, outcome

    for first in range(0, len(seeds), 50):
        with processes() as start:
            running: list[tuple[int, Worker]] = []
            for seed in seeds[first : first + 50]:
                if len(running) == 2:
                    yield end(*running.pop(0))
                running.append(begin(seed))
            for each in running:
                yield end(*each)


def random_damage(image: Image, directory: Path, seeds: Sequence[int]) -> str:
    results = [outcome for _, outcome in outcomes(image, directory, seeds)]
    bad = [result for result in results if result not in ("worked", "damaged", "refused")]
    assert not bad, "\n".join(bad)
    worked, damaged, refused = (results.count(kind) for kind in ("worked", "damaged", "refused"))
    assert damaged
    return (
        f"random damage: {len(seeds)} stores, {worked} worked, {damaged} gave named errors, {refused} were refused,"
        " crashes 0, hangs 0"
    )


@quick_and_long("seeds", ([*range(MUTATIONS), *FINDINGS],), (range(MUTATIONS_LONG),), timeout=900)
def test_random_damage(image: Image, tmp_path: Path, seeds: range | list[int], figure: Callable[[str], None]) -> None:
    """Random bytes anywhere in the three files give right answers or errors of ours: no crash, no hang."""
    figure(random_damage(image, tmp_path, seeds))
