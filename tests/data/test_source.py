"""Finding files: the folder that is named, else the user's cache."""

import platformdirs
import pytest

from qresearch.data.source import cache_folder, data_folder, find_file


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A user's cache of this test's own."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "qresearch"


def test_the_named_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("QRESEARCH_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    assert find_file("a.safetensors") is None
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert find_file("a.safetensors") == tmp_path / "a.safetensors"
    assert find_file(".") is None  # a folder is not a file


@pytest.mark.parametrize("value", [None, ""])
def test_the_cache_where_no_folder_is_named(monkeypatch, cache, value):
    monkeypatch.delenv("QRESEARCH_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("QRESEARCH_DATA", value)
    assert cache_folder() == cache and data_folder() == cache / "data"
    (cache / "data").mkdir(parents=True)
    (cache / "data" / "a.safetensors").write_bytes(b"")
    assert find_file("a.safetensors") == cache / "data" / "a.safetensors"


def test_a_folder_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("QRESEARCH_DATA", "~/mine")
    assert data_folder() == tmp_path / "mine"
