"""The audit: what each layer of a model really is, read from the model itself and not from its configuration."""

from typing import Any

from flax import nnx

from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.slots import slots


def audit(model: nnx.Module) -> list[dict[str, Any]]:
    """One row for each side of each layer: {"layer", "tensor", "bits", "grid", "granularity", "scale",
    "rounding", "quantizer", "observer", "estimator"}.

    A side that stays float has bits None and nothing else.
    """
    rows = []
    for path, slot in slots(model).items():
        occupant = slot.occupant
        sides = {"weight": None, "input": None}
        if isinstance(occupant, FakeQuant):
            sides = {"weight": occupant.weight, "input": occupant.act}
            if occupant.grad is not None:
                sides["gradient"] = occupant.grad
        if slot.is_embedding:  # its input is indices
            del sides["input"]
        rows += [{"layer": path, "tensor": name, **_side(side)} for name, side in sides.items()]
    return rows


def float_tensors(model: nnx.Module) -> dict[str, int]:
    """Elements of every parameter that stays float, by path: biases, batch norm, and the weights of layers
    without a quantizer.
    """
    weights = {
        f"{path}.{slot.parameter}"
        for path, slot in slots(model).items()
        if isinstance(slot.occupant, FakeQuant) and slot.occupant.weight is not None
    }
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    named = {".".join(str(part) for part in path): variable.size for path, variable in flat}
    return {name: size for name, size in named.items() if name not in weights}


def _side(side: TensorQuantizer | None) -> dict[str, Any]:
    if side is None:
        return {"bits": None}
    spec = side.spec
    return {
        "bits": int(spec.grid.bits),
        "grid": spec.grid.describe(),
        "granularity": str(spec.granularity) + (f" {_sizes(spec.block_size)}" if spec.block_size else ""),
        "scale": str(spec.scale_format) + (f" {spec.scale_rule}" if spec.scale_rule else ""),
        "rounding": str(spec.rounding),
        "quantizer": type(side.quantizer).__name__,
        "observer": type(side.quantizer.observer).__name__,
        "estimator": type(side.estimator).__name__,
    }


def _sizes(block_size: int | tuple[int, ...]) -> str:
    return "x".join(map(str, block_size)) if isinstance(block_size, tuple) else str(block_size)
