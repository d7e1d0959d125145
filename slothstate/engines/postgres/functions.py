"""What the server runs of our own: functions in SQL and PL/pgSQL, made with the schema."""

from __future__ import annotations

from slothstate.engines.postgres import claim_functions, list_functions, lock_functions, watch_functions
from slothstate.engines.postgres.definitions import sql
from slothstate.hints import Final

__all__ = ["FUNCTIONS"]

_CLOCK: Final = (
    # The server's clock, read again after each wait; or the moment of a snapshot.
    sql(
        "now_ms()",
        "bigint",
        """
        select coalesce(
          nullif(current_setting('slothstate.now_ms', true), '')::bigint,
          floor(extract(epoch from clock_timestamp()) * 1000)::bigint
        )
        """,
    ),
    sql("clock_ms()", "bigint", "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint"),
    sql("is_live(expires_at_ms bigint)", "boolean", "select $1 is null or $1 > now_ms()"),
    # The server has dropped the lock of an owner whose session has ended.
    sql("is_dead(owner bigint)", "boolean", "select pg_try_advisory_xact_lock_shared($1)"),
    sql(
        "is_due(owner bigint, expires_ms bigint, due_ms bigint)",
        "boolean",
        """
        select case
          when $1 is null then coalesce($3, 0) <= now_ms()
          when coalesce($2 <= clock_ms(), false) then true
          else pg_try_advisory_xact_lock_shared($1)
        end
        """,
    ),
    sql("is_held(expires_ms bigint)", "boolean", "select $1 is null or $1 > clock_ms()"),
)

FUNCTIONS: Final = (
    *_CLOCK,
    *list_functions.FUNCTIONS,
    *claim_functions.FUNCTIONS,
    *watch_functions.FUNCTIONS,
    *lock_functions.FUNCTIONS,
)
"""The statements, in the order in which they have to run."""
