"""Where a data file comes from: the folder in QRESEARCH_DATA, else the user's cache, else its origin."""

import dataclasses
import http.client
import os
from pathlib import Path

import platformdirs

from qresearch.data.download import download
from qresearch.data.error import DataError

VARIABLE = "QRESEARCH_DATA"


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file: its name in the data folder, its checksum and its public address where it has one."""

    name: str
    sha256: str
    url: str | None = None


def cache_folder() -> Path:
    """The folder of this package in the user's cache."""
    return platformdirs.user_cache_path("qresearch")


def data_folder() -> Path:
    """The folder that data files are read from."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "data"


def find_file(name: str) -> Path | None:
    """The path of a file of the data folder, a checkpoint for example, or None where there is none."""
    path = data_folder() / name
    return path if path.is_file() else None


def choose(*forms: tuple[DataFile, ...]) -> tuple[DataFile, ...]:
    """The first of several equivalent sets of files that is complete in the data folder.

    Where none is, the last set is downloaded into the user's cache, never into a folder that the user named.
    """
    for files in forms:
        if all(find_file(file.name) for file in files):
            return files
    if os.environ.get(VARIABLE):
        names = ", or ".join(" and ".join(file.name for file in files) for files in forms)
        raise DataError(
            f"{data_folder()}, the folder that {VARIABLE} names, does not hold {names}. "
            f"Put the files there, or unset {VARIABLE} to have them downloaded."
        )
    for file in forms[-1]:
        if find_file(file.name) is None:
            fetch(file)
    return forms[-1]


def fetch(file: DataFile) -> None:
    """Download one file into the data folder."""
    folder = data_folder()
    way_out = f"Try again with a network, or put {file.name} into a folder that {VARIABLE} names."
    if file.url is None:
        raise DataError(f"{file.name} is not in {folder} and has no public address. {way_out}")
    try:
        download(file.url, folder / file.name, file.sha256)
    except (OSError, http.client.HTTPException, DataError) as error:
        raise DataError(
            f"{file.name} is not in {folder} and could not be downloaded from {file.url} ({error}). {way_out}"
        ) from error
