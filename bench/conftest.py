"""The benches under pytest-benchmark: their fixtures, and what each is run for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.compare import Workers


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """One process and one directory for each peer of a topic."""
    with Workers() as started:
        yield started


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a bench for every value of its module's PARAMETERS: a lane, or the arguments it names."""
    for name, values in getattr(metafunc.module, "PARAMETERS", {}).items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=str)
