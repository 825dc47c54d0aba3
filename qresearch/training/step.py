"""One training step, from a batch of stored pixels to updated weights and quantizer numbers.

The programs `..._together` take the step for several cells side by side; `jax.vmap` makes them of the same step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from qresearch.core.program import Static, program
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.nn.clock import set_clock
from qresearch.nn.fake_quant import QParam
from qresearch.training.augment import Augment
from qresearch.training.optimizer import Recipe


class TrainState(NamedTuple):
    """What is trained, as trees of plain arrays, which are cheaper to call a program with than nnx.Variables are."""

    weights: Any  # the model's nnx.Param
    qparams: Any  # the numbers of its quantizers
    statistics: Any  # its nnx.BatchStat
    rest: Any  # what no step changes
    optimizer: Any


@pytree_dataclass
class Problem:
    """What is trained on: stored pixels, their labels, and how a batch of them becomes an input."""

    images: jax.Array = leaf()
    labels: jax.Array = leaf()
    normalise: Callable = leaf()
    recipe: Recipe = leaf()
    total_steps: int | jax.Array = leaf()
    key: jax.Array = leaf()
    augment: Augment = leaf()


def split_model(model: nnx.Module) -> tuple[Any, tuple[Any, Any, Any, Any]]:
    """(graphdef as a static argument, (weights, qparams, statistics, rest))"""
    graphdef, *parts = nnx.split(model, nnx.Param, QParam, nnx.BatchStat, ...)
    weights, qparams, statistics, rest = nnx.as_pure(parts)
    return Static(graphdef), (weights, qparams, statistics, rest)


@program
def start_training(recipe, weights, qparams):
    """The optimizer's first state."""
    return recipe.transformation(jnp.zeros(())).init((weights, qparams))


def step(graphdef, state: TrainState, problem: Problem, index, number):
    """One update; returns the new state and the metrics of the batch that `index` names."""
    images = problem.normalise(problem.images[index])
    key = jax.random.fold_in(problem.key, number)
    images = problem.augment(images, key=key)
    labels = problem.labels[index]

    def loss_of(trained):
        # A copy: batch statistics are written inside the gradient. Of the key, 0 and 1 are the augmentation's.
        model = nnx.merge(graphdef.value, *trained, state.statistics, state.rest, copy=True)
        set_clock(model, progress=number / problem.total_steps, key=jax.random.fold_in(key, 2))
        logits = model(images)
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        return loss, (logits, nnx.as_pure(nnx.state(model, nnx.BatchStat)))

    trained = (state.weights, state.qparams)
    (loss, (logits, statistics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
    transformation = problem.recipe.transformation(number / problem.total_steps)
    update, optimizer = transformation.update(gradient, state.optimizer, trained)
    weights, qparams = jax.tree.map(lambda value, change: value + change, trained, update)
    accuracy = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
    return TrainState(weights, qparams, statistics, state.rest, optimizer), {"loss": loss, "accuracy": accuracy}


@program(static_argnums=0)
def train_step(graphdef, state, problem, index, number):
    return step(graphdef, state, problem, index, number)


@program(static_argnums=0)
def train_steps(graphdef, state, problem, indices, first):
    """As many steps as `indices` has rows, in one program; the metrics gain a leading axis."""
    return _in_a_row(functools.partial(step, graphdef), state, problem, indices, first)


@program
def mean_and_least(qparams):
    """The mean and the least of every quantizer number, (numbers, 2) in the order of the leaves: one array to fetch."""
    return _mean_and_least(qparams)


@program
def start_training_together(recipe, weights, qparams):
    """The optimizers' first states; every leaf has a leading axis of cells, here and below."""
    return jax.vmap(lambda *cell: cell[0].transformation(jnp.zeros(())).init(cell[1:]))(recipe, weights, qparams)


@program(static_argnums=0)
def train_step_together(graphdef, state, problem, index, number):
    return _together(graphdef)(state, problem, index, number)


@program(static_argnums=0)
def train_steps_together(graphdef, state, problem, indices, first):
    """`indices` is (steps, cells, batch), and so are the metrics."""
    return _in_a_row(_together(graphdef), state, problem, indices, first)


@program(static_argnums=0)
def mean_and_least_together(cells, qparams):
    return jax.vmap(_mean_and_least, axis_size=cells)(qparams)  # there may be no numbers, and so no axis to see


def _mean_and_least(qparams):
    numbers = [jnp.stack([jnp.mean(leaf), jnp.min(leaf)]) for leaf in jax.tree.leaves(qparams)]
    return jnp.stack(numbers) if numbers else jnp.zeros((0, 2))


def _together(graphdef):
    def cells(state, problem, index, number):
        def cell(state, recipe, key, index):
            return step(graphdef, state, dataclasses.replace(problem, recipe=recipe, key=key), index, number)

        return jax.vmap(cell)(state, problem.recipe, problem.key, index)

    return cells


def _in_a_row(one_step, state, problem, indices, first):
    def body(state, inputs):
        return one_step(state, problem, *inputs)

    return jax.lax.scan(body, state, (indices, first + jnp.arange(indices.shape[0], dtype=jnp.int32)))
