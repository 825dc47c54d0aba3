"""Stages that many cells share (float baselines, their accuracy, calibration statistics): made once, kept by content.

What is kept is named by a hash of all that it was made from. A process keeps the last ones in memory; all of them lie
on disk for the next. Two processes that need the same one do not both make it: the second waits and reads.
"""

import hashlib
import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from qresearch.store.claims import claimed
from qresearch.store.record import write_bytes, write_json

T = TypeVar("T")
REMEMBERED = 64


class Shared:
    """The stages kept under one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.memory: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def get(
        self,
        kind: str,
        ingredients: Any,
        *,
        make: Callable[[], T],
        load: Callable[[Path], T | None],
        save: Callable[[Path, T], None],
    ) -> T:
        """What `make` makes of the ingredients (JSON values), or made earlier.

        `load` and `save` get the path `folder/kind/digest`, to which they add an ending; `load` answers None where
        nothing (or nothing whole) is there.
        """
        digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / kind / digest
        if (kind, digest) not in self.memory:
            value = load(path)
            if value is None:
                with claimed(path.parent, digest):
                    value = load(path)  # another process may have made it meanwhile
                    if value is None:
                        value = make()
                        save(path, value)
            self.memory[kind, digest] = value
            while len(self.memory) > REMEMBERED:
                self.memory.popitem(last=False)
        self.memory.move_to_end((kind, digest))
        return self.memory[kind, digest]

    def json(self, kind: str, ingredients: Any, make: Callable[[], Any]) -> Any:
        """As `get`, for JSON values."""
        return self.get(kind, ingredients, make=make, load=_load_json, save=_save_json)

    def arrays(self, kind: str, ingredients: Any, make: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
        """As `get`, for a list of arrays."""
        return self.get(kind, ingredients, make=make, load=_load_arrays, save=_save_arrays)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return None


def _save_json(path: Path, value: Any) -> None:
    write_json(path.with_suffix(".json"), value)


def _load_arrays(path: Path) -> list[np.ndarray] | None:
    try:
        with open(path.with_suffix(".npz"), "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return [stored[f"arr_{number}"] for number in range(len(stored.files))]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _save_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    write_bytes(path.with_suffix(".npz"), buffer.getvalue())
