"""Which server this is: refuses those that keep no promise of ours, and another one behind the same address."""

from __future__ import annotations

from slothstate.errors import StateReadOnly, UnsafeState
from slothstate.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.connection import Connection

__all__ = ["OLDEST", "identify"]

OLDEST: Final = 140000
"""The first release with `client_connection_check_interval`."""

_IDENTIFY: Final = """
select
  pg_backend_pid(), pg_is_in_recovery(), version(), current_setting('server_version_num')::int,
  current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
  (select system_identifier from pg_control_system()),
  (select oid from pg_database where datname = current_database())::bigint,
  case
    when current_setting('transaction_timeout', true) is not null then set_config('transaction_timeout', '0', false)
  end
"""
"""It lifts a limit on the way, which no session can be begun without: servers before PostgreSQL 17 do not know it."""

_STRANGERS: Final = ("CockroachDB", "YugabyteDB", "-YB-", "Redshift", "Greenplum", "Materialize", "CrateDB")


def identify(connection: Connection, known: tuple[Any, ...] | None, durability: str, shown: str) -> tuple[Any, ...]:
    """Return what tells this server and database from others. Raises: `UnsafeState`, `StateReadOnly`."""
    version = connection.db.info.parameter_status("server_version") or ""
    if connection.db.info.server_version < OLDEST:
        raise UnsafeState(f"the server is PostgreSQL {version}; 14 or later is needed ({shown})")
    row = connection.execute(_IDENTIFY, seconds=10)[0]
    pid, is_replica, banner, _, encoding, fsync, full_pages, system, database, _ = row
    stranger = next((name for name in _STRANGERS if name in banner), None)
    if stranger is not None or not banner.startswith("PostgreSQL "):
        raise UnsafeState(f"the server is {stranger or banner[:40]}, which is not PostgreSQL ({shown})")
    if pid != connection.db.info.backend_pid:
        raise UnsafeState(
            f"there is a connection pooler in front of the server: give the server's own address ({shown})"
        )
    if encoding != "UTF8":
        raise UnsafeState(f"the database has the encoding {encoding}; UTF8 is needed ({shown})")
    if durability == "full" and "off" in (fsync, full_pages):
        raise UnsafeState(f'durability="full" needs a server with fsync and full_page_writes on ({shown})')
    if is_replica:
        raise StateReadOnly(f"the server is a replica, whose reads may be stale: connect to the primary ({shown})")
    found = system, database
    if known is not None and found != known:
        raise UnsafeState(f"another server or database answers at this address than when it was opened ({shown})")
    return found
