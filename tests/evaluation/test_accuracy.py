"""Top-1 and loss against numpy, with a last batch that is not full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.program import count_programs
from qresearch.evaluation.accuracy import BATCH, accuracy

RNG = np.random.default_rng(0)


class Net(nnx.Module):
    """Logits that are the pixels themselves."""

    def __call__(self, x):
        return x.reshape(x.shape[0], -1)


@jax.tree_util.register_static
class Tenths:
    def __call__(self, images):
        return images.astype(jnp.float32) / 10

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, Tenths)


def data(count):
    return RNG.integers(0, 100, size=(count, 2, 2, 1)).astype(np.uint8), RNG.integers(0, 4, size=count).astype(np.int32)


def by_numpy(images, labels, shift=0.0):
    logits = images.reshape(len(images), -1).astype(np.float64) / 10 + shift
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return {"top1": 100 * np.mean(logits.argmax(axis=1) == labels), "loss": losses.mean()}


@pytest.mark.parametrize("count", [1, 7, BATCH, 2 * BATCH + 3])
def test_against_numpy(count):
    images, labels = data(count)
    (found,) = accuracy([Net()], images, labels, Tenths())
    assert found == pytest.approx(by_numpy(images, labels), rel=1e-5)


def test_all_batches_share_one_program():
    images, labels = data(3 * BATCH - 1)
    with count_programs() as counted:
        accuracy([nnx.Sequential(Net())], images, labels, Tenths())
    assert counted == {"evaluate_batch": 1}


class Shifted(nnx.Module):
    """The pixels, and a number of its own for each class."""

    def __init__(self, shift):
        self.shift = nnx.Param(jnp.asarray(shift, jnp.float32))

    def __call__(self, x):
        return x.reshape(x.shape[0], -1) + self.shift[...][None]


SHIFTS = 5 * RNG.normal(size=(5, 4))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_models_side_by_side(count):
    images, labels = data(BATCH + 3)
    with count_programs() as counted:
        found = accuracy([Shifted(shift) for shift in SHIFTS[:count]], images, labels, Tenths())
    assert counted == {"evaluate_batch" if count == 1 else "evaluate_batch_together": 1}
    expected = [by_numpy(images, labels, shift) for shift in SHIFTS[:count]]
    assert found == [pytest.approx(each, rel=1e-5) for each in expected]
    assert len({each["loss"] for each in expected}) == count
