"""A chapter has the number of its file, also where the chapters before it do not exist yet."""

import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

EXTENSION = Path(__file__).resolve().parents[1] / "book" / "_ext"
PAGE = """{title}
{line}

**What is {title}?**

A section
---------

.. _fig-{title}:

.. figure:: picture.png

   A caption.

See :numref:`fig-Second`.
"""
INDEX = """Start
=====

.. chapter-map::

.. toctree::
   :numbered:

   01_one
   02_two
   14_late
   notes
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    pixel = (
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000a49444154789c6300010000050001"
        "0d0a2db40000000049454e44ae426082"
    )
    (folder / "picture.png").write_bytes(bytes.fromhex(pixel))
    titles = {"01_one": "First", "02_two": "Second", "14_late": "Late", "notes": "Notes"}
    for name, title in titles.items():
        (folder / f"{name}.rst").write_text(PAGE.format(title=title, line="=" * len(title)))
    (folder / "index.rst").write_text(INDEX)
    (folder / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXTENSION)!r})\n"
        "import bnlab_site\nnumfig = True\nhtml_theme = 'basic'\n"
        "def setup(app):\n"
        "    app.add_directive('chapter-map', bnlab_site.ChapterMap)\n"
        "    app.connect('env-get-updated', bnlab_site.number_chapters, priority=900)\n"
        "    app.connect('doctree-resolved', bnlab_site.fill_chapter_map)\n"
    )
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", str(folder), str(folder / "out")]
    for _ in range(2):  # the second build starts from the stored environment
        subprocess.run(command, check=True, capture_output=True)
    return {
        name: BeautifulSoup((folder / "out" / f"{name}.html").read_text(), "html.parser")
        for name in (*titles, "index")
    }


@pytest.mark.parametrize(("name", "number"), [("01_one", 1), ("02_two", 2), ("14_late", 14)])
def test_titles_sections_and_figures_have_the_files_number(pages, name, number):
    page = pages[name]
    assert page.h1.text.startswith(f"{number}. ")
    assert page.h2.text.startswith(f"{number}.1. ")
    assert page.find(class_="caption-number").text == f"Fig. {number}.1 "
    assert "See Fig. 2.1." in page.text


def test_the_tables_of_contents_and_the_map_agree(pages):
    contents = pages["index"].find(class_="toctree-wrapper").text.split("\n")
    assert {"1. First", "2. Second", "14. Late", "14.1. A section"} <= set(contents)
    cards = pages["index"].select(".chapter-map > .bn-card")
    assert [card.a.text for card in cards] == ["1. First", "2. Second", "14. Late"]
