import builtins
import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from typer.testing import CliRunner

import bnlab
from bnlab import data
from bnlab.cli import _app
from bnlab.data import _fetch, _files, images

BUNDLED = Path(bnlab.__file__).with_name("_data") / "mnist_5k.npz"
LOADERS = {
    f.__name__: f for f in (data.mixed_scale_table, data.wine, data.breast_cancer, data.mnist_5k)
}
every_loader = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("BNLAB_DATA", raising=False)


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "mnist_5k.npz"
    path.write_bytes(BUNDLED.read_bytes())
    return path


# --- every data set ------------------------------------------------------------------------------------------


@every_loader
def test_data_sets_are_consistent_frozen_and_repeatable(load):
    dataset, again = load(), load()
    assert dataset.x.shape == (len(dataset), len(dataset.feature_names))
    assert sorted(set(dataset.y.tolist())) == list(range(len(dataset.class_names)))
    np.testing.assert_array_equal(dataset.x, again.x)
    np.testing.assert_array_equal(dataset.y, again.y)
    assert all((dataset.name, dataset.source, dataset.license, dataset.target_name))
    assert len(repr(dataset)) < 100
    for array in (dataset.x, dataset.y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.x = None


def test_mixed_scale_table_follows_its_documentation():
    many = data.mixed_scale_table(40_000, seed=1)
    kids, value = many.x.T
    assert set(kids) == {0.0, 1.0}
    assert value.min() == 500
    assert value.max() == 100_000
    assert (value % 100 == 0).all()
    assert kids.mean() == pytest.approx(0.45, abs=0.01)
    assert np.median(value) == pytest.approx(15_000, rel=0.03)
    assert np.log(value).std() == pytest.approx(1.0, abs=0.05)
    middle = np.abs(np.log(value / 15_000)) < 0.2  # there a is -2 without kids and 2 with
    assert many.y[middle & (kids == 0)].mean() == pytest.approx(1 / (1 + np.exp(2)), abs=0.02)
    assert many.y[middle & (kids == 1)].mean() == pytest.approx(1 / (1 + np.exp(-2)), abs=0.02)


def test_mixed_scale_table_depends_on_its_seed_and_size_alone():
    assert not np.array_equal(data.mixed_scale_table(seed=0).x, data.mixed_scale_table(seed=1).x)
    assert len(data.mixed_scale_table(7)) == 7
    with pytest.raises(ValueError, match="n is 1; expected at least 2"):
        data.mixed_scale_table(1)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(data.wine, load_wine), (data.breast_cancer, load_breast_cancer)]
)
def test_real_tables_are_those_of_scikit_learn(ours, theirs):
    np.testing.assert_array_equal(ours().x, theirs().data)
    np.testing.assert_array_equal(ours().y, theirs().target)
    assert ours().feature_names == tuple(theirs().feature_names)


@pytest.mark.parametrize("load", [data.wine, data.breast_cancer])
def test_without_scikit_learn_the_error_says_how_to_install_it(load, monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError("no sklearn")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        load()


# --- splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [data.wine, data.mixed_scale_table])
@pytest.mark.parametrize("test", [1, 10, 53])
def test_split_keeps_every_row_once_and_the_share_of_each_class(load, test):
    dataset = load()
    train, held_out = dataset.split(test=test, seed=3)
    assert (len(train), len(held_out)) == (len(dataset) - test, test)
    rows = sorted(map(tuple, np.column_stack([dataset.x, dataset.y])))
    parts = np.concatenate([np.column_stack([part.x, part.y]) for part in (train, held_out)])
    assert sorted(map(tuple, parts)) == rows
    expected = np.bincount(dataset.y) * test / len(dataset)
    assert np.abs(np.bincount(held_out.y, minlength=len(expected)) - expected).max() <= 1


def test_split_is_seeded_and_shuffled():
    digits = data.mnist_5k()
    train, test = digits.split(test=1000, seed=0)
    again, other = digits.split(test=1000, seed=0)[1], digits.split(test=1000, seed=1)[1]
    np.testing.assert_array_equal(test.x, again.x)
    assert set(map(bytes, test.x)) != set(map(bytes, other.x))  # other rows, not only another order
    assert np.bincount(test.y).tolist() == [100] * 10
    for part in (train, test):
        tens = part.y[:100].reshape(
            10, 10
        )  # shuffled: neither sorted by class nor dealt out class by class
        assert all(len(set(ten)) > 1 for ten in tens.tolist())
        assert any(len(set(ten)) < 10 for ten in tens.tolist())
        assert not part.x.flags.writeable


@pytest.mark.parametrize("test", [0, -1, 178, 1000])
def test_split_refuses_an_empty_side(test):
    with pytest.raises(ValueError, match=f"test={test} of 178 rows"):
        data.wine().split(test=test)


@pytest.mark.parametrize("test", [0.25, "25", True])
def test_split_refuses_a_share(test):
    with pytest.raises(TypeError, match=r"expected a number of rows.*round\(0\.25"):
        data.wine().split(test=test)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_a_seed_is_a_whole_number_from_0(seed, error):
    for call in (data.mixed_scale_table, lambda seed: data.wine().split(test=9, seed=seed)):
        with pytest.raises(error, match=f"seed is {seed}"):
            call(seed=seed)


# --- MNIST ---------------------------------------------------------------------------------------------------


def test_mnist_holds_500_digits_a_class_and_whole_pixels():
    digits = data.mnist_5k()
    assert (digits.x.shape, digits.x.dtype) == ((5000, 784), np.float32)
    assert np.bincount(digits.y).tolist() == [500] * 10
    pixels = digits.x * 255
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)
    assert (pixels.min(), pixels.max()) == (0, 255)
    # The first 5 of MNIST's training file is its first image, whose ink we know by heart: 27,525 in all.
    assert pixels[digits.y == 5][0].sum() == pytest.approx(27_525, abs=0.5)


def test_attribution_names_the_checksum_of_the_bundled_file():
    attribution = BUNDLED.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == data.digits.MNIST_5K_SHA256
    for words in (
        data.digits.MNIST_5K_SHA256,
        "LeCun",
        "Cortes",
        "Burges",
        "Raschka",
        "10.21105/joss.00638",
        "BY-SA 3.0",
    ):
        assert words in attribution


def test_an_explicit_path_wins_then_the_folder_then_the_bundled_file(copy, tmp_path, monkeypatch):
    assert _files.find("mnist_5k.npz", None) == BUNDLED
    monkeypatch.setenv("BNLAB_DATA", str(copy.parent))
    assert _files.find("mnist_5k.npz", None) == copy
    other = tmp_path / "elsewhere.npz"
    other.write_bytes(copy.read_bytes())
    assert _files.find("mnist_5k.npz", other) == other
    np.testing.assert_array_equal(data.mnist_5k(path=str(other)).x, data.mnist_5k().x)
    copy.unlink()
    assert _files.find("mnist_5k.npz", None) == BUNDLED


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda content: content[:-1], lambda content: b"", lambda content: content + b"\0"],
    ids=["one bit flipped", "truncated", "empty", "longer"],
)
def test_a_damaged_file_is_refused_by_name_and_left_alone(copy, damage, monkeypatch):
    damaged = damage(copy.read_bytes())
    copy.write_bytes(damaged)
    found = hashlib.sha256(damaged).hexdigest()
    monkeypatch.setenv("BNLAB_DATA", str(copy.parent))
    for options in ({"path": copy}, {}):
        with pytest.raises(
            ValueError, match=f"expected {data.digits.MNIST_5K_SHA256}, found {found}"
        ) as caught:
            data.mnist_5k(**options)
        assert str(copy) in str(caught.value)
    assert copy.read_bytes() == damaged


def test_a_foreign_archive_is_refused(tmp_path):
    foreign = tmp_path / "mnist_5k.npz"
    np.savez(foreign, images=np.zeros((5000, 28, 28), np.uint8), labels=np.zeros(5000, np.uint8))
    with pytest.raises(ValueError, match="damaged or is not the file"):
        data.mnist_5k(path=foreign)


def test_wrong_paths_are_named(tmp_path, monkeypatch):
    missing = tmp_path / "nowhere.npz"
    for path in (missing, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file at") as caught:
            data.mnist_5k(path=path)
        assert path.name in str(caught.value)
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path / "no-folder"))
    with pytest.raises(FileNotFoundError, match=r"BNLAB_DATA is .*no-folder"):
        data.mnist_5k()


# --- full-size sets, here of a few images --------------------------------------------------------------------


def encode(array):
    lengths = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A "mnist" of 6 and 4 images in place of the real one, and its four files in a folder."""
    rng = np.random.default_rng(0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_files, "SYSTEM", tmp_path / "system")
    monkeypatch.setattr(_files.sys, "platform", "linux")
    folder, files = tmp_path / "files", {}
    folder.mkdir()
    for split, prefix, count in (("train", "train", 6), ("test", "t10k", 4)):
        made = []
        for kind, shape, high in (
            ("images-idx3", (count, 28, 28), 256),
            ("labels-idx1", (count,), 10),
        ):
            packed = gzip.compress(encode(rng.integers(0, high, shape, dtype=np.uint8)), mtime=0)
            name = f"{prefix}-{kind}-ubyte.gz"
            (folder / name).write_bytes(packed)
            made.append(images.ImageFile(name, shape, hashlib.sha256(packed).hexdigest()))
        files[split] = tuple(made)
    mnist = dataclasses.replace(images.IMAGE_SETS["mnist"], files=files)
    monkeypatch.setitem(images.IMAGE_SETS, "mnist", mnist)
    return folder


def test_a_full_size_set_is_scaled_flat_and_labelled(tiny):
    train, test = (data.mnist(split=split, path=tiny) for split in ("train", "test"))
    assert (train.x.shape, test.x.shape) == ((6, 784), (4, 784))
    assert train.x.dtype == np.float32
    packed = (tiny / "train-images-idx3-ubyte.gz").read_bytes()
    first = np.frombuffer(gzip.decompress(packed)[16 : 16 + 784], np.uint8)
    np.testing.assert_array_equal(train.x[0], first / np.float32(255))
    labels = gzip.decompress((tiny / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert train.y.tolist() == list(labels)
    assert data.load("mnist", split="test", path=tiny).name == test.name == "mnist test"
    assert (
        data.checksums("mnist")["train-images-idx3-ubyte.gz"] == hashlib.sha256(packed).hexdigest()
    )


def test_a_full_size_set_is_looked_for_in_the_stated_order(tiny, tmp_path, monkeypatch):
    places = {
        "system": tmp_path / "system" / "mnist",
        "cache": tmp_path / "cache" / "bnlab" / "mnist",
        "own": tmp_path / "own" / "mnist",
    }
    with pytest.raises(FileNotFoundError, match="`bnlab data fetch mnist`") as caught:
        data.mnist()
    assert str(places["cache"]) in str(caught.value)
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path / "own"))
    for place in places.values():  # each one is better than those before
        shutil.copytree(tiny, place)
        assert data.verify("mnist") == place
    (places["own"] / "train-labels-idx1-ubyte.gz").unlink()  # half a set is none
    assert (
        images.IMAGE_SETS["mnist"].folder(images.IMAGE_SETS["mnist"].files["train"], None)
        == places["cache"]
    )
    with pytest.raises(FileNotFoundError, match="train-labels"):
        data.mnist(path=places["own"])  # an explicit path is the only one looked at


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-1], lambda content: b""])
def test_a_damaged_file_of_a_set_is_refused_by_name(tiny, damage):
    path = tiny / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    for call in (data.mnist, lambda path: data.verify("mnist", path=path)):
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged or is not"):
            call(path=tiny)
    assert len(data.mnist(split="test", path=tiny)) == 4


@pytest.fixture
def by_content(tiny, monkeypatch):
    """The same set, known by what its files hold; the path of one of them, and its content."""
    mnist, files = images.IMAGE_SETS["mnist"], {}
    for split, pair in mnist.files.items():
        contents = [gzip.decompress((tiny / file.name).read_bytes()) for file in pair]
        files[split] = tuple(
            dataclasses.replace(file, content_sha256=hashlib.sha256(content).hexdigest())
            for file, content in zip(pair, contents, strict=True)
        )
    monkeypatch.setitem(images.IMAGE_SETS, "mnist", dataclasses.replace(mnist, files=files))
    path = tiny / "train-labels-idx1-ubyte.gz"
    return path, gzip.decompress(path.read_bytes())


def test_a_set_known_by_its_content_may_be_compressed_anew(by_content):
    path, content = by_content
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=5))
    assert data.mnist(path=path.parent).y.tolist() == list(content[8:])
    assert data.checksums("mnist")[path.name] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: gzip.compress(flip(content)),
        lambda content: gzip.compress(content[:-1]),
        lambda content: gzip.compress(content + b"more"),
        lambda content: gzip.compress(content)[:-9],
        lambda content: flip(gzip.compress(content)),
        lambda content: content,
        lambda content: b"",
    ],
    ids=["bit flipped", "short", "longer", "cut", "gzip damaged", "no gzip", "empty"],
)
def test_a_damaged_file_known_by_its_content_is_refused_by_name(by_content, damage):
    path, content = by_content
    path.write_bytes(damage(content))
    with pytest.raises(ValueError, match=f"{path.name} is damaged or is not the file"):
        data.mnist(path=path.parent)


def test_no_more_is_unpacked_than_the_file_may_hold(by_content):
    path, _ = by_content
    path.write_bytes(gzip.compress(b"\0" * 10_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="is damaged or is not the file"):
        data.mnist(path=path.parent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_fashion_mnist_is_read_where_debian_puts_it():
    try:
        folder = data.verify("fashion-mnist")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert folder.name == "fashion-mnist"
    for split, count in (("train", 60_000), ("test", 10_000)):
        clothes = data.fashion_mnist(split=split)
        assert clothes.x.shape == (count, 784)
        assert np.bincount(clothes.y).tolist() == [count // 10] * 10
        assert (clothes.x.min(), clothes.x.max()) == (0, 1)
    assert clothes.y[:5].tolist() == [9, 2, 1, 1, 6]  # ankle boot, pullover, two trousers, shirt


def test_load_splits_the_bundled_digits_once_and_for_all():
    train, test = data.mnist_5k().split(test=1000, seed=0)
    for split, part in (("train", train), ("test", test)):
        loaded = data.load("mnist-5k", split=split)
        np.testing.assert_array_equal(loaded.x, part.x)
        np.testing.assert_array_equal(loaded.y, part.y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: data.load("mnist_5k"),
            "name is 'mnist_5k'; expected one of 'mnist-5k', 'fashion-mnist'",
        ),
        (lambda: data.checksums("cifar"), "name is 'cifar'"),
        (lambda: data.verify("cifar"), "name is 'cifar'"),
        (
            lambda: data.load("mnist-5k", split="valid"),
            "split is 'valid'; expected 'train' or 'test'",
        ),
        (lambda: data.mnist(split="valid"), "split is 'valid'; expected 'train' or 'test'"),
    ],
)
def test_unknown_names_and_parts_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "bnlab"),
        ("win32", "LOCALAPPDATA", "bnlab"),
        ("darwin", "HOME", "Library/Caches/bnlab"),
        ("linux", "HOME", ".cache/bnlab"),
    ],
)
def test_downloads_lie_where_the_platform_keeps_them(
    platform, variable, expected, monkeypatch, tmp_path
):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(_files.sys, "platform", platform)
    assert _files.cache_folder() == tmp_path / expected


# --- downloads, from a server of our own ---------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serves the files of a folder, each as well or as badly as `faults` says."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.faults, self.asked = folder, {}, []
        self.awake, self.halfway = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/some/where"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        content = (self.server.folder / name).read_bytes()
        fault = self.server.faults.get(name)
        if fault == "absent":
            return self.send_error(404)
        if fault == "silent":
            return self.server.awake.wait(60)
        self.send_response(200)
        if fault != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "tampered":
            content = flip(content)
        if fault in ("short", "stalled"):
            content = content[: len(content) // 2]
        with contextlib.suppress(OSError):
            self.wfile.write(content)
            if fault == "stalled":
                self.server.halfway.set()
                self.server.awake.wait(60)
            while fault == "endless":
                self.wfile.write(b"\0" * 2**16)
        return None

    def log_message(self, *words):
        pass


@pytest.fixture
def server(tiny):
    with Server(tiny) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.awake.set()
        made.shutdown()
        thread.join()


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_fetched_set_is_found_and_never_fetched_again(server, tmp_path):
    seen = []
    folder = data.fetch("mnist", mirrors=[server.url], show=lambda *at: seen.append(at))
    assert folder == tmp_path / "cache" / "bnlab" / "mnist"
    assert everything(folder) == everything(server.folder) == sorted(server.asked)
    assert len(data.mnist()) == 6
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {file: size for file, received, size in seen} == sizes
    assert {file: received for file, received, size in seen} == sizes
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert data.fetch("mnist", mirrors=["http://127.0.0.1:9/"]) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_set_is_fetched_to_a_folder_and_from_a_folder(tiny, tmp_path, monkeypatch):
    folder = data.fetch("mnist", to=tmp_path / "mine", mirrors=[tiny.as_uri()])
    assert folder == tmp_path / "mine" / "mnist"
    assert everything(folder) == everything(tiny)
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path / "mine"))
    assert data.verify("mnist") == folder


FAULTS = {
    "tampered": "SHA256 hash of downloaded file .* does not match the known hash",
    "short": "bytes read, .* more expected",
    "absent": "404 Client Error",
    "silent": "Read timed out",
    "stalled": "Read timed out",
    "endless": "sent more than",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_download_leaves_nothing(server, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(_fetch, "LARGEST", 2**20)
    server.faults["train-images-idx3-ubyte.gz"] = fault
    sizes = [0]
    with pytest.raises(OSError, match=rf"train-images.*not be had.*{FAULTS[fault]}") as caught:
        data.fetch(
            "mnist",
            mirrors=[server.url],
            timeout=0.3 if fault in ("silent", "stalled") else 60,
            show=lambda file, received, size: sizes.append(received),
        )
    assert max(sizes) <= 2**20
    assert server.url in str(caught.value)
    assert everything(tmp_path / "cache") == []


def test_the_next_mirror_helps_out(server):
    server.faults["train-images-idx3-ubyte.gz"] = "tampered"
    nobody = "http://127.0.0.1:9/"
    with pytest.raises(
        OSError, match=rf"{nobody}: .*Connection refused.* \| {server.url}/: SHA256 hash"
    ):
        data.fetch("mnist", mirrors=[nobody, server.url])
    folder = data.fetch("mnist", mirrors=[server.url, server.folder.as_uri()])
    assert data.verify("mnist") == folder


def test_a_file_that_is_there_is_never_written_over(server, tmp_path):
    folder = data.fetch("mnist", to=tmp_path, mirrors=[server.url])
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"mine")
    with pytest.raises(
        ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged or is not .*move the file away"
    ):
        data.fetch("mnist", to=tmp_path, mirrors=[server.url])
    assert path.read_bytes() == b"mine"


def test_the_command_fetches_lists_and_verifies(server, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # a long path is not broken
    server.faults["train-labels-idx1-ubyte.gz"] = "absent"
    place = str(tmp_path / "cache" / "bnlab" / "mnist")

    def command(*words, code=0):
        done = CliRunner().invoke(_app.app, ["data", *words])
        assert done.exit_code == code, done.output
        return done

    def fetch(code=0):
        return command("fetch", "mnist", "--mirror", server.url, code=code)

    assert "404 Client Error" in fetch(code=1).stderr
    server.faults.clear()
    done = fetch()
    assert f"mnist is in {place}, every file checked" in done.stdout
    for path in server.folder.iterdir():  # the first one came with the first call
        shown = re.search(rf"{path.name} .* (\d\S*)/\1 (bytes|kB)", done.stderr)
        assert (shown is None) == (path.name == "train-images-idx3-ubyte.gz"), done.stderr
    assert place in command("list").stdout
    assert f"mnist: good, in {place}" in command("verify", "mnist").stdout


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_interrupted_download_leaves_no_file_that_passes_for_whole(server, tmp_path, blow):
    """The server stalls in the middle of the second file, and there the download is killed."""
    server.faults["train-labels-idx1-ubyte.gz"] = "stalled"
    mnist = images.IMAGE_SETS["mnist"]
    code = f"""
import dataclasses
from bnlab import data
from bnlab.data.images import IMAGE_SETS, ImageFile
IMAGE_SETS["mnist"] = dataclasses.replace(IMAGE_SETS["mnist"], files={mnist.files!r})
data.fetch("mnist", to={str(tmp_path)!r}, mirrors=[{server.url!r}])
"""
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert server.halfway.wait(60)
    child.send_signal(blow)
    child.communicate()
    assert child.returncode == -blow
    left = {path.name for path in (tmp_path / "mnist").iterdir()}
    left.remove("train-images-idx3-ubyte.gz")  # it was whole
    assert len(left) == (blow == signal.SIGKILL)  # nobody can tidy up after a kill -9
    assert not left & {file.name for file in mnist.every_file()}
    server.faults.clear()
    assert data.verify("mnist", path=data.fetch("mnist", to=tmp_path, mirrors=[server.url]))


def test_everyone_may_read_a_download(server, tmp_path):
    for path in data.fetch("mnist", to=tmp_path, mirrors=[server.url]).iterdir():
        assert path.stat().st_mode & 0o777 == 0o644


def test_without_pooch_a_download_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"needs pooch, .*`pip install 'bnlab\[cli\]'`"):
        data.fetch("mnist", mirrors=[tiny.as_uri()])
    assert len(data.mnist(path=tiny)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mnist-5k"}, "nothing to download for 'mnist-5k'.*It comes with the package"),
        (
            {"name": "cifar"},
            "nothing to download for 'cifar'; expected one of 'mnist', 'fashion-mnist'",
        ),
        ({"name": "mnist", "mirrors": ["/a/folder"]}, "mirror is '/a/folder'; expected a URL"),
    ],
)
def test_what_cannot_be_fetched_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        data.fetch(**options)


def test_the_known_mirrors_are_whole_urls_and_the_checksums_whole():
    for name, known in images.IMAGE_SETS.items():
        assert [_fetch._folder_url(url) for url in known.mirrors] == list(known.mirrors)
        assert known.name == name
        files = known.every_file()
        sums = {digest for file in files for digest in (file.sha256, file.checked)}
        assert len(sums) == 8
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in sums)


# --- the class itself ----------------------------------------------------------------------------------------


def make(**changes):
    fields = {
        "name": "made by hand",
        "x": np.ones((3, 2)),
        "y": np.array([0, 1, 0]),
        "feature_names": ("a", "b"),
        "class_names": ("no", "yes"),
        "target_name": "bought",
    }
    return data.Dataset(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [[1.0, 2.0]]}, TypeError, "list"),
        ({"x": np.ones((3, 2), dtype=int)}, TypeError, "int64"),
        ({"x": np.ones(3)}, ValueError, r"shape \(3,\) for 2 feature names"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "NaN"),
        ({"feature_names": ("a",)}, ValueError, r"shape \(3, 2\) for 1 feature names"),
        ({"y": np.array([0, 1])}, ValueError, r"y has shape \(2,\); expected \(3,\)"),
        ({"y": np.array([0.0, 1.0, 0.0])}, TypeError, "y has dtype float64; .*np.asarray"),
        ({"y": [0, 1, 0]}, TypeError, "y is a list; .*np.asarray"),
        ({"y": np.array([0, 1, 2])}, ValueError, "y runs from 0 to 2 for 2 class names"),
        ({"y": np.array([0, -1, 1])}, ValueError, "y runs from -1 to 1"),
    ],
)
def test_inconsistent_data_sets_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_a_data_set_copies_what_it_is_given():
    x = np.ones((3, 2))
    dataset = make(x=x)
    x[0, 0] = 5
    assert dataset.x[0, 0] == 1
    assert dataset.take(np.array([2, 0])).y.tolist() == [0, 0]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "a", None])
def test_fetch_refuses_a_wrong_timeout_before_it_asks_anyone(tmp_path, timeout):
    with pytest.raises((TypeError, ValueError), match=r"timeout is .*; expected"):
        data.fetch("mnist", to=tmp_path, mirrors=["file:///nowhere"], timeout=timeout)


def test_fetch_takes_several_mirrors_and_no_single_string(tmp_path):
    with pytest.raises(TypeError, match="one string; expected several"):
        data.fetch("mnist", to=tmp_path, mirrors="file:///nowhere")
