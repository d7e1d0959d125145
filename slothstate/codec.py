"""How stored values become those of the language that calls: Python's own, or JSON for a binding to build its own from.

Encoding is the same for all: a binding passes tables and lists as `slothstate.values.Encoded`.
"""

from __future__ import annotations

from functools import partial

from slothstate.engines.protocol import Codec
from slothstate.hints import Final
from slothstate.native import json_decode, json_encode
from slothstate.values import Encoded, as_encoded, as_python

__all__ = ["ENCODED", "PYTHON"]

PYTHON: Final[Codec] = Codec(as_python, json_decode, json_decode, None, "characters")
"""Tables and lists are dicts and lists, built anew each time; a text has as many characters as code points."""

ENCODED: Final[Codec] = Codec(as_encoded, partial(Encoded, "table"), partial(Encoded, "list"), json_encode, "octets")
"""Tables and lists stay JSON, as `Encoded`; a text is as long as its UTF-8. What Lua uses."""
