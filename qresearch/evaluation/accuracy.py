"""Top-1 accuracy and loss over a data set."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from qresearch.core.program import program

BATCH = 500


def accuracy(model: nnx.Module, images: np.ndarray, labels: np.ndarray, normalise: Callable) -> dict[str, float]:
    """`top1` in percent and the mean cross-entropy `loss` of `model`, as it stands (call `eval()` first)."""
    graphdef, state = nnx.split(model)
    size = min(BATCH, len(images))
    counts = []
    for start in range(0, len(images), size):
        image, label = images[start : start + size], labels[start : start + size]
        missing = size - len(image)  # the last batch is filled up, so that one program serves all
        image = np.pad(image, [(0, missing)] + [(0, 0)] * (image.ndim - 1))
        label = np.pad(label, (0, missing), constant_values=-1)
        counts.append(evaluate_batch(graphdef, state, normalise, image, label))
    right, loss = (np.sum([np.asarray(count[i], np.float64) for count in counts]) for i in (0, 1))
    return {"top1": float(100 * right / len(images)), "loss": float(loss / len(images))}


@program(static_argnums=0)
def evaluate_batch(graphdef: Any, state: Any, normalise: Callable, images: Any, labels: Any) -> tuple[Any, Any]:
    """How many images are classified right, and the sum of their losses; a label of -1 does not count."""
    logits = nnx.merge(graphdef, state)(normalise(images))
    counts = labels >= 0
    right = jnp.sum((jnp.argmax(logits, axis=-1) == labels) & counts)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return right, jnp.sum(jnp.where(counts, losses, 0.0))
