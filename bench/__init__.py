"""Benches: what the verbs cost beside other stores, at equal durability, in one interleaved run.

`python -m bench` runs them all (`--quick`: in less than a minute), prints the tables and writes docs/benchmarks.md and
docs/benchmarks.svg. `pytest bench/bench_reads.py` runs one topic under pytest-benchmark. `python -m bench callgrind`
counts instructions, and `python -m bench gates` compares ours with those of bench/instructions.json.
"""
