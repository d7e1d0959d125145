"""What an administrator has set for a role, a database or a server holds for others, and not for a store."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

import slothstate
from helpers.support import exactly
from slothstate.engines.postgres import examination

VALUES = {
    "text": "a\\b'\0\1",
    "bytes": b"\\x00\0\\",
    "word": "NULL",
    "float": 0.1 + 0.2,
    "table": {"a": [None, "\\"]},
    "list": [1, "\\"],
}

ROLE = "particular"


@pytest.fixture
def admin(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url.partition("&schema")[0], autocommit=True) as connection:
        connection.execute(f"create role {ROLE} superuser login")
        yield connection
        connection.execute(f"drop role {ROLE}")


@pytest.mark.parametrize(
    "setting",
    [
        "standard_conforming_strings = off",
        "array_nulls = off",
        "bytea_output = escape",
        "extra_float_digits = -15",
        "transform_null_equals = on",
        "default_transaction_isolation = serializable",
        "default_transaction_read_only = on",
        "search_path = pg_catalog",
        "statement_timeout = 1",
    ],
)
def test_settings_of_a_role(url: str, admin: psycopg.Connection, setting: str) -> None:
    admin.execute(f"alter role {ROLE} set {setting}")
    with slothstate.open(url.replace("//postgres@", f"//{ROLE}@")) as state:
        state.set_many(VALUES)
        assert exactly(state.get_many(VALUES)) == exactly(VALUES)
        assert state.load(list(state.dump())) == len(VALUES)
        with state.transaction():
            for key, value in VALUES.items():
                assert exactly(state.get(key)) == exactly(value)
                state.set(key, value)
        assert state.list_push("rows", *VALUES["list"]) == 2  # type: ignore[misc]
        assert state.keys() == sorted([*VALUES, "rows"])
        assert state.list_pop("rows") == "\\"
        assert state.check() == []


def test_limits_of_a_transaction(url: str, admin: psycopg.Connection) -> None:
    """How long one may take is for whoever wrote the block to say."""
    admin.execute(f"alter role {ROLE} set idle_in_transaction_session_timeout = 100")
    if admin.info.server_version >= 170000:
        admin.execute(f"alter role {ROLE} set transaction_timeout = 100")
    with slothstate.open(url.replace("//postgres@", f"//{ROLE}@")) as state:
        with state.transaction():
            state.set("a", 1)
            time.sleep(0.3)
            state.set("b", 2)
        with state.snapshot():
            assert state.get("a") == 1
            time.sleep(0.3)
            assert state.get("b") == 2


@pytest.mark.parametrize("grant", [None, "pg_read_all_stats"])
def test_what_a_plain_role_sees(
    url: str, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, grant: str | None
) -> None:
    """All connections of the server; what others' transactions do only if it may, and it says so."""
    schema = url.partition("schema=")[2]
    admin.execute(f"alter role {ROLE} nosuperuser; grant usage on schema {schema} to {ROLE}")
    admin.execute(f"grant select, insert, update, delete on all tables in schema {schema} to {ROLE}")
    if grant is not None:
        admin.execute(f"grant {grant} to {ROLE}")
    monkeypatch.setattr(examination, "_LONG", 0.0)
    try:
        with (
            psycopg.connect(url.partition("&schema")[0]) as other,
            slothstate.open(url.replace("//postgres@", f"//{ROLE}@")) as state,
        ):
            other.execute("select 1")
            found = {finding.subject: finding for finding in state.examine()}
            assert int(found["connections"].text.split()[0]) >= 3
            is_named = f"the server process {other.info.backend_pid} has had a transaction open"
            if grant is None:
                assert (found["vacuum"].severity, "pg_read_all_stats" in found["vacuum"].advice) == ("note", True)
            else:
                assert is_named in found["vacuum"].text
    finally:
        admin.execute(f"revoke all on all tables in schema {schema} from {ROLE}")
        admin.execute(f"revoke all on schema {schema} from {ROLE}")
