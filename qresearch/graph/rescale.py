"""From integers of one scale to integers of another: by a multiplier and a shift, or by a float32 number.

    q = clip(zero_point + round(x * factor), low, high),    factor = scale of x / scale of q

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877, section 2.2. With `float` the product is rounded to float32 and then to the nearest integer, ties to
even, as in ONNX Runtime and in XNNPACK.
"""

import enum
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, Integer

from qresearch.core.fixed_point import ShiftRounding, multiplier, requantize
from qresearch.core.integer_form import smallest_kind
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.graph.forms import Form


class Requantize(enum.StrEnum):
    """How integers are rescaled; see `ShiftRounding` for all but the last."""

    even = "even"
    single = "single"
    double = "double"
    double_upwards = "double_upwards"
    float = "float"


@pytree_dataclass
class Rescale:
    """Into a form; `factor` is a Multiplier, or a float32 number, for all or for each channel."""

    zero_point: int
    low: int
    high: int
    by: Requantize
    factor: Any = leaf()

    def __call__(self, x: Int32[Array, "..."]) -> Integer[Array, "..."]:
        """The codes, in the smallest integer type that holds the form."""
        if self.by is Requantize.float:
            factor = jnp.reshape(jnp.asarray(self.factor), (1,) * (x.ndim - 1) + (-1,))
            bound = 2.0**30  # no code lies beyond, and no float below overflows int32
            product = jnp.clip(jnp.round(x.astype(jnp.float32) * factor), -bound, bound).astype(jnp.int32)
        else:
            product = requantize(x, self.factor.mantissa, self.factor.shift, ShiftRounding(self.by))
        return jnp.clip(product + self.zero_point, self.low, self.high).astype(smallest_kind(self.low, self.high))


def rescale(scale: float | np.ndarray, form: Form, by: Requantize) -> Rescale:
    """From integers of `scale`, without a zero point, into the form.

    Raises ValueError where fixed-point arithmetic cannot: a factor of 2^30 and more.
    """
    factor = np.asarray(scale, np.float64) / form.scale
    found = np.float32(factor) if by is Requantize.float else multiplier(factor)
    return Rescale(form.zero_point, form.low, form.high, by, found)
