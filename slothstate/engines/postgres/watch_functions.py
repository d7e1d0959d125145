"""Functions of the server that note changes for those who watch, and number them; and the triggers on `entries`."""

from __future__ import annotations

from slothstate.engines.postgres.definitions import plpgsql
from slothstate.hints import Final

__all__ = ["FUNCTIONS", "KEPT_CHANGES"]

KEPT_CHANGES: Final = 100_000
"""Changes that are kept for whoever has not handled them."""

_TRIM_EVERY: Final = 1_000

# A sequence that was called: see `watch_table`.
_WATCHED: Final = "pg_sequence_last_value('watched') is not null"

FUNCTIONS: Final = (
    # What a verb has done to a key, while anybody watches; several times in one verb is once.
    plpgsql(
        "note_v1(k text, what text)",
        "void",
        f"""
        declare
          verb text := coalesce(nullif(current_setting('slothstate.step', true), ''), statement_timestamp()::text);
          number bigint;
        begin
          -- Not changed in its place: what the verb did to another key meanwhile comes before.
          delete from changes
          where xid = pg_current_xact_id() and revision is null and hashtext(key) = hashtext(k) and key = k
          and step = verb and op <> 'expire';
          insert into changes (key, op, step, at_ms) values (k, what, verb, now_ms()) returning id into number;
          -- Who numbers here keeps all others from it until the transaction ends: only if nobody else does.
          if number % {_TRIM_EVERY} = 0 and exists (
            select from changes where revision is null and xid < pg_current_xact_id() offset {_TRIM_EVERY}
          ) then
            perform number_changes_v1(false);
          end if;
        end
        """,
    ),
    plpgsql(
        "entry_changed_v1()",
        "trigger",
        """
        begin
          if tg_op <> 'INSERT' and old.first is not null and (tg_op = 'DELETE' or new.first is null) then
            delete from items where list_id = old.id;
            delete from claims where list_id = old.id;
          end if;
          if not exists (select from watches) then
            return null;
          end if;
          if tg_op <> 'INSERT' then
            if old.expires_at_ms > 0 and not is_live(old.expires_at_ms) then
              perform note_v1(coalesce(old.long_key, old.key), 'expire');
            elsif old.expires_at_ms is distinct from 0 and (
              tg_op = 'DELETE' or old.key <> new.key or new.expires_at_ms is not distinct from 0
            ) then
              perform note_v1(coalesce(old.long_key, old.key), 'delete');
            end if;
          end if;
          if tg_op <> 'DELETE' and new.expires_at_ms is distinct from 0 then
            perform note_v1(coalesce(new.long_key, new.key), 'set');
          end if;
          return null;
        end
        """,
    ),
    # One for each event: the server reads each condition anew for each statement. `first` is not null where a list is
    # in rows, whose items and claims go with it.
    f"""
    create trigger entry_changed_insert after insert on entries for each row
    when ({_WATCHED}) execute function entry_changed_v1()
    """,
    f"""
    create trigger entry_changed_update after update on entries for each row
    when (old.first is not null and new.first is null or {_WATCHED}) execute function entry_changed_v1()
    """,
    f"""
    create trigger entry_changed_delete after delete on entries for each row
    when (old.first is not null or {_WATCHED}) execute function entry_changed_v1()
    """,
    # Gives committed changes their revisions: in an order in which none is ever added before one that was read. One at
    # a time does, and reads what is committed by its turn: what commits later gets later revisions. Each change was
    # noted while its row was locked, so of one key the `id` is the order, whichever transaction began first. Whoever
    # `waits` for its turn has locked the gate.
    plpgsql(
        "number_changes_v1(waits boolean)",
        "void",
        f"""
        declare
          newest bigint;
          space int := hashtext(current_schema() || '.changes');
        begin
          if waits then
            perform pg_advisory_xact_lock(space, 0);
          elsif not exists (select from changes where revision is null)
          or not pg_try_advisory_xact_lock(space, 0) then
            return;
          end if;
          select coalesce(max(revision), 0) into newest from changes;
          update changes c set revision = newest + each.number
          from (
            select id, row_number() over (order by id) as number
            from changes
            where revision is null and xid is distinct from pg_current_xact_id_if_assigned()
          ) each
          where c.id = each.id;
          select coalesce(max(revision), 0) into newest from changes;
          update watches set revision = {KEPT_CHANGES} - newest where abs(revision) < newest - {KEPT_CHANGES};
          delete from changes where revision <= newest - {KEPT_CHANGES};
        end
        """,
    ),
)
