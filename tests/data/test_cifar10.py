"""CIFAR-10: the real arrays where they are at hand, the packing undone, and both forms built small."""

import hashlib
import io
import os
import tarfile

import numpy as np
import platformdirs
import pytest

from qresearch.data import cifar10, cifar10_records
from qresearch.data.cifar10 import CIFAR10, FILES
from qresearch.data.cifar10_records import Batch, Batches, load, read_archive
from qresearch.data.error import DataError
from qresearch.data.predictor import unpack
from qresearch.data.source import DataFile

FIRST_BATCH = [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]  # images of each class
LABELS = "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"  # sha256 of the test labels


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A user's cache of this test's own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    load.cache_clear()
    read_archive.cache_clear()
    yield tmp_path / "cache"
    load.cache_clear()
    read_archive.cache_clear()


@pytest.mark.skipif(not os.environ.get("QRESEARCH_DATA"), reason="QRESEARCH_DATA names no folder of data files")
def test_real_arrays(cache):
    data = CIFAR10()
    few, few_labels = data.train(512)
    assert [path.name[:16] for path in cache.rglob("*.npy")] == ["cifar10_train_1_"]  # no other file was read
    images, labels = data.train(10_000)  # one batch of five: decoding one takes more than a second
    assert images.shape == (10_000, *data.shape) and images.dtype == np.uint8 and labels.dtype == np.int32
    assert np.array_equal(few, images[:512]) and np.array_equal(few_labels, labels[:512])
    assert np.bincount(labels).tolist() == FIRST_BATCH
    test, test_labels = data.test()
    assert np.bincount(test_labels).tolist() == [1000] * 10
    assert hashlib.sha256(test_labels.astype(np.uint8).tobytes()).hexdigest() == LABELS
    for some, number in ((images, 0), (test, 5)):
        planes = some.transpose(0, 3, 1, 2)
        assert hashlib.sha256(planes.tobytes()).hexdigest() == FILES.batches[number].images_sha256
    assert not any(array.flags.writeable for array in (images, labels, test, test_labels))


@pytest.mark.parametrize(("count", "batches"), [(1, 1), (10_000, 1), (10_001, 2), (50_000, 5), (None, 5)])
def test_only_the_batches_that_count_needs_are_read(monkeypatch, count, batches):
    empty = np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int32)
    asked = []
    monkeypatch.setattr(cifar10, "load", lambda *arguments: asked.append(arguments) or empty)
    CIFAR10().train(count)
    assert asked == [(FILES, 0, batches)]


def test_the_batches_are_in_order():
    names = [f"cifar10_train_{number}.npz" for number in range(1, 6)] + ["cifar10_test.npz"]
    members = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
    members.append("cifar-10-batches-bin/test_batch.bin")
    assert [batch.packed.name for batch in FILES.batches] == names
    assert [batch.member for batch in FILES.batches] == members
    assert len({sum_ for batch in FILES.batches for sum_ in (batch.packed.sha256, batch.images_sha256)}) == 12


def pack(images):
    """The packing as its description says it, a pixel at a time."""
    red, green, blue = images.transpose(1, 0, 2, 3).astype(int)
    planes = np.stack([green, red - green + 128, blue - green + 128]) % 256
    residual = np.zeros_like(planes)
    for i, j in np.ndindex(planes.shape[2:]):
        left = planes[:, :, i, j - 1] if j else 0
        up = planes[:, :, i - 1, j] if i else left
        left = left if j else up
        corner = planes[:, :, i - 1, j - 1] if i and j else left
        guess = np.median([left + 0 * up, up + 0 * left, left + up - corner], axis=0) if i and j else left
        residual[:, :, i, j] = planes[:, :, i, j] - guess
    return (residual % 256).astype(np.uint8)


def test_unpack_undoes_the_packing():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    smooth = (np.cumsum(rng.integers(-3, 4, (4, 3, 32, 32)), axis=-1) % 256).astype(np.uint8)
    for images in (noise, smooth, np.full_like(noise, 255), np.zeros_like(noise)):
        assert np.array_equal(unpack(pack(images)), images)


def write(path, content):
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with both forms of three batches of images, the batches, and images and labels in order."""
    folder, rng = tmp_path / "folder", np.random.default_rng(1)
    folder.mkdir()
    images, labels = rng.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8), np.arange(9, dtype=np.uint8)
    batches, members = [], {"readme.html": b"not a batch"}
    for k in range(3):
        some, name = slice(3 * k, 3 * k + 3), f"part_{k}"
        np.savez_compressed(folder / f"{name}.npz", residual=pack(images[some]), labels=labels[some])
        packed = hashlib.sha256((folder / f"{name}.npz").read_bytes()).hexdigest()
        digest = hashlib.sha256(images[some].tobytes()).hexdigest()
        batches.append(Batch(DataFile(f"{name}.npz", packed), f"bin/{name}.bin", digest, count=3))
        rows = [labels[some, None], images[some].reshape(3, -1)]
        members[f"bin/{name}.bin"] = np.concatenate(rows, axis=1).tobytes()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in reversed(members):  # the order in the archive does not count
            member = tarfile.TarInfo(name)
            member.size = len(members[name])
            archive.addfile(member, io.BytesIO(members[name]))
    sha256 = write(folder / "all.tar.gz", content.getvalue())
    monkeypatch.setenv("QRESEARCH_DATA", str(folder))
    return folder, Batches(tuple(batches), DataFile("all.tar.gz", sha256)), images, labels


@pytest.mark.parametrize("form", ["packed", "archive", "mixed"])
def test_both_forms_give_the_same_arrays(small, form):
    folder, source, images, labels = small
    removed = {"packed": ["all.tar.gz"], "archive": ["part_0", "part_1", "part_2"], "mixed": ["part_1"]}[form]
    for name in removed:
        (folder / name).with_suffix(".gz" if name.endswith("gz") else ".npz").unlink()
    for first, last in ((0, 2), (2, 3)):
        found, found_labels = load(source, first, last)
        assert np.array_equal(found, images[3 * first : 3 * last].transpose(0, 2, 3, 1))
        assert np.array_equal(found_labels, labels[3 * first : 3 * last]) and found_labels.dtype == np.int32
        assert found.flags.c_contiguous and not found.flags.writeable


@pytest.mark.parametrize("form", ["packed", "archive"])
def test_the_second_process_does_not_decode(small, form, monkeypatch):
    folder, source, images, _ = small
    if form == "archive":
        for batch in source.batches:
            (folder / batch.packed.name).unlink()
    load(source, 0, 3)
    load.cache_clear()
    read_archive.cache_clear()
    monkeypatch.delattr(cifar10_records, "to_records")
    assert np.array_equal(load(source, 0, 3)[0], images.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("name", ["part_0.npz", "all.tar.gz"])
def test_corrupt_file(small, name):
    folder, source, _, _ = small
    if name == "all.tar.gz":
        (folder / "part_0.npz").unlink()
    found = write(folder / name, (folder / name).read_bytes()[:-7])
    with pytest.raises(DataError, match=rf"{name} .*corrupt or truncated.*sha256 is {found}, expected"):
        load(source, 0, 1)


def test_a_wrong_decoder_is_found(small, monkeypatch, cache):
    _, source, _, _ = small
    monkeypatch.setattr(cifar10_records, "unpack", lambda residual: unpack(residual) + np.uint8(1))
    with pytest.raises(DataError, match=r"decoded images of bin/part_0.bin have sha256 .*decoder is wrong"):
        load(source, 0, 1)
    assert not list(cache.rglob("*.npy"))


def test_missing_file_is_named_with_folder_and_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("QRESEARCH_DATA", str(tmp_path))
    message = f"{tmp_path}, .*QRESEARCH_DATA names, does not hold cifar10_train_1.npz, or cifar-10-binary.tar.gz"
    with pytest.raises(DataError, match=message):
        CIFAR10().train(512)
