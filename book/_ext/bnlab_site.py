"""What the book's site needs beyond its theme: live figures, one address setting, repaired roles.

Imported by Sphinx alone; at import time it loads nothing outside the standard library.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
LIVE_TAG = re.compile(r'<bn-live\b[^>]*\bfigure="([\w-]+)"')
LIVE_BASE = ("live/vendor/d3.min.js", "live/vendor/plot.min.js", "live/core.js")
ICON_SCRIPT = re.compile(r"<script[^>]*fontawesome\.js[^>]*></script>")
MARKUP_REPAIRS = (
    # doc-biblioentry is deprecated ARIA, and a list needs list items.
    ('role="doc-biblioentry"', 'role="listitem"'),
    # The label hid the summary's visible words from its accessible name.
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
)


def published_address(repository: str) -> str:
    """Return where a repository's pages are published, or "" if its host has no such rule.

    >>> published_address("https://github.com/someone/bnlab")
    'https://someone.github.io/bnlab/'
    >>> published_address("https://git.example.org/someone/bnlab")
    ''
    """
    parts = urlsplit(repository.rstrip("/").removesuffix(".git"))
    pages = {"github.com": "github.io", "gitlab.com": "gitlab.io"}.get(parts.hostname or "")
    owner, _, name = parts.path.strip("/").partition("/")
    return f"https://{owner.lower()}.{pages}/{name}/" if pages and name else ""


def apply_address(app, config) -> None:
    """Turn on everything that links to the repository, if its address is set."""
    options = config.html_theme_options
    url = (options.get("repository_url") or "").rstrip("/")
    options["repository_url"] = url
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        options[button] = bool(url)
    if url and not config.html_baseurl:
        config.html_baseurl = published_address(url)


def local_commands(app):
    """Make the directive that shows commands to type, after `git clone` if there is an address."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class LocalCommands(SphinxDirective):
        has_content = True

        def run(self):
            lines = list(self.content)
            url = self.config.html_theme_options["repository_url"]
            if url:
                lines[:0] = [f"git clone {url}", f"cd {url.rsplit('/', 1)[-1]}"]
            text = "\n".join(lines)
            return [nodes.literal_block(text, text, language="bash")]

    return LocalCommands


def add_live_scripts(app, pagename, templatename, context, doctree) -> None:
    """Load the live-figure scripts on the pages that show a live figure, and nowhere else."""
    from sphinx.util import logging

    names = sorted(set(LIVE_TAG.findall(context.get("body", ""))))
    for script in [*LIVE_BASE, *(f"live/{name}.js" for name in names)] if names else []:
        if (ASSETS / script).is_file():
            app.add_js_file(script, loading_method="defer", priority=800)
        else:
            logging.getLogger(__name__).warning(
                "%s needs book/assets/%s, which does not exist", pagename, script
            )


def repair_page(app, pagename, templatename, context, doctree) -> None:
    """Mend what the theme and the parsers get wrong on every page."""
    context["without_icon_script"] = lambda head: ICON_SCRIPT.sub("", head)
    body = context.get("body", "")
    for wrong, right in MARKUP_REPAIRS:
        body = body.replace(wrong, right)
    if "body" in context:
        context["body"] = body
    if 'class="math' not in body and " math " not in body:  # 2 MB, only where it is needed
        scripts = context.get("script_files", [])
        context["script_files"] = [s for s in scripts if "mathjax/" not in str(s.filename or "")]


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_config_value("comments_config", {}, "")  # Jupyter Book sets it for an extension we omit
    app.config.templates_path.insert(0, str(HERE / "templates"))
    app.add_css_file("bnlab.css", priority=900)
    app.add_js_file("theme.js", priority=100)
    app.add_directive("local-commands", local_commands(app))
    app.connect("config-inited", apply_address)
    app.connect("html-page-context", add_live_scripts)
    app.connect("html-page-context", repair_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
