"""Every result that the book stores says where it comes from, and refuses an edit."""

import importlib

import numpy as np
import pytest
from _book import RESULTS, book_result

from bnlab.chapters import TOPICS
from bnlab.experiments import load

for topic in TOPICS:  # a result is read by the module that defines it
    importlib.import_module(f"bnlab.chapters.{topic}.results")
NAMES = sorted(path.stem for path in RESULTS.glob("*.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_it_says_where_it_comes_from(name):
    result, origin = book_result(name)
    assert "changes" not in origin.commit
    assert origin.machine
    assert origin.duration > 0
    assert tuple(getattr(result, "seeds", origin.seeds)) == tuple(origin.seeds)


@pytest.mark.parametrize("name", NAMES)
def test_an_edited_number_is_refused(name, tmp_path):
    with np.load(RESULTS / f"{name}.npz") as file:
        arrays = dict(file)
    edited = max((k for k in arrays if arrays[k].dtype.kind == "f"), key=lambda k: arrays[k].size)
    arrays[edited].flat[0] = 1 + 2 * np.nan_to_num(arrays[edited].flat[0])
    np.savez(tmp_path / "edited.npz", **arrays)
    with pytest.raises(ValueError, match="does not match its own checksum"):
        load(tmp_path / "edited.npz")
