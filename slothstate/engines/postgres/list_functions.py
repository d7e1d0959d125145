"""Functions of the server that change lists. Where a list may have claims, what is due comes back first.

`other_kind` is the kind of a value that is no list, or "damaged": the caller raises for it, and nothing has been
written. An error of the server would name no key, and would end the transaction of whoever called.
"""

from __future__ import annotations

from slothstate.engines.postgres.definitions import GATE, plpgsql, sql
from slothstate.hints import Final

__all__ = ["FUNCTIONS"]

FUNCTIONS: Final = (
    # What cannot be read is found here before it is gone; of what is JSON to the server, our codec reads nearly all.
    plpgsql(
        "are_json_v1(texts text[])",
        "boolean",
        """
        begin
          perform each::json from unnest(texts) as u (each);
          return true;
        exception when data_exception or program_limit_exceeded then
          return false;
        end
        """,
        is_stable=True,
    ),
    # How many items the JSON of a list has, null if it is damaged.
    plpgsql(
        "json_size_v1(whole text)",
        "bigint",
        """
        begin
          return json_array_length(whole::json);
        exception when data_exception or program_limit_exceeded then
          return null;
        end
        """,
        is_stable=True,
    ),
    # The JSON of a list in rows, in the caller's snapshot: a function, since each execution of a statement sets up what
    # its subqueries need, whether they run or not.
    plpgsql(
        "list_text_v1(list bigint)",
        "text",
        """
        begin
          return (select '[' || string_agg(item, ',' order by pos) || ']' from items where list_id = list);
        end
        """,
        is_stable=True,
    ),
    # Brings back what is due of a list whose row the caller has locked.
    plpgsql(
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
    plpgsql(
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
    # The row of a key, locked: a live list in rows, made and taken apart as needed; or as it is, of another kind.
    plpgsql(
        "open_list_v1(k text, whole text)",
        "entries",
        """
        declare
          e entries;
          many bigint;
        begin
          loop
            select * into e from entries where key = k for update;
            exit when found;
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
            if json_size_v1(e.t) is null then
              e.kind := 'damaged';
              return e;
            end if;
            insert into items (list_id, pos, item)
            select e.id, number, each::text from json_array_elements(e.t::json) with ordinality as u (each, number);
            get diagnostics many = row_count;
            update entries set t = null, n = many, first = 1, last = many
            where key = k
            returning * into e;
          end if;
          if e.kind = 'list' and (e.n is null or e.first is null or e.last is null) then
            e.kind := 'damaged';
          end if;
          return e;
        end
        """,
    ),
    # Lets a list have so many items, which are between some positions; one without any is gone, or hidden.
    plpgsql(
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
    plpgsql(
        "list_push_v1(k text, whole text, texts text[], at_front boolean)",
        "table (size bigint, other_kind text)",
        f"""
        declare
          e entries;
          many bigint := cardinality(texts);
          low bigint; high bigint;
        begin
          {GATE}
          e := open_list_v1(k, whole);
          if e.kind <> 'list' then
            return query select null::bigint, e.kind;
            return;
          end if;
          if at_front and exists (select from items where list_id = e.id and pos < e.first)
          or not at_front and exists (select from items where list_id = e.id and pos > e.last) then
            return query select null::bigint, 'damaged';
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
    sql(
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
    plpgsql(
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
          {GATE}
          e := lock_list_v1(k);
          if e.key is null or not is_live(e.expires_at_ms) or e.kind = 'list' and e.t = '[]'
          or e.kind = 'table' and e.t = '{{}}'
          then
            return;
          elsif e.kind <> 'list' then
            return query select null::text[], e.kind;
            return;
          elsif many = 0 then
            return;
          end if;
          e := open_list_v1(k, null);
          if e.kind <> 'list' then
            return query select null::text[], e.kind;
            return;
          end if;
          if at_end then
            select array_agg(item order by pos desc), count(*), min(pos), max(pos) into texts, got, low, high
            from (select pos, item from items where list_id = e.id and pos <= e.last order by pos desc limit many) few;
          else
            select array_agg(item order by pos), count(*), min(pos), max(pos) into texts, got, low, high
            from (select pos, item from items where list_id = e.id and pos >= e.first order by pos limit many) few;
          end if;
          if got = 0 or not are_json_v1(texts) then
            return query select texts, 'damaged';
            return;
          end if;
          delete from items where list_id = e.id and pos between low and high;
          if at_end then
            perform settle_v1(e.id, e.n - got, e.first, low - 1);
          else
            perform settle_v1(e.id, e.n - got, high + 1, e.last);
          end if;
          return query select texts, null::text;
        end
        """,
    ),
    # Brings back what is due and tells how many items there are.
    plpgsql(
        "list_length_v1(k text)",
        "bigint",
        f"""
        declare e entries;
        begin
          {GATE}
          e := lock_list_v1(k);
          return case when e.key is null or not is_live(e.expires_at_ms) then 0 else e.n end;
        end
        """,
    ),
    plpgsql(
        "key_take_v1(k text)",
        "table (kind text, n bigint, f double precision, t text, b bytea, expires_at_ms bigint)",
        f"""
        begin
          {GATE}
          perform from entries where key = k for update;
          return query
          select
            e.kind, e.n, e.f,
            case
              when e.kind = 'list' and e.t is null
              then list_text_v1(e.id)
              else e.t
            end,
            e.b, e.expires_at_ms
          from entries e
          where e.key = k and is_live(e.expires_at_ms);
          -- A damaged value stays to be looked at.
          delete from entries e
          where key = k and is_live(expires_at_ms) and case kind
            when 'string' then t is not null
            when 'bytes' then b is not null
            when 'boolean' then n is not null
            when 'number' then n is not null or coalesce(f not in ('NaN', 'Infinity', '-Infinity'), false)
            else are_json_v1(array[
              coalesce(case when kind = 'list' and t is null then list_text_v1(id) else t end, '')
            ])
          end;
        end
        """,
    ),
)
