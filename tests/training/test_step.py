"""The compiled step: many in one scan are the same as one after another, and runs that differ in numbers share it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.core.program import count_programs
from qresearch.core.stack import stack, unstack
from qresearch.data.normalise import Normalise
from qresearch.training.augment import Augment
from qresearch.training.optimizer import SGD
from qresearch.training.step import (
    Problem,
    TrainState,
    mean_and_least_together,
    split_model,
    start_training,
    start_training_together,
    train_step,
    train_step_together,
    train_steps,
    train_steps_together,
)

IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 9, size=(24, 3, 3, 1)), jnp.uint8)
LABELS = jnp.arange(24, dtype=jnp.int32) % 3
NORMALISE = Normalise(np.float32(8), np.full((1, 1, 1, 1), 0.5, np.float32), np.ones((1, 1, 1, 1), np.float32))


class Net(nnx.Module):
    """With batch norm, whose statistics every step writes."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.norm = nnx.Linear(9, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x.reshape(x.shape[0], -1)))))


def build():
    net, rng = nnx.eval_shape(Net), np.random.default_rng(2)
    nnx.update(
        net, jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), leaf.dtype), nnx.state(net))
    )
    return net


def start(recipe, seed=0, augment=Augment()):  # noqa: B008 - frozen
    graphdef, parts = split_model(build())
    problem = Problem(IMAGES, LABELS, NORMALISE, recipe, 6, jax.random.key(seed), augment)
    return graphdef, TrainState(*parts, start_training(recipe, *parts[:2])), problem


ORDER = np.random.default_rng(1).permutation(24).reshape(6, 4).astype(np.int32)


def test_a_scan_is_the_loop():
    graphdef, first, problem = start(SGD(0.1, batch_size=4), augment=Augment(flip=True, crop=1))
    state, losses = first, []
    for number, index in enumerate(ORDER):
        state, metrics = train_step(graphdef, state, problem, index, np.int32(number))
        losses.append(metrics["loss"])
    scanned, metrics = train_steps(graphdef, first, problem, ORDER[:3], np.int32(0))
    scanned, more = train_steps(graphdef, scanned, problem, ORDER[3:], np.int32(3))
    # Two programs: sums may be added in another order.
    np.testing.assert_allclose(np.concatenate([metrics["loss"], more["loss"]]), losses, rtol=1e-5)
    assert_close(scanned.weights, state.weights)
    before, after = (s.statistics for s in (first, state))
    assert not np.allclose(before["norm"]["mean"], after["norm"]["mean"])


def assert_close(a, b):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), nnx.to_pure_dict(a), nnx.to_pure_dict(b)
    )


def test_cells_side_by_side_take_the_steps_that_they_take_alone():
    """Each with its own rate, key and batches; one step at a time, and several in a scan."""
    recipes = [SGD(rate, batch_size=4) for rate in (0.1, 0.3)]
    orders = np.stack([ORDER, ORDER[::-1]], axis=1)
    started = [start(recipe, seed, Augment(flip=True, crop=1)) for seed, recipe in enumerate(recipes)]
    graphdef, _, problem = started[0]
    states = stack([state for _, state, _ in started])
    optimizer = start_training_together(stack(recipes), states.weights, states.qparams)
    together = states._replace(optimizer=optimizer)
    own = {"recipe": stack(recipes), "key": stack([problem.key for *_, problem in started])}
    problem = dataclasses.replace(problem, **own)
    losses = []
    for number, index in enumerate(orders[:3]):
        together, metrics = train_step_together(graphdef, together, problem, index, np.int32(number))
        losses.append(metrics["loss"])
    together, metrics = train_steps_together(graphdef, together, problem, orders[3:], np.int32(3))
    losses += list(metrics["loss"])
    for cell, (graphdef, state, problem) in enumerate(started):
        for number, index in enumerate(orders[:, cell]):
            state, metrics = train_step(graphdef, state, problem, index, np.int32(number))
            np.testing.assert_allclose(losses[number][cell], metrics["loss"], rtol=1e-5)
        found = unstack(together, 2)[cell]
        assert_close(found.weights, state.weights)
        assert_close(found.statistics, state.statistics)


def test_the_mean_and_the_least_of_the_numbers_of_each_cell():
    numbers = {"a": jnp.asarray([[1.0, 3.0], [-2.0, 4.0], [5.0, 5.0]]), "b": jnp.asarray([7.0, 8.0, 9.0])}
    found = mean_and_least_together(3, numbers)
    np.testing.assert_array_equal(found, [[[2, 1], [7, 7]], [[1, -2], [8, 8]], [[5, 5], [9, 9]]])
    assert mean_and_least_together(3, {}).shape == (3, 0, 2)  # a network whose quantizers keep nothing


def test_the_metrics_are_those_of_the_batch_before_the_update():
    graphdef, state, problem = start(SGD(0.1, batch_size=4))
    _, metrics = train_step(graphdef, state, problem, ORDER[0], np.int32(0))
    x = np.asarray(IMAGES)[ORDER[0]].astype(np.float32) / 8 - 0.5
    logits = np.asarray(jax.jit(lambda net, x: net(x))(build(), x), np.float64)
    labels = np.asarray(LABELS)[ORDER[0]]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    assert metrics["accuracy"] == np.mean(logits.argmax(axis=1) == labels)


def test_other_numbers_share_the_programs():
    def run(recipe, seed):
        graphdef, state, problem = start(recipe, seed)
        return train_step(graphdef, state, problem, ORDER[0], np.int32(0))[0].weights["last"]["bias"][...]

    first = run(SGD(0.1, momentum=0.8, batch_size=4), 0)
    with count_programs() as counted:
        second = run(SGD(0.3, momentum=0.7, weight_decay=0.1, batch_size=4), 1)
    assert counted == {} and not np.allclose(first, second)
