"""A second engine for tests: see `engine`."""

from helpers.model.engine import ModelEngine
from helpers.model.memory import Memory

__all__ = ["Memory", "ModelEngine"]
