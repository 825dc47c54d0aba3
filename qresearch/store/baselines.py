"""Float baselines: trained once, stored under the hash of what they were trained from, and shared by every run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from flax import nnx

from qresearch.models.checkpoint import load_checkpoint, save_checkpoint
from qresearch.store.record import write_json
from qresearch.training.loop import Curves


class BaselineStore:
    """A folder of checkpoints with their curves."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, model: nnx.Module, ingredients: Any) -> Curves | None:
        """Fill `model` from the stored baseline of these ingredients and return its curves; None where there
        is none.
        """
        checkpoint, curves = self._paths(ingredients)
        if not (checkpoint.is_file() and curves.is_file()):
            return None
        load_checkpoint(model, checkpoint)
        return json.loads(curves.read_text())

    def save(self, model: nnx.Module, ingredients: Any, curves: Curves) -> None:
        """Store `model` as the baseline of these ingredients."""
        checkpoint, curves_path = self._paths(ingredients)
        save_checkpoint(model, checkpoint)
        write_json(curves_path, curves)

    def _paths(self, ingredients: Any) -> tuple[Path, Path]:
        digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{digest}.safetensors", self.folder / f"{digest}.curves.json"
