"""A book of one page, built with the real settings, theme and extensions."""

import shutil
from types import SimpleNamespace

import nbformat
import pytest
from _browser import complaints, open_page
from bs4 import BeautifulSoup
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tools.book import BOOK, ROOT, build


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


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
        run = build(tmp_path, capture_output=True)
        built = tmp_path / "_build" / "html" / "index.html"
        page = read(built) if run.returncode == 0 else None
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


COMMANDS = "# Title\n\n```{local-commands}\nmake book\n```\n"


ADDRESS = "https://github.com/someone/bnlab"


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_an_address_may_end_in_every_way_that_it_is_copied(monkeypatch, ending):
    monkeypatch.syspath_prepend(BOOK / "_ext")
    from bnlab_site import apply_address

    options = {"repository_url": ADDRESS + ending}
    config = SimpleNamespace(html_theme_options=options, html_baseurl="")
    apply_address(None, config)
    assert options["repository_url"] == ADDRESS
    assert config.html_baseurl == "https://someone.github.io/bnlab/"


def test_an_address_turns_its_links_on(small_book, tmp_path):
    address, home = ADDRESS, "https://someone.github.io/bnlab/"
    page, log = small_book(COMMANDS, f"{ADDRESS}.git")
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
    lost = read(tmp_path / "_build/html/404.html")
    assert [a["href"] for a in lost.select("a")] == [f"{home}index.html", f"{home}genindex.html"]


def test_with_an_address_a_notebook_can_be_run_elsewhere(small_book):
    page, log = small_book(notebook("# Title", ("1",)), ADDRESS, page="index.ipynb")
    assert page, log[-3000:]
    links = {a.text.strip(): a["href"] for a in page.select(".dropdown-launch-buttons a")}
    assert links == {
        "Binder": "https://mybinder.org/v2/gh/someone/bnlab/main?urlpath=lab/tree/book/index.ipynb",
        "Colab": "https://colab.research.google.com/github/someone/bnlab/blob/main/book/index.ipynb",
    }
    needs = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {"-c ../constraints.txt", ".[book]"} <= set(needs)


def test_no_address_shows_none(small_book, tmp_path):
    page, log = small_book(COMMANDS)
    assert page, log[-3000:]
    assert page.select_one('meta[property="og:title"]')["content"] == "Title"
    assert page.select_one('meta[property="og:image"]') is None
    assert not (tmp_path / "_build/html/sitemap.xml").exists()
    assert read(tmp_path / "_build/html/404.html").a["href"] == "index.html"
    assert page.select_one("main pre").text.strip() == "make book"
    assert page.select_one('link[rel="canonical"]') is None
    assert page.select(".article-header-buttons a[href^=http]") == []


def test_a_figure_without_its_script_fails_the_build(small_book):
    page, log = small_book('# Title\n\n<bn-live figure="absent"></bn-live>\n')
    assert page is None
    assert "needs book/assets/live/absent.js, which does not exist" in log
