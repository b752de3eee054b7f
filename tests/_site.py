"""The built site, read: which pages there are, and what a page holds."""

import functools
import re
from pathlib import Path

from bs4 import BeautifulSoup

from tools import book

SOURCES = book.pages()
CHAPTERS = [name for name in SOURCES if re.match(r"\d\d_", name)]


def pages_of(site: Path) -> set[Path]:
    """Every built page but that for a wrong address, seen from the folder of them all."""
    found = {path.relative_to(site) for path in site.rglob("*.html")} - {Path("404.html")}
    return {path for path in found if not path.parts[0].startswith("_")}


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    """Read a page, once; of a drawing, which is most of a page, its frame alone."""
    text = path.read_text(encoding="utf-8")
    framed = re.sub(r"(<svg\b[^>]*>).*?</svg>", r"\1</svg>", text, flags=re.DOTALL)
    return BeautifulSoup(framed, "html.parser")
