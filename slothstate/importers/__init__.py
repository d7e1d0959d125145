"""Keys of other programs' stores as `Record`s; the stores are only read.

Nothing is ever unpickled: a pickle runs whatever code it names. A pickled value is named instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slothstate.hints import Final
from slothstate.importers import diskcache, sloth_runner, sqlitedict
from slothstate.importers.found import Found, NotReadable, Options, Skipped

__all__ = ["READERS", "Found", "NotReadable", "Options", "Skipped"]

READERS: Final[dict[str, Callable[[Options], Iterator[Found]]]] = {
    "sloth-runner": sloth_runner.read,
    "diskcache": diskcache.read,
    "sqlitedict": sqlitedict.read,
}
"""What reads the store of each program. Raises, at any key: `NotReadable`."""
