"""Locks on SQLite: rows, owners and how to wait."""
