"""What is handed out: what the wheel and the source archive hold, and the README's snippets run from the wheel."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import bnlab

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "bnlab").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
BESIDE = {"README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "constraints.txt"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive, and the wheel that is made of what it holds."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


def test_the_source_archive_holds_the_package_and_nothing_of_the_book(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"PKG-INFO", ".gitignore", "pyproject.toml"} == FILES | BESIDE


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == FILES
    licenses = {name.split("/licenses/")[1] for name in names if "/licenses/" in name}
    assert licenses == {"LICENSE", "bnlab/_data/ATTRIBUTION.md"}


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """Run Python in an empty folder, where `bnlab` is the wheel."""
    place, empty = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("empty")
    zipfile.ZipFile(built[0]).extractall(place)

    def run(*words):
        environment = {k: v for k, v in os.environ.items() if k != "BNLAB_DATA"}
        done = subprocess.run(
            [sys.executable, *words], cwd=empty, env=environment | {"PYTHONPATH": str(place)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert list(empty.iterdir()) == []
        return done.stdout

    assert run("-c", "import bnlab; print(bnlab.__file__)") == f"{place / 'bnlab/__init__.py'}\n"
    return run


def test_the_readmes_example_runs_from_the_wheel(python):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shown = [line.split("# ")[1] for line in example.splitlines() if line.startswith("print(")]
    assert python("-c", example).splitlines() == shown


def test_the_readmes_commands_run_from_the_wheel(python):
    assert python("-m", "bnlab", "--version") == f"bnlab {bnlab.__version__}\n"
    listed = python("-m", "bnlab", "run", "--list")
    for name in re.findall(r"^bnlab run ([a-z][\w-]+)", README, flags=re.MULTILINE):
        assert name in listed
    assert "not stored here" in listed
    assert "in the package" in python("-m", "bnlab", "data", "list")
