"""`python -m bnlab` is the command `bnlab`."""

from __future__ import annotations

import sys

from bnlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
