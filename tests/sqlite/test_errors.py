"""The error tree: what is exported, which builtin each is, and that all of them travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from pathlib import Path
from typing import Any

import apsw
import pytest

import slothstate
from helpers.sqlite import dump, store_of, unchanged
from slothstate import (
    InvalidValue,
    OutcomeUnknown,
    SlothStateError,
    State,
    StateBusy,
    StateClosed,
    StateCorrupt,
    StateFull,
    StateIOError,
    StateReadOnly,
    WrongType,
    errors,
)
from slothstate.engines.sqlite.translation import translate

BUILTINS = {
    "InvalidKey": ValueError,
    "InvalidValue": ValueError,
    "PatternError": ValueError,
    "WrongType": TypeError,
    "OutOfRange": OverflowError,
    "LockTimeout": TimeoutError,
    "NotSupported": NotImplementedError,
    "StateBusy": TimeoutError,
    "LockLost": RuntimeError,
    "WatchLost": RuntimeError,
    "AlreadyHeld": RuntimeError,
    "StateClosed": RuntimeError,
    "UnsafeState": RuntimeError,
    "StateCorrupt": OSError,
    "StateFull": OSError,
    "StateReadOnly": OSError,
    "StateIOError": OSError,
    "OutcomeUnknown": RuntimeError,
}


def test_the_tree_is_whole() -> None:
    """The errors are these, all exported by the package, all under SlothStateError, each also its builtin."""
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    assert set(errors.__all__) == set(classes) == {"SlothStateError", *BUILTINS}
    for name, error in classes.items():
        assert getattr(slothstate, name) is error
        assert name in slothstate.__all__
        assert issubclass(error, SlothStateError)
        assert error.__doc__
    for name, builtin in BUILTINS.items():
        assert issubclass(classes[name], builtin)


@pytest.mark.parametrize("name", errors.__all__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(name: str, protocol: int) -> None:
    """Every error comes out of a pickle, and of a copy, as what it was: class, message and attributes."""
    error = WrongType("message", "k", "list", "string") if name == "WrongType" else getattr(errors, name)("message")
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


def test_raised_wrong_type_pickles(state: State) -> None:
    """The attributes of a raised `WrongType` survive a pickle."""
    state.set("k", "text")
    with pytest.raises(WrongType) as caught:
        state.list_push("k", 1)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (twin.key, twin.expected, twin.found, str(twin)) == ("k", "list", "string", str(caught.value))


CODES = {
    "BUSY": StateBusy,
    "LOCKED": StateBusy,
    "CORRUPT": StateCorrupt,
    "NOTADB": StateCorrupt,
    "CONSTRAINT": StateCorrupt,
    "FULL": StateFull,
    "READONLY": StateReadOnly,
    "IOERR": StateIOError,
    "CANTOPEN": StateIOError,
    "PERM": StateIOError,
    "PROTOCOL": StateIOError,
    "NOMEM": MemoryError,
    "TOOBIG": InvalidValue,
    "MISUSE": SlothStateError,
    "ERROR": SlothStateError,
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("extended", [0, 1, 3, 22])
def test_classification_is_by_result_code(code: str, extended: int) -> None:
    """SQLite's result code decides, extended or not, and never its text; the message names the file."""
    error: Any = apsw.exception_for(getattr(apsw, f"SQLITE_{code}"))
    error.result = getattr(apsw, f"SQLITE_{code}")
    error.extendedresult = error.result | extended << 8
    ours = translate(error, "/some/state.db")
    assert type(ours) is CODES[code]
    assert "/some/state.db" in str(ours)
    assert "database is locked" not in str(ours)


def test_cause_is_kept(state: State, path: str) -> None:
    """An error that came from SQLite has SQLite's as its cause, and an error of a check has none."""
    state.close()
    with pytest.raises(StateClosed) as caught:
        state.get("k")
    assert caught.value.__cause__ is None
    other = Path(path).with_name("other.db")
    other.write_text("text")
    with pytest.raises(slothstate.UnsafeState) as refused:
        slothstate.open(other)
    assert isinstance(refused.value.__cause__, apsw.Error)


def test_repeated_errors_are_fresh(state: State) -> None:
    """A latched error is raised anew each time, so tracebacks do not pile up on one object."""
    state.close()
    caught = []
    for _ in range(2):
        with pytest.raises(StateClosed) as error:
            state.get("k")
        caught.append(error.value)
    assert caught[0] is not caught[1]


def test_full_database(state: State, path: str) -> None:
    """No room left is `StateFull`: nothing is written, reads go on, and so do writes once there is room."""
    state.set_many({"k": 1, "n": 1})
    before = dump(path)
    db = store_of(state)._idle[-1].db
    pages = db.pragma("page_count")
    db.pragma("max_page_count", pages + 2)
    big = "x" * 100_000
    for write in (
        lambda: state.set("k", big),
        lambda: state.append("text", big),
        lambda: state.list_push("list", big),
        lambda: state.set_many({"a": 1, "b": big}),
        lambda: state.compare_swap("k", 1, big),
    ):
        with pytest.raises(StateFull) as caught:
            write()  # type: ignore[no-untyped-call]
        assert isinstance(caught.value.__cause__, apsw.FullError)
        assert dump(path) == before
        assert (state.get("k"), store_of(state).in_transaction) == (1, False)
    with pytest.raises(StateFull), state.transaction():
        state.increment("n")
        state.set("k", big)
    assert dump(path) == before
    db.pragma("max_page_count", 2**30)
    assert state.set("k", big)


def test_caught_full_inside_a_transaction(state: State, path: str) -> None:
    """Where no room is left SQLite gives the whole transaction up: catching `StateFull` does not save a part of it."""
    state.set("k", 1)
    db = store_of(state)._idle[-1].db
    db.pragma("max_page_count", db.pragma("page_count") + 2)
    with unchanged(path), pytest.raises(StateIOError, match="nothing of it is kept"), state.transaction():
        state.increment("n")
        with pytest.raises(StateFull):
            state.set("k", "x" * 100_000)
        state.increment("n")


@pytest.mark.parametrize("nested", [False, True])
def test_transaction_that_sqlite_rolled_back(state: State, path: str, nested: bool) -> None:
    """After an error for which SQLite ends the transaction, what follows is refused, not committed piece by piece."""
    state.set("k", 1)
    db = store_of(state)._idle[-1].db
    with unchanged(path), pytest.raises(StateIOError, match="nothing of it is kept"), state.transaction():
        state.increment("n")
        db.execute("rollback")
        with pytest.raises(StateIOError):
            state.increment("n")
        with pytest.raises(StateIOError):
            state.get("k")
        if nested:
            with pytest.raises(StateIOError), state.transaction():
                raise AssertionError("began a savepoint of nothing")
    assert state.increment("n") == 1


def test_commit_that_fails(state: State, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of COMMIT itself is `OutcomeUnknown` with its cause; the State goes on."""
    state.set("k", 1)
    connection = store_of(state)._idle[-1]
    execute = connection.execute

    def failing(statement: str, *arguments: object) -> object:
        if statement == "commit":
            raise apsw.IOError("disk I/O error")
        return execute(statement, *arguments)

    monkeypatch.setattr(connection, "execute", failing)
    with pytest.raises(OutcomeUnknown, match="may or may not") as caught, state.transaction():
        state.set("k", 2)
    assert isinstance(caught.value.__cause__, apsw.IOError)
    monkeypatch.setattr(connection, "execute", execute)
    assert state.increment("k") in (2, 3)


def test_errors_of_a_dump(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have our names, as those of every verb have."""
    state.set("k", 1)

    def fail(*_: object) -> None:
        raise apsw.exception_for(apsw.SQLITE_TOOBIG)

    with monkeypatch.context() as patched:
        patched.setattr("slothstate.engines.sqlite.transfer.get", fail)
        with pytest.raises(InvalidValue, match="larger than SQLite's limit"):
            list(state.dump())
    assert [record.value for record in state.dump()] == [1]
