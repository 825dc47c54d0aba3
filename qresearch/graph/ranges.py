"""The lowest and the highest value that each tensor of a graph takes, over batches."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qresearch.graph.nodes import Graph
from qresearch.graph.simulate import simulate


def tensor_ranges(graph: Graph, batches: Iterable[Float[Array | np.ndarray, "..."]]) -> dict[str, tuple[float, float]]:
    """(lowest, highest) by the name of the tensor. Raises ValueError without a batch."""

    @jax.jit
    def ends(x):
        return {name: (jnp.min(value), jnp.max(value)) for name, value in simulate(graph, x, {})[0].items()}

    found = [jax.device_get(ends(batch)) for batch in batches]
    if not found:
        raise ValueError("The ranges of a graph's tensors need at least one batch; give calibration images.")
    lows, highs = ([{name: pair[end] for name, pair in each.items()} for each in found] for end in (0, 1))
    return {name: (float(min(x[name] for x in lows)), float(max(x[name] for x in highs))) for name in found[0]}
