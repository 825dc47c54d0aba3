"""Checkpoints: the names and layouts of PyTorch, every misfit listed, and a file that is whole or not there."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from qresearch.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from qresearch.models.cnn import CNN

ABSTRACT = nnx.eval_shape(lambda: CNN(3).build((8, 8, 2), 4, rngs=nnx.Rngs(0)))


def build(seed):
    """A network with random numbers everywhere, batch statistics included."""
    model, rng = nnx.clone(ABSTRACT), np.random.default_rng(seed)
    nnx.update(model, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), nnx.state(model)))
    return model


@pytest.fixture
def model():
    return build(seed=0)


@pytest.fixture
def path(model, tmp_path):
    save_checkpoint(model, tmp_path / "folder" / "model.safetensors")
    return tmp_path / "folder" / "model.safetensors"


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_round_trip(model, path):
    other = build(seed=1)
    load_checkpoint(other, path)
    assert_same(other, model)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_a_model_without_numbers_is_filled(model, path):
    abstract = nnx.clone(ABSTRACT)
    load_checkpoint(abstract, path)
    assert_same(abstract, model)


def test_names_and_layouts_are_those_of_pytorch(model, path):
    tensors = safetensors.numpy.load_file(path)
    norms = [f"bn{n}.{name}" for n in (1, 2) for name in ("weight", "bias", "running_mean", "running_var")]
    assert set(tensors) == {"conv1.weight", "conv2.weight", "linear.weight", "linear.bias", *norms}
    kernel, weight = np.asarray(model.conv2.kernel), tensors["conv2.weight"]
    assert weight.shape == (6, 3, 3, 3)
    for o, i, h, w in np.ndindex(weight.shape):
        assert weight[o, i, h, w] == kernel[h, w, i, o]
    np.testing.assert_array_equal(tensors["linear.weight"], np.asarray(model.linear.kernel).T)
    np.testing.assert_array_equal(tensors["bn1.running_var"], model.bn1.var[...])


def test_every_misfit_is_listed(path):
    tensors = safetensors.numpy.load_file(path)
    del tensors["bn1.weight"], tensors["linear.bias"]
    tensors |= {"head.weight": np.zeros((2, 2), np.float32), "conv1.weight": np.zeros((3, 2, 5, 5), np.float32)}
    safetensors.numpy.save_file(tensors, path)
    model = build(seed=1)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(model, path)
    assert str(raised.value).splitlines() == [
        f"{path} does not fit CNNModel:",
        "  extra: head.weight",
        "  misshapen: conv1.weight is (3, 2, 5, 5), the model has (3, 2, 3, 3)",
        "  missing: bn1.weight",
        "  missing: linear.bias",
        "Check model and model.depth.",
    ]
    assert_same(model, build(seed=1))  # nothing was loaded in part


def test_counters_of_batches_are_passed_over(model, path):
    tensors = safetensors.numpy.load_file(path) | {"bn1.num_batches_tracked": np.array(7)}
    safetensors.numpy.save_file(tensors, path)
    other = build(seed=1)
    load_checkpoint(other, path)
    assert_same(other, model)


def test_other_precisions_become_the_models(model, path):
    tensors = {name: value.astype(np.float16) for name, value in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(tensors, path)
    other = build(seed=1)
    load_checkpoint(other, path)
    assert other.conv1.kernel.dtype == jnp.float32
    np.testing.assert_allclose(other.conv1.kernel[...], model.conv1.kernel[...], rtol=1e-3)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b"\x80\x04pickle" * 9])
def test_a_file_that_is_none(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors cannot be read as safetensors: .* Fetch or train it again\.$"
    ):
        load_checkpoint(build(seed=1), path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors cannot be read"):
        load_checkpoint(build(seed=1), tmp_path / "none.safetensors")


def test_a_write_that_fails_leaves_the_old_file(model, path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    content = path.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_checkpoint(build(seed=1), path)
    assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 1
