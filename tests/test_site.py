"""The built book in a real Chromium: opened from file://, with every other host blocked."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pytest
import yaml
from _browser import chromium, complaints, emulate, open_page, requests, resize
from bs4 import BeautifulSoup
from pypdf import PdfReader
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import make_pdf, make_slides  # noqa: E402

BOOK = ROOT / "book"
HTML = ROOT / "_build" / "html"
AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
LISTED = [
    c
    for part in TOC["parts"]
    for chapter in part["chapters"]
    for c in (chapter, *chapter.get("sections", ()))
]
SOURCES = [TOC["root"], *(entry["file"] for entry in LISTED)]
CHAPTERS = [name for name in SOURCES if re.match(r"\d\d_", name)]
PAGES = [*SOURCES, "search", "genindex"]


# ---- building --------------------------------------------------------------------------------------


def build(root: Path, *options: str) -> subprocess.CompletedProcess:
    """Run the book's one build command in a folder."""
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [
        "build",
        "book",
        "--config",
        "_config.yml",
        "--path-output",
        ".",
        "-W",
        "-n",
        "--keep-going",
    ]
    return subprocess.run(
        [*program, *command, *options],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )


def state_of(*folders: Path) -> str:
    """Fingerprint every file below some folders, by name, size and time."""
    files = sorted(
        path
        for folder in folders
        for path in ([folder] if folder.is_file() else folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp"
    )
    lines = (f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.fixture(scope="module")
def failure() -> str:
    """Build the pages anew if any source changed; return the end of the log if that failed, else ""."""
    stamp = ROOT / "_build" / ".site-state"
    state = state_of(BOOK, ROOT / "bnlab", ROOT / "_config.yml")
    if (HTML / "index.html").is_file() and stamp.is_file() and stamp.read_text() == state:
        return ""
    stamp.unlink(missing_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    run = build(ROOT, "--all")
    if run.returncode:
        return (run.stdout + run.stderr)[-6000:]
    stamp.write_text(state)
    return ""


@pytest.fixture(scope="module")
def site(failure) -> Path:
    """The folder of built pages."""
    if failure:
        pytest.skip("the book did not build: see test_builds_without_a_warning")
    return HTML


def test_builds_without_a_warning(failure):
    assert not failure, failure


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module", params=PAGES)
def page(request, site, browser):
    """One page, opened once for all tests of it; its log is read at once."""
    resize(browser, 1280)
    emulate(browser)
    open_page(browser, site / f"{request.param}.html")
    browser.page_requests = requests(browser)
    browser.page_complaints = complaints(browser)
    browser.page_name = request.param
    return browser


def pages_of(site: Path) -> set[Path]:
    """Every built page but that for a wrong address, seen from the folder of them all."""
    found = {path.relative_to(site) for path in site.rglob("*.html")} - {Path("404.html")}
    return {path for path in found if not path.parts[0].startswith("_")}


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# ---- every page, in the browser --------------------------------------------------------------------


def test_asks_no_other_host(page):
    assert [u for u in page.page_requests if not u.startswith(("file:", "data:", "blob:"))] == []
    assert any(url.endswith("/bnlab.css") or "/bnlab.css?" in url for url in page.page_requests)


def test_console_is_silent(page):
    assert page.page_complaints == []


TEXT = """
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (!parent.closest("pre, code, kbd, script, style, mjx-container")) texts.push(walker.currentNode.data);
    }
    return texts.join(" ");
"""
RAW = {
    "TeX": r"\\\(|\\\)|\\\[|\$\$|\\[a-zA-Z]{2,}|(?<!\w)\$[^\s$][^$\n]*\$(?!\w)",
    "MyST": r"\{[a-z:]+\}`|^:::|```|\{\{|\}\}",
    "a placeholder": r"(?i)\b(TODO|FIXME|TBD|XXX|lorem ipsum|placeholder)\b",
}


@pytest.mark.parametrize("kind", RAW)
def test_shows_no_raw(page, kind):
    text = page.execute_script(TEXT)
    assert len(text) > 100 or page.page_name in ("search", "genindex")
    found = re.search(RAW[kind], text, re.MULTILINE)
    assert not found, text[max(0, found.start() - 80) : found.end() + 80]


def test_math_is_typeset(page):
    counts = page.execute_script("""
        const math = [...document.querySelectorAll("main .math")];
        return [math.length, math.filter(m => m.querySelector("mjx-container > svg")).length,
                [...document.querySelectorAll("[data-mml-node=merror]")].map(m => m.textContent)];
    """)
    assert counts[0] == counts[1]
    assert counts[2] == []
    if page.page_name in CHAPTERS:
        assert counts[0] > 0


def test_images_are_there_and_described(page):
    broken = page.execute_script("""
        return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)""")
    assert broken == []
    silent = page.execute_script("""
        return [...document.querySelectorAll("main img")].filter(i => !i.alt.trim()).map(i => i.src)""")
    assert silent == []


def state_of_figure(figure):
    """What a figure shows: its drawing, without the serial numbers in it, and its readout."""
    parts = figure.parent.execute_script(
        "return ['.bn-live-plot', '.bn-live-readout'].map(s => arguments[0].querySelector(s).innerHTML)",
        figure,
    )
    return [re.sub(r"(plot-(?:clip|mask|gradient)-)\d+", r"\1", part) for part in parts]


def test_live_figures_answer_the_keyboard(page):
    figures = page.find_elements(By.TAG_NAME, "bn-live")
    if page.page_name in CHAPTERS or page.page_name == "index":
        assert figures, "this page has no live figure"
    for figure in figures:
        name = figure.get_attribute("figure")
        assert "bn-live-ready" in figure.get_attribute("class"), name
        assert figure.find_elements(By.CSS_SELECTOR, ".bn-live-plot svg"), name
        assert len(figure.find_element(By.CSS_SELECTOR, ".bn-live-readout").text) > 10, name
        first = state_of_figure(figure)
        for control in figure.find_elements(By.CSS_SELECTOR, "input, select"):
            label = f"{name}: {control.get_attribute('id')}"
            before = state_of_figure(figure)
            for key in keys_that_move(control):
                control.send_keys(key)
                if state_of_figure(figure) != before:
                    break
            assert state_of_figure(figure) != before, f"{label} changes nothing"
        figure.find_element(By.CSS_SELECTOR, ".bn-live-reset").send_keys(Keys.ENTER)
        assert state_of_figure(figure) == first, f"{name}: reset does not restore the start"
    assert complaints(page) == []


def keys_that_move(control):
    if control.tag_name == "select":
        return [Keys.ARROW_DOWN, Keys.ARROW_UP]
    if control.get_attribute("type") == "checkbox":
        return [Keys.SPACE]
    return [Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.END, Keys.HOME]


def settle(page):
    """Wait until the page is laid out and its figures are drawn for the new width."""
    page.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 50))"
    )


def test_fits_a_phone(page):
    resize(page, 390)
    try:
        settle(page)
        width, wide = page.execute_script("""
            const width = document.documentElement.clientWidth;
            const scrolls = e =>
                e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
            const shown_only = "article *:not(mjx-assistive-mml, mjx-assistive-mml *, svg *)";
            const wide = [...document.querySelectorAll(shown_only)].filter(e =>
                e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
            const shown = wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120));
            return [[document.documentElement.scrollWidth, width], shown];
        """)
        assert wide == []
        assert width[0] <= width[1] == 390
        for svg in page.find_elements(By.CSS_SELECTOR, "bn-live svg"):
            assert svg.rect["width"] <= 390
    finally:
        resize(page, 1280)


# In the dark and on a phone, look again at what colour and width can change.
AXE_RULES = {
    "light": {"rules": {"label-content-name-mismatch": {"enabled": True}}},
    "dark": {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]},
}


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_is_accessible(page, theme, width):
    resize(page, width)
    emulate(page, scheme=theme)
    open_page(page, HTML / f"{page.page_name}.html")
    assert page.execute_script("return document.documentElement.dataset.theme") == theme
    page.execute_script(AXE)
    violations = page.execute_async_script(
        """
        const [rules, done] = arguments;
        axe.run({resultTypes: ["violations"], preload: false, ...rules}).then(result => done(result.violations.map(
            v => v.id + ": " + v.nodes.map(n => n.target.join(" ") + " " + n.html.slice(0, 120)).join(" | "))));
        """,
        AXE_RULES[theme],
    )
    resize(page, 1280)
    emulate(page)
    assert violations == []


# ---- single pages, in the browser ------------------------------------------------------------------


def test_dark_mode_follows_the_button_and_the_system(site, browser):
    def background():
        color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    emulate(browser, scheme="dark")
    open_page(browser, site / f"{CHAPTERS[0]}.html")
    assert background() < 150, "a dark system shows a light page"
    emulate(browser, scheme="light")
    open_page(browser, site / f"{CHAPTERS[0]}.html")
    light = background()
    assert light > 600
    try:
        for _ in range(3):
            browser.find_element(By.CSS_SELECTOR, ".theme-switch-button").click()
            if browser.execute_script("return document.documentElement.dataset.theme") == "dark":
                break
        assert background() < 150
    finally:
        browser.execute_script("localStorage.clear()")


def results(browser):
    """Wait for the end of the search; return the links that it found."""
    WebDriverWait(browser, 10).until(
        lambda driver: driver.find_element(By.CSS_SELECTOR, ".search-summary").text
    )
    links = browser.find_elements(By.CSS_SELECTOR, "#search-results ul.search li a")
    return [urlsplit(link.get_attribute("href")) for link in links]


def test_search_finds_a_word(site, browser):
    open_page(browser, site / "search.html", "?q=normalization")
    links = results(browser)
    assert len(links) >= 3
    assert {Path(unquote(link.path)).relative_to(site) for link in links} <= pages_of(site)
    assert complaints(browser) == []
    assert [url for url in requests(browser) if not url.startswith("file:")] == []


@pytest.mark.parametrize(
    ("words", "page", "anchor"),
    [
        ("fold convolution", "api/inference.html", "bnlab.inference.fold"),
        ("fold convolution", "howto/fold.html", ""),
        ("BatchNorm2d", "api/nn.html", "bnlab.nn.BatchNorm2d"),
        ("recalibrate", "howto/recalibrate.html", ""),
    ],
)
def test_search_finds_what_a_reader_types(site, browser, words, page, anchor):
    open_page(browser, site / "howto" / "swap.html")
    browser.find_element(By.CSS_SELECTOR, ".search-button-field").click()
    browser.switch_to.active_element.send_keys(words, Keys.ENTER)
    WebDriverWait(browser, 10).until(lambda driver: "search.html?q=" in driver.current_url)
    found = [
        (str(Path(unquote(link.path)).relative_to(site)), link.fragment)
        for link in results(browser)
    ]
    assert (page, anchor) in found[:10]


@pytest.mark.parametrize("name", ["howto/fold.ipynb", f"{CHAPTERS[0]}.ipynb", "notation.md"])
def test_a_page_can_be_downloaded_from_a_local_file(site, browser, tmp_path, name):
    allow = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    open_page(browser, (site / name).with_suffix(".html"))
    browser.find_element(By.CSS_SELECTOR, ".dropdown-download-buttons > button").click()
    browser.find_element(By.CSS_SELECTOR, ".btn-download-source-button").click()
    saved = tmp_path / Path(name).name
    WebDriverWait(browser, 10).until(lambda _: saved.is_file() and saved.stat().st_size)
    assert saved.read_bytes() == (BOOK / name).read_bytes()
    assert complaints(browser) == []


def test_print_keeps_the_picture_and_drops_the_controls(site, browser):
    open_page(browser, site / "index.html")
    emulate(browser, media="print")
    try:
        shown = browser.execute_script("""
            return [".bn-live-controls", ".bn-live-plot svg", ".bn-live-readout"].map(
                s => document.querySelector(s).getClientRects().length > 0)""")
    finally:
        emulate(browser)
    assert shown == [False, True, True]


def test_print_is_light(site, browser):
    emulate(browser, scheme="dark")
    try:
        open_page(browser, site / "index.html")
        themes = browser.execute_script("""
            const theme = event => {
                if (event) dispatchEvent(new Event(event));
                return document.documentElement.dataset.theme;
            };
            return [theme(), theme("beforeprint"), theme("afterprint")]""")
    finally:
        emulate(browser)
    assert themes == ["dark", "light", "dark"]


# ---- files -----------------------------------------------------------------------------------------


def test_every_page_of_the_contents_is_built(site):
    assert {Path(f"{name}.html") for name in SOURCES} <= pages_of(site)


def test_no_sentence_became_a_list(site):
    """A line of prose that begins with "1." becomes a numbered list of one item."""
    found = []
    for path in map(site.joinpath, pages_of(site)):
        article = soup(path).find("article")
        for numbered in article.select("ol") if article else ():
            if len(numbered.find_all("li", recursive=False)) == 1 and not numbered.find_parent(
                class_="chapter-map"
            ):
                found.append((path.name, numbered.get_text()[:60]))
    assert found == []


def test_every_internal_link_and_anchor_resolves(site):
    pages = {
        path.resolve(): soup(path) for path in site.rglob("*.html") if "_static" not in path.parts
    }
    ids = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    dead = []
    for path, content in pages.items():
        for tag in content.select("a[href], link[href], script[src], img[src], object[data]"):
            address = tag.get("href") or tag.get("src") or tag.get("data")
            if re.match(r"[a-z]+:", address):
                continue
            file, anchor = urldefrag(address)
            target = (path.parent / unquote(file.split("?")[0])).resolve() if file else path
            if not target.exists() or (
                anchor and target in ids and unquote(anchor) not in ids[target]
            ):
                dead.append((path.name, address))
    assert dead == []


def test_the_logo_and_the_favicon_are_ours(site):
    for path in pages_of(site):
        content, up = soup(site / path), "../" * (len(path.parts) - 1)
        icon = content.select_one('link[rel="icon"]')
        assert icon["href"].startswith(f"{up}_static/favicon.svg"), path
        logo = content.select_one(".bn-brand img")
        assert logo["src"].startswith(f"{up}_static/logo.svg"), path


def test_nothing_links_to_an_address_that_is_not_set(site):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if config["repository"]["url"]:
        pytest.skip("the address is set")
    for path in map(site.joinpath, pages_of(site)):
        text = path.read_text(encoding="utf-8")
        assert "executablebooks" not in text, path.name
        assert 'rel="canonical"' not in text, path.name
        assert "git clone" not in text, path.name
        hosts = {a["href"] for a in soup(path).select(".article-header-buttons a[href^=http]")}
        assert hosts == set(), path.name


def test_the_landing_page_maps_every_chapter_with_its_question(site):
    cards = soup(site / "index.html").select(".chapter-map > .bn-card")
    assert [card.a["href"] for card in cards] == [f"{name}.html" for name in CHAPTERS]
    for card in cards:
        assert card.select_one("svg.bn-figure, img"), card.text
        _, question, time = (p.text for p in card.select("p"))
        assert question.endswith("?")
        assert re.fullmatch(r"\d+ minutes", time)


def test_the_landing_page_shows_claims_as_the_chapters_judge_them(site):
    cards = soup(site / "index.html").select(".bn-claims > .bn-card")
    assert len(cards) == 6
    for card in cards:
        chip, link = card.select_one(".bn-verdict"), card.select("a")[-1]
        page, _, anchor = link["href"].partition("#")
        there = soup(site / page).find(id=anchor)
        assert there.text == chip.text
        claim = there.find_parent("tr").td.get_text(" ", strip=True)
        assert claim.startswith(card.p.text[:20])
        assert " ." not in card.p.text


def test_the_landing_pages_example_runs():
    text = (BOOK / "index.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_slides_hold_every_figure_and_question_of_a_chapter(site):
    made = make_slides.slides(soup(site / f"{CHAPTERS[0]}.html"))
    page = soup(site / f"{CHAPTERS[0]}.html").article
    assert len(made) == 1 + len(page.select("figure, bn-predict"))
    assert made[0].endswith("?</p>")
    assert sum("<figure>" in slide for slide in made) == len(page.select("figure"))


def test_the_pdf_has_every_page_with_answers_and_without_code(site, tmp_path):
    target = tmp_path / "book.pdf"
    make_pdf.main(site, target, ["start", CHAPTERS[0]])
    reader = PdfReader(target)
    assert [entry.title[:5] for entry in reader.outline] == ["Batch", "1. Sc"]
    text = "\n".join(page.extract_text() for page in reader.pages)
    (answer,) = soup(site / "start.html").select(".bn-answer p")[:1]
    assert answer.text.split(".")[0][:30] in " ".join(text.split())
    assert "from myst_nb import glue" not in text
    assert list(tmp_path.iterdir()) == [target]


# ---- a small book with the real settings -----------------------------------------------------------


@pytest.fixture
def small_book(tmp_path):
    """Build a one-page book with our settings, theme and extension; return (page or None, log)."""

    def make(body: str, address: str = "", page: str = "index.md"):
        config = (ROOT / "_config.yml").read_text(encoding="utf-8")
        assert config.count('url: ""') == 1
        config = config.replace('url: ""', f'url: "{address}"')
        (tmp_path / "_config.yml").write_text(config, encoding="utf-8")
        shutil.copytree(BOOK, tmp_path / "book", ignore=shutil.ignore_patterns("*.md", "*.ipynb"))
        (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
        (tmp_path / "book" / page).write_text(body, encoding="utf-8")
        run = build(tmp_path)
        built = tmp_path / "_build" / "html" / "index.html"
        page = soup(built) if run.returncode == 0 else None
        return page, run.stdout + run.stderr

    return make


def notebook(*cells):
    """Return a notebook's text, from Markdown and from code with tags."""
    made = [
        nbformat.v4.new_markdown_cell(cell)
        if isinstance(cell, str)
        else nbformat.v4.new_code_cell(cell[0], metadata={"tags": [*cell[1:]]})
        for cell in cells
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.writes(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}))


QUESTION = """:::{predict}
How much is two and two?

- [ ] Three.
- [x] Four.

It is {glue:text}`sum`.
:::"""
NUMBER = """:::{predict}
:number: 1 100 log
:unit: apples
How many?

{glue:text}`sum` of them.
:::"""


def test_a_page_shows_the_ideas_code_folds_the_rest_and_asks(small_book, browser, tmp_path):
    cells = notebook(
        "# Title",
        ("from myst_nb import glue\nimport matplotlib.pyplot as plt",),
        QUESTION,
        NUMBER,
        ("total = 2 + 2", "idea"),
        ("glue('sum', total, display=False)",),
        ("print('four:', total == 4)\nprint('even:', total % 2 == 0)\nprint('evidence')", "checks"),
        ("print('Not yet: the function is still a stub.')",),
        ("print('Correct: well done.')", "hide-cell"),
        ("lines = plt.plot([1, 2], color='#0072B2')",),
    )
    page, log = small_book(cells, page="index.ipynb")
    assert page, log[-3000:]
    shown = [c.text.strip() for c in page.select(".cell_input") if not c.find_parent("details")]
    assert shown == ["total = 2 + 2", "print('Not yet: the function is still a stub.')"]
    folds = [f.select_one(".collapsed").text for f in page.select("details.hide")]
    assert folds == ["Imports", "Code", "2 checks passed", "Solution", "Code of the figure"]
    assert "is still a stub." not in "".join(o.text for o in page.select(".cell_output"))
    drawing = page.select_one("svg.bn-figure")
    assert drawing["role"] == "img"
    assert "light-dark(#0072b2, #" in str(drawing)

    open_page(browser, tmp_path / "_build" / "html" / "index.html")
    choice, number = browser.find_elements(By.TAG_NAME, "bn-predict")

    def press(question):
        question.find_element(By.CLASS_NAME, "bn-commit").click()
        return question.find_element(By.CLASS_NAME, "bn-said").text

    assert "Choose first" in press(choice)
    choice.find_elements(By.CSS_SELECTOR, "input")[0].click()
    assert press(choice).startswith("Not this time")
    assert "It is 4" in choice.text
    assert press(choice) == ""  # another try
    choice.find_elements(By.CSS_SELECTOR, "input")[1].click()
    assert press(choice) == "You had it."
    slider = number.find_element(By.CSS_SELECTOR, "input")
    slider.send_keys(Keys.HOME)
    assert "1 apples" in number.text
    assert press(number).startswith("Not this time")
    press(number)
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 30)  # 100 ** 0.3 is 3.98
    assert press(number) == "You had it."
    open_page(browser, tmp_path / "_build" / "html" / "index.html")
    said = [q.text for q in browser.find_elements(By.CLASS_NAME, "bn-said")]
    assert said == ["You had it."] * 2
    assert complaints(browser) == []
    browser.execute_script("localStorage.clear()")


def test_a_page_of_another_form_fails_the_build(small_book):
    wrong = {
        "and a tick at one of them": QUESTION.replace("[x]", "[ ]"),
        "a question needs an answer below it": QUESTION.replace("It is {glue:text}`sum`.", ""),
        "a question needs choices": ":::{predict}\nWhat?\n:::",
        "the answer to a question for a number glues none": NUMBER.replace("{glue:text}`sum`", "4"),
        "a cell of checks passed none, or failed one": ("print('four:', 2 + 2 == 5)", "checks"),
        "'maybe' is no verdict": "{verdict}`maybe`",
        "index has no section 'In practice'": "```{opening}\n```",
    }
    first = ("# Title", ("from myst_nb import glue",), ("glue('sum', 4, display=False)",))
    page, log = small_book(notebook(*first, *wrong.values()), page="index.ipynb")
    assert page is None
    assert [complaint for complaint in wrong if complaint not in log] == []


def test_all_questions_are_summed_up(site, browser):
    questions = soup(site / "predictions.html").select(".bn-predictions li.bn-asked-predict a")
    assert len(questions) >= 60
    first, second = (link["href"].split("#") for link in questions[:2])
    open_page(browser, site / "predictions.html")
    browser.execute_script("localStorage.clear()")
    for (page, anchor), right in ((first, True), (second, False)):
        browser.execute_script(
            "localStorage.setItem(arguments[0], arguments[1])",
            f"bnlab:{page}#{anchor}", json.dumps({"value": "0", "right": right}),
        )  # fmt: skip
    open_page(browser, site / "predictions.html")
    assert f"You predicted 1 of 2 rightly (there are {len(questions)})." in browser.page_source
    again = browser.find_elements(By.CSS_SELECTOR, ".bn-miss a")
    assert [urldefrag(a.get_attribute("href")).fragment for a in again] == [second[1]]
    browser.execute_script("localStorage.clear()")


COMMANDS = "# Title\n\n```{local-commands}\nmake book\n```\n"


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_an_address_turns_its_links_on(small_book, tmp_path, ending):
    address, home = "https://github.com/someone/bnlab", "https://someone.github.io/bnlab/"
    page, log = small_book(COMMANDS, address + ending)
    assert page, log[-3000:]
    assert (
        page.select_one('link[rel="canonical"]')["href"]
        == "https://someone.github.io/bnlab/index.html"
    )
    links = {a["href"] for a in page.select(".article-header-buttons a[href]")}
    assert address in links
    assert f"{address}/edit/main/book/index.md" in links
    assert any(link.startswith(f"{address}/issues/new") for link in links)
    assert page.select_one("main pre").text.split("\n")[:3] == [
        f"git clone {address}",
        "cd bnlab",
        "make book",
    ]

    assert page.select_one('meta[property="og:image"]')["content"] == f"{home}_static/card.png"
    assert f"<loc>{home}index.html</loc>" in (tmp_path / "_build/html/sitemap.xml").read_text()
    lost = soup(tmp_path / "_build/html/404.html")
    assert [a["href"] for a in lost.select("a")] == [f"{home}index.html", f"{home}genindex.html"]


def test_no_address_shows_none(small_book, tmp_path):
    page, log = small_book(COMMANDS)
    assert page, log[-3000:]
    assert page.select_one('meta[property="og:title"]')["content"] == "Title"
    assert page.select_one('meta[property="og:image"]') is None
    assert not (tmp_path / "_build/html/sitemap.xml").exists()
    assert soup(tmp_path / "_build/html/404.html").a["href"] == "index.html"
    assert page.select_one("main pre").text.strip() == "make book"
    assert page.select_one('link[rel="canonical"]') is None
    assert page.select(".article-header-buttons a[href^=http]") == []


def test_a_figure_without_its_script_fails_the_build(small_book):
    page, log = small_book('# Title\n\n<bn-live figure="absent"></bn-live>\n')
    assert page is None
    assert "needs book/assets/live/absent.js, which does not exist" in log
