"""The book keeps its own rules: executed notebooks, honest numbers, one definition per idea."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
HOWTO = sorted(BOOK.glob("howto/*.ipynb"))
NOTEBOOKS = sorted([*BOOK.glob("*.ipynb"), *HOWTO])
CHAPTERS = [path for path in NOTEBOOKS if path.name[:2].isdigit()]
PAGES = sorted([*BOOK.glob("*.md"), *BOOK.glob("api/*.md"), *NOTEBOOKS])


def by_name(path):
    return str(path.relative_to(BOOK))


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def read(path):
    return nbformat.read(path, as_version=4)


def texts(cell):
    """Return every text a code cell shows."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        else:
            yield from (v for k, v in output.get("data", {}).items() if k.startswith("text/"))


def problems(notebook):
    """List what is wrong with a notebook, by the rules its readers and its tests depend on."""
    teaches = notebook.cells[0].source.startswith("# Batch Normalization in ten minutes")
    found, public = [], set() if teaches else public_names()
    most = 24 if teaches else 12  # it writes the layer as one class
    cells = code_cells(notebook)
    if not cells:
        return ["has no code cell"]
    counts = [c.execution_count for c in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(f"was not run in order from a clean kernel: execution counts {counts}")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("does not name the kernel python3")
    if any(not isinstance(n, ast.Import | ast.ImportFrom) for n in ast.parse(cells[0].source).body):
        found.append("has more than imports in its first code cell")
    if "bnlab" not in cells[0].source:
        found.append("does not import bnlab in its first code cell")
    for cell in cells:
        where = f"cell [{cell.execution_count}]"
        tree = ast.parse(cell.source)
        lines = len(cell.source.strip().splitlines())
        if lines > most:
            found.append(f"{where} has {lines} lines; {most} is the most")
        if "sys.path" in cell.source:
            found.append(f"{where} edits sys.path")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
                found.append(f"{where} has a star import")
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public:
                found.append(f"{where} defines {node.name}, which bnlab defines")
        if "execution" in cell.metadata:
            found.append(f"{where} records times")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{where} ends in an error")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"{where} prints to stderr: {output.text[:60]!r}")
        shown = "\n".join(texts(cell))
        if re.search(r"0x[0-9a-f]{6,}", shown):
            found.append(f"{where} shows a memory address")
        if re.search(r"(?<![\w.])/(home|root|Users|tmp|work)/", shown):
            found.append(f"{where} shows a path of one machine")
        pictures = any("image/png" in o.get("data", {}) for o in cell.outputs)
        if "plots." in cell.source and not pictures:
            found.append(f"{where} plots but shows no figure")
        if pictures:
            meta = cell.metadata.get("mystnb", {})
            if not meta.get("figure", {}).get("caption"):
                found.append(f"{where} shows a figure without a caption")
            if len(meta.get("image", {}).get("alt", "")) < 20:
                found.append(f"{where} shows a figure without alternative text")
            if not isinstance(tree.body[-1], ast.Assign):
                found.append(f"{where} plots but does not end in an assignment")
    return found


def public_names():
    """Return every function and class that a reader of a notebook could take for bnlab's: the library's own."""
    names = set()
    for path in (ROOT / "bnlab").rglob("*.py"):
        listed = re.search(r"^__all__ = (\[.*?\])", path.read_text(encoding="utf-8"), re.S | re.M)
        if listed and "chapters" not in path.parts:
            names |= set(ast.literal_eval(listed[1]))
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_follows_the_rules(path):
    assert problems(read(path)) == []


def broken(change):
    notebook = read(CHAPTERS[0])
    change(notebook, code_cells(notebook))
    return " / ".join(problems(notebook))


def figure_cell(cells):
    return next(c for c in cells if any("image/png" in o.get("data", {}) for o in c.outputs))


def strip(notebook, cells):
    for cell in cells:
        cell.outputs, cell.execution_count = [], None


def swap(notebook, cells):
    cells[1].execution_count, cells[2].execution_count = 3, 2


def star(notebook, cells):
    cells[0].source += "\nfrom bnlab.scaling import *"


def code_in_imports(notebook, cells):
    cells[0].source += "\nx = 1"


def redefine(notebook, cells):
    cells[1].source += "\ndef standardize(x):\n    return x"


def long_cell(notebook, cells):
    cells[1].source += "\nx = 1" * 12


def address(notebook, cells):
    cells[1].outputs.append(nbformat.v4.new_output("stream", text="<Figure at 0x7f3a5c001c40>"))


def warn(notebook, cells):
    cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="Warning: slow"))


def fail(notebook, cells):
    cells[1].outputs.append(
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    )


def leak(notebook, cells):
    cells[1].outputs.append(nbformat.v4.new_output("stream", text="saved to /home/me/x.npz"))


def no_picture(notebook, cells):
    figure_cell(cells).outputs = []


def no_alt(notebook, cells):
    figure_cell(cells).metadata["mystnb"].pop("image")


def no_caption(notebook, cells):
    figure_cell(cells).metadata["mystnb"].pop("figure")


def expression(notebook, cells):
    figure_cell(cells).source += "\nax.plot([1])"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (strip, "not run in order"),
        (swap, "not run in order"),
        (star, "star import"),
        (code_in_imports, "more than imports"),
        (redefine, "defines standardize"),
        (long_cell, "12 is the most"),
        (address, "memory address"),
        (warn, "prints to stderr"),
        (fail, "ends in an error"),
        (leak, "path of one machine"),
        (no_picture, "plots but shows no figure"),
        (no_alt, "without alternative text"),
        (no_caption, "without a caption"),
        (expression, "does not end in an assignment"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_rules_notice(change, complaint):
    assert complaint in broken(change)


def prose(path):
    """Return the words of a page: markdown without code, math, roles, links' targets and raw HTML tags."""
    if path.suffix == ".ipynb":
        text = "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"^:(number|unit|within): .*$", "", text, flags=re.M)  # options of a question
    text = re.sub(r"^(`{3,}|~{3,})\{?(?!admonition|note|tip|warning|dropdown|important|seealso|glossary)[^\n]*\n.*?^\1",
                  "", text, flags=re.M | re.S)  # fmt: skip
    for pattern in (
        r"\$\$.*?\$\$",
        r"\$[^$]*\$",
        r"\{[\w:]+\}`[^`]*`",
        r"`[^`]*`",
        r"\]\([^)]*\)",
        r"<[^>]*>",
    ):
        text = re.sub(pattern, " ", text, flags=re.S)
    return text


MEASURED = re.compile(
    r"(?<![\w.])\d+(?:\.\d+|,\d{3})(?:\.\d+)?\s?%?|(?<![\w.])\d+\s?(?:%|percent\b|times\b|-fold\b)"
)


def typed_numbers(text):
    """Find numbers that look measured and are typed into prose."""
    return [n.strip() for n in MEASURED.findall(text)]


# Numbers that come from a source or a definition, not from a measurement of ours. Each needs its reason.
GIVEN = {
    "95 %": "the level of every interval in the book",
    "3.11": "the oldest Python that works",
}


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_no_number_in_the_prose_was_typed_by_hand(path):
    found = [
        n
        for n in typed_numbers(prose(path))
        if n.replace("%", " %").replace("  ", " ") not in GIVEN
    ]
    assert found == [], "glue the number from a cell, or point at the printed output"


@pytest.mark.parametrize(
    "text", ["rises by 0.184 a step", "12% of them", "3 times faster", "1,234 steps", "9.5-fold"]
)
def test_typed_numbers_are_noticed(text):
    assert typed_numbers(text)


@pytest.mark.parametrize("path", CHAPTERS, ids=by_name)
class TestChapter:
    def test_opens_with_its_question_its_answer_and_the_figure_that_shows_it(self, path):
        cells = read(path).cells
        assert re.match(
            r"# .+\n\n\*\*.+\?\*\*\n\n```\{opening\}\n```\n\n\w", cells[0].source, re.DOTALL
        )
        assert [c.cell_type for c in cells[:3]] == ["markdown", "code", "code"]
        assert any("image/png" in output.get("data", {}) for output in cells[2].outputs)

    def test_asks_before_it_shows_and_at_the_end(self, path):
        asked = re.findall(r"^:::\{(predict|quiz)\}", markdown(path), flags=re.M)
        assert asked.count("predict") >= 6
        assert 2 <= asked.count("quiz") <= 3
        assert "admonition} Predict" not in markdown(path)

    def test_shows_the_ideas_code_and_no_more(self, path):
        ideas = [c for c in code_cells(read(path)) if "idea" in c.metadata.get("tags", [])]
        assert 1 <= len(ideas) <= 5
        assert sum(len(c.source.strip().splitlines()) for c in ideas) <= 40

    def test_folds_a_hint_for_each_exercise(self, path):
        parts = re.split(r"^### Exercise", markdown(path), flags=re.M)[1:]
        assert len(parts) >= 3
        assert all(re.search(r"^:::\{dropdown\} (Hint|An answer)", p, flags=re.M) for p in parts)

    @pytest.mark.parametrize(
        "part",
        ["In practice", "Check yourself", "Exercises", "What we measured", "Further reading"],
    )
    def test_has_each_part(self, path, part):
        assert re.search(rf"^#+ .*{part}", markdown(path), flags=re.M), f"no section {part!r}"

    def test_has_a_live_figure_whose_script_exists(self, path):
        names = re.findall(r'<bn-live[^>]*figure="([\w-]+)"', markdown(path))
        assert names
        for name in names:
            assert (BOOK / "assets" / "live" / f"{name}.js").is_file()

    def test_exercises_start_unsolved_and_each_has_a_checked_solution(self, path):
        verdicts = {"Not yet": set(), "Correct": set()}
        for cell in code_cells(read(path)):
            checkers = set(re.findall(r"exercises\.(\w+)\(", cell.source))
            for kind, names in verdicts.items():
                if any(line.startswith(kind) for text in texts(cell) for line in text.splitlines()):
                    names |= checkers
                    if kind == "Correct":
                        assert "hide-cell" in cell.metadata.get("tags", []), (
                            f"{checkers}: solution not folded"
                        )
        assert len(verdicts["Correct"]) >= 3
        assert verdicts["Not yet"] == verdicts["Correct"], (
            "an exercise lacks its stub or its solution"
        )

    def test_cites_its_sources(self, path):
        assert re.search(r"\{cite(:\w+)?\}`", markdown(path))


@pytest.mark.parametrize("path", HOWTO, ids=by_name)
class TestHowTo:
    """A page for five minutes: the problem, the code, what to check, one trap, where it is explained."""

    def test_opens_with_the_problem_in_one_sentence(self, path):
        title, problem = re.match(r"# ([^\n]+)\n\n\*\*([^*]+)\*\*", markdown(path)).groups()
        assert len(title) < 60
        assert problem.endswith(".")
        assert len(problem.split()) <= 40

    def test_shows_its_code(self, path):
        shown = [c for c in code_cells(read(path)) if "idea" in c.metadata.get("tags", [])]
        assert shown
        assert sum(len(c.source.splitlines()) for c in shown) <= 50

    def test_says_what_to_check_and_one_trap(self, path):
        assert markdown(path).count("\n## What to check\n") == 1
        assert markdown(path).count(":::{admonition} Trap\n") == 1

    def test_links_to_what_explains_it_and_to_the_reference(self, path):
        ending = read(path).cells[-1].source
        assert re.search(r"\*\*Why[\w ]*:\*\* .*\]\(\.\./\d\d_\w+\.ipynb\)", ending, flags=re.S)
        assert re.search(r"\*\*Reference:\*\* \{\w+\}`bnlab", ending)

    def test_is_short(self, path):
        assert len(prose(path).split()) <= 350


def markdown(path):
    return "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")


def test_the_table_of_contents_lists_every_page():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    listed = set(re.findall(r"'(?:file|root)': '([\w/-]+)'", str(toc)))
    assert listed == {str(path.relative_to(BOOK).with_suffix("")) for path in PAGES}


def test_every_reference_is_cited_and_every_citation_known():
    keys = set(re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(), flags=re.M))
    sources = "".join(markdown(p) if p.suffix == ".ipynb" else p.read_text() for p in PAGES)
    cited = {
        k.strip()
        for group in re.findall(r"\{cite[\w:]*\}`([^`]+)`", sources)
        for k in group.split(",")
    }
    assert cited == keys


def test_every_name_in_the_notation_table_exists():
    import torch

    from bnlab import graph, reference

    text = (BOOK / "notation.md").read_text()
    rows = [
        [c.strip() for c in r.strip("|").split("|")]
        for r in text.splitlines()
        if r.startswith("| $") or "| –" in r[:4]
    ]
    numpy_names = set(re.findall(r"`(\w+)`", " ".join(r[3] if len(r) == 5 else r[1] for r in rows)))
    torch_names = set(re.findall(r"`(\w+)`", " ".join(r[4] for r in rows if len(r) == 5)))
    source = inspect.getsource(reference) + inspect.getsource(graph)
    nodes = list(ast.walk(ast.parse(source)))
    known = {n.arg for n in nodes if isinstance(n, ast.arg)} | {
        n.id for n in nodes if isinstance(n, ast.Name)
    }
    documented = re.findall(
        r"^ +([\w, ]+) : ", source, flags=re.M
    )  # what a docstring says it takes or returns
    known |= {name for names in documented for name in names.split(", ")}
    known |= set(re.findall(r"\b[A-Z]\b", source)) & {"C"}  # the shape (N, C)
    layer = torch.nn.BatchNorm1d(2)
    torch_known = {*vars(layer), *layer.state_dict(), *inspect.signature(layer.forward).parameters}
    torch_known |= set(inspect.signature(torch.nn.BatchNorm1d).parameters)
    assert len(numpy_names) >= 18
    assert len(torch_names) >= 7
    assert numpy_names <= known, numpy_names - known
    assert torch_names <= torch_known, torch_names - torch_known


def test_the_package_pages_show_every_module():
    pages = "".join(path.read_text() for path in BOOK.glob("api/*.md"))
    shown = {
        *re.findall(r"automodule:: ([\w.]+)", pages),
        "bnlab.chapters",  # with its style, which draws nothing
    }
    paths = [p.relative_to(ROOT).with_suffix("") for p in (ROOT / "bnlab").rglob("*.py")]
    modules = [
        ".".join(p.parts) for p in paths if not any(part.startswith("_") for part in p.parts)
    ]
    listed = [m for m in modules if not m.endswith(".stored")]  # `bnlab run --list` shows those
    assert [m for m in listed if m not in shown and m.rpartition(".")[0] not in shown] == []


def test_each_module_has_a_page_and_the_index_lists_them_all():
    parts = [p for p in (ROOT / "bnlab").iterdir() if not p.name.startswith(("_", "py."))]
    pages = {path.stem for path in BOOK.glob("api/*.md")}
    assert {p.stem for p in parts} | {"exercises"} == pages
    assert set(re.findall(r"<api/(\w+)>", (BOOK / "api.md").read_text())) == pages


def glossary_terms(text):
    """Return the entries of a glossary page, in its order."""
    body = re.search(r"\{glossary\}\n(.*?)\n`{3,}", text, flags=re.S).group(1)
    return [
        line.strip()
        for line in body.splitlines()
        if line and not line[0].isspace() and not line.startswith(":")
    ]


def linked_terms(text):
    """Return what a page's term roles point at, in lower case: ``{term}`shown <entry>` `` or ``{term}`entry` ``."""
    roles = re.findall(r"\{term\}`([^`]+)`", text)
    targets = [re.fullmatch(r"(?:.*<)?([^<>]+?)>?", r, flags=re.S).group(1) for r in roles]
    return {" ".join(target.split()).lower() for target in targets}


def glossary_problems(glossary, pages, chapters):
    """Say what is out of order, linked but missing, or listed and in no chapter."""
    terms = glossary_terms(glossary)
    known = {term.lower() for term in terms}
    linked = {term for text in [glossary, *pages] for term in linked_terms(text)}
    words = re.sub(r"\s+", " ", "\n".join(chapters)).lower()
    return {
        "not sorted": [a for a, b in pairwise(terms) if a.lower() >= b.lower()],
        "linked, not listed": sorted(linked - known),
        "listed, in no chapter": sorted(t for t in known if t not in words),
    }


def test_the_glossary_is_sorted_complete_and_used():
    glossary = (BOOK / "glossary.md").read_text()
    texts = {p: markdown(p) if p.suffix == ".ipynb" else p.read_text() for p in PAGES}
    problems = glossary_problems(glossary, texts.values(), [texts[p] for p in CHAPTERS])
    assert len(glossary_terms(glossary)) >= 15
    assert not any(problems.values()), problems


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("{term}`bias`", "{term}`tilt`", {"linked, not listed": ["tilt"]}),
        ("{term}`bias`", "{term}`shown <tilt>`", {"linked, not listed": ["tilt"]}),
        ("{term}`bias`", "{term}`biases\n<bias>`", {}),
        ("one drift", "one shift", {"listed, in no chapter": ["drift"]}),
        ("bias\n", "bias\n    A.\n\nbaker\n", {"not sorted": ["bias"], "listed, in no chapter": ["baker"]}),
    ],
)  # fmt: skip
def test_a_wrong_glossary_is_noticed(old, new, complaint):
    glossary = (
        "```{glossary}\nbias\n    A constant, not {term}`drift`.\n\ndrift\n    A move.\n```\n"
    )
    chapter = "A {term}`bias`, any bias, and\none drift."
    glossary, chapter = (text.replace(old, new) for text in (glossary, chapter))
    found = glossary_problems(glossary, [chapter], [chapter])
    assert {kind: names for kind, names in found.items() if names} == complaint


def test_executing_a_notebook_twice_changes_no_byte(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("import bnlab"),
        nbformat.v4.new_code_cell("print('a')\nprint('b')\n1 + 2"),
    ]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    command = [sys.executable, str(ROOT / "tools" / "execute_notebooks.py"), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    first = path.read_bytes()
    again = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout
    assert path.read_bytes() == first
    stale = first.replace(b'"3"', b'"4"')
    assert stale != first
    path.write_bytes(stale)
    assert subprocess.run([*command, "--check"], capture_output=True).returncode == 1
    assert path.read_bytes() == stale


def test_one_version_everywhere():
    import bnlab

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert project == citation == bnlab.__version__
    assert f"## {project}" in (ROOT / "CHANGELOG.md").read_text()


def test_each_past_defect_has_a_guard_that_exists():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| \d{4}-\d\d-\d\d \| .* \| `([^`]+)` \|$", text, flags=re.M)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) >= 12
    for guard in rows:
        assert f"def {guard}(" in tests or (ROOT / guard).is_file(), (
            f"{guard} guards a defect: where is it?"
        )


def test_each_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        d for group in project["optional-dependencies"].values() for d in group
    ]
    names = {re.match(r"[\w-]+", d).group() for d in wanted} - {"bnlab"}
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    assert [
        n
        for n in sorted(names)
        if not re.search(rf"^\| [^|]*`{n}`[^|]* \| .{{15,}} \|", text, flags=re.M)
    ] == []


class TestReadme:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_opens_with_the_two_commands(self):
        block = re.search(r"```(?:sh|bash|console)\n(.*?)```", self.text, flags=re.S).group(1)
        assert "make book" in block
        assert "make test" in block

    def test_names_only_commands_that_exist(self):
        targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M))
        assert set(re.findall(r"\bmake ([a-z]+)\b", self.text)) <= targets

    @pytest.mark.parametrize("target", ["book", "test"])
    def test_make_says_first_what_it_will_do_how_long_and_how_much_disk(self, target):
        command = ["make", "-n", "--always-make", target]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        said = " ".join(run.stdout[: run.stdout.index("venv (")].split())
        first = run.stdout.split("printf")[1]
        assert f"make {target} installs" in said
        assert re.search(r"[\d.]+ GB of disk", first)
        assert re.search(r"about \d+ minutes", first)
        assert target == "test" or f"runs {len(NOTEBOOKS)} notebooks" in first

    def test_example_runs(self, capsys):
        example = re.search(r"```python\n(.*?)```", self.text, flags=re.S).group(1)
        exec(compile(example, "README.md", "exec"), {})
        shown = [line.split("# ")[1] for line in example.splitlines() if line.startswith("print(")]
        assert shown
        assert capsys.readouterr().out.split("\n")[:-1] == shown

    def test_maps_every_chapter(self):
        pages = [str(path.relative_to(ROOT)) for path in (*CHAPTERS, *HOWTO)]
        assert [name for name in pages if name not in self.text] == []

    def test_its_files_exist(self):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", self.text):
            assert (ROOT / target).exists(), target


def test_the_built_page_joins_printed_text_as_it_came(tmp_path):
    """A kernel may send one number in two pieces; the page must not break it in two lines."""
    cell = nbformat.v4.new_code_cell("print(1)", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", text=text) for text in ("0.18", "41\n")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Page"), cell])
    nbformat.write(notebook, tmp_path / "index.ipynb")
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(BOOK / '_ext')!r})\n"
        "from bnlab_site import join_streams\n"
        "from myst_nb.core import render\n"
        "render.coalesce_streams = join_streams\n"
        "extensions = ['myst_nb']\nnb_merge_streams = True\nnb_execution_mode = 'off'\n"
    )
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "text",
        "-q",
        str(tmp_path),
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert "0.1841" in (tmp_path / "out" / "index.txt").read_text()
