"""What is refused: addresses, schemas, databases, roles and servers. Each is told why, and nothing is changed."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

import slothstate
from helpers.postgres_server import Server, as_somebody_else, drop, started
from slothstate import InvalidValue, SlothStateError, StateIOError, StateReadOnly, UnsafeState

SECRET = "sEcret"

MALFORMED = (
    f"postgresql://me:1{SECRET}/x@127.0.0.1/db",
    f"postgresql://me:12/{SECRET}@127.0.0.1/db",
    f"postgresql://me:1?{SECRET}@127.0.0.1/db",
    f"postgresql://me:1?a={SECRET}@127.0.0.1/db",
    f"postgresql://me:{SECRET}#x@127.0.0.1/db",
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
    f"postgresql://me:{SECRET}@127.0.0.1:99999/db",
    f"postgresql://me:{SECRET}@[::1/db",
    f"postgresql://me:{SECRET}%zz@127.0.0.1/db",
    f"postgresql://me:{SECRET}%@127.0.0.1/db",
    f"postgresql://me:{SECRET} x@127.0.0.1/db",
    f"postgresql://me:{SECRET}\n@127.0.0.1/db",
    f"postgresql://me:{SECRET}\0@127.0.0.1/db",
    f"postgresql://me:{SECRET}@127.0.0.1/db?passwd={SECRET}",
    f"postgresql://me@127.0.0.1/db?pasword={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1/db?schema",
    f"postgresql://me:{SECRET}@127.0.0.1/db?connect_timeout=soon",
    f"postgresql://me:{SECRET}@127.0.0.1/db?sslmode=perhaps",
    f"postgresql://me:{SECRET}@127.0.0.1/db?port=first",
    f"postgresql://me:{SECRET}@127.0.0.1/db?service=nobodys",
    f"postgresql:/me:{SECRET}@127.0.0.1/db",
    f"postgres:me:{SECRET}@127.0.0.1",
    f"postgresql://me:x@{SECRET}@127.0.0.1/db",
    f"postgresql://:x@{SECRET}@127.0.0.1/db",
    f"postgresql://me:{SECRET}%00x@127.0.0.1/db",
    f"postgresql://me:{SECRET}%ff@127.0.0.1/db",
    f"postgresql://me@127.0.0.1/db?password={SECRET}%ff",
    f"postgresql://me@127.0.0.1/db?password=x&{SECRET}=1",
    f"postgresql://me@127.0.0.1/db?{SECRET}=x@y",
    f"postgresql://me@127.0.0.1/db?{SECRET}-1=x",
    f"postgresql://me:{SECRET},x%40127.0.0.1/db",
    f"postgresql://me:1,{SECRET}%40127.0.0.1/db",
    f"postgresql://me:1,x:{SECRET}%40127.0.0.1/db",
    f"postgresql://me%3A{SECRET}@127.0.0.1/db",
    "postgresql://me@127.0.0.1/db?schema=s_%ff",
    *(
        f"postgresql://me:{SECRET}@127.0.0.1/db?schema={name}"
        for name in ("", "x" * 64, "é" * 32, "pg_mine", "information_schema", "a&schema=b", "a%09b", "a%0Ab", "%24user")
    ),
)


def refusal(url: str, **options: float) -> SlothStateError:
    """Return the error of opening a store, in which the password is nowhere, and which comes at once."""
    began = time.monotonic()
    with pytest.raises(SlothStateError) as caught:
        slothstate.open(url, **options)  # type: ignore[arg-type]
    assert time.monotonic() - began < 2
    error = caught.value
    text = "".join(traceback.format_exception(error, chain=True))
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    assert SECRET not in "\n".join(lines)
    assert SECRET not in repr(pickle.loads(pickle.dumps(error)))
    return error


@pytest.mark.parametrize("url", MALFORMED)
def test_malformed_addresses(url: str) -> None:
    """The error names what is wrong, without a word of what may be a piece of the password."""
    assert type(refusal(url)) is InvalidValue
    try:
        shown = slothstate.display_address(url)
    except InvalidValue as error:
        shown = str(error)
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db?schema=s", "postgresql://me@127.0.0.1:1/db?schema=s"),
        (f"postgres://me:{SECRET}%2F%40@127.0.0.1:1/db", "postgres://me@127.0.0.1:1/db"),
        (f"postgresql://me@127.0.0.1:1/db?password={SECRET}", "postgresql://me@127.0.0.1:1/db"),
        (f"postgresql://127.0.0.1:1/db?user=me&sslpassword={SECRET}", "postgresql://127.0.0.1:1/db?user=me"),
        (f"postgresql://:{SECRET}@127.0.0.1:1,127.0.0.1:2/db", "postgresql://@127.0.0.1:1,127.0.0.1:2/db"),
        ("postgresql:///?host=/nowhere", "postgresql:///?host=/nowhere"),
        (f"postgresql://me%40corp:{SECRET}@[::1]:1/db", "postgresql://me%40corp@[::1]:1/db"),
    ],
)
def test_a_server_that_is_not_there(url: str, shown: str) -> None:
    """It is named, without its password."""
    assert slothstate.display_address(url) == shown
    error = refusal(url, busy_timeout=0.2)
    assert isinstance(error, StateIOError)
    assert shown in str(error)


@pytest.mark.parametrize("name", ["oauth_client_secret", "scram_client_key", "scram_server_key"])
def test_other_secrets(name: str) -> None:
    """What proves who somebody is, is shown as little as a password; an older libpq does not know it."""
    url = f"postgresql://me@127.0.0.1:1/db?{name}={SECRET}"
    refusal(url, busy_timeout=0.2)
    with suppress(InvalidValue):
        assert slothstate.display_address(url) == "postgresql://me@127.0.0.1:1/db"


@pytest.fixture
def admin(server: Server) -> Iterator[psycopg.Connection]:
    """The administrator of a server, with a role `guest` that may do nothing."""
    with psycopg.connect(f"host={server.directory} user=postgres dbname=postgres", autocommit=True) as admin:
        if not admin.execute("select 1 from pg_roles where rolname = 'guest'").fetchall():
            admin.execute(f"create role guest login password '{SECRET}'")
        yield admin


def test_a_password_that_is_not_shown(server: Server) -> None:
    """Neither the State nor what it tells of itself says it."""
    url = server.url().replace("postgres@", f"postgres:{SECRET}@")
    with slothstate.open(url) as state:
        assert SECRET not in repr(state) + repr(state.stats()) + repr(state.health()) + repr(list(state.examine()))
        state._engine.pool.close_idle()  # type: ignore[attr-defined]
        server.stop(signal.SIGKILL)
        state._engine.pool.busy_timeout = 0.1  # type: ignore[attr-defined]
        with pytest.raises(StateIOError) as caught:
            state.get("k")
        assert SECRET not in "".join(traceback.format_exception(caught.value)).replace(url, "")


def test_roles_and_databases_that_are_not_there(server: Server, admin: psycopg.Connection) -> None:
    """They are refused at once, not tried again until the patience ends."""
    assert isinstance(refusal(server.url(user="nobody")), UnsafeState)
    assert isinstance(refusal(server.url(database="nothing")), UnsafeState)
    admin.execute("create role locked nologin")
    assert isinstance(refusal(server.url(user="locked")), UnsafeState)
    admin.execute("drop role locked")


def test_a_wrong_password(server: Server, admin: psycopg.Connection) -> None:
    """It is refused at once, and so are none, and a host that may not come."""
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text("local all guest scram-sha-256\nlocal postgres postgres trust\n")
        admin.execute("select pg_reload_conf()")
        time.sleep(0.2)
        with slothstate.open(server.url()):
            pass
        admin.execute("grant usage on schema slothstate to guest")
        admin.execute("grant select on all tables in schema slothstate to guest")
        right = server.url(user="guest").replace("guest@", f"guest:{SECRET}@")
        with slothstate.open(right) as state:
            assert state.get("k") is None
        wrong = refusal(right.replace(SECRET, f"{SECRET}x"))
        assert isinstance(wrong, UnsafeState)
        assert "password" in str(wrong)
        assert isinstance(refusal(server.url(user="guest")), UnsafeState)
        assert isinstance(refusal(server.url(database="other")), UnsafeState)
        # After the right password, too, it is said what is missing.
        assert "database" in str(refusal(right.replace("/postgres?", "/nothing?")))
    finally:
        rules.write_text(before)
        admin.execute("select pg_reload_conf()")


def test_what_libpq_takes(
    server: Server, admin: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A + is a + wherever it stands; what a service or the environment says holds unless the URL says otherwise."""

    def session(url: str) -> tuple[str, str]:
        with slothstate.open(url) as state:
            ask = "select current_setting('application_name'), current_setting('work_mem')"
            return state._engine.pool.read(ask)[0]  # type: ignore[attr-defined,no-any-return]

    plain = f"{server.url()}&application_name=a+b%2Bc%20d"
    assert session(plain) == ("a+b+c d", "4MB")
    assert "application_name=a%2Bb%2Bc%20d" in slothstate.display_address(plain)
    monkeypatch.setenv("PGAPPNAME", "of the environment")
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=7MB")
    assert session(server.url()) == ("of the environment", "7MB")
    (tmp_path / "services").write_text(
        f"[mine]\nhost={server.directory}\nuser=postgres\ndbname=postgres\n"
        "application_name=of the service\noptions=-c work_mem=9MB\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    for url in ("postgresql://?service=mine", "postgresql:///?service=mine&schema=slothstate"):
        assert session(url) == ("of the service", "9MB")
    assert session("postgresql://?service=mine&options=-c%20work_mem%3D5MB&application_name=x") == ("x", "5MB")
    monkeypatch.setenv("PGSERVICE", "mine")
    assert session("postgresql://") == ("of the service", "9MB")


def test_a_password_with_a_plus(server: Server, admin: psycopg.Connection) -> None:
    """It is the same password wherever it stands in the URL, escaped or not."""
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    admin.execute("create role plus login password 'a+b'")
    admin.execute("create schema plus authorization plus")
    try:
        rules.write_text("local all plus scram-sha-256\nlocal postgres postgres trust\n")
        admin.execute("select pg_reload_conf()")
        time.sleep(0.2)
        url = server.url("plus", user="plus")
        for right in (
            url.replace("plus@", "plus:a+b@"),
            url.replace("plus@", "plus:a%2Bb@"),
            f"{url}&password=a+b",
            f"{url}&password=a%2Bb",
        ):
            slothstate.open(right).close()
    finally:
        rules.write_text(before)
        admin.execute("select pg_reload_conf()")
        admin.execute("drop owned by plus cascade")
        admin.execute("drop role plus")


def test_schemas_that_are_not_ours(server: Server, admin: psycopg.Connection) -> None:
    """Another program's and one of a newer version are left alone; an empty one is filled."""
    with slothstate.open(server.url()) as state:
        state.set("k", 1)
    admin.execute("create schema theirs")
    for statement in ("create table theirs.meta (x int)", "alter table theirs.meta rename to other"):
        admin.execute(statement)
        assert "theirs" in str(refusal(server.url("theirs")))
    admin.execute("alter table theirs.other rename to meta")
    admin.execute("alter table theirs.meta rename x to name")
    assert isinstance(refusal(server.url("theirs")), UnsafeState)
    found = admin.execute("select relname from pg_class where relnamespace = 'theirs'::regnamespace").fetchall()
    assert found == [("meta",)]
    admin.execute("update slothstate.meta set value = '2' where name = 'version'")
    assert "version 2" in str(refusal(server.url()))
    admin.execute("update slothstate.meta set value = '1' where name = 'version'")
    admin.execute('create schema "Empty ""one"""')
    with slothstate.open(server.url("Empty%20%22one%22")) as state:
        assert state.set("k", 2)
    with slothstate.open(server.url()) as state:
        assert state.get("k") == 1
    for name in ("theirs", '"Empty ""one"""'):
        admin.execute(f"drop schema {name} cascade")


@pytest.mark.parametrize(
    "thing",
    [
        "function theirs.f() returns int language sql as 'select 1'",
        "type theirs.color as enum ('red')",
        "type theirs.pair as (a int, b int)",
        "domain theirs.small as int",
        "collation theirs.c (locale = 'C')",
        "operator theirs.=== (leftarg = int, rightarg = int, function = int4pl)",
    ],
    ids=lambda text: text.split()[0],
)
def test_a_schema_with_anything_in_it(server: Server, admin: psycopg.Connection, thing: str) -> None:
    """It is left alone, and so are the rights on it."""
    admin.execute(f"create schema theirs; grant usage on schema theirs to public; create {thing}")
    try:
        before = admin.execute("select nspacl::text from pg_namespace where nspname = 'theirs'").fetchall()
        error = refusal(server.url("theirs"))
        assert isinstance(error, UnsafeState)
        assert "holds" in str(error)
        after = admin.execute(
            "select nspacl::text, (select count(*) from pg_class where relnamespace = n.oid and relname = 'meta') "
            "from pg_namespace n where nspname = 'theirs'"
        ).fetchall()
        assert after == [(*before[0], 0)]
    finally:
        admin.execute("drop schema theirs cascade")


def test_many_make_the_same_store(server: Server) -> None:
    """Whoever comes while another makes it waits, and takes it for nobody else's."""
    for round_ in range(4):
        url = server.url(f"made{round_}")
        with ThreadPoolExecutor(8) as pool:
            states = list(pool.map(lambda _, url=url: slothstate.open(url), range(8)))
        assert sum(state.increment("n") for state in states) == sum(range(1, 9))
        for state in states:
            state.close()
        drop(url)


def test_a_database_where_functions_are_nobodys(server: Server, admin: psycopg.Connection) -> None:
    """The rights that the documentation names are enough."""
    admin.execute("alter default privileges revoke execute on functions from public; create role reader login")
    try:
        with slothstate.open(server.url()) as state:
            state.set("k", [1])
            state.list_push("q", 1)
        admin.execute("grant usage on schema slothstate to reader")
        admin.execute("grant select, insert, update, delete on all tables in schema slothstate to reader")
        with slothstate.open(server.url().replace("//postgres@", "//reader@")) as state:
            assert state.get("k") == [1]
            assert state.list_shift("q") == 1
            with state.locked("job"):
                assert state.set("k", 2)
    finally:
        admin.execute("drop owned by reader; drop role reader")
        admin.execute("alter default privileges grant execute on functions to public")


def test_a_database_of_another_encoding(server: Server, admin: psycopg.Connection) -> None:
    """Only in UTF8 is every text stored as it is."""
    for encoding in ("SQL_ASCII", "LATIN1"):
        admin.execute(f"create database old encoding '{encoding}' template template0")
        assert encoding in str(refusal(server.url(database="old")))
        admin.execute("drop database old")


def test_a_role_that_may_not_make_the_store(server: Server, admin: psycopg.Connection) -> None:
    """It is told what an administrator has to run, and that is enough."""
    error = refusal(server.url("mine", user="guest"))
    assert isinstance(error, StateReadOnly)
    statement = 'create schema "mine" authorization "guest"'
    assert statement in str(error)
    admin.execute("create schema others")
    admin.execute("grant usage on schema others to guest")
    error = refusal(server.url("others", user="guest"))
    assert isinstance(error, StateReadOnly)
    right = 'grant usage, create on schema "others" to "guest"'
    assert right in str(error)
    admin.execute(right)
    with slothstate.open(server.url("others", user="guest")) as state:
        assert state.set("k", 1)
    admin.execute(statement)
    with slothstate.open(server.url("mine", user="guest")) as state:
        assert state.set("k", 1)
    admin.execute("drop schema mine cascade")
    admin.execute("drop schema others cascade")


def test_a_role_that_may_not_write(server: Server, admin: psycopg.Connection) -> None:
    """It is refused what it may not do, and can do the rest; with all rights on the tables it can do everything."""
    with slothstate.open(server.url()) as owner:
        owner.set("k", 1)
        owner.list_push("due", 1, 2)
        owner.list_claim("due", ttl=0.001)
        url = server.url(user="guest")
        assert isinstance(refusal(url), UnsafeState)
        admin.execute("grant usage on schema slothstate to guest")
        assert isinstance(refusal(url), UnsafeState)
        admin.execute("grant select on all tables in schema slothstate to guest")
        with slothstate.open(url) as guest:
            assert (guest.get("k"), guest.keys(), guest.check()) == (1, ["due", "k"], [])
            assert (guest.list_length("due"), guest.list_range("due")) == (1, [2])
            for use in (
                lambda: guest.set("k", 2),
                lambda: guest.increment("k"),
                lambda: guest.list_push("q", 1),
                lambda: guest.lock("job"),
                lambda: guest.clear(),
                lambda: guest.transaction().__enter__(),
                lambda: guest.set_many({"a": 1}),
            ):
                with pytest.raises(StateReadOnly):
                    use()
            with guest.snapshot():
                assert guest.get("k") == 1
        admin.execute("grant insert, update, delete on all tables in schema slothstate to guest")
        with slothstate.open(url) as guest, guest.locked("job"), guest.watch() as changes:
            guest.list_push("q", 1)
            with guest.transaction():
                assert guest.increment("k") == 2
            claim = guest.list_claim("q")
            assert claim is not None
            assert claim.done()
            assert next(changes).key == "q"
            guest.sweep()
            assert guest.clear() == 2
        admin.execute("revoke all on all tables in schema slothstate from guest")
        admin.execute("revoke all on schema slothstate from guest")


def test_functions_that_nobody_may_call_by_default(server: Server, admin: psycopg.Connection) -> None:
    """The rights that are documented are enough for another role where new functions are nobody's."""
    admin.execute("alter default privileges revoke execute on functions from public")
    try:
        with slothstate.open(server.url()) as owner:
            owner.list_push("l", 1)
        admin.execute("grant usage on schema slothstate to guest")
        admin.execute("grant select, insert, update, delete on all tables in schema slothstate to guest")
        with slothstate.open(server.url(user="guest")) as guest:
            assert guest.get("l") == [1]
            assert guest.list_pop("l") == 1
            with guest.locked("job"):
                pass
    finally:
        admin.execute("alter default privileges grant execute on functions to public")


def test_full_durability_of_a_server_without_sync(server: Server) -> None:
    """It would be none."""
    with pytest.raises(UnsafeState, match="fsync"):
        slothstate.open(server.url(), durability="full")


def test_another_server_behind_the_same_address() -> None:
    """An open State never goes on with another store, and goes on when its own is back."""
    with started() as server:
        url = server.url()
        with slothstate.open(url, busy_timeout=10) as state:
            state.set("k", "mine")
            server.stop(signal.SIGINT)
            shutil.move(server.data, server.directory / "first")
            server.initialize(is_another=True)
            server.start()
            with slothstate.open(url) as other:
                other.set("k", "another's")
            for use in (
                lambda: state.get("k"),
                lambda: state.set("k", 1),
                lambda: state.transaction().__enter__(),
                lambda: state.lock("job"),
            ):
                with pytest.raises(UnsafeState, match="another server"):
                    use()
            server.stop(signal.SIGINT)
            shutil.rmtree(server.data)
            shutil.move(server.directory / "first", server.data)
            server.start()
            assert state.get("k") == "mine"


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_in_front(server: Server, mode: str) -> None:
    """Locks would outlive their owners there."""
    directory = server.directory
    (directory / "users.txt").write_text('"postgres" ""\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host={directory}\n[pgbouncer]\nunix_socket_dir = {directory}\nlisten_port = 6432\n"
        f"auth_type = trust\nauth_file = {directory}/users.txt\npool_mode = {mode}\n"
        "ignore_startup_parameters = options\n"
    )
    command = [*(as_somebody_else() or ()), "pgbouncer", str(directory / "pgbouncer.ini")]
    pooler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (directory / ".s.PGSQL.6432").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(UnsafeState, match="pooler"):
            slothstate.open(f"{server.url()}&port=6432")
    finally:
        pooler.terminate()
        pooler.wait(10)


def test_a_commit_that_is_refused(server: Server, admin: psycopg.Connection) -> None:
    """A statement that has run, and whose commit the server then refuses, is refused."""
    with slothstate.open(server.url()) as state:
        state.set("k", 1)
        admin.execute(
            "create function slothstate.refuse() returns trigger language plpgsql "
            "as $$ begin raise exception 'not on a Saturday'; end $$"
        )
        admin.execute(
            "create constraint trigger refuse after update on slothstate.entries deferrable initially deferred "
            "for each row execute function slothstate.refuse()"
        )
        with pytest.raises(StateIOError, match="Saturday"):
            state.set("k", 2)
        with pytest.raises(StateIOError, match="Saturday"), state.transaction():
            state.set("k", 2)
        assert state.get("k") == 1
