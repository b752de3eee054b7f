"""What must be settled before a run, and be the same for it to be resumed."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

from bnlab import data
from bnlab.experiments._long import Config, LongExperiment
from bnlab.experiments.store import versions

WITHOUT_NUMBERS = ("plots", "checks", "cli", "derivation", "__main__.py")
"""Parts of the package on which no result of an experiment can depend."""


def target(out: str | Path) -> Path:
    """Return where the result goes, a name that `results.save` will take."""
    out = Path(out)
    if out.suffix != ".npz":
        raise ValueError(
            f"out is {str(out)!r}; expected a name that ends in .npz. Rename the target."
        )
    return out


def plan_of(name: str, experiment: LongExperiment, config: Config, device: str) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    source = config.get("data")
    used = {}
    if {str(source), str(experiment.defaults.get("data"))} & set(data.names()):
        data.verify(source)  # now, not after an hour; an unknown name is refused, too
        used = data.checksums(source)
    return {
        "experiment": name,
        "config": config,
        "device": device,
        "data": used,
        "versions": versions(),
        "code": code_of(experiment),
    }


def code_of(experiment: LongExperiment) -> str:
    """Return a checksum of the source that the numbers depend on."""
    package = Path(__file__).parents[1]
    files = [
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in WITHOUT_NUMBERS
    ]
    own = inspect.getsourcefile(experiment.run)
    if own is not None and not Path(own).is_relative_to(package):
        files.append(Path(own))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def check_device(device: str) -> None:
    """Refuse a device that is not here; nothing falls back to another one by itself."""
    if device == "cpu":
        return
    from bnlab.training.ensemble import available

    available(device)
