"""`Protocol` for classes that only describe others: nothing but their names is there while a program runs.

Those of `typing` take a millisecond of each start together, and none of ours is ever asked anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Protocol"]

if TYPE_CHECKING:
    from typing import Protocol as Protocol
else:
    Protocol = object
