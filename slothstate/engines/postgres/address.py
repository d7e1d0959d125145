"""The URL of a store: which of its parameters are ours, and how it is shown without a password.

It is parsed here before libpq sees it, whose messages about malformed ones quote them whole, passwords included.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

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
    try:
        parts = urlsplit(url)
        _ = parts.port if "," not in parts.netloc else None
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        # Not its text: it may quote the password.
        raise InvalidValue(
            "the URL of the store is malformed; expected postgresql://user@host:port/database?schema=name"
        ) from None
    if parts.fragment or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise InvalidValue(
            "the URL of the store is malformed (a fragment, or a % that begins no escape); "
            "expected postgresql://user@host:port/database?schema=name"
        )
    schemas = [value for name, value in query if name == "schema"]
    if len(schemas) > 1:
        raise InvalidValue(f"the URL of the store names {len(schemas)} schemas, expected one")
    schema = _check_schema(schemas[0]) if schemas else DEFAULT_SCHEMA
    kept = [(name, value) for name, value in query if name != "schema"]
    conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote), ""))
    shown = [(name, value) for name, value in query if name not in _SECRETS]
    user, at, host = parts.netloc.rpartition("@")
    netloc = user.partition(":")[0] + at + host
    # What is legal in a query stays readable: a socket directory, several hosts.
    text = urlencode(shown, quote_via=quote, safe="/,:")
    return Address(conninfo, schema, urlunsplit((parts.scheme, netloc, parts.path, text, "")))


def _check_schema(name: str) -> str:
    name = unquote(name) if "%" in name else name
    if not name or "\0" in name or len(name.encode()) > NAME_MAX_BYTES:
        raise InvalidValue(
            f"schema must be a name of 1 to {NAME_MAX_BYTES} bytes of UTF-8, got {name!r} ({len(name.encode())} bytes)"
        )
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidValue(f"schema {name!r} belongs to PostgreSQL itself: choose another name")
    return name
