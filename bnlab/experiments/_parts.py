"""The folder beside a result in the making: what an unfinished run has done so far, each file whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnlab.experiments import _archive

try:
    import fcntl
except ImportError:  # Windows: two runs at once into one file are then not noticed
    fcntl = None

FORMAT = "bnlab-run-1"
OURS = re.compile(r"run\.json|clock\.json|task-\d{4}(\.state)?\.npz|task-\d{4}\.error\.txt|.*\.tmp")


@dataclass(frozen=True)
class Part:
    """What one task has left: its outcome, or a snapshot to go on from."""

    content: dict[str, Any]
    fraction: float
    machines: tuple[str, ...]


class Parts:
    """The parts of the run that will end as the file `out`, planned as `plan` says.

    `plan` (experiment, configuration, versions, ...) is stored with them, and every file names the plan it
    belongs to, so that nothing is resumed in other circumstances.
    """

    def __init__(self, out: Path, plan: dict[str, Any]) -> None:
        self.out, self.plan = out, plan
        self.folder = out.with_name(f"{out.name}.parts")
        self._run = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, made if need be; a second run into it is refused while the first one lives."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a", encoding="utf-8") as handle:
            if fcntl is not None:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise FileExistsError(
                        f"{self.folder} is in use: another process runs an experiment into {self.out.name}. "
                        f"Wait for it, stop it, or choose another --out."
                    ) from error
                except OSError:  # a file system without locks
                    pass
            handle.truncate(0)
            handle.write(secrets.token_hex(8))
            handle.flush()
            yield

    def token(self) -> str:
        """Return what whoever holds the folder has written into its lock, by which a shared disk is known."""
        path = self.folder / "lock"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def open(self, *, resume: bool, force: bool = False) -> None:
        """Begin, or go on with what is there; refuse to when it is another run or `resume` is not set."""
        if force:
            self.clear()
        present = [path for path in self._files() if path.suffix != ".tmp"]
        if not present:
            self._write_json("run.json", self._stored_plan())
        elif resume:
            self._compare()
        else:
            raise FileExistsError(
                f"{self.folder} holds an unfinished run with {len(self.done())} of its tasks done. "
                f"Use --resume to go on with it, or --force to throw it away."
            )

    def done(self) -> set[int]:
        """Return the tasks whose outcome is here."""
        return {int(path.name[5:9]) for path in self.folder.glob("task-????.npz")}

    def begun(self) -> set[int]:
        """Return the tasks of which a snapshot is here, and no outcome."""
        return {
            int(path.name[5:9]) for path in self.folder.glob("task-????.state.npz")
        } - self.done()

    def file(self, task: int, *, state: bool = False) -> Path:
        """Return where the outcome of a task, or its snapshot, is stored."""
        return self.folder / f"task-{task:04d}{'.state' if state else ''}.npz"

    def save(self, task: int, part: Part, *, state: bool) -> None:
        """Store a snapshot or the outcome, which takes the place of the snapshot."""
        arrays = {n: v for n, v in part.content.items() if isinstance(v, np.ndarray | np.generic)}
        plain = {n: v for n, v in part.content.items() if n not in arrays}
        for name, value in plain.items():
            if not isinstance(value, bool | int | float | str):
                raise TypeError(
                    f"{name} of task {task} is a {type(value).__name__}; expected an array, a number or text. "
                    f"Convert it first: tensor.numpy(), or one name for each member."
                )
        head = {
            "format": FORMAT, "run": self._run, "task": task, "state": state, "plain": plain,
            "names": list(arrays), "scalars": [n for n, v in arrays.items() if isinstance(v, np.generic)],
            "fraction": part.fraction, "machines": list(part.machines),
        }  # fmt: skip
        stored = {f"a{i}": np.asarray(value) for i, value in enumerate(arrays.values())}
        _archive.write(self.file(task, state=state), head, stored, compressed=False)
        if not state:
            self.file(task, state=True).unlink(missing_ok=True)

    def load(self, task: int, *, state: bool) -> Part | None:
        """Return what is stored, None if there is nothing; refuse by name what is damaged or not of this run."""
        path = self.file(task, state=state)
        if not path.is_file():
            return None
        advice = "delete it, and its task starts anew."
        head, stored = _archive.read(path, what="part of a run", advice=advice)
        if head.get("format") != FORMAT or (head["run"], head["task"], head["state"]) != (
            self._run, task, state,
        ):  # fmt: skip
            raise ValueError(
                f"{path} belongs to another run, or to another task of this one. It was moved here: {advice}"
            )
        content = {
            name: stored[f"a{i}"][()] if name in head["scalars"] else stored[f"a{i}"]
            for i, name in enumerate(head["names"])
        }
        return Part(content | head["plain"], head["fraction"], tuple(head["machines"]))

    def accept(self, task: int, content: bytes) -> None:
        """Store an outcome that another process sent."""
        _archive.write_whole(self.file(task), lambda file: file.write(content))

    @property
    def seconds(self) -> float:
        """How long the run has taken before, as far as it was noted."""
        path = self.folder / "clock.json"
        return float(_read_json(path)["seconds"]) if path.is_file() else 0.0

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._write_json("clock.json", {"seconds": round(value, 3)})

    def clear(self) -> None:
        """Delete every part; if anything is not ours, delete nothing and name it."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the folder."""
        with contextlib.suppress(
            FileNotFoundError
        ):  # on a shared disk, another process may be first
            self.clear()
            (self.folder / "lock").unlink(missing_ok=True)
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        if not self.folder.exists():
            return []
        found = [path for path in sorted(self.folder.iterdir()) if path.name != "lock"]
        for path in found:
            if not OURS.fullmatch(path.name):
                raise FileExistsError(
                    f"{path} is nothing that a run wrote; expected only parts of a run beside it. "
                    f"Move it away, or choose another --out."
                )
        return found

    def _stored_plan(self) -> dict[str, Any]:
        return {"format": FORMAT} | self.plan

    def _compare(self) -> None:
        path = self.folder / "run.json"
        if not path.is_file():
            raise ValueError(
                f"{self.folder} has no run.json, the plan of its run. Use --force to begin anew."
            )
        found = differences(_read_json(path), self._stored_plan())
        if found:
            raise ValueError(
                f"{self.folder} was begun otherwise: {'; '.join(found)}. Resume it as it was begun, "
                f"or use --force to throw it away."
            )

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        text = json.dumps(value, indent=1).encode()
        _archive.write_whole(self.folder / name, lambda file: file.write(text))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected what a run had written. Use --force to begin anew."
        ) from error


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Say where two plans differ, one phrase for each value."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            phrase
            for key in sorted(there | here)
            for phrase in differences(there.get(key), here.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if there == here else [f"{name} was {_short(there)} and is {_short(here)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
