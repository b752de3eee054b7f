import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bnlab import scaling

FITTERS = {
    "min_max": scaling.min_max,
    "min_max to [-1, 1]": lambda x: scaling.min_max(x, low=-1, high=1),
    "standardize": scaling.standardize,
    "zca": scaling.whiten,
    "pca": lambda x: scaling.whiten(x, method="pca"),
    "zca with eps": lambda x: scaling.whiten(x, eps=0.1),
}
every_fitter = pytest.mark.parametrize("fit", FITTERS.values(), ids=FITTERS)


def table(n=30, c=3, *, seed=0, scale=1.0, shift=0.0):
    """Correlated columns."""
    rng = np.random.default_rng(seed)
    return shift + scale * rng.standard_normal((n, c)) @ (
        np.eye(c) + 0.5 * rng.standard_normal((c, c))
    )


tables = st.builds(
    table,
    n=st.integers(5, 60),
    c=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    shift=st.sampled_from([0.0, -3.0, 1e5]),
)


def covariance(z):
    centered = z - z.mean(axis=0)
    return centered.T @ centered / len(z)


# --- against scikit-learn ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-3.0, 5.0)])
def test_min_max_equals_scikit_learn(low, high):
    x, new = table(), table(seed=1)
    ours, theirs = scaling.min_max(x, low=low, high=high), MinMaxScaler((low, high)).fit(x)
    np.testing.assert_allclose(ours.values, theirs.transform(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.apply(new), theirs.transform(new), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        ours.invert(new), theirs.inverse_transform(new), rtol=1e-12, atol=1e-12
    )


def test_standardize_equals_scikit_learn():
    x, new = table(), table(seed=1)
    ours, theirs = scaling.standardize(x), StandardScaler().fit(x)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.std, theirs.scale_, rtol=1e-12)
    np.testing.assert_allclose(ours.apply(new), theirs.transform(new), rtol=1e-12)
    np.testing.assert_allclose(ours.invert(new), theirs.inverse_transform(new), rtol=1e-12)


def test_pca_whitening_equals_scikit_learn_up_to_signs_and_the_divisor():
    x, new = table(), table(seed=1)
    ours, theirs = scaling.whiten(x, method="pca"), PCA(whiten=True).fit(x)
    expected = theirs.transform(new) * np.sqrt(
        len(x) / (len(x) - 1)
    )  # scikit-learn divides by N - 1
    signs = np.sign((ours.apply(new) * expected).sum(axis=0))
    np.testing.assert_allclose(ours.apply(new) * signs, expected, rtol=1e-9)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_ * (len(x) - 1) / len(x))


def test_pca_signs_make_the_largest_loading_positive():
    directions = scaling.whiten(table(), method="pca").matrix
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(3)] > 0).all()


# --- properties ----------------------------------------------------------------------------------------------


@every_fitter
@given(x=tables)
def test_invert_undoes_apply(fit, x):
    fitted, size = fit(x), np.abs(x).max()
    np.testing.assert_allclose(fitted.invert(fitted.values), x, atol=1e-9 * size)
    np.testing.assert_allclose(fitted.invert(fitted.apply(x[:1])), x[:1], atol=1e-9 * size)


@every_fitter
@given(x=tables)
def test_values_are_apply_to_the_fitted_table(fit, x):
    np.testing.assert_array_equal(fit(x).values, fit(x).apply(x))


@given(x=tables, a=st.floats(0.01, 100), b=st.floats(-100, 100))
def test_standardize_ignores_shift_and_positive_scale(x, a, b):
    expected = scaling.standardize(x).values
    np.testing.assert_allclose(scaling.standardize(a * x + b).values, expected, atol=1e-5)
    np.testing.assert_allclose(scaling.standardize(-a * x + b).values, -expected, atol=1e-5)


@given(x=tables)
def test_standardized_columns_have_mean_zero_and_variance_one(x):
    z = scaling.standardize(x).values
    rounding = 1e-15 * np.abs(x).max() / x.std(axis=0).min()  # of the mean itself, as a float64
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12 + rounding)
    np.testing.assert_allclose(z.var(axis=0), 1, rtol=1e-12)


@given(x=tables, low=st.floats(-5, 0), width=st.floats(0.1, 5))
def test_min_max_reaches_both_ends_exactly(x, low, width):
    z = scaling.min_max(x, low=low, high=low + width).values
    np.testing.assert_array_equal(z.min(axis=0), low)
    np.testing.assert_array_equal(z.max(axis=0), low + width)


def test_the_upper_end_survives_rounding():
    assert -0.3 + (0.9 - -0.3) != 0.9
    assert scaling.min_max(table(), low=-0.3, high=0.9).values.max() == 0.9


@pytest.mark.parametrize("method", ["zca", "pca"])
@given(x=tables)
def test_whitened_covariance_is_the_identity(method, x):
    z = scaling.whiten(x, method=method).values
    np.testing.assert_allclose(covariance(z), np.eye(x.shape[1]), atol=1e-5)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-5)


@given(x=tables, seed=st.integers(0, 100))
def test_zca_is_symmetric_and_the_whitening_closest_to_the_centered_table(x, seed):
    zca = scaling.whiten(x)
    np.testing.assert_allclose(zca.matrix, zca.matrix.T, atol=1e-9 * np.abs(zca.matrix).max())
    c = x.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((c, c)))[0]
    centered = x - x.mean(axis=0)
    other = (
        scaling.whiten(x, method="pca").values @ rotation
    )  # any whitening is a rotation of another
    assert np.linalg.norm(zca.values - centered) <= np.linalg.norm(other - centered) * (1 + 1e-9)


def test_eps_shrinks_the_variances_it_should():
    x = table()
    fitted = scaling.whiten(x, method="pca", eps=0.5)
    np.testing.assert_allclose(
        np.diag(covariance(fitted.values)), fitted.variances / (fitted.variances + 0.5)
    )


def test_eps_allows_redundant_and_constant_columns_and_few_rows():
    x = table(4, 3)
    x = np.column_stack([x, x[:, 0] + x[:, 1], np.full(4, 7.0), x[:, 2]])  # 4 rows, 6 columns
    fitted = scaling.whiten(x, eps=1e-3)
    np.testing.assert_allclose(fitted.invert(fitted.values), x, atol=1e-9)


@given(x=tables)
def test_shares_match_the_sum_over_pairs_and_add_to_one(x):
    shares = scaling.distance_shares(x)
    squares = ((x[:, None] - x[None, :]) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(shares, squares / squares.sum(), rtol=1e-7)
    assert shares.sum() == pytest.approx(1)


def test_shares_of_a_constant_column_are_zero():
    x = np.column_stack([np.full(5, 3.0), np.arange(5.0)])
    assert scaling.distance_shares(x).tolist() == [0.0, 1.0]


# --- condition number ----------------------------------------------------------------------------------------


@given(x=tables)
def test_condition_number_equals_numpy(x):
    assert scaling.condition_number(x) == pytest.approx(np.linalg.cond(x), rel=1e-6)


def test_condition_number_of_special_matrices():
    assert scaling.condition_number(np.eye(3)) == 1.0
    assert scaling.condition_number(np.diag([2.0, 0.0])) == np.inf
    assert scaling.condition_number(np.zeros((2, 2))) == np.inf
    tiny = np.array([[1.0, 0.0], [0.0, 1e-6]], dtype=np.float32)
    assert scaling.condition_number(tiny) == pytest.approx(1e6, rel=1e-6)


# --- accuracy, dtype, purity ---------------------------------------------------------------------------------


def test_large_means_are_centered_before_they_are_squared():
    x = 1e9 + np.array([[0.0], [1.0], [2.0]])
    fitted = scaling.standardize(x)
    assert fitted.mean[0] == 1e9 + 1
    assert fitted.std[0] == pytest.approx(np.sqrt(2 / 3), rel=1e-15)
    assert scaling.whiten(x).values[:, 0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    x32 = (2**23 + np.array([[0.0], [1.0], [2.0]])).astype(np.float32)  # one more bit would be lost
    assert scaling.standardize(x32).values[:, 0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])


def test_the_mean_of_many_rows_keeps_its_digits():
    x = 1e9 + np.random.default_rng(0).standard_normal((200_000, 2))
    exact = [math.fsum(column) / len(x) for column in x.T]
    np.testing.assert_allclose(scaling.standardize(x).mean, exact, rtol=0, atol=2 * np.spacing(1e9))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_neither_underflow_nor_overflow(size):
    x = size * np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
    np.testing.assert_allclose(scaling.standardize(x).values, scaling.standardize(x / size).values)
    np.testing.assert_allclose(scaling.distance_shares(x), scaling.distance_shares(x / size))


@every_fitter
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_is_kept(fit, dtype):
    x = table().astype(dtype)
    fitted = fit(x)
    assert fitted.values.dtype == fitted.apply(x).dtype == fitted.invert(x).dtype == dtype
    assert scaling.distance_shares(x).dtype == dtype


@every_fitter
def test_fitted_transforms_are_frozen_and_inputs_untouched(fit):
    x = table()
    before = x.copy()
    fitted = fit(x)
    fitted.invert(fitted.apply(x))
    np.testing.assert_array_equal(x, before)
    for entry in dataclasses.fields(fitted):
        value = getattr(fitted, entry.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(fitted, entry.name, value)
        if isinstance(value, np.ndarray):
            assert not np.shares_memory(value, x)
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0


# --- bad input -----------------------------------------------------------------------------------------------

ENTRIES = {
    **FITTERS,
    "distance_shares": scaling.distance_shares,
    "condition_number": scaling.condition_number,
}
every_entry = pytest.mark.parametrize("function", ENTRIES.values(), ids=ENTRIES)


@every_entry
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused_with_their_place(function, bad):
    x = table()
    x[4, 1] = bad
    with pytest.raises(ValueError, match=r"1 NaN or Inf .* index \(4, 1\)"):
        function(x)


@every_entry
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (table()[:, 0], ValueError, r"shape \(30,\); expected two dimensions"),
        (table()[None], ValueError, r"shape \(1, 30, 3\); expected two dimensions"),
        (np.empty((0, 3)), ValueError, r"empty, shape \(0, 3\)"),
        (np.empty((3, 0)), ValueError, r"empty, shape \(3, 0\)"),
        (np.arange(6).reshape(3, 2), TypeError, r"int64.*astype\(float\)"),
        ([[1.0, 2.0], [3.0, 5.0]], TypeError, r"list.*np\.asarray"),
    ],
    ids=["vector", "rank 3", "no rows", "no columns", "integers", "list"],
)
def test_wrong_tables_are_refused_with_a_fix(function, x, error, message):
    with pytest.raises(error, match=message):
        function(x)


@pytest.mark.parametrize("function", [*FITTERS.values(), scaling.distance_shares])
def test_one_row_is_refused(function):
    with pytest.raises(ValueError, match=r"one row.*at least two"):
        function(table(1))


@pytest.mark.parametrize("fit", [scaling.min_max, scaling.standardize, scaling.whiten])
def test_constant_columns_are_named(fit):
    x = np.column_stack(
        [np.full(30, 0.1), table(), np.full(30, 5.0)]
    )  # the mean of thirty 0.1 is not 0.1
    with pytest.raises(ValueError, match=r"columns \[0, 4\] of x are constant.*np\.delete"):
        fit(x)


def test_equal_rows_have_no_shares():
    with pytest.raises(ValueError, match="all 4 rows of x are equal"):
        scaling.distance_shares(np.ones((4, 2)))


@every_fitter
def test_a_range_that_overflows_is_refused(fit):
    with pytest.raises(ValueError, match=r"columns \[1\].*larger unit"):
        fit(np.array([[0.0, -1e308], [1.0, 1e308], [3.0, 0.0]]))


@pytest.mark.parametrize("unit", [1e155, 1e-170])
def test_variances_that_do_not_fit_are_refused_by_whitening_alone(unit):
    x = np.array([[0.0], [1.0], [3.0]])
    with pytest.raises(ValueError, match=r"variances of x overflow float64, or round to 0.*unit"):
        scaling.whiten(unit * x)
    np.testing.assert_allclose(
        scaling.standardize(unit * x).values, scaling.standardize(x).values, rtol=1e-12
    )


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1)])
def test_min_max_needs_low_below_high(low, high):
    with pytest.raises(ValueError, match=r"expected finite numbers with low < high"):
        scaling.min_max(table(), low=low, high=high)


@every_fitter
@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,), (1, 5, 3)])
def test_apply_and_invert_refuse_other_shapes(fit, shape):
    fitted = fit(table())
    for method, name in [(fitted.apply, "x"), (fitted.invert, "z")]:
        with pytest.raises(ValueError, match=rf"{name} has shape .*expected \(rows, 3\)"):
            method(np.ones(shape))


@pytest.mark.parametrize("call", [scaling.min_max, scaling.whiten])
@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (np.nan, ValueError, "is nan; expected a finite number"),
        (np.inf, ValueError, "is inf; expected a finite number"),
        ("a", TypeError, "is 'a', a str; expected a real number"),
        (None, TypeError, "is None, a NoneType; expected a real number"),
    ],
)
def test_options_must_be_finite_numbers(call, value, error, match):
    option = "eps" if call is scaling.whiten else "high"
    with pytest.raises(error, match=f"{option} {match}"):
        call(table(), **{option: value})


@every_fitter
def test_apply_and_invert_check_values_and_dtype(fit):
    fitted = fit(table())
    for method in (fitted.apply, fitted.invert):
        with pytest.raises(ValueError, match="NaN or Inf"):
            method(np.full((1, 3), np.nan))
        with pytest.raises(TypeError, match="int64"):
            method(np.ones((1, 3), dtype=int))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_singular_covariance_is_refused_whatever_the_units(dtype):
    x = table().astype(dtype)
    redundant = np.column_stack([x, 1e6 * (x[:, 0] + x[:, 1])]).astype(dtype)
    with pytest.raises(ValueError, match=r"singular .some columns determine others.*Set eps"):
        scaling.whiten(redundant)
    very_different_units = (x * [1e-6, 1.0, 1e6]).astype(dtype)
    z = scaling.whiten(very_different_units, method="pca").values
    np.testing.assert_allclose(covariance(z), np.eye(3), atol=1e-3)


def test_as_few_rows_as_columns_are_refused():
    with pytest.raises(ValueError, match=r"singular .3 rows for 3 columns"):
        scaling.whiten(table(3, 3))
    assert scaling.whiten(table(4, 3)).values.shape == (4, 3)


@given(seed=st.integers(0, 10_000), columns=st.integers(2, 6), data=st.data())
def test_rounding_never_hides_that_there_are_too_few_rows(seed, columns, data):
    rng = np.random.default_rng(seed)
    rows = data.draw(st.integers(2, columns))
    x = rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-3, 4, columns)
    with pytest.raises(ValueError, match=rf"singular .{rows} rows for {columns} columns"):
        scaling.whiten(x)


def test_eps_must_not_be_negative():
    with pytest.raises(ValueError, match=r"eps is -1e-05; expected a finite number of at least 0"):
        scaling.whiten(table(), eps=-1e-5)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r'method is .*cholesky.*expected "zca" or "pca"'):
        scaling.whiten(table(), method="cholesky")
