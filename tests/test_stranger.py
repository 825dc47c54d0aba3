"""A stranger adds a number format and a gradient estimator: one file and one yaml each, and nothing else is edited."""

import sys

import hydra
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.cells.cell import prepare
from qresearch.cells.compute import run_cells
from qresearch.config.check import check
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.store.shared import Shared

GRID = '''
"""e3m1: three exponent bits, one mantissa bit, no infinities; 24 is the largest number."""

from qresearch.grids.minifloat import MiniFloat, Special


def e3m1(saturate: bool = True) -> MiniFloat:
    """The grid of e3m1."""
    return MiniFloat(3, 1, Special.finite, saturate)
'''
FORMAT = """
# FP5 e3m1.
bits: 5
grid:
  _target_: stranger_e3m1.e3m1
"""
ESTIMATOR = '''
"""Half of the gradient beyond the range."""

from typing import ClassVar

import jax.numpy as jnp

from qresearch.core.pytree import Number, leaf, pytree_dataclass


@pytree_dataclass
class Leaky:
    """The gradient passes inside the range, and a share of it outside."""

    share: Number = leaf(0.5)
    clips: ClassVar[bool] = False
    scheduled: ClassVar[bool] = False

    def check(self, spec):
        """It fits every grid."""

    def pull(self, g, rounded, progress):
        return jnp.where(rounded.inside, g, self.share * g)
'''
LEAKY = """
# A share of the gradient passes where the value was clipped.
_target_: stranger_leaky.Leaky
share: 0.5
"""
FILES = {
    "stranger_e3m1.py": GRID,
    "stranger_leaky.py": ESTIMATOR,
    "format/e3m1.yaml": FORMAT,
    "estimator/leaky.yaml": LEAKY,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The stranger's folder, where Python and Hydra look for files too."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("stranger_e3m1", "stranger_leaky"):
        sys.modules.pop(name, None)


def compose(folder, *overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        searched = f"hydra.searchpath=[file://{folder}]"
        return check(hydra.compose("config", [searched, *overrides]))


CHOICES = (
    "method=qat",
    "format@weight=e3m1",
    "estimator@weight.estimator=leaky",
    "quantizer@weight.quantizer=dynamic",
    "observer@weight.observer=absmax",
    "model=mlp",
    "baseline.epochs=1",
    "optim.epochs=1",
    "tracker=none",
)


def test_both_train_a_network(folder, tmp_path, standard_dtypes):
    cell = prepare(compose(folder, *CHOICES))
    (outcome,) = run_cells([cell], Shared(tmp_path), lambda *point: None)
    assert outcome.status == "finished" and outcome.metrics["top1"] > 50
    sides = {(row["layer"], row["tensor"]): row for row in outcome.audit}
    weights = [row for (_, tensor), row in sides.items() if tensor == "weight"]
    assert {row["grid"] for row in weights} == {"e3m1"} and {row["estimator"] for row in weights} == {"Leaky"}
    assert outcome.metrics["size_bytes"] < 0.25 * outcome.metrics["size_bytes_float"]


def test_the_grid_is_the_one_that_was_asked_for(folder):
    rules = prepare(compose(folder, *CHOICES)).rules
    grid = next(iter(rules.values())).weight.spec.grid
    # By hand: bias 3, subnormal 0 and 1/8, then two numbers an octave up to 2^4 (1 + 1/2).
    positive = [0.125] + [2.0**k * m for k in range(-2, 5) for m in (1.0, 1.5)]
    np.testing.assert_array_equal(jnp.unique(jnp.abs(grid.decode(jnp.arange(32, dtype=jnp.uint8)))), [0.0, *positive])
    assert int(grid.bits) == 5 and float(grid.high) == 24.0


def test_wrong_bits_and_wrong_keys_are_refused_as_ever(folder):
    with pytest.raises(ValueError, match="bits=4 is no width of the grid e3m1, which has 5"):
        prepare(compose(folder, *CHOICES, "weight.bits=4"))
    with pytest.raises(ValueError, match="Leaky has the keys"):
        compose(folder, *CHOICES, "+weight.estimator.shares=1")
