"""Make slides for a lecturer from the built book: the figures and questions of each chapter, one file a chapter.

Usage: python -m tools.make_slides [PAGES_FOLDER]     (default: _build/html; the slides come into its folder slides)

A slide is as large as the window; the arrow keys and the space bar go on. An answer is a fold below its question.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bs4 import BeautifulSoup

from tools.book import HTML

STYLE = """
html { scroll-snap-type: y mandatory; color-scheme: light; --pst-color-background: #fff; }
body { margin: 0; font: 1.4rem/1.4 system-ui, sans-serif; }
section {
  min-height: 100vh; box-sizing: border-box; padding: 5vh 8vw; display: grid; align-content: center;
  scroll-snap-align: start; break-after: page;
}
svg.bn-figure, img { width: 100%; max-height: 68vh; fill: currentcolor; }
h1 { font-size: 3rem; } footer { font-size: 1rem; color: #555; }
ul { list-style: upper-alpha; } summary { cursor: pointer; color: #0b5cc7; }
mjx-container svg { max-width: 100%; }
"""
KEYS = """
addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 }[event.key];
  if (!step || event.target.closest("summary")) return;
  event.preventDefault();
  scrollTo(0, (Math.round(scrollY / innerHeight) + step) * innerHeight);
});
"""


def slides(page: BeautifulSoup) -> list[str]:
    """Return the slides of a page: its title and question, then its figures and questions in their order."""
    article = page.find("article")
    for mark in article.select(".headerlink"):
        mark.decompose()
    title, question = article.h1.get_text(strip=True), article.find("strong")
    made = [f"<h1>{title}</h1><p>{question.decode_contents() if question else ''}</p>"]
    for found in article.select("figure, bn-predict"):
        if found.name == "figure":
            made.append(f"<figure>{found.decode_contents()}</figure>")
        elif found.find_parent(class_="predict"):
            kind = found.find_parent(class_="predict").select_one(".admonition-title").get_text()
            made.append(f"<h2>{kind}</h2>{found.decode_contents()}")
    return made


def main(folder: Path) -> None:
    """Write the slides of every chapter into a folder beside the pages, whose pictures and formulas they use."""
    target = folder / "slides"
    target.mkdir(exist_ok=True)
    for path in sorted(folder.glob("[0-9][0-9]_*.html")):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        math = "".join(str(s) for s in page.select("script") if "mathjax" in str(s).lower())
        made = slides(page)
        head = f'<meta charset="utf-8"><title>{page.title.text}</title><base href="../"><style>{STYLE}</style>{math}'
        body = "\n".join(f"<section>{slide}</section>" for slide in made)
        text = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}<script>{KEYS}</script></body></html>'
        (target / path.name).write_text(text, encoding="utf-8")
        print(f"{target / path.name}: {len(made)} slides")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HTML)
