"""Parity: the simulated network beside the one that computes with integers, code by code.

The codes at the input of every layer are compared twice. Layer by layer: every layer is given what the simulation gives
it, so that a difference is its own; it comes from the float sums of the simulation, which may round to the other side
of a tie. And carried along: each network goes its own way from the images, so that differences add up.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.program import program
from qresearch.core.pytree import pytree_dataclass
from qresearch.nn.geometry import Geometry
from qresearch.nn.observe import watch_layers
from qresearch.nn.packed import Packed
from qresearch.nn.slots import slots

BATCH = 500


@pytree_dataclass
class _Input:
    """A watch that keeps the input of a layer."""

    def __call__(self, lhs, rhs, out, lhs_axes, rhs_axes):
        return lhs


def parity(
    simulated: nnx.Module,
    executed: nnx.Module,
    layers: Mapping[str, Geometry],
    images: np.ndarray,
    labels: np.ndarray,
    normalise: Callable,
) -> dict[str, Any]:
    """What tells `executed`, the `pack_model` of `simulated`, from it, over all images:

    {"layers": [{"layer", "codes" (how many were compared), "equal" (the share of them) and "largest_lsb" layer by
    layer, "equal_carried" and "largest_lsb_carried"}, ...], "departs" (the first layer with a code that differs, or
    None), "top1_simulated", "top1_integer" (percent), "agreement" (the share of images that both put into one class),
    "largest_logit_difference", "images"}
    """
    packed = [path for path, slot in slots(executed).items() if isinstance(slot.occupant, Packed)]
    axes = tuple((path, layers[path].lhs_axes) for path in packed)
    (graph_a, state_a), (graph_b, state_b) = nnx.split(simulated), nnx.split(executed)
    found = []
    for start in range(0, len(images), BATCH):
        chunk = slice(start, start + BATCH)
        x = normalise(images[chunk])
        found.append(compare_batch(axes, (graph_a, graph_b), state_a, state_b, x, labels[chunk]))
    return _summary(packed, jax.device_get(found), len(images))


@program(static_argnums=(0, 1))
def compare_batch(axes, graphs, state_a, state_b, x, labels):
    """By layer (codes, equal and largest difference layer by layer, the same carried along), and (right in a, right in
    b, agreed, largest difference of the logits).
    """
    simulated, executed = nnx.merge(graphs[0], state_a), nnx.merge(graphs[1], state_b)
    watches = {path: _Input() for path, _ in axes}
    (logits_a, given), (logits_b, carried) = (watch_layers(model, watches, x) for model in (simulated, executed))
    quantizers = {path: slot.occupant.act for path, slot in slots(executed).items() if path in watches}
    found = _layer_by_layer(executed, given, x)

    def compare(path, contract):
        expected, *others = (
            quantizers[path].quantize(seen[path], contract).codes.astype(jnp.int32) for seen in (given, found, carried)
        )
        pairs = [(jnp.sum(codes == expected), jnp.max(jnp.abs(codes - expected))) for codes in others]
        return expected.size, *pairs

    classes = jnp.argmax(logits_a, axis=-1), jnp.argmax(logits_b, axis=-1)
    right = [jnp.sum(each == labels) for each in classes]
    outputs = (*right, jnp.sum(classes[0] == classes[1]), jnp.max(jnp.abs(logits_a - logits_b)))
    return {path: compare(path, contract) for path, contract in axes}, outputs


def _layer_by_layer(executed: nnx.Module, given: Mapping[str, Any], x: Any) -> dict[str, Any]:
    """What reaches each layer where all layers before it have been given the inputs of the simulation."""
    model, reached = nnx.clone(executed), {}

    def in_its_place(path, occupant):
        def call(lhs, *args, **kwargs):
            reached[path] = lhs
            return occupant(given[path], *args, **kwargs)

        return call

    for path, slot in slots(model).items():
        if path in given:
            slot.fill(in_its_place(path, slot.occupant))
    model(x)
    return reached


def _summary(packed: list[str], found: list[Any], images: int) -> dict[str, Any]:
    rows = []
    for path in packed:
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
