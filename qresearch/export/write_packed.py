"""A quantized network as the bytes of a packed file."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from qresearch.core.packing import pack
from qresearch.core.qtensor import QTensor
from qresearch.core.spec import QuantSpec
from qresearch.export.packed_file import FORMAT, VERSION, scale_tensors, zero_point_tensor
from qresearch.export.spec_json import spec_to_json
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.slots import slots

Tensors = dict[str, np.ndarray]


def packed_content(model: nnx.Module, layers: Mapping[str, Geometry], about: Mapping[str, Any]) -> bytes:
    """The packed file of the network.

    `about` is kept as JSON. Raises ValueError for a layer whose codes do not tell its weights, since its quantizer
    changes them after it has rounded them.
    """
    tensors: Tensors = {}
    described: dict[str, list[Any]] = {}
    specs: list[Any] = []
    packed = set()
    for name, slot in slots(model).items():
        if not isinstance(slot.occupant, FakeQuant):
            continue
        weight, act = slot.occupant.weight, slot.occupant.act
        sides: list[Any] = [None, None]
        if weight is not None:
            found, q = _weight(name, weight, slot.weight[...], layers[name])
            sides[0] = [_place(q.spec, specs), list(q.codes.shape)]
            tensors |= found
            packed.add(f"{name}.{slot.parameter}")
        if act is not None:
            sides[1] = [_place(act.spec, specs), *_input(act, layers[name])]
        described[name] = sides
    tensors |= {key: value for key, value in _floats(model).items() if key not in packed}
    parts = {"about": about, "specs": specs, "layers": described}
    texts = {name: json.dumps(part, separators=(",", ":")) for name, part in parts.items()}
    return safetensors.numpy.save(tensors, {"format": FORMAT, "version": VERSION, **texts})


def _place(spec: QuantSpec, specs: list[Any]) -> int:
    """Where the spec stands in the list, which takes it in."""
    text = spec_to_json(spec)
    if text not in specs:
        specs.append(text)
    return specs.index(text)


def _weight(name: str, quantizer: TensorQuantizer, kernel: jax.Array, g: Geometry) -> tuple[Tensors, QTensor]:
    quantizer.check_ends_with_rounding(g.rhs_shape, g.rhs_axes, f"The codes of layer {name!r} do not tell its weights")
    q = quantizer.quantize(kernel, g.rhs_axes)
    tensors = {f"{name}.codes": pack(np.asarray(q.codes), int(q.spec.grid.bits))}
    tensors |= scale_tensors(f"{name}.scale", np.asarray(q.scale), q.spec)
    if q.zero_point is not None:
        tensors[f"{name}.zero_point"] = zero_point_tensor(np.asarray(q.zero_point))
    return tensors, q


def _input(quantizer: TensorQuantizer, g: Geometry) -> list[float | None]:
    """The scale and the zero point of an input, if they are stored: those that any input meets."""
    if not quantizer.quantizer.stored:
        return [None, None]
    _, *numbers = quantizer.rounding(jax.device_put(np.zeros(g.lhs_shape, np.float32)), g.lhs_axes)
    # The shortest decimal number that is this float32.
    return [None if number is None else float(str(np.float32(np.asarray(number).item()))) for number in numbers]


def _floats(model: nnx.Module) -> Tensors:
    """Parameters and batch statistics by their paths."""
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): np.asarray(variable[...], np.float32) for path, variable in flat}
