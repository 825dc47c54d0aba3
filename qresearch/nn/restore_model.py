"""A quantized network from its parts: the codes of its weights and the scales of its inputs."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.qtensor import QTensor, dequantize
from qresearch.core.scaling import Scaling
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.rules import Rule
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.quantizer import QParams, Quantizer
from qresearch.quantizers.static import Static


def restore_model(
    model: nnx.Module, rules: Mapping[str, Rule], weights: Mapping[str, QTensor], inputs: Mapping[str, Scaling]
) -> nnx.Module:
    """A copy of the float network `model` that simulates with these weights and inputs, by the path of the layer.

    It computes what the network did that they were read from, and cannot be trained on: its scales stand. `rules` are
    asked for the quantizers of inputs that find their scale at run time.
    Raises ValueError for an input whose quantizer changes values before it rounds them, which no scale tells.
    """
    model = nnx.clone(model)
    for path, slot in slots(model).items():
        if path not in weights and path not in inputs:
            continue
        weight = act = None
        if path in weights:
            q = weights[path]
            slot.weight[...] = dequantize(q).astype(slot.weight[...].dtype)
            weight = _quantizer(q.spec, Static(AbsMax()), _qparams(q.scale, q.zero_point), is_act=False)
        if path in inputs:
            act = _input(path, rules[path], inputs[path], slot.weight[...].ndim)
        slot.fill(FakeQuant(slot.attribute, weight, act))
    return model


def _input(path: str, rule: Rule, scaling: Scaling, rank: int) -> TensorQuantizer:
    assert rule.act is not None
    quantizer = rule.act.quantizer
    if quantizer.transforms:
        raise ValueError(
            f"The input of layer {path!r} is changed by {type(quantizer).__name__} before it is rounded, which its "
            "packed file does not hold; compute the run again instead of reading its file."
        )
    if scaling.scale is None:
        return _quantizer(scaling.spec, quantizer, {}, is_act=True)
    numbers = (None if x is None else jnp.full((1,) * rank, x) for x in (scaling.scale, scaling.zero_point))
    return _quantizer(scaling.spec, Static(AbsMax()), _qparams(*numbers), is_act=True)


def _qparams(scale, zero_point) -> QParams:
    return {"scale": scale} if zero_point is None else {"scale": scale, "zero_point": zero_point}


def _quantizer(spec, quantizer: Quantizer, qparams: QParams, *, is_act: bool) -> TensorQuantizer:
    numbered = jax.tree.map(lambda number: jnp.asarray(np.asarray(number)), spec)
    return TensorQuantizer(numbered, quantizer, ClippedStraightThrough(), qparams, is_act=is_act)
