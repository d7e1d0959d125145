"""How mkdocs.yml has docstrings read for the API reference: examples, which are doctests, become blocks of code."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import griffe

from slothstate import native

_EXAMPLE: Final = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)

_AS_COROUTINE: Final = re.compile(r"_verb\((State\.\w+)\)")

_IN_C: Final = "slothstate.native.StateBase."
"""What has its docstring in the C layer; the rest of the package is read, not imported."""


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.path.startswith(_IN_C):
            obj.docstring = griffe.Docstring(inspect.getdoc(getattr(native.StateBase, obj.name)) or "", parent=obj)
        if isinstance(obj, griffe.Attribute) and (found := _AS_COROUTINE.fullmatch(str(obj.value))):
            obj.docstring = griffe.Docstring(f"`{found[1]}` as a coroutine.", parent=obj)
            obj.value = None
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
