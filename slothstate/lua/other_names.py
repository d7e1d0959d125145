"""What a script meant by a name that `state` does not have: the word another store uses, or a slip of the pen."""

from __future__ import annotations

from slothstate.errors import InvalidValue
from slothstate.hints import Any, Final
from slothstate.state import State
from slothstate.values import Encoded, describe, shorten

__all__ = ["refuse_name"]

_MEANT: Final = {
    "set(key, value)": "put store save write assign setitem update",
    "set(key, value, nil, {when = 'absent'})": "setnx set_nx set_if_absent put_if_absent add set_if_missing",
    "set(key, value, nil, {when = 'present'})": "setxx set_xx replace set_if_present",
    "take(key)": "getdel get_del get_and_delete fetch_and_delete get_delete",
    "rename(key, to)": "rename_key move renamenx mv",
    "copy(key, to)": "cp duplicate clone",
    "get_field(key, path)": "hget hgetall get_path json_get field",
    "set_field(key, path, value)": "hset hmset set_path json_set update_field",
    "delete_field(key, path)": "hdel delete_path json_del remove_field",
    "increment_field(key, path, delta)": "hincrby hincr_by hincrbyfloat incr_field",
    "list_unshift(key, item)": "unshift lpush push_front list_prepend prepend",
    "list_pop_many(key, count)": "pop_many rpop_many list_take",
    "list_shift_many(key, count)": "shift_many lpop_many list_drain drain",
    "list_set(key, index, item)": "lset list_replace set_item",
    "list_insert(key, index, item)": "linsert insert insert_at",
    "list_remove(key, item)": "lrem list_delete remove_item",
    "list_trim(key, start, stop)": "ltrim trim",
    "snapshot(fn)": "consistent read_transaction with_snapshot",
    "wait(key, seen, timeout)": "wait_for await poll wait_until wait_change",
    "watch(pattern, {timeout = seconds})": "subscribe psubscribe on_change listen follow monitor",
    "unwatch(name)": "unsubscribe forget_watch",
    "set(key, value, ttl)": "set_with_ttl set_with_expiry set_ex setex set_expiring put_with_ttl",
    "get(key, default)": "load read fetch retrieve getitem get_or_default get_value",
    "delete(key)": "del remove unset rm erase delete_key remove_key unlink",
    "exists(key)": "has has_key contains exist key_exists is_set defined",
    "clear(pattern)": "clear_all delete_all remove_all delete_pattern flush flushall flushdb reset truncate wipe",
    "keys(pattern)": "list list_keys all_keys get_keys find search match glob",
    "scan(pattern)": "each foreach iterate iter pairs items walk",
    "set_ttl(key, seconds)": "expire expire_in set_expire set_expiry set_expiration touch pexpire",
    "get_ttl(key)": "ttl pttl get_expiry get_expiration time_to_live remaining_ttl",
    "persist(key)": "remove_ttl clear_ttl delete_ttl no_expire unexpire",
    "increment(key, delta)": "incr inc incrby incr_by increment_by plus counter atomic_increment",
    "decrement(key, delta)": "decr dec decrby decr_by decrement_by subtract minus atomic_decrement",
    "append(key, text)": "concat append_text append_string",
    "compare_swap(key, old, new)": "compare_and_swap compare_and_set compare_set cas check_and_set changed swap",
    "list_push(key, item)": "push rpush enqueue list_append list_add queue_push push_back",
    "list_pop(key)": "pop rpop pop_back list_pop_last",
    "list_shift(key)": "shift lpop dequeue pop_front list_pop_first queue_pop",
    "list_claim(key, fn, timeout)": "claim reserve list_reserve brpoplpush rpoplpush lmove work consume ack nack done",
    "list_length(key)": "length len llen size list_len list_size list_count queue_length",
    "list_range(key, start, stop)": "range lrange list_get list_items list_all get_list slice",
    "get_many(keys)": "mget get_multi get_multiple",
    "get_many(state.keys())": "get_all getall all",
    "set_many(values)": "mset set_all set_multi set_multiple",
    "transaction(fn)": "atomic atomically begin tx multi batch with_transaction rollback commit savepoint",
    "lock(name, timeout)": "acquire acquire_lock lock_acquire get_lock",
    "try_lock(name, ttl)": "trylock lock_nowait try_acquire",
    "unlock(name)": "release release_lock lock_release free",
    "with_lock(name, fn, timeout)": "withlock lock_with locked critical critical_section synchronized mutex",
    "locks()": "list_locks get_locks is_locked",
    "stats()": "info status get_stats statistics",
    "sweep()": "cleanup clean purge gc vacuum prune expire_now",
}

_OF_NOTHING: Final = frozenset(
    ("sadd", "srem", "smembers", "sismember", "zadd", "zrem", "zrange", "zscore", "hkeys", "publish")
)
"""What other stores have and this one has not, however much it looks like something else."""

_BY_NAME: Final = {name: verb for verb, names in _MEANT.items() for name in names.split()}


def refuse_name(_table: object, name: Any) -> None:
    """Raise: what a script is told that asks `state` for something it does not have."""
    if not isinstance(name, str):
        shown = "a table" if isinstance(name, Encoded) else describe(name)
        raise InvalidValue(f"state has only verbs: expected the name of one, got {shown}")
    absent = f"state.{name}" if name.isidentifier() and len(name) < 50 else f"state[{shorten(name)}]"
    raise InvalidValue(f"{absent} does not exist{_hint(name)}")


def _hint(name: str) -> str:
    plain = name[:50].lower()
    if verb := _BY_NAME.get(plain) or _BY_NAME.get(plain.replace("-", "_")):
        return f"; use state.{verb}"
    if name.startswith("_"):
        return ""
    if plain in _OF_NOTHING:
        return "; rawget(state, name) asks without an error"
    if hasattr(State, name):
        return " in Lua, only in Python"
    # Loading it takes as long as many verbs; only errors need it.
    from difflib import get_close_matches

    others = {"backup": "backup(path)", "check": "check()"}
    meant = {call.partition("(")[0]: call for call in _MEANT} | others | _BY_NAME
    if near := get_close_matches(plain, meant, 1, 0.75):
        return f"; did you mean state.{meant[near[0]]}?"
    return "; rawget(state, name) asks without an error"
