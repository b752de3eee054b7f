"""One line of the derivation, which can be shown and checked, and a list of lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from bnlab.derivation._latex import latex
from bnlab.derivation._meaning import DIGITS, meanings, numbers_for
from bnlab.derivation.symbols import eps, i, m, s, var_B


@dataclass(frozen=True, repr=False)
class Step:
    r"""One line of the derivation: an equation that shows as math and can be checked.

    Attributes
    ----------
    name : str
        Short name of the line.
    says : str
        What the line says, in words.
    left, right : sympy.Expr
        The two sides, for any m; sums over the batch are SymPy sums.
    reason : str
        Why it holds.
    free : tuple of sympy.Symbol
        Statistics that this line treats as variables of their own, as the chain rule does. A
        partial derivative with respect to :math:`\mu_B` is checked at any :math:`\mu_B`, not only
        at the mean, where a wrong term could vanish unseen.
    only : int, optional
        The one batch size the line is about, if it is not about all.

    Examples
    --------
    >>> from bnlab.derivation import find
    >>> line = find("mean")
    >>> print(line)
    mean: mu_B = Sum(x[j], (j, 1, m))/m
    >>> print(line.at(3))
    Eq(mu_B, x[1]/3 + x[2]/3 + x[3]/3)
    >>> line.verify(3)
    True
    >>> from dataclasses import replace
    >>> wrong = replace(line, right=-line.right)
    >>> wrong.verify(3)
    False
    """

    name: str
    says: str
    left: sp.Expr
    right: sp.Expr
    reason: str
    free: tuple[sp.Symbol, ...] = ()
    only: int | None = None

    def __repr__(self) -> str:
        return f"{self.name}: {self.left} = {self.right}"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {self.latex()}$"

    def latex(self, relation: str = "=") -> str:
        r"""Return the equation as LaTeX, in the paper's symbols.

        Parameters
        ----------
        relation : str
            What stands between the two sides.

        Returns
        -------
        str
            Without dollar signs.
        """
        return f"{latex(self.left)} {relation} {latex(self.right)}"

    def at(self, size: int) -> sp.Eq:
        r"""Return the equation for a batch of the given size, its sums written out.

        Parameters
        ----------
        size : int
            The batch size m, at least 2.

        Returns
        -------
        sympy.Eq
            Not evaluated, so it shows as an equation.
        """
        left, right = (side.subs(m, self._size(size)).doit() for side in (self.left, self.right))
        equation: Any = sp.Eq(left, right, evaluate=False)  # unevaluated, so never True or False
        return equation

    def difference(self, size: int) -> sp.Expr:
        r"""Return left minus right with every symbol replaced by its meaning, fully expanded.

        Parameters
        ----------
        size : int
            The batch size m, at least 2; up to 4 takes less than a second.

        Returns
        -------
        sympy.Expr
            Exactly 0 if and only if the line holds, for every index i. Otherwise the first
            difference found, a polynomial in the letters of the batch and in 1/s.
        """
        equation = self.at(size)
        # SymPy annotates the two sides as Basic, which has no minus.
        left_minus_right = equation.lhs - equation.rhs  # pyright: ignore[reportOperatorIssue]
        meaning = meanings(size, self.free)
        for position in range(1, size + 1) if equation.has(i) else (1,):
            gap = left_minus_right.subs(i, position)
            # While var_B is still one letter, var_B + eps becomes s^2 and its root becomes s.
            gap = sp.expand(gap.subs(eps, s**2 - var_B).xreplace(meaning))
            if gap != 0:
                return gap
        return sp.S.Zero

    def verify(self, size: int) -> bool:
        r"""Return whether the line holds exactly for a batch of the given size.

        Parameters
        ----------
        size : int
            The batch size m, at least 2.

        Returns
        -------
        bool
            True if :meth:`difference` is 0: an identity in all letters, not a coincidence at some
            numbers.
        """
        return self.difference(size) == 0

    def error(self, size: int, *, seed: int = 0) -> float:
        r"""Return the relative difference of the two sides at random numbers.

        Parameters
        ----------
        size : int
            The batch size m, at least 2; hundreds are fine.
        seed : int
            Seed of the batch, the incoming gradient, gamma, beta and eps.

        Returns
        -------
        float
            The largest over i; about 1e-25 where the line holds, which is the precision of the
            numerical derivatives.
        """
        with mpmath.workdps(DIGITS):
            numbers = numbers_for(self._size(size), self.free, seed)
            sides = [sp.lambdify([m, i, *numbers], e, "mpmath") for e in (self.left, self.right)]
            left, right = (
                [side(size, position, *numbers.values()) for position in range(1, size + 1)]
                for side in sides
            )
            gap = max(abs(a - b) for a, b in zip(left, right, strict=True))
            return float(gap / max(map(abs, left + right)))

    def _size(self, size: int) -> int:
        """Return the batch size if the line can be written for it, else raise."""
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(
                f"size is {size!r}; expected a whole number, the batch size m. Pass an int."
            )
        if size < 2:
            raise ValueError(
                f"size is {size}; expected at least 2, because one value has no variance. "
                f"Choose a larger batch."
            )
        if self.only not in (None, size):
            raise ValueError(
                f"size is {size}, but the line {self.name!r} is about m = {self.only} alone. "
                f"Pass {self.only}."
            )
        return int(size)


class Lines(tuple[Step, ...]):
    r"""Several lines, shown one below the other.

    Examples
    --------
    >>> from bnlab.derivation import find
    >>> Lines([find("mean"), find("dbeta")])
    mean: mu_B = Sum(x[j], (j, 1, m))/m
    dbeta: dbeta = Sum(dy[j], (j, 1, m))
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_latex_(self) -> str:
        rows = r" \\[1ex] ".join(line.latex("&=") for line in self)
        return rf"$\displaystyle \begin{{aligned}} {rows} \end{{aligned}}$"
