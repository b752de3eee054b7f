import numpy as np
import pytest
from _speed_tables import handmade, many

from bnlab.chapters.making_it_fast import plots
from bnlab.chapters.making_it_fast.results import ErrorSweep, Traffic


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_sum_errors_draws_the_digits_that_are_right_in_the_worst_seed():
    x_hat = np.array([[[1e-5, 1e-4], [3.0, 0.1]], [[1e-7, 1e-7], [1e-7, 1e-6]]])
    sweep = ErrorSweep(("two passes", "bnlab.nn"), np.array([1.0, 10]), 8, (0, 1), x_hat, 2 * x_hat)
    ax = plots.sum_errors(sweep)
    found = lines(ax)
    np.testing.assert_allclose(
        found["two passes"].get_ydata(), [4, 0], atol=1e-12
    )  # never below none
    np.testing.assert_allclose(found["bnlab.nn"].get_ydata(), [7, 6])
    assert {"two passes", "bnlab.nn"} <= {text.get_text() for text in ax.texts}


def test_time_parts_draws_the_time_and_what_data_and_arithmetic_would_take():
    ax = plots.time_parts(handmade(2.0), {"bnlab.nn": (40.0, 14.0)}, shape=(1000, 250))
    # 250,000 values: 2 ms measured, 10 MB at 5 GB/s, 3.5 Mflop at 100 Gflop/s
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [2, 2, 0.035])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bnlab.nn"]


def test_memory_traffic_draws_arrays():
    results = [Traffic("a", (10, 5), 1, 1, 1, 4000, 2000), Traffic("b", (10, 5), 1, 1, 1, 600, 400)]
    widths = sorted(bar.get_width() for bar in plots.memory_traffic(results).patches)
    np.testing.assert_allclose(widths, [2, 3, 10, 20])


def test_roofline_places_work_over_bytes_and_over_time():
    table = handmade(2.0)
    ax = plots.roofline(table, {"bnlab.nn": 40.0, "torch native": 20.0}, work=14, shape=(1000, 250))
    found = lines(ax)
    # 14 flop for each of 250,000 values in 2 ms and in 1 ms
    np.testing.assert_allclose(found["bnlab.nn"].get_xydata(), [[14 / 40, 1.75]])
    np.testing.assert_allclose(found["torch native"].get_xydata(), [[14 / 20, 3.5]])
    x, y = ax.get_lines()[0].get_data()
    np.testing.assert_allclose(y, np.minimum(100, 5 * x))


def test_roofline_leaves_out_what_did_not_run():
    table = handmade(2.0)
    table.milliseconds[0, 1, 1, 4] = np.nan
    moved = {"bnlab.nn": 40.0, "bnlab.nn, kernels": 20.0}
    found = lines(plots.roofline(table, moved, work=14, shape=(1000, 250)))
    assert "bnlab.nn, kernels" not in found


def test_speed_ratios_draws_each_contestant_at_each_shape():
    ax = plots.speed_ratios(handmade(3.0), ["bnlab.nn", "NumPy in blocks"], threads=2)
    drawn = [c.lines[0].get_ydata() for c in ax.containers]
    assert len(drawn) == 2
    np.testing.assert_array_equal(drawn[0], [3, 3, 3])
    assert next(t.get_text() for t in ax.get_xticklabels()) == "60×\n100"


@pytest.mark.parametrize(
    ("rows", "label"), [(True, "N, rows (C = 1)"), (False, "C, features (N = 1)")]
)
def test_speed_growth_names_its_axis(rows, label):
    ax = plots.speed_growth(handmade(), rows=rows)
    assert ax.get_xlabel() == label
    np.testing.assert_array_equal(lines(ax)["torch native"].get_ydata(), [1, 1, 1])


def test_ensemble_cost_draws_both_arms_and_the_peer():
    found = lines(plots.ensemble_cost(many(cost=0.4)))
    np.testing.assert_allclose(found["together, with BN"].get_ydata(), [0.9, 0.4])
    np.testing.assert_allclose(found["by vmap, without BN"].get_xdata(), [8])
