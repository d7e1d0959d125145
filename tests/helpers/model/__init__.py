"""A second engine for tests: see `engine`."""

from helpers.model.engine import ModelEngine

__all__ = ["ModelEngine"]
