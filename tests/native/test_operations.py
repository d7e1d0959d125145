"""The built-in functions around a row: what they do themselves, and what they leave to Python."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final

import pytest

from slothstate import State, StateCorrupt
from slothstate.engines.sqlite.read_cache import ABSENT
from slothstate.native import StateBase, encode_row, row_getter, value_loader
from slothstate.values import KINDS, Encoded, as_python, check_key, decoded

NOW: Final = 1_000

RARELY: Final = "what the Python function returned"


def answering(answer: object) -> Any:
    """Return a connection whose statements answer with one row, or raise."""

    def execute(statement: str, bindings: tuple[object, ...]) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(get=answer)

    return SimpleNamespace(execute=execute)


def rarely(connection: object, now: int, key: str) -> str:
    assert (now, key) == (NOW, "k")
    return RARELY


GET: Final[Callable[..., Any]] = row_getter("select", rarely)


@pytest.mark.parametrize(
    "row",
    [
        ("string", "text", None),
        ("string", "", None),
        ("number", 1, None),
        ("number", 0.5, None),
        ("boolean", 1, None),
        ("table", "{}", None),
        ("list", "[]", None),
        ("bytes", b"", None),
        ("string", "text", NOW + 1),
    ],
)
def test_a_sound_row_is_returned_as_it_came(row: tuple[str, object, int | None]) -> None:
    """Whatever its kind."""
    assert GET(answering(row), NOW, "k") is row


@pytest.mark.parametrize("row", [None, ("string", "text", NOW), ("number", 1, NOW - 1)])
def test_no_row_and_an_expired_one(row: object) -> None:
    """Expired means `expires_at_ms <= now`."""
    assert GET(answering(row), NOW, "k") is None


@pytest.mark.parametrize(
    "row",
    [
        ("list", None, None),
        ("string", 1, None),
        ("number", "1", None),
        ("number", True, None),
        ("boolean", 1.0, None),
        ("table", b"{}", None),
        ("list", 1, None),
        ("bytes", "text", None),
        ("bytes\0", b"", None),
        ("strin", "text", None),
        ("strings", "text", None),
        ("zahl\xfc", 1, None),
        ("", "text", None),
        (None, "text", None),
        ("string", "text"),
        ("string", "text", None, 1),
        ["string", "text", None],
        "string",
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_what_is_no_sound_row_is_left_to_python(row: object) -> None:
    """Lists in rows, and whatever no write of ours can have left."""
    assert GET(answering(row), NOW, "k") == RARELY


def test_errors_of_a_statement_are_raised() -> None:
    """The connection's own, and that of a moment of expiry that cannot be compared."""
    error = KeyError("of the statement")
    with pytest.raises(KeyError) as caught:
        GET(answering(error), NOW, "k")
    assert caught.value is error
    with pytest.raises(TypeError, match="not supported between"):
        GET(answering(("string", "text", "soon")), NOW, "k")
    with pytest.raises(AttributeError, match="execute"):
        GET(object(), NOW, "k")


class Reader:
    """What `load_value` needs of a store and its cache; notes what is called."""

    def __init__(self, row: object, tokens: list[int | None]) -> None:
        self.cache = self
        self.calls: list[object] = []
        self._row = row
        self._tokens = tokens

    def sync(self) -> int | None:
        self.calls.append("sync")
        return self._tokens.pop(0)

    def ensure_identity(self) -> None:
        self.calls.append("ensure_identity")

    def read(self, operation: object, key: str) -> object:
        self.calls.append(("read", operation, key))
        return self._row

    def store(self, *what: object) -> None:
        self.calls.append(what)


LOAD: Final[Callable[..., Any]] = value_loader("get", check_key, decoded)


@pytest.mark.parametrize(
    ("row", "value", "kept"),
    [
        (("string", "text", None), "text", (0, "text", None)),
        (("number", 1.0, NOW), 1.0, (0, 1.0, NOW)),
        (("boolean", 1, None), True, (0, True, None)),
        (("boolean", 0, None), False, (0, False, None)),
        (("bytes", b"\0", None), b"\0", (0, b"\0", None)),
        (("table", '{"a":1}', None), {"a": 1}, (1, '{"a":1}', None)),
        (("list", "[1]", None), [1], (2, "[1]", None)),
        (None, "fallback", (ABSENT, None, None)),
    ],
)
def test_what_was_read_is_kept_under_the_token_from_before(row: object, value: object, kept: tuple[object]) -> None:
    """The token is taken first, the row read, and both given to the cache."""
    engine = Reader(row, [17])
    found = LOAD(engine, as_python, "k", "fallback")
    assert (type(found), found) == (type(value), value)
    assert engine.calls == ["sync", ("read", "get", "k"), (17, "k", *kept)]


def test_without_a_token_the_files_are_looked_at_first() -> None:
    """And where there is still none, None is what the cache gets."""
    for tokens in ([None, 17], [None, None]):
        engine = Reader(None, list(tokens))
        assert LOAD(engine, as_python, "k", None) is None
        token = tokens[1]
        assert engine.calls == [
            "sync",
            "ensure_identity",
            "sync",
            ("read", "get", "k"),
            (token, "k", ABSENT, None, None),
        ]


def test_damaged_json_names_the_key() -> None:
    """And nothing is kept."""
    engine = Reader(("table", "[1]", None), [17])
    with pytest.raises(StateCorrupt, match="key 'k' is damaged"):
        LOAD(engine, as_python, "k", None)
    assert engine.calls == ["sync", ("read", "get", "k")]


class Base(StateBase):
    """A State without verbs: notes what `set` writes itself, and what it leaves to `_set`."""

    def __init__(self, row_maker: Callable[..., Any] = encode_row) -> None:
        self.written: list[object] = []
        self.rest: list[object] = []
        self._cache, self._table, self._list = None, dict, list  # type: ignore[assignment]
        self._load = lambda key, default: (key, default)
        self._put = lambda *row: self.written.append(row)
        self._row_maker = (row_maker, KINDS, Encoded)

    def _set(self, *arguments: object) -> str:
        self.rest.append(arguments)
        return RARELY


def test_set_writes_a_common_value_itself_and_leaves_the_rest_to_python() -> None:
    """A time to live, and what `encode_row` does not encode; however the arguments are given."""
    base = Base()
    set_: Callable[..., Any] = base.set
    assert set_("k", 1) is True
    assert set_("k", {"a": [True]}) is True
    assert set_("k", Encoded("list", "[1]")) is True
    assert base.written == [("k", "number", 1, None), ("k", "table", '{"a":[true]}', None), ("k", "list", "[1]", None)]
    assert set_("k", value=2) is True
    assert set_(value=3, key="k", ttl=None) is True
    for arguments, keywords in ((("k", 1, 5), {}), (("k", 1), {"ttl": 5}), ((), {"ttl": 5, "value": 1, "key": "k"})):
        assert set_(*arguments, **keywords) == RARELY
        assert base.rest.pop() == ("k", 1, 5)
    for key, value in (
        ("", 1),
        ("k\xfc", 1),
        ("k", b"bytes"),
        ("k", object),
        ("", Encoded("list", "[1]")),
        ("k", ("list", "[1]")),
    ):
        assert set_(key, value) == RARELY
        assert base.rest.pop() == (key, value, None)
    with pytest.raises(TypeError, match=r"set\(\) is missing its argument 'value'"):
        set_("k", ttl=1)
    with pytest.raises(TypeError, match=r"set\(\) takes at most 3 arguments, got 4"):
        set_("k", 1, None, 2)
    with pytest.raises(TypeError, match=r"set\(\) got an unexpected keyword argument 'ttI'"):
        set_("k", 1, ttI=5)
    with pytest.raises(TypeError, match=r"set\(\) got two values for its argument 'key'"):
        set_("k", 1, key="k")
    assert len(base.written) == 5
    with pytest.raises(TypeError, match="a row of two columns"):
        Base(lambda *_: (1, 2, 3)).set("k", 1)
    with pytest.raises(ZeroDivisionError):
        Base(lambda *_: 1 / 0).set("k", 1)


def test_get_without_a_cache_loads() -> None:
    """Whatever is in the place of a cache, and by position or by name."""
    base = Base()
    assert base.get("k") == base.get(key="k") == ("k", None)
    assert base.get("k", 1) == base.get(default=1, key="k") == ("k", 1)


def test_what_was_not_set_up_says_so() -> None:
    """A subclass that does not call State.__init__, or takes a part away, gets an error and no crash."""
    uses: tuple[Callable[[StateBase], object], ...] = (lambda base: base.get("k"), lambda base: base.set("k", 1))
    for use in uses:
        with pytest.raises(TypeError, match="is not set up: its __init__ must call"):
            use(StateBase())
        for member in ("_load", "_put", "_row_maker", "_cache", "_table"):
            base = Base()
            delattr(base, member)
            with suppress(TypeError):
                use(base)


def test_wrong_use_is_an_error() -> None:
    """Too few arguments, and a row that is none: TypeError, no crash."""
    for function in (GET, LOAD, row_getter, value_loader):
        with pytest.raises(TypeError, match=r"takes \d arguments, got 1"):
            function(1)
    for row in (1, (1, 2), "abc"):
        with pytest.raises(TypeError, match="a row of three columns"):
            LOAD(Reader(row, [17]), as_python, "k", None)


def test_no_reference_is_lost() -> None:
    """Reading and writing leave as many references as there were, by whichever way they end."""
    row = ("string", "a text of its own", NOW + 1)
    expired = ("string", "a text of its own", NOW - 1)
    odd = ("string", 1, None)
    table = ("table", '{"a": 1}', None)
    connections = [answering(each) for each in (row, expired, odd)]
    base = Base()

    def everything() -> None:
        for connection in connections:
            GET(connection, NOW, "k")
        for each in (row, table, None):
            LOAD(Reader(each, [None, 17]), as_python, "k", None)
        for key in ("k", ""):
            base.set(key, row[1])
            base.get(row[1], row[2])
        base.written.clear()
        base.rest.clear()
        for function in (GET, LOAD):
            with pytest.raises(TypeError):
                function(row)

    watched = (None, row, expired, odd, table, *row, *table, *connections)
    everything()
    gc.collect()
    before = [sys.getrefcount(each) for each in watched]
    for _ in range(100):
        everything()
    gc.collect()
    grown = [sys.getrefcount(each) - count for each, count in zip(watched, before, strict=True)]
    assert max(grown) < 20
    assert min(grown) > -20


def test_the_arguments_of_get(state: State) -> None:
    """By position and by name; what is wrong with them is said."""
    state.set("k", 1)
    assert state.get(key="k") == state.get("k", default=2) == state.get(default=2, key="k") == 1
    assert state.get("missing", default=2) == state.get(default=2, key="missing") == 2
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: state.get(), "get() is missing its argument 'key'"),  # type: ignore[call-arg]
        (lambda: state.get(default=1), "get() is missing its argument 'key'"),  # type: ignore[call-arg]
        (lambda: state.get("k", 1, 2), "get() takes at most 2 arguments, got 3"),  # type: ignore[call-arg]
        (lambda: state.get("k", fallback=1), "get() got an unexpected keyword argument 'fallback'"),  # type: ignore[call-arg]
        (lambda: state.get("k", key="k"), "get() got two values for its argument 'key'"),  # type: ignore[misc]
    ]
    for call, message in wrong:
        with pytest.raises(TypeError, match=re.escape(message)):
            call()
