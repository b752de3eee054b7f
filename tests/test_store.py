"""Results are stored whole, come back bit for bit, and are refused when damaged, edited or foreign."""

import importlib
import json
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pytest

from bnlab import kernels
from bnlab.chapters import TOPICS
from bnlab.experiments import Provenance, Result, _archive, difference, load, save, store


@dataclass(frozen=True)
class Sample(Result):
    """A result made for these tests."""

    loss: np.ndarray
    labels: np.ndarray
    rate: float
    seeds: tuple[int, ...]
    note: str | None = None


@pytest.fixture
def sample():
    return Sample(np.array([0.1, 1 / 3, 1e-300]), np.array(["a", "b"]), 0.1 + 0.2, (3, 1), None)


@pytest.fixture
def origin():
    return Provenance.now(seeds=(3, 1), config={"lr": 0.1}, duration=1.5)


def test_a_result_comes_back_bit_for_bit(tmp_path, sample, origin):
    path = save(sample, tmp_path / "deep" / "sample.npz", provenance=origin)
    back, provenance = load(path)
    assert type(back) is Sample
    assert back.loss.tobytes() == sample.loss.tobytes()
    assert back.labels.tolist() == ["a", "b"]
    assert (back.rate, back.seeds, back.note) == (sample.rate, sample.seeds, None)
    assert provenance == origin


def test_a_result_as_arrays_comes_back_bit_for_bit(sample):
    arrays = store.to_arrays(sample)
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    back = store.from_arrays(arrays)
    assert type(back) is Sample
    assert back.loss is sample.loss
    assert (back.rate, back.seeds, back.note) == (sample.rate, sample.seeds, None)


def test_differences_are_relative_and_see_what_is_not_finite():
    stored = np.array([[2.0, -4.0], [0.0, np.inf]])
    assert difference(stored, stored) == 0
    assert difference([[2.0, -4.2], [0.0, np.inf]], stored) == pytest.approx(0.05)
    assert difference([[2.0, -4.0], [1e-9, np.inf]], stored) == np.inf
    assert difference([[2.0, -4.0], [1e-9, np.inf]], stored, floor=1e-6) == pytest.approx(1e-3)
    for broken in (np.nan, np.inf):
        assert difference([[broken, -4.0], [0.0, np.inf]], stored) == np.inf
        assert difference([[2.0, -4.0], [0.0, 1.0]], stored) == np.inf
    with pytest.raises(ValueError, match=r"again has shape \(2,\) and stored \(2, 2\)"):
        difference(stored[0], stored)


def test_one_result_makes_one_sequence_of_bytes(tmp_path, sample, origin):
    first, second = (
        save(sample, tmp_path / name, provenance=origin) for name in ("a.npz", "b.npz")
    )
    assert first.read_bytes() == second.read_bytes()


def test_provenance_says_what_ran_and_names_no_machine(origin):
    import platform

    assert origin.versions["numpy"] == np.__version__
    assert origin.versions["python"] == platform.python_version()
    assert platform.node() not in json.dumps(origin.machine)
    assert "/" not in origin.machine


def test_provenance_names_numba_only_where_its_kernels_are_in_use():
    with kernels.enable(False):
        assert "numba" not in Provenance.now(seeds=(), config={}, duration=0).versions
    pytest.importorskip("numba")
    with kernels.enable():
        assert "numba" in Provenance.now(seeds=(), config={}, duration=0).versions


def test_a_file_from_before_a_field_of_the_origin_is_read(tmp_path, sample, origin):
    path = save(sample, tmp_path / "old.npz", provenance=origin)
    with np.load(path) as file:
        head = json.loads(str(file["_head"]))
        stored = {name: file[name] for name in file.files if name != "_head"}
    del head["provenance"]["data"], head["provenance"]["experiment"], head["sha256"]
    _archive.write(path, head, stored)
    assert load(path)[1] == origin
    head["provenance"]["from the future"] = 1
    _archive.write(path, head, stored)
    with pytest.raises(ValueError, match=r"old\.npz is not a readable result of bnlab"):
        load(path)


def rewrite(path, **changes):
    """Edit a stored file as a person with NumPy would."""
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    np.savez_compressed(path, **(content | changes))


def test_an_edited_array_is_refused(tmp_path, sample, origin):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    rewrite(path, loss=sample.loss * (1 + 1e-15))
    with pytest.raises(
        ValueError, match=r"sample\.npz does not match its own checksum.*run the exp"
    ):
        load(path)


def test_an_edited_number_is_refused(tmp_path, sample, origin):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    with np.load(path) as file:
        head = str(file["_head"])
    assert "[3, 1]" in head
    rewrite(path, _head=np.array(head.replace("[3, 1]", "[3, 2]")))
    with pytest.raises(ValueError, match="checksum"):
        load(path)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, sample, origin, keep):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"sample\.npz is not a readable result"):
        load(path)


def test_any_flipped_byte_is_harmless_or_refused_by_name(tmp_path, sample, origin):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    whole = path.read_bytes()
    errors = []
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 + position % 255
        path.write_bytes(damaged)
        try:
            back, provenance = load(path)
        except ValueError as error:
            errors.append(str(error))
        else:  # bytes that nobody reads, such as the time stamps of the archive
            assert back.loss.tobytes() == sample.loss.tobytes()
            assert provenance == origin
    assert all("sample.npz" in error for error in errors)
    assert len(errors) > len(whole) / 2


def test_a_foreign_file_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz is not a readable result"):
        load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz is not a readable result"):
        load(tmp_path / "text.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist"):
        load(tmp_path / "none.npz")


def test_an_unknown_kind_says_which_kinds_are_known(tmp_path, sample, origin, monkeypatch):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    monkeypatch.delitem(store._KINDS, "Sample")
    with pytest.raises(ValueError, match=r"holds a Sample, .*bnlab\.chapters\.<topic>\.results"):
        load(path)


@pytest.mark.parametrize("thing", [{"loss": 1}, Sample, 3.0, np.ones(3)])
def test_only_results_are_saved(tmp_path, thing, origin):
    with pytest.raises(
        TypeError, match=r"expected an instance of a frozen dataclass derived from bnlab"
    ):
        save(thing, tmp_path / "x.npz", provenance=origin)
    assert list(tmp_path.iterdir()) == []


def test_only_a_provenance_that_json_can_hold_is_saved(tmp_path, sample):
    with pytest.raises(TypeError, match=r"provenance is a NoneType; .*Provenance\.now"):
        save(sample, tmp_path / "x.npz", provenance=None)
    odd = Provenance.now(seeds=(0,), config={"lr": np.ones(2)}, duration=1.0)
    with pytest.raises(TypeError, match=r"in its config; .*tolist"):
        save(sample, tmp_path / "x.npz", provenance=odd)
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_objects_is_named(tmp_path, origin):
    odd = Sample(np.array([object()]), np.array(["a"]), 0.5, (1,))
    with pytest.raises(TypeError, match=r"Sample\.loss holds an array of object"):
        save(odd, tmp_path / "x.npz", provenance=origin)


def test_the_name_must_end_in_npz(tmp_path, sample, origin):
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        save(sample, tmp_path / "x.json", provenance=origin)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, sample, origin, monkeypatch):
    path = save(sample, tmp_path / "sample.npz", provenance=origin)
    before = path.read_bytes()
    bad = Sample(sample.loss, sample.labels, 0.5, ([1],), None)
    with pytest.raises(TypeError, match=r"Sample\.seeds holds a list"):
        save(bad, path, provenance=origin)

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(sample, path, provenance=origin)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_modules_may_not_give_one_name_to_two_results():
    from bnlab.chapters.figure_one.results import RateSearch

    with pytest.raises(TypeError, match="defines a result RateSearch, and so does bnlab"):
        type("RateSearch", (store.Result,), {"__module__": "elsewhere"})
    assert store._KINDS["RateSearch"] is RateSearch


def test_every_result_class_is_a_frozen_dataclass_of_storable_fields():
    allowed = ("np.ndarray", "int", "float", "str", "bool", "tuple", "None")
    for topic in TOPICS:
        importlib.import_module(f"bnlab.chapters.{topic}.results")

    ours = {n: k for n, k in store._KINDS.items() if k.__module__.startswith("bnlab.")}
    for name, kind in ours.items():
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen, f"{name} is not frozen"
        assert kind.__doc__, f"{name} has no docstring"
        for item in fields(kind):
            parts = str(item.type).replace("np.ndarray", "ndarray").split("|")
            assert all(
                p.strip().startswith(tuple(a.replace("np.", "") for a in allowed)) for p in parts
            ), f"{name}.{item.name} is a {item.type}: save cannot store it"


def test_no_one_is_advised_to_unpickle_a_foreign_file(tmp_path):
    (tmp_path / "x.npz").write_text("import os")
    with pytest.raises(ValueError, match="no NumPy archive") as found:
        load(tmp_path / "x.npz")
    assert "pickle" not in str(found.value)


def test_a_folder_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder; expected a result file"):
        load(tmp_path)
