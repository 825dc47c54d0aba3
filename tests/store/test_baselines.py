"""Baselines: found again by what they were made from, and only when they are whole."""

import jax
import numpy as np
import pytest
from flax import nnx

from qresearch.models.checkpoint import CheckpointError
from qresearch.models.cnn import CNN
from qresearch.store.baselines import BaselineStore

INGREDIENTS = {"seed": 0, "model": {"width": 2}, "data": {"name": "digits"}, "baseline": {"epochs": 1}}
CURVES = [{"step": 1, "loss": 2.5, "accuracy": 0.25}]


def network(seed, width=2):
    return CNN(width=width).build((8, 8, 1), 10, rngs=nnx.Rngs(seed))


def arrays(model):
    return jax.device_get(jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat))))


@pytest.fixture
def store(tmp_path):
    store = BaselineStore(tmp_path / "baselines")
    store.save(network(0), INGREDIENTS, CURVES)
    return store


def test_kept_and_found(store):
    model = network(1)
    assert store.load(model, INGREDIENTS) == CURVES
    for kept, loaded in zip(arrays(network(0)), arrays(model), strict=True):
        np.testing.assert_array_equal(kept, loaded)


def test_found_whatever_the_order_of_the_keys(store):
    reordered = {key: INGREDIENTS[key] for key in reversed(INGREDIENTS)}
    assert store.load(network(1), reordered) == CURVES


@pytest.mark.parametrize("change", [{"seed": 1}, {"model": {"width": 3}}, {"baseline": {"epochs": 2}}, {"extra": 1}])
def test_other_ingredients_are_another_baseline(change, store):
    model = network(1)
    before = arrays(model)
    assert store.load(model, INGREDIENTS | change) is None
    for kept, now in zip(before, arrays(model), strict=True):
        np.testing.assert_array_equal(kept, now)
    store.save(model, INGREDIENTS | change, [])
    assert len(list(store.folder.iterdir())) == 4
    assert store.load(network(1), INGREDIENTS) == CURVES


@pytest.mark.parametrize("suffix", [".safetensors", ".curves.json"])
def test_half_of_a_baseline_is_none(suffix, store):
    (part,) = store.folder.glob(f"*{suffix}")
    part.unlink()
    assert store.load(network(1), INGREDIENTS) is None


def test_a_damaged_baseline_is_an_error_that_names_it(store):
    (path,) = store.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=path.name):
        store.load(network(1), INGREDIENTS)


def test_an_empty_store(tmp_path):
    assert BaselineStore(tmp_path / "none").load(network(0), INGREDIENTS) is None
    assert not (tmp_path / "none").exists()
