"""The JSON codec alone, beside orjson and the standard library."""

from __future__ import annotations

import json
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import Report
from bench.under_pytest import run_lane
from bench.workloads import TABLE

TOPIC: Final = "codec"

DOCUMENTS: Final[dict[str, Any]] = {
    "five fields": TABLE,
    "nested, 2 KiB": {
        "tasks": [
            {"id": number, "name": f"täsk {number}", "deps": [number - 1], "env": {"A": "1", "B": None}, "took": 1.5}
            for number in range(25)
        ]
    },
    "100 floats": [number / 7 for number in range(100)],
}


def encode(peer: Peer, *, document: str) -> Source:
    """Write a document; the text is read back by the standard library."""
    assert peer.encode is not None
    value = DOCUMENTS[document]
    assert json.loads(peer.encode(value, *peer.encode_arguments)) == value

    def source(operations: int) -> Batch:
        assert peer.encode is not None
        return Batch(peer.encode, tuple([argument] * operations for argument in (value, *peer.encode_arguments)))

    return source


def decode(peer: Peer, *, document: str) -> Source:
    """Read the compact text of a document."""
    value = DOCUMENTS[document]
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def source(operations: int) -> Batch:
        assert peer.decode is not None
        return Batch(peer.decode, ([text] * operations,), [value] * operations)

    return source


LANES: Final = tuple(
    Lane(what=f"{workload.__name__}, {document}", peer=peer, workload=workload, options={"document": document})
    for document in DOCUMENTS
    for workload in (encode, decode)
    for peer in ("slothstate", "orjson", "json")
)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    for verb in ("encode", "decode"):
        what = f"{verb}, five fields"
        report.at_most(f"codec: {what}, times orjson", 1.5, report.times(what, "slothstate", than="orjson"))


PARAMETERS: Final = {"lane": LANES}


def bench_codec(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
