"""A quantized network as the bytes of a packed file."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from qresearch.core.packing import pack
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
    described: dict[str, dict[str, Any]] = {}
    specs: list[Any] = []
    packed = set()
    for name, slot in slots(model).items():
        if not isinstance(slot.occupant, FakeQuant):
            continue
        sides, g = described.setdefault(name, {}), layers[name]
        if slot.occupant.weight is not None:
            found, sides["weight"] = _weight(name, slot.occupant.weight, slot.weight[...], g)
            tensors |= found
            packed.add(f"{name}.{slot.parameter}")
        if slot.occupant.act is not None:
            sides["input"] = _input(slot.occupant.act, g)
        for side in sides.values():
            specs += [] if side["spec"] in specs else [side["spec"]]
            side["spec"] = specs.index(side["spec"])
    tensors |= {key: value for key, value in _floats(model).items() if key not in packed}
    parts = {"about": about, "specs": specs, "layers": described}
    texts = {name: json.dumps(part, separators=(",", ":")) for name, part in parts.items()}
    return safetensors.numpy.save(tensors, {"format": FORMAT, "version": VERSION, **texts})


def _weight(name: str, quantizer: TensorQuantizer, kernel: jax.Array, g: Geometry) -> tuple[Tensors, dict[str, Any]]:
    quantizer.check_ends_with_rounding(g.rhs_shape, g.rhs_axes, f"The codes of layer {name!r} do not tell its weights")
    q = quantizer.quantize(kernel, g.rhs_axes)
    codes = np.asarray(q.codes)
    tensors = {f"{name}.codes": pack(codes, int(q.spec.grid.bits))}
    tensors |= scale_tensors(f"{name}.scale", np.asarray(q.scale), q.spec)
    if q.zero_point is not None:
        tensors[f"{name}.zero_point"] = zero_point_tensor(np.asarray(q.zero_point))
    return tensors, {"spec": spec_to_json(q.spec), "shape": list(codes.shape)}


def _input(quantizer: TensorQuantizer, g: Geometry) -> dict[str, Any]:
    """The spec of an input, and its scale and zero point if they are stored: those that any input meets."""
    numbers = None, None
    if quantizer.quantizer.stored:
        _, *numbers = quantizer.rounding(jax.device_put(np.zeros(g.lhs_shape, np.float32)), g.lhs_axes)
    scale, zero_point = (None if number is None else np.asarray(number).item() for number in numbers)
    return {"spec": spec_to_json(quantizer.spec), "scale": scale, "zero_point": zero_point}


def _floats(model: nnx.Module) -> Tensors:
    """Parameters and batch statistics by their paths."""
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): np.asarray(variable[...], np.float32) for path, variable in flat}
