"""The command `slothstate`, also as `python -m slothstate`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = {"click", "rich", "lupa", "yaml"}
"""The modules that the extra `cli` brings."""


def main() -> int:
    """Run the command line; returns its exit code."""
    try:
        from slothstate.cli import run_command_line

        return run_command_line()
    except KeyboardInterrupt:
        # While modules were still being imported.
        print("slothstate: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        missing = error.name.partition(".")[0]
        missing = "PyYAML" if missing == "yaml" else missing
        print(f"slothstate: the command line needs {missing}: pip install 'slothstate[cli]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
