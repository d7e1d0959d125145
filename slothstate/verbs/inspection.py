"""Looking into a store: figures, keys without their values, health, who does what."""

from __future__ import annotations

from collections.abc import Iterator

from slothstate.errors import InvalidValue
from slothstate.hints import TYPE_CHECKING, Any
from slothstate.values import check_key, check_seconds, describe, encode
from slothstate.verbs.base import SCAN_PAGE, Verbs, check_count, check_pattern

if TYPE_CHECKING:
    from slothstate.descriptions import Activity, Entry, Finding, Health, Usage

__all__ = ["InspectionVerbs"]


class InspectionVerbs(Verbs):
    """The verbs of whoever watches a store."""

    def stats(self) -> dict[str, Any]:
        """Return figures of the store and of this process's use of it; sizes in bytes, waits in seconds.

        docs/verbs.md lists them.

        >>> state.stats()["total_keys"]
        0
        """
        figures = self._engine.upkeep.stats()
        claims = self._engine.claims.describe(None)
        claimed = [claim for claim in claims if claim["owner"] is not None]
        watches = [watch["alive"] for watch in self._engine.watches.describe()]
        return {
            **figures,
            "locks_held": sum(lock["alive"] is not False for lock in self._engine.locks.describe()),
            "claims_held": sum(claim["alive"] is not False for claim in claimed),
            "claims_of_dead_owners": sum(claim["alive"] is False for claim in claimed),
            "items_delayed": len(claims) - len(claimed),
            "oldest_claim": min((claim["since"] for claim in claimed), default=None),
            "most_attempts": max((claim["attempt"] for claim in claims), default=0),
            "watches": watches.count(True),
            "watches_of_dead_owners": watches.count(False),
            "watches_unattended": watches.count(None),
        }

    def entry(self, key: str, preview: int = 0) -> Entry | None:
        """Return kind, size, length and TTL of a key, and the first `preview` characters of its value; None if missing.

        The value is not built. Raises: `InvalidValue` unless `preview` is an int >= 0.

        >>> state.set("site", "example.org")
        True
        >>> state.entry("site", preview=3)
        Entry(key='site', kind='string', size=11, length=None, ttl=None, preview='exa', claimed=0)
        """
        return self._engine.entries.describe(check_key(key), check_count(preview, "preview"))

    def entries(self, pattern: str | None = None, preview: int = 0) -> Iterator[Entry]:
        """Iterate over what `entry` says of the keys that match, in the order and in the manner of `scan`.

        Raises: `PatternError`, `InvalidValue`.

        >>> state.set("site", "example.org")
        True
        >>> [(entry.key, entry.kind) for entry in state.entries("s*")]
        [('site', 'string')]
        """
        check_pattern(pattern)
        return self._entries(pattern, check_count(preview, "preview"))

    def _entries(self, pattern: str | None, preview: int) -> Iterator[Entry]:
        after: str | None = ""
        while after is not None:
            page, after = self._engine.entries.page_of_descriptions(pattern, after, SCAN_PAGE, preview)
            yield from page

    def usage(self, prefix: str = "", delimiter: str = ":") -> list[Usage]:
        """Return how many keys begin with `prefix`, and their bytes, by the part up to the next delimiter.

        Keys without a delimiter behind `prefix` are counted under `prefix` itself. The largest come first.
        Raises: `InvalidValue` unless both are str, and the delimiter is not empty.

        >>> state.set_many({"user:1": "ab", "user:2": "cd", "site": "e"})
        True
        >>> state.usage()
        [Usage(prefix='user:', keys=2, size=16), Usage(prefix='', keys=1, size=5)]
        """
        for name, text in (("prefix", prefix), ("delimiter", delimiter)):
            if not isinstance(text, str):
                raise InvalidValue(f"{name} must be a str, got {describe(text)}")
            # Refuses a lone surrogate.
            encode(text, name)
        if not delimiter:
            raise InvalidValue("delimiter must not be empty")
        return self._engine.entries.usage(prefix, delimiter)

    def health(self) -> Health:
        """Return how the store is doing: settings as read back, file system, log, the processes that have it open.

        >>> state.health()["settings"]["journal_mode"]
        'wal'
        """
        return self._engine.upkeep.health()

    def examine(self) -> Iterator[Finding]:
        """Iterate over what an administrator should know about the store's files, and what to do about it.

        Part of what `slothstate doctor` reports; each `Finding` has a severity: ok, note, warning or error.

        >>> any(finding.severity == "error" for finding in state.examine())
        False
        """
        return self._engine.upkeep.examine()

    def activity(self, seconds: float = 2.0) -> list[Activity]:
        """Return what the processes that use the store have just done, this one included.

        They publish it only on request, twice a second or so as long as they do anything, and this is one for the next
        `seconds`; 0 withdraws it. So the first call returns nothing. Raises: `InvalidValue`.

        >>> state.activity(0)
        []
        """
        return self._engine.upkeep.activity(check_seconds(seconds, "seconds", zero=True))
