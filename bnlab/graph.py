r"""Batch Normalization as a computation graph: every intermediate value, and its gradient.

One feature of one mini-batch, so that each node is a number or a vector of m numbers. The graph is
a table, ``OPERATIONS``: for each node, its inputs, how to compute it, and how to pass a gradient
back to each input. Everything else (order, edges, drawings) follows from that table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bnlab import _validate

__all__ = [
    "LEAVES",
    "Gradients",
    "Graph",
    "Node",
    "Parts",
    "batch_norm_graph",
    "chain_rule",
    "decompose",
]


class _Operation(NamedTuple):
    """How one node is computed from its inputs, and how it passes a gradient back to them."""

    inputs: tuple[str, ...]
    forward: Callable[..., np.ndarray]  # eps, inputs -> value
    backward: Callable[..., tuple]  # eps, gradient, inputs -> a gradient for each input


def _spread(d: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Give each of the m values behind a mean its share, 1/m, of the gradient."""
    return np.full_like(x, d / x.size)


LEAVES = ("x", "gamma", "beta")
OPERATIONS = {
    "mu_B": _Operation(
        ("x",), lambda eps, x: x.mean(), lambda eps, d, x: (_spread(d, x),)
    ),
    "centered": _Operation(
        ("x", "mu_B"), lambda eps, x, mu: x - mu, lambda eps, d, x, mu: (d, -d.sum())
    ),
    "squared": _Operation(
        ("centered",), lambda eps, c: c**2, lambda eps, d, c: (2 * c * d,)
    ),
    "var_B": _Operation(
        ("squared",), lambda eps, s: s.mean(), lambda eps, d, s: (_spread(d, s),)
    ),
    "inv_std": _Operation(
        ("var_B",), lambda eps, v: (v + eps) ** -0.5, lambda eps, d, v: (-0.5 * d * (v + eps) ** -1.5,)
    ),
    "x_hat": _Operation(
        ("centered", "inv_std"), lambda eps, c, i: c * i, lambda eps, d, c, i: (d * i, (d * c).sum())
    ),
    "y": _Operation(
        ("x_hat", "gamma", "beta"),
        lambda eps, x_hat, gamma, beta: gamma * x_hat + beta,
        lambda eps, d, x_hat, gamma, beta: (gamma * d, (d * x_hat).sum(), d.sum()),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Node:
    r"""One node: what it computed, and the gradient of the loss with respect to it.

    Attributes
    ----------
    name : str
        As in the table of notation; ``centered`` is :math:`x - \mu_B` and ``inv_std`` is
        :math:`1 / \sqrt{\sigma_B^2 + \epsilon}`.
    inputs : tuple of str
        Names of the nodes it is computed from; empty for a leaf.
    value, gradient : numpy.ndarray
        Shape (m,) or (), the gradient of the shape of the value.
    parts : dict of str to numpy.ndarray
        The gradient's summands, by the node that sent each back; empty for ``y``.
    """

    name: str
    inputs: tuple[str, ...]
    value: np.ndarray
    gradient: np.ndarray
    parts: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Graph:
    """One forward and backward pass; ``graph["x_hat"]`` is the node of that name.

    Attributes
    ----------
    nodes : tuple of Node
        In the order of the forward pass.
    eps : float
        The constant added to the variance.
    """

    nodes: tuple[Node, ...]
    eps: float

    def __getitem__(self, name: str) -> Node:
        """Return the node of that name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r}; the nodes are {', '.join(n.name for n in self.nodes)}")


class Gradients(NamedTuple):
    """The six gradients of the paper's section 3: ``dx_hat`` and ``dx`` are vectors, the others scalars."""

    dx_hat: np.ndarray
    dvar_B: np.ndarray
    dmu_B: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray
    dbeta: np.ndarray


class Parts(NamedTuple):
    """The three parts into which :func:`decompose` splits ``dy``; they add up to it."""

    along_ones: np.ndarray
    along_x_hat: np.ndarray
    rest: np.ndarray


def batch_norm_graph(
    x: np.ndarray, dy: np.ndarray, *, gamma: float = 1.0, beta: float = 0.0, eps: float = 1e-5
) -> Graph:
    r"""Run Batch Normalization node by node, forward and backward.

    .. math::

       \frac{\partial \ell}{\partial a} = \sum_{b \,\text{computed from}\, a}
       \Big(\frac{\partial b}{\partial a}\Big)^{\!\top} \frac{\partial \ell}{\partial b}

    Parameters
    ----------
    x : numpy.ndarray
        One feature of a mini-batch, floats of shape (m,), m > 1.
    dy : numpy.ndarray
        Gradient of the loss with respect to ``y``, shape (m,).
    gamma, beta : float
        Scale and shift.
    eps : float
        Added to the variance; at least 0.

    Returns
    -------
    Graph
        Nodes ``x, gamma, beta, mu_B, centered, squared, var_B, inv_std, x_hat, y``.

    Raises
    ------
    TypeError
        If an array is not a NumPy array of floats, or a number is not one.
    ValueError
        If shapes do not match, a value is NaN or Inf, or ``x`` is constant while ``eps`` is 0.

    Notes
    -----
    Source: the transform is Algorithm 1 of Ioffe & Szegedy 2015; the sum over paths is
    reverse-mode differentiation.

    Examples
    --------
    >>> graph = batch_norm_graph(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.0]))
    >>> print(graph["x"].gradient.round(3), graph["x"].inputs, graph["centered"].inputs)
    [ 0.229 -0.344  0.115] () ('x', 'mu_B')
    >>> {name: float(part.sum().round(3)) for name, part in graph["x"].parts.items()}
    {'centered': 0.802, 'mu_B': -0.802}
    """
    x, dy = _batch("x", x), _batch("dy", dy)
    eps = _checked(x, dy, eps)
    values = {
        "x": x.astype(float),
        "gamma": np.array(_validate.number("gamma", gamma)),
        "beta": np.array(_validate.number("beta", beta)),
    }
    for name, op in OPERATIONS.items():
        values[name] = np.asarray(op.forward(eps, *(values[i] for i in op.inputs)))
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in values}
    gradients = {"y": dy.astype(float)}
    for name in reversed(OPERATIONS):
        op = OPERATIONS[name]
        sent = op.backward(eps, gradients[name], *(values[i] for i in op.inputs))
        for receiver, part in zip(op.inputs, sent, strict=True):
            parts[receiver][name] = np.asarray(part)
            # Nodes are visited in reverse order, so a gradient is complete when its node is visited.
            gradients[receiver] = gradients.get(receiver, 0.0) + np.asarray(part)
    return Graph(
        tuple(
            Node(n, OPERATIONS[n].inputs if n in OPERATIONS else (), v, np.asarray(gradients[n]), parts[n])
            for n, v in values.items()
        ),
        eps,
    )  # fmt: skip


def chain_rule(
    x: np.ndarray, dy: np.ndarray, *, gamma: float = 1.0, eps: float = 1e-5
) -> Gradients:
    r"""Evaluate the paper's six gradient formulas as they are printed.

    .. math::

       \frac{\partial \ell}{\partial \hat{x}_i} &= \frac{\partial \ell}{\partial y_i} \, \gamma \\
       \frac{\partial \ell}{\partial \sigma_B^2} &= \sum_i \frac{\partial \ell}{\partial \hat{x}_i}
          (x_i - \mu_B) \cdot \frac{-1}{2} (\sigma_B^2 + \epsilon)^{-3/2} \\
       \frac{\partial \ell}{\partial \mu_B} &= \sum_i \frac{\partial \ell}{\partial \hat{x}_i}
          \frac{-1}{\sqrt{\sigma_B^2 + \epsilon}} + \frac{\partial \ell}{\partial \sigma_B^2}
          \frac{\sum_i -2 (x_i - \mu_B)}{m} \\
       \frac{\partial \ell}{\partial x_i} &= \frac{\partial \ell}{\partial \hat{x}_i}
          \frac{1}{\sqrt{\sigma_B^2 + \epsilon}} + \frac{\partial \ell}{\partial \sigma_B^2}
          \frac{2 (x_i - \mu_B)}{m} + \frac{\partial \ell}{\partial \mu_B} \frac{1}{m} \\
       \frac{\partial \ell}{\partial \gamma} &= \sum_i \frac{\partial \ell}{\partial y_i} \hat{x}_i,
       \qquad \frac{\partial \ell}{\partial \beta} = \sum_i \frac{\partial \ell}{\partial y_i}

    Parameters
    ----------
    x, dy : numpy.ndarray
        One feature of a mini-batch and the gradient with respect to ``y``, floats of shape (m,).
    gamma, eps : float
        Scale, and what is added to the variance.

    Returns
    -------
    Gradients
        ``dx_hat`` and ``dx`` have shape (m,); ``dvar_B``, ``dmu_B``, ``dgamma`` and ``dbeta`` are scalars.

    Raises
    ------
    TypeError, ValueError
        As :func:`batch_norm_graph`.

    Notes
    -----
    Source: Ioffe & Szegedy 2015, section 3.

    Examples
    --------
    >>> gradients = chain_rule(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.0]))
    >>> print(gradients.dx.round(3), gradients.dgamma.round(3), gradients.dbeta)
    [ 0.229 -0.344  0.115] -1.069 1.0
    """
    x, dy = _batch("x", x), _batch("dy", dy)
    eps = _checked(x, dy, eps)
    gamma, m = _validate.number("gamma", gamma), x.size
    centered = x - x.mean()
    var_B = (centered**2).mean()
    x_hat = centered / np.sqrt(var_B + eps)

    dx_hat = dy * gamma
    dvar_B = (dx_hat * centered * -0.5 * (var_B + eps) ** -1.5).sum()
    dmu_B = (dx_hat * -1 / np.sqrt(var_B + eps)).sum() + dvar_B * (-2 * centered).sum() / m
    dx = dx_hat / np.sqrt(var_B + eps) + dvar_B * 2 * centered / m + dmu_B / m
    return Gradients(dx_hat, dvar_B, dmu_B, dx, (dy * x_hat).sum(), dy.sum())


def decompose(dy: np.ndarray, x_hat: np.ndarray) -> Parts:
    r"""Split an incoming gradient into the two parts that normalization removes, and the rest.

    .. math::

       dy = \underbrace{\Big(\frac{1}{m} \sum_j dy_j\Big) \mathbf{1}}_{\text{moves the mean}}
          + \underbrace{\Big(\frac{1}{m} \sum_j dy_j \hat{x}_j\Big) \hat{x}}_{\text{changes the scale}}
          + \text{rest}, \qquad
       dx = \frac{\gamma}{\sqrt{\sigma_B^2 + \epsilon}} \, \text{rest}

    With :math:`\epsilon = 0`, :math:`\mathbf{1}` and :math:`\hat{x}` are orthogonal and both of
    squared length m, so these are orthogonal projections. With :math:`\epsilon > 0`,
    :math:`\hat{x}` is a little shorter and a little of its direction stays in the rest.

    Parameters
    ----------
    dy, x_hat : numpy.ndarray
        Incoming gradient and normalized values, floats of shape (m,).

    Returns
    -------
    Parts
        ``along_ones``, ``along_x_hat`` and ``rest``, each of shape (m,).

    Raises
    ------
    TypeError
        If an argument is not a NumPy array of floats.
    ValueError
        If the shapes differ, or a value is NaN or Inf.

    Notes
    -----
    Source: the one-line form of the gradients in Ioffe & Szegedy 2015, section 3.

    Examples
    --------
    >>> parts = decompose(np.array([1.0, 0.0]), np.array([-1.0, 1.0]))
    >>> print(parts.along_ones, parts.along_x_hat, parts.rest)  # m = 2: nothing is left
    [0.5 0.5] [ 0.5 -0.5] [0. 0.]
    """
    dy, x_hat = _batch("dy", dy), _batch("x_hat", x_hat)
    _same_length("x_hat", x_hat, "dy", dy)
    along_ones = np.full_like(dy, dy.mean())
    along_x_hat = (dy * x_hat).mean() * x_hat
    return Parts(along_ones, along_x_hat, dy - along_ones - along_x_hat)


def _batch(name: str, value: object) -> np.ndarray:
    """Return the values of one feature if they are two finite floats or more, else raise."""
    array = _validate.float_array(name, value)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(
            f"{name} has shape {array.shape}; expected (m,) with m of at least 2, one feature of a "
            f"mini-batch. Pass one column: {name}[:, 0]."
        )
    _validate.finite(name, array)
    return array


def _same_length(name: str, value: np.ndarray, other: str, against: np.ndarray) -> None:
    if value.shape != against.shape:
        raise ValueError(
            f"{name} has shape {value.shape} and {other} {against.shape}; expected one shape, (m,). "
            f"Pass the values of one mini-batch."
        )


def _checked(x: np.ndarray, dy: np.ndarray, eps: object) -> float:
    """Return eps if x and dy fit each other, and x can be divided by its standard deviation, else raise."""
    _same_length("dy", dy, "x", x)
    eps = _validate.number("eps", eps, low=0)
    if eps == 0 and np.ptp(x) == 0:
        raise ValueError(
            f"x is constant ({float(x[0]):g}) and eps is 0, so the result would be 0/0; expected a "
            f"positive variance or eps. Pass eps=1e-5."
        )
    return eps
