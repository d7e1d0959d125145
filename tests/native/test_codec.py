"""The JSON codec against the standard library, tables of boundaries, and everything it must refuse."""

from __future__ import annotations

import collections
import enum
import json
import math
import pickle
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import TESTS
from slothstate.errors import InvalidValue
from slothstate.native import json_check, json_decode, json_encode

CORPUS = TESTS / "corpus" / "json"
DEPTH = 500


def encode(value: object) -> str:
    """The JSON text of a value whose path in messages begins with "value"."""
    return json_encode(value, "value")


def reference(value: object) -> str:
    """The text the standard library gives: ours is the same, byte for byte."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def same(left: object, right: object) -> bool:
    """Whether two values are equal with the same types and signs all the way down."""
    return repr(left) == repr(right)


@pytest.mark.parametrize("length", range(20))
@pytest.mark.parametrize("special", ["", '"', "\\", "\n", "\x00", "\x1f", "\x7f", "é", "漢", "\U0001f9a5", "/"])
def test_strings_of_every_alignment(length: int, special: str) -> None:
    """A character that needs care is taken care of wherever it falls in the blocks of eight."""
    for at in range(length + 1):
        text = "a" * at + special + "b" * (length - at)
        assert encode(text) == reference(text)
        assert json_decode(encode(text)) == text
        assert json_decode(json.dumps(text)) == text


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), inner, max_size=6),
    ),
    max_leaves=30,
)


@settings(max_examples=1000, deadline=None)
@given(DOCUMENTS)
def test_documents_agree_with_the_standard_library(document: object) -> None:
    """The text is that of `json.dumps`, and it reads back to the document, from str and from bytes."""
    text = encode(document)
    assert text == reference(document)
    assert same(json_decode(text), document)
    assert same(json_decode(text.encode()), document)
    assert same(json_decode(json.dumps(document, indent=2)), document)


def strictly(text: bytes) -> Any:
    """What the standard library reads, without what it allows beyond RFC 8259 and our limits."""

    def refuse(word: str) -> object:
        raise ValueError(word)

    def integer(digits: str) -> int:
        if not -(2**63) <= int(digits) < 2**63:
            raise ValueError("past 64 bits")
        return int(digits)

    def finite(digits: str) -> float:
        if math.isinf(float(digits)):
            raise ValueError("past the largest float")
        return float(digits)

    value = json.loads(text.decode(), parse_constant=refuse, parse_int=integer, parse_float=finite)
    reference(value).encode()  # refuses lone surrogates
    return value


FRAGMENTS = [*'{}[],:"1-0\\/ \né', '"a"', '"\\u00e9"', '"\\ud83e\\udda5"', '"\\ud83e"', '{"a":1}']
FRAGMENTS += ["true", "null", "nul", "NaN", ".5", "e3", "1e999", "9223372036854775808"]


@settings(max_examples=3000, deadline=None)
@given(
    st.one_of(
        st.lists(st.sampled_from(FRAGMENTS), max_size=10).map(lambda parts: "".join(parts).encode()),
        st.binary(max_size=12),
        st.tuples(DOCUMENTS, st.integers(0, 200), st.binary(max_size=2)).map(
            lambda case: (text := reference(case[0]).encode())[: case[1]] + case[2] + text[case[1] + 1 :]
        ),
    )
)
def test_accepts_and_refuses_what_the_standard_library_does(text: bytes) -> None:
    """On broken and whole texts alike: the same value, or a ValueError from both."""
    try:
        expected = strictly(text)
    except ValueError:
        with pytest.raises(ValueError, match="invalid JSON text at byte"):
            json_decode(text)
    else:
        assert same(json_decode(text), expected)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join) | DOCUMENTS.map(reference))
def test_checks_as_it_decodes(text: str) -> None:
    """`json_check` raises what `json_decode` raises, in the same words, and nothing else."""
    try:
        json_decode(text)
    except ValueError as error:
        with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
            json_check(text)
    else:
        json_check(text)


@pytest.mark.parametrize("argument", [b"1", 1, None])
def test_checks_text_alone(argument: Any) -> None:
    """`json_check` takes one str."""
    with pytest.raises(TypeError, match="takes str"):
        json_check(argument)
    with pytest.raises(TypeError, match="takes 1 arguments"):
        json_check("1", argument)  # type: ignore[call-arg]


SEEDS = sorted(CORPUS.iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_the_corpus(seed: Path) -> None:
    """y_ seeds are read as the standard library does; n_ seeds and, past our limits, i_ seeds are refused."""
    text = seed.read_bytes()
    if seed.name.startswith("y_"):
        value = json_decode(text)
        assert same(value, json.loads(text))
        assert same(json_decode(encode(value)), value)
    else:
        with pytest.raises(ValueError, match="invalid JSON text at byte"):
            json_decode(text)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 0, "not JSON"),
        ("[1,]", 3, "not JSON"),
        ('{"é" 1}', 6, "not JSON"),
        ("[true, nulx]", 10, "not JSON"),
        (b'["ab\xff"]', 4, "not UTF-8"),
        ('["a\\ud800"]', 3, "not UTF-8"),
        ("[1, 9223372036854775808]", 4, "integer past 64 bits"),
        ("[-1e309]", 1, "past the largest float"),
        ("[" * 501, 500, "nested too deep"),
        ("[] []", 3, "not JSON"),
    ],
)
def test_bad_text_is_named_with_its_byte(text: str | bytes, position: int, problem: str) -> None:
    """The message says at which byte reading stopped, and why."""
    with pytest.raises(ValueError, match=f"at byte {position} of .*{problem}"):
        json_decode(text)


@pytest.mark.parametrize("text", [None, 1, ["[]"], bytearray(b"[]"), memoryview(b"[]")])
def test_only_str_and_bytes_are_decoded(text: object) -> None:
    """Another type is a TypeError naming it."""
    with pytest.raises(TypeError, match=type(text).__name__):
        json_decode(text)  # type: ignore[arg-type]


def test_a_str_with_a_lone_surrogate_is_no_text() -> None:
    """A str that UTF-8 cannot hold is a ValueError too."""
    with pytest.raises(ValueError, match="surrogate"):
        json_decode('"\ud800"')


def test_the_last_of_duplicate_keys_wins() -> None:
    """A key that comes twice has the value that came last, in the place of the first."""
    assert list(json_decode('{"a":1,"b":2,"a":3}').items()) == [("a", 3), ("b", 2)]


def test_repeated_keys_of_one_document_are_distinct_where_they_differ() -> None:
    """Keys that share length, start and end stay apart, in many tables of one document."""
    rows = [{f"key{n % 97:03}x": n, f"k{'é' if n % 2 else 'e'}y": 1, "": 2} for n in range(5000)]
    assert json_decode(encode(rows)) == rows


class Color(enum.Enum):
    RED = 1


REFUSED: list[tuple[object, str]] = [
    ({1, 2}, "value: a set cannot be stored; expected str, bool, int, float, None, dict or list"),
    ({"ports": [1, 2, {3}]}, "value['ports'][2]: a set cannot be stored"),
    ([{"a": (0, object())}], "value[0]['a'][1]: an object cannot be stored"),
    ([b"x"], "value[0]: bytes cannot be stored inside a table or list"),
    ([bytearray()], "value[0]: a bytearray cannot be stored"),
    ([Decimal("1.5")], "value[0]: a Decimal cannot be stored"),
    ([1j], "value[0]: a complex cannot be stored"),
    ([Color.RED], "value[0]: a Color cannot be stored"),
    ([{}.keys()], "value[0]: a dict_keys cannot be stored"),
    ([...], "value[0]: an ellipsis cannot be stored"),
    ({"a": {1: 2}}, "value['a']: the keys of a dict must be str, not int"),
    ({None: 2}, "value: the keys of a dict must be str, not NoneType"),
    ({"ok": 1, b"a": 2}, "value: the keys of a dict must be str, not bytes"),
    ([{True: 2}], "value[0]: the keys of a dict must be str, not bool"),
    (math.nan, "value: NaN and infinities cannot be stored"),
    ({"x": [math.inf]}, "value['x'][0]: NaN and infinities cannot be stored"),
    ({"x": -math.inf}, "value['x']: NaN and infinities cannot be stored"),
    (["a\ud800"], "value[0]: the str has a lone surrogate at position 1"),
    ({"k": "\udfff"}, "value['k']: the str has a lone surrogate at position 0"),
    ({"é\udc00": 1}, "value['é\\udc00']: the key has a lone surrogate at position 1"),
    ({"it's": {"x"}}, """value["it's"]: a set cannot be stored"""),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=lambda case: case[:40] if isinstance(case, str) else "")
def test_what_cannot_be_stored_is_named_by_its_path(value: object, message: str) -> None:
    """The message begins with the path to the offending value and says what was found."""
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_name_begins_the_path() -> None:
    """The second argument of `json_encode` is what the message calls the value."""
    with pytest.raises(InvalidValue, match=r"^items\[1\]\[0\]: a set"):
        json_encode([{1}], "items[1]")


def test_long_paths_and_keys_are_cut() -> None:
    """A path of hundreds of steps and a key of a megabyte still give a message one can read."""
    deep: object = {"k" * 1_000_000: set()}
    for _ in range(400):
        deep = [deep]
    with pytest.raises(InvalidValue, match=r"\.\.\.") as caught:
        encode(deep)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("arguments", [(), (1,), (1, "a", 2), (1, 2)])
def test_wrong_arguments_are_type_errors(arguments: tuple[object, ...]) -> None:
    """`json_encode` takes a value and a name that is a str."""
    with pytest.raises(TypeError):
        json_encode(*arguments)  # type: ignore[arg-type]


def cycles() -> list[tuple[object, str]]:
    """Values that contain themselves, and how the message names the way back."""
    to_itself: list[object] = []
    to_itself.append(to_itself)
    through_dict: dict[str, object] = {}
    through_dict["a"] = [0, through_dict]
    inner: list[object] = []
    inner.append((inner,))
    return [
        (to_itself, "value[0] is value itself again"),
        (through_dict, "value['a'][1] is value itself again"),
        ({"x": [1, inner]}, "value['x'][1][0][0] is value['x'][1] itself again"),
    ]


@pytest.mark.parametrize(("value", "message"), cycles(), ids=["list", "dict", "inner"])
def test_cycles_are_refused_as_such(value: object, message: str) -> None:
    """A value that contains itself is an error that says where it comes back."""
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    assert str(caught.value) == f"{message}; a cycle cannot be stored"


def test_shared_values_are_no_cycle() -> None:
    """One object in two places is written twice."""
    shared = ["x"]
    assert encode([shared, {"a": shared}, shared]) == '[["x"],{"a":["x"]},["x"]]'


def nested(depth: int, wrap: Callable[[object], object]) -> object:
    """A container around a container, `depth` in all."""
    value: object = wrap(0)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}], ids=["list", "tuple", "dict"])
def test_depth_has_a_limit_both_ways(wrap: Callable[[object], object]) -> None:
    """500 levels are stored and read; 501 and a million are refused; 256 KiB of stack are enough for all."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for depth in (1, 100, DEPTH - 1, DEPTH):
                text = encode(nested(depth, wrap))
                assert encode(json_decode(text)) == text
            for depth in (DEPTH + 1, 100_000):
                value = nested(depth, wrap)
                with pytest.raises(InvalidValue, match="nested too deep; at most 500 levels"):
                    encode(value)
                while value:  # take it apart, so that freeing it does not recurse either
                    value = next(iter(value.values())) if isinstance(value, dict) else value[0]  # type: ignore[index]
            for text in ("[" * 501, '{"a":' * 501, "[" * 1_000_000, '[{"a":' * 500_000):
                with pytest.raises(ValueError, match="nested too deep"):
                    json_decode(text)
        except BaseException as error:
            failures.append(error)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert not failures, failures[0]


class Hostile:
    """Methods that must never be called while a document is encoded."""

    def _never(self, *_: object, **__: object) -> Any:
        raise AssertionError("Python code ran inside the encoder")

    __iter__ = __len__ = __str__ = __repr__ = __int__ = __index__ = __float__ = _never
    __bool__ = __getitem__ = __eq__ = __getattribute__ = keys = items = values = _never
    __hash__ = None  # type: ignore[assignment]


class HostileList(Hostile, list[object]):
    pass


class HostileTuple(Hostile, tuple[object, ...]):  # type: ignore[misc]
    pass


class HostileDict(Hostile, dict[str, object]):
    # A dict may have an order of its own, which is asked for: tests/native/test_codec_containers.py.
    __iter__ = dict.__iter__  # type: ignore[assignment]


class HostileInt(Hostile, int):  # type: ignore[misc]
    pass


class HostileFloat(Hostile, float):  # type: ignore[misc]
    pass


class HostileStr(Hostile, str):
    __hash__ = str.__hash__  # type: ignore[assignment]
    __eq__ = str.__eq__  # type: ignore[assignment]


def test_subclasses_are_stored_as_their_base_type() -> None:
    """Raw contents, whatever the subclass overrides; they come back as the base type."""
    number = enum.IntEnum("number", "ONE TWO")
    pair = collections.namedtuple("pair", "x y")
    value = {
        HostileStr("key"): HostileStr("text é"),
        "list": HostileList([1, HostileTuple((2, 3))]),
        "dict": HostileDict(a=HostileInt(7), b=HostileFloat(0.5)),
        "others": [collections.OrderedDict(a=1), collections.Counter("aa"), pair(1, 2), number.TWO],
    }
    back = json_decode(encode(value))
    expected = {
        "key": "text é",
        "list": [1, [2, 3]],
        "dict": {"a": 7, "b": 0.5},
        "others": [{"a": 1}, {"a": 2}, [1, 2], 2],
    }
    assert same(back, expected)


def test_hostile_objects_are_refused_without_being_asked() -> None:
    """A message about a hostile subclass is made without calling its methods."""
    with pytest.raises(InvalidValue, match=r"^value\['k'\]\[0\]: a Hostile cannot be stored"):
        encode({HostileStr("k"): HostileList([Hostile()])})


def test_threads_do_not_disturb_each_other() -> None:
    """Eight threads with documents of their own get what a single one gets."""
    documents = [{"n": number, "s": f"é{number}" * 50, "l": list(range(number))} for number in range(64)]
    expected = [encode(document) for document in documents]

    def work(number: int) -> bool:
        return all(
            encode(document) == text and json_decode(text) == document
            for document, text in zip(documents[number:], expected[number:], strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, [*range(8)] * 20))


def test_the_utf8_of_a_stored_str_is_not_kept() -> None:
    """Encoding a wide str leaves it as small as it was: CPython's cache of its UTF-8 stays empty."""
    text = "漢字" * 1000
    before = sys.getsizeof(text)
    encode({"k": text})
    assert sys.getsizeof(text) == before


def test_errors_leave_no_references_behind() -> None:
    """A refused document is as free to die as before."""
    inner = [object()]
    document = {"a": [inner, {"b": inner}]}
    counts = [sys.getrefcount(thing) for thing in (inner, inner[0], document)]
    for _ in range(100):
        with pytest.raises(InvalidValue):
            encode(document)
        with pytest.raises(ValueError, match="not JSON"):
            json_decode('{"a":[{"b":[1,"text",{"c":x}]}]}')
    assert [sys.getrefcount(thing) for thing in (inner, inner[0], document)] == counts
