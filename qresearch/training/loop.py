"""The training loop: epochs of shuffled batches, with curves.

On a CPU it is a Python loop over a compiled step: XLA runs the weight gradients of convolutions inside a scan
about 90 times slower there (jax issue 12868). On an accelerator many steps are scanned in one program. This
file alone decides.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.training.augment import Augment
from qresearch.training.optimizer import Recipe
from qresearch.training.step import (
    Problem,
    TrainState,
    mean_and_least,
    split_model,
    start_training,
    train_step,
    train_steps,
)

POINTS = 100  # about how many points a curve has
POSITIVE = ("scale/", "alpha/")  # quantizer numbers that mean nothing at zero and below

Curves = list[dict[str, float | int]]


class Diverged(ArithmeticError):
    """A number of the training is not finite any more, or a learned scale not positive.

    `curves` holds what came before.
    """

    def __init__(self, name: str, what: str, value: float, step: int, curves: Curves):
        super().__init__(f"The {what} is {value} after step {step}; lower {name}.learning_rate.")
        self.step, self.curves = step, curves


def check_batch(recipe: Recipe, images: int, name: str) -> None:
    """Raise ValueError where the training set does not fill one batch of the recipe called `name`."""
    if images < recipe.batch_size:
        raise ValueError(
            f"{name}.batch_size={recipe.batch_size} is larger than the {images} training images; lower it."
        )


def fit(
    model: nnx.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    recipe: Recipe,
    name: str = "optim",
    normalise: Callable,
    augment: Augment,
    seed: int,
    listen: Callable[[int, int, dict[str, float | int]], None],
) -> Curves:
    """Train `model` in place on stored pixels (n, h, w, c) and labels (n,); returns its curves.

    An epoch is n // batch_size steps over a new permutation; the remainder rests until the next.
    `listen(step, total, point)` hears each point of the curves as it is made. Batch norm behaves as the model
    was left (`train()` or `eval()`).

    `name` is what messages call the recipe. Raises Diverged when the loss or a quantizer's number is not finite or
    a learned scale not positive, and ValueError for fewer images than one batch.
    """
    check_batch(recipe, len(images), name)
    total = len(images) // recipe.batch_size * int(recipe.epochs)
    graphdef, weights, qparams, rest = split_model(model)
    state = TrainState(weights, qparams, rest, start_training(recipe, weights, qparams))
    arrays = (jnp.asarray(images), jnp.asarray(labels))
    problem = Problem(*arrays, normalise, recipe, total, jax.random.key(seed), augment)
    curves: Curves = []
    done = 0
    for indices in _chunks(_order(len(images), recipe, seed), math.ceil(total / POINTS)):
        state, metrics = _advance(graphdef, state, problem, indices, done)
        done += len(indices)
        point = {
            "step": done,
            **{name: float(np.mean(values)) for name, values in jax.device_get(metrics).items()},
        }
        scales, least = (_named(tree) for tree in jax.device_get(mean_and_least(state.qparams)))
        point |= scales
        broken = [(key, value) for key, value in point.items() if not math.isfinite(value)]
        broken += [(key, value) for key, value in least.items() if key.startswith(POSITIVE) and value <= 0]
        if broken:
            raise Diverged(name, *broken[0], done, curves)
        curves.append(point)
        listen(done, total, point)
    nnx.update(model, state.weights, state.qparams, nnx.filter_state(state.rest, nnx.BatchStat))
    return curves


def _advance(
    graphdef: Any, state: TrainState, problem: Problem, indices: np.ndarray, done: int
) -> tuple[TrainState, Any]:
    if jax.default_backend() != "cpu":
        return train_steps(graphdef, state, problem, indices, np.int32(done))
    history = []
    for offset, index in enumerate(indices):
        state, metrics = train_step(graphdef, state, problem, index, np.int32(done + offset))
        history.append(metrics)
    return state, {name: [metrics[name] for metrics in history] for name in history[0]}


def _order(images: int, recipe: Recipe, seed: int) -> np.ndarray:
    """The images of every step, (steps, batch_size)."""
    rng = np.random.default_rng(seed)
    per_epoch = images // recipe.batch_size
    epochs = [rng.permutation(images)[: per_epoch * recipe.batch_size] for _ in range(int(recipe.epochs))]
    return np.concatenate(epochs).reshape(-1, recipe.batch_size).astype(np.int32)


def _chunks(order: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), length):
        yield order[start : start + length]


def _named(qparams: Any) -> dict[str, float]:
    """The numbers under "scale/LAYER.weight", "scale/LAYER.act" and so on."""
    named = {}
    for path, value in nnx.to_flat_state(qparams):
        *layer, _slot, side, _, name = (str(part) for part in path)
        named[f"{name}/{'.'.join(layer)}.{side}"] = float(value.get_value())
    return named
