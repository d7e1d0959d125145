"""What an administrator should know about a store's server: one generator of findings for each part."""

from __future__ import annotations

from collections.abc import Iterator

from slothstate.descriptions import Finding
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["examine"]

_SERVER: Final = """
select
  current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('synchronous_standby_names'), (select count(*) from pg_stat_replication),
  current_setting('max_connections')::int,
  (select sum(numbackends)::int from pg_stat_database),
  coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false), inet_server_addr() is not null,
  current_setting('autovacuum'),
  (select rolsuper from pg_roles where rolname = current_user), pg_has_role('pg_read_all_stats', 'usage')
"""

_OLDEST: Final = """
select pid, extract(epoch from clock_timestamp() - xact_start)::float8
from pg_stat_activity
where xact_start is not null and pid <> pg_backend_pid() and backend_type = 'client backend'
and datname = current_database()
order by xact_start limit 1
"""

_DEAD_ROWS: Final = """
select n_dead_tup, n_live_tup from pg_stat_user_tables where relid = 'entries'::regclass
"""

_LONG: Final = 600.0
"""Seconds of a transaction after which autovacuum has too much to leave alone."""

_FULL: Final = 0.8
"""The share of its connections at which a server is nearly out of them."""


def examine(pool: Store) -> Iterator[Finding]:
    """Look at the server's settings, its replicas, connections, the way to it, and what keeps vacuum from its work."""
    (row,) = pool.read(_SERVER)
    version, fsync, full_pages, standbys, replicas, most, clients, is_tls, is_remote, autovacuum, *role = row
    is_superuser, sees_others = role
    yield Finding("ok", "server", f"PostgreSQL {version}, durability {pool.durability}")
    if "off" in (fsync, full_pages):
        yield Finding(
            "error",
            "durability",
            f"fsync is {fsync}, full_page_writes {full_pages}: a crash of the machine can destroy the store",
            "turn both on in postgresql.conf",
        )
    if replicas and not standbys:
        yield Finding(
            "warning",
            "replicas",
            f"{replicas} replicas, and synchronous_standby_names is empty: a failover can lose acknowledged writes",
            'name them there, and open with durability="full"',
        )
    else:
        yield Finding("ok", "replicas", f"{replicas} connected" if replicas else "none connected")
    if clients > most * _FULL:
        yield Finding(
            "warning",
            "connections",
            f"{clients} of {most} connections are in use",
            "raise max_connections: each thread at work, each State with locks and each transaction takes one",
        )
    else:
        yield Finding("ok", "connections", f"{clients} of {most} in use")
    if is_remote and not is_tls:
        yield Finding(
            "warning", "TLS", "the connection to the server is not encrypted", "add sslmode=verify-full to the URL"
        )
    if is_superuser:
        yield Finding("note", "role", "this role is a superuser", "use one that owns the schema of the store alone")
    if autovacuum != "on":
        yield Finding("warning", "autovacuum", f"autovacuum is {autovacuum}: the tables only grow", "turn it on")
    if not sees_others:
        yield Finding(
            "note",
            "vacuum",
            "this role does not see whether a transaction of another role keeps vacuum from its work",
            "grant pg_read_all_stats to it",
        )
    for pid, seconds in pool.read(_OLDEST):
        if seconds > _LONG:
            yield Finding(
                "warning",
                "vacuum",
                f"the server process {pid} has had a transaction open for {seconds / 60:.0f} minutes: "
                "nothing that was deleted since can be cleaned up",
                "end it",
            )
    for dead, live in pool.read(_DEAD_ROWS):
        if dead > max(10_000, live):
            yield Finding(
                "note", "vacuum", f"{dead} dead rows beside {live} live ones", "autovacuum is behind: look why"
            )
