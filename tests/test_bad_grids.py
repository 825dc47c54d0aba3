"""What a grid, a scale, a block or an estimator cannot be is said before anything is computed, with the way out."""

import hydra
import jax.numpy as jnp
import pytest

from qresearch.cells.cell import prepare
from qresearch.config.check import check
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.qtensor import quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.levels import Levels
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.nn.rules import Assignment
from qresearch.observers.absmax import AbsMax
from qresearch.quantizers.lsq import LSQ


def composed(*overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return prepare(check(hydra.compose("config", ["tracker=none", *overrides])))


# Overrides of a run, and what its error must say.
REFUSED = {
    "unsorted levels": (
        ["format@weight=levels", "weight.bits=2", "weight.grid.levels=[-1,0.5,0.25,1]"],
        "levels are not in rising order: 0.5 is followed by 0.25; sort them",
    ),
    "a level twice": (
        ["format@weight=levels", "weight.bits=2", "weight.grid.levels=[-1,0,0,1]"],
        "0.0 is followed by 0.0",
    ),
    "levels that are not finite": (
        ["format@weight=levels", "weight.bits=2", "weight.grid.levels=[-1,0,inf]"],
        "not all finite; leave out NaN and infinity",
    ),
    "one level": (["format@weight=levels", "weight.bits=1", "weight.grid.levels=[1]"], "a list of 2 to 65536 numbers"),
    "more levels than bits hold": (
        ["format@weight=levels", "weight.bits=2"],
        "weight.bits=2 is no width of the grid levels (7 levels), which has 3",
    ),
    "bits that NF4 does not have": (
        ["format@weight=nf4", "weight.bits=3"],
        "weight.bits=3 is no width of the grid nf4",
    ),
    "bits that e4m3 does not have": (["format@act=e4m3", "act.bits=7"], "act.bits=7 is no width of the grid e4m3fn"),
    "bits of an integer": (["weight.bits=17"], "weight.bits=17 is outside 1..16"),
    "one signed bit": (["weight.bits=1"], "leaves no positive code; use bits >= 2, format@weight=binary"),
    "nine bits of a float": (
        ["format@weight=e4m3", "weight.grid.exponent=5", "weight.bits=9"],
        "at most 8 bits with its sign",
    ),
    "a float that cannot overflow": (
        ["format@weight=e2m1", "weight.grid.saturate=false"],
        "saturate=false with special=finite",
    ),
    "a block that does not divide": (
        ["format@weight=mxfp4", "model=mlp", "model.width=48"],
        "block_size=32 does not divide axis 0 of an array of shape (48,",
    ),
    "a block of the gradient": (
        ["format@grad=mxfp4", "method=qat", "model=mlp"],
        "grad: block_size=32 does not divide axis 1",
    ),
    "a second block that does not divide": (
        ["weight.granularity=block", "weight.block_size=[8,7]", "model=mlp"],
        "block_size=7 does not divide axis 1",
    ),
    "three block sizes": (["weight.granularity=block", "weight.block_size=[8,7,2]"], "or two such numbers"),
    "a power of two without a rule": (["weight.scale_format=e8m0"], "weight.scale_rule=None with scale_format=e8m0"),
    "a rule without a power of two": (["weight.scale_rule=ceil"], "the other formats take none (null)"),
    "LSQ on levels": (
        ["format@weight=nf4", "quantizer@weight.quantizer=lsq"],
        "a grid of equal steps, and this one has none; use quantizer@weight.quantizer=static or dynamic",
    ),
    "LSQ with a zero point": (
        ["weight.grid.zero_point=integer", "quantizer@weight.quantizer=lsq"],
        "LSQ learns a scale and no zero point; use quantizer@weight.quantizer=lsq_plus or static",
    ),
    "a sign estimator on integers": (["estimator@weight.estimator=ede"], "grid=int8"),
    "the mean magnitude on floats": (
        ["format@act=e4m3", "observer@act.observer=mean_magnitude"],
        "grid=e4m3fn: the mean magnitude is a rule for equal steps",
    ),
    "a stored scale for gradients": (
        ["method=qat", "format@grad=e5m2", "quantizer@grad.quantizer=static"],
        "a gradient is not seen by calibration; use quantizer@grad.quantizer=dynamic",
    ),
    "gradients in PTQ": (
        ["method=ptq", "format@grad=e5m2"],
        "grad.bits=8 with method=ptq, which computes no gradients",
    ),
    "advice as it is typed": (
        ["format@act=nf4", "act.bits=4", "quantizer@act.quantizer=lsq"],
        "use quantizer@act.quantizer=static or dynamic",
    ),
    "a key of another grid": (["format@weight=nf4", "+weight.grid.range=narrow"], "weight.grid"),
    "bits inside the grid": (["+weight.grid.bits=4"], "weight.grid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_at_composition(name):
    overrides, message = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        composed(*overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "said"),
    [(0.0, "scale=0.0"), (-0.5, "scale=-0.5"), (jnp.inf, "scale=inf"), (jnp.nan, "scale=nan")],
)
@pytest.mark.parametrize("entry", [quantize, lambda *inputs: fake_quantize(*inputs, ClippedStraightThrough())])
def test_a_scale_that_is_no_positive_number(scale, said, entry):
    scales = jnp.array([[0.5, scale]], jnp.float32)
    with pytest.raises(ValueError, match=said) as caught:
        entry(jnp.ones((4, 2)), scales, None, QuantSpec(Integer(4), "channel"))
    assert "(1 of 2) is not a positive normal number" in str(caught.value)


def test_stochastic_rounding_without_a_key():
    with pytest.raises(ValueError, match=r"needs a random key; pass key=jax.random.key"):
        quantize(jnp.ones(3), jnp.ones(1), None, QuantSpec(Integer(4), rounding="stochastic"))


def test_at_construction():
    with pytest.raises(ValueError, match="LSQ learns the step"):
        Assignment(QuantSpec(Levels([-1.0, 0.0, 1.0])), LSQ(AbsMax()))
    with pytest.raises(ValueError, match="has no number left in its top exponent"):
        MiniFloat(4, 0, Special.fn)
    with pytest.raises(ValueError, match="above zero"):
        Levels([-2.0, -1.0])
    with pytest.raises(ValueError, match="has two lengths"):
        scale_shape((8,), contract=(0,), spec=QuantSpec(Integer(4), "block", (4, 2)))


def test_what_is_float_for_the_run_is_float_in_every_rule():
    rules = composed("act.bits=null", "rules=ends_8bit").rules.values()
    assert [rule.act for rule in rules] == [None] * len(rules)
    assert all(rule.weight is not None for rule in rules)


@pytest.mark.parametrize("quantizer", ["apot", "sawb", "statsq"])
def test_an_observer_that_is_not_asked_is_not_judged(quantizer):
    """method=qat sets observer=mean_magnitude, which is no rule for these grids."""
    grid = "apot" if quantizer == "apot" else "mid_rise"
    chosen = [f"format@weight={grid}", f"quantizer@weight.quantizer={quantizer}", "rules=ends_8bit_plain"]
    assert composed("method=qat", *chosen).rules
