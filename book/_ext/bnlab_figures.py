"""Figures as vector drawings in the page itself, in colours that follow the light and the dark theme."""

from __future__ import annotations

import colorsys
import os
import re
from html import escape, unescape
from pathlib import Path

IMAGE = re.compile(r'<img alt="([^"]*)"[^>]*?src="[^"]*_images/([\w.-]+\.svg)"[^>]*>')
COLOUR = re.compile(r"(fill|stroke|stop-color): ?#([0-9a-f]{6})\b")
MOST = 400_000  # bytes of a drawing that stands in the page; a larger one is loaded beside it

# The kernels that execute the pages draw with this; notebooks keep the pictures that they are stored with.
KERNEL = """
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None, "Creator": None}}
c.HistoryManager.enabled = False
"""


def draw_as_vectors(folder: Path) -> None:
    """Have every kernel that is started from here draw its figures as SVG."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


def dark(colour: str) -> str:
    """Return a colour of the same hue for a dark page: pale becomes dark, dark becomes light, strong stays strong.

    >>> dark("000000"), dark("e6f0fa"), dark("0072b2")
    ('ffffff', '070f17', '5fbaed')
    """
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4))
    hue, light, saturation = colorsys.rgb_to_hls(r, g, b)
    light = 1 - light if light > 0.7 or saturation < 0.15 else max(1 - light, 0.6)
    mixed = colorsys.hls_to_rgb(hue, light, 0.8 * saturation)
    return "".join(f"{round(255 * part):02x}" for part in mixed)


def themed(match: re.Match) -> str:
    """Write a colour for both themes; white is the page's own ground."""
    name, colour = match.groups()
    if colour == "ffffff":
        return f"{name}: var(--pst-color-background)"
    return f"{name}: light-dark(#{colour}, #{dark(colour)})"


def inlined(svg: str, name: str, alt: str) -> str:
    """Return a drawing to stand in a page: described, with names of its own, in both themes' colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', body))
    body = re.sub(
        r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body
    )
    body = re.sub(r'(href="|url\()#([\w-]+)', rf"\1#{name}-\2", body)
    body = COLOUR.sub(themed, body)
    body = re.sub(
        r"(\d\.\d{4})\d+", r"\1", re.sub(r"\n\s*", "\n", body)
    )  # more digits than an eye can see
    name = f'role="img" aria-label="{escape(unescape(alt))}"' if alt else 'aria-hidden="true"'
    label = f'{name} class="bn-figure"'
    return re.sub(r"<svg ", f"<svg {label} ", body, count=1)


def inline_figures(app, pagename, templatename, context, doctree) -> None:
    """Put each drawing of a page where its image stands."""
    sources = {name: source for source, name in app.builder.images.items()}

    def drawing(match: re.Match) -> str:
        path = Path(app.srcdir, sources[match[2]])
        if path.stat().st_size > MOST:
            return match[0]
        return inlined(path.read_text(encoding="utf-8"), f"f{path.stem[:8]}", match[1])

    if "body" in context:
        context["body"] = IMAGE.sub(drawing, context["body"])


def setup(app) -> dict:
    """Register with Sphinx."""
    draw_as_vectors(Path(app.outdir).parent / "ipython")
    app.connect("html-page-context", inline_figures, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
