"""The rows of claims: what is written when, what is left over and goes, and what an audit makes of damage."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import slothstate
from helpers.sqlite import raw
from helpers.verbs import claimed
from slothstate import State, StateClosed
from slothstate.engines.sqlite.locks.owner import Ownership

ITEMS = "insert into list_items (list_id, position, item) values "


def mark(path: str, key: str = "q") -> list[tuple[object, object]]:
    """The value and the expiry of a list's row, if there is one."""
    return raw(path, f"select value, expires_at_ms from entries where key = '{key}'")


def test_states_of_a_list(state: State, path: str) -> None:
    """Without claims it is NULL; -1 while they are all before its first item; a number once there are gaps."""
    state.list_push("q", *"abcdef")
    assert mark(path) == [(None, None)]
    a, b, c = (claimed(state, "q") for _ in "abc")
    assert mark(path) == [(-1, None)]
    b.release()
    assert mark(path) == [(4, None)]
    a.release()
    assert mark(path) == [(5, None)]
    assert claimed(state, "q").done()
    assert mark(path) == [(4, None)]
    c.release()
    # Nothing is claimed any more, and b, c, d, e, f follow each other.
    assert mark(path) == [(None, None)]
    positions = raw(path, "select position from list_items order by position")
    assert positions == [(1,), (2,), (3,), (4,), (5,)]


def test_before_everything_claimed(state: State, path: str) -> None:
    """What is put in front goes before all that is claimed, and leaves a gap as long as it is."""
    state.list_push("q", "a", "b")
    a = claimed(state, "q")
    state.list_unshift("q", "0")
    assert raw(path, "select position from list_items order by position") == [(-1,), (1,)]
    assert mark(path) == [(2, None)]
    a.release()
    assert mark(path) == [(None, None)]
    assert state.get("q") == ["0", "a", "b"]


def test_row_of_a_list_that_is_not_there(state: State, path: str) -> None:
    """It stays for its claims; no sweep and no count of expired keys takes it for an expired one; then it goes."""
    state.list_push("q", "a")
    claim = claimed(state, "q")
    identity = raw(path, "select id from entries")
    assert mark(path) == [(-1, 0)]
    assert state.sweep() == 0
    assert state.stats()["expired_pending"] == 0
    assert raw(path, "select id from entries") == identity
    state.list_push("q", "b")
    assert raw(path, "select id from entries") == identity
    assert claimed(state, "q").done()
    assert claim.done()
    assert mark(path) == [(-1, 0)]
    state.sweep()
    assert mark(path) == []
    assert raw(path, "select count(*) from claims") == [(0,)]


def test_claim_of_another_nonce(state: State, path: str) -> None:
    """Who ends a claim names it: the next claim of the same item is not ended by the one before."""
    state.list_push("q", "a")
    first = claimed(state, "q")
    first.release()
    second = claimed(state, "q")
    assert not first.done()
    assert not first.release()
    assert not first.extend(5)
    assert first.lost
    assert not second.lost
    assert second.done()
    assert raw(path, "select count(*) from claims") == [(0,)]


def test_item_is_read_before_it_is_out_of_sight(state: State, path: str) -> None:
    """A damaged item stays where it is, to be looked at."""
    state.list_push("q", "a", "b")
    claimed(state, "q").done()
    raw(path, "update list_items set item = '[1'")
    with pytest.raises(slothstate.StateCorrupt, match="'q'"):
        state.list_claim("q")
    assert raw(path, "select item from list_items") == [("[1",)]
    assert state.claims() == []
    state.clear()


def test_restored(state: State, path: str, tmp_path: Path) -> None:
    """After a restore all that was claimed is in its list, with its attempts, what was delayed is still that."""
    state.list_push("q", "a", "b", "c")
    state.list_push("alone", 1)
    kept = claimed(state, "q")
    claimed(state, "q").release(delay=60)
    claimed(state, "alone")
    state.backup(tmp_path / "copy")
    assert not kept.lost
    slothstate.restore(tmp_path / "copy", tmp_path / "other.db")
    with slothstate.open(tmp_path / "other.db") as other:
        assert dict(other.items()) == {"alone": [1], "q": ["a", "c"]}
        assert [claim["owner"] for claim in other.claims()] == [None]
        assert claimed(other, "q").attempt == 2


def test_delays_over_a_boot(path: str) -> None:
    """A delay ends by the boot clock, whatever the wall clock says; by the latter once the system was booted anew."""
    with slothstate.open(path) as state:
        state.list_push("q", "a")
        claimed(state, "q").release(delay=60)
        raw(path, "update claims set due_ms = 1")
        assert state.list_length("q") == 0
        assert state.claims()[0]["due"] == pytest.approx(time.time() + 60, abs=30)
        raw(path, "update claims set boot_id = 'another', due_ms = 4102444800000")
        assert (state.list_length("q"), state.claims()[0]["due"]) == (0, 4102444800)
        raw(path, "update claims set expires_boot_ms = 1")
        assert state.list_length("q") == 0
        raw(path, "update claims set due_ms = 1")
        assert state.list_length("q") == 1


def test_where_one_may_only_read(path: str, state: State) -> None:
    """Nothing comes back for whoever cannot write; the length is that of what is there."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    state.list_push("q", "a", "b")
    claimed(state, "q")
    state.close()
    os.chmod(path, 0o400)
    with slothstate.open(path) as reader:
        assert reader.list_length("q") == 1


def test_what_is_being_taken_as_its_state_closes(state: State, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a closing State gives back is for others, not for a thread of its own that had begun to take it."""
    state.list_push("q", "a")
    claimed(state, "q")
    begun, is_back = threading.Event(), threading.Event()
    become = Ownership.become

    def becoming(ownership: Ownership) -> str:
        name = become(ownership)
        begun.set()
        assert is_back.wait(30)
        return name

    monkeypatch.setattr(Ownership, "become", becoming)
    with ThreadPoolExecutor() as pool:
        taking = pool.submit(state.list_claim, "q")
        assert begun.wait(30)
        state._engine.claims.end()
        is_back.set()
        with pytest.raises(StateClosed, match="is closed"):
            taking.result(30)
    monkeypatch.undo()
    state.close()
    with slothstate.open(path) as other:
        assert claimed(other, "q").attempt == 2


DAMAGE = {
    "behind its list": ("-1", f"{ITEMS} (77, 0, '1'), (77, 1, '2')", "5, '3', 1, 1, 'x'"),
    "there as well": ("1", f"{ITEMS} (77, 0, '1')", "0, '1', 1, 1, 'x'"),
    "broken": ("1", f"{ITEMS} (77, 9, '1')", "0, '[1', 1, 1, 'x'"),
    "nobody's": ("1", f"{ITEMS} (77, 9, '1')", "0, '1', 1, 1, null"),
}


@pytest.mark.damaged
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(state: State, path: str, name: str) -> None:
    """`check` names the list of a damaged claim."""
    value, items, claim = DAMAGE[name]
    raw(path, f"insert into entries (id, key, kind, value) values (77, 'bad', 'list', {value})", items)
    assert state.check() == []
    columns = "list_id, position, item, attempts, nonce, owner, since_ms"
    raw(path, f"insert into claims ({columns}) values (77, {claim}, 0)")
    (problem,) = state.check()
    assert problem.startswith("list 'bad' is damaged: ")
    state.delete("bad")
    assert state.check() == []


@pytest.mark.damaged
def test_claims_of_no_list_are_found(state: State, path: str) -> None:
    """`check` counts claims whose list is gone."""
    state.list_push("q", "a")
    claimed(state, "q")
    raw(path, "delete from entries")
    assert state.check() == ["1 claims belong to no list"]
