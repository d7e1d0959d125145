"""Damage inside a sound database: verbs say which key it is and leave it alone, others work, `check` lists it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import slothstate
from helpers.sqlite import raw, store_of, unchanged
from helpers.support import Clock
from slothstate import State, StateCorrupt
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.schema import PAGE_SIZE

pytestmark = pytest.mark.damaged

GET = (lambda s: s.get("bad"), lambda s: s.get_many(["good", "bad"]), lambda s: s["bad"])
SWAP = (lambda s: s.compare_swap("bad", {"a": 1}, 1), lambda s: s.compare_swap("bad", [1], 1))
LIST = (
    lambda s: s.list_length("bad"),
    lambda s: s.list_range("bad"),
    lambda s: s.list_pop("bad"),
    lambda s: s.list_shift("bad"),
    lambda s: s.list_push("bad", 1),
)

Calls = tuple[Callable[[State], object], ...]

ENTRY = "insert into entries (id, key, kind, value) values (77, 'bad', {})"
ITEMS = "insert into list_items (list_id, position, item) values "

# What was damaged: the statements that did it, and the calls that must notice.
DAMAGE: dict[str, tuple[tuple[str, ...], Calls]] = {
    "broken-table": ((ENTRY.format("""'table', '{"a":'"""),), (*GET, *SWAP)),
    "broken-list": ((ENTRY.format("'list', '[1, 2'"),), (*GET, *SWAP, *LIST)),
    "empty-json": ((ENTRY.format("'table', ''"),), (*GET, *SWAP)),
    "table-is-list": ((ENTRY.format("'table', '[1]'"),), (*GET, *SWAP)),
    "list-is-table": ((ENTRY.format("""'list', '{"a":1}'"""),), (*GET, *SWAP, *LIST)),
    "list-is-scalar": ((ENTRY.format("'list', '7'"),), (*GET, *SWAP, *LIST)),
    "json-of-bad-number": ((ENTRY.format("'list', '[01]'"),), (*GET, *SWAP, *LIST)),
    "string-is-integer": ((ENTRY.format("'string', 7"),), (*GET, lambda s: s.append("bad", "x"))),
    "string-is-blob": ((ENTRY.format("'string', x'00'"),), (*GET, lambda s: s.append("bad", "x"))),
    "bytes-is-text": ((ENTRY.format("'bytes', 'x'"),), (*GET, lambda s: s.append("bad", b"x"))),
    "number-is-text": (
        (ENTRY.format("'number', '12x'"),),
        (*GET, lambda s: s.increment("bad"), lambda s: s.increment("bad", 0.5), lambda s: s.decrement("bad")),
    ),
    "number-is-blob": ((ENTRY.format("'number', x'31'"),), (*GET, lambda s: s.increment("bad"))),
    "boolean-is-text": ((ENTRY.format("'boolean', 'true'"),), GET),
    "unknown-kind": ((ENTRY.format("'tuple', '[]'"),), GET),
    "no-kind": ((ENTRY.format("'', 1"),), GET),
    "null-number": ((ENTRY.format("'number', null"),), GET),
    "list-without-items": ((ENTRY.format("'list', null"),), (*GET, *SWAP, *LIST)),
    "list-with-a-hole": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, '1'), (77, 2, '3')"),
        (*GET, *SWAP, lambda s: s.list_range("bad")),
    ),
    "broken-items": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, '[1'), (77, 1, '{{')"),
        (*GET, *SWAP, lambda s: s.list_range("bad"), lambda s: s.list_pop("bad"), lambda s: s.list_shift("bad")),
    ),
    "item-is-two": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, '1,2')"),
        (lambda s: s.list_pop("bad"), lambda s: s.list_shift("bad")),
    ),
    "number-is-infinite": ((ENTRY.format("'number', 9e999"),), GET),
    "item-too-deep": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, '{'[' * 500}{']' * 500}')"),
        (*GET, lambda s: s.list_range("bad")),
    ),
    "item-not-utf8": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, cast(x'22ff22' as text))"),
        (*GET, lambda s: s.list_range("bad"), lambda s: s.list_pop("bad")),
    ),
    "items-that-only-we-refuse": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, '{2**64}'), (77, 1, '[]'), (77, 2, '{'[' * 501}{']' * 501}')"),
        (*GET, lambda s: s.list_range("bad"), lambda s: s.list_pop("bad"), lambda s: s.list_shift("bad")),
    ),
    "items-not-utf8": (
        (ENTRY.format("'list', null"), f"{ITEMS} (77, 0, cast(x'22ff22' as text)), (77, 1, cast(x'22ff22' as text))"),
        (*GET, lambda s: s.list_range("bad"), lambda s: s.list_pop("bad"), lambda s: s.list_shift("bad")),
    ),
    "items-fewer-than-counted": (
        (ENTRY.format("'list', 3"), f"{ITEMS} (77, 0, '1'), (77, 2, '3')"),
        (*GET, *SWAP, lambda s: s.list_range("bad", 0, 9), lambda s: s.list_pop_many("bad", 9)),
    ),
    "hole-before-claims": ((ENTRY.format("'list', -1"), f"{ITEMS} (77, 0, '1'), (77, 2, '3')"), (*GET, *SWAP)),
    "text-not-utf8": ((ENTRY.format("'string', cast(x'ff' as text)"),), GET),
}  # fmt: skip

NOTICED = [(name, index) for name, (_, calls) in DAMAGE.items() for index in range(len(calls))]


@pytest.mark.parametrize(("name", "index"), NOTICED)
def test_damaged_value(state: State, path: str, name: str, index: int) -> None:
    """A verb that meets a damaged value is `StateCorrupt` naming the key, and leaves every row as it is."""
    statements, calls = DAMAGE[name]
    state.set("good", {"a": 1})
    raw(path, *statements)
    with unchanged(path), pytest.raises(StateCorrupt, match="'bad'"):
        calls[index](state)
    assert not store_of(state).in_transaction
    assert state.get("good") == {"a": 1}
    assert state.increment("n") == 1


@pytest.mark.parametrize("name", DAMAGE)
def test_check_lists_it(state: State, path: str, name: str) -> None:
    """`check` names the damaged key and finds nothing else; what does not read the value works."""
    statements, _ = DAMAGE[name]
    state.set_many({"good": [1], "other": "x"})
    state.list_push("rows", 1)
    assert state.check() == []
    raw(path, *statements)
    found = state.check()
    assert found
    assert all("'bad'" in problem and "damaged" in problem for problem in found)
    assert state.keys() == ["bad", "good", "other", "rows"]
    assert (state.exists("bad"), state.get_ttl("bad"), len(state)) == (True, -1, 4)
    assert state.set_ttl("bad", 60)


@pytest.mark.parametrize("how", ["set", "delete", "clear", "expire", "set_many"])
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_can_be_removed(state: State, path: str, clock: Clock, name: str, how: str) -> None:
    """Overwriting, deleting or sweeping a damaged key leaves a sound store."""
    raw(path, *DAMAGE[name][0])
    if how == "set":
        state.set("bad", 1)
    elif how == "set_many":
        state.set_many({"bad": 1})
    elif how == "delete":
        assert state.delete("bad")
    elif how == "clear":
        assert state.clear("b*") == 1
    else:
        state.set_ttl("bad", 1)
        clock.advance(1)
        assert state.sweep() == 1
    assert state.check() == []


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_key_is_named_by_a_dump_and_hides_no_entry(state: State, path: str, name: str) -> None:
    """A dump ends with `StateCorrupt` naming the key, if its value cannot be read; the entries are all there."""
    state.set_many({"a": [1], "z": "x"})
    raw(path, *DAMAGE[name][0])
    assert [record.key for record in state.dump("[az]")] == ["a", "z"]
    if DAMAGE[name][1][0] is GET[0]:
        with pytest.raises(StateCorrupt, match="'bad'"):
            list(state.dump())
    entries = list(state.entries(preview=2000))
    assert [entry.key for entry in entries] == ["a", "bad", "z"]
    assert entries[1] == state.entry("bad", 2000)
    assert sum(usage.keys for usage in state.usage()) == 3


@pytest.mark.parametrize("take", [State.list_pop, State.list_shift])
def test_a_damaged_item_stays_and_so_does_the_transaction(
    state: State, path: str, take: Callable[[State, str], object]
) -> None:
    """An item that cannot be taken out of a list costs the transaction that tried it nothing else."""
    raw(path, *DAMAGE["items-that-only-we-refuse"][0])
    with state.transaction():
        state.set("before", 1)
        with pytest.raises(StateCorrupt, match="'bad'"):
            take(state, "bad")
        state.set("after", 1)
    assert (state.get("before"), state.get("after"), state.list_length("bad")) == (1, 1, 3)


def test_what_is_damaged_can_be_looked_at_and_taken_out(state: State, path: str) -> None:
    """The text of a value that cannot be read is its preview; a list's items come out one by one."""
    raw(path, ENTRY.format("""'table', '{"a":'"""))
    entry = state.entry("bad", 100)
    assert entry is not None
    assert entry.preview == '{"a":'
    assert state.delete("bad")
    raw(path, *DAMAGE["item-too-deep"][0])
    item = state.list_pop("bad")
    assert slothstate.to_json(item) == "[" * 500 + "]" * 500
    assert [record.key for record in state.dump()] == []


OTHER_DAMAGE = {
    "orphan-items": (
        "insert into list_items (list_id, position, item) values (999, 0, '1'), (999, 1, '2')",
        "2 list items belong to no list",
    ),
    "items-of-a-set-list": (
        ENTRY.format("'list', '[1]'") + f"; {ITEMS} (77, 0, '1')",
        "1 list items belong to no list",
    ),
    "key-with-nul": ("insert into entries (key, kind, value) values ('a' || char(0), 'number', 1)", "NUL"),
    "empty-key": ("insert into entries (key, kind, value) values ('', 'number', 1)", "empty"),
    "long-key": (
        "insert into entries (key, kind, value) select replace(hex(zeroblob(2050)), '00', 'ab'), 'number', 1",
        "4100 bytes",
    ),
    "key-not-utf8": ("insert into entries (key, kind, value) values (cast(x'ff' as text), 'number', 1)", "utf-8"),
    "lock-without-owner": (
        "insert into locks (name, nonce, slots, owner, host, pid, boot_id, since_ms)"
        " values ('n', 1, 1, '', '', 1, '', 1)",
        "lock 'n' is damaged",
    ),
    "waiter-without-owner": (
        "insert into lock_waiters (nonce, name, slots, owner, host, pid, since_ms) values (1, 'n', 1, '', '', 1, 1)",
        "a waiter for lock 'n' is damaged: it names no owner",
    ),
    "waiter-without-lock": (
        "insert into lock_waiters (nonce, name, slots, owner, host, pid, since_ms) values (1, '', 1, 'o', '', 1, 1)",
        "a waiter for lock '' is damaged: it names no lock",
    ),
}


@pytest.mark.parametrize("name", OTHER_DAMAGE)
def test_check_lists_other_damage(state: State, path: str, name: str) -> None:
    """Damage that belongs to no readable key is found all the same, and keeps nobody from the sound keys."""
    statement, says = OTHER_DAMAGE[name]
    state.set("good", 1)
    raw(path, *statement.split("; "))
    assert any(says in problem for problem in state.check())
    assert state.get("good") == 1


def test_a_key_that_is_not_utf8(state: State, path: str) -> None:
    """A key that is not even text is named by whatever would have to list it; what comes to other keys works."""
    state.set_many({"a": 1, "z": 1})
    raw(
        path,
        OTHER_DAMAGE["key-not-utf8"][0],
        "insert into entries (key, kind) values (cast(x'62ff63' as text), 'list')",
    )
    raw(path, "insert into list_items (list_id, position, item) select id, 0, '1' from entries where value is null")
    for call in (state.keys, lambda: list(state.scan()), lambda: list(state.dump()), lambda: list(state.entries())):
        with pytest.raises(StateCorrupt, match=re.escape(r"key b'b\xffc' is damaged: it is not UTF-8")):
            call()
    assert state.keys("a*") == ["a"]
    assert state.clear("a*") == 1
    assert state.clear("b?c") == 1
    with pytest.raises(StateCorrupt, match=re.escape(r"key b'\xff'")):
        state.keys()
    assert state.clear("[!a-z]") == 1
    assert state.keys() == ["z"]
    assert state.check() == []


def test_check_is_bounded(state: State, path: str) -> None:
    """A wholly damaged store gives a hundred sentences and not a million."""
    state.set_many({f"k{number}": 1 for number in range(500)})
    raw(path, "update entries set value = 'x'")
    assert len(state.check()) == 100


def test_damaged_page(state: State, path: str) -> None:
    """A page that was overwritten is found by `check`, as an answer; a verb that meets it is `StateCorrupt`."""
    state.set_many({f"k{number:04}": "x" * 100 for number in range(500)})
    state.close()
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        for offset in range(size // 2, size - PAGE_SIZE, 2 * PAGE_SIZE):
            file.seek(offset // PAGE_SIZE * PAGE_SIZE)
            file.write(b"\xa5" * PAGE_SIZE)
    with State(SqliteEngine(path)) as damaged:
        assert damaged.check()
        with pytest.raises(StateCorrupt, match=path):
            [damaged.get(f"k{number:04}") for number in range(500)]
