"""Figures of a store as metrics: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

from slothstate.hints import Any

__all__ = ["exposition"]


def exposition(figures: dict[str, Any], free: int | None, dead: int, commits: int) -> str:
    """Return the metrics in the text format; every sample carries the store's path as a label."""
    store = {"path": str(figures["path"])}
    metrics: list[tuple[str, str, str, list[tuple[dict[str, str], int]]]] = [
        ("info", "gauge", "Versions, as labels.", [(_versions(figures), 1)]),
        ("keys", "gauge", "Live keys by kind.", [({"kind": k}, n) for k, n in figures["keys_by_kind"].items()]),
        ("expired_keys", "gauge", "Keys that are expired and not swept yet.", [({}, figures["expired_pending"])]),
        ("database_bytes", "gauge", "Size of the database.", [({}, figures["total_size"])]),
        ("free_bytes", "gauge", "Part of the database that is unused.", _known(free)),
        ("wal_bytes", "gauge", "Size of the write-ahead log.", _known(figures["wal_size"])),
        (
            "locks",
            "gauge",
            "Locks by whether their owner lives.",
            [({"owner": "alive"}, figures["locks_held"]), ({"owner": "dead"}, dead)],
        ),
        (
            "claims",
            "gauge",
            "Claimed items by whether their owner lives; delayed ones have none.",
            [
                ({"owner": "alive"}, figures["claims_held"]),
                ({"owner": "dead"}, figures["claims_of_dead_owners"]),
                ({"owner": "none"}, figures["items_delayed"]),
            ],
        ),
        (
            "oldest_claim_timestamp_seconds",
            "gauge",
            "Since when the oldest claim is held.",
            [] if figures["oldest_claim"] is None else [({}, int(figures["oldest_claim"]))],
        ),
        ("claim_attempts_max", "gauge", "The most attempts on a claimed item.", [({}, figures["most_attempts"])]),
        (
            "watches",
            "gauge",
            "Watches by whether their owner lives; one with a name that nobody runs has none.",
            [
                ({"owner": "alive"}, figures["watches"]),
                ({"owner": "dead"}, figures["watches_of_dead_owners"]),
                ({"owner": "none"}, figures["watches_unattended"]),
            ],
        ),
        (
            "commits_total",
            "counter",
            "Commits since a process has the store open.",
            [({}, commits)] if commits >= 0 else [],
        ),
    ]
    lines = []
    for name, kind, text, samples in metrics:
        lines += [f"# HELP slothstate_{name} {text}", f"# TYPE slothstate_{name} {kind}"]
        lines += [f"slothstate_{name}{_labels(store | labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _versions(figures: dict[str, Any]) -> dict[str, str]:
    versions = {"schema": str(figures["schema_version"])}
    of_engine = {name: figures.get(f"{name}_version") for name in ("sqlite", "server")}
    return versions | {name: str(version) for name, version in of_engine.items() if version is not None}


def _known(figure: int | None) -> list[tuple[dict[str, str], int]]:
    """Return the sample of a figure that not every engine has."""
    return [] if figure is None else [({}, figure)]


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
