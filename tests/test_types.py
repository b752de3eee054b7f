"""The types of the library, checked without running it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_library_is_clean_under_pyright():
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--warnings"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_types_are_offered_to_the_checkers_of_users():
    assert (ROOT / "bnlab" / "py.typed").is_file()
