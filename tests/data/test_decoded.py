"""Kept arrays: built once, and built again when the file is not what was kept."""

import numpy as np
import platformdirs
import pytest

from qresearch.data.decoded import decoded

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The folder of kept arrays, in a user's cache of this test's own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    return tmp_path / "cache" / "decoded"


def get(calls):
    """The array under test; `calls` grows by one whenever it is built."""
    return decoded("a", shape=(3, 4), dtype=np.dtype(np.uint8), build=lambda: calls.append(1) or ARRAY.copy())


def test_built_once_and_read_only(folder):
    calls = []
    for _ in range(3):
        array = get(calls)
        assert np.array_equal(array, ARRAY) and not array.flags.writeable
    assert len(calls) == 1 and [path.name for path in folder.iterdir()] == ["a.npy"]


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_lengthen(path):
    path.write_bytes(path.read_bytes() + b"x")


def damage_empty(path):
    path.write_bytes(b"")


def damage_other(path):
    path.write_bytes(b"\x80\x04not an array")


def damage_shape(path):
    np.save(path, ARRAY.T)


def damage_dtype(path):
    np.save(path, ARRAY.astype(np.int8))


@pytest.mark.parametrize(
    "damage",
    [damage_truncate, damage_lengthen, damage_empty, damage_other, damage_shape, damage_dtype],
    ids=lambda damage: damage.__name__,
)
def test_built_again_when_damaged(folder, damage):
    calls = []
    get(calls)
    damage(folder / "a.npy")
    assert np.array_equal(get(calls), ARRAY) and len(calls) == 2
    assert np.array_equal(get(calls), ARRAY) and len(calls) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning_only(folder):
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"a.npy could not be written .*; the next run decodes it again"):
        assert np.array_equal(get([]), ARRAY)


def test_a_failing_build_leaves_nothing(folder):
    def build():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoded("a", shape=(3, 4), dtype=np.dtype(np.uint8), build=build)
    assert not folder.exists() or not list(folder.iterdir())
