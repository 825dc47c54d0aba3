"""The anatomy of the quantization error E = x - Q(x), for the weights, input and output of every layer.

Weights: E against the float weights (PTQ) or against the trained weights behind the quantizer (QAT). Input: E
of rounding what reaches the layer in the quantized network. Output: the float network's output of that layer
less the quantized one's, so it holds all error made up to there.

    mse = mean(E^2)          sqnr_db = 10 log10(sum x^2 / sum E^2)      cosine = <x, Q(x)> / (|x| |Q(x)|)
    bias = mean(E)           max_error = max|E|                         mse_uniform = mean(scale^2) / 12

The error splits without a cross term, since a clipped value lies on the grid: mse = mse_clip + mse_round,
with E_clip = x - clip(x) and E_round = clip(x) - Q(x). `mse_uniform` is what rounding costs if its error is
uniform over a step (Bennett, "Spectra of quantized signals", Bell System Technical Journal 27, 1948); grids of
unequal steps have none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.granularity import broadcast_groups
from qresearch.core.program import program
from qresearch.core.pytree import pytree_dataclass
from qresearch.core.qtensor import dequantize
from qresearch.core.stack import stack, unstack
from qresearch.grids.integer import LARGEST_BITS
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.observe import watch_layers
from qresearch.nn.slots import slots


@pytree_dataclass
class _Keep:
    """A watch that keeps the tensors themselves."""

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        return lhs, rhs, out


def anatomy(
    float_models: Sequence[nnx.Module],
    models: Sequence[nnx.Module],
    layers: Mapping[str, Geometry],
    x: Any,
    *,
    trained: bool,
) -> list[list[dict[str, Any]]]:
    """Of each of the models, which are of one structure: one row for each quantized tensor and each output,
    {"layer", "tensor", "mse", ...}; None where a number is not finite.

    A model is its float model quantized (same layers); `trained` says that its weights have been trained since.
    """
    quantized = {path: slot.occupant for path, slot in slots(models[0]).items() if isinstance(slot.occupant, FakeQuant)}
    if not quantized:
        return [[] for _ in models]
    axes = tuple((path, layers[path].lhs_axes, layers[path].rhs_axes) for path in quantized)
    pairs = [(nnx.split(before), nnx.split(model)) for before, model in zip(float_models, models, strict=True)]
    graphs = tuple(graphdef for graphdef, _ in pairs[0])
    states = [tuple(state for _, state in pair) for pair in pairs]
    if len(models) == 1:
        measured = [jax.device_get(measure_errors(axes, graphs, *states[0], x, trained))]
    else:
        measured = unstack(measure_errors_together(axes, graphs, *stack(states), x, trained), len(models))
    return [_rows(quantized, of_model) for of_model in measured]


def _rows(paths: Iterable[str], measured: Any) -> list[dict[str, Any]]:
    """In the order of the layers, which a dict that went through a program has lost."""
    rows = []
    for path in paths:
        for tensor in (name for name in ("weight", "input", "output") if name in measured[path]):
            numbers = {name: _json(value) for name, value in measured[path][tensor].items()}
            rows.append({"layer": path, "tensor": tensor, **numbers})
    return rows


@program(static_argnums=(0, 1, 5))
def measure_errors(axes, graphs, float_state, state, x, trained):
    return _measure_errors(axes, graphs, float_state, state, x, trained)


@program(static_argnums=(0, 1, 5))
def measure_errors_together(axes, graphs, float_state, state, x, trained):
    """The same of several cells, whose states have a leading axis."""
    return jax.vmap(lambda before, cell: _measure_errors(axes, graphs, before, cell, x, trained))(float_state, state)


def _measure_errors(axes, graphs, float_state, state, x, trained):
    float_model, model = nnx.merge(graphs[0], float_state), nnx.merge(graphs[1], state)
    watches = {path: _Keep() for path, _, _ in axes}
    _, float_seen = watch_layers(float_model, watches, x)
    _, seen = watch_layers(model, watches, x)
    places = slots(model)

    def measure(path, lhs_axes, rhs_axes):
        lhs, rhs, out = seen[path]
        _, float_rhs, float_out = float_seen[path]
        occupant, errors = places[path].occupant, {}
        if occupant.weight is not None:
            errors["weight"] = _tensor_error(rhs if trained else float_rhs, rhs, occupant.weight, rhs_axes)
        if occupant.act is not None:
            errors["input"] = _tensor_error(lhs, lhs, occupant.act, lhs_axes)
        if out.size:  # not an embedding
            errors["output"] = _error(float_out, out)
        return errors

    return {path: measure(path, *contract) for path, *contract in axes}


def _tensor_error(reference, x, quantizer: TensorQuantizer, contract):
    """All numbers of `reference` - Q(x); `x` differs from `reference` where a layer algorithm has moved it."""
    before, *_ = quantizer.rounding(x, contract)
    q = quantizer.quantize(x, contract)
    grid, scale = q.spec.grid, q.scale  # the scale as its format holds it
    offset = jnp.zeros_like(scale) if q.zero_point is None else q.zero_point
    low, high = (broadcast_groups((bound - offset) * scale, x.shape) for bound in (grid.low, grid.high))
    # Clipping and rounding are told apart where they take place: a quantizer that transforms has moved the values.
    before = before if quantizer.quantizer.transforms else reference
    clipped, rounded = jnp.clip(before, low, high), dequantize(q)
    values = grid.decode(q.codes)
    codes = grid.encode(jnp.where(values == 0, 0.0, values))  # floats have a second code for zero
    used = jnp.zeros(2**LARGEST_BITS, jnp.int32).at[codes.astype(jnp.int32) & (2**LARGEST_BITS - 1)].set(1)
    return _error(reference, quantizer(x, contract)) | {
        "mse_clip": jnp.mean((before - clipped) ** 2),
        "mse_round": jnp.mean((clipped - rounded) ** 2),
        "mse_uniform": jnp.mean((scale * grid.top_step) ** 2) / 12 if grid.uniform else jnp.float32(jnp.nan),
        "codes_used": jnp.sum(used),
        "codes": jnp.asarray(grid.count, jnp.int32),
    }


def _error(x, rounded):
    error = x - rounded
    power, noise = jnp.sum(x**2), jnp.sum(error**2)
    return {
        "mse": jnp.mean(error**2),
        "sqnr_db": 10 * jnp.log10(power / noise),
        "cosine": jnp.sum(x * rounded) / jnp.sqrt(power * jnp.sum(rounded**2)),
        "bias": jnp.mean(error),
        "max_error": jnp.max(jnp.abs(error)),
    }


def _json(value: np.ndarray | np.generic) -> float | int | None:
    number = value.item()
    return number if np.isfinite(number) else None
