"""Stores of version 1 brought to version 2: in one transaction, while nobody else has the store open."""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress

import apsw

from slothstate.engines.sqlite import access, health, schema, turn
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import StateBusy
from slothstate.hints import Final
from slothstate.processes import command_line

__all__ = ["migrate", "upgrade"]

POLL: Final = 0.02
"""Seconds between two looks whether the store is free."""

_LIST_ITEMS: Final = """\
create table list_items (
  list_id integer not null,
  position integer not null,
  item text not null,
  primary key (list_id, position)
) strict, without rowid"""

_LOCKS: Final = """\
create table locks (
  token integer primary key autoincrement,
  name text not null unique,
  nonce integer not null,
  owner text not null,
  host text not null,
  pid integer not null,
  boot_id text not null,
  since_ms integer not null,
  expires_boot_ms integer
) strict"""

_LOCK_WAITERS: Final = """\
create table lock_waiters (
  nonce integer primary key,
  name text not null,
  owner text not null,
  host text not null,
  pid integer not null,
  since_ms integer not null
) strict"""

# What version 1 had in other words; `entries` and its index are as they were.
_FORMER: Final = {"list_items": _LIST_ITEMS, "locks": _LOCKS, "lock_waiters": _LOCK_WAITERS}

_NEW: Final = ("claims", "locks", "lock_waiters", "changes", "watches")

_LAST_TOKEN: Final = "select ifnull(max(seq), 0) from sqlite_sequence where name = 'locks'"

_HELD: Final = "select token, name, nonce, owner, host, pid, boot_id, since_ms, expires_boot_ms from locks"

# Nobody holds a lock of a store that nobody has open; but `locks` and `sweep` tell what was left.
_HOLD: Final = """
insert into locks (token, name, nonce, slots, owner, host, pid, boot_id, since_ms, expires_boot_ms)
values (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9)
"""


def migrate(path: str, timeout: float, turn_name: str) -> None:
    """Bring the store at `path` to our version if it is of an earlier one; wait `timeout` seconds for its users.

    Whoever opens the store with this release meanwhile waits for its turn and finds the work done. Who dies in it
    leaves the store as it was.
    Raises: `StateBusy` naming the processes that have the store open; `UnsafeState` if its tables are not ours.
    """
    deadline = time.monotonic() + timeout
    while True:
        users = _attempt(path, turn_name)
        if users is None:
            return
        if time.monotonic() >= deadline:
            raise StateBusy(
                f"{path} has the layout of an earlier release and is brought to that of this one, version "
                f"{schema.SCHEMA_VERSION}, when nobody else has it open; {users} has: end it, then try again"
            )
        time.sleep(POLL)


def _attempt(path: str, turn_name: str) -> str | None:
    """Migrate the store if it is our turn and nobody has it open; return who has, None if it is of our version now."""
    users = "another process"
    try:
        with turn.hold(path, turn_name) as is_ours:
            if not is_ours:
                return users
            try:
                with closing(schema.open_plain(path)) as db:
                    # Through the log: who migrated it may not have come to copy that into the file.
                    if db.pragma("user_version") == schema.SCHEMA_VERSION:
                        return None
                    users = _others(path) or users
                with closing(schema.open_plain(path)) as db:
                    # Every connection keeps a shared lock on the file until it is closed; with this mode set before
                    # ours, we ask for the exclusive one.
                    db.execute("pragma locking_mode = exclusive").fetchall()
                    db.execute("begin exclusive")
                    upgrade(db, path)
                    db.execute("commit")
                    with suppress(apsw.Error):
                        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                    return None
            finally:
                # Its maker's, see creation.
                with suppress(OSError):
                    os.unlink(turn.file(path, turn_name))
    except apsw.BusyError:
        return users
    except apsw.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise access.refusal(f"{path} cannot be brought to version {schema.SCHEMA_VERSION}", error) from error


def _others(path: str) -> str:
    """Return the processes that have the store open but for this one, for people; "" where that is not known."""
    others = [user.pid for user in health.users(path) or () if user.pid != os.getpid()]
    return ", ".join(f"process {pid} ({command_line(pid) or 'another container'})" for pid in others)


def upgrade(db: apsw.Connection, path: str) -> None:
    """Bring a database of version 1 to ours, in the caller's transaction. Raises: `UnsafeState` if it is not one."""
    schema.check_tables(db, path, _FORMER, without=set(_NEW) - set(_FORMER))
    last_token = db.execute(_LAST_TOKEN).get
    held = db.execute(_HELD).fetchall()
    db.execute("alter table list_items add column attempts integer not null default 0")
    db.execute("drop table locks")
    db.execute("drop table lock_waiters")
    for name in _NEW:
        db.execute(schema.TABLES[name])
    db.executemany(_HOLD, held)
    db.execute("delete from sqlite_sequence where name = 'locks'")
    db.execute("insert into sqlite_sequence (name, seq) values ('locks', ?1)", (last_token,))
    db.execute(f"pragma user_version = {schema.SCHEMA_VERSION}")
