"""The command `slothstate`, also as `python -m slothstate`."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]

_EXTRA = {"click": "click", "rich": "rich", "lupa": "lupa", "yaml": "PyYAML"}
"""The modules that the extra `cli` brings, and the packages that have them."""


def main() -> int:
    """Run the command line; returns its exit code."""
    _open_missing_streams()
    # What was imported stays to the end: looking through it for garbage, on the way out as well, takes a tenth of the
    # time of a short command.
    gc.freeze()
    try:
        from slothstate.cli import run_command_line

        return run_command_line()
    except KeyboardInterrupt:
        # While modules were still being imported.
        print("slothstate: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        missing = _EXTRA.get((error.name or "").partition(".")[0])
        if missing is None:
            raise
        print(f"slothstate: the command line needs {missing}: pip install 'slothstate[cli]'", file=sys.stderr)
        return 2


def _open_missing_streams() -> None:
    """Put something in the place of the standard streams that were closed (`>&-`): whoever uses it gets an error.

    Left free, their numbers would be given to files that are opened next, and a stray `print` of a library or of a
    child process would go into them. Opened the wrong way round, as gnulib's stdopen does it: nothing can be read from
    this stdin, nothing be written to this stdout.
    """
    for name, flags, mode in (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_RDONLY, "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


if __name__ == "__main__":
    sys.exit(main())
