"""How functions of the server are defined, in SQL or PL/pgSQL; their names carry the version of the schema."""

from __future__ import annotations

from slothstate.hints import Final

__all__ = ["GATE", "plpgsql", "sql"]

GATE: Final = "lock table gate in row exclusive mode;"
"""What a function that writes begins with: see `schema`."""


def sql(signature: str, returns: str, text: str) -> str:
    """Return the definition of a function that is one expression, which the server puts in its place."""
    return f"create function {signature} returns {returns} language sql parallel unsafe as $body${text}$body$"


def plpgsql(signature: str, returns: str, text: str, *, is_stable: bool = False) -> str:
    """Return the definition of a function of several steps; one that `is_stable` reads what its caller reads."""
    return (
        f"create function {signature} returns {returns} language plpgsql {'stable ' * is_stable}as "
        f"$body$#variable_conflict use_column\n{text}$body$"
    )
