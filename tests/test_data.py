import builtins
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

import bnlab
from bnlab import data
from bnlab.data import _files

BUNDLED = Path(bnlab.__file__).with_name("_data") / "mnist_5k.npz"
LOADERS = {
    f.__name__: f for f in (data.mixed_scale_table, data.wine, data.breast_cancer, data.mnist_5k)
}
every_loader = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("BNLAB_DATA", raising=False)


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "mnist_5k.npz"
    path.write_bytes(BUNDLED.read_bytes())
    return path


# --- every data set ------------------------------------------------------------------------------------------


@every_loader
def test_data_sets_are_consistent_frozen_and_repeatable(load):
    dataset, again = load(), load()
    assert dataset.x.shape == (len(dataset), len(dataset.feature_names))
    assert sorted(set(dataset.y.tolist())) == list(range(len(dataset.class_names)))
    np.testing.assert_array_equal(dataset.x, again.x)
    np.testing.assert_array_equal(dataset.y, again.y)
    assert all((dataset.name, dataset.source, dataset.license, dataset.target_name))
    assert len(repr(dataset)) < 100
    for array in (dataset.x, dataset.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.x = None


def test_mixed_scale_table_follows_its_documentation():
    many = data.mixed_scale_table(40_000, seed=1)
    kids, value = many.x.T
    assert set(kids) == {0.0, 1.0}
    assert value.min() == 500
    assert value.max() == 100_000
    assert (value % 100 == 0).all()
    assert kids.mean() == pytest.approx(0.45, abs=0.01)
    assert np.median(value) == pytest.approx(15_000, rel=0.03)
    assert np.log(value).std() == pytest.approx(1.0, abs=0.05)
    middle = np.abs(np.log(value / 15_000)) < 0.2  # there a is -2 without kids and 2 with
    assert many.y[middle & (kids == 0)].mean() == pytest.approx(1 / (1 + np.exp(2)), abs=0.02)
    assert many.y[middle & (kids == 1)].mean() == pytest.approx(1 / (1 + np.exp(-2)), abs=0.02)


def test_mixed_scale_table_depends_on_its_seed_and_size_alone():
    assert not np.array_equal(data.mixed_scale_table(seed=0).x, data.mixed_scale_table(seed=1).x)
    assert len(data.mixed_scale_table(7)) == 7
    with pytest.raises(ValueError, match="n is 1; expected at least 2"):
        data.mixed_scale_table(1)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(data.wine, load_wine), (data.breast_cancer, load_breast_cancer)]
)
def test_real_tables_are_those_of_scikit_learn(ours, theirs):
    np.testing.assert_array_equal(ours().x, theirs().data)
    np.testing.assert_array_equal(ours().y, theirs().target)
    assert ours().feature_names == tuple(theirs().feature_names)


@pytest.mark.parametrize("load", [data.wine, data.breast_cancer])
def test_without_scikit_learn_the_error_says_how_to_install_it(load, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("no sklearn")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load()


# --- splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [data.wine, data.mixed_scale_table])
@pytest.mark.parametrize("test", [1, 10, 53])
def test_split_keeps_every_row_once_and_the_share_of_each_class(load, test):
    dataset = load()
    train, held_out = dataset.split(test=test, seed=3)
    assert (len(train), len(held_out)) == (len(dataset) - test, test)
    rows = sorted(map(tuple, np.column_stack([dataset.x, dataset.y])))
    parts = np.concatenate([np.column_stack([part.x, part.y]) for part in (train, held_out)])
    assert sorted(map(tuple, parts)) == rows
    expected = np.bincount(dataset.y) * test / len(dataset)
    assert np.abs(np.bincount(held_out.y, minlength=len(expected)) - expected).max() <= 1


def test_split_is_seeded_and_shuffled():
    digits = data.mnist_5k()
    train, test = digits.split(test=1000, seed=0)
    again, other = digits.split(test=1000, seed=0)[1], digits.split(test=1000, seed=1)[1]
    np.testing.assert_array_equal(test.x, again.x)
    assert set(map(bytes, test.x)) != set(map(bytes, other.x))  # other rows, not only another order
    assert np.bincount(test.y).tolist() == [100] * 10
    for part in (train, test):
        tens = part.y[:100].reshape(
            10, 10
        )  # shuffled: neither sorted by class nor dealt out class by class
        assert all(len(set(ten)) > 1 for ten in tens.tolist())
        assert any(len(set(ten)) < 10 for ten in tens.tolist())
        assert not part.x.flags.writeable


@pytest.mark.parametrize("test", [0, -1, 178, 1000])
def test_split_refuses_an_empty_side(test):
    with pytest.raises(ValueError, match=f"test={test} of 178 rows"):
        data.wine().split(test=test)


@pytest.mark.parametrize("test", [0.25, "25", True])
def test_split_refuses_a_share(test):
    with pytest.raises(TypeError, match=r"expected a number of rows.*round\(0\.25"):
        data.wine().split(test=test)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_a_seed_is_a_whole_number_from_0(seed, error):
    for call in (data.mixed_scale_table, lambda seed: data.wine().split(test=9, seed=seed)):
        with pytest.raises(error, match=f"seed is {seed}"):
            call(seed=seed)


# --- MNIST ---------------------------------------------------------------------------------------------------


def test_mnist_holds_500_digits_a_class_and_whole_pixels():
    digits = data.mnist_5k()
    assert (digits.x.shape, digits.x.dtype) == ((5000, 784), np.float32)
    assert np.bincount(digits.y).tolist() == [500] * 10
    pixels = digits.x * 255
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)
    assert (pixels.min(), pixels.max()) == (0, 255)
    # The first 5 of MNIST's training file is its first image, whose ink we know by heart: 27,525 in all.
    assert pixels[digits.y == 5][0].sum() == pytest.approx(27_525, abs=0.5)


def test_attribution_names_the_checksum_of_the_bundled_file():
    attribution = BUNDLED.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == data.digits.MNIST_5K_SHA256
    for words in (
        data.digits.MNIST_5K_SHA256,
        "LeCun",
        "Cortes",
        "Burges",
        "Raschka",
        "10.21105/joss.00638",
        "BY-SA 3.0",
    ):
        assert words in attribution


def test_an_explicit_path_wins_then_the_folder_then_the_bundled_file(copy, tmp_path, monkeypatch):
    assert _files.find("mnist_5k.npz", None) == BUNDLED
    monkeypatch.setenv("BNLAB_DATA", str(copy.parent))
    assert _files.find("mnist_5k.npz", None) == copy
    other = tmp_path / "elsewhere.npz"
    other.write_bytes(copy.read_bytes())
    assert _files.find("mnist_5k.npz", other) == other
    np.testing.assert_array_equal(data.mnist_5k(path=str(other)).x, data.mnist_5k().x)
    copy.unlink()
    assert _files.find("mnist_5k.npz", None) == BUNDLED


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda content: content[:-1], lambda content: b"", lambda content: content + b"\0"],
    ids=["one bit flipped", "truncated", "empty", "longer"],
)
def test_a_damaged_file_is_refused_by_name_and_left_alone(copy, damage, monkeypatch):
    damaged = damage(copy.read_bytes())
    copy.write_bytes(damaged)
    found = hashlib.sha256(damaged).hexdigest()
    monkeypatch.setenv("BNLAB_DATA", str(copy.parent))
    for options in ({"path": copy}, {}):
        with pytest.raises(
            ValueError, match=f"expected {data.digits.MNIST_5K_SHA256}, found {found}"
        ) as caught:
            data.mnist_5k(**options)
        assert str(copy) in str(caught.value)
    assert copy.read_bytes() == damaged


def test_a_foreign_archive_is_refused(tmp_path):
    foreign = tmp_path / "mnist_5k.npz"
    np.savez(foreign, images=np.zeros((5000, 28, 28), np.uint8), labels=np.zeros(5000, np.uint8))
    with pytest.raises(ValueError, match="damaged or is not the file"):
        data.mnist_5k(path=foreign)


def test_wrong_paths_are_named(tmp_path, monkeypatch):
    missing = tmp_path / "nowhere.npz"
    for path in (missing, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file at") as caught:
            data.mnist_5k(path=path)
        assert path.name in str(caught.value)
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path / "no-folder"))
    with pytest.raises(FileNotFoundError, match=r"BNLAB_DATA is .*no-folder"):
        data.mnist_5k()


# --- the class itself ----------------------------------------------------------------------------------------


def make(**changes):
    fields = {
        "name": "made by hand",
        "x": np.ones((3, 2)),
        "y": np.array([0, 1, 0]),
        "feature_names": ("a", "b"),
        "class_names": ("no", "yes"),
        "target_name": "bought",
    }
    return data.Dataset(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [[1.0, 2.0]]}, TypeError, "list"),
        ({"x": np.ones((3, 2), dtype=int)}, TypeError, "int64"),
        ({"x": np.ones(3)}, ValueError, r"shape \(3,\) for 2 feature names"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "NaN"),
        ({"feature_names": ("a",)}, ValueError, r"shape \(3, 2\) for 1 feature names"),
        ({"y": np.array([0, 1])}, ValueError, r"y has shape \(2,\); expected \(3,\)"),
        ({"y": np.array([0.0, 1.0, 0.0])}, TypeError, "y has dtype float64; .*np.asarray"),
        ({"y": [0, 1, 0]}, TypeError, "y is a list; .*np.asarray"),
        ({"y": np.array([0, 1, 2])}, ValueError, "y runs from 0 to 2 for 2 class names"),
        ({"y": np.array([0, -1, 1])}, ValueError, "y runs from -1 to 1"),
    ],
)
def test_inconsistent_data_sets_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_a_data_set_copies_what_it_is_given():
    x = np.ones((3, 2))
    dataset = make(x=x)
    x[0, 0] = 5
    assert dataset.x[0, 0] == 1
    assert dataset.take(np.array([2, 0])).y.tolist() == [0, 0]
