"""A QTensor whose codes lie in bytes, and are unpacked where they are used, inside a compiled program too."""

import jax
import numpy as np
from jaxtyping import Array, Float, Integer, UInt8

from qresearch.core.packing import pack, unpack
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.qtensor import QTensor, has_signed_codes
from qresearch.core.spec import QuantSpec


@pytree_dataclass
class PackedCodes:
    """Codes of `shape` in `words`, in `bits` bits each (core/packing.py)."""

    shape: tuple[int, ...]
    bits: int
    signed: bool
    words: UInt8[Array, "bytes"] = leaf()

    def unpack(self) -> Integer[Array, "..."]:
        return unpack(self.words, self.bits, self.shape, signed=self.signed)


@pytree_dataclass
class PackedTensor:
    """What a QTensor holds, with packed codes."""

    codes: PackedCodes = leaf()
    scale: Float[Array, "..."] = leaf()
    zero_point: Float[Array, "..."] | None = leaf()
    spec: QuantSpec = leaf()

    def qtensor(self) -> QTensor:
        return QTensor(self.codes.unpack(), self.scale, self.zero_point, self.spec)


def pack_codes(q: QTensor) -> PackedCodes:
    codes, bits = np.asarray(q.codes), int(q.spec.grid.bits)
    return PackedCodes(codes.shape, bits, has_signed_codes(q.spec), jax.device_put(pack(codes, bits)))


def pack_tensor(q: QTensor) -> PackedTensor:
    return PackedTensor(pack_codes(q), q.scale, q.zero_point, q.spec)
