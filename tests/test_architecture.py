"""The import table: who may import whom, read from the source; every other edge is a failure."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "bnlab"

# importer -> what it may import from bnlab. Everyone may import the argument checks of bnlab._validate.
ALLOWED = {
    "reference": set(),
    "scaling": set(),
    "whitening": set(),
    "graph": set(),
    "gradcheck": set(),
    "derivation": set(),
    "kernels": set(),
    "data": set(),
    "stats": set(),
    "nn._check": set(),
    "nn._compat": set(),
    "nn._tensors": {"nn._compat"},
    "nn._inplace": {"nn._tensors"},
    "nn._numba": {"kernels", "nn._tensors"},
    "nn.autograd": {"nn._compat", "nn._tensors", "nn._inplace", "nn._numba"},
    "nn.functional": {"nn._check", "nn._compat", "nn._tensors", "nn.autograd"},
    "nn.batchnorm": {"nn.functional", "nn._check", "nn._compat", "nn._tensors"},
    "nn.variants": {"nn.functional"},
    "nn.sync": {"nn.batchnorm", "nn.functional", "nn.autograd", "nn._check", "nn._tensors"},
    "nn.decorrelated": {"nn.functional", "nn.autograd", "nn._check"},
    "nn.ghost": {"nn.batchnorm", "nn.functional", "nn._check", "nn._tensors"},
    "nn.renorm": {"nn.batchnorm", "nn.functional", "nn.autograd", "nn._check", "nn._tensors"},
    "models": {"nn"},
    "inference": {"nn"},
    "diagnosis": {"inference"},
    "probes": set(),
    "training": {"data", "probes", "nn", "inference"},
    "experiments": {"data", "stats", "kernels"},  # a stored file says whether kernels were in use
    "cli": {"chapters", "data", "diagnosis", "experiments", "stats"},
    "__main__": {"cli"},
}  # fmt: skip
LIBRARY = set(ALLOWED) - {"cli", "__main__"}
# Inside a chapter; a module that is named after an idea counts as "experiments".
CHAPTER = {
    "results": {"experiments", "stats"},  # of the library: what a result is
    "plots": {"results", "style", "stats"},
    "exercises": {"_verdict", "reference", "gradcheck"},
    "experiments": {"results", "experiments", "nn"} | LIBRARY,
}
# Which chapter may use an earlier one, by name.
EARLIER = {
    "gradient_flow": {"covariate_shift"},
    "troubleshooting": {"convolutional_batchnorm"},
    "claims": {
        path.name for path in (PACKAGE / "chapters").iterdir() if path.is_dir()
    },  # it judges all
}
SHARED = {"_validate"}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(name):
    """Return the row of the table a module belongs to: `data.idx` is of `data`, `nn.sync` its own."""
    top, *rest = name.split(".")
    if top == "chapters" and rest:
        return f"chapters.{rest[0]}"
    return name if name in ALLOWED or top == "nn" else top


def imports(source, here, is_package):
    """List every module of bnlab that a source file imports, at the top or inside a function."""
    found = set()
    base = ["bnlab", *here.split(".")] if here else ["bnlab"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + is_package] if node.level else []
            stem = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" for alias in node.names} | {stem}
    inside = {
        name.removeprefix("bnlab").lstrip(".") for name in found if name.split(".")[0] == "bnlab"
    }
    return {name for name in inside if name}


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def edges(name, source, is_package):
    """Return the rows of the table that a module imports, itself and the shared helper left out."""
    names = {
        ".".join(part for part in target.split(".")) for target in imports(source, name, is_package)
    }
    rows = set()
    for target in names:
        while target and target not in MODULES and target not in ALLOWED:
            target = target.rpartition(".")[0]  # `data.Dataset` is a name inside `data`
        if target:
            rows.add(unit(target))
    return rows - {unit(name)} - SHARED


def forbidden(name, source, is_package=False):
    """Return what a module imports and must not."""
    if name.startswith("chapters."):
        return forbidden_in_a_chapter(name, source, is_package)
    allowed = ALLOWED.get(unit(name), set())
    rows = edges(name, source, is_package)
    if name == "cli" or name.startswith("cli."):
        rows = {row.split(".")[0] for row in rows}
    return {row for row in rows if row not in allowed and row.split(".")[0] not in allowed}


def forbidden_in_a_chapter(name, source, is_package):
    _, topic, *leaf = name.split(".")
    if (
        not leaf
    ):  # `chapters.style`, `chapters._verdict` and each folder's __init__ need nothing of ours
        return edges(name, source, is_package)
    allowed = CHAPTER.get(leaf[0], CHAPTER["experiments"])
    bad = set()
    for target in imports(source, name, is_package):
        if target.startswith("chapters."):
            _, home, *inside = target.split(".")
            if home in (topic, *EARLIER.get(topic, ())):
                row = inside[0] if inside else ""
                row = row if not row or row in CHAPTER else "experiments"
            else:
                row = home if home in ("style", "_verdict") else f"chapters.{home}"
        else:
            row = target.split(".")[0] if target != "chapters" else ""
        if row and row not in allowed | SHARED | {"__version__"}:
            bad.add(row)
    return bad


@pytest.mark.parametrize("name", [n for n in MODULES if n and unit(n) not in SHARED])
def test_module_imports_only_what_the_table_allows(name):
    path, row = MODULES[name], unit(name)
    if row == "nn":  # the package's __init__ gathers its own modules
        assert {e.split(".")[0] for e in edges(name, path.read_text(), True)} <= {"nn"}
        return
    assert row in ALLOWED or name.split(".")[0] == "chapters", (
        f"{name} is in no row of the import table: add one on purpose"
    )
    bad = forbidden(name, path.read_text(), path.name == "__init__.py")
    assert not bad, f"bnlab.{name} imports {sorted(bad)}, which its row of the table does not allow"


def test_the_table_has_no_row_for_a_module_that_does_not_exist():
    assert {row for row in ALLOWED if row not in MODULES} == set()


def test_every_topic_is_a_folder_with_its_rooms():
    from bnlab.chapters import TOPICS

    rooms = {}
    for name in MODULES:
        if name.startswith("chapters.") and name.count(".") > 1:
            rooms.setdefault(name.split(".")[1], set()).add(name.split(".")[2])
    assert set(rooms) == set(TOPICS)
    for topic, inside in rooms.items():
        shared = {"results", "plots"} | ({"exercises"} if topic != "claims" else set())
        assert shared <= inside, topic
        assert inside - shared, f"{topic} has no module that makes its results"


def test_the_shared_helpers_import_nothing_of_ours():
    for name in SHARED:
        assert edges(name, MODULES[name].read_text(), False) == set()


def test_reference_and_nn_never_meet():
    """They are two derivations of one layer; only tests may compare them."""
    for name, path in MODULES.items():
        rows = edges(name, path.read_text(), path.name == "__init__.py")
        if unit(name) == "reference":
            assert not any(row.startswith("nn") for row in rows)
        if name.startswith("nn"):
            assert "reference" not in rows


@pytest.mark.parametrize(
    ("name", "source", "row"),
    [
        ("reference", "import bnlab.scaling", "scaling"),
        ("reference", "from bnlab import scaling", "scaling"),
        ("reference", "from . import scaling", "scaling"),
        ("reference", "from .scaling import standardize", "scaling"),
        ("scaling", "def f():\n    from bnlab.data import wine", "data"),
        ("experiments.store", "from bnlab import chapters", "chapters"),
        ("training", "from bnlab.chapters.figure_one import results", "chapters.figure_one"),
        ("chapters.style", "from bnlab.data import wine", "data"),
        ("chapters.figure_one.plots", "from . import experiments", "experiments"),
        ("chapters.figure_one.plots", "from bnlab.data import wine", "data"),
        ("chapters.figure_one.results", "from bnlab.chapters.figure_one import plots", "plots"),
        ("chapters.figure_one.exercises", "from .experiments import ARMS", "experiments"),
        (
            "chapters.figure_one.rates",
            "from bnlab.chapters.accelerating import rates",
            "chapters.accelerating",
        ),
        ("nn.variants", "from bnlab.reference import batch_norm_forward", "reference"),
        ("training", "from bnlab.models import mlp", "models"),
    ],
)
def test_the_check_sees_every_way_to_write_an_import(name, source, row):
    assert forbidden(name, source) == {row}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_bnlab_loads_neither_torch_nor_matplotlib():
    loaded = loaded_by(
        "import bnlab; bnlab.batch_norm_forward; bnlab.scaling; bnlab.stats; import bnlab.chapters.figure_one.results"
    )
    assert "bnlab.reference" in loaded
    assert not loaded & {"torch", "matplotlib", "sklearn", "scipy", "pandas", "IPython"}


def test_import_of_the_machinery_of_long_runs_loads_none_of_its_engines():
    heavy = {"torch", "joblib", "dask", "distributed", "threadpoolctl", "typer", "rich"}
    assert not loaded_by("import bnlab.experiments") & heavy


def test_layers_load_no_compiler():
    assert "torch._dynamo" not in loaded_by("import bnlab.nn, bnlab.inference")


def test_data_loads_scikit_learn_only_for_the_tables_that_ship_in_it():
    assert "sklearn" not in loaded_by(
        "from bnlab import data; data.mixed_scale_table(); data.mnist_5k()"
    )


def test_submodules_load_on_first_use():
    assert "torch" in loaded_by("import bnlab; bnlab.nn")
    assert "matplotlib" in loaded_by("import bnlab.chapters.figure_one.plots")


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    import bnlab

    with pytest.raises(AttributeError, match=r"bnlab.*'batchnorm'"):
        bnlab.batchnorm  # noqa: B018


def test_dir_lists_what_can_be_used():
    import bnlab

    assert {"batch_norm_forward", "nn", "chapters", "data", "__version__"} <= set(dir(bnlab))


def test_every_public_name_exists_and_is_documented():
    import importlib

    for name in MODULES:
        if name and name.split(".")[-1].startswith("_"):
            continue
        module = importlib.import_module("bnlab" + (f".{name}" if name else ""))
        assert module.__doc__, f"{module.__name__} has no docstring"
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{module.__name__}.__all__ names a missing {public}"
            thing = getattr(module, public)
            if callable(thing):
                assert thing.__doc__, f"{module.__name__}.{public} has no docstring"
