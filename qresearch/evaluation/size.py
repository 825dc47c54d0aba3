"""How many bytes a model takes, everything counted: codes, scales, zero points, and what stays float.

Codes are packed: n codes of b bits take ceil(n * b / 8) bytes. A scale takes the bytes of its format, an integer
zero point b bits and any other 4 bytes. Levels and thresholds that were fitted to a tensor take 4 bytes each.
The scale of an input is counted where it is stored; one that is computed at run time takes none.
"""

import math
from collections.abc import Mapping, Sequence

import jax
from flax import nnx

from qresearch.core.granularity import scale_shape
from qresearch.core.scale import scale_bytes
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.slots import slots

FLOAT_BYTES = 4
LISTS = ("levels", "widths", "start")  # numbers of a quantizer that inference needs beside scales and zero points


def float_bytes(model: nnx.Module) -> int:
    """Bytes of all parameters and batch-norm statistics as float32."""
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    return FLOAT_BYTES * sum(leaf.size for leaf in jax.tree.leaves(state))


def quantized_bytes(model: nnx.Module, layers: Mapping[str, Geometry]) -> int:
    """Bytes of a quantized model; equal to `float_bytes` where no slot is filled."""
    total = float_bytes(model)
    for path, slot in slots(model).items():
        if isinstance(slot.occupant, FakeQuant):
            g = layers[path]
            stored = weight_bytes(slot.occupant.weight, g.rhs_shape, g.rhs_axes)
            total += stored - FLOAT_BYTES * math.prod(g.rhs_shape) + _act_bytes(slot.occupant.act)
    return total


def weight_bytes(quantizer: TensorQuantizer | None, shape: Sequence[int], contract: Sequence[int]) -> int:
    """Bytes of a weight with its scales and zero points; of a float weight where `quantizer` is None."""
    if quantizer is None:
        return FLOAT_BYTES * math.prod(shape)
    scales = math.prod(scale_shape(shape, contract=contract, spec=quantizer.spec))
    return _packed(math.prod(shape), quantizer) + _scale_bytes(scales, quantizer)


def _act_bytes(quantizer: TensorQuantizer | None) -> int:
    return _scale_bytes(1, quantizer) if quantizer is not None and quantizer.quantizer.stored else 0


def _scale_bytes(scales: int, quantizer: TensorQuantizer) -> int:
    spec = quantizer.spec
    zero_points = 0
    if not spec.grid.symmetric:
        zero_points = _packed(scales, quantizer) if spec.grid.zero_point == "integer" else FLOAT_BYTES * scales
    fitted = FLOAT_BYTES * sum(param.size for name, param in quantizer.qparams.items() if name in LISTS)
    return scale_bytes(scales, spec) + zero_points + fitted


def _packed(elements: int, quantizer: TensorQuantizer) -> int:
    return -(-elements * int(quantizer.spec.grid.bits) // 8)
