"""`protocol.Fields` as operations on a connection (see `operations`), imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slothstate.engines.sqlite import fields
from slothstate.engines.sqlite.operations import VERBS, reading, writing_key

if TYPE_CHECKING:
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["FieldOperations"]

VERBS.update(
    {
        fields.get: "get_field",
        fields.put: "set_field",
        fields.delete: "delete_field",
        fields.increment: "increment_field",
    }
)


class FieldOperations:
    """`protocol.Fields`."""

    def __init__(self, store: Runner) -> None:
        self.get = reading(store, fields.get)
        self.put = writing_key(store, fields.put)
        self.delete = writing_key(store, fields.delete)
        self.increment = writing_key(store, fields.increment)
