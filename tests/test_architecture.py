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
    "gradcheck": set(),
    "whitening": set(),
    "graph": set(),
    "data": set(),
    "derivation": set(),
    "results": {"kernels"},  # a stored file says whether they were in use
    "kernels": set(),
    "naive": {"results"},
    "checks": {"reference", "gradcheck"},
    "nn._check": set(),
    "nn._tensors": set(),
    "nn._inplace": {"nn._tensors"},
    "nn._numba": {"kernels", "nn._tensors"},
    "nn.autograd": {"nn._tensors", "nn._inplace", "nn._numba"},
    "nn.functional": {"nn._check", "nn._tensors", "nn.autograd"},
    "nn.batchnorm": {"nn.functional", "nn._check"},
    "nn.variants": {"nn.functional"},
    "nn.sync": {"nn.functional"},
    "models": {"nn"},
    "inference": {"nn"},
    "probes": {"results"},
    "diagnose": {"inference", "probes", "results", "nn"},
    "training": {"data", "results", "probes", "nn", "inference"},
    "experiments": {
        "models", "nn", "naive", "scaling", "reference", "whitening", "inference", "probes", "training", "data",
        "results",
    },
    "plots": {"results"},
    "__main__": {"cli"},
    "cli": {"experiments", "diagnose", "data", "results", "plots"},
}  # fmt: skip
SHARED = {"_validate"}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(name):
    """Return the row of the table a module belongs to: `plots.style` is of `plots`, `nn.sync` its own."""
    if name in ALLOWED:
        return name
    top = name.split(".")[0]
    return "nn" if top == "nn" else top


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
    allowed = ALLOWED.get(unit(name), set())
    return {
        row
        for row in edges(name, source, is_package)
        if row not in allowed and row.split(".")[0] not in allowed
    }


@pytest.mark.parametrize("name", [n for n in MODULES if n and unit(n) not in SHARED])
def test_module_imports_only_what_the_table_allows(name):
    path = MODULES[name]
    row = unit(name)
    if row == "nn":  # the package's __init__ gathers its own modules
        assert {e.split(".")[0] for e in edges(name, path.read_text(), True)} <= {"nn"}
        return
    assert row in ALLOWED, f"{name} is in no row of the import table: add one on purpose"
    bad = forbidden(name, path.read_text(), path.name == "__init__.py")
    assert not bad, f"bnlab.{name} imports {sorted(bad)}; allowed: {sorted(ALLOWED[row])}"


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
        ("plots.style", "from ..experiments import naive_failure", "experiments"),
        ("plots", "from bnlab.data import wine", "data"),
        ("results", "from bnlab import plots", "plots"),
        ("checks._verdict", "from bnlab.scaling import standardize", "scaling"),
        ("nn.variants", "from bnlab.reference import batch_norm_forward", "reference"),
        ("training", "from bnlab.models import mlp", "models"),
    ],
)
def test_the_check_sees_every_way_to_write_an_import(name, source, row):
    assert forbidden(name, source, is_package=name in ("plots", "results")) == {row}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_bnlab_loads_neither_torch_nor_matplotlib():
    loaded = loaded_by(
        "import bnlab; bnlab.batch_norm_forward; bnlab.scaling; bnlab.naive; bnlab.results"
    )
    assert "bnlab.reference" in loaded
    assert not loaded & {"torch", "matplotlib", "sklearn", "scipy", "pandas", "IPython"}


def test_data_loads_scikit_learn_only_for_the_tables_that_ship_in_it():
    assert "sklearn" not in loaded_by(
        "from bnlab import data; data.mixed_scale_table(); data.mnist_5k()"
    )


def test_submodules_load_on_first_use():
    assert "torch" in loaded_by("import bnlab; bnlab.nn")
    assert "matplotlib" in loaded_by("import bnlab; bnlab.plots")


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    import bnlab

    with pytest.raises(AttributeError, match=r"bnlab.*'batchnorm'"):
        bnlab.batchnorm  # noqa: B018


def test_dir_lists_what_can_be_used():
    import bnlab

    assert {"batch_norm_forward", "nn", "plots", "data", "__version__"} <= set(dir(bnlab))


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
