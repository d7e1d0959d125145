"""`python -m bench`. Each worker imports this module as well, and from below only what it is to run."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from bench.program import main

    sys.exit(main())
