"""The computation graph: finite differences, torch, the reference and the paper's formulas agree."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnlab import graph
from bnlab.graph import OPERATIONS, batch_norm_graph, chain_rule, decompose
from bnlab.reference import batch_norm_backward, batch_norm_forward

close = np.testing.assert_allclose


def case(m=5, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    return {
        "x": 3 + spread * rng.normal(size=m),
        "dy": rng.normal(size=m) + 0.3,
        "gamma": 1.7,
        "beta": -0.4,
        "eps": 0.1,
    }


def loss_from(result, name, value, dy):
    """Recompute the loss dy . y with one node's value replaced, everything after it following."""
    values = {n.name: n.value for n in result.nodes} | {name: value}
    for later in OPERATIONS:
        if later != name:
            op = OPERATIONS[later]
            values[later] = op.forward(result.eps, *(values[i] for i in op.inputs))
    return float(dy @ values["y"])


def numeric(result, name, dy, step=1e-6):
    value = result[name].value
    slope = np.empty(value.size)
    for i in range(value.size):
        nudge = np.zeros(value.size)
        nudge[i] = step
        nudge = nudge.reshape(value.shape)
        up, down = (loss_from(result, name, value + s * nudge, dy) for s in (1, -1))
        slope[i] = (up - down) / (2 * step)
    return slope.reshape(value.shape)


def disagreement():
    """Return the nodes whose gradient is not the slope of the loss."""
    inputs = case()
    result = batch_norm_graph(**inputs)
    return {
        node.name
        for node in result.nodes
        if not np.allclose(
            node.gradient, numeric(result, node.name, inputs["dy"]), rtol=1e-6, atol=1e-7
        )
    }


def test_every_gradient_is_the_slope_of_the_loss():
    assert disagreement() == set()


@pytest.mark.parametrize(
    ("name", "wrong", "notices"),
    [
        ("mu_B", lambda eps, d, x: (np.full_like(x, d),), "x"),  # 1/m is missing
        ("mu_B", lambda eps, d, x: (np.zeros_like(x),), "x"),  # the mean as a constant
        ("centered", lambda eps, d, x, mu: (d, d.sum()), "mu_B"),  # sign
        ("squared", lambda eps, d, c: (c * d,), "centered"),  # the 2 is missing
        ("var_B", lambda eps, d, s: (np.full_like(s, d),), "squared"),  # 1/m is missing
        ("var_B", lambda eps, d, s: (np.zeros_like(s),), "squared"),  # the variance as a constant
        ("inv_std", lambda eps, d, v: (0.5 * d * (v + eps) ** -1.5,), "var_B"),  # sign
        ("inv_std", lambda eps, d, v: (-0.5 * d * v**-1.5,), "var_B"),  # eps forgotten
        ("x_hat", lambda eps, d, c, i: (d * i, np.zeros(())), "inv_std"),  # the std as a constant
        ("y", lambda eps, d, h, gamma, b: (d, (d * h).sum(), d.sum()), "x_hat"),  # gamma forgotten
        ("y", lambda eps, d, h, gamma, b: (gamma * d, d.sum(), d.sum()), "gamma"),
        ("y", lambda eps, d, h, gamma, b: (gamma * d, (d * h).sum(), d.mean()), "beta"),
    ],
)
def test_a_wrong_formula_is_noticed_where_it_is(monkeypatch, name, wrong, notices):
    monkeypatch.setitem(OPERATIONS, name, OPERATIONS[name]._replace(backward=wrong))
    assert notices in disagreement()


def test_every_gradient_is_torchs():
    inputs = case()
    x = torch.tensor(inputs["x"], requires_grad=True)
    gamma, beta = (
        torch.tensor(inputs[k], dtype=torch.float64, requires_grad=True) for k in ("gamma", "beta")
    )
    tensors = {"x": x, "gamma": gamma, "beta": beta, "mu_B": x.mean()}
    tensors["centered"] = x - tensors["mu_B"]
    tensors["squared"] = tensors["centered"] ** 2
    tensors["var_B"] = tensors["squared"].mean()
    tensors["inv_std"] = (tensors["var_B"] + inputs["eps"]).rsqrt()
    tensors["x_hat"] = tensors["centered"] * tensors["inv_std"]
    tensors["y"] = gamma * tensors["x_hat"] + beta
    for tensor in tensors.values():
        tensor.retain_grad()
    tensors["y"].backward(torch.tensor(inputs["dy"]))
    result = batch_norm_graph(**inputs)
    assert {n.name for n in result.nodes} == set(tensors)
    for node in result.nodes:
        close(node.value, tensors[node.name].detach(), rtol=1e-12, err_msg=node.name)
        close(node.gradient, tensors[node.name].grad, rtol=1e-9, atol=1e-12, err_msg=node.name)


def reference(inputs):
    y, cache = batch_norm_forward(
        inputs["x"][:, None],
        np.array([inputs["gamma"]]),
        np.array([inputs["beta"]]),
        eps=inputs["eps"],
    )
    return y[:, 0], cache, batch_norm_backward(inputs["dy"][:, None], cache)


@given(st.integers(2, 40), st.integers(0, 10_000), st.floats(0.01, 100))
def test_graph_formulas_and_reference_agree(m, seed, spread):
    inputs = case(m, seed, spread)
    result = batch_norm_graph(**inputs)
    y, cache, (dx, dgamma, dbeta) = reference(inputs)
    six = chain_rule(inputs["x"], inputs["dy"], gamma=inputs["gamma"], eps=inputs["eps"])
    scale = np.abs(inputs["dy"]).sum() * (1 + abs(float(cache.inv_std[0]))) ** 2
    near = {"rtol": 1e-8, "atol": 1e-10 * scale}
    close(result["y"].value, y, **near)
    for name, value in (("x", dx[:, 0]), ("gamma", dgamma[0]), ("beta", dbeta[0])):
        close(result[name].gradient, value, **near)
    for field, name in (("dx_hat", "x_hat"), ("dvar_B", "var_B"), ("dmu_B", "mu_B"), ("dx", "x")):
        close(getattr(six, field), result[name].gradient, err_msg=field, **near)
    close([six.dgamma, six.dbeta], [dgamma[0], dbeta[0]], **near)
    parts = decompose(inputs["dy"], cache.x_hat[:, 0])
    close(sum(parts), inputs["dy"], **near)
    close(inputs["gamma"] * cache.inv_std[0] * parts.rest, dx[:, 0], **near)


def test_parts_add_up_and_name_their_senders():
    result = batch_norm_graph(**case())
    for node in result.nodes:
        users = {n.name for n in result.nodes if node.name in n.inputs}
        assert set(node.parts) == users
        if users:
            close(sum(node.parts.values()), node.gradient, atol=1e-14)
    assert set(result["centered"].parts) == {"squared", "x_hat"}


def test_the_pull_of_the_variance_on_the_mean_is_zero():
    """The paper's second term of dmu_B holds the sum of x - mu_B."""
    inputs = case()
    result = batch_norm_graph(**inputs)
    s = np.sqrt(result["var_B"].value + inputs["eps"])
    close(result["mu_B"].gradient, -(inputs["dy"] * inputs["gamma"]).sum() / s, rtol=1e-12)


def test_without_eps_the_three_parts_are_orthogonal():
    inputs = case() | {"eps": 0.0}
    x_hat = batch_norm_graph(**inputs)["x_hat"].value
    ones, scale, rest = decompose(inputs["dy"], x_hat)
    close([ones @ scale, ones @ rest, scale @ rest, rest.sum(), rest @ x_hat], 0, atol=1e-13)
    again = decompose(rest, x_hat)
    close(again.rest, rest, atol=1e-13)


def test_with_eps_a_share_of_the_scale_direction_stays():
    inputs = case()
    result = batch_norm_graph(**inputs)
    x_hat, var_B = result["x_hat"].value, result["var_B"].value
    rest = decompose(inputs["dy"], x_hat).rest
    share = inputs["eps"] / (var_B + inputs["eps"])
    close(rest @ x_hat, share * (inputs["dy"] @ x_hat), rtol=1e-10)
    close(rest.sum(), 0, atol=1e-13)


def test_two_values_leave_nothing_and_three_leave_one_direction():
    close(batch_norm_graph(**case(m=2) | {"eps": 0.0})["x"].gradient, 0, atol=1e-14)
    inputs = case(m=3) | {"eps": 0.0}
    x_hat = batch_norm_graph(**inputs)["x_hat"].value
    rests = [decompose(dy, x_hat).rest for dy in np.random.default_rng(1).normal(size=(4, 3))]
    assert np.linalg.matrix_rank(np.array(rests), tol=1e-10) == 1


def test_inputs_are_not_written_and_nodes_cannot_be_replaced():
    inputs = case()
    kept = {k: np.copy(v) for k, v in inputs.items()}
    result = batch_norm_graph(**inputs)
    chain_rule(inputs["x"], inputs["dy"])
    decompose(inputs["dy"], inputs["x"])
    for name, value in kept.items():
        close(inputs[name], value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.eps = 1.0
    result["y"].value[0] = 99.0
    assert inputs["x"][0] == kept["x"][0]


def test_float32_works():
    x, dy = (case()[k].astype(np.float32) for k in ("x", "dy"))
    close(batch_norm_graph(x, dy)["x"].gradient, chain_rule(x, dy).dx, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [batch_norm_graph, chain_rule])
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": [1.0, 2.0]}, TypeError, r"x is a list.*NumPy"),
        ({"x": np.arange(5)}, TypeError, r"x has dtype int64.*astype"),
        ({"x": np.ones((5, 1))}, ValueError, r"x has shape \(5, 1\).*Pass one column"),
        ({"x": np.ones(1), "dy": np.ones(1)}, ValueError, r"at least 2"),
        ({"x": np.array([1.0, np.nan, 2, 3, 4])}, ValueError, r"NaN or Inf"),
        ({"dy": np.ones(4)}, ValueError, r"dy has shape \(4,\) and x \(5,\).*one mini-batch"),
        ({"x": np.full(5, 7.0), "eps": 0.0}, ValueError, r"constant \(7\).*eps=1e-5"),
        ({"eps": -1.0}, ValueError, r"eps is -1"),
        ({"gamma": "1"}, TypeError, r"gamma is '1'"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(function, change, error, match):
    inputs = case() | change
    if function is chain_rule:
        del inputs["beta"]
    x, dy = inputs.pop("x"), inputs.pop("dy")
    with pytest.raises(error, match=match):
        function(x, dy, **inputs)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"x_hat has shape \(3,\) and dy \(2,\)"):
        decompose(np.ones(2), np.ones(3))


def test_an_unknown_node_is_named():
    with pytest.raises(KeyError, match=r"no node 'sigma'; the nodes are x, gamma"):
        batch_norm_graph(**case())["sigma"]


def test_the_table_is_in_forward_order():
    known = set(graph.LEAVES)
    for name, op in OPERATIONS.items():
        assert set(op.inputs) <= known
        known.add(name)
