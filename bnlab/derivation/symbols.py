"""The letters of the derivation."""

from __future__ import annotations

import sympy as sp

m = sp.Symbol("m", integer=True, positive=True)
i, j, k = sp.symbols("i j k", integer=True, positive=True)
gamma, beta, eps, mu_B, var_B = sp.symbols("gamma beta eps mu_B var_B", real=True)
dvar_B, dmu_B, dgamma, dbeta = sp.symbols("dvar_B dmu_B dgamma dbeta", real=True)
# SymPy takes any class here, but does not annotate it, so that only its default is inferred.
x, x_hat, y, dy, dx_hat, dx = sp.symbols("x x_hat y dy dx_hat dx", cls=sp.IndexedBase)  # pyright: ignore[reportArgumentType]

# The exact check writes s for the root of var_B + eps.
s = sp.Symbol("s", positive=True)
