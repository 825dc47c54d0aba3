"""The training loop: epochs of shuffled batches, with curves.

On a CPU it is a Python loop over a compiled step: XLA runs the weight gradients of convolutions inside a scan
about 90 times slower there (jax issue 12868). On an accelerator many steps are scanned in one program. This
file alone decides.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from qresearch.core.stack import spread, stack, unstack
from qresearch.training.augment import Augment
from qresearch.training.optimizer import Recipe
from qresearch.training.step import (
    Problem,
    TrainState,
    mean_and_least,
    mean_and_least_together,
    split_model,
    start_training,
    start_training_together,
    train_step,
    train_step_together,
    train_steps,
    train_steps_together,
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


class Trained(NamedTuple):
    """What training made of one model: its curves, and why it was broken off."""

    curves: Curves
    diverged: Diverged | None


def fit(
    models: Sequence[nnx.Module],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    name: str = "optim",
    normalise: Callable,
    augment: Augment,
    listen: Callable[[int, int, int, dict[str, float | int]], None],
) -> list[Trained]:
    """Train models of one structure in place on stored pixels (n, h, w, c) and labels (n,), several of them side by
    side; each has its recipe and its seed, and all recipes are of one structure and length.

    An epoch is n // batch_size steps over a new permutation; the remainder rests until the next.
    `listen(number, step, total, point)` hears each point of the curves of each model as it is made. Batch norm behaves
    as the models were left (`train()` or `eval()`).

    A model whose loss or quantizer's number is not finite, or whose learned scale is not positive, has diverged and
    keeps its weights. `name` is what messages call the recipe. Raises ValueError for fewer images than one batch.
    """
    check_batch(recipes[0], len(images), name)
    total = len(images) // recipes[0].batch_size * int(recipes[0].epochs)
    graphdef, state = _start(models, recipes)
    problem = _problem(images, labels, normalise, augment, recipes, seeds, total)
    orders = np.stack([_order(len(images), *cell) for cell in zip(recipes, seeds, strict=True)], axis=1)
    names = _names(state.qparams)
    trained = [Trained([], None) for _ in models]
    for chunk in _one_behind(_train(graphdef, state, problem, orders)):
        for number, (point, least) in enumerate(_points(len(models), names, chunk)):
            if trained[number].diverged is None:
                trained[number] = _judge(trained[number], point, least, name)
            if trained[number].diverged is None:
                listen(number, chunk.done, total, point)
        state = chunk.state
        if all(cell.diverged for cell in trained):
            break
    learned = (state.weights, state.qparams, state.statistics)
    parts = [learned] if len(models) == 1 else unstack(learned, len(models))
    for model, part, cell in zip(models, parts, trained, strict=True):
        if cell.diverged is None:
            nnx.update(model, *part)
    return trained


def _start(models: Sequence[nnx.Module], recipes: Sequence[Recipe]) -> tuple[Any, TrainState]:
    """The structure of the models and the state of their training, with an axis of cells for more than one."""
    graphdef, first = split_model(models[0])
    if len(models) == 1:
        return graphdef, TrainState(*first, start_training(recipes[0], *first[:2]))
    weights, qparams, statistics, rest = stack([split_model(model)[1] for model in models])
    optimizer = start_training_together(stack(recipes), weights, qparams)
    return graphdef, TrainState(weights, qparams, statistics, rest, optimizer)


def _problem(
    images: np.ndarray,
    labels: np.ndarray,
    normalise: Callable,
    augment: Augment,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    total: int,
) -> Problem:
    keys = [jax.random.key(seed) for seed in seeds]
    own = (recipes[0], keys[0]) if len(recipes) == 1 else (stack(recipes), stack(keys))
    return Problem(jax.device_put(images), jax.device_put(labels), normalise, own[0], total, own[1], augment)


class _Chunk(NamedTuple):
    """What some steps in a row have made, still on the device."""

    done: int  # steps up to their end
    state: TrainState
    metrics: Any  # of every step, and of every cell if there are several
    summary: jax.Array  # the mean and the least of the quantizers' numbers, (cells, numbers, 2)


def _train(graphdef: Any, state: TrainState, problem: Problem, orders: np.ndarray) -> Iterator[_Chunk]:
    """Take the steps of `orders` (steps, cells, batch)."""
    length = math.ceil(len(orders) / POINTS)
    for start in range(0, len(orders), length):
        indices = orders[start : start + length]
        state, metrics = _advance(graphdef, state, problem, indices, start)
        if orders.shape[1] == 1:
            summary = mean_and_least(state.qparams)[None]
        else:  # the axis of cells may have been filled up
            summary = mean_and_least_together(len(metrics["loss"][0]), state.qparams)
        yield _Chunk(start + len(indices), state, metrics, summary)


def _one_behind(chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
    """The same chunks, each after the next one was begun, so that the device has work while numbers are fetched."""
    waiting = next(chunks)
    for chunk in chunks:
        yield waiting
        waiting = chunk
    yield waiting


def _advance(
    graphdef: Any, state: TrainState, problem: Problem, indices: np.ndarray, done: int
) -> tuple[TrainState, Any]:
    one, many = (train_step, train_steps) if indices.shape[1] == 1 else (train_step_together, train_steps_together)
    indices = indices[:, 0] if indices.shape[1] == 1 else spread(indices, axis=1)
    if jax.default_backend() != "cpu":
        return many(graphdef, state, problem, indices, np.int32(done))
    history = []
    for offset, index in enumerate(indices):
        state, metrics = one(graphdef, state, problem, index, np.int32(done + offset))
        history.append(metrics)
    return state, {name: [metrics[name] for metrics in history] for name in history[0]}


def _points(cells: int, names: list[str], chunk: _Chunk) -> list[tuple[dict[str, float | int], dict[str, float]]]:
    """For each cell the point of its curves, and the least of its quantizers' numbers."""
    metrics, summary = jax.device_get((chunk.metrics, chunk.summary))
    averages = {name: np.mean(np.stack(values).reshape(len(values), -1), axis=0) for name, values in metrics.items()}
    found = []
    for number in range(cells):
        mean, least = (dict(zip(names, summary[number, :, i].tolist(), strict=True)) for i in (0, 1))
        values = {name: float(value[number]) for name, value in averages.items()}
        found.append(({"step": chunk.done} | values | mean, least))
    return found


def _judge(trained: Trained, point: dict[str, float | int], least: dict[str, float], name: str) -> Trained:
    """The training with this point, or broken off at it."""
    broken = [(key, value) for key, value in point.items() if not math.isfinite(value)]
    broken += [(key, value) for key, value in least.items() if key.startswith(POSITIVE) and value <= 0]
    if broken:
        return Trained(trained.curves, Diverged(name, *broken[0], int(point["step"]), trained.curves))
    return Trained([*trained.curves, point], None)


def _order(images: int, recipe: Recipe, seed: int) -> np.ndarray:
    """The images of every step, (steps, batch_size)."""
    rng = np.random.default_rng(seed)
    per_epoch = images // recipe.batch_size
    epochs = [rng.permutation(images)[: per_epoch * recipe.batch_size] for _ in range(int(recipe.epochs))]
    return np.concatenate(epochs).reshape(-1, recipe.batch_size).astype(np.int32)


def _names(qparams: Any) -> list[str]:
    """The names "scale/LAYER.weight", "scale/LAYER.act" and so on of the numbers, in the order of the leaves."""
    names = []
    for path, _ in nnx.to_flat_state(qparams):
        *layer, _slot, side, _, name = (str(part) for part in path)
        names.append(f"{name}/{'.'.join(layer)}.{side}")
    return names
