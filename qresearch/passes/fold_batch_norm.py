"""Fold batch norm into the convolution before it.

    y = gamma * (conv(x, w) + b - mean) / sqrt(var + eps) + beta
      = conv(x, w * t) + (b - mean) * t + beta,    t = gamma / sqrt(var + eps)

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 3.2. The factor t is computed in float32.
"""

from typing import Any

import jax
import numpy as np
from flax import nnx


class Identity(nnx.Module):
    """Stands where a folded batch norm stood."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
    """A copy of `model` with every batch norm that its modules name in `norm_pairs` folded into its layer,
    which gains a bias.

    A module tells its pairs by a class attribute `norm_pairs = (("conv1", "bn1"), ...)`.
    """
    model = nnx.clone(model)
    for _, module in nnx.iter_modules(model):
        for layer_name, norm_name in getattr(module, "norm_pairs", ()):
            layer, norm = getattr(module, layer_name), getattr(module, norm_name)
            _fold(layer, norm)
            setattr(module, norm_name, Identity())
    return model


def _fold(layer: Any, norm: Any) -> None:
    """In numpy, where every operation is rounded by itself: a compiled program would fuse them, and move last bits."""
    gamma, beta, mean, var = (np.asarray(part[...]) for part in (norm.scale, norm.bias, norm.mean, norm.var))
    factor = gamma / np.sqrt(var + np.float32(norm.epsilon))
    bias = np.float32(0) if layer.bias is None else np.asarray(layer.bias[...])
    layer.bias = nnx.Param(jax.device_put((bias - mean) * factor + beta))
    layer.use_bias = True
    layer.kernel[...] = jax.device_put(np.asarray(layer.kernel[...]) * factor)  # the last axis is that of the channels
