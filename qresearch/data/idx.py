"""Read MNIST and its relatives, from one packed file or from the four original gzipped idx files.

An idx file starts with two zero bytes, a type code (8 for bytes) and the number of axes; then come the sizes
of the axes as big-endian 32-bit integers, and the values. The packed file holds train_images, train_labels,
test_images and test_labels.
"""

import dataclasses
import functools
import gzip

import numpy as np
from jaxtyping import UInt8

from qresearch.data.checksum import open_verified
from qresearch.data.dataset import Split
from qresearch.data.decoded import decoded
from qresearch.data.error import DataError
from qresearch.data.source import DataFile, choose, data_folder


@dataclasses.dataclass(frozen=True)
class IdxFiles:
    """The files of a data set: packed in one, or images and labels of each split."""

    packed: DataFile
    train: tuple[DataFile, DataFile]
    test: tuple[DataFile, DataFile]


@functools.cache
def load(files: IdxFiles, split: str) -> Split:
    """The images and labels of a split, "train" or "test"."""
    originals = files.train if split == "train" else files.test
    if choose((files.packed,), originals) == (files.packed,):
        images, labels = read_packed(files.packed, split)
    else:
        images, labels = read_originals(*originals)
    labels = labels.astype(np.int32)
    labels.flags.writeable = False
    return np.asarray(images)[..., None], labels


def read_packed(file: DataFile, split: str) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]:
    """Images and labels of a split from the packed file."""
    path = data_folder() / file.name
    with open_verified(path, file.sha256) as stream, np.load(stream, allow_pickle=False) as packed:
        labels = packed[f"{split}_labels"]
        images = decoded(
            f"{path.stem}_{split}_{file.sha256[:12]}",
            shape=(len(labels), 28, 28),
            dtype=np.dtype(np.uint8),
            build=lambda: packed[f"{split}_images"],
        )
    return images, labels


def read_originals(images: DataFile, labels: DataFile) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]:
    """Images and labels of a split from its two original files."""
    arrays = []
    for file in (images, labels):
        with open_verified(data_folder() / file.name, file.sha256) as stream, gzip.open(stream) as content:
            arrays.append(parse_idx(content.read(), name=file.name))
    return arrays[0], arrays[1]


def parse_idx(content: bytes, *, name: str) -> UInt8[np.ndarray, "..."]:
    """The array of bytes in an idx file."""
    if content[:3] != b"\0\0\x08":
        raise DataError(
            f"{name} starts with {content[:3]!r}, not with the {bytes([0, 0, 8])!r} of an idx file of bytes. "
            "Fetch the file again from its origin."
        )
    axes = content[3]
    sizes = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)
