"""From a float model and rules to a quantized one: fill the slots with FakeQuant."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from qresearch.core.granularity import scale_shape
from qresearch.core.program import program
from qresearch.core.qtensor import dequantize
from qresearch.nn.calibrate import ActStatistic
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.rules import Rule
from qresearch.nn.slots import slots
from qresearch.ptq.method import LayerMethod


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
    axes = {path: layers[path].rhs_axes for path in kernels}
    start = fit_quantizers(tuple(sorted(axes.items())), rules, kernels, statistics)
    _check_finite(start)
    for path, rule in rules.items():
        if rule.weight is None and rule.act is None:
            continue
        weight, act = (
            None if side is None else TensorQuantizer(_traced(side.spec), side.quantizer, qparams, is_act=is_act)
            for side, qparams, is_act in zip((rule.weight, rule.act), start[path], (False, True), strict=True)
        )
        places[path].fill(FakeQuant(places[path].attribute, weight, act))
    if ptq is not None:
        quantizers = {path: places[path].occupant.weight for path in kernels}
        solved = solve_weights(tuple(sorted(axes.items())), ptq, nnx.split(nnx.Dict(quantizers)), kernels)
        for path, kernel in solved.items():
            places[path].layer.kernel[...] = kernel
    return model


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
def solve_weights(axes, ptq, quantizers, kernels):
    """The weights after the layer algorithm, as the float values of their codes."""
    modules = nnx.merge(*quantizers)

    def solve(path, contract):
        quantizer, kernel = modules[path], kernels[path]
        scale, zero_point = quantizer.scale(kernel, contract)
        solved = ptq.solve(kernel, scale=scale, zero_point=zero_point, spec=quantizer.spec)
        return dequantize(solved).astype(kernel.dtype)

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


def _check_finite(start: dict[str, Any]) -> None:
    finite = jax.device_get(all_finite(start))
    bad = sorted(path for path, ok in finite.items() if not ok)
    if bad:
        raise ValueError(
            f"The scales of the layers {bad} are not finite: their weights or calibration inputs hold NaN or infinity. "
            "Check the checkpoint and the calibration data."
        )


@program
def all_finite(start: dict[str, Any]) -> dict[str, Array]:
    def check(qparams):
        flags = [jnp.all(jnp.isfinite(value)) for value in jax.tree.leaves(qparams)]
        return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)

    return {path: check(qparams) for path, qparams in start.items()}
