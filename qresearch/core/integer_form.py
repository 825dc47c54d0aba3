"""The integers behind a quantized tensor: x ~ integers * scale, with the zero point taken off.

Codes of integer grids are integers, those of the binary grid stand for -1 and 1, those of a mid-rise grid for halves,
which twice the codes turn into integers at half the scale.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from qresearch.core.qtensor import QTensor
from qresearch.core.spec import Granularity, QuantSpec

KINDS = ("int8", "uint8", "int16", "int32")


def check_integer_form(spec: QuantSpec, name: str) -> None:
    """Raise ValueError where the tensor called `name` has no integers behind its codes, or several scales in a sum."""
    grid = spec.grid
    if not grid.uniform:
        reason = f"the steps of the grid {grid.describe()} are unequal"
    elif not grid.symmetric and grid.zero_point != "integer":
        reason = f"its zero point is a {grid.zero_point}; set grid.zero_point=integer or none"
    elif spec.granularity is Granularity.block:
        reason = "the blocks of a sum have scales of their own; set granularity=tensor or channel"
    else:
        return
    raise ValueError(f"{name} has no integer form: {reason}. Or keep the layer float by a rule.")


def integers(q: QTensor) -> tuple[Int32[Array, "..."], Float[Array, "..."]]:
    """(integers, scale) with integers * scale the value of `q`, exactly that of `dequantize` but for one rounding."""
    parts = parts_of_a_step(q.spec.grid)
    centred = q.spec.grid.decode(q.codes) if q.zero_point is None else q.spec.grid.decode(q.codes) - q.zero_point
    return (centred * parts).astype(jnp.int32), q.scale / parts


def integer_range(spec: QuantSpec) -> tuple[int, int]:
    """The least and the largest number that `integers` can give, whatever the zero point."""
    low, high = (int(bound * parts_of_a_step(spec.grid)) for bound in (spec.grid.low, spec.grid.high))
    return (low, high) if spec.grid.symmetric else (low - high, high - low)


def parts_of_a_step(grid: Any) -> Int32[Array, ""]:
    """2 for a grid of halves, whose values are integers when doubled; else 1."""
    return jnp.where(grid.high % 1 == 0, 1, 2)


def smallest_kind(low: int, high: int) -> str:
    """The smallest integer type that holds all from low to high."""
    return next(kind for kind in KINDS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
