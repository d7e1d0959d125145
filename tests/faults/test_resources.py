"""What runs out or fails: room on the disk, descriptors, memory, and every single call to the disk in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

import slothstate
from helpers.faulty_disk import FailingDisk
from helpers.mounts import remount, small_tmpfs
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import run_python
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.state import State

resource = pytest.importorskip("resource")

ROOM = 1
MORE_ROOM = 4
"""Sizes of the small disk, in MiB."""

VALUE = "x" * 20_000
FILE_LIMIT = 300_000
DESCRIPTORS = 12
STANDARD_STREAMS = 3
MEMORY = 150 * 2**20
LARGE = 250 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A directory on a file system of its own with `ROOM` MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    with small_tmpfs(directory, ROOM):
        yield str(directory)


def fill(state: State, errors: tuple[type[BaseException], ...]) -> tuple[list[str], BaseException]:
    """Set keys until there is no room; return those acknowledged, and the error."""
    acknowledged: list[str] = []
    for number in range(10_000):
        try:
            state.set(f"key:{number}", VALUE)
        except errors as error:
            return acknowledged, error
        acknowledged.append(f"key:{number}")
    raise AssertionError("there is no end of room")


def verify(state: State, acknowledged: list[str]) -> None:
    assert all(state.get(key) == VALUE for key in acknowledged)
    assert set(acknowledged) <= set(state.keys("key:*"))
    assert len(state.keys("key:*")) - len(acknowledged) in (0, 1)
    assert state.check() == []


def test_full_disk(small_disk: str) -> None:
    """On a full disk writes are StateFull and reads go on; with room again the handle goes on and nothing is lost."""
    with slothstate.open(f"{small_disk}/state.db") as state:
        state.lock("held")
        acknowledged, error = fill(state, (slothstate.StateFull,))
        assert isinstance(error, OSError)
        assert error.__cause__ is not None
        assert len(acknowledged) > 10
        verify(state, acknowledged)
        with pytest.raises((slothstate.StateFull, slothstate.OutcomeUnknown)), state.transaction():
            state.set("torn", 1)
            for number in range(30):
                state.set(f"torn:{number}", VALUE)
        assert state.keys("torn*") == []
        with pytest.raises(slothstate.StateFull):
            state.set_many({f"torn:{number}": VALUE for number in range(30)})
        assert state.keys("torn*") == []
        remount(Path(small_disk), f"size={MORE_ROOM}m")
        assert state.set("after", 1)
        assert state.unlock("held") is True
        verify(state, acknowledged)
    with slothstate.open(f"{small_disk}/state.db") as state:
        assert state.get("after") == 1
        verify(state, acknowledged)


def test_store_on_a_full_disk_is_not_half_made(small_disk: str) -> None:
    """Creating a store on a full disk is a named error that leaves nothing in its place; with room it works."""
    filler = Path(small_disk) / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    path = f"{small_disk}/new/state.db"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with pytest.raises((slothstate.StateFull, slothstate.StateIOError)):
        slothstate.open(path)
    assert not os.path.exists(path)
    filler.unlink()
    with slothstate.open(path) as state:
        assert state.set("key", 1)
        assert state.check() == []


def meet_the_file_limit(channel: Channel, path: str) -> int:
    state = slothstate.open(path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
    acknowledged, error = fill(state, (slothstate.StateFull, slothstate.StateIOError))
    assert isinstance(error, OSError)
    verify(state, acknowledged)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert state.set("after", 1)
    verify(state, acknowledged)
    state.close()
    return len(acknowledged)


def run_out_of_descriptors(channel: Channel, path: str) -> list[str]:
    """Open, write and lock with ever fewer descriptors left; return the names of the errors met."""
    state = slothstate.open(path)
    state.set("key", 0)
    state.try_lock("warm")
    state.unlock("warm")
    met = []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for left in range(DESCRIPTORS):
        for attempt in (lambda: slothstate.open(path).close(), lambda: state.set("key", 1), lambda: lock_once(path)):
            before = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1 + left, hard))
            try:
                attempt()
            except slothstate.SlothStateError as error:
                met.append(type(error).__name__)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            # SQLite keeps a descriptor or two for reuse while another connection has locks on the file.
            assert len(os.listdir("/proc/self/fd")) <= before + 3
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        resource.setrlimit(resource.RLIMIT_NOFILE, (STANDARD_STREAMS, hard))
        try:
            slothstate.open(path)
        except slothstate.SlothStateError:
            met.append("again")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert len(os.listdir("/proc/self/fd")) <= before + 3, "failed opens leak"
    assert state.get("key") == 1
    assert state.lock("after", timeout=60)
    assert state.check() == []
    state.close()
    return met


def lock_once(path: str) -> None:
    with slothstate.open(path) as other:
        other.try_lock("job")


def run_out_of_memory(channel: Channel, path: str) -> str:
    state = slothstate.open(path)
    state.set("before", 1)
    value = "v" * LARGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        state.set("large", value)
    except MemoryError as error:
        name = type(error).__name__
    else:
        name = "accepted"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert not store_of(state).in_transaction
    assert state.get("before") == 1
    assert state.get("large") is None
    assert state.set("after", 1)
    assert state.check() == []
    state.close()
    return name


def test_file_size_limit(path: str) -> None:
    """A limit on the size of files is a named error, nothing is lost, and the handle goes on when it is lifted."""
    with processes() as start:
        assert start(meet_the_file_limit, path).result() > 3
    with slothstate.open(path) as state:
        assert state.get("after") == 1
        assert state.check() == []


def test_no_descriptors(path: str) -> None:
    """Without descriptors opening and locking are named errors that leak none; the open handle works on."""
    with processes() as start:
        met = start(run_out_of_descriptors, path).result()
    assert set(met) <= {"StateIOError", "again"}
    assert met.count("StateIOError") >= 3
    assert met.count("again") > 90


FIRST_USES = """
import os, resource, sys
import slothstate
state = slothstate.open(sys.argv[1])
state.set("k", 1)
verbs = [
    lambda: state.increment("n"), lambda: state.get_field("k", ".a"), lambda: state.list_push("q", 1),
    lambda: state.try_lock("x"), lambda: state.list_claim("q"), lambda: state.list_claim("q", 0.01),
    lambda: state.watch().close(), lambda: state.wait("k", 1, 0.01), lambda: state.list_pop("q", timeout=0.01),
    lambda: list(state.dump()), lambda: state.load([]), lambda: list(state.entries()), state.usage, state.stats,
    state.check, state.health, lambda: list(state.examine()), state.activity, state.compact, state.sweep,
    lambda: state.backup(sys.argv[1] + ".copy"), lambda: slothstate.display_address("postgresql://host/database"),
    lambda: slothstate.printable,
]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    pass
for number, verb in enumerate(verbs):
    try:
        verb()
    except slothstate.StateIOError:
        continue
    print(number)
for each in held:
    os.close(each)
for verb in verbs:
    verb()
print("done")
"""


def test_first_uses_without_descriptors(path: str) -> None:
    """A verb whose modules cannot be read yet is an error of ours, and works as soon as they can."""
    assert run_python(FIRST_USES, path) == "done\n"


def test_no_memory(path: str) -> None:
    """A value for which there is no memory is a MemoryError; nothing is written and the handle works on."""
    with processes() as start:
        assert start(run_out_of_memory, path).result() == "MemoryError"


def contents(state: State) -> dict[str, Any]:
    return {key: state.get(key) for key in state}


def change_all(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "a": found["a"] + 1, "b": found["b"] + 1, "list": [*found["list"], found["a"] + 1]}


def in_transaction(state: State) -> None:
    with state.transaction():
        number = state.increment("a")
        state.increment("b")
        state.list_push("list", number)


def lock_and_unlock(state: State) -> None:
    if state.try_lock("job"):
        state.unlock("job")


def look(state: State) -> None:
    with state.snapshot():
        state.get("text")
        state.list_range("list")


VERBS: dict[str, tuple[Callable[[State], Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "set": (lambda state: state.set("text", "new " * 500), lambda found: {**found, "text": "new " * 500}),
    "increment": (lambda state: state.increment("a"), lambda found: {**found, "a": found["a"] + 1}),
    "append": (lambda state: state.append("log", "x" * 300), lambda found: {**found, "log": found["log"] + "x" * 300}),
    "list_push": (
        lambda state: state.list_push("list", "y" * 300),
        lambda found: {**found, "list": [*found["list"], "y" * 300]},
    ),
    "list_pop": (lambda state: state.list_pop("list"), lambda found: {**found, "list": found["list"][:-1]}),
    "list_shift": (lambda state: state.list_shift("list"), lambda found: {**found, "list": found["list"][1:]}),
    "list_insert": (
        lambda state: state.list_insert("list", 1, "y" * 300),
        lambda found: {**found, "list": [found["list"][0], "y" * 300, *found["list"][1:]]},
    ),
    "list_remove": (
        lambda state: state.list_remove("list", "two"),
        lambda found: {**found, "list": [found["list"][0], found["list"][2]]},
    ),
    "list_shift_many": (
        lambda state: state.list_shift_many("list", 2),
        lambda found: {**found, "list": found["list"][2:]},
    ),
    "rename": (
        lambda state: state.rename("list", "victim"),
        lambda found: {**{key: found[key] for key in found if key != "list"}, "victim": found["list"]},
    ),
    "copy": (lambda state: state.copy("list", "victim"), lambda found: {**found, "victim": found["list"]}),
    "take": (lambda state: state.take("victim"), lambda found: {key: found[key] for key in found if key != "victim"}),
    "set_field": (
        lambda state: state.set_field("new", ("a", "b"), "y" * 300),
        lambda found: {**found, "new": {"a": {"b": "y" * 300}}},
    ),
    "set absent": (lambda state: state.set("new", 1, when="absent"), lambda found: {**found, "new": 1}),
    "snapshot": (look, lambda found: found),
    "delete": (
        lambda state: state.delete("victim"),
        lambda found: {key: value for key, value in found.items() if key != "victim"},
    ),
    "set_many": (lambda state: state.set_many({"a": 100, "b": 100}), lambda found: {**found, "a": 100, "b": 100}),
    "compare_swap": (lambda state: state.compare_swap("b", 2, 3), lambda found: {**found, "b": 3}),
    "transaction": (in_transaction, change_all),
    "lock": (lock_and_unlock, lambda found: found),
    "sweep": (lambda state: state.sweep(), lambda found: found),
    "get": (lambda state: state.get("text"), lambda found: found),
    "keys": (lambda state: state.keys("*a*"), lambda found: found),
    "check": (lambda state: state.check(), lambda found: found),
}

NAMED = (slothstate.SlothStateError, MemoryError)

MOST_CALLS = 400

# What a VFS written in Python raises while SQLite closes a collected connection reaches nobody; SQLite goes on.
ignore_what_nobody_hears = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ignore_what_nobody_hears
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError], ids=["I/O error", "no room"])
@pytest.mark.parametrize("verb", VERBS)
def test_each_disk_call_fails_in_turn(path: str, verb: str, error: type[apsw.Error], sticky: bool) -> None:
    """Whichever call to the disk fails under a verb: a named error, the store as before or after, the handle usable."""
    operate, outcome = VERBS[verb]
    slothstate.open(path).close()
    disk = FailingDisk()
    start = {"a": 1, "b": 2, "list": ["one", "two", "three"], "log": "", "text": "old", "victim": "here"}
    points = 0
    with slothstate.open(path) as other:
        for at in range(1, MOST_CALLS):
            other.clear()
            other.set_many(start)
            other.set("expired", 1, ttl=0.001)
            # A fresh handle each time: its pages are not cached, so that reading is among what fails.
            state = State(SqliteEngine(path, vfs=disk.name))
            before = {key: value for key, value in contents(other).items() if key != "expired"}
            acknowledged = False
            with disk.fail(at, error, sticky=sticky):
                try:
                    operate(state)
                    acknowledged = True
                except NAMED:
                    pass
            failed = disk.failed
            after = {key: value for key, value in contents(other).items() if key != "expired"}
            wanted = outcome(before)
            assert after in ([wanted] if acknowledged else [before, wanted]), f"call {at}"
            assert state.set("usable", at) is True
            assert state.get("usable") == at
            assert not store_of(state).in_transaction
            state.close()
            assert other.get("usable") == at
            if not failed:
                break
            points += 1
        else:
            pytest.fail("the verb never got through")
        assert points > 0
        assert other.check() == []


@ignore_what_nobody_hears
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
def test_each_disk_call_fails_in_turn_while_opening_and_closing(path: str, sticky: bool) -> None:
    """Whichever call to the disk fails while a handle is opened, used and closed: a named error, nothing is lost."""
    disk = FailingDisk()
    with slothstate.open(path) as other:
        other.set("kept", 1)
    acknowledged = 0
    for at in range(1, MOST_CALLS):
        with disk.fail(at, apsw.IOError, sticky=sticky):
            try:
                state = State(SqliteEngine(path, vfs=disk.name))
                try:
                    state.set("number", at)
                    acknowledged = at
                finally:
                    # SQLite lets no error of the disk keep it from closing; apsw passes on what a VFS in Python raised.
                    with suppress(apsw.Error):
                        state.close()
            except NAMED:
                pass
        with slothstate.open(path) as other:
            assert other.get("kept") == 1
            assert other.get("number", 0) in (acknowledged, at)
            acknowledged = other.get("number", 0)
            assert other.check() == []
        if not disk.failed:
            break
    else:
        pytest.fail("it never got through")


def lose_all_descriptors(channel: Channel, path: str, is_inside: bool) -> list[bool]:
    """Close the descriptors of a store that is open; return whether each verb was refused at once."""
    state = slothstate.open(path)
    state.lock("job")
    state.list_push("queue", 1)
    state.list_claim("queue")
    met = []
    # The end of a transaction is refused, too.
    with suppress(slothstate.UnsafeState), state.transaction() if is_inside else nullcontext():
        for name in os.listdir("/proc/self/fd"):
            if is_of_store(name, path):
                os.close(int(name))
        # Until it is looked after the files again.
        time.sleep(0.06)
        for verb in (
            *(lambda: state.get("key"), lambda: state.set("key", 1), lambda: state.increment("n"), state.keys),
            *(lambda: state.try_lock("other"), lambda: state.list_pop("queue", timeout=5), state.stats),
        ):
            began = time.monotonic()
            with suppress(slothstate.UnsafeState, slothstate.StateIOError):
                verb()
                # Inside a transaction what SQLite has read already can be read.
                assert is_inside, "done"
            met.append(time.monotonic() - began < 1)
    state.close()
    state.close()
    with slothstate.open(path) as again:
        assert again.try_lock("job")
        claim = again.list_claim("queue")
        assert claim is not None
        assert (claim.attempt, again.check()) == (2, [])
    return met


def is_of_store(name: str, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith(os.path.dirname(path))
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("is_inside", [False, True])
def test_descriptors_that_other_code_has_closed(path: str, is_inside: bool) -> None:
    """Each verb is refused at once, where SQLite would try for ten seconds; the store can be opened anew."""
    with processes() as start:
        assert start(lose_all_descriptors, path, is_inside).result() == [True] * 7
