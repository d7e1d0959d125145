"""What `State.stats` says, in one line each."""

from __future__ import annotations

import time

from slothstate.cli.formatting import duration, quantity
from slothstate.hints import Any

__all__ = ["claims_line", "keys_line", "locks_line", "watches_line"]


def keys_line(figures: dict[str, Any]) -> str:
    """Return what it says of keys."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in figures["keys_by_kind"].items())
    return f"{figures['total_keys']:,}" + (f"  ({kinds})" if kinds else "")


def locks_line(figures: dict[str, Any], dead: int) -> str:
    """Return what it says of locks, of which so many have a dead owner."""
    return f"{figures['locks_held']:,} held" + (f", {dead} left by dead owners" if dead else "")


def claims_line(figures: dict[str, Any]) -> str:
    """Return what it says of claims."""
    text = f"{quantity(figures['claims_held'], 'item')} claimed"
    if figures["claims_of_dead_owners"]:
        text += f", {figures['claims_of_dead_owners']:,} left by dead owners"
    if figures["items_delayed"]:
        text += f", {figures['items_delayed']:,} delayed"
    if figures["oldest_claim"] is not None:
        text += f", the oldest for {duration(time.time() - figures['oldest_claim'])}"
    if figures["most_attempts"] > 1:
        text += f", up to {figures['most_attempts']:,} attempts"
    return text


def watches_line(figures: dict[str, Any]) -> str:
    """Return what it says of watches."""
    text = f"{figures['watches']:,} running"
    if figures["watches_of_dead_owners"]:
        text += f", {figures['watches_of_dead_owners']:,} left by dead owners"
    if figures["watches_unattended"]:
        text += f", {figures['watches_unattended']:,} with a name that nobody runs"
    return text
