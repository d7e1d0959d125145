"""Small programs on the verbs of a `State`, for what is asked for again and again; more are in docs/recipes.md."""

from slothstate.recipes.memoize import memoize
from slothstate.recipes.once import once
from slothstate.recipes.rate_limit import rate_limit

__all__ = ["memoize", "once", "rate_limit"]
