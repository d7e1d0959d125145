"""`Protocol` and `NamedTuple` as cheap as they can be: those of `typing` take four milliseconds of each start together.

A `Protocol` only describes others: nothing but its name is there while a program runs, and none of ours is ever asked
anything. A `NamedTuple` does not look at its annotations: `typing`'s compiles each of them, and the first `compile` of
a program makes all the classes of the `ast` module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["NamedTuple", "Protocol"]

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:
    from collections import namedtuple

    Protocol = object

    class _Maker(type):
        def __new__(cls, name, bases, members):
            if not bases:
                return super().__new__(cls, name, bases, members)
            fields = members["__annotations__"]
            made = namedtuple(name, fields, defaults=[members.pop(field) for field in fields if field in members])
            for member, value in members.items():
                setattr(made, member, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """The base of tuples whose items have names."""
