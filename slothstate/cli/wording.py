"""What people type who know another tool: other names of our commands, and what there is instead of theirs."""

from __future__ import annotations

from difflib import get_close_matches

from slothstate.hints import Final

__all__ = ["ALIASES", "hint", "too_much"]

ALIASES: Final = {
    "ls": "keys",
    "cat": "get",
    "put": "set",
    "rm": "delete",
    "del": "delete",
    "unlink": "delete",
    "incr": "increment",
    "incrby": "increment",
    "decr": "decrement",
    "decrby": "decrement",
    "expire": "set-ttl",
    "cas": "compare-swap",
    "getdel": "take",
    "mv": "rename",
    "cp": "copy",
    "rpush": "push",
    "lpush": "unshift",
    "ltrim": "trim",
    "rpop": "pop",
    "lpop": "shift",
    "llen": "length",
    "lrange": "range",
}
"""Names with the arguments and the meaning of a command of ours."""

_INSTEAD: Final = {
    "has": "exists",
    "contains": "exists",
    "unset": "delete",
    "sadd": "push KEY ITEM...",
    "enqueue": "push KEY ITEM...",
    "dequeue": "shift KEY",
    "check": "doctor",
    "fsck": "doctor",
    "ping": "doctor",
    "info": "stats",
    "count": "stats",
    "dbsize": "stats",
    "flush": "clear --yes [PATTERN]",
    "flushall": "clear --yes [PATTERN]",
    "flushdb": "clear --yes [PATTERN]",
    "find": "keys [PATTERN]",
    "search": "keys [PATTERN]",
    "setex": "set KEY VALUE --ttl SECONDS",
    "psetex": "set KEY VALUE --ttl SECONDS",
    "setnx": "set KEY VALUE --absent",
    "add": "set KEY VALUE --absent",
    "replace": "set KEY VALUE --present",
    "hget": "get KEY --field .NAME",
    "hset": "set KEY --field .NAME VALUE",
    "hdel": "delete KEY --field .NAME",
    "hincrby": "increment KEY DELTA --field .NAME",
    "incrbyfloat": "increment KEY NUMBER",
    "mget": "get KEY...",
    "mset": "set --pairs KEY=VALUE...",
    "lset": "set KEY --field [INDEX] ITEM",
    "linsert": "insert KEY INDEX ITEM",
    "lrem": "remove-item KEY ITEM",
    # Verbs whose commands have another name.
    "get-many": "get KEY...",
    "set-many": "set --pairs KEY=VALUE...",
    "update": "set --pairs KEY=VALUE...",
    "setdefault": "set KEY VALUE --absent",
    "field": "get KEY --field PATH",
    "set-field": "set KEY --field PATH VALUE",
    "delete-field": "delete KEY --field PATH",
    "increment-field": "increment KEY DELTA --field PATH",
    "pop-many": "pop KEY --count N",
    "shift-many": "shift KEY --count N",
    "list-set": "set KEY --field [INDEX] ITEM",
    "list-remove": "remove-item KEY ITEM",
    "items": "dump [PATTERN]",
    "values": "dump [PATTERN]",
    "locked": "with-lock NAME -- COMMAND...",
    "break-lock": "unlock NAME",
    "entry": "inspect KEY",
    "entries": "keys [PATTERN]",
    "usage": "du [PREFIX]",
    "health": "doctor",
    "examine": "doctor",
    "activity": "top",
    "exec": "run FILE...",
    "pipeline": "batch",
    "multi": "batch",
    "pttl": "ttl KEY",
    "pexpire": "set-ttl KEY SECONDS",
    "lindex": "range KEY INDEX INDEX",
    "type": "inspect KEY",
    "strlen": "inspect KEY",
    "show": "inspect KEY",
    "monitor": "top",
    "subscribe": "watch [PATTERN]",
    "psubscribe": "watch [PATTERN]",
    "blpop": "shift KEY --timeout SECONDS",
    "brpop": "pop KEY --timeout SECONDS",
    "save": "backup TARGET",
    "bgsave": "backup TARGET",
    "export": "dump [PATTERN]",
    "vacuum": "compact",
    "gc": "sweep",
    "purge": "sweep",
    "eval": "shell -e LUA",
    "repl": "shell",
    "flock": "with-lock NAME -- COMMAND...",
    "try-lock": "with-lock NAME --timeout 0 -- COMMAND...",
    "version": "--version",
}
"""What does something like it, with its syntax."""

_EXPLAINED: Final = {
    "size": "'slothstate length KEY' counts a list, 'slothstate inspect KEY' measures a value, 'slothstate stats' all",
    "list": "'slothstate keys [PATTERN]' lists keys, 'slothstate range KEY' the items of a list",
    "remove": "'slothstate delete KEY...' deletes keys, 'slothstate remove-item KEY ITEM' takes items out of a list",
    "popitem": "'slothstate keys --limit 1' names a key, 'slothstate take KEY' takes it",
    "transaction": "in a Lua script, 'slothstate run FILE...', there is state.transaction(fn)",
    "snapshot": "in a Lua script, 'slothstate run FILE...', there is state.snapshot(fn)",
    "close": "each command closes the store as it ends",
    "slothstate": "leave that word out",
}

_LONGEST_NAME: Final = 40

_QUOTES: Final = "a value with blanks stands in quotes"

_TOO_MUCH: Final = {
    "ttl": "'slothstate set-ttl KEY SECONDS' sets it",
    "set": f"{_QUOTES}, a time to live behind --ttl, several keys behind --pairs",
    "append": _QUOTES,
    "pop": "it takes the last item, or with --count several",
    "shift": "it takes the first item, or with --count several",
    "exists": "one key at a time; 'slothstate keys' lists those that match a pattern",
}


def too_much(command: str) -> str:
    """Return what was meant by an argument too many, to stand behind the error; "" if nobody knows."""
    return f": {_TOO_MUCH[command]}" if command in _TOO_MUCH else ""


def hint(name: str, commands: list[str]) -> str:
    """Return what to type instead of a command that does not exist, to stand behind its name; "" if nobody knows."""
    plain = name.lower().replace("_", "-")
    verb = plain.removeprefix("list-").removeprefix("get-")
    # First as it is typed: `list_set` is no `set`.
    for known in (plain, verb):
        if known in commands or known in ALIASES:
            return f": did you mean {known!r}?"
        if known in _EXPLAINED:
            return f": {_EXPLAINED[known]}"
        if known in _INSTEAD:
            instead = _INSTEAD[known]
            return f": did you mean {instead!r}?" if instead in commands else f": there is 'slothstate {instead}'"
    if len(name) > _LONGEST_NAME:
        # Not a mistyped command, and comparing takes time that grows with the square of the length.
        return ""
    return next((f": did you mean {close!r}?" for close in get_close_matches(name, commands, n=1)), "")
