"""Save a result to one file with its provenance, and load it back or refuse it by name."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bnlab import kernels
from bnlab.experiments import _archive

FORMAT = "bnlab-result-1"
AGAIN = "restore it from version control or run the experiment again."


class Result:
    """Base of every result: a frozen dataclass that `save` writes and `load` knows by the name of its class.

    Its fields are arrays, numbers, text, booleans, None, or tuples of those.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Slope(Result):
    ...     value: float
    >>> Slope(0.5)
    Slope(value=0.5)
    >>> @Slope.figure
    ... def line(slope):
    ...     return f"a line that climbs by {slope.value}"
    >>> Slope(0.5).draw()
    'a line that climbs by 0.5'
    """

    _figures: ClassVar[dict[str, Callable[..., Any]]]

    def __init_subclass__(cls) -> None:
        other = _KINDS.setdefault(cls.__name__, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"{cls.__module__} defines a result {cls.__name__}, and so does {other.__module__}; expected "
                f"names that differ, because a file knows its result by the name. Rename one."
            )
        _KINDS[cls.__name__] = cls
        cls._figures = {}

    @classmethod
    def figure(cls, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare that a function draws one result of this class: a decorator, for the chapter's module `plots`.

        Parameters
        ----------
        function : callable
            Takes a result, and options of its own; the figure gets its name.

        Returns
        -------
        callable
            The function as it was.
        """
        cls._figures[function.__name__] = function
        return function

    @classmethod
    def figure_of_several(cls, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare that a function draws a sequence of results, and so also a single one.

        Parameters
        ----------
        function : callable
            Takes a sequence of results, and options of its own; the figure gets its name.

        Returns
        -------
        callable
            The function as it was.
        """
        cls._figures[function.__name__] = lambda result, **options: function([result], **options)
        return function

    @classmethod
    def figures(cls) -> tuple[str, ...]:
        """Return the names of the figures that `draw` knows, the main one first.

        Returns
        -------
        tuple of str
            Empty if nothing draws this class.
        """
        home, _, module = cls.__module__.rpartition(".")
        if module == "results":  # matplotlib is loaded when something is drawn, and not before
            importlib.import_module(f"{home}.plots")
        return tuple(cls._figures)

    def draw(self, name: str | None = None, **options: Any) -> Any:
        """Draw this result by itself.

        Parameters
        ----------
        name : str, optional
            One of its `figures`; the first by default.
        **options
            What that figure takes beside the result, for example ``ax``.

        Returns
        -------
        Axes or array of Axes
            Where the figure was drawn.

        Raises
        ------
        ValueError
            If it has no such figure.
        """
        names = self.figures()
        if not names or name not in (None, *names):
            raise ValueError(
                f"no figure {f'{name} ' if name else ''}draws a {type(self).__name__} alone; expected "
                f"{'one of ' + ', '.join(names) if names else 'a result that has one'}. Draw it from Python "
                f"with the plots of its chapter, as the chapter does."
            )
        return self._figures[name or names[0]](self, **options)


_KINDS: dict[str, type[Result]] = {}
"""The class of each kind of result that a loaded module defines."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from: enough to run it again and to judge a difference.

    Parameters
    ----------
    seeds : tuple of int
        Every seed that was run, not only those that are shown.
    config : dict
        The arguments of the experiment, as JSON can hold them.
    duration : float
        Seconds by the clock, added up over the tasks of a run.
    versions : dict
        Versions of Python and of the packages that computed the result.
    commit : str
        The git commit of the code, with ``+changes`` if files differed from it; empty outside a checkout.
    machine : str
        Processor family, number of processors and operating system; no host name and no path.
    experiment : str
        The name that ``bnlab run`` knows; empty if it was run otherwise.
    data : dict
        The SHA-256 of each data file that was read, as far as the experiment is run by ``bnlab run``.

    Examples
    --------
    >>> Provenance.now(seeds=(0, 1), config={"lr": 0.1}, duration=2.5).seeds
    (0, 1)
    """

    seeds: tuple[int, ...]
    config: dict[str, Any]
    duration: float
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    machine: str = ""
    experiment: str = ""
    data: dict[str, str] = field(default_factory=dict)

    @classmethod
    def now(
        cls, *, seeds: tuple[int, ...], config: dict[str, Any], duration: float, **other: Any
    ) -> Provenance:
        """Fill in versions, commit and machine, unless given, from the running process.

        Parameters
        ----------
        seeds : tuple of int
            Every seed that was run.
        config : dict
            The arguments of the experiment.
        duration : float
            Wall-clock seconds.
        **other
            Other fields of a Provenance.

        Returns
        -------
        Provenance
            With all of these.
        """
        known = {"versions": versions(), "commit": _commit(), "machine": machine()} | other
        return cls(seeds=tuple(seeds), config=dict(config), duration=float(duration), **known)


def save(result: object, path: str | Path, *, provenance: Provenance) -> Path:
    r"""Write a result and its provenance to `path`, whole or not at all.

    Parameters
    ----------
    result : a frozen dataclass derived from `Result`
        Its fields are arrays, numbers, strings, booleans, None, or tuples of those.
    path : str or Path
        Ends in ``.npz``. The file is written beside it and renamed, so a reader never sees half a file.
    provenance : Provenance
        See `Provenance.now`.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    TypeError
        If `result` is not a dataclass derived from `Result`, a field holds something else, or `provenance`
        is not a `Provenance` that JSON can hold.
    ValueError
        If `path` does not end in ``.npz``.

    Examples
    --------
    >>> import tempfile
    >>> @dataclass(frozen=True)
    ... class Length(Result):
    ...     value: float
    >>> origin = Provenance.now(seeds=(0,), config={}, duration=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result, _ = load(save(Length(2.0), Path(folder) / "length.npz", provenance=origin))
    >>> result
    Length(value=2.0)
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(
            f"path is {str(path)!r}; expected a name that ends in .npz. Rename the target."
        )
    if not isinstance(provenance, Provenance):
        raise TypeError(
            f"provenance is a {type(provenance).__name__}; expected a Provenance. "
            "Make one with Provenance.now(seeds=..., config=..., duration=...)."
        )
    head, arrays = _split(result)
    head = {"format": FORMAT} | head | {"provenance": asdict(provenance)}
    try:
        _archive.write(path, head, arrays)
    except TypeError as error:  # the fields are plain by now
        raise TypeError(
            f"provenance holds what JSON cannot ({error}), for example in its config; expected numbers, "
            "strings, booleans, None, lists and dicts of those. Convert arrays with .tolist()."
        ) from error
    return path


def load(path: str | Path) -> tuple[Any, Provenance]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    result : Result
        Of the class it was saved with; its arrays are equal bit for bit.
    provenance : Provenance
        Where it comes from.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, was edited, or is not a result of bnlab; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise FileNotFoundError(
            f"{path} {what}{where}; expected a result file written by `bnlab run` or bnlab.experiments.save. "
            "Check the name, and the folder you are in: a notebook of the book reads from beside it."
        )
    head, arrays = _archive.read(path, what="result of bnlab", advice=AGAIN)
    try:
        kind, form = head["kind"], head["format"]
        plain = {name: _tuples(value) for name, value in head["fields"].items()}
        seeds = tuple(head["provenance"]["seeds"])
        origin = Provenance(**(head["provenance"] | {"seeds": seeds}))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a readable result of bnlab ({type(error).__name__}: {error}); it is another "
            f"file of bnlab, perhaps a part of an unfinished run: {AGAIN}"
        ) from error
    if form != FORMAT:
        raise ValueError(
            f"{path} is in format {form}; this version reads {FORMAT}. "
            f"Use the bnlab version that wrote it, or run the experiment again."
        )
    if kind not in _KINDS:
        raise ValueError(
            f"{path} holds a {kind}, which no module that is loaded defines; expected one of "
            f"{', '.join(sorted(_KINDS)) or 'none so far'}. Import the module that defines it first: "
            f"for the book's results, bnlab.chapters.<topic>.results."
        )
    return _KINDS[kind](**arrays, **plain), origin


def to_arrays(result: object) -> dict[str, np.ndarray]:
    """Return a result as arrays alone, for the outcome of a task; see `from_arrays`.

    Parameters
    ----------
    result : a frozen dataclass derived from `Result`

    Returns
    -------
    dict of str to numpy.ndarray
        The arrays by the names of their fields, and all else as text in the entry "".
    """
    head, arrays = _split(result)
    return {"": np.array(json.dumps(head)), **arrays}


def from_arrays(arrays: dict[str, np.ndarray]) -> Any:
    """Return the result that `to_arrays` made arrays of.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray

    Returns
    -------
    Result

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Width(Result):
    ...     value: float
    >>> from_arrays(to_arrays(Width(2.5)))
    Width(value=2.5)
    """
    head = json.loads(str(arrays[""]))
    plain = {name: _tuples(value) for name, value in head["fields"].items()}
    return _KINDS[head["kind"]](**{k: v for k, v in arrays.items() if k}, **plain)


def _split(result: object) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the kind of a result with what JSON can hold of its fields, and its arrays."""
    kind = type(result).__name__
    if not is_dataclass(result) or not isinstance(result, Result):
        raise TypeError(
            f"result is a {kind}; expected an instance of a frozen dataclass derived from "
            f"bnlab.experiments.Result. Let its class inherit from Result."
        )
    arrays, plain = {}, {}
    for item in fields(result):
        value = getattr(result, item.name)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
            arrays[item.name] = value
        else:
            plain[item.name] = _plain(f"{kind}.{item.name}", value)
    return {"kind": kind, "fields": plain}, arrays


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    given = (
        f"an array of {value.dtype}"
        if isinstance(value, np.ndarray)
        else f"a {type(value).__name__}"
    )
    raise TypeError(
        f"{name} holds {given}; expected an array of numbers or text, a number, a string, "
        "a boolean, None, or a tuple of those. Convert it before building the result."
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def versions(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    numba = ("numba",) if kernels.enabled() else ()
    for package in ("bnlab", "numpy", "torch", *numba, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Return the class of this machine: no host name and no path."""
    return f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}"


def _commit() -> str:
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():  # installed somewhere: another project's commit would mislead
        return ""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip()
