r"""The mathematics of Batch Normalization, line by line, where each line is checked by machine.

A :class:`Step` is one equation, for any m, written once in SymPy. What a notebook shows as math and
what the checks test is the same object. There are two checks, and neither believes the formulas:

- *Exact.* For a given m, each symbol is replaced by its meaning, obtained in another way than the
  lines do it: the mean as the point of least squared distance, the variance from the differences of
  pairs, gradients by differentiating the whole program. With :math:`s` a letter that stands for
  :math:`\sqrt{\sigma_B^2 + \epsilon}`, both sides are polynomials in the remaining letters and in
  :math:`1/s`, and two such polynomials are equal exactly if all their coefficients are.
- *Numerical.* For any m, with random numbers of 30 digits, and gradients by mpmath's numerical
  differentiation of eight lines of plain Python.

The loss enters only through :math:`\partial \ell / \partial y_i`, so it may be taken as linear:
:math:`\ell = \sum_i \frac{\partial \ell}{\partial y_i} y_i` with those derivatives held fixed.

Needs SymPy, which comes with ``pip install bnlab[book]``.
"""

from __future__ import annotations

try:
    import sympy as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "bnlab.derivation needs SymPy, which is not installed; install it with `pip install sympy`, "
        "or bnlab with its book extra: `pip install 'bnlab[book]'`."
    ) from error

from bnlab.derivation import symbols
from bnlab.derivation._check import Report, check
from bnlab.derivation._lines import (
    ALGORITHM,
    CHAIN_RULE,
    CONSEQUENCES,
    LINES,
    ONE_LINE,
    PROPERTIES,
    find,
)
from bnlab.derivation._step import Lines, Step

__all__ = [
    "ALGORITHM",
    "CHAIN_RULE",
    "CONSEQUENCES",
    "LINES",
    "Lines",
    "ONE_LINE",
    "PROPERTIES",
    "Report",
    "Step",
    "check",
    "find",
    "symbols",
]
