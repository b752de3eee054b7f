"""What Chapter 5 shows as the package's own lines are the package's own lines."""

import inspect
import re
from pathlib import Path

import nbformat

from bnlab import reference

PAGE = Path(__file__).resolve().parents[2] / "book" / "05_minibatch_batchnorm.ipynb"


def test_the_box_of_algorithm_1_holds_the_lines_of_the_package_in_their_order():
    cells = nbformat.read(PAGE, as_version=4).cells
    (box,) = [c.source for c in cells if "{container} bn-algorithm" in c.source]
    shown = re.findall(r"^`([^`]+)`$", box.partition("{container} bn-algorithm")[2], flags=re.M)
    source = inspect.getsource(reference.batch_norm_forward)
    lines = [line.strip() for line in source.splitlines()]
    assert [line.split(" = ")[0] for line in shown] == ["mu_B", "var_B", "x_hat", "y"]
    assert [line for line in lines if line in shown] == shown
