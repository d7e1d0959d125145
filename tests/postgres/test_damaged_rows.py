"""Damage inside a sound database: verbs say which key it is and leave it alone, others work, `check` lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import slothstate
from helpers import postgres_server
from slothstate import State, StateCorrupt
from slothstate.engines.postgres import audit
from slothstate.engines.postgres.address import parse

Calls = tuple[Callable[[State], object], ...]

GET: Calls = (lambda s: s.get("bad"), lambda s: s.get_many(["good", "bad"]), lambda s: s.take("bad"))
TAKE: Calls = (
    *(lambda s: s.list_pop("bad"), lambda s: s.list_shift("bad"), lambda s: s.list_pop_many("bad", 2)),
    *(lambda s: s.list_shift_many("bad", 9), lambda s: s.list_claim("bad")),
)
LIST: Calls = (
    *(lambda s: s.list_range("bad"), *TAKE, lambda s: s.list_length("bad"), lambda s: s.list_push("bad", 1)),
    *(lambda s: s.list_unshift("bad", 1), lambda s: s.list_insert("bad", 1, 7), lambda s: s.list_set("bad", 0, 7)),
    *(lambda s: s.list_remove("bad", 2), lambda s: s.list_trim("bad", 0, 0)),
)
MIDDLE: Calls = (
    *(lambda s: s.list_insert("bad", 1, 7), lambda s: s.list_set("bad", 2, 7), lambda s: s.list_trim("bad", 0, 0)),
    lambda s: s.set_field("bad", (2,), 1),
)

COLUMNS = "update entries set {} where key = 'bad'"
ITEMS = "update items set item = '{}' where list_id = (select id from entries where key = 'bad') and {}"

# What the key holds at first, the statement that damages it, and the calls that must notice.
DAMAGE: dict[str, tuple[Any, str, Calls]] = {
    "broken-table": ({"a": 1}, COLUMNS.format("""t = '{"a":'"""), (*GET, lambda s: s.set_field("bad", "a", 2))),
    "table-is-list": ({"a": 1}, COLUMNS.format("t = '[1]'"), GET[:2]),
    "no-table": ({"a": 1}, COLUMNS.format("t = null"), GET),
    "broken-list": ([1, 2], COLUMNS.format("t = '[1, 2'"), (*GET, *LIST)),
    "list-is-table": ([1, 2], COLUMNS.format("""t = '{"a":1}'"""), (*GET[:2], *LIST)),
    "list-is-scalar": ([1, 2], COLUMNS.format("t = '5'"), (*GET[:2], *LIST)),
    "list-of-nan": ([1, 2], COLUMNS.format("t = '[NaN]'"), (*GET, *LIST)),
    "list-too-deep": ([1], COLUMNS.format("t = repeat('[', 100000)"), (*GET, *LIST)),
    "no-string": ("x", COLUMNS.format("t = null"), (*GET, lambda s: s.append("bad", "x"))),
    "no-bytes": (b"x", COLUMNS.format("b = null"), (*GET, lambda s: s.append("bad", b"x"))),
    "no-number": (5, COLUMNS.format("n = null"), (*GET, lambda s: s.increment("bad"))),
    "nan": (1.5, COLUMNS.format("f = 'NaN'"), (*GET, lambda s: s.increment("bad", 1.0))),
    "infinity": (1.5, COLUMNS.format("f = '-Infinity'"), (*GET, lambda s: s.increment("bad", 1.0))),
    "no-boolean": (True, COLUMNS.format("n = null"), GET),
    "unknown-kind": (1, COLUMNS.format("kind = 'weird'"), GET[:2]),
    "broken-item": ("rows", ITEMS.format("{", "true"), (*GET, *TAKE, lambda s: s.list_remove("bad", 2))),
    "item-of-nan": ("rows", ITEMS.format("NaN", "true"), (*GET, *TAKE)),
    "one-broken-item": ("rows", ITEMS.format("[1", "pos = 2"), (*GET, lambda s: s.list_pop_many("bad", 2))),
    "items-gone": (
        "rows",
        "delete from items where list_id = (select id from entries where key = 'bad')",
        (*GET, *TAKE, *MIDDLE, lambda s: s.list_range("bad")),
    ),
    "fewer-than-counted": (
        "rows",
        "delete from items where pos > 1 and list_id = (select id from entries where key = 'bad')",
        (*MIDDLE, lambda s: s.list_insert("bad", 2, 1)),
    ),
    "no-count": ("rows", COLUMNS.format("n = null"), (lambda s: s.list_length("bad"), lambda s: s.list_push("bad", 1))),
    "no-beginning": ("rows", COLUMNS.format("first = null"), (*TAKE, lambda s: s.list_push("bad", 1))),
    "end-too-early": ("rows", COLUMNS.format("last = last - 2"), (lambda s: s.list_push("bad", 1),)),
    "beginning-too-late": ("rows", COLUMNS.format("first = first + 2"), (lambda s: s.list_unshift("bad", 1),)),
}

NOTICED = [(name, index) for name, (_, _, calls) in DAMAGE.items() for index in range(len(calls))]


class Store:
    """A store with a key `bad`, and a way around the verbs."""

    def __init__(self, url: str) -> None:
        self.state = slothstate.open(url)
        self._schema = parse(url).schema
        parts = psycopg.conninfo.conninfo_to_dict(parse(url).conninfo)
        self._db = psycopg.connect(**parts, autocommit=True, options=f"-c search_path={self._schema}")  # type: ignore[arg-type]

    def damage(self, name: str) -> Calls:
        """Put the key there and damage it; return the calls that must notice."""
        value, statement, calls = DAMAGE[name]
        if value == "rows":
            self.state.list_push("bad", 1, 2, 3)
        else:
            self.state.set("bad", value)
        self.run(statement)
        return calls

    def run(self, statement: str) -> None:
        self._db.execute(statement)

    def contents(self) -> str:
        """All that is stored, but for the form of a list, which may change."""
        entries = self._db.execute("select key, kind, n, f, t, b, first, last, id from entries order by key").fetchall()
        # Its text: NaN does not equal itself.
        return repr([entries, self._db.execute("select * from items order by list_id, pos").fetchall()])

    def close(self) -> None:
        self.state.close()
        self._db.close()


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store that may be left damaged."""
    url = postgres_server.take_url()
    store = Store(url)
    yield store
    store.close()
    postgres_server.give_back(url)


@pytest.mark.parametrize(("name", "index"), NOTICED)
def test_a_damaged_value(store: Store, name: str, index: int) -> None:
    """A verb that meets a damaged value is `StateCorrupt` naming the key, and leaves it to be looked at."""
    state = store.state
    state.set("good", {"a": 1})
    call = store.damage(name)[index]
    before = store.contents()
    with pytest.raises(StateCorrupt, match="'bad'"):
        call(state)
    assert store.contents() == before
    # Nor does it end the transaction of whoever tried it.
    with state.transaction():
        state.set("before", 1)
        with pytest.raises(StateCorrupt, match="'bad'"):
            call(state)
        state.set("after", 1)
    assert state.get_many(["before", "after", "good"]) == {"before": 1, "after": 1, "good": {"a": 1}}


@pytest.mark.parametrize("name", DAMAGE)
def test_check_lists_it(store: Store, name: str) -> None:
    """`check` names the damaged key and finds nothing else; what does not read the value works."""
    state = store.state
    state.set_many({"a": [1], "text": "x\0\1", "k" * 3000: {"a": 1}})
    state.list_push("rows", 1)
    assert state.check() == []
    store.damage(name)
    found = state.check()
    assert found
    assert all("'bad'" in problem for problem in found)
    entries = {entry.key: entry for entry in state.entries(preview=2000)}
    assert entries["bad"] == state.entry("bad", 2000)
    assert len(entries) == sum(usage.keys for usage in state.usage()) == 5
    assert state.delete("bad")
    assert state.check() == []


def test_what_is_damaged_can_be_looked_at(store: Store) -> None:
    """The text of a value that cannot be read is its preview."""
    store.damage("broken-table")
    entry = store.state.entry("bad", 100)
    assert entry is not None
    assert (entry.preview, entry.size) == ('{"a":', 5)


def test_damage_of_other_kinds(store: Store) -> None:
    """A key that cannot be one, an escape that stands for nothing, an item at two places, a claim that is broken."""
    state = store.state
    state.set_many({"a": "x", "b" * 3000: 1, "c": 1})
    state.list_push("q", 1, 2)
    assert state.list_claim("q") is not None
    assert state.check() == []
    for statement, said in (
        ("update entries set t = 'x' || chr(1) where key = 'a'", "'a'"),
        ("update entries set long_key = long_key || 'b' where long_key is not null", "'bbb"),
        ("update entries set key = '' where key = 'c'", "''"),
        ("insert into items select list_id, pos, item, 0 from claims", "'q'"),
        ("update claims set item = '{'", "'q'"),
    ):
        before = state.check()
        store.run(statement)
        (new,) = [problem for problem in state.check() if problem not in before][:1]
        assert said in new


@pytest.mark.parametrize("text", ["\1", "a\1\2\1", "\1\1\2", "\1\1\2\3", "\1\1\3\2", "\1\4", "\2\1\1\3\2\3"])
def test_escapes_that_stand_for_nothing(store: Store, text: str) -> None:
    store.state.set_many({"sound": "\0\1\2\3\1\0\0\3", "bad": ""})
    assert store.state.check() == []
    store.run(f"update entries set t = '{text}' where key = 'bad'")
    assert store.state.check() == ["the string 'bad' has an escape that stands for nothing"]


def test_a_large_store_is_checked_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page of rows that the audit reads is longer than a bound, or it is one row."""
    state = store.state
    state.set_many({f"k{number:04}": {"text": "x" * 100_000} for number in range(400)} | {"big": ["y" * 20_000_000]})
    state.list_push("rows", *("z" * 100_000 for _ in range(400)))
    state.list_push("rows", *range(2500))
    longest = 0
    read = type(state._engine.pool).read  # type: ignore[attr-defined]

    def measured(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal longest
        rows = read(self, *arguments, **options)
        texts = [len(row[3]) for row in rows if len(row) == 4 and isinstance(row[3], str)]
        longest = max(longest, sum(texts) if len(texts) > 1 else 0)
        return rows

    monkeypatch.setattr(type(state._engine.pool), "read", measured)  # type: ignore[attr-defined]
    assert state.check() == []
    assert audit.PAGE_OF_BYTES // 2 < longest < audit.PAGE_OF_BYTES + 100_020
    store.run("update items set item = '{' where pos % 1000 = 0")
    assert len(state.check()) == 2


def test_many_problems(store: Store) -> None:
    """No more are told than anybody reads."""
    store.state.set_many({f"k{number}": {} for number in range(3000)})
    store.run("update entries set t = '{'")
    assert len(store.state.check()) == audit.PROBLEMS_MAX
