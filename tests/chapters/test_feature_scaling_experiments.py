"""What Chapter 1 says its experiments show, and the parts they are made of."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from bnlab import data, scaling
from bnlab.chapters.feature_scaling import experiments as feature_scaling
from bnlab.chapters.feature_scaling import float32
from bnlab.experiments import Provenance, load, save
from bnlab.stats import t_interval


@pytest.fixture(scope="module")
def table():
    return data.mixed_scale_table()


@pytest.fixture(scope="module")
def wine():
    return data.wine()


@pytest.fixture(scope="module")
def cancer():
    return data.breast_cancer()


# --- distances -----------------------------------------------------------------------------------------------


def test_shares_are_tiny_then_uneven_then_equal(table):
    none, min_max, standard = feature_scaling.distance_shares(table).shares
    assert none[0] < 1e-9
    assert 0.8 < min_max[0] < 0.9
    np.testing.assert_allclose(standard, 0.5)


def test_neighbors_agree_about_kids_only_when_scaled(table):
    found = feature_scaling.nearest_neighbors(table)
    assert found.changed[0] == 0
    assert found.first_differs[0] == found.changed[1] == found.changed[2] > 0.4
    assert found.first_differs[1:].tolist() == [0, 0]
    for i, z in enumerate(found.values):
        distance = np.linalg.norm(z - z[found.query], axis=1)
        distance[found.query] = np.inf
        assert distance[found.nearest[i]] == pytest.approx(distance.min())
    kids = table.x[:, 0]
    assert kids[found.nearest[0]] != kids[found.query]
    assert kids[found.nearest[2]] == kids[found.query]
    assert feature_scaling.nearest_neighbors(table, query=3).query == 3


def test_irrelevant_features_cost_more_the_more_they_are():
    found = feature_scaling.irrelevant_features()
    none, _, standard = np.moveaxis(found.accuracy, 2, 0)
    cost = [t_interval(none[:, j] - standard[:, j]) for j in range(len(found.coins))]
    assert (np.diff([c.mean for c in cost]) > 0).all()
    assert cost[0].low < 0 < cost[0].high
    assert cost[2].low > 0.1
    assert cost[-1].low > 0.25
    assert (none > 0.95).all()


def test_without_coins_the_table_is_the_plain_one():
    table = data.mixed_scale_table(seed=3)
    dear = replace(table, y=(table.x[:, 1] > 15_000).astype(int))
    plain = feature_scaling.neighbor_accuracy(dear, seeds=(3,)).accuracy
    found = feature_scaling.irrelevant_features(coins=(0, 2), seeds=(3,)).accuracy
    np.testing.assert_array_equal(found[0, 0], plain[0])


def test_ties_are_not_called_changes():
    square = np.array(
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    )  # two nearest for each corner
    corners = replace(data.mixed_scale_table(4), x=square)
    assert feature_scaling.nearest_neighbors(corners).changed.tolist() == [0, 0, 0]
    assert feature_scaling.nearest_neighbors(corners).first_differs.tolist() == [0.5, 0.5, 0.5]


def test_one_of_two_nearest_is_no_change():
    x = np.array(
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [10.0, 0.5]]
    )  # scaled, row 0 keeps one of its two
    found = feature_scaling.nearest_neighbors(replace(data.mixed_scale_table(4), x=x), query=0)
    assert found.nearest.tolist() == [1, 2, 2]
    assert found.changed.tolist() == [0, 0, 0]


@pytest.mark.parametrize("k", [1, 5, 8])
def test_the_vote_is_scikit_learns(wine, k):
    train, test = wine.split(test=50, seed=1)
    fit = scaling.standardize(train.x)
    theirs = (
        KNeighborsClassifier(k, algorithm="brute")
        .fit(fit.values, train.y)
        .predict(fit.apply(test.x))
    )
    ours = feature_scaling._predict(fit.values, train.y, fit.apply(test.x), k)
    np.testing.assert_array_equal(ours, theirs)


def gain(result, name, over="none"):
    at = result.scalings.index
    return t_interval(result.accuracy[:, at(name)] - result.accuracy[:, at(over)])


def test_scaling_helps_neighbors_on_three_tables_and_whitening_can_hurt(wine, cancer):
    ours = feature_scaling.neighbor_accuracy()
    assert ours.fresh
    assert ours.accuracy.shape == (20, 3)
    assert gain(ours, "standardize").low > 0.25
    names = ("none", "min-max [0, 1]", "standardize", "whiten")
    real = [feature_scaling.neighbor_accuracy(d, scalings=names) for d in (wine, cancer)]
    for result, least in zip(real, (0.2, 0.01), strict=True):
        assert not result.fresh
        assert gain(result, "standardize").low > least
        assert gain(result, "min-max [0, 1]").low > least
        assert gain(result, "whiten", over="standardize").high < 0
    assert gain(real[1], "whiten").high < -0.1


def test_scaling_costs_nothing_measurable_when_the_car_decides(table):
    decided = replace(table, y=(table.x[:, 1] > 15_000).astype(int))
    cost = gain(feature_scaling.neighbor_accuracy(decided), "standardize")
    assert cost.low < 0 < cost.high
    assert abs(cost.mean) < 0.02


def test_the_scaling_sees_training_rows_only(wine, monkeypatch):
    seen = []
    monkeypatch.setitem(
        feature_scaling.SCALINGS, "spy", lambda x: seen.append(len(x)) or (lambda rows: rows)
    )
    feature_scaling.neighbor_accuracy(wine, seeds=(0,), scalings=("spy",))
    assert seen == [178 - 53]
    feature_scaling.leakage(wine, train_rows=60, seeds=(0,), scalings=("spy",))
    assert seen[1:] == [60, 178, 118]


def test_leaks_of_scaling_are_small_and_scaling_each_side_is_worse(cancer):
    leak = feature_scaling.leakage(cancer)
    change = {
        name: [t_interval(leak.accuracy[:, j, c] - leak.accuracy[:, j, 0]) for c in (1, 2)]
        for j, name in enumerate(leak.scalings)
    }
    assert change["standardize"][0].low < 0 < change["standardize"][0].high
    assert change["standardize"][1].low < 0 < change["standardize"][1].high
    assert 0 < change["min-max [0, 1]"][0].low < change["min-max [0, 1]"][0].high < 0.02
    assert change["min-max [0, 1]"][1].mean < -0.1
    assert change["whiten"][1].low > 0
    assert leak.accuracy[:, 2, 0].mean() < 0.7 < 0.9 < leak.accuracy[:, 1, 0].mean()


def test_one_typo_ruins_min_max_and_hurts_standardization(table):
    typo = feature_scaling.outlier_effect(table)
    np.testing.assert_allclose(typo.clean[0], scaling.min_max(table.x).values[:, 1])
    np.testing.assert_allclose(typo.clean[1], scaling.standardize(table.x).values[:, 1])
    assert np.median(typo.clean[2]) == pytest.approx(0)
    assert np.subtract(*np.quantile(typo.clean[2], [0.75, 0.25])) == pytest.approx(1)
    squeeze = np.ptp(typo.clean, axis=1) / np.ptp(typo.spoiled, axis=1)
    assert squeeze[0] > 100 > squeeze[1] > 30 > 1.1 > squeeze[2]
    same_order = np.argsort(typo.clean, kind="stable") == np.argsort(typo.spoiled, kind="stable")
    assert same_order.all()


# --- gradient descent ----------------------------------------------------------------------------------------


def test_descend_is_gradient_descent():
    eigenvalues, start = np.array([0.1, 0.7, 2.0]), np.array([1.0, -2.0, 0.5])
    run = feature_scaling.descend(eigenvalues, start, step=0.6, steps=4)
    assert run.path.shape == (5, 3)
    for before, after in zip(run.path, run.path[1:], strict=False):
        np.testing.assert_allclose(after, before - 0.6 * eigenvalues * before)


@given(kappa=st.floats(1, 1e6), tolerance=st.floats(1e-9, 0.5))
def test_the_bound_is_the_least_that_suffices(kappa, tolerance):
    for safe, rho in ((False, (kappa - 1) / (kappa + 1)), (True, 1 - 1 / kappa)):
        steps = feature_scaling.steps_bound(kappa, tolerance=tolerance, safe=safe)
        assert rho**steps <= tolerance * (1 + 1e-6)
        assert steps == 1 or rho ** (steps - 1) > tolerance * (1 - 1e-6)


def test_no_other_step_has_a_better_worst_case():
    mu, largest = 0.05, 3.0
    steps = np.linspace(1e-3, 2 / largest, 20_001)
    worst = np.maximum(np.abs(1 - steps * mu), np.abs(1 - steps * largest))
    assert steps[worst.argmin()] == pytest.approx(2 / (mu + largest), rel=1e-3)
    kappa = largest / mu
    assert worst.min() == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-3)


def test_measured_steps_keep_the_bound_and_come_near_it():
    rates = feature_scaling.descent_rates()
    for steps, bound in ((rates.steps, rates.bound), (rates.steps_safe, rates.bound_safe)):
        assert (steps <= bound).all()
        assert (np.median(steps, axis=0)[3:] > 0.8 * bound[3:]).all()
    slope = np.polyfit(
        np.log(rates.condition[3:]), np.log(np.median(rates.steps[:, 3:], axis=0)), 1
    )[0]
    assert slope == pytest.approx(1, abs=0.01)
    assert rates.steps_safe[:, -1].mean() / rates.steps[:, -1].mean() == pytest.approx(1.8, abs=0.1)


def test_steps_are_counted_until_the_tolerance_holds():
    eigenvalues, start = np.array([0.1, 1.0]), np.array([1.0, 0.0])
    run = feature_scaling.descend(eigenvalues, start, step=1.0, steps=60)
    first = np.flatnonzero(np.linalg.norm(run.path, axis=1) <= 0.01)[0]
    assert feature_scaling._steps(eigenvalues, start[None], 1.0, 0.01).tolist() == [first]


@pytest.mark.parametrize("name", ["table", "wine"])
def test_table_descent_is_descent_on_the_loss(name, request):
    dataset = request.getfixturevalue(name)
    found = feature_scaling.table_descent(dataset, budget=50, scalings=("standardize",))
    a = np.column_stack([np.ones(len(dataset)), scaling.standardize(dataset.x).values])
    target, w = (dataset.y == 0).astype(float), np.zeros(a.shape[1])
    eigenvalues = np.linalg.eigvalsh(a.T @ a / len(a))
    best = np.linalg.lstsq(a, target, rcond=None)[0]
    loss = [np.mean((a @ w - target) ** 2) / 2]
    for _ in range(50):
        w = w - 2 / (eigenvalues[0] + eigenvalues[-1]) * a.T @ (a @ w - target) / len(a)
        loss.append(np.mean((a @ w - target) ** 2) / 2)
    excess = np.array(loss) - np.mean((a @ best - target) ** 2) / 2
    np.testing.assert_allclose(found.excess[0], (excess / excess[0])[found.at], atol=1e-12)
    assert found.condition[0] == pytest.approx(eigenvalues[-1] / eigenvalues[0])


def test_rounder_bowls_are_faster_on_the_wines(wine):
    found = feature_scaling.table_descent(wine)
    assert (np.diff(found.condition) < 0).all()  # none, [0, 1], [-1, 1], standardize, whiten
    assert found.steps[0] == -1
    assert found.excess[0, -1] > 0.7
    assert (found.steps[1:] <= found.bound[1:]).all()
    assert (np.diff(found.steps[1:]) < 0).all()
    assert found.steps[-1] == found.bound[-1] == 1
    rho = (found.condition[3] - 1) / (found.condition[3] + 1)  # the loss shrinks by rho squared
    assert found.bound[3] == np.ceil(np.log(found.tolerance) / np.log(rho**2))
    assert found.condition[1] / found.condition[2] > 6


def test_standardization_is_not_enough_for_the_breast_masses(cancer):
    found = feature_scaling.table_descent(cancer)
    assert found.steps.tolist() == [-1, -1, -1, -1, 1]
    assert 0.1 < found.excess[3, -1] < 0.3


def torch_steps(optimizer, a, target, *, tolerance, **settings):
    """Count steps of a torch optimizer on least squares, from zero."""
    a, target = torch.tensor(a), torch.tensor(target)
    w = torch.zeros(a.shape[1], dtype=a.dtype, requires_grad=True)
    best = torch.linalg.lstsq(a, target[:, None]).solution[:, 0]
    run = optimizer([w], **settings)

    def loss(v):
        return ((a @ v - target) ** 2).mean() / 2

    start, least = loss(w).item(), loss(best).item()
    for t in range(1, 1000):
        run.zero_grad()
        loss(w).backward()
        run.step()
        if loss(w).item() - least <= tolerance * (start - least):
            return t
    return -1


def test_momentum_and_adam_are_torchs(wine):
    scalings = ("standardize",)
    found = feature_scaling.table_optimizers(wine, scalings=scalings, rates=(0.1,))
    a = np.column_stack([np.ones(len(wine)), scaling.standardize(wine.x).values])
    problem = (a, (wine.y == 0).astype(float))
    low, high = np.sqrt(np.linalg.eigvalsh(a.T @ a / len(a))[[0, -1]])
    best = {"lr": 4 / (low + high) ** 2, "momentum": ((high - low) / (high + low)) ** 2}
    assert found.optimizers == ("momentum", "Adam")
    assert found.steps[:, 0].tolist() == [
        torch_steps(torch.optim.SGD, *problem, tolerance=found.tolerance, **best),
        torch_steps(torch.optim.Adam, *problem, tolerance=found.tolerance, lr=0.1),
    ]
    choice = feature_scaling.table_optimizers(wine, scalings=scalings, rates=(1e-3, 0.1))
    assert choice.steps.tolist() == found.steps.tolist()  # the best rate counts


def test_no_optimizer_arrives_in_raw_units(wine, cancer):
    for dataset in (wine, cancer):
        found = feature_scaling.table_optimizers(
            dataset, scalings=("none", "standardize", "whiten")
        )
        assert found.steps[:, 0].tolist() == [-1, -1]
        assert (found.steps[:, 1] > 0).all()
        assert found.steps[0, 2] == 1 < found.steps[1, 2]


# --- rounding ------------------------------------------------------------------------------------------------

SOLVERS = (float32.normal_equations, float32.gram_schmidt)


@pytest.mark.parametrize("solve", SOLVERS)
@given(seed=st.integers(0, 1000), n=st.integers(4, 40), c=st.integers(1, 4))
def test_solvers_solve_least_squares(solve, seed, n, c):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, c)) + 2 * np.eye(n, c), rng.standard_normal(n)
    before = a.copy(), b.copy()
    np.testing.assert_allclose(solve(a, b), np.linalg.lstsq(a, b, rcond=None)[0], atol=1e-6)
    assert solve(a.astype(np.float32), b.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("solve", SOLVERS)
def test_solvers_round_as_if_by_hand(solve):
    """Row by row in float32, so that every machine gets the same digits."""
    a = np.float32([[1, 0.1], [1, 0.2], [1, 0.7]])
    b = np.float32([1, 2, 4])
    total = np.float32(0)
    for row in a:
        total = np.float32(total + np.float32(row[1] * row[1]))
    gram = (a[:, :, None] * a[:, None, :]).sum(axis=0)
    assert gram[1, 1] == total
    assert solve(a, b).tolist() == solve(a.copy(), b.copy()).tolist()


def test_powers_of_two_change_no_bit_of_the_normal_equations(wine):
    a = np.column_stack([np.ones(len(wine)), wine.x]).astype(np.float32)
    target = (wine.y == 0).astype(np.float32)
    powers = (2.0 ** np.random.default_rng(0).integers(-10, 10, a.shape[1])).astype(np.float32)
    for solve in SOLVERS:
        np.testing.assert_array_equal(solve(a * powers, target) * powers, solve(a, target))


def test_a_broken_factorization_is_nan():
    a = np.float32([[1, 1], [1, 1 + 2e-7], [1, 1]])
    assert np.isnan(float32.normal_equations(a, np.float32([1, 2, 3]))).all()


def test_the_normal_equations_lose_twice_the_digits():
    found = feature_scaling.rounding_error()
    middle = found.condition[3:7]
    slope = np.polyfit(np.log(middle), np.log(np.median(found.normal[:, 3:7], axis=0)), 1)[0]
    assert slope == pytest.approx(2, abs=0.15)
    u_kappa = found.unit_roundoff * found.condition
    assert (np.median(found.orthogonal, axis=0)[4:] < u_kappa[4:] / 5).all()
    assert np.isfinite(found.orthogonal).all()
    assert np.isfinite(found.normal[:, :-1]).all()
    assert np.isnan(found.normal[:, -1]).any()


def test_units_cost_the_normal_equations_nothing_and_means_a_lot(wine, cancer):
    for dataset in (wine, cancer):
        found = feature_scaling.table_rounding(dataset)
        raw, scaled, centered = found.normal[:3]
        assert found.condition[0] > 40 * found.condition[1]
        assert scaled == pytest.approx(raw, rel=1e-6)
        assert centered < raw / 15
        assert (found.orthogonal < 2e-6).all()


# --- whitening and storage -----------------------------------------------------------------------------------


def test_whitening_steps_end_in_circles(wine):
    steps = feature_scaling.whitening_steps(wine, columns=(5, 6))
    assert steps.features == ("total_phenols", "flavanoids")
    for points, covariance in zip(steps.points, steps.covariance, strict=True):
        np.testing.assert_allclose(np.cov(points.T, bias=True), covariance, atol=1e-12)
    np.testing.assert_allclose(steps.covariance[2:], [np.eye(2)] * 2, atol=1e-12)
    r = steps.covariance[1][0, 1]
    assert r == pytest.approx(np.corrcoef(wine.x[:, 5], wine.x[:, 6])[0, 1])
    assert scaling.condition_number(steps.covariance[1]) == pytest.approx((1 + r) / (1 - r))
    moved = np.linalg.norm(steps.points[2:] - steps.points[0], axis=(1, 2))
    assert moved[1] < moved[0]  # ZCA moves the points less than PCA


def runs(table):
    few = {"seeds": (0, 1)}
    return [
        feature_scaling.distance_shares(table),
        feature_scaling.nearest_neighbors(table),
        feature_scaling.neighbor_accuracy(**few),
        feature_scaling.leakage(table, **few),
        feature_scaling.outlier_effect(table),
        feature_scaling.descend(np.ones(2), np.ones(2), step=0.1, steps=3),
        feature_scaling.descent_rates(condition=(1, 3), **few),
        feature_scaling.table_descent(table, budget=10),
        feature_scaling.table_optimizers(table, budget=10),
        feature_scaling.irrelevant_features(coins=(0, 2), seeds=(0, 1)),
        feature_scaling.rounding_error(condition=(1, 10), **few),
        feature_scaling.table_rounding(table),
        feature_scaling.whitening_steps(table, columns=(0, 1)),
    ]


def test_every_result_repeats_and_can_be_stored(table, tmp_path):
    origin = Provenance.now(seeds=(0, 1), config={}, duration=0.0)
    for result, again in zip(runs(table), runs(table), strict=True):
        path = save(result, tmp_path / "result.npz", provenance=origin)
        loaded, _ = load(path)
        assert type(loaded) is type(result)
        for item in fields(result):
            for other in (again, loaded):
                np.testing.assert_array_equal(getattr(result, item.name), getattr(other, item.name))
