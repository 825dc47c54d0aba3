"""Keep what is slow to decode: arrays as `.npy` files in the user's cache, opened as memory maps.

A kept array is a shortcut past the decoding and never a source: the file it came from is verified first.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qresearch.data.source import cache_folder
from qresearch.replacing import replacing


def decoded(name: str, *, shape: tuple[int, ...], dtype: np.dtype, build: Callable[[], np.ndarray]) -> np.ndarray:
    """The read-only array of `build`, which runs only if none is kept under `name`, shape and type."""
    path = cache_folder() / "decoded" / f"{name}.npy"
    kept = recall(path, shape, dtype)
    if kept is not None:
        return kept
    array = build()
    array.flags.writeable = False
    try:
        with replacing(path) as stream:
            np.save(stream, array, allow_pickle=False)
    except OSError as error:
        warnings.warn(f"{path} could not be written ({error}); the next run decodes it again.", stacklevel=2)
    return array


def recall(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """The kept array, or None where there is none or it is not a whole array of this shape and type."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        whole = array.offset + array.nbytes == path.stat().st_size
    except (OSError, ValueError):  # absent, or not an array
        return None
    return array if whole and array.shape == shape and array.dtype == dtype else None
