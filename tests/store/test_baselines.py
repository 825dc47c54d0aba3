"""Baselines as files: found again whole, and only when they are whole."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from qresearch.models.checkpoint import CheckpointError
from qresearch.models.cnn import CNN
from qresearch.store.baselines import load_baseline, save_baseline
from qresearch.store.shared import Shared

INGREDIENTS = {"seed": 0, "model": {"width": 2}, "data": {"name": "digits"}, "baseline": {"epochs": 1}}
CURVES = [{"step": 1, "loss": 2.5, "accuracy": 0.25}]


def network(seed, width=2):
    return CNN(width=width).build((8, 8, 1), 10, rngs=nnx.Rngs(seed))


def arrays(model):
    return jax.device_get(jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat))))


def assert_same(a, b):
    for one, other in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def path(tmp_path):
    """Of a baseline that was saved, without its endings."""
    save_baseline(tmp_path / "baselines" / "0123abcd", (network(0), CURVES))
    return tmp_path / "baselines" / "0123abcd"


def test_kept_and_found(path):
    model = network(1)
    assert load_baseline(path, model) == (model, CURVES)
    assert_same(model, network(0))
    assert sorted(file.name for file in path.parent.iterdir()) == ["0123abcd.curves.json", "0123abcd.safetensors"]
    assert json.loads(path.with_suffix(".curves.json").read_text()) == CURVES


@pytest.mark.parametrize("ending", [".safetensors", ".curves.json"])
def test_half_of_a_baseline_is_none(ending, path):
    path.with_suffix(ending).unlink()
    model = network(1)
    assert load_baseline(path, model) is None
    assert_same(model, network(1))


def test_a_damaged_baseline_is_an_error_that_names_it(path):
    checkpoint = path.with_suffix(".safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=checkpoint.name):
        load_baseline(path, network(1))


def test_where_nothing_is(tmp_path):
    assert load_baseline(tmp_path / "none" / "0123abcd", network(0)) is None
    assert not (tmp_path / "none").exists()


def kept(shared, ingredients, seed):
    """The baseline of these ingredients, made with this seed where there is none; and whether it was made."""
    made, model = [], network(9)

    def make():
        made.append(seed)
        return network(seed), CURVES

    found = shared.get(
        "baselines", ingredients, make=make, load=lambda path: load_baseline(path, model), save=save_baseline
    )
    return found[0], bool(made)


def test_found_whatever_the_order_of_the_keys(tmp_path):
    kept(Shared(tmp_path), INGREDIENTS, 0)
    reordered = {key: INGREDIENTS[key] for key in reversed(INGREDIENTS)}
    found, made = kept(Shared(tmp_path), reordered, 1)
    assert not made
    assert_same(found, network(0))


@pytest.mark.parametrize("change", [{"seed": 1}, {"model": {"width": 3}}, {"baseline": {"epochs": 2}}, {"extra": 1}])
def test_other_ingredients_are_another_baseline(change, tmp_path):
    kept(Shared(tmp_path), INGREDIENTS, 0)
    found, made = kept(Shared(tmp_path), INGREDIENTS | change, 1)
    assert made and len(list((tmp_path / "baselines").glob("*.safetensors"))) == 2
    assert_same(found, network(1))
    first, made = kept(Shared(tmp_path), INGREDIENTS, 2)
    assert not made
    assert_same(first, network(0))
