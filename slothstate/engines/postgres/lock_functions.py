"""Functions of the server that acquire and release locks."""

from __future__ import annotations

from typing import Final

from slothstate.engines.postgres.definitions import GATE, plpgsql

__all__ = ["FUNCTIONS"]

FUNCTIONS: Final = (
    # A lock, or who holds it. `token` is null then, or where the caller must wait behind somebody.
    plpgsql(
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
            {GATE}
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
    plpgsql(
        "lock_release_v1(mine bigint)",
        "boolean",
        f"""
        declare held boolean;
        begin
          -- Whoever was struck while it waited for the gate must not wait for it once more.
          if not exists (select from locks where nonce = mine) then
            return false;
          end if;
          {GATE}
          -- Lost in a crash, the row names an owner that is dead, and the lock is free all the same.
          perform set_config('synchronous_commit', 'off', true);
          delete from locks where nonce = mine returning is_held(expires_ms) into held;
          return coalesce(held, false);
        end
        """,
    ),
)
