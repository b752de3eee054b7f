"""What the book's site needs beyond its theme: live figures, one address setting, a chapter map, mended markup."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from bnlab_page import CHAPTER, minutes
from docutils import nodes
from myst_nb.core import render
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
LOG = logging.getLogger(__name__)

LIVE_TAG = re.compile(r'<bn-live\b[^>]*\bfigure="([\w-]+)"')
LIVE_BASE = ("live/vendor/d3.min.js", "live/vendor/plot.min.js", "live/core.js")
ICON_SCRIPT = re.compile(r"<script[^>]*fontawesome\.js[^>]*></script>")
UNNAMED = re.compile(r">([^<>]+)</a><details([^>]*)><summary>")
MARKUP_REPAIRS = (
    # doc-biblioentry is deprecated ARIA, and a list needs list items.
    ('role="doc-biblioentry"', 'role="listitem"'),
    # The label hid the summary's visible words from its accessible name.
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
)


# ---- the address: one setting ----------------------------------------------------------------------------------------


def published_address(repository: str) -> str:
    """Return where a repository's pages are published, or "" if its host has no such rule.

    >>> published_address("https://github.com/someone/bnlab")
    'https://someone.github.io/bnlab/'
    >>> published_address("https://git.example.org/someone/bnlab")
    ''
    """
    parts = urlsplit(repository)
    pages = {"github.com": "github.io", "gitlab.com": "gitlab.io"}.get(parts.hostname or "")
    owner, _, name = parts.path.strip("/").partition("/")
    return f"https://{owner.lower()}.{pages}/{name}/" if pages and name else ""


def apply_address(app, config) -> None:
    """Turn on everything that links to the repository, if its address is set."""
    options = config.html_theme_options
    url = (options.get("repository_url") or "").rstrip("/").removesuffix(".git")
    options["repository_url"] = url
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        options[button] = bool(url)
    if (
        urlsplit(url).hostname == "github.com"
    ):  # both run what they find there, with .binder/requirements.txt
        options["launch_buttons"] = {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        }
    if url and not config.html_baseurl:
        config.html_baseurl = published_address(url)


class LocalCommands(SphinxDirective):
    """Commands to type, after `git clone` if there is an address."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the block of code."""
        lines = list(self.content)
        url = self.config.html_theme_options["repository_url"]
        if url:
            lines[:0] = [f"git clone {url}", f"cd {url.rsplit('/', 1)[-1]}"]
        text = "\n".join(lines)
        return [nodes.literal_block(text, text, language="bash")]


# ---- the chapters and their questions --------------------------------------------------------------------------------


class ChapterMap(SphinxDirective):
    """A card for each chapter that exists: a figure of it, the question it opens with, and how long it takes."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for the cards, which need every chapter to be read first."""
        return [nodes.container(classes=["chapter-map", "bn-cards"])]


def fill_chapter_map(app, doctree, docname) -> None:
    """Write the cards: a chapter's question is the first bold text in it, its figure the first one."""
    for place in doctree.findall(nodes.container):
        if "chapter-map" not in place["classes"]:
            continue
        for name in sorted(filter(CHAPTER.match, app.env.found_docs)):
            chapter = app.env.get_doctree(name)
            question = chapter.next_node(nodes.strong)
            if question is None:
                LOG.warning("%s opens with no question in bold, which the chapter map shows", name)
                continue
            card = nodes.container(classes=["bn-card"])
            figure = chapter.next_node(nodes.image)
            if figure is not None:
                picture = nodes.image(uri=figure["uri"], candidates={"*": figure["uri"]}, alt="")
                card += nodes.container("", picture, classes=["bn-card-picture"])
            title = nodes.reference(
                "",
                f"{int(name[:2])}. {app.env.titles[name].astext()}",
                refuri=app.builder.get_relative_uri(docname, name),
                internal=True,
            )
            card += nodes.paragraph("", "", nodes.strong("", "", title))
            card += nodes.paragraph("", question.astext())
            card += nodes.paragraph("", f"{minutes(chapter)} minutes", classes=["bn-minutes"])
            place += card


def number_chapters(app, env) -> list[str]:
    """Number each chapter, its sections and its figures by its file name: 14_name is Chapter 14.

    Sphinx counts the chapters that exist, so that a missing one would shift all that follow.
    """
    moved = []
    for name, numbers in env.toc_secnumbers.items():
        if not CHAPTER.match(name):
            continue
        number, counted = int(name[:2]), numbers[""][0]
        if number == counted:
            continue
        moved.append(name)
        for table in (numbers, *env.toc_fignumbers.get(name, {}).values()):
            table.update({anchor: (number, *rest) for anchor, (_, *rest) in table.items()})
        entries = [env.titles[name], *env.tocs[name].findall(nodes.reference)]
        for entry in entries:
            if "secnumber" in entry:
                entry["secnumber"] = (number, *entry["secnumber"][1:])
    return moved


# ---- pages -----------------------------------------------------------------------------------------------------------


def add_live_scripts(app, pagename, templatename, context, doctree) -> None:
    """Load the live-figure scripts on the pages that show a live figure, and nowhere else."""
    names = sorted(set(LIVE_TAG.findall(context.get("body", ""))))
    stored = [f"live/data/{name}.js" for name in names]
    stored = [script for script in stored if (ASSETS / script).is_file()]
    figures = [f"live/{name}.js" for name in names]
    for script in [*LIVE_BASE, *stored, *figures] if names else []:
        if (ASSETS / script).is_file():
            app.add_js_file(script, loading_method="defer", priority=800)
        else:
            LOG.warning("%s needs book/assets/%s, which does not exist", pagename, script)


def mend(app, pagename, templatename, context, doctree) -> None:
    """Mend what the theme and the parsers get wrong, and load MathJax only where there is math."""
    context["without_icon_script"] = lambda head: ICON_SCRIPT.sub("", head)
    body = context.get("body", "")
    for wrong, right in MARKUP_REPAIRS:
        body = body.replace(wrong, right)
    if "body" in context:
        context["body"] = body
    if 'class="math' not in body and " math " not in body:
        scripts = context.get("script_files", [])
        context["script_files"] = [s for s in scripts if "mathjax/" not in str(s.filename or "")]


def name_toggles(app, pagename, templatename, context, doctree) -> None:
    """Give each fold of the table of contents a name, which the theme leaves out."""
    if tree := context.get("generate_toctree_html"):
        named = r'>\1</a><details\2><summary aria-label="Pages of: \1">'
        context["generate_toctree_html"] = lambda *a, **k: UNNAMED.sub(named, str(tree(*a, **k)))


def write_downloads(app, error) -> None:
    """Write each page's source as a script beside it: a browser shows a local file where it should save it."""
    if error or app.builder.name != "html":
        return
    for source in (Path(app.outdir) / "_sources").rglob("*"):
        if source.suffix in (".ipynb", ".md"):
            text = json.dumps(source.read_text(encoding="utf-8"))
            beside = source.with_name(f"{source.name}.js")
            beside.write_text(f"saveSource({text});\n", encoding="utf-8")


def describe(app, pagename, templatename, context, doctree) -> None:
    """Say what a link to the page shows where it is shared; a picture must be named by its whole address."""
    address, tags = (
        app.config.html_baseurl,
        {"type": "article", "title": context.get("title", ""), "site_name": "bnlab"},
    )
    if doctree is not None and (first := next(iter(paragraphs(doctree)), "")):
        tags["description"] = first[:200]
    if address:
        tags |= {"url": f"{address}{pagename}.html", "image": f"{address}_static/card.png"}
    lines = (f'<meta property="og:{name}" content="{escape(text)}">' for name, text in tags.items())
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def paragraphs(doctree) -> Iterator[str]:
    """Yield the text of each paragraph that stands directly in a section."""
    for node in doctree.findall(nodes.paragraph):
        if isinstance(node.parent, nodes.section) and not node["classes"]:
            yield " ".join(node.astext().split())


LOST = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not found</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem }}
</style>
</head><body><h1>This page has mean 0, variance 0 and no content.</h1>
<p>It may have moved. Go back to <a href="{home}">the first page</a>, or look in <a href="{index}">the index</a>.</p>
</body></html>
"""


def write_site_files(app, exception) -> None:
    """Write the page for a wrong address and, where the address is known, the list of pages for search engines."""
    if exception or app.builder.name != "html":
        return
    address, out = app.config.html_baseurl, Path(app.outdir)
    lost = LOST.format(home=f"{address}index.html", index=f"{address}genindex.html")
    (out / "404.html").write_text(lost, encoding="utf-8")
    if address:
        pages = "\n".join(
            f"<url><loc>{address}{name}.html</loc></url>" for name in sorted(app.env.found_docs)
        )
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        (out / "sitemap.xml").write_text(f"{head}\n{pages}\n</urlset>\n", encoding="utf-8")


# ---- printed text ----------------------------------------------------------------------------------------------------


def join_streams(outputs: list[dict]) -> list[dict]:
    """Join the pieces in which a cell's printed text arrived.

    A kernel sends text whenever it pleases, also in the middle of a number, and myst-nb's own function ends each piece
    with a line break.

    >>> pieces = [{"output_type": "stream", "name": "stdout", "text": text} for text in ("0.18", "41\\n")]
    >>> [piece["text"] for piece in join_streams(pieces)]
    ['0.1841\\n']
    """
    joined, streams = [], {}
    for output in outputs:
        if output["output_type"] != "stream":
            joined.append(output)
        elif output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
        else:
            streams[output["name"]] = output
            joined.append(output)
    return joined


def setup(app) -> dict:
    """Register with Sphinx."""
    # Notebooks inherit it: their last digits would depend on whether numba is installed.
    os.environ["BNLAB_KERNELS"] = "0"
    render.coalesce_streams = join_streams
    app.add_config_value("comments_config", {}, "")  # Jupyter Book sets it for an extension we omit
    app.config.templates_path.insert(0, str(HERE / "templates"))
    app.add_css_file("bnlab.css", priority=900)
    app.add_js_file("site.js", priority=100)
    app.add_directive("local-commands", LocalCommands)
    app.add_directive("chapter-map", ChapterMap)
    app.connect("config-inited", apply_address)
    app.connect("env-get-updated", number_chapters, priority=900)  # after Sphinx has counted
    app.connect("env-updated", lambda app, env: [env.config.root_doc])  # its map may have changed
    app.connect("doctree-resolved", fill_chapter_map)
    app.connect("html-page-context", add_live_scripts)
    app.connect("html-page-context", mend, priority=900)
    app.connect("html-page-context", name_toggles, priority=900)
    app.connect("build-finished", write_downloads)
    app.connect("html-page-context", describe)
    app.connect("build-finished", write_site_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
