"""Two clients at once: the clock of a statement that waited, items, locks that were lost, tokens."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

import slothstate
from helpers.support import in_threads, until
from slothstate import LockLost, SlothStateError, State


def administer(url: str, statement: str) -> None:
    """Run a statement as the administrator, in the store's schema."""
    plain, _, schema = url.partition("&schema=")
    with psycopg.connect(plain, autocommit=True, options=f"-c search_path={schema}") as admin:
        admin.execute(statement)


@pytest.mark.parametrize("before", [1, 3])
def test_a_counter_that_expires_while_its_increment_waits(url: str, before: int) -> None:
    """The clock is read after the wait, by what takes a number to be there and by what does not."""
    with slothstate.open(url) as state, slothstate.open(url) as other:
        # Prepared: to do that waits as well.
        for _ in range(before):
            other.increment("warm")
        state.set("n", 5, ttl=0.2)
        with ThreadPoolExecutor() as pool:
            with state.transaction():
                waiting = pool.submit(other.increment, "n")
                time.sleep(0.4)
            assert waiting.result() == 1


def test_items_are_taken_once(url: str) -> None:
    """Of those who push and take at once each item has one taker, and the list says how many it has."""
    taken: list[list[int]] = [[] for _ in range(4)]
    refused: list[SlothStateError] = []

    def work(number: int) -> None:
        try:
            with slothstate.open(url) as state:
                for turn in range(150):
                    state.list_push("q", number * 1000 + turn)
                    item = state.list_shift("q") if turn % 2 else state.list_pop("q")
                    if item is not None:
                        taken[number].append(item)
        except SlothStateError as error:
            refused.append(error)

    in_threads(partial(work, number) for number in range(4))
    assert refused == []
    with slothstate.open(url) as state:
        rest = [state.list_shift("q") for _ in range(state.list_length("q"))]
        assert state.check() == []
    found = sorted([item for each in taken for item in each] + rest)
    assert found == sorted(number * 1000 + turn for number in range(4) for turn in range(150))


def test_who_lost_a_lock_does_not_free_it(url: str) -> None:
    """It is another's then."""
    with slothstate.open(url) as state, slothstate.open(url) as other, slothstate.open(url) as third:
        with pytest.raises(LockLost), state.locked("job", ttl=0.05) as lost:
            time.sleep(0.1)
            assert other.try_lock("job")
            assert lost.lost
        assert not third.try_lock("job")
        assert other.unlock("job")


def test_tokens_rise_where_their_row_is_lost(url: str) -> None:
    """As a replica has it that was behind when it was promoted."""
    with slothstate.open(url) as state:
        with state.locked("job") as lock:
            before = lock.token
        time.sleep(0.002)
        administer(url, "delete from locks; delete from tokens")
        with state.locked("job") as lock:
            assert lock.token > before


def test_tokens_rise_when_a_free_place_is_swept(url: str) -> None:
    """And faster than the clock."""
    with slothstate.open(url) as state:
        with state.locked("job") as lock:
            before = lock.token
        administer(url, "update locks set since_ms = 0, token = token + 1000000")
        state.sweep()
        state._engine.locks.sweep()
        with state.locked("job") as lock:
            assert lock.token > before + 1_000_000


def is_noting(state: State) -> bool:
    pool = state._engine.locks._pool  # type: ignore[attr-defined]
    return bool(pool.read("select pg_sequence_last_value('watched') is not null")[0][0])


def test_changes_are_noted_while_anybody_watches(url: str) -> None:
    """From the first watch on; a sweep ends it when there is none, and another watch begins it anew."""
    with slothstate.open(url) as state:
        # Of an earlier test on this store.
        state._engine.watches.sweep()
        assert not is_noting(state)
        for turn in range(2):
            with state.watch() as watch:
                assert is_noting(state)
                state._engine.watches.sweep()
                state.set("k", turn)
                change = watch.next(5)
                assert change is not None
                assert change.key == "k"
            state._engine.watches.sweep()
            assert not is_noting(state)


def test_a_connection_that_nobody_closed(url: str, recwarn: pytest.WarningsRecorder) -> None:
    """It ends with the last reference, without a word."""
    from slothstate.engines.postgres import address
    from slothstate.engines.postgres.connection import Connection

    with slothstate.open(url) as state:
        connection = Connection(address.parse(url), durability="process", lock_timeout=1.0, role="lost")
        count = "select 1 from pg_stat_activity where application_name = 'slothstate lost'"
        pool = state._engine.locks._pool  # type: ignore[attr-defined]
        assert len(pool.read(count)) == 1
        del connection
        deadline = time.monotonic() + 10
        while pool.read(count):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not recwarn.list


def test_the_order_of_changes_of_a_key(url: str) -> None:
    """It is that of its commits, whichever verb began first."""
    plain, _, schema = url.partition("&schema=")
    with (
        slothstate.open(url) as state,
        slothstate.open(url) as other,
        psycopg.connect(plain, options=f"-c search_path={schema}") as admin,
        ThreadPoolExecutor() as pool,
        other.watch("z") as watch,
    ):
        state.set_many(dict.fromkeys("amz", 0))
        admin.execute("select from entries where key = 'm' for update")
        waiting = pool.submit(state.set_many, dict.fromkeys("amz", 1))
        is_waiting = "select count(*) from pg_locks where not granted and transactionid is not null"
        until(lambda: admin.execute(is_waiting).fetchone() != (0,))
        assert other.delete("z")
        admin.commit()
        assert waiting.result()
        assert other.get("z") == 1
        assert [watch.next(0).op for _ in range(3)] == ["set", "delete", "set"]  # type: ignore[union-attr]
        assert watch.next(0) is None


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_watches_wait_for_no_transaction(url: str, database: str) -> None:
    """What others have begun and not ended, in this database or another one, holds no committed change up."""
    with (
        slothstate.open(url) as state,
        slothstate.open(url) as other,
        psycopg.connect(url.partition("&schema=")[0].replace("/postgres?", f"/{database}?")) as admin,
        state.watch() as watch,
    ):
        admin.execute("select pg_current_xact_id()")
        other.set("a", 1)
        with other.transaction():
            other.set("b", 2)
            found = [watch.next(0), watch.next(0)]
        found += [watch.next(0), watch.next(0)]
        assert [change and change.key for change in found] == ["a", None, "b", None]


@pytest.mark.parametrize("name", [None, "follower"])
def test_changes_that_came_with_a_backup(url: str, name: str | None) -> None:
    """The server that a store is restored on has not come to the transactions of the one that it was on."""
    with slothstate.open(url) as state:
        watch = state.watch(name=name)
        state.set("a", 1)
        administer(url, "update changes set xid = '9000000000000'")
        state.set("b", 2)
        if name is not None:
            watch.close()
            watch = state.watch(name=name)
        with watch:
            assert [watch.next(0).key for _ in range(2)] == ["a", "b"]  # type: ignore[union-attr]
            assert watch.next(0) is None


def test_a_large_transaction_holds_no_change_up(url: str) -> None:
    """What was committed before it is given while it goes on, however much it writes."""
    keys = [f"key:{number:04}" for number in range(1_500)]
    with slothstate.open(url) as state, slothstate.open(url) as other, state.watch() as watch:
        other.set("before", 1)
        with other.transaction():
            other.set_many(dict.fromkeys(keys, 1))
            change = watch.next(0)
            assert change is not None
            assert change.key == "before"
            assert watch.next(0) is None
        assert [getattr(watch.next(0), "key", None) for _ in range(1_500)] == [
            f"key:{each:04}" for each in range(1_500)
        ]
        assert watch.next(0) is None
