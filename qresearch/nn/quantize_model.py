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
from qresearch.core.rounding import Rounding
from qresearch.nn.calibrate import ActStatistic
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.rules import Assignment, Rule
from qresearch.nn.slots import Slot, slots
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
    key: jax.Array | None = None,
) -> nnx.Module:
    """A copy of `model` whose layers quantize as their rules say.

    `rules` comes from `assign`, `layers` from `geometry`, `statistics` from `calibrate`. With `ptq`, the
    weights themselves are replaced by what the layer algorithm makes of them; without it they stay float
    behind their quantizers, for training; so do those whose quantizer transforms them. `key` is for stochastic
    rounding.

    Raises ValueError where a weight's shape does not fit its granularity, a statistic is missing or not finite, or
    a quantizer that transforms weights meets a layer algorithm.
    """
    model = nnx.clone(model)
    places = slots(model)
    rules = {path: _applicable(rule, places[path]) for path, rule in rules.items()}
    rules = {path: _with_sign(path, rule, statistics) for path, rule in rules.items()}
    check_blocks(rules, layers)
    if ptq is not None:
        check_solvable(rules, ptq)
    kernels = {path: places[path].weight[...] for path, rule in rules.items() if rule.weight is not None}
    axes = tuple(sorted((path, layers[path].rhs_axes) for path in kernels))
    start, finite = fit_quantizers(axes, rules, kernels, statistics)
    _check_finite(finite)
    solvable = tuple((path, contract) for path, contract in axes if not _transforms(rules[path]))
    solved = {} if ptq is None else solve_weights(solvable, ptq, rules, start, kernels, key)
    for number, (path, rule) in enumerate(rules.items()):
        weight, act, grad = start[path]
        keys = _keys(key, number, rule)
        sides = {
            "weight": _at_work(rule.weight, weight, keys[0]),
            "act": _at_work(rule.act, act, keys[1], is_act=True),
            "grad": _at_work(rule.grad, grad, keys[2]),
        }
        if path in solved and rule.weight is not None:
            q, places[path].weight[...] = solved[path]
            sides["weight"] = _settled(rule.weight, q, keys[0])
        if any(side is not None for side in sides.values()):
            places[path].fill(FakeQuant(places[path].attribute, **sides))
    return model


def _keys(key: jax.Array | None, number: int, rule: Rule) -> list:
    """A random key for each side of the `number`-th layer; None for each where nothing is rounded by chance."""
    sides = [side for side in (rule.weight, rule.act, rule.grad) if side is not None]
    if key is None or all(side.spec.rounding is not Rounding.stochastic for side in sides):
        return [None] * 3
    return list(jax.random.split(jax.random.fold_in(key, number), 3))


def _at_work(
    assignment: Assignment | None, qparams: QParams | None, key: jax.Array | None, *, is_act: bool = False
) -> TensorQuantizer | None:
    if assignment is None or qparams is None:
        return None
    numbered = jax.tree.map(jnp.asarray, assignment)  # its numbers become leaves of the model's state
    return TensorQuantizer(numbered.spec, numbered.quantizer, numbered.estimator, qparams, is_act=is_act, key=key)


def _settled(assignment: Assignment, solved: QTensor, key: jax.Array | None) -> TensorQuantizer | None:
    """The quantizer of weights that lie on their grid already: the scale that they were solved with, for good.

    Rounding is to the nearest: any other kind could move a value that a division has put next to its level.
    """
    qparams = {"scale": solved.scale}
    if solved.zero_point is not None:
        qparams["zero_point"] = solved.zero_point
    spec = dataclasses.replace(assignment.spec, rounding=Rounding.half_even)
    settled = dataclasses.replace(assignment, spec=spec, quantizer=Static(assignment.quantizer.observer))
    return _at_work(settled, qparams, key)


@program(static_argnums=0)
def fit_quantizers(axes, rules, kernels, statistics):
    """For every layer (weight qparams, act qparams, grad qparams), and whether all of its numbers are finite: one
    program for the whole model.
    """
    axes = dict(axes)

    def fit(path, rule):
        weight = act = None
        grad = None if rule.grad is None else {}
        if rule.weight is not None:
            quantizer, spec = rule.weight.quantizer, rule.weight.spec
            observed = quantizer.observer.measure(kernels[path], contract=axes[path], spec=spec)
            weight = quantizer.init(observed, spec)
        if rule.act is not None:
            act = rule.act.quantizer.init(statistics[path].observed, rule.act.spec)
        return weight, act, grad

    def all_finite(path):
        flags = [jnp.all(jnp.isfinite(number)) for number in jax.tree.leaves((kernels.get(path), start[path]))]
        if path in statistics:
            flags.append(statistics[path].finite)
        return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)

    start = {path: fit(path, rule) for path, rule in rules.items()}
    return start, {path: all_finite(path) for path in start}


@program(static_argnums=0)
def solve_weights(axes, ptq, rules, start, kernels, key):
    """The weights as the layer algorithm's codes, and as floats."""

    def solve(path, contract, key):
        at_work = _at_work(rules[path].weight, start[path][0], key)
        assert at_work is not None  # `axes` names the layers with quantized weights
        w, scale, zero_point = at_work.rounding(kernels[path], contract)
        q = ptq.solve(w, scale=scale, zero_point=zero_point, spec=rules[path].weight.spec, key=key)
        return q, dequantize(q).astype(kernels[path].dtype)

    none = [None] * len(axes)
    keys = none if key is None else list(jax.random.split(jax.random.fold_in(key, len(rules)), len(axes)))
    return {path: solve(path, contract, key) for (path, contract), key in zip(axes, keys, strict=True)}


def check_solvable(rules: Mapping[str, Rule], ptq: LayerMethod) -> None:
    """Raise ValueError where a layer algorithm meets a quantizer that changes the weights before rounding; rounding to
    nearest is what such a quantizer does by itself.
    """
    for rule in rules.values():
        if rule.weight is not None and _transforms(rule) and not ptq.to_nearest:
            raise ValueError(
                f"weight.quantizer={type(rule.weight.quantizer).__name__} changes the weights before it rounds them, "
                f"and {type(ptq).__name__} takes them as they are; use ptq=rtn, or quantizer@weight.quantizer=static."
            )


def _transforms(rule: Rule) -> bool:
    return rule.weight is not None and rule.weight.quantizer.transforms


def _applicable(rule: Rule, slot: Slot) -> Rule:
    """The rule without what an embedding does not have: an input, and an output that is a product."""
    return dataclasses.replace(rule, act=None, grad=None) if slot.is_embedding else rule


def _with_sign(path: str, rule: Rule, statistics: Mapping[str, ActStatistic]) -> Rule:
    """The rule with every open sign closed: weights and gradients are signed, an input as calibration saw it."""
    if rule.act is not None and path not in statistics:
        raise ValueError(f"Layer {path!r} quantizes its input and has no statistic; pass the result of calibrate().")

    def close(side: Assignment | None, has_negative: bool) -> Assignment | None:
        return None if side is None else dataclasses.replace(side, spec=side.spec.with_sign(has_negative))

    has_negative = rule.act is not None and bool(statistics[path].lowest < 0)
    sides = {"weight": close(rule.weight, True), "act": close(rule.act, has_negative), "grad": close(rule.grad, True)}
    return dataclasses.replace(rule, **sides)


def check_blocks(rules: Mapping[str, Rule], layers: Mapping[str, Geometry]) -> None:
    """Raise ValueError where a granularity does not fit the shape of its tensor."""
    for path, rule in rules.items():
        g = layers[path]
        tensors = {
            "weight": (rule.weight, g.rhs_shape, g.rhs_axes),
            "act": (rule.act, g.lhs_shape, g.lhs_axes),
            "grad": (rule.grad, g.out_shape, tuple(range(1, len(g.out_shape)))),
        }
        for name, (side, shape, contract) in tensors.items():
            if side is None or 0 in shape:  # an embedding takes indices, and its output is no product
                continue
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
