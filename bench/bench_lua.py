"""The verbs from Lua (LuaJIT in lupa), beside lupa's own call of a Python function."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer, is_absent
from bench.report import OURS, Report
from bench.under_pytest import run_lane, skip

TOPIC: Final = "lua"

BARE: Final = "Lua: bare call of a Python function"
GET: Final = "Lua: state.get of a scalar"
SET: Final = "Lua: state.set of a scalar"
GET_TABLE: Final = "Lua: state.get of a table of five fields"
SET_TABLE: Final = "Lua: state.set of a table of five fields"

LOOP: Final = 100
"""Operations of one sample: a loop in Lua, so that entering the runtime is not what is measured."""

# Each script is given a number that rises, and runs LOOP operations; what it returns is checked.
SCRIPTS: Final = {
    BARE: "function(first) local v; for i = 1, 100 do v = bare('key:' .. i) end return v end",
    GET: "function(first) local v; for i = 1, 100 do v = state.get(keys[i]) end return v end",
    SET: "function(first) for i = 1, 100 do state.set(keys[i], first + i) end return state.get(keys[100]) end",
    GET_TABLE: "function(first) local v; for i = 1, 100 do v = state.get(tables[i]) end return v.replicas end",
    SET_TABLE: """function(first)
        local t = {app = 'frontend', version = 'v2.1.0', replicas = 0, ratio = 0.25, healthy = true}
        for i = 1, 100 do t.replicas = first + i; state.set(tables[i], t) end
        return state.get(tables[100]).replicas
    end""",
}

PREPARE: Final = """
    keys, tables = {}, {}
    for i = 1, 100 do
        keys[i], tables[i] = 'lua:' .. i, 'lua-table:' .. i
        state.set(keys[i], i)
        state.set(tables[i], {app = 'frontend', version = 'v2.1.0', replicas = i, ratio = 0.25, healthy = true})
    end
"""


def in_lua(peer: Peer, *, script: str) -> Source:
    """Run one of the scripts; one operation is one turn of its loop."""
    from slothstate import lua

    runtime = lua.new_runtime("luajit")
    lua.bind(runtime, peer.native)
    runtime.eval("function(callable) bare = callable end")(lambda key: LOOP)
    runtime.execute(PREPARE)
    function = runtime.eval(SCRIPTS[script])
    numbers = count(1)

    def source(operations: int) -> Batch:
        first = [next(numbers) * LOOP for _ in range(operations)]
        last = [number + LOOP for number in first] if script in (SET, SET_TABLE) else [LOOP] * operations
        return Batch(function, (first,), last, group=LOOP)

    return source


def missing() -> str | None:
    """Return why there is no Lua here, or None."""
    return is_absent("lupa")


LANES: Final = tuple(
    Lane(what=what, peer=OURS, workload=in_lua, options={"script": what}, limit=500, variant=variant)
    # Reads and writes in stores of their own: a write of one must not cool what the other reads.
    for what, variant in ((BARE, ""), (GET, ""), (GET_TABLE, ""), (SET, "written"), (SET_TABLE, "written"))
)


def run(report: Report) -> None:
    if reason := missing():
        report.skip("lua", reason)
        return
    report.measure(TOPIC, LANES)
    scalar, table = report.find(GET), report.find(GET_TABLE)
    assert scalar is not None
    assert table is not None
    written = f"{OURS}, written"
    report.at_most(f"{GET}, hot", 1.0, scalar.mean / 1000, " us")
    value = report.times(SET_TABLE, written, than=written, its=SET)
    report.at_most(f"{SET_TABLE}: times the set of a scalar", 1.15, value)
    report.at_most(f"{GET_TABLE}, hot", 2.5, table.mean / 1000, " us")


PARAMETERS: Final = {"lane": LANES}


def bench_lua(benchmark: Any, workers: Workers, lane: Lane) -> None:
    if reason := missing():
        skip(reason)
    run_lane(benchmark, workers, lane)
