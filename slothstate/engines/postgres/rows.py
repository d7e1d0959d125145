"""Keys and values as columns: texts without NUL, long keys by their digest, a column for each type.

PostgreSQL's text holds no NUL: in a string it is `\\x01\\x02`, and `\\x01` is `\\x01\\x03`. So concatenation and
equality mean what they mean outside; the length is that without `\\x01`. JSON holds neither.

A key of more than 2,560 bytes may not fit an entry of a B-tree (2,704 at 8 KiB pages): it is stored as its beginning
and its digest, which is longer than any other stored key, and whole beside it. The beginning is cut at a character, so
keys may be stored in another order than their own where they share 2,557 bytes (`is_deep`), and only there.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

from slothstate.engines.protocol import Row
from slothstate.hints import Any, Final
from slothstate.values import Kind, Stored, damaged, verify

__all__ = [
    "EXPIRED",
    "LIVE",
    "STEM_BYTES",
    "STORED",
    "VALUE",
    "columns",
    "is_deep",
    "key_of",
    "packed",
    "row_of",
    "split",
    "stem",
    "unpacked",
]

SHORT_BYTES: Final = 2560

STEM_BYTES: Final = SHORT_BYTES - 3

_DIGEST_CHARACTERS: Final = 44

LIVE: Final = "is_live(e.expires_at_ms)"

EXPIRED: Final = f"not {LIVE}"

VALUE: Final = "e.kind, e.n, e.f, case when e.kind = 'list' and e.t is null then list_text_v1(e.id) else e.t end, e.b"
"""The columns of `row_of`, but for the end."""

STORED: Final = f"{VALUE}, e.expires_at_ms"


def _is_long(key: str) -> bool:
    """Return whether a key is stored by its digest."""
    return len(key) > SHORT_BYTES // 4 and len(key.encode()) > SHORT_BYTES


def _short(key: str) -> str:
    """Return the beginning of a long key as it is stored: what fits, cut at a character."""
    return key.encode()[:SHORT_BYTES].decode(errors="ignore")


def is_deep(key: str) -> bool:
    """Return whether a key may stand at another place among the stored keys than among the keys."""
    return len(key) >= STEM_BYTES // 4 and len(key.encode()) >= STEM_BYTES


def stem(key: str) -> str:
    """Return what is shared by all that a deep key may be stored among in another order."""
    return key.encode()[:STEM_BYTES].decode(errors="ignore")


def split(key: str) -> tuple[str, str | None]:
    """Return what a key is stored under, and a long one whole, else None."""
    if not _is_long(key):
        return key, None
    digest = urlsafe_b64encode(sha256(key.encode()).digest()).decode()
    assert len(digest) == _DIGEST_CHARACTERS
    return _short(key) + digest, key


def key_of(key: str) -> str:
    """Return what a key is stored under."""
    return split(key)[0]


def packed(text: str) -> str:
    """Return a string as it is stored."""
    if "\1" in text or "\0" in text:
        return text.replace("\1", "\1\3").replace("\0", "\1\2")
    return text


def unpacked(text: str) -> str:
    """Return a string that is stored."""
    return text.replace("\1\2", "\0").replace("\1\3", "\1") if "\1" in text else text


def columns(kind: Kind, stored: Stored) -> tuple[Kind, int | None, float | None, str | None, bytes | None]:
    """Return the columns of a value: kind, n, f, t, b."""
    if kind == "string":
        return kind, None, None, packed(stored), None  # type: ignore[arg-type]
    if isinstance(stored, str):
        return kind, None, None, stored, None
    if isinstance(stored, bytes):
        return kind, None, None, None, stored
    return (kind, None, stored, None, None) if isinstance(stored, float) else (kind, stored, None, None, None)


def row_of(key: str, found: tuple[Any, ...]) -> Row:
    """Return a row of the protocol from the columns of `STORED`. Raises: `StateCorrupt`."""
    kind, n, f, t, b, expires_at_ms = found
    stored: Any
    if kind == "string":
        stored = None if t is None else unpacked(t)
    elif kind == "table" or kind == "list":
        stored = t
    elif kind == "bytes":
        stored = b
    elif kind == "number":
        stored = f if n is None else n
    elif kind == "boolean":
        stored = n
    else:
        raise damaged(key, f"there is no kind {kind!r}")
    verify(key, kind, stored)
    return kind, stored, expires_at_ms
