"""The URL of a store: which of its parameters are ours, and how it is shown without a password.

It is parsed here before libpq sees it, whose messages about malformed ones quote them whole, passwords included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, unquote, urlencode, urlsplit

from slothstate.errors import InvalidValue
from slothstate.hints import Any, Final, NamedTuple

__all__ = ["Address", "defaults", "parse"]

DEFAULT_SCHEMA: Final = "slothstate"

NAME_MAX_BYTES: Final = 63
"""The longest name in PostgreSQL, which cuts longer ones without a word (NAMEDATALEN - 1)."""

_SECRETS: Final = frozenset(("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"))
"""Parameters that are not shown, besides those that libpq itself says are passwords."""

_OURS: Final = ("schema", "ssl")

_PORT: Final = re.compile(r"[0-9]{1,5}")

_NAME: Final = re.compile(r"[A-Za-z_]{1,30}")
"""What may be a parameter's name, and no piece of a password."""


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
    query = _pairs(parts.query)
    known = _libpq()
    secrets = _SECRETS.union(name for name, is_secret in known.items() if is_secret)
    unknown = [name for name, _ in query if known and name not in known and name not in _OURS]
    if unknown:
        # What stands behind a password may be a piece of it.
        is_safe = _NAME.fullmatch(unknown[0]) and "@" not in parts.query and secrets.isdisjoint(dict(query))
        raise InvalidValue(
            "the URL of the store has a parameter that neither libpq nor slothstate has"
            f"{f': {unknown[0]}' if is_safe else ' (in a password & is %26)'}"
        )
    schemas = [value for name, value in query if name == "schema"]
    if len(schemas) > 1:
        raise InvalidValue(f"the URL of the store names {len(schemas)} schemas, expected one")
    schema = _check_schema(schemas[0]) if schemas else DEFAULT_SCHEMA
    kept = [(name, value) for name, value in query if name != "schema"]
    shown = [(name, value) for name, value in query if name not in secrets]
    user, at, host = parts.netloc.rpartition("@")
    return Address(
        _joined("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote)),
        schema,
        # What is legal in a query stays readable: a socket directory, several hosts.
        _joined(
            parts.scheme, user.partition(":")[0] + at + host, parts.path, urlencode(shown, quote_via=quote, safe="/,:")
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
    if "%00" in url:
        return "the escape %00 in it, which stands for what no part of it can hold"
    try:
        unquote(url, errors="strict")
    except UnicodeDecodeError:
        return "escapes in it that are not UTF-8"
    authority, _, behind = rest.partition("/") if "/" in rest.partition("?")[0] else rest.partition("?")
    if (
        "#" in url
        or authority.count("@") > 1
        or ("@" in behind and "@" not in authority)
        or "@" in behind.partition("?")[0]
    ):
        return "in a user or password / is %2F, ? is %3F, # is %23 and @ is %40"
    user, _, hosts = authority.rpartition("@")
    if "%3a" in user.partition(":")[0].lower():
        return (
            "a user with a : in it (the : before a password stands as it is; a user of such a name is given by user=)"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port if "," not in parts.netloc else None
        _pairs(parts.query)
    except ValueError:
        return "its host, port or parameters"
    return None if all(map(_is_host, hosts.split(","))) else "its host or port, or a password without an @ behind it"


def _is_host(text: str) -> bool:
    """Return whether a text may be a host and a port, and is not what stands before a forgotten @."""
    host, bracket, behind = text.rpartition("]")
    port = behind.removeprefix(":")
    if not bracket:
        host, _, port = text.partition(":")
    # No host has an @ in its name; a socket that has is given by host=.
    return "%40" not in host and (not port or bool(_PORT.fullmatch(port)))


def _pairs(query: str) -> list[tuple[str, str]]:
    """Return the parameters of a query as libpq reads them, to which a + is a +. Raises: `ValueError`."""
    found = []
    for each in query.split("&") if query else ():
        name, separator, value = each.partition("=")
        if not separator:
            raise ValueError("no =")
        found.append((unquote(name, errors="strict"), unquote(value, errors="strict")))
    return found


def _joined(scheme: str, netloc: str, path: str, query: str) -> str:
    """Return a URL; urlunsplit leaves out an empty authority, and libpq wants its slashes."""
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{query}"


@cache
def _libpq() -> dict[str, bool]:
    """Return the parameters that libpq takes, and whether it asks to hide each as a password; none without a libpq."""
    try:
        import psycopg
    except ModuleNotFoundError:
        return {}
    return {each.keyword.decode(): each.dispchar == b"*" for each in psycopg.pq.Conninfo.get_defaults()}


def defaults(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return what libpq takes where these parameters do not say: of a service, the environment, by itself.

    It tells by a connection that cannot be made: before it looks at any host it has found the port impossible.
    """
    import psycopg

    asked = psycopg.conninfo.make_conninfo("", **{**parameters, "port": "-1"})
    found = psycopg.pq.PGconn.connect_start(asked.encode())
    try:
        return {each.keyword.decode(): each.val.decode() for each in found.info if each.val}
    finally:
        found.finish()


def _check_schema(name: str) -> str:
    if not name or len(name.encode()) > NAME_MAX_BYTES:
        raise InvalidValue(
            f"schema must be a name of 1 to {NAME_MAX_BYTES} bytes of UTF-8, got {name!r} ({len(name.encode())} bytes)"
        )
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
        raise InvalidValue(f"schema must be a name without control characters, got {name!r}")
    if name.startswith("pg_") or name in ("information_schema", "$user"):
        raise InvalidValue(f"schema {name!r} belongs to PostgreSQL itself: choose another name")
    return name
