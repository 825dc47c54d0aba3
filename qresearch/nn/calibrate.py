"""Calibration: gather the statistics of activations that a model's quantizers start from."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from qresearch.core.program import program
from qresearch.core.pytree import leaf, pytree_dataclass
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
    acts = {path: rule.act for path, rule in rules.items() if not places[path].is_embedding}  # that one's are indices
    watches = {path: _Measure(act) for path, act in acts.items() if act is not None}
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
