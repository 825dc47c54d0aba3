"""Top-1 accuracy and loss over a data set."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from qresearch.core.program import program
from qresearch.core.stack import stack

BATCH = 500


def accuracy(
    models: Sequence[nnx.Module], images: np.ndarray, labels: np.ndarray, normalise: Callable
) -> list[dict[str, float]]:
    """`top1` in percent and the mean cross-entropy `loss` of models of one structure, several of them side by side.

    They are evaluated as they stand (call `eval()` first).
    """
    graphdefs, states = zip(*(nnx.split(model) for model in models), strict=True)
    evaluate, state = (evaluate_batch, states[0]) if len(models) == 1 else (evaluate_batch_together, stack(states))
    size = min(BATCH, len(images))
    counts = []
    for start in range(0, len(images), size):
        image, label = images[start : start + size], labels[start : start + size]
        missing = size - len(image)  # the last batch is filled up, so that one program serves all
        image = np.pad(image, [(0, missing)] + [(0, 0)] * (image.ndim - 1))
        label = np.pad(label, (0, missing), constant_values=-1)
        counts.append(evaluate(graphdefs[0], state, normalise, image, label))
    totals = np.sum([np.asarray(count, np.float64).reshape(2, -1) for count in counts], axis=0)[:, : len(models)]
    return [{"top1": float(100 * right / len(images)), "loss": float(loss / len(images))} for right, loss in totals.T]


@program(static_argnums=0)
def evaluate_batch(graphdef: Any, state: Any, normalise: Callable, images: Any, labels: Any) -> tuple[Any, Any]:
    """How many images are classified right, and the sum of their losses; a label of -1 does not count."""
    return _evaluate(graphdef, state, normalise, images, labels)


@program(static_argnums=0)
def evaluate_batch_together(
    graphdef: Any, state: Any, normalise: Callable, images: Any, labels: Any
) -> tuple[Any, Any]:
    """The same of several cells, whose states have a leading axis."""
    return jax.vmap(lambda cell: _evaluate(graphdef, cell, normalise, images, labels))(state)


def _evaluate(graphdef, state, normalise, images, labels):
    logits = nnx.merge(graphdef, state)(normalise(images))
    counts = labels >= 0
    right = jnp.sum((jnp.argmax(logits, axis=-1) == labels) & counts)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return right, jnp.sum(jnp.where(counts, losses, 0.0))
