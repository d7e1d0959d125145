"""Parts of an engine that are imported when they are first asked for."""

from __future__ import annotations

import pytest

from slothstate import State, StateBusy
from slothstate.engines.sqlite import parts


@pytest.mark.parametrize(
    ("said", "error"),
    [("cannot import name 'X' from partially initialized module 'm'", StateBusy), ("no module named 'm'", ImportError)],
)
def test_a_handler_that_strikes_an_import(
    state: State, monkeypatch: pytest.MonkeyPatch, said: str, error: type[Exception]
) -> None:
    """It cannot wait for what its own thread is in the middle of; another error of the import is what it is."""

    def make(_: object) -> None:
        raise ImportError(said)

    with monkeypatch.context() as patched:
        patched.setitem(parts._MAKERS, "claims", make)
        with pytest.raises(error):
            state.list_claim("q")
    assert state.list_claim("q") is None
