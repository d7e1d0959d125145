"""Functions of the server that acquire and release locks."""

from __future__ import annotations

from slothstate.engines.postgres.definitions import GATE, plpgsql
from slothstate.hints import Final

__all__ = ["FREED", "FUNCTIONS"]

FREED: Final = "nonce = null, owner = null, host = null, pid = null, expires_ms = null"
"""What an update sets so that nobody holds a place of a lock any more."""

FUNCTIONS: Final = (
    # A lock, or who holds it. `token` is null then, or where the caller must wait behind somebody. Whoever
    # cannot have it waits for no transaction().
    plpgsql(
        "lock_acquire_v1("
        "lock_name text, whole text, mine bigint, acquirer bigint, on_host text, in_pid bigint, ttl_ms bigint, "
        "share boolean, places bigint, is_waiter boolean)",
        "table (token bigint, nonces bigint[], others_slots bigint[], others_shared boolean[])",
        f"""
        declare
          held bigint;
          free bigint; newest bigint; granted bigint;
          is_alone boolean := false;
        begin
          loop
            select
              count(*) filter (where l.is_held), coalesce(array_agg(l.nonce) filter (where l.is_held), '{{}}'),
              coalesce(array_agg(l.slots) filter (where l.is_held), '{{}}'),
              coalesce(array_agg(l.shared) filter (where l.is_held), '{{}}'),
              coalesce(min(l.place) filter (where not l.is_held), max(l.place) + 1), max(l.token)
            into held, nonces, others_slots, others_shared, free, newest
            from (
              select *, nonce is not null and is_held(expires_ms) and not is_dead(owner) as is_held
              from locks where name = lock_name
            ) l;
            if held > 0 and (case
              when share then false = any (others_shared)
              else held >= places or true = any (others_shared)
                or exists (select from unnest(others_slots) s where s <> places)
            end) or share and exists (
              select from waiters w
              where w.name = lock_name and w.alone and w.nonce <> mine
              and w.turn < coalesce((select turn from waiters where nonce = mine), {2**62})
              and not is_dead(w.owner)
            ) then
              return query select null::bigint, nonces, others_slots, others_shared;
              return;
            end if;
            exit when is_alone;
            is_alone := true;
            {GATE}
            perform pg_advisory_xact_lock(hashtext(current_schema()), hashtext(lock_name));
          end loop;
          if newest is null then
            select t.token into newest from tokens t where name = lock_name;
          end if;
          granted := greatest(newest + 1, clock_ms(), 1);
          update locks l
          set
            token = granted, nonce = mine, owner = acquirer, host = on_host, pid = in_pid, shared = share,
            slots = places, since_ms = clock_ms(), expires_ms = clock_ms() + ttl_ms
          where name = lock_name and place = free;
          if not found then
            insert into locks (
              name, place, token, nonce, owner, host, pid, shared, slots, since_ms, expires_ms, long_name
            )
            values (
              lock_name, coalesce(free, 1), granted, mine, acquirer, on_host, in_pid, share, places, clock_ms(),
              clock_ms() + ttl_ms, whole
            );
          end if;
          if is_waiter then
            delete from waiters where nonce = mine;
          end if;
          return query select granted, nonces, others_slots, others_shared;
        end
        """,
    ),
    plpgsql(
        "lock_release_v1(lock_name text, mine bigint)",
        "boolean",
        f"""
        declare held boolean;
        begin
          -- Whoever was struck while it waited for the gate must not wait for it once more.
          if not exists (select from locks where name = lock_name and nonce = mine) then
            return false;
          end if;
          {GATE}
          -- Lost in a crash, the row names an owner that is dead, and the lock is free all the same.
          perform set_config('synchronous_commit', 'off', true);
          held := is_held(l.expires_ms) from locks l where name = lock_name and nonce = mine;
          update locks set {FREED} where name = lock_name and nonce = mine;
          return found and held;
        end
        """,
    ),
)
