"""Exercise checkers: each takes the reader's function and returns a verdict that prints as one sentence."""

from bnlab.checks._verdict import Verdict

__all__ = ["Verdict"]
