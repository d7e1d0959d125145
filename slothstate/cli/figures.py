"""What is claimed of lists, and who watches, in one line each."""

from __future__ import annotations

import time
from typing import Any

from slothstate.quantities import duration, quantity

__all__ = ["claims_line", "watches_line"]


def claims_line(figures: dict[str, Any]) -> str:
    """Return what `State.stats` says of claims."""
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
    """Return what `State.stats` says of watches."""
    text = f"{figures['watches']:,} running"
    if figures["watches_of_dead_owners"]:
        text += f", {figures['watches_of_dead_owners']:,} left by dead owners"
    if figures["watches_unattended"]:
        text += f", {figures['watches_unattended']:,} with a name that nobody runs"
    return text
