"""What scripts call most, without click: `get`, `set` and `exists` as functions."""

from __future__ import annotations

from slothstate.cli.exits import DONE, MISUSE, NO, Failure, say_no, say_no_key
from slothstate.cli.opening import open_state
from slothstate.cli.values import MISSING, Form, Shape, parse_value, print_value
from slothstate.hints import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from slothstate.cli.options import Field

__all__ = ["exists", "get", "set_", "storable"]


def get(db: str | None, key: str, default: str | None = None, field: Field | None = None, shape: Shape = None) -> int:
    """Print the value of a key, or a part of it; `default` is what is typed for a missing one."""
    with open_state(db) as state:
        value = state.get(key, MISSING) if field is None else state.get_field(key, field, MISSING)
    if value is not MISSING:
        print_value(value, shape)
    elif default is not None:
        print_value(parse_value(default), shape)
    elif field is not None:
        from slothstate import format_path

        say_no(f"key {key!r} is missing or has no {format_path(field)}")
    else:
        say_no_key(key)
    return DONE


def set_(
    db: str | None,
    key: str,
    value: str,
    ttl: float | None = None,
    form: Form = None,
    when: Literal["absent", "present"] | None = None,
    *,
    keep_ttl: bool = False,
) -> int:
    """Set a key to the value that is typed."""
    parsed = storable(parse_value(value, form))
    with open_state(db, create=when != "present") as state:
        options: dict[str, Any] = {"keep_ttl": True} if keep_ttl else {"ttl": ttl}
        if not state.set(key, parsed, when=when, **options):
            say_no(f"not set: key {key!r} {'is there' if when == 'absent' else 'is missing'}")
    return DONE


def exists(db: str | None, key: str) -> int:
    """Tell by the exit code whether a key is there."""
    with open_state(db) as state:
        return DONE if state.exists(key) else NO


def storable(value: Any) -> Any:
    """Return a value that was typed. Raises: `Failure` for null."""
    if value is None:
        raise Failure("null is no value, except in a table or list: --string null stores the text", MISUSE)
    return value
