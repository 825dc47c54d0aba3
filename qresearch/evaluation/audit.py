"""The audit: what each layer of a model really is, read from the model itself and not from its configuration."""

from typing import Any

from flax import nnx

from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.slots import slots


def audit(model: nnx.Module) -> list[dict[str, Any]]:
    """One row for each side of each layer: {"layer", "tensor", "bits", "granularity", "range", "signed",
    "quantizer", "observer"}.

    A side that stays float has bits None and nothing else.
    """
    rows = []
    for path, slot in slots(model).items():
        occupant = slot.occupant
        sides = (occupant.weight, occupant.act) if isinstance(occupant, FakeQuant) else (None, None)
        rows += [
            {"layer": path, "tensor": name, **_side(side)}
            for name, side in zip(("weight", "input"), sides, strict=True)
        ]
    return rows


def float_tensors(model: nnx.Module) -> dict[str, int]:
    """Elements of every parameter that stays float, by path: biases, batch norm, and the weights of layers
    without a quantizer.
    """
    weights = {
        f"{path}.kernel"
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
        "bits": int(spec.bits),
        "granularity": str(spec.granularity) + (f" {spec.block_size}" if spec.block_size else ""),
        "range": str(spec.range),
        "signed": spec.signed,
        "symmetric": spec.symmetric,
        "quantizer": type(side.quantizer).__name__,
        "observer": type(side.quantizer.observer).__name__,
    }
