"""The steps of a network that computes with integers: each takes codes and gives codes.

A step knows the forms of what it takes (zero points, scales) only through the numbers that it was made with; those are
leaves, so that they are arguments of compiled programs.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Integer

from qresearch.core.fixed_point import Addition, Multiplier, ShiftRounding, add, mean
from qresearch.core.integer_form import smallest_kind
from qresearch.core.integer_product import integer_product
from qresearch.core.packed_tensor import PackedCodes, PackedTensor
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.qtensor import dequantize
from qresearch.graph.forms import Form
from qresearch.graph.nodes import Scaling, Window
from qresearch.graph.rescale import Rescale
from qresearch.graph.simulate import along_channels, form_codes, form_values, move, operator, rounded

Codes = Integer[Array, "batch ..."]


def centred(codes: Codes, form: Form) -> Int32[Array, "batch ..."]:
    return codes.astype(jnp.int32) - form.zero_point


@pytree_dataclass
class Convert:
    """From one form to another."""

    form: Form
    to: Rescale = leaf()

    def __call__(self, codes: Codes) -> Codes:
        return self.to(centred(codes, self.form))


@pytree_dataclass
class Product:
    """A layer: its product in int32, with the bias, in the form of its output.

    The weights are codes * slope + offset, which `kind` holds: zero points and the signs of gains are in these two
    numbers of each channel. The accumulator is shifted up by `up` bits, and no partial sum exceeds `largest`.
    """

    window: Window | None
    form: Form  # of the input
    up: int
    largest: int
    kind: str
    weight: PackedCodes = leaf()
    slope: Int32[Array | np.ndarray, "channels"] = leaf()
    offset: Int32[Array | np.ndarray, "channels"] = leaf()
    bias: Int32[Array | np.ndarray, "channels"] = leaf()
    to: Rescale = leaf()

    def __call__(self, codes: Codes) -> Codes:
        low, high = self.form.low - self.form.zero_point, self.form.high - self.form.zero_point
        x = centred(codes, self.form).astype(smallest_kind(low, high))
        w = self.weight.unpack().astype(jnp.int32)
        w = (w * along_channels(self.slope, w) + along_channels(self.offset, w)).astype(self.kind)
        total = operator(self.window, x, w, integer_product, largest=self.largest)
        return self.to((total << self.up) + along_channels(self.bias, total))


@pytree_dataclass
class FloatProduct:
    """A layer in float, between integers: a form of None is float already."""

    window: Window | None
    form: Form | None
    out: Form
    act: Scaling | None = leaf()
    weight: Any = leaf()  # a PackedTensor or an array
    gain: Float[Array | np.ndarray, "channels"] = leaf()
    bias: Float[Array | np.ndarray, "channels"] = leaf()

    def __call__(self, codes: Codes | Float[Array, "batch ..."]) -> Codes:
        x = codes if self.form is None else form_values(codes, self.form)
        x = x if self.act is None else dequantize(rounded(x, self.act))
        w = dequantize(self.weight.qtensor()) if isinstance(self.weight, PackedTensor) else self.weight
        out = operator(self.window, x, w)
        found = form_codes(out * along_channels(self.gain, out) + along_channels(self.bias, out), self.out)
        return found.astype(smallest_kind(self.out.low, self.out.high))


@pytree_dataclass
class Clip:
    """A ReLU: no code below that of zero."""

    form: Form

    def __call__(self, codes: Codes) -> Codes:
        return jnp.maximum(codes, jnp.asarray(self.form.zero_point, codes.dtype))


@pytree_dataclass
class Sum:
    """Two tensors of one scale, added in int32."""

    first: Convert | None = leaf()
    second: Convert | None = leaf()
    to: Rescale | None = leaf()

    def __call__(self, a: Codes, b: Codes) -> Codes:
        a, b = (x if convert is None else convert(x) for x, convert in ((a, self.first), (b, self.second)))
        return a + b if self.to is None else self.to(a + b)


@pytree_dataclass
class SumOfCodes:
    """Two tensors of 8-bit codes with scales of their own, as mobile runtimes add them."""

    forms: tuple[Form, Form, Form]
    rounding: ShiftRounding
    multipliers: Addition = leaf()

    def __call__(self, a: Codes, b: Codes) -> Codes:
        out = self.forms[2]
        points = (self.forms[0].zero_point, self.forms[1].zero_point, out.zero_point)
        bounds = {"low": out.low, "high": out.high}
        found = add(a, b, multipliers=self.multipliers, zero_points=points, rounding=self.rounding, **bounds)
        return found.astype(smallest_kind(out.low, out.high))


@pytree_dataclass
class SumInFloat:
    """Two tensors of codes, added as the floats that they stand for, and rounded once."""

    forms: tuple[Form, Form, Form]

    def __call__(self, a: Codes, b: Codes) -> Codes:
        first, second, out = self.forms
        found = form_codes(form_values(a, first) + form_values(b, second), out)
        return found.astype(smallest_kind(out.low, out.high))


@pytree_dataclass
class Average:
    """The mean over axes, from a sum in int32; where that would not fit, from the sum over 2^bits.

    The lowest `bits` of the numbers are then summed by themselves, and that sum alone is rounded, once.
    """

    axes: tuple[int, ...]
    form: Form
    bits: int
    to: Rescale = leaf()

    def __call__(self, codes: Codes) -> Codes:
        x, axes = centred(codes, self.form), [axis + 1 for axis in self.axes]
        total = jnp.sum(x >> self.bits, axis=axes, dtype=jnp.int32)
        if self.bits:
            rest = jnp.sum(x & (2**self.bits - 1), axis=axes, dtype=jnp.int32)
            total = total + ((rest + 2 ** (self.bits - 1)) >> self.bits)
        return self.to(total)


@pytree_dataclass
class AverageOfCodes:
    """The mean over axes, as mobile runtimes take it."""

    axes: tuple[int, ...]
    count: int
    forms: tuple[Form, Form]
    rounding: ShiftRounding
    by: Multiplier = leaf()

    def __call__(self, codes: Codes) -> Codes:
        form, out = self.forms
        total = jnp.sum(codes, axis=[axis + 1 for axis in self.axes], dtype=jnp.int32)
        points, bounds = (form.zero_point, out.zero_point), {"low": out.low, "high": out.high}
        found = mean(total, self.count, multiplier=self.by, zero_points=points, rounding=self.rounding, **bounds)
        return found.astype(smallest_kind(out.low, out.high))


@pytree_dataclass
class Move:
    """A reshape, a slice, or a padding with the code of zero."""

    node: Any
    form: Form

    def __call__(self, codes: Codes) -> Codes:
        return move(self.node, codes, self.form.zero_point)
