"""The wal-index header: when two states of it are the same, whose commit was between them, and what is no header."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref
from types import FrameType

import pytest

from helpers.fake_walindex import HEADER, MISS, REGION, FakeFile, Store, header, state_after
from helpers.support import in_time
from slothstate import native
from slothstate.engines.sqlite.read_cache import ABSENT, NO_MARK, UNVERIFIED, ReadCache


def test_sync_gives_the_checksum_of_the_header() -> None:
    """The token is the 8 bytes at offset 40, and the commits are counted at offset 8."""
    store = Store()
    for change in (1, 2, 0xFFFFFFFF, 0):
        store.file.commit(change)
        assert store.cache.sync() == int.from_bytes(state_after(change)[40:], sys.byteorder)
        assert store.cache.commits() == change


@pytest.mark.parametrize("offset", range(2 * HEADER))
def test_a_header_in_the_middle_of_being_written_is_none(offset: int) -> None:
    """Whichever byte of the two copies differs, there is no token, no mark, and nothing is kept."""
    store = Store()
    store.put("k", 1)
    both = bytearray(header(7) * 2)
    both[offset] ^= 1
    store.file.write(bytes(both[:HEADER]), bytes(both[HEADER:]))
    assert store.cache.sync() is None
    assert store.cache.mark() == NO_MARK
    assert store.cache.commits() == -1
    store.cache.store(None, "k", 0, 2, None)
    assert store.get("k") == MISS


def test_equal_copies_that_are_no_header_are_none() -> None:
    """Zeros, a header that is not initialized and one with a wrong checksum are no state, though both copies agree."""
    store = Store()
    wrong = bytearray(header(7))
    wrong[16] ^= 1
    for copy in (bytes(HEADER), bytes(wrong)):
        store.file.write(copy)
        assert store.cache.sync() is None


@pytest.mark.parametrize(
    "file",
    [{"version": 1}, {"result": 8}, {"result": 10}, {"mapped": False}, {"shift": 4}],
    ids=["version 1", "read-only", "I/O error", "not mapped", "not aligned"],
)
def test_a_file_without_a_wal_index_is_not_attached(file: dict[str, int]) -> None:
    """Where SQLite has no mapping to give, `attach` says so and the cache answers nothing."""
    fake = FakeFile(**file)  # type: ignore[arg-type]
    cache = native.ReadCache(2**20, None, {})
    assert cache.attach(fake.address, fake) is False
    assert cache.sync() is None
    assert cache.wait(0, 10) is False
    cache.verified(1)
    assert cache.mark() == NO_MARK


def test_attach_asks_for_the_first_region_and_creates_nothing() -> None:
    """xShmMap is called once, for region 0 of 32 KiB, without leave to extend the file."""
    store = Store()
    assert store.file.calls == [(0, REGION, 0)]


def test_another_state_outdates_everything() -> None:
    """A value is found as long as the header is the one it was read under, and never again once it was another."""
    store = Store()
    store.put("k", 1)
    assert store.get("k") == 1
    before = state_after(store.change)
    store.commit()
    assert store.get("k") == MISS
    store.cache.sync()
    store.file.write(before)
    store.cache.sync()
    assert store.get("k") == MISS


def test_what_was_read_across_a_commit_is_not_kept() -> None:
    """`store` drops a value when the header is not the one of its token, or was another one in between."""
    store = Store()
    token = store.cache.sync()
    before = state_after(store.change)
    store.commit()
    store.cache.store(token, "k", 0, 1, None)
    assert store.get("k") == MISS
    store.cache.sync()
    store.file.write(before)
    store.cache.store(token, "k", 0, 1, None)
    assert store.get("k") == MISS


def test_our_own_commit_keeps_the_others() -> None:
    """One more commit than at the mark, and it was ours: the written key is forgotten, all else stays."""
    store = Store()
    store.put("k", 1)
    store.put("other", 2)
    for _ in range(3):
        mark = store.cache.mark()
        store.commit()
        store.cache.settle(mark, "k")
        assert store.get("k") == MISS
        assert store.get("other") == 2
    store.change = 0xFFFFFFFE
    store.file.commit(store.change)
    for _ in range(3):
        store.put("other", 2)
        mark = store.cache.mark()
        store.change = (store.change + 1) & 0xFFFFFFFF
        store.file.commit(store.change)
        store.cache.settle(mark, "k")
        assert store.get("other") == 2


def test_the_restart_of_a_log_is_no_commit() -> None:
    """A log that is restarted before our commit gets new salts and the same counter: the others stay."""
    store = Store()
    store.put("other", 2)
    mark = store.cache.mark()
    store.file.write(header(store.change, 0, salt=99))
    store.file.write(header(store.change + 1, 3, salt=99))
    store.cache.settle(mark, "k")
    assert store.get("other") == 2


@pytest.mark.parametrize("foreign", [0, 1, 2, 7])
def test_a_commit_beside_ours_outdates_everything(foreign: int) -> None:
    """A counter that rose by anything but one says that somebody else committed, or that we did not."""
    store = Store()
    store.put("other", 2)
    mark = store.cache.mark()
    if foreign:
        store.file.commit(store.change + 1 + foreign)
    else:
        store.file.write(header(store.change, 0, salt=5))
    store.cache.settle(mark, "k")
    assert store.get("other") == MISS


def test_a_write_that_committed_nothing_adopts_nothing() -> None:
    """With NO_MARK a foreign commit is not taken for ours, and with UNVERIFIED neither."""
    for mark in (NO_MARK, UNVERIFIED):
        store = Store()
        store.put("other", 2)
        store.commit()
        store.cache.settle(mark, "k")
        assert store.get("other") == MISS


def test_a_mark_is_void_once_another_thread_moved_on() -> None:
    """Two marks of one state: the first commit is adopted, the second finds the state moved and outdates the rest."""
    store = Store()
    store.put("other", 2)
    first, second = store.cache.mark(), store.cache.mark()
    assert first == second
    store.commit()
    store.cache.settle(first, "a")
    assert store.get("other") == 2
    store.commit()
    store.cache.settle(second, "b")
    assert store.get("other") == MISS


def test_a_recovery_between_mark_and_settle_is_noticed_by_whoever_looks() -> None:
    """The counter starts again at 0; a state that was seen meanwhile voids the mark, whatever the counter says."""
    store = Store()
    store.put("other", 2)
    mark = store.cache.mark()
    store.file.commit(0)
    store.cache.sync()
    store.file.commit(store.change + 1)
    store.cache.settle(mark, "k")
    assert store.get("other") == MISS


def test_a_key_of_a_subclass_is_forgotten_like_the_plain_one() -> None:
    """A write through an instance of a str subclass changes the key that the plain str names."""

    class Name(str):
        pass

    store = Store()
    store.put("k", 1)
    mark = store.cache.mark()
    store.commit()
    store.cache.settle(mark, Name("k"))
    assert store.get("k") == MISS


def test_a_mark_asks_for_a_look_at_the_files_when_it_is_time() -> None:
    """After `verified` has run out nothing hits and `mark` says so; a number without sense counts as none."""
    store = Store()
    store.put("k", 1)
    for seconds in (0, -1, float("nan"), float("-inf")):
        store.cache.verified(seconds)
        assert store.get("k") == MISS
        assert store.cache.mark() == UNVERIFIED
    store.cache.verified(float("inf"))
    assert store.get("k") == 1


def test_only_the_thread_in_a_transaction_is_bypassed() -> None:
    """It reads its own writes from the store; the other threads see what is committed, from the cache."""
    store = Store()
    store.put("k", 1)
    seen = []
    store.transactions[threading.get_ident()] = None
    assert store.get("k") == MISS
    assert store.cache.remaining_ms("k") is None
    thread = threading.Thread(target=lambda: seen.append(store.get("k")))
    thread.start()
    thread.join()
    assert seen == [1]
    store.transactions.clear()
    assert store.get("k") == 1


def test_detached_it_never_looks_at_the_mapping() -> None:
    """After `detach` the memory can go: no method looks at it, and nothing is answered."""
    store = Store()
    store.put("k", 1)
    mark = store.cache.mark()
    token = store.cache.sync()
    store.cache.detach()
    store.file.free()
    assert store.get("k") == MISS
    assert store.cache.remaining_ms("k") is None
    assert store.cache.sync() is None
    assert store.cache.mark() == NO_MARK
    assert store.cache.commits() == -1
    assert store.cache.wait(token or 0, 10) is False
    store.cache.store(token, "k", 0, 1, None)
    store.cache.settle(mark, "k")
    store.cache.detach()
    assert store.cache.figures()["entries"] == 0


def test_the_connection_lives_until_detach() -> None:
    """The owner of the mapping is kept while attached, also by a second `attach`; a forked child keeps it for ever."""

    class Owner:
        pass

    for leave in ("detach", "attach", "forked", "drop"):
        store, owner = Store(), Owner()
        alive = weakref.ref(owner)
        store.cache.attach(store.file.address, owner)
        del owner
        assert alive() is not None
        other = FakeFile()
        if leave == "detach":
            store.cache.detach()
        elif leave == "attach":
            store.cache.attach(other.address, other)
            store.cache.detach()
        elif leave == "forked":
            store.cache.forked()
            assert store.cache.sync() is None
        del store
        gc.collect()
        assert (alive() is None) is (leave != "forked")


def test_a_new_attachment_knows_nothing_of_the_former() -> None:
    """The same header at another address does not revive what was known under the first."""
    store = Store()
    store.put("k", 1)
    other = FakeFile()
    other.commit(store.change)
    assert store.cache.attach(other.address, other)
    store.file.free()
    assert store.get("k") == MISS
    store.cache.sync()
    assert store.get("k") == MISS
    store.put("k", 2)
    assert store.get("k") == 2


def test_waiting_ends_with_the_change_or_the_time() -> None:
    """`wait` returns True at once for another state and soon after a change, False when its time is up."""
    store = Store()
    token = store.cache.sync()
    assert token is not None
    assert store.cache.wait(token + 1, 60) is True
    for seconds in (0, -1, float("nan")):
        assert store.cache.wait(token, seconds) is False
    began = time.monotonic()
    assert store.cache.wait(token, 0.05) is False
    assert 0.05 <= time.monotonic() - began < 5
    timer = threading.Timer(0.02, store.commit)
    timer.start()
    assert store.cache.wait(token, 60) is True
    timer.join()


def test_detaching_ends_the_waits_of_all_threads() -> None:
    """`detach` and a second `attach` return as soon as no waiter looks at the mapping any more."""
    for leave in ("detach", "attach"):
        store = Store()
        token = store.cache.sync() or 0
        answers: list[bool] = []

        def wait(cache: ReadCache = store.cache, token: int = token, answers: list[bool] = answers) -> None:
            answers.append(cache.wait(token, 60))

        waiters = [threading.Thread(target=wait) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        other = FakeFile()
        other.commit(1)
        began = time.monotonic()
        if leave == "detach":
            store.cache.detach()
        else:
            store.cache.attach(other.address, other)
        store.file.free()
        for waiter in waiters:
            waiter.join(10)
        assert time.monotonic() - began < 5
        assert not any(answers)


def test_detaching_does_not_wait_for_those_who_wait_for_the_next() -> None:
    """Threads that wait over and over do not keep a `detach` from ending."""
    store = Store()
    done = threading.Event()

    def wait() -> None:
        while not done.is_set():
            store.cache.wait(store.cache.sync() or 0, 0.5)

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    for _ in range(100):
        store.cache.detach()
        store.cache.attach(store.file.address, store)
    done.set()
    store.cache.detach()
    for waiter in waiters:
        waiter.join(10)
        assert not waiter.is_alive()


def test_a_signal_ends_a_wait() -> None:
    """Ctrl-C is answered within 200 ms, and leaves nobody for `detach` to wait for."""

    class Interrupt(Exception):
        pass

    def handler(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    store = Store()
    token = store.cache.sync() or 0

    def interrupted() -> float:
        began = time.monotonic()
        with pytest.raises(Interrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            store.cache.wait(token, 60)
        return time.monotonic() - began

    former = signal.signal(signal.SIGALRM, handler)
    try:
        assert in_time(interrupted, 0.25)
    finally:
        signal.signal(signal.SIGALRM, former)
    store.cache.detach()


def test_wrong_arguments_are_errors() -> None:
    """Each method refuses what it cannot use, and the cache goes on."""
    store = Store()
    cache = store.cache
    token = cache.sync()
    calls = [
        lambda: native.ReadCache(),
        lambda: native.ReadCache(1, None),
        lambda: native.ReadCache(1, None, []),
        lambda: native.ReadCache("1", None, {}),
        lambda: native.ReadCache(-1, None, {}),
        lambda: native.ReadCache(1, None, transactions={}),
        lambda: cache.attach(0, store),
        lambda: cache.attach("x", store),  # type: ignore[arg-type]
        lambda: cache.attach(store.file.address),  # type: ignore[call-arg]
        lambda: cache.wait(token),  # type: ignore[arg-type, call-arg]
        lambda: cache.wait(None, 1),  # type: ignore[arg-type]
        lambda: cache.wait(token, "1"),  # type: ignore[arg-type]
        lambda: cache.wait(-1, 1),
        lambda: cache.wait(2**64, 1),
        lambda: cache.verified("x"),  # type: ignore[arg-type]
        lambda: cache.settle("x", "k"),  # type: ignore[arg-type]
        lambda: cache.settle(NO_MARK, b"k"),  # type: ignore[arg-type]
        lambda: cache.settle(NO_MARK),  # type: ignore[call-arg]
        lambda: cache.store(token, "k", 0, 1),  # type: ignore[call-arg]
        lambda: cache.store(token, b"k", 0, 1, None),  # type: ignore[arg-type]
        lambda: cache.store(token, "k", 0, 1, "x"),  # type: ignore[arg-type]
        lambda: cache.store("x", "k", 0, 1, None),  # type: ignore[arg-type]
        lambda: cache.store(token, "k", "x", 1, None),  # type: ignore[arg-type]
        lambda: cache.store(token, "k", 0, [], None),
        lambda: cache.store(token, "k", 0, None, None),
        lambda: cache.store(token, "k", 1, 5, None),
        lambda: cache.store(token, "k", ABSENT, 5, None),
        lambda: cache.store(token, "k", 4, "x", None),
        lambda: cache.store(token, "k", -1, "x", None),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            call()  # type: ignore[no-untyped-call]
    assert cache.figures()["entries"] == 0
    store.put("k", 1)
    assert store.get("k") == 1
