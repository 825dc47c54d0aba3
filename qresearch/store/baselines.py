"""Float baselines as files: a checkpoint, and the curves of its training beside it."""

import json
from pathlib import Path

from flax import nnx

from qresearch.models.checkpoint import load_checkpoint, save_checkpoint
from qresearch.store.record import write_json
from qresearch.training.loop import Curves


def load_baseline(path: Path, model: nnx.Module) -> tuple[nnx.Module, Curves] | None:
    """`model`, filled, and its curves; None where they are not there."""
    checkpoint, curves = path.with_suffix(".safetensors"), path.with_suffix(".curves.json")
    if not (checkpoint.is_file() and curves.is_file()):
        return None
    load_checkpoint(model, checkpoint)
    return model, json.loads(curves.read_text())


def save_baseline(path: Path, baseline: tuple[nnx.Module, Curves]) -> None:
    """Write a model and its curves."""
    model, curves = baseline
    save_checkpoint(model, path.with_suffix(".safetensors"))
    write_json(path.with_suffix(".curves.json"), curves)
