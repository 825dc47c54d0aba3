"""The CIFAR ResNet: the paper's sizes, the shortcut without parameters, and the accuracy of public weights."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.data.cifar10 import CIFAR10
from qresearch.data.normalise import normalise_for
from qresearch.evaluation.accuracy import accuracy
from qresearch.models.checkpoint import load_checkpoint
from qresearch.models.resnet import BasicBlock, ResNet
from qresearch.nn.slots import slots

DATA = os.environ.get("QRESEARCH_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="QRESEARCH_DATA names no folder of data files")


def abstract(depth, shape=(32, 32, 3), classes=10):
    return nnx.eval_shape(lambda: ResNet(depth).build(shape, classes, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269722), (32, 464154), (56, 853018)])
def test_parameters(depth, parameters):
    """He et al. 2016, table 6, gives 0.27M, 0.46M and 0.85M; the public checkpoints have these."""
    model = abstract(depth)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == parameters
    assert len(slots(model)) == depth  # the layers that give the network its name


def test_every_convolution_is_paired_with_its_norm():
    model = abstract(14)
    paired = {
        ".".join(map(str, (*path, layer)))
        for path, module in nnx.iter_modules(model)
        for layer, _ in getattr(module, "norm_pairs", ())
    }
    assert paired == set(slots(model)) - {"linear"}


def silenced(channels_in, channels, stride):
    """A block whose convolutions give nothing, so that the shortcut alone is left."""
    block = nnx.eval_shape(lambda: BasicBlock(channels_in, channels, stride, rngs=nnx.Rngs(0)))
    nnx.update(block, jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape), leaf.dtype), nnx.state(block)))
    block.eval()
    return block


@jax.jit
def run(block, x):
    return block(x)


@pytest.mark.parametrize(("channels_in", "channels", "stride"), [(2, 2, 1), (2, 4, 2), (4, 8, 2)])
def test_the_shortcut_against_a_loop(channels_in, channels, stride):
    """Option A: every second pixel, and zero channels, half of them on each side."""
    block = silenced(channels_in, channels, stride)
    x = np.random.default_rng(0).uniform(0.1, 1.0, size=(2, 6, 6, channels_in)).astype(np.float32)
    size, before = 6 // stride, (channels - channels_in) // 2
    expected = np.zeros((2, size, size, channels), np.float32)
    for n, i, j, c in np.ndindex(2, size, size, channels_in):
        expected[n, i, j, before + c] = x[n, i * stride, j * stride, c]
    np.testing.assert_array_equal(run(block, x), expected)


def test_the_block_adds_before_the_last_relu():
    block = silenced(2, 2, 1)
    block.bn2.bias[...] = jnp.array([-0.5, 0.25])
    out = np.asarray(run(block, np.full((2, 6, 6, 2), 0.4, np.float32)))
    assert np.all(out[..., 0] == 0)
    np.testing.assert_allclose(out[..., 1], 0.65, rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_a_depth_that_is_none(depth):
    with pytest.raises(
        ValueError, match=rf"^depth={depth} is not 6n \+ 2 with n >= 1; choose 8, 14, 20, 32, 44, 56 or 110\.$"
    ):
        ResNet(depth)


@functools.cache
def resnet20():
    model = abstract(20)
    load_checkpoint(model, Path(DATA) / "resnet20_cifar10.safetensors")
    model.eval()
    return model


@needs_data
def test_public_weights_on_500_test_images():
    """455 of them are right by an evaluation that shares no code with this one: NCHW, on the tensors of the file."""
    images, labels = CIFAR10().test()
    (found,) = accuracy([resnet20()], images[:500], labels[:500], normalise_for(CIFAR10()))
    assert found["top1"] == pytest.approx(100 * 455 / 500)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("depth", "top1"), [(20, 91.73), (32, 92.63), (56, 93.39)])
def test_public_weights_on_all_test_images(depth, top1):
    """The accuracies that the origin of the checkpoints states."""
    model = abstract(depth)
    load_checkpoint(model, Path(DATA) / f"resnet{depth}_cifar10.safetensors")
    model.eval()
    (found,) = accuracy([model], *CIFAR10().test(), normalise_for(CIFAR10()))
    assert found["top1"] == pytest.approx(top1, abs=1e-6)
