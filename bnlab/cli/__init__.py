"""The command `bnlab`: run long experiments, fetch and check data, look at stored results."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command on the arguments of this process, and return its exit code.

    0 is success, 1 an error, 2 a wrong use, 130 and 143 an interrupted run (Ctrl-C, SIGTERM).
    """
    try:
        from bnlab.cli._app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich", "click"):
            raise
        print(
            f"bnlab: the command needs {error.name}, which is not installed; install it with "
            "`pip install 'bnlab[cli]'`.",
            file=sys.stderr,
        )
        return 1
    return run_app()
