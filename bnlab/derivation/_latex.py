"""SymPy expressions as LaTeX, in the paper's symbols and order."""

from __future__ import annotations

import sympy as sp
from sympy.printing.latex import LatexPrinter

_SYMBOLS = {
    "mu_B": r"\mu_{\mathcal{B}}", "var_B": r"\sigma^{2}_{\mathcal{B}}", "eps": r"\epsilon",
    "x_hat": r"\widehat{x}", "dvar_B": r"\sigma^{2}_{\mathcal{B}}", "dmu_B": r"\mu_{\mathcal{B}}",
    "dgamma": r"\gamma", "dbeta": r"\beta", "dx": "x", "dy": "y", "dx_hat": r"\widehat{x}",
}  # fmt: skip

# A term of a sum is placed by the first of these letters that it holds.
_ORDER = ("dy", "dx_hat", "x_hat", "x", "y", "var_B", "mu_B", "dmu_B", "m", "beta", "eps")


class _Printer(LatexPrinter):
    """SymPy's printer with the paper's names and an order of terms that reads like the paper."""

    def _named(self, name: str, index: str = "") -> str:
        letter = _SYMBOLS.get(name, name) + index
        gradient = name.startswith("d")
        # SymPy splits a long numerator off its fraction, and counts words to see whether it is long:
        # the spaces keep this fraction from standing inside another one.
        return rf"\frac{{ \partial \ell }}{{ \partial {letter} }}" if gradient else letter

    def _print_Symbol(self, expr, style="plain"):
        return self._named(expr.name) if expr.name in _SYMBOLS else super()._print_Symbol(expr)

    def _print_Indexed(self, expr):
        return self._named(expr.base.label.name, f"_{{{self._print(expr.indices[0])}}}")

    def _as_ordered_terms(self, expr, order=None):
        def rank(term):
            names = {symbol.name for symbol in term.free_symbols}
            first = min((a for a, name in enumerate(_ORDER) if name in names), default=-1)
            return term.could_extract_minus_sign(), first, len(str(term))

        return sorted(super()._as_ordered_terms(expr, order), key=rank)


def latex(expression: sp.Expr) -> str:
    """Return LaTeX in the paper's symbols."""
    return _Printer({"long_frac_ratio": 1}).doprint(expression)
