"""Make `qresearch/data/digits.npz` again from scikit-learn, and compare it with the file that is there.

    pip install scikit-learn
    python tests/data/make_digits.py            compares, and exits with 1 if a pixel or a label differs
    python tests/data/make_digits.py --write    writes the file and prints the checksum for digits.py

The checksum may change with the version of zlib though the arrays are equal; so the comparison is of arrays.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import sklearn.datasets  # pyright: ignore[reportMissingImports]

FILE = Path(__file__).parents[2] / "qresearch" / "data" / "digits.npz"


def main() -> int:
    """The exit code: 0 if the file holds scikit-learn's digits."""
    parser = argparse.ArgumentParser(description="Make the digits file again and compare.")
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing")
    write = parser.parse_args().write
    digits = sklearn.datasets.load_digits()
    made = {"images": digits.images.astype(np.uint8), "labels": digits.target.astype(np.uint8)}
    if not np.array_equal(made["images"], digits.images):
        raise ValueError("scikit-learn's pixels are not integers from 0 to 255; use a version that has them.")
    if write:
        np.savez_compressed(FILE, allow_pickle=False, **made)
    with np.load(FILE, allow_pickle=False) as kept:
        same = sorted(kept) == sorted(made) and all(np.array_equal(kept[name], made[name]) for name in made)
    sha256 = hashlib.sha256(FILE.read_bytes()).hexdigest()
    print(f"{FILE.name}: {'equal to' if same else 'differs from'} scikit-learn's digits, sha256 {sha256}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
