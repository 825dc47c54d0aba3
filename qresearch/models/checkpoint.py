"""Checkpoints: safetensors files with the names and layouts of PyTorch.

    nnx path                     tensor                        layout
    conv.kernel  (h, w, i, o)    conv.weight                   (o, i, h, w)
    linear.kernel (i, o)         linear.weight                 (o, i)
    bn.scale, bn.bias            bn.weight, bn.bias
    bn.mean, bn.var              bn.running_mean, bn.running_var

Public checkpoints of a model load as they are, and ours load in PyTorch. `num_batches_tracked` is passed
over.
"""

from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from qresearch.replacing import replacing

TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


class CheckpointError(ValueError):
    """A checkpoint that does not fit its model."""


def load_checkpoint(model: nnx.Module, path: Path) -> None:
    """Fill the parameters and the batch-norm statistics of `model` from the file.

    Raises CheckpointError for a file that is no safetensors file, and, listing them, for missing, extra or
    misshapen tensors.
    """
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}. Fetch or train it again.") from error
    tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    wanted = _variables(model)
    problems = [f"missing: {name}" for name in wanted if name not in tensors]
    problems += [f"extra: {name}" for name in tensors if name not in wanted]
    for name in wanted.keys() & tensors.keys():
        shape = _torch_layout(np.empty(wanted[name].shape, np.bool_)).shape
        if tensors[name].shape != shape:
            problems.append(f"misshapen: {name} is {tensors[name].shape}, the model has {shape}")
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise CheckpointError(f"{path} does not fit {type(model).__name__}:\n  {listed}\nCheck model and model.depth.")
    for name, variable in wanted.items():
        variable.set_value(jax.numpy.asarray(_flax_layout(tensors[name]), variable.dtype))


def save_checkpoint(model: nnx.Module, path: Path) -> None:
    """Write the parameters and batch-norm statistics of `model`, by way of a temporary file and a rename."""
    tensors = {
        name: np.ascontiguousarray(_torch_layout(np.asarray(variable[...])))
        for name, variable in _variables(model).items()
    }
    with replacing(path) as stream:
        stream.write(safetensors.numpy.save(tensors))


def _variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """The parameters and batch statistics of the model by their PyTorch names."""
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    named = {}
    for path, variable in nnx.to_flat_state(state):
        *parts, last = (str(part) for part in path)
        named[".".join([*parts, TORCH_NAMES.get(last, last)])] = variable
    return named


def _torch_layout(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4:
        return x.transpose(3, 2, 0, 1)
    return x.T if x.ndim == 2 else x


def _flax_layout(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4:
        return x.transpose(2, 3, 1, 0)
    return x.T if x.ndim == 2 else x
