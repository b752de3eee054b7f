"""Print the built book into one PDF, page by page, through Chromium (Debian: `apt install chromium chromium-driver`).

Usage: python -m tools.make_pdf [PAGES_FOLDER] [PDF]     (default: _build/html and _build/bnlab.pdf)
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from tools.book import HTML, ROOT, pages
from tools.browser import chromium

# What stands behind a fold is printed, but for code; an answer is printed below its question.
OPEN = """
const done = arguments[0];
document.documentElement.dataset.theme = "light";
for (const fold of document.querySelectorAll("details:not(.hide)")) fold.open = true;
for (const answer of document.querySelectorAll(".bn-answer")) answer.hidden = false;
const math = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
math.then(() => requestAnimationFrame(() => requestAnimationFrame(done)));
"""
PAPER = {
    "paperWidth": 8.27,
    "paperHeight": 11.69,
    "printBackground": True,
    "generateDocumentOutline": False,
}


def main(folder: Path, target: Path, names: list[str]) -> None:
    """Print the pages and join them, with a bookmark for each."""
    writer = PdfWriter()
    with chromium() as driver:
        for name in names:
            driver.get((folder / f"{name}.html").resolve().as_uri())
            driver.execute_async_script(OPEN)
            printed = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", PAPER)["data"])
            first = len(writer.pages)
            writer.append(PdfReader(io.BytesIO(printed)), import_outline=False)
            writer.add_outline_item(title=driver.title.split(" — ")[0], page_number=first)
    part = target.with_suffix(".part")
    writer.write(part)
    part.replace(target)
    print(f"{target}: {len(writer.pages)} pages")


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:]]
    folder, target = places + [HTML, ROOT / "_build" / "bnlab.pdf"][len(places) :]
    try:
        main(folder, target, pages())
    except FileNotFoundError as error:
        sys.exit(f"make pdf: {error}")
