"""What chapter 14 says without a clock: forms agree, traffic is counted, errors are as small as claimed."""

from pathlib import Path

import numpy as np
import pytest
from _book import RESULTS
from _speed_tables import handmade, many

from bnlab import reference
from bnlab.chapters.making_it_fast import _traffic, blocked, one_pass, stored
from bnlab.chapters.making_it_fast import experiments as making_it_fast
from bnlab.chapters.making_it_fast.experiments import AIMS, FORMS
from bnlab.experiments import load

ROOT = Path(__file__).resolve().parents[2]
U = 1.2e-7


@pytest.mark.parametrize("shape", [(64, 5), (6, 5, 7), (3, 5, 4, 6)])
def test_all_forms_agree(shape):
    x, gamma, beta, dy = making_it_fast.batch(shape)
    found = []
    for form in FORMS.values():
        y, saved = form.forward(x, gamma, beta)
        found.append((y, *form.backward(dy, saved)))
        assert {a.dtype for a in found[-1]} == {np.dtype(np.float32)}
    for answer in found[:-1]:
        for a, b in zip(answer, found[-1], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


# Less than a block; rows; images in slices of features and in pieces of one
SHAPES = [
    (64, 5),
    (3, 5, 4, 6),
    (70_001, 3),
    (300, 1000),
    (3, 5, 40_001),
    (70, 16, 9, 9),
    (2, 70_000),
]


class TestBlocks:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize(("dtype", "u"), [(np.float32, U), (np.float64, 1e-14)])
    def test_they_equal_the_reference(self, shape, dtype, u):
        x, gamma, beta, dy = (a.astype(dtype) for a in making_it_fast.batch(shape))
        kept = x.copy(), dy.copy()
        y, saved = blocked.forward(x, gamma, beta)
        found = (y, saved[0], *blocked.backward(dy, saved))
        y, cache = reference.batch_norm_forward(x, gamma, beta)
        expected = (y, cache.x_hat, *reference.batch_norm_backward(dy, cache))
        axes = (0, *range(2, x.ndim))
        terms = [np.abs(a).sum(axes).max() for a in (dy * cache.x_hat, dy)]  # of the two sums
        sizes = [np.abs(a).max() for a in expected[:3]] + terms
        for a, b, size in zip(found, expected, sizes, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=8 * u * size)
        np.testing.assert_array_equal((x, dy), kept)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_arrays_of_the_caller_receive_the_same_numbers(self, shape):
        x, gamma, beta, dy = making_it_fast.batch(shape)
        y, x_hat, dx = np.empty((3, *shape), np.float32)
        into, saved = blocked.forward(x, gamma, beta, out=(y, x_hat))
        gradients = blocked.backward(dy, saved, out=dx)
        assert (into is y, saved[0] is x_hat, gradients[0] is dx) == (True, True, True)
        expected, saved = blocked.forward(x, gamma, beta)
        np.testing.assert_array_equal(y, expected)
        for a, b in zip(gradients, blocked.backward(dy, saved), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("shape", [(300_000, 3), (4, 3, 30_000)], ids=str)
    @pytest.mark.parametrize("kind", ["random", "sorted", "two values"])
    @pytest.mark.parametrize("mean", [0, 1e6])
    def test_they_are_accurate(self, shape, kind, mean):
        x = np.random.default_rng(0).standard_normal(shape)
        if kind == "sorted":  # sums grow larger on the way than in random order
            x.sort(axis=0)
        if kind == "two values":  # all squares round alike, so that errors add up in one direction
            x = np.where(x > 0, 0.7, -0.7)
        x = (mean + x).astype(np.float32)
        one = np.ones(shape[1], np.float32)
        exact = reference.batch_norm_forward(x.astype(np.float64), one, 0 * one)[1]
        _, (x_hat, inv_std) = blocked.forward(x, one, 0 * one)
        assert np.abs(x_hat - exact.x_hat).max() <= 8 * U * np.abs(exact.x_hat).max()
        np.testing.assert_allclose(inv_std, exact.inv_std, rtol=4 * U)

    def test_a_large_mean_of_the_gradient_costs_no_digits(self):
        x, gamma, beta, dy = making_it_fast.batch((1000, 20))
        dy += 1e4
        dx, *_ = blocked.backward(dy, blocked.forward(x, gamma, beta)[1])
        _, cache = reference.batch_norm_forward(*(a.astype(float) for a in (x, gamma, beta)))
        exact, *_ = reference.batch_norm_backward(dy.astype(float), cache)
        np.testing.assert_allclose(dx, exact, rtol=0, atol=8 * U * np.abs(exact).max())

    def test_an_output_that_overflows_is_refused(self):
        x, gamma, beta, _ = making_it_fast.batch((64, 5))
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="a result is NaN or Inf"):
            blocked.forward(x, 3e38 * gamma, beta)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
    def test_what_is_not_finite_is_refused(self, bad):
        x, gamma, beta, dy = making_it_fast.batch((300, 1000))
        _, saved = blocked.forward(x, gamma, beta)
        x[299, 999] = dy[299, 999] = bad
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="a result is NaN or Inf"):
            blocked.forward(x, gamma, beta)
        if not np.isfinite(bad):
            with (
                np.errstate(all="ignore"),
                pytest.raises(ValueError, match="a result is NaN or Inf"),
            ):
                blocked.backward(dy, saved)


def counted(form, **config):
    result = making_it_fast.traffic(form, **config)
    values = np.prod(result.shape)
    return result, result.flops / values, result.moved / values / 4


def test_traffic_of_the_short_form_is_what_a_reader_counts():
    # forward: sum 1, c 2, c.c 2 (one array, named twice), x_hat 2, times gamma 2, plus beta 2;
    # backward: sum 1, dot 2, projection 2, dy - mean 2, minus projection 3, times scale 2
    result, flops, moved = counted("fewer passes")
    assert (result.calls, flops, moved) == (12, 14, 23)


def test_a_larger_cache_moves_less_and_none_moves_all():
    sizes = [1, 2**18, 2**20, 2**30]
    moved = [making_it_fast.traffic("in blocks", shape=(4096, 64), cache=c).moved for c in sizes]
    touched = making_it_fast.traffic("in blocks", shape=(4096, 64)).touched
    assert moved[0] == touched
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 7 * 4 * 4096 * 64  # x, dy once; y, x_hat, dx back


def test_what_was_thrown_away_is_not_written_back():
    with _traffic.counting(10**5, small=20) as count:
        x, z = (count.watch(np.ones((n, 10))) for n in (100, 1000))
        thrown = [x * i for i in range(5)]
        del thrown
        np.add.reduce(z, axis=0)  # pushes most of them out of the cache
        kept = x * 3
    assert count.calls == 7
    assert count.moved == x.nbytes + z.nbytes + kept.nbytes


def test_blocks_move_half_of_what_whole_arrays_do_and_more_than_the_floor():
    blocks, whole = counted("in blocks")[2], counted("in place")[2]
    assert 5 < blocks < 0.6 * whole
    assert counted("textbook")[2] > 2 * whole


@pytest.mark.parametrize("form", FORMS)
def test_traffic_a_value_does_not_depend_on_the_size(form):
    small, large = (counted(form, shape=(n, 256))[1:] for n in (4096, 8192))
    np.testing.assert_allclose(small, large, rtol=0.01)


def test_peak_memory_counts_arrays():
    peaks = [making_it_fast.peak_memory(form) for form in ("textbook", "fewer passes", "in place")]
    np.testing.assert_allclose(peaks, [6, 5, 3], atol=0.1)


def test_intensity_of_a_linear_layer():
    assert making_it_fast.intensity(4096, 1024, 1024) > 100
    assert making_it_fast.intensity(1, 1024, 1024) == pytest.approx(0.5, rel=0.01)


class TestErrors:
    @pytest.fixture(scope="class")
    @classmethod
    def result(cls):
        return one_pass.error_sweep(means=(1.0, 1e3, 1e6), seeds=(0, 1))

    def worst(self, result, method):
        return result.x_hat[result.methods.index(method)].max(axis=1)

    @pytest.mark.parametrize("method", ["NumPy in blocks", "bnlab.nn"])
    def test_ours_keep_all_digits(self, result, method):
        assert (self.worst(result, method) <= 8 * U).all()
        variance = result.variance[result.methods.index(method)]
        assert (variance < 2e-6).all()

    @pytest.mark.parametrize("method", ["two passes", "torch"])
    def test_two_passes_lose_digits_with_the_mean(self, result, method):
        errors = self.worst(result, method)
        assert errors[0] < 1e-5
        assert errors[1] > 1e-4
        assert errors[2] > 1e-2

    def test_the_one_pass_formula_is_useless_from_a_thousand_on(self, result):
        assert (self.worst(result, "E[x²] − E[x]²")[1:] > 0.1).all()

    def test_welford_is_no_worse_than_two_passes_by_an_order(self, result):
        assert (self.worst(result, "Welford") < 10 * self.worst(result, "two passes") + 1e-6).all()

    def test_a_sweep_repeats(self, result):
        again = one_pass.error_sweep(means=(1e3,), seeds=(1,))
        np.testing.assert_array_equal(again.x_hat[:, 0, 0], result.x_hat[:, 1, 1])


def test_aims_for_many_networks_follow_from_the_numbers():
    assert "not reached" not in str(making_it_fast.ensemble_aims(many()))
    bad = ({"cost": 0.46}, {"share": 0.49}, {"machine": 3.4})
    for k, one in enumerate(bad, start=1):
        lines = str(making_it_fast.ensemble_aims(many(**one))).splitlines()
        assert [line.count("not reached") for line in lines] == [2 * (i == k) for i in range(4)]


def test_the_stored_speed_of_many_networks_is_whole():
    speed, _ = load(RESULTS / making_it_fast.STORED_ENSEMBLE)
    assert speed.members.tolist() == [1, 2, 4, 8, 16, 32]
    assert speed.rounds >= 9
    for found in (speed.cost, speed.vmap_cost, speed.share, speed.machine):
        assert (np.diff(found, axis=-1) >= 0).all()
    assert (speed.cost[:, -1, 1] < speed.cost[:, 0, 1]).all()  # together is cheaper than alone
    assert (speed.cost[:, 3, 2] < speed.vmap_cost[:, 0, 0]).all()  # and than by torch.func


def test_aims_follow_from_the_numbers():
    table, reached = making_it_fast.aims_table(handmade(0.4))
    assert reached == len(AIMS)
    assert "not reached" not in str(table)
    assert making_it_fast.aims_table(handmade(10.0))[1] == 0
    table, reached = making_it_fast.aims_table(handmade(1.0))
    assert reached == 4  # blocks elsewhere, eager, compiled elsewhere, kernels everywhere
    assert str(table).count("not reached") == 2 * 3


def test_one_slow_shape_misses_an_aim():
    table = handmade(0.3)
    table.ratio[1, 1, 1, 4] = 1.1  # kernels, two threads, forward + backward
    assert making_it_fast.aims_table(table)[1] == len(AIMS) - 1


def test_the_floor_is_five_copies_worth():
    # 250,000 values: 5 MB at 5 GB/s is a millisecond
    assert handmade(2.0).floor_share("bnlab.nn", threads=1)[1] == pytest.approx(0.5)


def test_ratio_table_leaves_out_what_did_not_run():
    table = handmade(2.0)
    table.ratio[0, 1, 0, 2] = np.nan
    lines = str(making_it_fast.ratio_table(table, ["bnlab.nn"])).splitlines()
    assert lines[1].split() == ["bnlab.nn", "–", "2.00", "2.00"]


def test_the_stored_benchmark_is_whole():
    table, _ = load(RESULTS / making_it_fast.STORED)
    assert (60, 100) in table.shapes
    assert (65536, 256) in table.shapes
    assert table.threads == (1, 2)
    for name in ("NumPy textbook", "NumPy in blocks", "bnlab.nn", "bnlab.nn, kernels"):
        ratio = table.of(table.ratio, name, "forward + backward", 1)
        low = table.of(table.low, name, "forward + backward", 1)
        assert np.isfinite(ratio).all()
        assert (low <= ratio).all()
    np.testing.assert_array_equal(table.of(table.ratio, table.baseline, "forward + backward", 2), 1)


# ---- entries that measure -------------------------------------------------------------------------


def test_an_entry_that_measures_stores_what_the_benchmarks_save(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "__main__.py").write_text(
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT)!r}]\n"
        "from _speed_tables import handmade\n"
        "from bnlab.experiments import Provenance, save\n"
        "assert sys.argv[1:4] == ['--rounds', '3', '--quick'] and sys.argv[4] == '--save', sys.argv\n"
        "origin = Provenance.now(seeds=(), config={}, duration=1.0)\n"
        "save(handmade(2.0), sys.argv[5], provenance=origin)\n"
    )
    monkeypatch.setattr(stored.bnlab, "__file__", str(tmp_path / "bnlab" / "__init__.py"))
    (entry,) = (e for e in stored.EXPERIMENTS if e.name == "making-it-fast-speed")
    config = entry.configure({"rounds": 3, "quick": True})
    table = entry.merge(config, ({},), (entry.run(config, {}),))
    np.testing.assert_array_equal(table.ratio, handmade(2.0).ratio)
    with pytest.raises(RuntimeError, match=r"python -m benchmarks failed: .*--fresh-memory"):
        entry.run(config | {"fresh_memory": True}, {})


def test_without_a_clone_an_entry_that_measures_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(stored.bnlab, "__file__", str(tmp_path / "bnlab" / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"no folder benchmarks .* Clone it"):
        stored.ensemble(rounds=1, kept_memory=False)
