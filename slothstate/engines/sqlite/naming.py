"""What a text names: which file a path leads to, which home `~` is, and what is no path but an address."""

from __future__ import annotations

import os

from slothstate.engines.sqlite import access
from slothstate.errors import InvalidValue, UnsafeState
from slothstate.hints import Final
from slothstate.values import describe

__all__ = ["absolute_path", "check_path", "default_path", "refuse_address"]

STORE: Final = "path"
"""What the argument that names a store is called."""

_DEFAULT: Final = os.path.join("~", ".sloth-runner", "state.db")

# `word://…`, and the URIs of SQLite, in quotes too, which a file of variables (docker's --env-file) leaves where they
# are. Any other colon is a letter of a name, as it is everywhere on Unix.
_ADDRESS: Final = r"""[\s"']*(?:\w[\w+.-]*://|file:)"""

# What was meant to be one, for it may hold a password: a server's scheme with a colon and a slash anywhere (behind
# `psql` or `URL=`, `./` before it, or as pathlib leaves it), or at the beginning with no right `://` behind it; any
# word with two slashes and a `user:password@`; and libpq's other way, with a password.
_SERVER: Final = r"postgres(?:ql)?"
_MISTYPED: Final = (
    rf"(?:.*?\b)?({_SERVER}):[/\\]"
    rf"""|[\s"']*({_SERVER})(?::|\W?[/\\]{{2}}|\W?/[^/:]*:[^/@]*@)"""
    r"""|[\s"']*(\w[\w+.-]*)\W?//[^/:]*:[^/@]*@"""
    r"""|[\s"']*(?:\w+=\S*\s+)*(password)\s*="""
)


def default_path() -> str:
    """Return the path that `open()` uses without one: `$SLOTHSTATE_DB`, else `~/.sloth-runner/state.db`.

    Raises: `UnsafeState` if it is in a home directory that nobody names.
    """
    return os.environ.get("SLOTHSTATE_DB") or _expanded(_DEFAULT)


def absolute_path(path: str | os.PathLike[str] | None = None, name: str = STORE) -> str:
    """Return the absolute path that `path` (None: the default) stands for, whether or not anything is there.

    `name` is the argument's name in messages.

    Raises: `InvalidValue` for another type; `UnsafeState` for an address (`postgresql://…`, `file:…`), a `~` without a
    home directory, and what is not UTF-8; `StateIOError` for a relative path in a directory that is gone.
    """
    text = check_path(default_path() if path is None else path, name)
    try:
        return os.path.abspath(_expanded(text))
    except FileNotFoundError as error:
        raise access.refusal(f"{name} {text!r} is relative, and the current directory is gone", error) from error


def refuse_address(text: str, name: str) -> None:
    """Refuse what is no path but an address, or was meant to be one. Raises: `UnsafeState`."""
    if ":" not in text and "//" not in text and "=" not in text:
        return
    # Here: few paths hold one of these, and few programs need `re`.
    import re

    needed = (
        "a store is a file of this machine, or in PostgreSQL (postgresql://…)"
        if name == STORE
        else "a file of this machine is needed: give its path"
    )
    # Nothing but the first word: the rest may hold a password.
    address = re.match(_ADDRESS, text, re.IGNORECASE)
    if address is not None:
        raise UnsafeState(f"{name} is an address ({address[0]}…), and {needed}")
    mistyped = re.match(_MISTYPED, text, re.IGNORECASE | re.DOTALL)
    if mistyped is not None:
        raise UnsafeState(f"{name} looks like a mistyped address ({mistyped[mistyped.lastindex or 0]}…), and {needed}")


def check_path(path: str | os.PathLike[str], name: str = STORE) -> str:
    """Return a path as text; `name` is the argument's name in the message.

    Raises: `InvalidValue` for another type; `UnsafeState` for an address and for what is not UTF-8.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        kind = "bytes" if isinstance(path, bytes) else describe(path)
        raise InvalidValue(f"{name} must be a str or an os.PathLike of one, got {kind}")
    # First of all: no other message may show one.
    refuse_address(text, name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsafeState(f"{name} {text!r} is not UTF-8, which SQLite needs it to be") from error
    return text


def _expanded(text: str) -> str:
    """Return a path without `~` and `~user`.

    `os.path.expanduser` leaves what it cannot expand as it is, and takes an empty or a relative $HOME at its word: a
    store would appear in a directory named "~", or wherever the process happens to be.
    """
    if not text.startswith("~"):
        return text
    user, slash, rest = text.partition("/")
    is_empty = user == "~" and os.environ.get("HOME") == ""
    home = "" if is_empty else os.path.expanduser(user)
    if os.path.isabs(home):
        return os.path.join(home, rest) if slash else home
    if user != "~":
        raise UnsafeState(f"{text!r}: there is no user {user[1:]!r}; for a file of that name write ./{text}")
    why = "is empty" if is_empty else "is not set, nor is this user in passwd" if home == "~" else "is a relative path"
    raise UnsafeState(f"there is no home directory for {text}, $HOME {why}: name a file with --db or SLOTHSTATE_DB")
