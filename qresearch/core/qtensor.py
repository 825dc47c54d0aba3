"""The answer of a quantizer: integer codes with the numbers that give them meaning."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from qresearch.core.fake_quantize import check_inputs, grid_values
from qresearch.core.granularity import split, spread
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.scale import represent
from qresearch.core.spec import QuantSpec


@pytree_dataclass
class QTensor:
    """x ~ (decode(codes) - zero_point) * scale, with the shape of x in `codes`; see `granularity.py` for the shape of
    `scale`. For integer grids the codes are the integers themselves.
    """

    codes: Integer[Array, "..."] = leaf()
    scale: Float[Array, "..."] = leaf()
    zero_point: Float[Array, "..."] | None = leaf()
    spec: QuantSpec = leaf()


def quantize(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Float[Array, "..."] | None,
    spec: QuantSpec,
    *,
    key: Any = None,
) -> QTensor:
    """The codes of `x` on the grid of `spec`: clip x / scale + zero_point to the grid, then round.

    Codes are stored in the smallest integer type that holds them where the width is a Python number, else as
    int32. NaN has a code on grids of floats that hold one alone; elsewhere its code means nothing.

    Raises ValueError for stochastic rounding without a key, and, outside of a compiled program, for a scale that is
    zero, negative, subnormal or not finite.
    """
    check_inputs(scale, spec, key)
    scale = represent(scale, spec)
    q = _grid_values(x.astype(jnp.float32), scale, zero_point, spec, key)
    return QTensor(spec.grid.encode(q), scale, zero_point, spec)


@functools.partial(jax.jit, inline=True)  # compiled as fake_quantize is, so that both round alike
def _grid_values(x, scale, zero_point, spec, key):
    return grid_values(x, scale, zero_point, spec, key)[1].reshape(x.shape)


def has_signed_codes(spec: QuantSpec) -> bool:
    """Whether codes are two's complement numbers: those of the lowest value tell."""
    return bool(np.asarray(spec.grid.encode(spec.grid.low)) < 0)


def dequantize(q: QTensor) -> Float[Array, "..."]:
    """The float32 values that the codes stand for."""
    values = split(q.spec.grid.decode(q.codes), q.scale.shape)
    centred = values if q.zero_point is None else values - spread(q.zero_point, q.codes.shape)
    return (centred * spread(q.scale, q.codes.shape)).reshape(q.codes.shape)
