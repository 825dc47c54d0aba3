"""What a layer costs: multiply-accumulates, bit operations, bytes moved, and an estimate of energy.

    BitOps = MACs * weight bits * input bits           (32 bits for a float side)
    bytes moved = weights + scales (once) + input + output, the input at its own bits, the output at 32

Energy is an estimate from the 45 nm table of M. Horowitz, "Computing's Energy Problem (and what we can do
about it)", ISSCC 2014: arithmetic plus one DRAM access for every byte moved. The table has 8-bit and 32-bit
integers only; between them, the energy of a multiplication is scaled by the product of the two widths, as the
area of an array multiplier is. A layer with a float side, or with a grid of unequal steps, multiplies in float32.
"""

import math
from typing import NamedTuple

from flax import nnx

from qresearch.evaluation.size import weight_bytes
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.slots import slots

FLOAT_BITS = 32
INT8_MULTIPLY, INT32_ADD = 0.2, 0.1  # pJ
FLOAT_MULTIPLY, FLOAT_ADD = 3.7, 0.9  # pJ
DRAM_BYTE = (1300 + 2600) / 2 / 8  # pJ; the table gives 1.3 to 2.6 nJ for 64 bits


class LayerCost(NamedTuple):
    """Of one layer and one sample."""

    macs: int
    bitops: int
    bytes_moved: float
    energy_arithmetic_uj_estimate: float
    energy_memory_uj_estimate: float


def layer_costs(model: nnx.Module, layers: dict[str, Geometry]) -> dict[str, LayerCost]:
    """The cost of every layer with a slot, for the geometry of a batch of one."""
    places = slots(model)
    return {path: _cost(places[path].occupant, g) for path, g in layers.items()}


def _cost(occupant, g: Geometry) -> LayerCost:
    quantized = isinstance(occupant, FakeQuant)
    weight, act = (occupant.weight, occupant.act) if quantized else (None, None)
    weight_bits, act_bits = _bits(weight), _bits(act)
    moved = weight_bytes(weight, g.rhs_shape, g.rhs_axes)
    moved += math.prod(g.lhs_shape) * act_bits / 8 + math.prod(g.out_shape) * FLOAT_BITS / 8
    if not (_is_integer(weight) and _is_integer(act)):
        mac_energy = FLOAT_MULTIPLY + FLOAT_ADD
    else:
        mac_energy = INT8_MULTIPLY * weight_bits * act_bits / 64 + INT32_ADD
    return LayerCost(g.macs, g.macs * weight_bits * act_bits, moved, g.macs * mac_energy / 1e6, moved * DRAM_BYTE / 1e6)


def _bits(quantizer: TensorQuantizer | None) -> int:
    return FLOAT_BITS if quantizer is None else int(quantizer.spec.grid.bits)


def _is_integer(quantizer: TensorQuantizer | None) -> bool:
    return quantizer is not None and quantizer.spec.grid.uniform
