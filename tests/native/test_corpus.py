"""The fuzz targets of tests/fuzz, built with AddressSanitizer and UBSan, replay every file of tests/corpus.

To search for new inputs instead (clang and its libFuzzer runtime needed; findings go into tests/corpus):

    clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -Icsrc -I"$(python csrc/build_native.py)" \\
        tests/fuzz/fuzz_reader.c csrc/base/*.c csrc/json/*.c csrc/glob/*.c -o fuzz
    ./fuzz tests/corpus/json -max_total_time=60 -max_len=4096 -timeout=2
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT, TESTS

CSRC = ROOT / "csrc"
COMPILER = shutil.which(os.environ.get("CC", "gcc"))
CORE = [source for room in ("base", "json", "glob") for source in sorted((CSRC / room).glob("*.c"))]
FLAGS = [
    *("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fno-omit-frame-pointer"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
]


def run(*command: object) -> str:
    """Run a command, fail with its output if it does, and return what it wrote to stdout."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(COMPILER is None, reason="needs gcc (or $CC) to build the fuzz targets")
@pytest.mark.parametrize(("target", "corpus"), [("reader", "json"), ("writer", "writer"), ("glob", "glob")])
def test_the_corpus_replays_clean(target: str, corpus: str, tmp_path: Path) -> None:
    """Each seed passes its target's checks without a sanitizer report or a leak."""
    generated = run(sys.executable, CSRC / "build_native.py").strip()
    program = tmp_path / target
    sources = [TESTS / "fuzz" / f"fuzz_{target}.c", TESTS / "fuzz" / "replay.c", *CORE]
    run(COMPILER, *FLAGS, f"-I{CSRC}", f"-I{generated}", *sources, "-o", program, "-lm")
    seeds = sorted((TESTS / "corpus" / corpus).iterdir())
    assert len(seeds) > 3
    assert run(program, *seeds) == f"{len(seeds)} inputs\n"
