"""What annotations are made of, without `typing`: it and what it loads take a third of the time of `import slothstate`.

While a program runs it says little: annotations are not evaluated, aliases are made of stand-ins, and whoever evaluates
those of a class finds types that are no narrower. To a type checker all of it is `typing`'s own. A `NamedTuple` is one
of `collections`: `typing`'s compiles each annotation, and the first `compile` of a program makes all the classes of the
`ast` module.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import AnyStr as AnyStr
    from typing import Concatenate as Concatenate
    from typing import Final as Final
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TextIO as TextIO
    from typing import TypeAlias as TypeAlias
    from typing import TypedDict as TypedDict
    from typing import TypeVar as TypeVar
    from typing import TypeVarTuple as TypeVarTuple
    from typing import cast as cast
    from typing import overload as overload
else:
    from collections import namedtuple

    class _Hint:
        """A part of an annotation: it may be called, subscripted, joined by `|` and unpacked; as a base it is none."""

        def __init__(self, *bases):
            self._bases = bases

        def _itself(self, *_, **__):
            return self

        __call__ = __getitem__ = __or__ = __ror__ = _itself

        def __iter__(self):
            yield self

        def __mro_entries__(self, _):
            return self._bases

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

    class Literal:
        """The values of an annotation: the type that they have."""

        def __class_getitem__(cls, values):
            return type(values[0] if isinstance(values, tuple) else values)

    Any = object
    AnyStr = Concatenate = Final = Generic = IO = NoReturn = ParamSpec = Protocol = Self = TextIO = _Hint()
    TypeAlias = TypeVar = TypeVarTuple = Final
    TypedDict = _Hint(dict)

    def cast(_, value):
        return value

    def overload(function):
        return function
