"""Codes of few bits in bytes: n codes of b bits take ceil(n * b / 8) bytes, whatever b is.

The codes follow one another without a gap, the first in the lowest bits of the first byte (little-endian bit order).
Negative codes are stored in two's complement of their width.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, UInt8

LARGEST_BITS = 16


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)


def pack(codes: Integer[Array | np.ndarray, "..."], bits: int) -> UInt8[np.ndarray, "bytes"]:
    """The codes in row-major order as bytes.

    Raises ValueError for a width outside of 1 to 16 and for a code that `bits` bits do not hold, as neither an unsigned
    nor a two's complement number.
    """
    _check_bits(bits)
    values = np.asarray(codes).reshape(-1).astype(np.int32)
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if (low < 0 and (low < -(2 ** (bits - 1)) or high >= 2 ** (bits - 1))) or high >= 2**bits:
        raise ValueError(f"The codes reach from {low} to {high}, which {bits} bits do not hold; pack them wider.")
    fields = (values[:, None] >> np.arange(bits)) & 1
    return np.packbits(fields.astype(np.uint8).reshape(-1), bitorder="little")


def unpack(
    words: UInt8[Array | np.ndarray, "bytes"], bits: int, shape: Sequence[int], *, signed: bool
) -> Integer[Array, "..."]:
    """The codes of `shape` from their bytes, as int8 or uint8 up to 8 bits and int16 or uint16 above; inside a compiled
    program too.

    Raises ValueError where the number of bytes is not that of the shape.
    """
    _check_bits(bits)
    count = math.prod(shape)
    if words.shape != (packed_bytes(count, bits),):
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, and there are {words.size}; "
            "the file or its shapes are not what was packed."
        )
    fields = jnp.unpackbits(jnp.asarray(words), count=count * bits, bitorder="little").reshape(count, bits)
    weights = 2 ** np.arange(bits, dtype=np.int32)
    if signed:
        weights[-1] = -weights[-1]
    codes = fields.astype(jnp.int32) @ weights
    kind = ("int" if signed else "uint") + ("8" if bits <= 8 else "16")
    return codes.astype(kind).reshape(shape)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= LARGEST_BITS:
        raise ValueError(f"bits={bits} is outside 1..{LARGEST_BITS}, the widths of packed codes.")
