"""The tiers of tests, by the modules that belong to each."""

from __future__ import annotations

from typing import Final

__all__ = ["GRIDS", "LONGEST", "SAMPLE", "SAMPLE_OF_GRID", "TIERS", "TOO_LONG"]

QUICK: Final = (
    *(
        "asyncio",
        "audit",
        "backup",
        "cache_table",
        "claims",
        "cli_batch",
        "cli_documented",
        "codec",
        "counters",
        "doctests",
    ),
    *("entries", "errors", "fork", "identity", "kernel_locks", "keys", "lending", "lists", "lock", "lock_arguments"),
    *("lua_binding", "lua_scopes", "lua_verbs", "mapping", "operations", "package", "schema", "state_class", "sweep"),
    *("threads", "transactions", "wait", "workflow"),
)
"""The modules of tests that are the quick tier: something of everything, in less than a minute. `pytest -m quick`."""

NATIVE: Final = (
    *(
        "cache_table",
        "codec",
        "codec_containers",
        "corpus",
        "frames",
        "lending",
        "lua_binding",
        "lua_codec",
        "lua_scopes",
    ),
    *("lua_verbs", "numbers", "operations", "patterns", "read_cache", "read_cache_life", "walindex"),
)
"""The modules of tests that lead through all of the C layer: `pytest -m native`, for sanitizers and for coverage."""

TOO_LONG: Final = (
    "test_accepts_and_refuses_what_the_standard_library_does",
    "test_a_verb_can_be_called_from_a_hook_and_a_finalizer",
    "test_checks_as_it_decodes",
    "test_documents_agree_with_the_standard_library",
)
"""Tests of the modules of the quick tier that do not belong to it: each takes seconds."""

LONGEST: Final = (
    "test_every_topic_runs_and_the_page_and_the_chart_are_written",
    "test_each_planted_bug_is_caught",
    "test_watches_under_a_nemesis",
    "test_no_read_is_older_than_the_last_acknowledged_write",
    "test_whatever_is_claimed_in_whatever_order",
    "test_kill_during_creation",
    "test_dropped_state_is_collected",
    "test_whatever_is_done_in_whatever_order",
    "test_hot_histories_are_linearizable",
    "test_hot_histories_on_postgresql_are_linearizable",
)
"""Tests that are begun before all others: a worker that came to one at last would keep the run from its end."""

SAMPLE: Final = 12
"""One of so many tests on PostgreSQL belongs to the quick tier: each takes some hundredths of a second more."""

GRIDS: Final = frozenset(
    ("fields", "list_edits", "lock_arguments", "one_step", "snapshots", "state", "state_class", "values")
)
"""The modules that are grids of verbs and arguments."""

SAMPLE_OF_GRID: Final = 8
"""One of so many cases of these is tried on PostgreSQL, the others in the long tier."""

TIERS: Final = {"quick": QUICK, "native": NATIVE}
