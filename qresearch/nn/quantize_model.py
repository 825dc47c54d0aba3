"""From a float model and rules to a quantized one: fill the slots with FakeQuant."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qresearch.core.granularity import scale_shape
from qresearch.core.program import program
from qresearch.core.qtensor import QTensor, dequantize
from qresearch.nn.calibrate import ActStatistic
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.rules import Assignment, Rule
from qresearch.nn.slots import slots
from qresearch.ptq.method import LayerMethod
from qresearch.quantizers.quantizer import QParams
from qresearch.quantizers.static import Static


def quantize_model(
    model: nnx.Module,
    rules: Mapping[str, Rule],
    layers: Mapping[str, Geometry],
    statistics: Mapping[str, ActStatistic],
    *,
    ptq: LayerMethod | None = None,
) -> nnx.Module:
    """A copy of `model` whose layers quantize as their rules say.

    `rules` comes from `assign`, `layers` from `geometry`, `statistics` from `calibrate`. With `ptq`, the
    weights themselves are replaced by what the layer algorithm makes of them; without it they stay float
    behind their quantizers, for training.

    Raises ValueError where a weight's shape does not fit its granularity, or a statistic is missing or not
    finite.
    """
    model = nnx.clone(model)
    places = slots(model)
    rules = {path: _with_sign(path, rule, statistics) for path, rule in rules.items()}
    check_blocks(rules, layers)
    kernels = {path: places[path].layer.kernel[...] for path, rule in rules.items() if rule.weight is not None}
    axes = tuple(sorted((path, layers[path].rhs_axes) for path in kernels))
    start = fit_quantizers(axes, rules, kernels, statistics)
    _check_finite(all_finite(kernels, statistics, start))
    solved = {} if ptq is None else solve_weights(axes, ptq, rules, start, kernels)
    for path, rule in rules.items():
        weight, act = start[path]
        sides = {
            "weight": _at_work(rule.weight, weight, is_act=False),
            "act": _at_work(rule.act, act, is_act=True),
        }
        if path in solved and rule.weight is not None:
            places[path].layer.kernel[...] = dequantize(solved[path]).astype(kernels[path].dtype)
            sides["weight"] = _settled(rule.weight, solved[path])
        if rule.weight is not None or rule.act is not None:
            places[path].fill(FakeQuant(places[path].attribute, **sides))
    return model


def _at_work(assignment: Assignment | None, qparams: QParams | None, *, is_act: bool) -> TensorQuantizer | None:
    if assignment is None or qparams is None:
        return None
    return TensorQuantizer(_traced(assignment.spec), assignment.quantizer, qparams, is_act=is_act)


def _settled(assignment: Assignment, solved: QTensor) -> TensorQuantizer:
    """The quantizer of weights that lie on their grid already: the scale that they were solved with, for good."""
    qparams = {"scale": solved.scale}
    if solved.zero_point is not None:
        qparams["zero_point"] = solved.zero_point
    return TensorQuantizer(_traced(assignment.spec), Static(assignment.quantizer.observer), qparams, is_act=False)


@program(static_argnums=0)
def fit_quantizers(axes, rules, kernels, statistics):
    """(weight qparams, act qparams) of every layer: one program for the whole model."""
    axes = dict(axes)

    def fit(path, rule):
        weight = act = None
        if rule.weight is not None:
            quantizer, spec = rule.weight.quantizer, rule.weight.spec
            observed = quantizer.observer.measure(kernels[path], contract=axes[path], spec=spec)
            weight = quantizer.init(observed, spec)
        if rule.act is not None:
            act = rule.act.quantizer.init(statistics[path].observed, rule.act.spec)
        return weight, act

    return {path: fit(path, rule) for path, rule in rules.items()}


@program(static_argnums=0)
def solve_weights(axes, ptq, rules, start, kernels):
    """The weights as the layer algorithm's codes."""

    def solve(path, contract):
        quantizer, spec = rules[path].weight.quantizer, rules[path].weight.spec
        scale, zero_point = quantizer.scale(kernels[path], start[path][0], contract=contract, spec=spec)
        return ptq.solve(kernels[path], scale=scale, zero_point=zero_point, spec=spec)

    return {path: solve(path, contract) for path, contract in axes}


def _traced(spec):
    """Bits as an array, so that they become a leaf of the model's state."""
    return dataclasses.replace(spec, bits=jnp.asarray(spec.bits, jnp.int32))


def _with_sign(path: str, rule: Rule, statistics: Mapping[str, ActStatistic]) -> Rule:
    if rule.act is None:
        return rule
    if path not in statistics:
        raise ValueError(f"Layer {path!r} quantizes its input and has no statistic; pass the result of calibrate().")
    has_negative = bool(statistics[path].lowest < 0)
    act = dataclasses.replace(rule.act, spec=rule.act.spec.with_sign(has_negative))
    return dataclasses.replace(rule, act=act)


def check_blocks(rules: Mapping[str, Rule], layers: Mapping[str, Geometry]) -> None:
    """Raise ValueError where a granularity does not fit the shape of its tensor."""
    for path, rule in rules.items():
        for side, name in ((rule.weight, "weight"), (rule.act, "act")):
            if side is None:
                continue
            g = layers[path]
            shape, contract = (g.rhs_shape, g.rhs_axes) if name == "weight" else (g.lhs_shape, g.lhs_axes)
            try:
                scale_shape(shape, contract=contract, spec=side.spec)
            except ValueError as error:
                raise ValueError(f"Layer {path!r}, {name}: {error}") from error


def _check_finite(finite: Mapping[str, Any]) -> None:
    bad = sorted(path for path, ok in jax.device_get(finite).items() if not ok)
    if bad:
        raise ValueError(
            f"The scales of the layers {bad} are not finite: their weights or calibration inputs hold NaN or infinity. "
            "Check the checkpoint and the calibration data."
        )


@program
def all_finite(kernels, statistics, start):
    """Of every layer: whether its weights, its calibration inputs and the numbers of its quantizers are finite."""

    def check(path):
        numbers = jax.tree.leaves((kernels.get(path), start[path]))
        flags = [jnp.all(jnp.isfinite(value)) for value in numbers]
        if path in statistics:
            flags.append(statistics[path].finite)
        return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)

    return {path: check(path) for path in start}
