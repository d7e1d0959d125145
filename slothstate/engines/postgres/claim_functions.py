"""Functions of the server that claim items, bring them back, and sweep."""

from __future__ import annotations

from slothstate.engines.postgres.definitions import GATE, plpgsql
from slothstate.hints import Final

__all__ = ["FUNCTIONS"]

FUNCTIONS: Final = (
    plpgsql(
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
          {GATE}
          loop
            e := lock_list_v1(k);
            if e.key is null or not is_live(e.expires_at_ms) or e.kind = 'list' and e.t = '[]'
            or e.kind = 'table' and e.t = '{{}}' then
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
            if e.kind <> 'list' or place is null or not are_json_v1(array[it]) then
              return query select null::text, null::bigint, 'damaged';
              return;
            end if;
            if most is not null and tries >= most then
              -- Before anything is moved: later it is a list of ours.
              select case kind when 'list' then 'damaged' else kind end into failed from entries
              where key = dead and is_live(expires_at_ms) and not (kind = 'table' and t = '{{}}') and case
                when kind <> 'list' then true
                when t is not null then json_size_v1(t) is null
                else n is null or first is null or last is null
                or exists (select from items where list_id = id and pos > last)
              end;
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
    plpgsql(
        "claim_release_v1(claim bigint, delay_ms bigint)",
        "boolean",
        f"""
        declare list bigint;
        begin
          -- Whoever was struck while it waited for the gate must not wait for it once more.
          if not exists (select from claims where nonce = claim) then
            return false;
          end if;
          {GATE}
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
    plpgsql(
        "claims_end_v1(whose bigint)",
        "void",
        f"""
        declare list bigint;
        begin
          {GATE}
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
    plpgsql(
        "claims_sweep_v1()",
        "void",
        f"""
        declare list bigint;
        begin
          {GATE}
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
    plpgsql(
        "sweep_v1(most bigint)",
        "table (removed bigint, gone bigint)",
        f"""
        declare hidden bigint;
        begin
          {GATE}
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
)
