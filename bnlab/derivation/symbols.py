"""The letters of the derivation."""

from __future__ import annotations

import sympy as sp

m = sp.Symbol("m", integer=True, positive=True)
i, j, k = sp.symbols("i j k", integer=True, positive=True)
gamma, beta, eps, mu_B, var_B = sp.symbols("gamma beta eps mu_B var_B", real=True)
dvar_B, dmu_B, dgamma, dbeta = sp.symbols("dvar_B dmu_B dgamma dbeta", real=True)
x, x_hat, y, dy, dx_hat, dx = map(sp.IndexedBase, ("x", "x_hat", "y", "dy", "dx_hat", "dx"))

# Stands for the root of var_B + eps in the exact check.
s = sp.Symbol("s", positive=True)
