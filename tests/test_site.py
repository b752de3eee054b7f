"""The built book: its files, and single pages in a real Chromium."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml
from _browser import complaints, emulate, open_page, requests
from _site import CHAPTERS, SOURCES, pages_of, soup
from pypdf import PdfReader
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tools import make_pdf, make_slides
from tools.book import BOOK, ROOT


def test_builds_without_a_warning(failure):
    assert not failure, failure


# ---- pages, in the browser ------------------------------------------------------------------


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
    made = make_slides.slides(copy.copy(soup(site / f"{CHAPTERS[0]}.html")))
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
