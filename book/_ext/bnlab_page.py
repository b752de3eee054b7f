"""The form of a page: which code is seen, questions to answer first, verdicts, and the line under a title."""

from __future__ import annotations

import hashlib
import re
from html import escape
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

LOG = logging.getLogger(__name__)

CHAPTER = re.compile(r"\d\d_")
VERDICTS = {
    "holds": "holds",
    "partly": "holds in part",
    "false": "does not hold",
    "open": "not settled",
    "untested": "not tested here",
}
WORDS_A_MINUTE = 180  # of a text with formulas


# ---- which code is seen ----------------------------------------------------------------------------------------------


def fold_cells(app, doctree) -> None:
    """Fold each cell's code but the idea's, which has the tag `idea`; say on the fold what is in it.

    A cell tagged `checks` folds whole: each line of it that ends in True is a check that passed. What an unsolved
    exercise says is left out.
    """
    first = True
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        tags, parts = cell["cell_metadata"].get("tags", []), cell.children
        if not parts or parts[0].get("nb_element") != "cell_code_source":
            continue
        outputs = parts[1:]
        printed = "\n".join(
            node.astext() for part in outputs for node in part.findall(nodes.literal_block)
        )
        if printed.startswith("Not yet: "):
            cell.children = parts[:1]
            continue
        mode, label = "input", "Code"
        if first:
            mode, label = "all", "Imports"
        elif "checks" in tags:
            lines = printed.splitlines()
            passed = sum(line.endswith("True") for line in lines)
            if not passed or any(line.endswith("False") for line in lines):
                LOG.warning(
                    "a cell of checks passed none, or failed one:\n%s", printed, location=cell
                )
            mode, label = "all", f"{passed} check{'s' * (passed != 1)} passed"
        elif "hide-cell" in tags:
            mode, label = "all", "Solution" if printed.startswith("Correct: ") else "More"
            label = cell["cell_metadata"].get("mystnb", {}).get("code_prompt_show", label)
        elif any(part.next_node(nodes.image) for part in outputs):
            label = "Code of the figure"
        elif not any(part.astext().strip() or part.next_node(nodes.raw) for part in outputs):
            mode = "all"  # nothing to see but the code
        first = False
        if "idea" not in tags:
            cell["hide_mode"] = mode
            cell["prompt_show"] = cell["prompt_hide"] = label


# ---- questions to answer first ---------------------------------------------------------------------------------------


class question(nodes.Element):
    """What a reader answers before reading on: `<bn-predict>`."""


class answer(nodes.Element):
    """What is shown then: a fold where there is no JavaScript."""


class Ask(SphinxDirective):
    """A question with choices, of which one has a tick, or with a number to guess; then what is right and why.

    The right number is the first one that the answer glues.
    """

    title = "Predict"
    has_content = True
    # number: lowest and highest to choose from, and "log" if in steps of a factor; within: which share of the right
    # number a guess may be off
    option_spec: ClassVar = {
        "number": directives.unchanged,
        "unit": directives.unchanged,
        "within": float,
    }

    def run(self) -> list[nodes.Node]:
        """Parse the text, then take the choices out of it."""
        kind = self.title.lower().replace(" ", "-")
        box = nodes.admonition(classes=["predict"])
        box += nodes.title("", self.title)
        whole = question(kind=kind)
        self.state.nested_parse(self.content, self.content_offset, whole)
        at = next((i for i, node in enumerate(whole) if self._choices(node)), None)
        if "number" in self.options:
            low, high, *scale = self.options["number"].split()
            whole.attributes |= {"low": low, "high": high, "log": scale == ["log"]}
            whole["unit"] = self.options.get("unit", "")
            whole["within"] = self.options.get("within", 0.25)
            rest = 1
        elif at is None:
            raise self.error(
                "a question needs choices (- [ ] one, - [x] another) or :number: LOW HIGH"
            )
        else:
            items = [(item, "checked=" in item.next_node(nodes.raw).astext()) for item in whole[at]]
            if sum(right for _, right in items) != 1 or len(items) < 2:
                raise self.error("a question needs at least two choices, and a tick at one of them")
            for item, right in items:
                mark = item.next_node(nodes.raw)
                mark.parent.remove(mark)
                item["classes"] = ["bn-right"] if right else []
            # In an order that has nothing to do with which is right, and is the same at every build.
            shuffled = sorted(
                whole[at], key=lambda item: hashlib.sha256(item.astext().encode()).digest()
            )
            whole[at].children = shuffled
            whole[at]["classes"] = ["bn-choices"]
            rest = at + 1
        told = answer()
        told += whole.children[rest:]
        if not told.children:
            raise self.error("a question needs an answer below it")
        del whole.children[rest:]
        whole += told
        asked = whole[0]
        text = asked.astext()
        whole["ids"] = [f"{kind}-" + hashlib.sha256(text.encode()).hexdigest()[:8]]
        self.set_source_info(whole)
        box += whole
        if not hasattr(self.env, "bnlab_questions"):
            self.env.bnlab_questions = {}
        self.env.bnlab_questions.setdefault(self.env.docname, []).append(
            (kind, whole["ids"][0], asked)
        )
        return [box]

    @staticmethod
    def _choices(node: nodes.Node) -> bool:
        return isinstance(node, nodes.bullet_list) and "contains-task-list" in node["classes"]


class Quiz(Ask):
    """The same, to see at the end of a chapter whether it was understood."""

    title = "Check yourself"


def open_question(self, node) -> None:
    """Begin the element; what the script needs to know is in its attributes."""
    data = {
        key: node[key]
        for key in ("kind", "low", "high", "unit", "within")
        if node.get(key) not in (None, "")
    }
    if node.get("log"):
        data["log"] = "1"
    more = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items())
    self.body.append(f'<bn-predict id="{node["ids"][0]}"{more}>')


def check_numbers(app, doctree, docname) -> None:
    """See that each number to guess has a right one, and that it can be reached."""
    for node in doctree.findall(question):
        if "low" in node:
            found = re.search(r"-?[\d.]+(e[+-]?\d+)?", node[-1].astext().replace(",", ""))
            pasted = [n for n in node[-1].findall(nodes.inline) if "pasted-text" in n["classes"]]
            if not pasted or found is None:
                LOG.warning("the answer to a question for a number glues none", location=node)


PLAIN = (nodes.Text, nodes.math, nodes.emphasis, nodes.strong, nodes.literal)


class Predictions(SphinxDirective):
    """All questions of the book, each with its place; the script says beside them what the reader answered."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for the list."""
        return [nodes.container(classes=["bn-predictions"])]


def fill_predictions(app, doctree, docname) -> None:
    """Write the list of all questions, a chapter at a time."""
    for place in list(doctree.findall(nodes.container)):
        if place["classes"] != ["bn-predictions"]:
            continue
        app.env.get_domain("math").data["has_equations"][docname] = True  # the page needs MathJax
        asked = getattr(app.env, "bnlab_questions", {})
        for name in sorted(asked):
            address = app.builder.get_relative_uri(docname, name)
            place += nodes.rubric("", app.env.titles[name].astext())
            questions = nodes.bullet_list()
            for kind, anchor, text in asked[name]:
                link = nodes.reference("", refuri=f"{address}#{anchor}", internal=True)
                for part in text.children:  # a link has no links in it
                    link += (
                        part.deepcopy() if isinstance(part, PLAIN) else nodes.Text(part.astext())
                    )
                questions += nodes.list_item(
                    "", nodes.paragraph("", "", link), classes=[f"bn-asked-{kind}"]
                )
            place += questions


# ---- verdicts --------------------------------------------------------------------------------------------------------


class Verdict(SphinxRole):
    """A chip: one of VERDICTS; with a name in angle brackets, a claim that the landing page may show."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the chip."""
        kind, _, name = self.text.partition("<")
        kind, name = kind.strip(), name.strip(" >")
        if kind not in VERDICTS:
            LOG.warning(
                "%r is no verdict; there are %s", kind, list(VERDICTS), location=self.get_location()
            )
            kind = "open"
        chip = nodes.inline("", VERDICTS[kind], classes=["bn-verdict", f"bn-{kind}"])
        if name:
            chip["ids"] = [f"claim-{name}"]
        return [chip], []


class ClaimCards(SphinxDirective):
    """A card for each claim that is named here: its words, its verdict, and the way to the chapter that tests it."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Leave a place for the cards."""
        return [
            nodes.container(classes=["bn-claims", "bn-cards"], claims=self.arguments[0].split())
        ]


def fill_claim_cards(app, doctree, docname) -> None:
    """Write the cards, from the tables of what each chapter measured."""
    places = [node for node in doctree.findall(nodes.container) if "claims" in node]
    if not places:
        return
    rows = {}
    for name in sorted(filter(CHAPTER.match, app.env.found_docs)):
        for row in app.env.get_doctree(name).findall(nodes.row):
            for chip in row.findall(nodes.inline):
                if "bn-verdict" in chip["classes"] and chip["ids"]:
                    rows[chip["ids"][0]] = name, row, chip
    for place in places:
        for claim in place["claims"]:
            if f"claim-{claim}" not in rows:
                LOG.warning(
                    "no chapter has a verdict on %r; there are %s",
                    claim,
                    sorted(rows),
                    location=place,
                )
                continue
            name, row, chip = rows[f"claim-{claim}"]
            address = f"{app.builder.get_relative_uri(docname, name)}#{chip['ids'][0]}"
            words = "".join(part.astext() for part in row[0][0].children if not _cites(part))
            verdict = nodes.inline("", chip.astext(), classes=chip["classes"])
            link = nodes.reference("", f"Chapter {int(name[:2])}", refuri=address, internal=True)
            judged = nodes.paragraph("", "", verdict, nodes.Text(" "), link)
            said = nodes.paragraph("", words.replace(" .", "."))  # a source stood between
            place += nodes.container("", said, judged, classes=["bn-card"])


def _cites(node: nodes.Node) -> bool:
    return not isinstance(
        node, nodes.Text | nodes.inline | nodes.emphasis | nodes.math | nodes.literal
    )


# ---- the line under a title ------------------------------------------------------------------------------------------


def minutes(doctree) -> int:
    """Return how long a page takes to read: its words outside code, formulas and folds."""
    seen = doctree.deepcopy()
    for node in (
        list(seen.findall(nodes.container))
        + list(seen.findall(answer))
        + list(seen.findall(nodes.math_block))
    ):
        if node.parent is not None and (
            not isinstance(node, nodes.container)
            or node.get("nb_element")
            or "dropdown" in node["classes"]
        ):
            node.parent.remove(node)
    return max(5, 5 * round(len(seen.astext().split()) / WORDS_A_MINUTE / 5))


class Opening(SphinxDirective):
    """How long the page takes, and the way to the parts that some readers come for."""

    parts = ("In practice", "Exercises", "What we measured")

    def run(self) -> list[nodes.Node]:
        """Leave a place for the line."""
        return [nodes.paragraph(classes=["bn-opening"])]


def fill_openings(app, doctree, docname) -> None:
    """Write the line, now that the sections of the page are known."""
    for place in doctree.findall(nodes.paragraph):
        if "bn-opening" not in place["classes"]:
            continue
        place += nodes.Text(f"About {minutes(app.env.get_doctree(docname))} minutes")
        titles = {s[0].astext(): s["ids"][0] for s in doctree.findall(nodes.section) if s.children}
        for part in Opening.parts:
            if part not in titles:
                LOG.warning("%s has no section %r", docname, part)
                continue
            place += nodes.Text(" · ")
            place += nodes.reference("", part, refid=titles[part], internal=True)


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_directive("predict", Ask)
    app.add_directive("quiz", Quiz)
    app.add_directive("predictions", Predictions)
    app.add_directive("opening", Opening)
    app.add_directive("claim-cards", ClaimCards)
    app.add_role("verdict", Verdict())
    app.add_node(
        question, html=(open_question, lambda self, node: self.body.append("</bn-predict>"))
    )
    app.add_node(
        answer,
        html=(
            lambda self, node: self.body.append(
                '<details class="bn-answer"><summary>Answer</summary>'
            ),
            lambda self, node: self.body.append("</details>"),
        ),
    )
    app.add_js_file("predict.js", loading_method="defer")
    app.add_js_file("ledger.js", loading_method="defer")
    app.connect("doctree-read", fold_cells)
    app.connect("doctree-resolved", fill_predictions)
    app.connect("doctree-resolved", fill_openings)
    app.connect("doctree-resolved", fill_claim_cards)
    app.connect("doctree-resolved", check_numbers, priority=900)
    app.connect(
        "env-purge-doc", lambda app, env, name: getattr(env, "bnlab_questions", {}).pop(name, None)
    )
    return {
        "parallel_read_safe": False,
        "parallel_write_safe": True,
        "version": "1",
        "env_version": 3,
    }
