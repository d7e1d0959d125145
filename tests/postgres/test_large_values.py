"""What is larger than the server takes is refused by name; what is large comes in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import slothstate
from slothstate import InvalidValue
from slothstate.engines.postgres import prepared, upkeep
from slothstate.engines.postgres.connection import Connection, translate


def test_more_than_a_message_holds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent; a transaction goes on."""
    monkeypatch.setattr(prepared, "LARGEST", 2 * 2**20)
    large = b"\0" * 2**20
    with slothstate.open(url) as state, state.transaction():
        state.set("kept", large)
        refusals: tuple[Callable[[], object], ...] = (
            lambda: state.set("k", large * 3),
            lambda: state.set("k", "\1" * 2**20 + "\0" * 2**20),
            lambda: state.set_many({"k": large, "other": large}),
            lambda: state.append("kept", large * 3),
            lambda: state.list_push("q", "x" * 3 * 2**20),
            lambda: state.load([slothstate.Record("k", "bytes", large * 3)]),
        )
        for refused in refusals:
            with pytest.raises(InvalidValue, match="1 GiB"):
                refused()
        assert state.keys() == ["kept"]


def test_what_the_server_says_of_sizes() -> None:
    """By a code, or by words that it does not translate."""
    limit = psycopg.errors.ProgramLimitExceeded("out of memory: string buffer")
    assert isinstance(translate(limit, "url", is_write=False), InvalidValue)
    internal = psycopg.errors.InternalError_("invalid memory alloc request size 1153433604")
    assert isinstance(translate(internal, "url", is_write=True), InvalidValue)


def test_a_dump_in_pages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is longer than a bound, or it is one row; it is one verb."""
    pages: list[int] = []
    execute = Connection.execute

    def measured(self: Connection, statement: str, *arguments: Any, **options: Any) -> Any:
        rows = execute(self, statement, *arguments, **options)
        if statement == upkeep._RECORDS:
            values = [len(row[5] or row[6] or row[8]) for row in rows]
            pages.append(sum(values) if len(values) > 1 else 0)
        return rows

    with slothstate.open(url) as state:
        for number in range(30):
            state.set(f"b{number:02}", bytes(10**6))
        state.set("large", bytes(30 * 10**6))
        for number in range(5):
            state.list_push(f"q{number}", *["x" * 10**6] * 4)
        monkeypatch.setattr(Connection, "execute", measured)
        assert [record.key for record in state.dump()] == state.keys()
        assert upkeep.PAGE_OF_OCTETS // 2 < max(pages) < upkeep.PAGE_OF_OCTETS + 1000
        assert state.stats()["operations"]["dump"] == 1
        assert [record.key for record in state.dump("b0*")] == state.keys("b0*")
        assert pages[-1] == 0
