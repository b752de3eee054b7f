"""Every notebook prints today what is stored in it: the build of the book ran each from a clean kernel."""

import copy

import nbformat
import pytest

from tools import book

NOTEBOOKS = sorted([*book.BOOK.glob("*.ipynb"), *book.BOOK.glob("howto/*.ipynb")])


def read(path):
    return nbformat.read(path, as_version=4)


def shown(cell):
    """Return all that a cell shows; of a picture, that it is one, and of printed text, no matter in how many pieces."""
    streams, others = {}, []
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        else:
            data = output.get("data", {})
            text = {kind: value for kind, value in data.items() if not kind.startswith("image/")}
            others.append((output.output_type, text, len(text) < len(data)))
    return streams, others


def differences(stored, fresh):
    """Return the cells of which a fresh run shows something else than is stored."""
    code = ([c for c in notebook.cells if c.cell_type == "code"] for notebook in (stored, fresh))
    pairs = [(a.source, shown(a), shown(b)) for a, b in zip(*code, strict=True)]
    return [(source, was, now) for source, was, now in pairs if was != now]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_fresh_run_shows_what_is_stored(site, path):
    stored = read(path)
    assert differences(stored, book.run_of(stored)) == []


def digit(cell):
    cell.outputs[0].text = "0.1842\n"


def silence(cell):
    cell.outputs = []


def warn(cell):
    cell.outputs.append(nbformat.v4.new_output("stream", name="stderr", text="Warning"))


def no_picture(cell):
    del cell.outputs[1].data["image/png"]


def value(cell):
    cell.outputs[1].data["text/plain"] = "2"


@pytest.mark.parametrize("change", [digit, silence, warn, no_picture, value])
def test_a_difference_is_noticed(change):
    stored = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    (cell,) = stored.cells
    data = {"text/plain": "1", "image/png": "abc"}
    cell.outputs = [
        nbformat.v4.new_output("stream", text="0.1841\n"),
        nbformat.v4.new_output("execute_result", data),
    ]
    fresh = copy.deepcopy(stored)
    fresh.cells[0].outputs[1].data["image/png"] = "another drawing"
    pieces = [nbformat.v4.new_output("stream", text=text) for text in ("0.18", "41\n")]
    fresh.cells[0].outputs[:1] = pieces
    assert differences(stored, fresh) == []
    change(cell)
    assert len(differences(stored, fresh)) == 1
