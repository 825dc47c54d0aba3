"""Read batches of CIFAR-10, from the packed files or from the original archive; both give the same arrays.

A packed file holds `labels` and the `residual` that `predictor.py` turns into images. The archive holds one
member a batch: records of a label byte and 3,072 bytes of red, green and blue planes.
"""

import dataclasses
import functools
import hashlib
import tarfile
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8

from qresearch.data.checksum import open_verified
from qresearch.data.dataset import Split
from qresearch.data.decoded import decoded
from qresearch.data.error import DataError
from qresearch.data.predictor import unpack
from qresearch.data.source import DataFile, choose, data_folder

RECORD = np.dtype([("label", np.uint8), ("image", np.uint8, (32, 32, 3))])  # as kept in the cache
ORIGINAL = np.dtype([("label", np.uint8), ("image", np.uint8, (3, 32, 32))])  # as in the archive


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch: its packed file, its member of the archive, and the checksum of its decoded planes."""

    packed: DataFile
    member: str
    images_sha256: str
    count: int = 10_000


@dataclasses.dataclass(frozen=True)
class Batches:
    """All batches, in the order of the archive, and the archive."""

    batches: tuple[Batch, ...]
    archive: DataFile


@functools.cache
def load(source: Batches, first: int, last: int) -> Split:
    """Images and labels of the batches `first` to `last - 1`; only their files are read."""
    records = [read_batch(source, number) for number in range(first, last)]
    images = np.concatenate([batch["image"] for batch in records])
    labels = np.concatenate([batch["label"] for batch in records]).astype(np.int32)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def read_batch(source: Batches, number: int) -> Shaped[np.ndarray, " n"]:
    """The records of one batch, from whichever form of it the data folder holds."""
    batch = source.batches[number]
    if choose((batch.packed,), (source.archive,)) == (batch.packed,):
        return read_packed(batch)
    start = sum(before.count for before in source.batches[:number])
    return read_archive(source)[start : start + batch.count]


def read_packed(batch: Batch) -> Shaped[np.ndarray, " n"]:
    """The records of a packed file."""
    path, sha256 = data_folder() / batch.packed.name, batch.packed.sha256
    with open_verified(path, sha256) as stream, np.load(stream, allow_pickle=False) as packed:
        return decoded(
            f"{path.stem}_{sha256[:12]}",
            shape=(batch.count,),
            dtype=RECORD,
            build=lambda: to_records(unpack(packed["residual"]), packed["labels"], batch),
        )


@functools.cache  # the archive is verified once in a process, not once a batch
def read_archive(source: Batches) -> Shaped[np.ndarray, " n"]:
    """The records of all batches of the archive."""
    with open_verified(data_folder() / source.archive.name, source.archive.sha256) as stream:
        return decoded(
            f"cifar10_archive_{source.archive.sha256[:12]}",
            shape=(sum(batch.count for batch in source.batches),),
            dtype=RECORD,
            build=lambda: unpack_archive(stream, source.batches),
        )


def unpack_archive(stream: BinaryIO, batches: tuple[Batch, ...]) -> Shaped[np.ndarray, " n"]:
    """The records of all batches in one pass over the archive; nothing is extracted to disk."""
    records = {}
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:
        members = {batch.member: batch for batch in batches}
        for member in archive:
            content = archive.extractfile(member) if member.name in members else None
            if content is not None:
                original = np.frombuffer(content.read(), ORIGINAL)
                records[member.name] = to_records(original["image"], original["label"], members[member.name])
    return np.concatenate([records[batch.member] for batch in batches])


def to_records(
    images: UInt8[np.ndarray, "n 3 32 32"], labels: UInt8[np.ndarray, " n"], batch: Batch
) -> Shaped[np.ndarray, " n"]:
    """Images and labels side by side, after the images were compared with their checksum."""
    found = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
    if found != batch.images_sha256:
        raise DataError(
            f"the decoded images of {batch.member} have sha256 {found}, expected {batch.images_sha256}, "
            "although their file is whole: the decoder is wrong. Please report it with your numpy version."
        )
    records = np.empty(len(labels), RECORD)
    records["label"], records["image"] = labels, images.transpose(0, 2, 3, 1)
    return records
