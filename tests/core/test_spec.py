"""QuantSpec: the bounds of every grid against their formulas, and what it refuses."""

import itertools

import jax.numpy as jnp
import jaxtyping
import pytest

from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec, ScaleFormat, ScaleRule
from qresearch.grids.integer import LARGEST_BITS, Integer, Range, ZeroPoint


@pytest.fixture
def unchecked():
    """As outside of the tests, where nothing checks annotations: the spec's own messages are what a person sees."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def bounds(bits: int, signed: bool, convention: str) -> tuple[int, int]:
    """Python integers: two's complement, less the most negative code for a narrow range."""
    if not signed:
        return 0, 2**bits - 1
    largest = 2 ** (bits - 1) - 1
    return (-largest if convention == "narrow" else -largest - 1), largest


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("convention", list(Range))
def test_bounds_of_every_width(signed, convention):
    for bits in range(2 if signed else 1, LARGEST_BITS + 1):
        for given in (bits, jnp.int32(bits)):  # written by a person, and traced or stored as a leaf
            spec = QuantSpec(Integer(given, signed=signed, range=convention))
            assert (int(spec.grid.low), int(spec.grid.high)) == bounds(bits, signed, convention)
            assert spec.grid.low.dtype == spec.grid.high.dtype == jnp.float32


def test_every_spec_has_at_least_two_codes():
    for bits, zero_point, signed, convention in itertools.product((1, 2), ZeroPoint, (True, False), Range):
        try:
            grid = QuantSpec(Integer(bits, zero_point, signed, convention)).grid
        except ValueError as error:
            assert bits == 1, error
        else:
            assert grid.high > grid.low and grid.count >= 2, grid
            assert grid.high > 0 or zero_point is not ZeroPoint.none, grid


@pytest.mark.parametrize("bits", [0, 17, -3])
def test_bits_outside_the_range(bits):
    with pytest.raises(ValueError, match=rf"^bits={bits} is outside 1\.\.16, the widths of integer grids\.$"):
        QuantSpec(Integer(bits))


@pytest.mark.parametrize("bits", ["8", 8.0, None, True])
@pytest.mark.usefixtures("unchecked")
def test_bits_that_are_no_integer(bits):
    with pytest.raises(ValueError, match=rf"^bits={bits!r} is not an integer; give a whole number from 1 to 16\.$"):
        QuantSpec(Integer(bits))


def test_one_bit_needs_a_positive_code():
    message = r"^bits=1 on a signed symmetric integer grid .* use bits >= 2, .*signed=false or zero_point=integer"
    for signed in (True, None):
        with pytest.raises(ValueError, match=message):
            QuantSpec(Integer(1, signed=signed))
    assert int(QuantSpec(Integer(1, signed=False)).grid.high) == 1


@pytest.mark.parametrize("size", [None, 0, -4])
def test_block_needs_a_size(size):
    with pytest.raises(ValueError, match=rf"^block_size={size}: granularity=block needs block_size >= 1"):
        QuantSpec(Integer(4), Granularity.block, size)


@pytest.mark.parametrize("granularity", [Granularity.tensor, Granularity.channel])
def test_a_size_needs_blocks(granularity):
    with pytest.raises(ValueError, match=rf"^block_size=32 has no meaning for granularity={granularity.value}; .*null"):
        QuantSpec(Integer(4), granularity, 32)


@pytest.mark.parametrize(
    "choice", [{"granularity": "row"}, {"scale_format": "float13"}, {"scale_rule": "up"}, {"rounding": "odd"}]
)
@pytest.mark.usefixtures("unchecked")
def test_unknown_choices(choice):
    with pytest.raises(ValueError, match="|".join(choice.values())):
        QuantSpec(Integer(4), **choice)


@pytest.mark.parametrize("choice", [{"range": "wide"}, {"zero_point": "middle"}])
@pytest.mark.usefixtures("unchecked")
def test_unknown_choices_of_the_grid(choice):
    with pytest.raises(ValueError, match="|".join(choice.values())):
        Integer(4, **choice)


@pytest.mark.usefixtures("unchecked")
def test_strings_become_choices():
    grid = Integer(4, zero_point="float", range="half_step")
    assert grid.zero_point is ZeroPoint.float and grid.range is Range.half_step
    spec = QuantSpec(grid, "block", 32, "e8m0", "ceil", "half_away")
    assert spec.granularity is Granularity.block and spec.rounding is Rounding.half_away
    assert spec.scale_format is ScaleFormat.e8m0 and spec.scale_rule is ScaleRule.ceil


@pytest.mark.parametrize("has_negative", [True, False])
def test_an_open_sign_is_closed_by_the_data(has_negative):
    spec = QuantSpec(Integer(4, signed=None))
    with pytest.raises(ValueError, match=r"^signed=null is decided by calibration; use with_sign"):
        _ = spec.grid.high
    assert spec.with_sign(has_negative) == QuantSpec(Integer(4, signed=has_negative))
    # An affine grid has a zero point for the sign, and a chosen sign stays.
    assert QuantSpec(Integer(4, signed=None, zero_point=ZeroPoint.integer)).with_sign(has_negative).grid.signed is False
    for signed in (True, False):
        assert QuantSpec(Integer(4, signed=signed)).with_sign(has_negative).grid.signed is signed
