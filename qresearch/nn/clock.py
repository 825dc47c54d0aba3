"""What changes from step to step in a quantizer without being learned: how far the training is, and a random key."""

from typing import Any

import jax
from flax import nnx

from qresearch.nn.fake_quant import Clock, TensorQuantizer


def set_clock(model: nnx.Module, *, progress: Any, key: jax.Array) -> None:
    """Tell every quantizer of `model` the share of the training that is done, 0 to 1, and a random key of its own.

    Quantizers that round by chance draw from the key; estimators with a schedule follow the progress. The others
    have no clock, and a model without any is not touched.
    """
    found = [module for _, module in nnx.iter_modules(model) if isinstance(module, TensorQuantizer)]
    for number, quantizer in enumerate(found):
        if isinstance(quantizer.progress, Clock):
            quantizer.progress[...] = progress
        if isinstance(quantizer.key, Clock):
            quantizer.key[...] = jax.random.fold_in(key, number)
