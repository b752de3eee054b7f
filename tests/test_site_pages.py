"""Every page of the built book in a real Chromium: opened from file://, once, with every other host blocked."""

import re
from pathlib import Path

import pytest
from _browser import complaints, emulate, open_page, requests, resize
from _site import CHAPTERS, SOURCES
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PAGES = [*SOURCES, "search", "genindex"]
AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

# Each page is looked at in every theme and at every width. Of the pages that no one wrote, which come from
# docstrings and are all of one form, the first is, and the others take turns.
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]
AT_ONCE = "<style>*, *::before, *::after { transition: none !important }</style>"
ALIKE = [name for name in PAGES if name.startswith("api/") or name == "genindex"][1:]


@pytest.fixture(scope="module", params=PAGES)
def page(request, site, browser):
    """One page, opened once for all tests of it; its log is read at once."""
    look(browser, "light", 1280)
    open_page(browser, site / f"{request.param}.html")
    browser.execute_script("document.head.insertAdjacentHTML('beforeend', arguments[0])", AT_ONCE)
    browser.page_requests = requests(browser)
    browser.page_complaints = complaints(browser)
    browser.page_name = request.param
    yield browser
    look(browser, "light", 1280)


def look(browser, theme, width):
    """Give the page a theme and a width, and wait until it is laid out and its figures are drawn for them."""
    resize(browser, width)
    emulate(browser, scheme=theme)
    browser.execute_async_script("""
        const done = arguments[0];
        scrollTo({top: 0, behavior: "instant"});  // keys that a test sent may have scrolled it
        requestAnimationFrame(() => setTimeout(done, 50));
    """)


def looks_of(name):
    return [LOOKS[ALIKE.index(name) % len(LOOKS)]] if name in ALIKE else LOOKS


def test_the_pages_that_take_turns_take_every_look():
    assert {look for name in ALIKE for look in looks_of(name)} == set(LOOKS)


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


def test_shows_nothing_raw(page):
    text = page.execute_script(TEXT)
    assert len(text) > 100 or page.page_name in ("search", "genindex")
    for kind, pattern in RAW.items():
        found = re.search(pattern, text, re.MULTILINE)
        assert not found, (kind, text[max(0, found.start() - 80) : found.end() + 80])


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


WIDE = """
    const width = document.documentElement.clientWidth;
    const scrolls = e =>
        e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const shown_only = "article *:not(mjx-assistive-mml, mjx-assistive-mml *, svg *)";
    const wide = [...document.querySelectorAll(shown_only)].filter(e =>
        e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement));
    const shown = wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120));
    return [[document.documentElement.scrollWidth, width], shown];
"""
# In other looks than the first, look again at what colour and width can change.
AXE_RULES = {"rules": {"label-content-name-mismatch": {"enabled": True}}}
AXE_AGAIN = {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]}
# The time of axe goes with the number of elements, and most are strokes inside of one image.
EMPTY_IMAGES = "document.querySelectorAll('svg[role=img], mjx-container > svg').forEach(e => e.replaceChildren())"
DROP_HIDDEN = """document.querySelectorAll("details:not([open]) > :not(summary), mjx-assistive-mml")
    .forEach(e => e.remove())"""
RUN_AXE = """
    const [rules, done] = arguments;
    axe.run({resultTypes: ["violations"], preload: false, ...rules}).then(result => done(result.violations.map(
        v => v.id + ": " + v.nodes.map(n => n.target.join(" ") + " " + n.html.slice(0, 120)).join(" | "))));
"""


def test_fits_a_phone(page):
    look(page, "light", 390)
    width, wide = page.execute_script(WIDE)
    assert wide == []
    assert width[0] <= width[1] == 390
    for svg in page.find_elements(By.CSS_SELECTOR, "bn-live svg"):
        assert svg.rect["width"] <= 390


def test_is_accessible(page):
    """The last test of a page: it takes it to pieces."""
    page.execute_script(AXE)
    page.execute_script(EMPTY_IMAGES)
    found = {}
    for number, (theme, width) in enumerate(looks_of(page.page_name)):
        look(page, theme, width)
        assert page.execute_script("return document.documentElement.dataset.theme") == theme
        found[theme, width] = page.execute_async_script(RUN_AXE, AXE_AGAIN if number else AXE_RULES)
        page.execute_script(DROP_HIDDEN)
    assert {at: violations for at, violations in found.items() if violations} == {}
