"""What the server runs of our own: functions in SQL and PL/pgSQL, made with the schema.

A function that writes begins with the gate's lock (see `schema`). Where a list may have claims, what is due comes back
first. `other_kind` is the kind of a value that is no list: the caller raises for it, and nothing has been written.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FUNCTIONS", "KEPT_CHANGES"]

KEPT_CHANGES: Final = 100_000
"""Changes that are kept for whoever has not handled them."""

_TRIM_EVERY: Final = 1_000

_GATE: Final = "lock table gate in row exclusive mode;"


def _sql(signature: str, returns: str, text: str) -> str:
    return f"create function {signature} returns {returns} language sql parallel unsafe as $body${text}$body$"


def _plpgsql(signature: str, returns: str, text: str) -> str:
    return (
        f"create function {signature} returns {returns} language plpgsql as "
        f"$body$#variable_conflict use_column\n{text}$body$"
    )


FUNCTIONS: Final = (
    # The server's clock, read again after each wait; or the moment of a snapshot.
    _sql(
        "now_ms()",
        "bigint",
        """
        select coalesce(
          nullif(current_setting('slothstate.now_ms', true), '')::bigint,
          floor(extract(epoch from clock_timestamp()) * 1000)::bigint
        )
        """,
    ),
    _sql("clock_ms()", "bigint", "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint"),
    _sql("is_live(expires_at_ms bigint)", "boolean", "select $1 is null or $1 > now_ms()"),
    # The server has dropped the lock of an owner whose session has ended.
    _sql("is_dead(owner bigint)", "boolean", "select pg_try_advisory_xact_lock_shared($1)"),
    _sql(
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
    _sql("is_held(expires_ms bigint)", "boolean", "select $1 is null or $1 > clock_ms()"),
    # Brings back what is due of a list whose row the caller has locked.
    _plpgsql(
        "bring_back_v1(list bigint)",
        "boolean",
        """
        declare
          was_live boolean;
          low bigint; high bigint; many bigint;
        begin
          if not exists (select from claims where list_id = list and is_due(owner, expires_ms, due_ms)) then
            return false;
          end if;
          select is_live(expires_at_ms) into was_live from entries where id = list and kind = 'list';
          if not was_live then
            delete from items where list_id = list;
          end if;
          with gone as (
            delete from claims where list_id = list and is_due(owner, expires_ms, due_ms) returning pos, item, attempts
          ), back as (
            insert into items (list_id, pos, item, attempts) select list, pos, item, attempts from gone returning pos
          )
          select count(*), min(pos), max(pos) into many, low, high from back;
          if was_live then
            update entries set n = n + many, first = least(first, low), last = greatest(last, high)
            where id = list and kind = 'list';
          else
            update entries set n = many, first = low, last = high, expires_at_ms = null
            where id = list and kind = 'list';
          end if;
          return true;
        end
        """,
    ),
    # The row of a key, locked and with the lists' due items back; null if there is none.
    _plpgsql(
        "lock_list_v1(k text)",
        "entries",
        """
        declare e entries;
        begin
          select * into e from entries where key = k for update;
          if found and e.kind = 'list' and e.t is null and bring_back_v1(e.id) then
            select * into e from entries where key = k;
          end if;
          return e;
        end
        """,
    ),
    # The same as a live list in rows, made and taken apart as needed; or as it is, of another kind.
    _plpgsql(
        "open_list_v1(k text, whole text)",
        "entries",
        """
        declare
          e entries;
          many bigint;
        begin
          loop
            e := lock_list_v1(k);
            exit when e.key is not null;
            insert into entries (key, kind, n, first, last, long_key) values (k, 'list', 0, 1, 0, whole)
            on conflict do nothing;
          end loop;
          if not is_live(e.expires_at_ms) then
            if e.kind = 'list' and e.t is null then
              delete from items where list_id = e.id;
            end if;
            update entries
            set kind = 'list', n = 0, f = null, t = null, b = null, first = 1, last = 0, expires_at_ms = null
            where key = k
            returning * into e;
          elsif e.kind = 'table' and e.t = '{}' then
            update entries set kind = 'list', n = 0, t = null, first = 1, last = 0 where key = k returning * into e;
          elsif e.kind = 'list' and e.t is not null then
            insert into items (list_id, pos, item)
            select e.id, number, each::text from json_array_elements(e.t::json) with ordinality as u (each, number);
            get diagnostics many = row_count;
            update entries set t = null, n = many, first = 1, last = many
            where key = k
            returning * into e;
          end if;
          return e;
        end
        """,
    ),
    # Lets a list have so many items, which are between some positions; one without any is gone, or hidden.
    _plpgsql(
        "settle_v1(list bigint, many bigint, low bigint, high bigint)",
        "void",
        """
        begin
          if many > 0 then
            update entries set n = many, first = low, last = high where id = list and kind = 'list';
          elsif exists (select from claims where list_id = list) then
            update entries set n = 0, expires_at_ms = 0 where id = list and kind = 'list';
          else
            delete from entries where id = list and kind = 'list';
          end if;
        end
        """,
    ),
    _plpgsql(
        "list_push_v1(k text, whole text, texts text[], at_front boolean)",
        "table (size bigint, other_kind text)",
        f"""
        declare
          e entries;
          many bigint := cardinality(texts);
          low bigint; high bigint;
        begin
          {_GATE}
          e := open_list_v1(k, whole);
          if e.kind <> 'list' then
            return query select null::bigint, e.kind;
            return;
          end if;
          select min(pos), max(pos) into low, high from claims where list_id = e.id;
          low := least(e.first, low);
          high := greatest(e.last, high);
          insert into items (list_id, pos, item)
          select e.id, case when at_front then low - many + number - 1 else high + number end, each
          from unnest(texts) with ordinality as u (each, number);
          update entries
          set
            n = e.n + many,
            first = case when at_front then low - many when e.n = 0 then high + 1 else e.first end,
            last = case when not at_front then high + many when e.n = 0 then low - 1 else e.last end
          where key = k;
          return query select e.n + many, null::text;
        end
        """,
    ),
    # Whether an item may be had of a key, looked at without keeping anybody from writing.
    _sql(
        "has_item_v1(k text)",
        "boolean",
        """
        select exists (
          select from entries e
          where key = k and (
            is_live(expires_at_ms) and (kind <> 'list' or t is distinct from '[]') and (kind <> 'table' or t <> '{}')
            or kind = 'list' and t is null
            and exists (select from claims where list_id = e.id and is_due(owner, expires_ms, due_ms))
          )
        )
        """,
    ),
    # Items in the order in which they are taken.
    _plpgsql(
        "list_take_v1(k text, many bigint, at_end boolean)",
        "table (texts text[], other_kind text)",
        f"""
        declare
          e entries;
          got bigint; low bigint; high bigint;
        begin
          if not has_item_v1(k) then
            return;
          end if;
          {_GATE}
          e := lock_list_v1(k);
          if e.key is null or not is_live(e.expires_at_ms) or e.t = '[]' or e.kind = 'table' and e.t = '{{}}'
          then
            return;
          elsif e.kind <> 'list' then
            return query select null::text[], e.kind;
            return;
          elsif many = 0 then
            return;
          end if;
          e := open_list_v1(k, null);
          if at_end then
            with gone as (
              delete from items where list_id = e.id and pos in (
                select pos from items where list_id = e.id and pos <= e.last order by pos desc limit many
              )
              returning pos, item
            )
            select array_agg(item order by pos desc), count(*), min(pos) into texts, got, low from gone;
            perform settle_v1(e.id, e.n - got, e.first, low - 1);
          else
            with gone as (
              delete from items where list_id = e.id and pos in (
                select pos from items where list_id = e.id and pos >= e.first order by pos limit many
              )
              returning pos, item
            )
            select array_agg(item order by pos), count(*), max(pos) into texts, got, high from gone;
            perform settle_v1(e.id, e.n - got, high + 1, e.last);
          end if;
          return query select texts, null::text;
        end
        """,
    ),
    # Brings back what is due and tells how many items there are.
    _plpgsql(
        "list_length_v1(k text)",
        "bigint",
        f"""
        declare e entries;
        begin
          {_GATE}
          e := lock_list_v1(k);
          return case when e.key is null or not is_live(e.expires_at_ms) then 0 else e.n end;
        end
        """,
    ),
    _plpgsql(
        "key_take_v1(k text)",
        "table (kind text, n bigint, f double precision, t text, b bytea, expires_at_ms bigint)",
        f"""
        begin
          {_GATE}
          perform from entries where key = k for update;
          return query
          select
            e.kind, e.n, e.f,
            case
              when e.kind = 'list' and e.t is null
              then (select '[' || string_agg(item, ',' order by pos) || ']' from items where list_id = e.id)
              else e.t
            end,
            e.b, e.expires_at_ms
          from entries e
          where e.key = k and is_live(e.expires_at_ms);
          if found then
            delete from entries where key = k;
          end if;
        end
        """,
    ),
    _plpgsql(
        "list_claim_v1("
        "k text, claim bigint, claimant bigint, on_host text, in_pid bigint, ttl_ms bigint, most bigint, "
        "dead text, dead_whole text)",
        "table (taken text, attempt bigint, other_kind text)",
        f"""
        declare
          e entries;
          place bigint; it text; tries bigint;
          failed text;
        begin
          if not has_item_v1(k) then
            return;
          end if;
          {_GATE}
          loop
            e := lock_list_v1(k);
            if e.key is null or not is_live(e.expires_at_ms) or e.t = '[]' or e.kind = 'table' and e.t = '{{}}' then
              return;
            elsif e.kind <> 'list' then
              return query select null::text, null::bigint, e.kind;
              return;
            end if;
            if e.t is not null then
              e := open_list_v1(k, null);
            end if;
            select pos, item, attempts into place, it, tries
            from items where list_id = e.id and pos >= e.first order by pos limit 1;
            if most is not null and tries >= most then
              -- Before anything is moved: later it is a list of ours.
              select kind into failed from entries
              where key = dead and is_live(expires_at_ms) and kind <> 'list' and not (kind = 'table' and t = '{{}}');
              if found then
                return query select dead, null::bigint, failed;
                return;
              end if;
            end if;
            delete from items where list_id = e.id and pos = place;
            if most is null or tries < most then
              insert into claims (list_id, pos, item, attempts, since_ms, nonce, owner, host, pid, expires_ms)
              values (
                e.id, place, it, tries + 1, now_ms(), claim, claimant, on_host, in_pid, clock_ms() + ttl_ms
              );
              perform settle_v1(e.id, e.n - 1, place + 1, e.last);
              return query select it, tries + 1, null::text;
              return;
            end if;
            perform settle_v1(e.id, e.n - 1, place + 1, e.last);
            perform list_push_v1(dead, dead_whole, array[it], false);
          end loop;
        end
        """,
    ),
    _plpgsql(
        "claim_release_v1(claim bigint, delay_ms bigint)",
        "boolean",
        f"""
        declare list bigint;
        begin
          {_GATE}
          select list_id into list from claims where nonce = claim and is_held(expires_ms);
          if not found then
            return false;
          end if;
          perform from entries where id = list and kind = 'list' for update;
          update claims
          set nonce = null, owner = null, host = null, pid = null, expires_ms = null,
              due_ms = case when delay_ms = 0 then 0 else now_ms() + delay_ms end
          where nonce = claim and is_held(expires_ms);
          if not found then
            return false;
          end if;
          perform bring_back_v1(list);
          return true;
        end
        """,
    ),
    # Puts back all that an owner has claimed, or everybody.
    _plpgsql(
        "claims_end_v1(whose bigint)",
        "void",
        f"""
        declare list bigint;
        begin
          {_GATE}
          for list in
            select distinct list_id from claims where owner is not null and (whose is null or owner = whose)
            order by list_id
          loop
            perform from entries where id = list and kind = 'list' for update;
            update claims
            set nonce = null, owner = null, host = null, pid = null, expires_ms = null, due_ms = 0
            where list_id = list and owner is not null and (whose is null or owner = whose);
            perform bring_back_v1(list);
          end loop;
        end
        """,
    ),
    _plpgsql(
        "claims_sweep_v1()",
        "void",
        f"""
        declare list bigint;
        begin
          {_GATE}
          for list in
            select distinct list_id from claims where is_due(owner, expires_ms, due_ms) order by list_id
          loop
            perform from entries where id = list and kind = 'list' for update;
            perform bring_back_v1(list);
          end loop;
          delete from entries e
          where expires_at_ms = 0 and kind = 'list' and t is null and n = 0
          and not exists (select from claims where list_id = e.id);
        end
        """,
    ),
    _plpgsql(
        "sweep_v1(most bigint)",
        "table (removed bigint, gone bigint)",
        f"""
        declare hidden bigint;
        begin
          {_GATE}
          with expired as (
            select key from entries
            where expires_at_ms > 0 and expires_at_ms <= (select now_ms())
            and not (kind = 'list' and t is null and exists (select from claims where list_id = id))
            limit most for update skip locked
          ), swept as (
            delete from entries e using expired where e.key = expired.key returning 1
          )
          select count(*) into gone from swept;
          -- What is claimed of an expired list has not expired.
          with expired as (
            select id from entries
            where expires_at_ms > 0 and expires_at_ms <= (select now_ms()) and kind = 'list' and t is null
            and exists (select from claims where list_id = id)
            limit most for update skip locked
          ), cleared as (
            delete from items using expired where list_id = id
          ), swept as (
            update entries e set n = 0, expires_at_ms = 0 from expired where e.id = expired.id and kind = 'list'
            returning 1
          )
          select count(*) into hidden from swept;
          return query select gone + hidden, gone + hidden;
        end
        """,
    ),
    # Deletes the items and claims of what is no list in rows any more.
    _plpgsql(
        "drop_items_v1()",
        "trigger",
        """
        begin
          delete from items where list_id = old.id;
          delete from claims where list_id = old.id;
          return null;
        end
        """,
    ),
    """
    create trigger drop_items after delete on entries for each row
    when (old.kind = 'list' and old.t is null)
    execute function drop_items_v1()
    """,
    """
    create trigger replace_items after update on entries for each row
    when (old.kind = 'list' and old.t is null and not (new.kind = 'list' and new.t is null))
    execute function drop_items_v1()
    """,
    # What a verb has done to a key, while anybody watches; several times in one verb is once.
    _plpgsql(
        "note_v1(k text, what text)",
        "void",
        f"""
        declare
          verb text := coalesce(nullif(current_setting('slothstate.step', true), ''), statement_timestamp()::text);
          number bigint;
        begin
          update changes set op = what
          where xid = pg_current_xact_id() and revision is null and key = k and step = verb and op <> 'expire';
          if not found then
            insert into changes (key, op, step, at_ms) values (k, what, verb, now_ms()) returning id into number;
            if number % {_TRIM_EVERY} = 0 then
              perform number_changes_v1(false);
            end if;
          end if;
        end
        """,
    ),
    _plpgsql(
        "note_change_v1()",
        "trigger",
        """
        begin
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
    """
    create trigger note_change after insert or update or delete on entries for each row
    execute function note_change_v1()
    """,
    # Gives committed changes their revisions: in an order in which none is ever added before one that was read. Only
    # those of transactions before which none is under way; with `all_of_them` the caller has locked the gate.
    _plpgsql(
        "number_changes_v1(all_of_them boolean)",
        "void",
        f"""
        declare
          newest bigint;
          space int := hashtext(current_schema() || '.changes');
        begin
          if all_of_them then
            perform pg_advisory_xact_lock(space, 0);
          elsif not exists (select from changes where revision is null)
          or not pg_try_advisory_xact_lock(space, 0) then
            return;
          end if;
          select coalesce(max(revision), 0) into newest from changes;
          update changes c set revision = newest + each.number
          from (
            select id, row_number() over (order by xid, id) as number
            from changes
            where revision is null
            and xid < case when all_of_them then pg_current_xact_id() else pg_snapshot_xmin(pg_current_snapshot()) end
          ) each
          where c.id = each.id;
          select coalesce(max(revision), 0) into newest from changes;
          update watches set revision = {KEPT_CHANGES} - newest where abs(revision) < newest - {KEPT_CHANGES};
          delete from changes where revision <= newest - {KEPT_CHANGES};
        end
        """,
    ),
    # A lock, or who holds it. `token` is null then, or where the caller must wait behind somebody.
    _plpgsql(
        "lock_acquire_v1("
        "lock_name text, mine bigint, acquirer bigint, on_host text, in_pid bigint, ttl_ms bigint, share boolean, "
        "places bigint)",
        "table (token bigint, nonces bigint[], others_slots bigint[], others_shared boolean[])",
        f"""
        declare
          granted bigint;
          many bigint;
          looks int := 0;
        begin
          loop
            select
              coalesce(array_agg(l.nonce), '{{}}'), coalesce(array_agg(l.slots), '{{}}'),
              coalesce(array_agg(l.shared), '{{}}'), count(*)
            into nonces, others_slots, others_shared, many
            from locks l
            where l.name = lock_name and is_held(l.expires_ms) and not is_dead(l.owner);
            if (case
              when share then false = any (others_shared) or exists (
                select from waiters w
                where w.name = lock_name and w.alone and w.nonce <> mine
                and w.turn < coalesce((select turn from waiters where nonce = mine), {2**62})
                and not is_dead(w.owner)
              )
              else many >= places or true = any (others_shared)
                or exists (select from unnest(others_slots) s where s <> places)
            end) then
              return query select null::bigint, nonces, others_slots, others_shared;
              return;
            end if;
            exit when looks = 1;
            looks := 1;
            {_GATE}
            perform pg_advisory_xact_lock(hashtext(current_schema()), hashtext(lock_name));
          end loop;
          delete from locks where name = lock_name and not nonce = any (nonces);
          insert into tokens as held (name, token) values (lock_name, greatest(1, clock_ms()))
          on conflict (name) do update set token = greatest(held.token + 1, excluded.token)
          returning held.token into granted;
          insert into locks (nonce, name, owner, host, pid, token, shared, slots, since_ms, expires_ms)
          values (
            mine, lock_name, acquirer, on_host, in_pid, granted, share, places, clock_ms(), clock_ms() + ttl_ms
          );
          delete from waiters where nonce = mine;
          return query select granted, nonces, others_slots, others_shared;
        end
        """,
    ),
    _plpgsql(
        "lock_release_v1(mine bigint)",
        "boolean",
        f"""
        declare held boolean;
        begin
          {_GATE}
          -- Lost in a crash, the row names an owner that is dead, and the lock is free all the same.
          perform set_config('synchronous_commit', 'off', true);
          delete from locks where nonce = mine returning is_held(expires_ms) into held;
          return coalesce(held, false);
        end
        """,
    ),
)
"""The statements, in the order in which they have to run."""
