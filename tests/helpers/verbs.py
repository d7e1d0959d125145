"""Every verb that takes a key, in each of its forms, and a value of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from slothstate import Claim, State

ABSENT: Final = object()
"""What `Verb.leaves` says when the key does not exist afterwards."""


VALUES: Final[dict[str, object]] = {
    "string": "text",
    "number": 7,
    "boolean": True,
    "table": {"a": [1, {"b": None}]},
    "list": [1, "two", [3]],
    "bytes": b"\x00\xff",
}
"""A value of every kind."""


def put(state: State, key: str, kind: str, ttl: float | None = None) -> object:
    """Store the value of a kind and return it; the kind "rows" is a list that was pushed and not set."""
    if kind != "rows":
        state.set(key, VALUES[kind], ttl)
        return VALUES[kind]
    state.list_push(key, *VALUES["list"])  # type: ignore[misc]
    if ttl is not None:
        state.set_ttl(key, ttl)
    return VALUES["list"]


KINDS: Final = (*VALUES, "rows")


@dataclass(frozen=True)
class Verb:
    """One way to call a verb on a key, and what it does to a key that is missing or expired."""

    name: str
    call: Callable[[State, Any], object]
    missing: object
    leaves: object = ABSENT
    works_on: tuple[str, ...] = KINDS
    ttl: str = "kept"
    """What becomes of a live key's TTL: kept, cleared, gone (with the key), or set."""

    def __str__(self) -> str:
        return self.name


LISTS: Final = ("list", "rows")


VERBS: Final = (
    Verb("get", lambda s, k: s.get(k), None),
    Verb("get-default", lambda s, k: s.get(k, "d"), "d"),
    Verb("get_many", lambda s, k: s.get_many([k]), {}),
    Verb("exists", lambda s, k: s.exists(k), False),
    Verb("in", lambda s, k: k in s, False),
    Verb("copy", lambda s, k: s.copy(k, "other"), False),
    Verb("get_ttl", lambda s, k: s.get_ttl(k), -2),
    Verb("list_length", lambda s, k: s.list_length(k), 0, works_on=LISTS),
    Verb("list_range", lambda s, k: s.list_range(k), [], works_on=LISTS),
    Verb("set", lambda s, k: s.set(k, "new"), True, "new", ttl="cleared"),
    Verb("set-list", lambda s, k: s.set(k, [8, 9]), True, [8, 9], ttl="cleared"),
    Verb("set-absent", lambda s, k: s.set(k, "new", when="absent"), True, "new"),
    Verb("set-present", lambda s, k: s.set(k, "new", when="present"), False, ttl="cleared"),
    Verb("set-keep_ttl", lambda s, k: s.set(k, "new", keep_ttl=True), True, "new"),
    Verb("set-present-keep_ttl", lambda s, k: s.set(k, [8], when="present", keep_ttl=True), False),
    Verb("setitem", lambda s, k: s.__setitem__(k, "new"), None, "new", ttl="cleared"),
    Verb("set_many", lambda s, k: s.set_many({k: "new"}), True, "new", ttl="cleared"),
    Verb("delete", lambda s, k: s.delete(k), False, ttl="gone"),
    Verb("take", lambda s, k: s.take(k), None, ttl="gone"),
    Verb("take-default", lambda s, k: s.take(k, "d"), "d", ttl="gone"),
    Verb("rename", lambda s, k: s.rename(k, "other"), False, ttl="gone"),
    Verb("rename-itself", lambda s, k: s.rename(k, k), False),
    Verb("pop", lambda s, k: s.pop(k, "d"), "d", ttl="gone"),
    Verb("set_ttl", lambda s, k: s.set_ttl(k, 5), False, ttl="set"),
    Verb("persist", lambda s, k: s.persist(k), False, ttl="cleared"),
    Verb("increment", lambda s, k: s.increment(k, 5), 5, 5, works_on=("number",)),
    Verb("increment-float", lambda s, k: s.increment(k, 0.5), 0.5, 0.5, works_on=("number",)),
    Verb("decrement", lambda s, k: s.decrement(k, 5), -5, -5, works_on=("number",)),
    Verb("append", lambda s, k: s.append(k, "ab"), 2, "ab", works_on=("string",)),
    Verb("append-nothing", lambda s, k: s.append(k, ""), 0, "", works_on=("string",)),
    Verb("append-bytes", lambda s, k: s.append(k, b"ab"), 2, b"ab", works_on=("bytes",)),
    Verb("compare_swap-absent", lambda s, k: s.compare_swap(k, None, "new"), True, "new"),
    Verb("compare_swap-scalar", lambda s, k: s.compare_swap(k, 7, "new"), False),
    Verb("compare_swap-list", lambda s, k: s.compare_swap(k, [1, "two", [3]], "new"), False),
    Verb("compare_swap-missing", lambda s, k: s.compare_swap(k, None, None), True),
    Verb("compare_swap-delete", lambda s, k: s.compare_swap(k, {"z": 1}, None), False),
    Verb("setdefault", lambda s, k: s.setdefault(k, "new"), "new", "new"),
    Verb("get_field", lambda s, k: s.get_field(k, "a", "d"), "d"),
    Verb("set_field", lambda s, k: s.set_field(k, ("x", "y"), 1.0), True, {"x": {"y": 1.0}}, works_on=("table",)),
    Verb("delete_field", lambda s, k: s.delete_field(k, "a"), False, works_on=("table",)),
    Verb("delete_field-item", lambda s, k: s.delete_field(k, (0,)), False, works_on=LISTS),
    Verb("increment_field", lambda s, k: s.increment_field(k, "x", 5), 5, {"x": 5}, works_on=("table",)),
    Verb("list_push", lambda s, k: s.list_push(k, 1, 2), 2, [1, 2], works_on=LISTS),
    Verb("list_push-nothing", lambda s, k: s.list_push(k), 0, works_on=LISTS),
    Verb("list_unshift", lambda s, k: s.list_unshift(k, 1, 2), 2, [1, 2], works_on=LISTS),
    Verb("list_unshift-one", lambda s, k: s.list_unshift(k, 1), 1, [1], works_on=LISTS),
    Verb("list_unshift-nothing", lambda s, k: s.list_unshift(k), 0, works_on=LISTS),
    Verb("list_pop_many", lambda s, k: s.list_pop_many(k, 2), [], works_on=LISTS),
    Verb("list_shift_many", lambda s, k: s.list_shift_many(k, 2), [], works_on=LISTS),
    Verb("list_shift_many-all", lambda s, k: s.list_shift_many(k, 9), [], works_on=LISTS, ttl="gone"),
    Verb("list_set", lambda s, k: s.list_set(k, 1, "new"), False, works_on=LISTS),
    Verb("list_insert", lambda s, k: s.list_insert(k, 0, "new"), 1, ["new"], works_on=LISTS),
    Verb("list_insert-end", lambda s, k: s.list_insert(k, s.list_length(k), 1), 1, [1], works_on=LISTS),
    Verb("list_remove", lambda s, k: s.list_remove(k, "two"), 0, works_on=LISTS),
    Verb("list_trim", lambda s, k: s.list_trim(k, 1), 0, works_on=LISTS),
    Verb("list_trim-all", lambda s, k: s.list_trim(k, 9), 0, works_on=LISTS, ttl="gone"),
    Verb("list_pop", lambda s, k: s.list_pop(k), None, works_on=LISTS),
    Verb("list_pop-default", lambda s, k: s.list_pop(k, "d"), "d", works_on=LISTS),
    Verb("list_shift", lambda s, k: s.list_shift(k), None, works_on=LISTS),
    Verb("list_claim", lambda s, k: getattr(s.list_claim(k), "item", None), None, works_on=LISTS),
)
"""Every verb that takes a key, in each of its forms."""


def claimed(state: State, key: str, *arguments: Any, **options: Any) -> Claim:
    """Claim an item that there is."""
    claim = state.list_claim(key, *arguments, **options)
    assert claim is not None
    return claim
