"""Parity: the simulated network beside the one that computes with integers, code by code.

The codes at the input of every layer are compared twice. Layer by layer: every layer is given what the simulation gives
it, so that a difference is its own; it comes from the float sums of the simulation, which may round to the other side
of a tie. And carried along: each network goes its own way from the images, so that differences add up.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.core.program import program
from qresearch.evaluation.execution import Execution

BATCH = 500


def parity(
    simulated: Execution, executed: Execution, images: np.ndarray, labels: np.ndarray, normalise: Callable
) -> dict[str, Any]:
    """What tells `executed` from `simulated`, over all images:

    {"layers": [{"layer", "codes" (how many were compared), "equal" (the share of them) and "largest_lsb" layer by
    layer, "equal_carried" and "largest_lsb_carried"}, ...], "departs" (the first layer with a code that differs, or
    None), "top1_simulated", "top1_integer" (percent), "agreement" (the share of images that both put into one class),
    "largest_logit_difference", "images"}
    """
    runs, layers, found = (simulated.run, executed.run), tuple(executed.layers), []
    for start in range(0, len(images), BATCH):
        chunk = slice(start, start + BATCH)
        x = normalise(images[chunk])
        found.append(compare_batch(runs, layers, simulated.state, executed.state, x, labels[chunk]))
    return _summary(layers, jax.device_get(found), len(images))


@program(static_argnums=(0, 1))
def compare_batch(runs, layers, state_a, state_b, x, labels):
    """By layer (codes, equal and largest difference layer by layer, the same carried along), and (right in a, right in
    b, agreed, largest difference of the logits).
    """
    expected, carried = runs[0](state_a, x, None), runs[1](state_b, x, None)
    alone = runs[1](state_b, x, expected.inputs)

    def compare(path):
        pairs = []
        for other in (alone, carried):
            apart = jnp.abs(other.codes[path].astype(jnp.int32) - expected.codes[path].astype(jnp.int32))
            pairs.append((jnp.sum(apart == 0), jnp.max(apart)))
        return expected.codes[path].size, *pairs

    classes = jnp.argmax(expected.logits, axis=-1), jnp.argmax(carried.logits, axis=-1)
    right = [jnp.sum(each == labels) for each in classes]
    apart = jnp.max(jnp.abs(expected.logits - carried.logits))
    return {path: compare(path) for path in layers}, (*right, jnp.sum(classes[0] == classes[1]), apart)


def _summary(layers: Sequence[str], found: list[Any], images: int) -> dict[str, Any]:
    rows = []
    for path in layers:
        codes, *pairs = zip(*(layers[path] for layers, _ in found), strict=True)
        row = {"layer": path, "codes": sum(map(int, codes))}
        for pair, suffix in zip(pairs, ("", "_carried"), strict=True):
            equal, largest = zip(*pair, strict=True)
            row |= {f"equal{suffix}": sum(map(int, equal)) / row["codes"], f"largest_lsb{suffix}": int(max(largest))}
        rows.append(row)
    right_a, right_b, agreed, logits = zip(*(outputs for _, outputs in found), strict=True)
    return {
        "layers": rows,
        "departs": next((row["layer"] for row in rows if row["largest_lsb"]), None),
        "top1_simulated": 100 * float(sum(right_a)) / images,
        "top1_integer": 100 * float(sum(right_b)) / images,
        "agreement": float(sum(agreed)) / images,
        "largest_logit_difference": float(max(logits)),
        "images": images,
    }
