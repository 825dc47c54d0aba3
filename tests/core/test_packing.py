"""Packed codes: every width, the layout in the bytes, and what does not fit."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qresearch.core.packing import pack, packed_bytes, unpack


def by_hand(codes, bits):
    """One large number in which code k stands at bit k * bits."""
    number = sum((int(code) % 2**bits) << (k * bits) for k, code in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * bits // 8), "little"))


@given(st.integers(1, 16), st.booleans(), st.data())
@settings(max_examples=60)
def test_every_width_comes_back(bits, signed, data):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = np.array(data.draw(st.lists(st.integers(low, high), max_size=40)), np.int32)
    words = pack(codes, bits)
    assert words.dtype == np.uint8 and list(words) == by_hand(codes, bits)
    found = unpack(words, bits, codes.shape, signed=signed)
    assert found.dtype == ("int" if signed else "uint") + ("8" if bits <= 8 else "16")
    np.testing.assert_array_equal(found, codes)


def test_layout_of_four_bits():
    """Two codes a byte, the first in the low half; -1 is 1111."""
    assert list(pack(np.array([1, 2, -1]), 4)) == [0x21, 0x0F]
    assert list(pack(np.array([1, 0, 1, 1, 0, 0, 0, 0, 1]), 1)) == [0b00001101, 1]


@pytest.mark.parametrize(("count", "bits", "expected"), [(0, 4, 0), (1, 1, 1), (9, 1, 2), (3, 3, 2), (576, 4, 288)])
def test_bytes(count, bits, expected):
    assert packed_bytes(count, bits) == expected == pack(np.zeros(count, np.int8), bits).size


def test_shapes_and_compiled_programs():
    codes = np.random.default_rng(0).integers(-4, 4, (3, 3, 5, 7)).astype(np.int8)
    words = pack(codes, 3)
    np.testing.assert_array_equal(jax.jit(lambda w: unpack(w, 3, codes.shape, signed=True))(words), codes)


@pytest.mark.parametrize(("codes", "bits"), [([4], 2), ([-3], 2), ([-1, 2], 2), ([256], 8), ([-129], 8)])
def test_codes_that_do_not_fit(codes, bits):
    with pytest.raises(ValueError, match=rf"{min(codes)} to {max(codes)}, which {bits} bits do not hold"):
        pack(np.array(codes), bits)


@pytest.mark.parametrize("bits", [0, 17])
def test_widths_that_are_none(bits):
    with pytest.raises(ValueError, match=rf"bits={bits} is outside 1..16"):
        pack(np.array([0]), bits)


def test_missing_bytes():
    words = pack(np.arange(8), 4)
    with pytest.raises(ValueError, match="8 codes of 4 bits take 4 bytes, and there are 3"):
        unpack(words[:-1], 4, (8,), signed=False)
