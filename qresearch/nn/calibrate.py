"""Calibration: gather the statistics of activations that a model's quantizers start from."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from qresearch.core.program import program
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.nn.geometry import Geometry
from qresearch.nn.observe import watch_layers
from qresearch.nn.rules import Assignment, Rule
from qresearch.nn.slots import slots


class ActStatistic(NamedTuple):
    """What calibration saw of one layer's input."""

    observed: Any  # the observer's statistic; None where the scale is not stored
    lowest: Float[Array, ""]  # the smallest value: it decides an open sign
    finite: Bool[Array, ""]  # whether all values are finite


@pytree_dataclass
class _Measure:
    """A watch that applies the observer of an activation's quantizer."""

    act: Assignment = leaf()

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        quantizer, observed = self.act.quantizer, None
        if quantizer.stored:  # a scale taken at run time asks nothing of calibration
            observed = quantizer.observer.measure(lhs, contract=lhs_axes, spec=self.act.spec)
        return ActStatistic(observed, jnp.min(lhs).astype(jnp.float32), jnp.all(jnp.isfinite(lhs)))


def calibrate(
    model: nnx.Module, rules: Mapping[str, Rule], batches: Iterable[Float[Array | np.ndarray, "..."]]
) -> dict[str, ActStatistic]:
    """The statistics of the inputs of all layers whose rule quantizes them, over all batches.

    `rules` is the rule of each layer by path, as `assign` gives it. The model runs as it is: call its
    `eval()` first. Order and number of batches do not matter, up to the rounding of sums where an observer
    adds floats.
    """
    places = slots(model)
    # The inputs of an embedding are indices.
    watches = {path: _Measure(rule.act) for path, rule in rules.items() if rule.act and not places[path].is_embedding}
    if not watches:
        return {}
    graphdef, state = nnx.split(model)
    total = None
    for batch in batches:
        seen = calibrate_batch(graphdef, state, watches, batch)
        total = seen if total is None else combine_statistics(watches, total, seen)
    if total is None:
        raise ValueError("calibrate got no batches; give at least one, for example the first 512 training images.")
    return total


@program(static_argnums=0)
def calibrate_batch(graphdef, state, watches, batch):
    return watch_layers(nnx.merge(graphdef, state), watches, batch)[1]


@program
def combine_statistics(watches, a, b):
    def combine(path):
        quantizer, observed = watches[path].act.quantizer, None
        if quantizer.stored:
            observed = quantizer.observer.combine(a[path].observed, b[path].observed)
        return ActStatistic(observed, jnp.minimum(a[path].lowest, b[path].lowest), a[path].finite & b[path].finite)

    return {path: combine(path) for path in watches}


def statistics_structure(rules: Mapping[str, Rule], layers: Mapping[str, Geometry]) -> Any:
    """The tree structure of what `calibrate` returns, found without computing anything."""
    acts = {path: rule.act for path, rule in rules.items() if rule.act and 0 not in layers[path].lhs_shape}
    statistics = {}
    for path, act in acts.items():
        key = (jax.tree.structure(act), layers[path])
        if key not in _shapes:
            _shapes[key] = _statistic_shape(act, layers[path])
        statistics[path] = _shapes[key]
    return jax.tree.structure(statistics)


_shapes: dict[Any, Any] = {}  # of the statistics of an assignment's structure and a layer: tracing takes 5 ms


def _statistic_shape(act: Assignment, g: Geometry) -> Any:
    tensors = (jax.ShapeDtypeStruct(shape, "float32") for shape in (g.lhs_shape, g.rhs_shape, g.out_shape))
    return jax.eval_shape(lambda lhs, rhs, out: _Measure(act)(lhs, rhs, out, g.lhs_axes, g.rhs_axes), *tensors)


def calibration_key(rules: Mapping[str, Rule]) -> list[Any]:
    """What the statistics of every layer depend on beside the network and the data: observers, specs and their numbers,
    as JSON values.
    """
    key = []
    for path, rule in rules.items():
        if rule.act is not None:
            kept = rule.act.quantizer.observer if rule.act.quantizer.stored else None
            leaves, structure = jax.tree.flatten((kept, rule.act.spec))
            key.append([path, str(structure), [np.asarray(leaf).tolist() for leaf in leaves]])
    return key
