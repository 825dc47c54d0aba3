"""MNIST and Fashion-MNIST: the real arrays where they are at hand, and both forms of files built small."""

import gzip
import hashlib
import os

import numpy as np
import platformdirs
import pytest

from qresearch.data import idx
from qresearch.data.error import DataError
from qresearch.data.fashion_mnist import FashionMNIST
from qresearch.data.mnist import MNIST
from qresearch.data.source import DataFile

SHA256 = {  # of the decoded arrays
    "mnist": {
        "train images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    "fashion_mnist": {
        "train images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "test images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "test labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A user's cache of this test's own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    idx.load.cache_clear()
    yield tmp_path / "cache"
    idx.load.cache_clear()


@pytest.mark.parametrize("data", [MNIST(), FashionMNIST()], ids=lambda data: data.name)
@pytest.mark.skipif(not os.environ.get("QRESEARCH_DATA"), reason="QRESEARCH_DATA names no folder of data files")
def test_real_arrays(data):
    for split, (images, labels) in (("train", data.train()), ("test", data.test())):
        assert images.shape[1:] == data.shape and images.dtype == np.uint8 and labels.dtype == np.int32
        assert hashlib.sha256(images.tobytes()).hexdigest() == SHA256[data.name][f"{split} images"]
        assert hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() == SHA256[data.name][f"{split} labels"]
    images, labels = data.train()
    if data.name == "fashion_mnist":
        assert np.bincount(labels).tolist() == [6000] * 10
    mean = images.mean() / data.maximum
    std = (np.square(images, dtype=np.uint32).mean() / data.maximum**2 - mean**2) ** 0.5
    assert mean == pytest.approx(data.mean[0], abs=6e-5) and std == pytest.approx(data.std[0], abs=6e-5)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with both forms of a small data set, its files and its arrays."""
    folder, rng = tmp_path / "folder", np.random.default_rng(0)
    (folder / "small").mkdir(parents=True)
    arrays, originals = {}, {"train": [], "test": []}
    for split, number in (("train", 5), ("test", 3)):
        for kind, shape in (("images", (number, 28, 28)), ("labels", (number,))):
            array = arrays[f"{split}_{kind}"] = rng.integers(0, 10, shape, dtype=np.uint8)
            path = folder / "small" / f"{split}-{kind}.gz"
            path.write_bytes(gzip.compress(idx_bytes(array)))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            originals[split].append(DataFile(f"small/{path.name}", sha256))
    np.savez_compressed(folder / "small.npz", **arrays)
    packed = DataFile("small.npz", hashlib.sha256((folder / "small.npz").read_bytes()).hexdigest())
    monkeypatch.setenv("QRESEARCH_DATA", str(folder))
    return folder, idx.IdxFiles(packed, tuple(originals["train"]), tuple(originals["test"])), arrays


@pytest.mark.parametrize("form", ["packed", "originals"])
def test_both_forms_give_the_same_arrays(small, form):
    folder, files, arrays = small
    if form == "originals":
        (folder / "small.npz").unlink()
    for split in ("train", "test"):
        images, labels = idx.load(files, split)
        assert np.array_equal(images, arrays[f"{split}_images"][..., None]) and images.dtype == np.uint8
        assert np.array_equal(labels, arrays[f"{split}_labels"]) and labels.dtype == np.int32
        assert not images.flags.writeable and not labels.flags.writeable


@pytest.mark.parametrize("name", ["small.npz", "small/train-images.gz", "small/train-labels.gz"])
def test_corrupt_or_truncated_file(small, name):
    folder, files, _ = small
    if name != "small.npz":
        (folder / "small.npz").unlink()
    whole = (folder / name).read_bytes()
    for broken in (whole[:-1], whole[:20] + bytes([whole[20] ^ 1]) + whole[21:], b""):
        (folder / name).write_bytes(broken)
        found = hashlib.sha256(broken).hexdigest()
        with pytest.raises(DataError, match=rf"{name} .*corrupt or truncated.*{found}, expected .*Delete it"):
            idx.load(files, "train")


def test_a_damaged_source_is_found_though_its_arrays_are_kept(small):
    folder, files, _ = small
    idx.load(files, "train")
    idx.load.cache_clear()
    (folder / "small.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="corrupt or truncated"):
        idx.load(files, "train")


def test_missing_files_are_named_with_folder_and_variable(small):
    folder, files, _ = small
    (folder / "small.npz").unlink()
    (folder / "small" / "train-labels.gz").unlink()
    message = (
        f"{folder}, the folder that QRESEARCH_DATA names, does not hold small.npz, "
        "or small/train-images.gz and small/train-labels.gz. Put the files there, or unset QRESEARCH_DATA"
    )
    with pytest.raises(DataError, match=message):
        idx.load(files, "train")
    assert len(idx.load(files, "test")[1]) == 3  # the other split needs neither


def test_only_bytes_in_idx_format_are_read():
    with pytest.raises(DataError, match=r"x starts with b'.*', not with .* of an idx file"):
        idx.parse_idx(b"\x80P\x00pickle", name="x")
