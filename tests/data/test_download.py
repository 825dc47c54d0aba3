"""Downloading from a server of the test's own: what arrives, what is kept, what is said when it fails."""

import functools
import gzip
import hashlib
import http.server
import threading
import urllib.error
import urllib.request

import numpy as np
import platformdirs
import pytest

from qresearch.data import idx
from qresearch.data.cifar10 import CIFAR10
from qresearch.data.error import DataError
from qresearch.data.mnist import MNIST
from qresearch.data.source import DataFile, choose, data_folder, fetch, find_file


class Origin(http.server.SimpleHTTPRequestHandler):
    """A quiet server of files that breaks off in the middle of those whose name says so."""

    def log_message(self, *_):
        """Say nothing."""

    def copyfile(self, source, outputfile):
        """Send the file, or its first half."""
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "broken" in self.path else content)


@pytest.fixture
def origin(tmp_path):
    """A folder and the address under which it is served."""
    folder = tmp_path / "origin"
    folder.mkdir()
    handler = functools.partial(Origin, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A user's cache of this test's own, and no folder named by the user."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.delenv("QRESEARCH_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    idx.load.cache_clear()
    yield tmp_path / "cache"
    idx.load.cache_clear()


def publish(origin, name, content):
    """A file on the server, as a data set would name it."""
    folder, address = origin
    (folder / name).write_bytes(content)
    return DataFile(f"set/{name}", hashlib.sha256(content).hexdigest(), f"{address}/{name}")


def kept(cache):
    """The names of all files in the cache."""
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(origin, cache):
    file = publish(origin, "a.bin", bytes(range(256)) * 5000)
    assert find_file(file.name) is None
    assert choose((DataFile("packed.npz", "0"),), (file,)) == (file,)
    assert find_file(file.name) == cache / "data" / "set" / "a.bin"
    (origin[0] / "a.bin").unlink()
    assert choose((file,)) == (file,)
    assert kept(cache) == ["a.bin"]


def test_idx_files_come_from_the_origin(origin):
    images, labels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), np.array([3, 4], np.uint8)
    files = []
    for name, array in (("images.gz", images), ("labels.gz", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        files.append(publish(origin, name, gzip.compress(header + array.tobytes())))
    found, found_labels = idx.load(idx.IdxFiles(DataFile("packed.npz", "0"), tuple(files), tuple(files)), "train")
    assert np.array_equal(found[..., 0], images) and np.array_equal(found_labels, labels)


def test_a_wrong_checksum_leaves_nothing(origin, cache):
    file = publish(origin, "a.bin", b"what was published")
    (origin[0] / "a.bin").write_bytes(b"what is there now")
    found = hashlib.sha256(b"what is there now").hexdigest()
    with pytest.raises(DataError, match=rf"set/a.bin.*sha256 {found}, expected {file.sha256}.*QRESEARCH_DATA"):
        fetch(file)
    assert kept(cache) == []


def test_a_broken_connection_leaves_nothing(origin, cache):
    file = publish(origin, "broken.bin", bytes(1_000_000))
    with pytest.raises(DataError, match=r"set/broken.bin is not in .*could not be downloaded.*QRESEARCH_DATA"):
        fetch(file)
    assert kept(cache) == []


def test_an_interrupt_leaves_nothing(origin, cache, monkeypatch):
    file = publish(origin, "a.bin", b"content")
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch(file)
    assert kept(cache) == []


def test_a_file_that_the_origin_does_not_have(origin, cache):
    file = publish(origin, "a.bin", b"content")
    (origin[0] / "a.bin").unlink()
    with pytest.raises(DataError, match=r"could not be downloaded from http.*404"):
        fetch(file)
    assert kept(cache) == []


@pytest.mark.parametrize("data", [MNIST(), CIFAR10()], ids=lambda data: data.name)
def test_no_network(data, cache, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    name = {"mnist": "mnist/train-images-idx3-ubyte.gz", "cifar10": "cifar-10-binary.tar.gz"}[data.name]
    message = rf"{name} is not in {cache / 'data'} and could not be .*no route to host.*{name} .*QRESEARCH_DATA"
    with pytest.raises(DataError, match=message):
        data.train(10)
    assert kept(cache) == []


def test_nothing_is_downloaded_into_a_folder_of_the_user(origin, tmp_path, monkeypatch):
    file = publish(origin, "a.bin", b"content")
    monkeypatch.setenv("QRESEARCH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match=r"does not hold set/a.bin"):
        choose((file,))
    assert data_folder() == tmp_path / "mine" and not data_folder().exists()


def test_two_downloads_at_once_do_not_disturb_each_other(origin, cache):
    file = publish(origin, "a.bin", bytes(range(256)) * 20_000)
    threads = [threading.Thread(target=fetch, args=(file,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(cache) == ["a.bin"]
    assert hashlib.sha256((cache / "data" / file.name).read_bytes()).hexdigest() == file.sha256


def test_a_file_without_an_address():
    with pytest.raises(DataError, match=r"a.npz is not in .* and has no public address.*QRESEARCH_DATA"):
        fetch(DataFile("a.npz", "0"))
