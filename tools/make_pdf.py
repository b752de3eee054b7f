"""Print the built book into one PDF, page by page, through Chromium (Debian: `apt install chromium chromium-driver`).

Usage: python tools/make_pdf.py [PAGES_FOLDER] [PDF]     (default: _build/html and _build/bnlab.pdf)
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from pathlib import Path

import yaml
from pypdf import PdfReader, PdfWriter
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[1]

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


def names() -> list[str]:
    """Return the book's pages in the order of its table of contents."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    below = [(entry, *entry.get("sections", ())) for entry in entries]
    return [toc["root"], *(page["file"] for pages in below for page in pages)]


def browser() -> webdriver.Chrome:
    """Start Chromium, which is not ours to install."""
    program, driver = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    if not program or not driver:
        sys.exit(
            "make pdf needs Chromium and chromedriver; on Debian or Ubuntu: apt install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(driver))


def main(folder: Path, target: Path, pages: list[str]) -> None:
    """Print the pages and join them, with a bookmark for each."""
    writer = PdfWriter()
    driver = browser()
    try:
        driver.set_script_timeout(60)
        for name in pages:
            driver.get((folder / f"{name}.html").resolve().as_uri())
            driver.execute_async_script(OPEN)
            printed = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", PAPER)["data"])
            first = len(writer.pages)
            writer.append(PdfReader(io.BytesIO(printed)), import_outline=False)
            writer.add_outline_item(title=driver.title.split(" — ")[0], page_number=first)
    finally:
        driver.quit()
    part = target.with_suffix(".part")
    writer.write(part)
    part.replace(target)
    print(f"{target}: {len(writer.pages)} pages")


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:]]
    folder, target = (
        places + [ROOT / "_build" / "html", ROOT / "_build" / "bnlab.pdf"][len(places) :]
    )
    main(folder, target, names())
