"""The answer of a quantizer: integer codes with the numbers that give them meaning."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from qresearch.core.fake_quantize import codes_of
from qresearch.core.granularity import split, spread
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.spec import QuantSpec


@pytree_dataclass
class QTensor:
    """x ~ (codes - zero_point) * scale, with the shape of x in `codes`; see `granularity.py` for the shape of
    `scale`.
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
) -> QTensor:
    """The codes of `x` on the grid of `spec`: round(clip(x / scale + zero_point, qmin, qmax)), half to even.

    Codes are stored in the smallest integer type that holds them where `bits` is a Python number, else as
    int32.
    """
    _, q = codes_of(x.astype(jnp.float32), scale, zero_point, spec.qmin, spec.qmax)
    return QTensor(q.reshape(x.shape).astype(code_dtype(spec)), scale, zero_point, spec)


def dequantize(q: QTensor) -> Float[Array, "..."]:
    """The float32 values that the codes stand for."""
    codes = split(q.codes.astype(jnp.float32), q.scale.shape)
    centred = codes if q.zero_point is None else codes - spread(q.zero_point, q.codes.shape)
    return (centred * spread(q.scale, q.codes.shape)).reshape(q.codes.shape)


def code_dtype(spec: QuantSpec):
    """int8, uint8, int16 or uint16 by width and sign; int32 where the width is traced."""
    if not isinstance(spec.bits, int):
        return jnp.int32
    if spec.signed:
        return jnp.int8 if spec.bits <= 8 else jnp.int16
    return jnp.uint8 if spec.bits <= 8 else jnp.uint16
