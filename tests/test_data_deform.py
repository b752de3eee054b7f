"""Deformed copies of images: seeded, small, with the label kept and the originals untouched."""

import numpy as np
import pytest

from bnlab.data import Dataset, deform, mnist_5k


@pytest.fixture(scope="module")
def digits():
    return mnist_5k().take(np.arange(0, 5000, 50))


def test_originals_come_first_and_every_copy_keeps_its_label(digits):
    more = deform(digits, 3, 0)
    np.testing.assert_array_equal(more.x[: len(digits)], digits.x)
    np.testing.assert_array_equal(more.y, np.tile(digits.y, 4))
    assert more.x.dtype == digits.x.dtype
    assert more.x.min() >= 0
    assert more.x.max() <= 1
    assert "3 deformed copies" in more.name


def test_the_seed_decides_and_more_copies_change_no_earlier_one(digits):
    few, many = deform(digits, 1, 5), deform(digits, 2, 5)
    np.testing.assert_array_equal(many.x[: len(few)], few.x)
    assert not np.array_equal(deform(digits, 1, 6).x, few.x)
    assert not np.array_equal(many.x[100:200], many.x[200:300])


def test_without_shift_and_bend_a_copy_is_the_original(digits):
    more = deform(digits, 1, 0, shift=0, elastic=0.0)
    np.testing.assert_allclose(more.x[len(digits) :], digits.x, atol=1e-6)


def test_a_shift_alone_moves_every_pixel_of_an_image_by_the_same_whole_number(digits):
    more = deform(digits, 1, 0, shift=2, elastic=0.0)
    for before, after in zip(digits.x[:20], more.x[len(digits) :][:20], strict=True):
        a, b = before.reshape(28, 28), np.pad(after.reshape(28, 28), 2)
        hits = [
            np.allclose(np.pad(a, 2)[2:-2, 2:-2], b[2 + i : 30 + i, 2 + j : 30 + j], atol=1e-6)
            for i in range(-2, 3)
            for j in range(-2, 3)
        ]
        assert any(hits)


def dot(row, column):
    x = np.zeros((1, 28, 28))
    x[0, row, column] = 1
    names = tuple(map(str, range(784)))
    return Dataset("dot", x.reshape(1, -1), np.zeros(1, int), names, ("dot",), "dot")


def test_what_lies_beyond_the_edge_is_zero_and_not_the_other_side():
    x = deform(dot(0, 0), 200, 1, shift=3, elastic=0.0).x[1:].reshape(-1, 28, 28)
    assert x[:, 4:].max() == 0
    assert x[:, :, 4:].max() == 0
    assert (x.reshape(200, -1).max(axis=1) == 0).any()  # some shifts lose the corner


def test_the_displacement_is_as_large_as_asked_for():
    """The brightness-weighted center of a wide blob moves by the displacement there."""
    p = np.arange(28)
    x = np.exp(-((p[:, None] - 14) ** 2 + (p - 14) ** 2) / 8.0).reshape(1, -1)
    blob = Dataset("blob", x, np.zeros(1, int), tuple(map(str, range(784))), ("blob",), "blob")
    moved = deform(blob, 400, 0, shift=0, elastic=1.0, smooth=20.0).x[1:].reshape(-1, 28, 28)
    centers = (moved.sum(axis=2) @ p) / moved.sum(axis=(1, 2)) - 14
    assert np.sqrt(np.mean(centers**2)) == pytest.approx(1.0, rel=0.1)


def test_nothing_given_is_changed(digits):
    before = digits.x.copy()
    deform(digits, 1, 0)
    np.testing.assert_array_equal(digits.x, before)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dataset": np.zeros((2, 4))}, TypeError, "Dataset"),
        ({"copies": -1}, ValueError, "copies"),
        ({"copies": 1.5}, TypeError, "copies"),
        ({"seed": -1}, ValueError, "seed"),
        ({"shift": 29}, ValueError, "shift"),
        ({"elastic": -1.0}, ValueError, "elastic"),
        ({"elastic": np.nan}, ValueError, "elastic"),
        ({"smooth": 0.0}, ValueError, "smooth"),
    ],
)
def test_bad_input_is_refused_by_name(digits, change, error, words):
    arguments = {"dataset": digits, "copies": 1, "seed": 0} | change
    with pytest.raises(error, match=words):
        deform(**arguments)


def test_rows_that_are_no_square_images_are_refused():
    table = Dataset("t", np.zeros((2, 3)), np.zeros(2, int), ("a", "b", "c"), ("k",), "k")
    with pytest.raises(ValueError, match="square"):
        deform(table, 1, 0)
