"""The URL of a store: which of its parameters are ours, and how it is shown without a password.

It is parsed here before libpq sees it, whose messages about malformed ones quote them whole, passwords included.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from slothstate.errors import InvalidValue

__all__ = ["Address", "parse"]

DEFAULT_SCHEMA: Final = "slothstate"

NAME_MAX_BYTES: Final = 63
"""The longest name in PostgreSQL, which cuts longer ones without a word (NAMEDATALEN - 1)."""

_SECRETS: Final = frozenset(("password", "sslpassword"))


class Address(NamedTuple):
    """Where a store is: what libpq connects to, the schema, and the URL as it may be shown."""

    conninfo: str
    schema: str
    shown: str


def parse(url: str) -> Address:
    """Return the parts of a URL such as `postgresql://user@host/database?schema=name`. Raises: `InvalidValue`."""
    malformed = _malformation(url)
    if malformed:
        raise InvalidValue(
            f"the URL of the store is malformed: {malformed}; expected postgresql://user@host:port/database?schema=name"
        )
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    known = _parameters()
    unknown = [name for name, _ in query if known and name not in known]
    if unknown:
        raise InvalidValue(f"the URL of the store has a parameter that neither libpq nor slothstate has: {unknown[0]}")
    schemas = [value for name, value in query if name == "schema"]
    if len(schemas) > 1:
        raise InvalidValue(f"the URL of the store names {len(schemas)} schemas, expected one")
    schema = _check_schema(schemas[0]) if schemas else DEFAULT_SCHEMA
    kept = [(name, value) for name, value in query if name != "schema"]
    shown = [(name, value) for name, value in query if name not in _SECRETS]
    user, at, host = parts.netloc.rpartition("@")
    return Address(
        _joined("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote)),
        schema,
        # What is legal in a query stays readable: a socket directory, several hosts.
        _joined(
            parts.scheme,
            user.partition(":")[0] + at + host,
            parts.path,
            urlencode(shown, quote_via=quote, safe="/,:"),
        ),
    )


def _malformation(url: str) -> str | None:
    """Return what is wrong with a URL, without a word of it: any part may be a piece of a password."""
    _, slashes, rest = url.partition("://")
    if not slashes:
        return "no :// after its scheme"
    if any(character.isspace() or not character.isprintable() for character in url):
        return "a space or a control character in it"
    if re.search(r"%(?![0-9A-Fa-f]{2})", url):
        return "a % that begins no escape (a % itself is %25)"
    authority, _, behind = rest.partition("/") if "/" in rest.partition("?")[0] else rest.partition("?")
    if "#" in url or ("@" in behind and "@" not in authority) or "@" in behind.partition("?")[0]:
        return "in a user or password / is %2F, ? is %3F, # is %23 and @ is %40"
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:
            _ = parts.port
        parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return "its host, port or parameters"
    return None


def _joined(scheme: str, netloc: str, path: str, query: str) -> str:
    """Return a URL; urlunsplit leaves out an empty authority, and libpq wants its slashes."""
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{query}"


@cache
def _parameters() -> frozenset[str]:
    """Return what libpq and we take, nothing where there is no libpq."""
    try:
        import psycopg
    except ModuleNotFoundError:
        return frozenset()
    return frozenset(each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()) | {"schema", "ssl"}


def _check_schema(name: str) -> str:
    if not name or "\0" in name or len(name.encode()) > NAME_MAX_BYTES:
        raise InvalidValue(
            f"schema must be a name of 1 to {NAME_MAX_BYTES} bytes of UTF-8, got {name!r} ({len(name.encode())} bytes)"
        )
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidValue(f"schema {name!r} belongs to PostgreSQL itself: choose another name")
    return name
