"""One palette, defined once, that reads on white; a style that reaches our figures and nothing else."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from nbclient import NotebookClient

from bnlab.chapters import style

PLOTS = Path(style.__file__).parent


def contrast_with_white(color):
    """WCAG 2 contrast ratio."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)


def test_the_named_colours_are_the_style_sheets():
    with plt.style.context(style.STYLE):
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [to_hex(c) for c in cycle] == [to_hex(c) for c in style.CYCLE]


@pytest.mark.parametrize("color", [*style.CYCLE, style.THEORY])
def test_a_line_stands_out_from_the_page(color):
    assert contrast_with_white(color) >= 3


@pytest.mark.parametrize("path", sorted(PLOTS.glob("*.py")), ids=lambda p: p.name)
def test_colours_come_from_the_palette(path):
    source = path.read_text(encoding="utf-8")
    if path.name != "style.py":
        assert re.findall(r"#[0-9A-Fa-f]{6}", source) == []
    # "C0" is looked up when the figure is drawn, after the style is gone again
    assert re.findall(r'(?<!not as )"C\d"', source) == []


PHONE = 390  # pixels of a page, which a figure fills


def phone_pixels(points, inches):
    """Return the height of letters that are so many points of a figure so many inches wide."""
    return points / 72 * PHONE / inches


def test_letters_are_large_enough_for_a_phone():
    with plt.style.context(style.STYLE):
        rc = plt.rcParams
        inches = rc["figure.figsize"][0] + 2 * rc["savefig.pad_inches"]
        names = [
            "font.size",
            *(n for n in rc if n.endswith((".labelsize", ".titlesize", ".fontsize"))),
        ]
        sizes = {n: rc[n] for n in names if isinstance(rc[n], float)}
    assert {"xtick.labelsize", "legend.fontsize", "axes.titlesize"} <= set(sizes)
    assert {n: s for n, s in sizes.items() if phone_pixels(s, inches) < 11} == {}


@pytest.mark.parametrize("path", sorted(PLOTS.glob("*.py")), ids=lambda p: p.name)
def test_no_figure_is_wider_or_in_smaller_letters(path):
    source = path.read_text(encoding="utf-8")
    widths = re.findall(r"(?:fig)?size=\(([\d.]+),", source)
    assert [w for w in widths if float(w) > 6.4] == []
    sizes = re.findall(r"\b(?:font|label|title_font|title)size=([\d.]+|\"\w+\")", source)
    assert [s for s in sizes if s.startswith('"') or float(s) < 13] == []


def test_the_style_stays_inside_the_figure():
    before = dict(plt.rcParams)
    with style.axes() as ax:
        assert ax.xaxis.label.get_size() == 13.5
    assert dict(plt.rcParams) == before
    plt.close("all")


def test_given_axes_are_drawn_on():
    figure, given = plt.subplots()
    with style.axes(given) as ax:
        assert ax is given
    plt.close(figure)


def test_a_notebook_shows_every_figure_and_not_the_first_alone():
    sources = [
        "from bnlab.chapters import style",
        *["with style.axes() as ax:\n    panel = ax"] * 3,
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    shown = [any("image/png" in o.get("data", {}) for o in c.outputs) for c in notebook.cells]
    assert shown == [False, True, True, True]
