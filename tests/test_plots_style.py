"""The book's style reaches its figures, and nothing else."""

import matplotlib.pyplot as plt
import nbformat
from nbclient import NotebookClient

from bnlab.plots import style


def test_a_notebook_shows_every_figure_and_not_the_first_alone():
    sources = ["from bnlab.plots import style", *["with style.axes() as ax:\n    panel = ax"] * 3]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    shown = [any("image/png" in o.get("data", {}) for o in c.outputs) for c in notebook.cells]
    assert shown == [False, True, True, True]


def test_the_readers_settings_come_back():
    before = dict(plt.rcParams)
    with style.axes(rows=2) as (top, bottom):
        assert top.figure is bottom.figure
        assert dict(plt.rcParams) != before
    assert dict(plt.rcParams) == before
    plt.close("all")
