"""Rules: the first match decides, and whatever a person may have got wrong is said."""

import pytest

from qresearch.core.spec import Granularity, QuantSpec
from qresearch.grids.integer import Integer, ZeroPoint
from qresearch.nn.rules import Assignment, Rule, assign, check_act_granularity
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static

PATHS = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "linear"]


def test_the_first_match_wins():
    first, inner, rest = Rule("conv1|linear"), Rule(r"layer\d\..*"), Rule(".*")
    assert assign(["conv1", "layer1.0.conv1", "head"], [first, inner, rest]) == {
        "conv1": first,
        "layer1.0.conv1": inner,
        "head": rest,
    }
    chosen = assign(PATHS, [Rule("linear"), Rule(".*", weight=Assignment(QuantSpec(Integer(4)), Static(AbsMax())))])
    assert list(chosen) == PATHS
    assert [rule.weight is None for rule in chosen.values()] == [False, False, False, True]


def test_a_rule_matches_the_whole_path():
    with pytest.raises(
        ValueError, match=r"^The rules \['conv'\] decide no layer\. Layers of this model: \['conv1', .*whole path"
    ):
        assign(PATHS, [Rule("conv"), Rule(".*")])


def test_a_layer_that_no_rule_decides():
    with pytest.raises(
        ValueError, match=r"^No rule decides the layers \['conv1', 'linear'\]; add a last rule with match='\.\*'"
    ):
        assign(PATHS, [Rule(r"layer1\..*")])


def test_a_rule_that_comes_too_late():
    with pytest.raises(ValueError, match=r"^The rules \['linear'\] decide no layer"):
        assign(PATHS, [Rule(".*"), Rule("linear")])


def test_a_pattern_that_is_no_expression():
    with pytest.raises(ValueError, match=r"^match='conv\(' is not a regular expression: .*position 4"):
        Rule("conv(")


def test_an_activation_has_no_stored_scale_for_each_sample():
    per_token = QuantSpec(Integer(8), Granularity.channel)
    check_act_granularity(
        [
            Rule(".*", act=Assignment(per_token, Dynamic(AbsMax()))),
            Rule(".*", act=Assignment(QuantSpec(Integer(8)), Static(AbsMax()))),
        ]
    )
    check_act_granularity([Rule(".*", weight=Assignment(per_token, Static(AbsMax())))])
    with pytest.raises(
        ValueError, match=r"^act\.granularity=channel with a stored scale \(rule 'conv\.\*'\): .* dynamic quantizer"
    ):
        check_act_granularity([Rule("conv.*", act=Assignment(per_token, Static(AbsMax())))])


@pytest.mark.parametrize("quantizer", [LSQ(AbsMax()), Static(MeanMagnitude()), Dynamic(MeanMagnitude())], ids=repr)
def test_an_assignment_whose_parts_do_not_fit_its_grid(quantizer):
    with pytest.raises(ValueError, match=r"^grid.zero_point: .*; use "):
        Assignment(QuantSpec(Integer(4, ZeroPoint.integer)), quantizer)
    Assignment(QuantSpec(Integer(4, signed=None)), quantizer)  # an open sign is no obstacle


def test_a_gradient_has_no_stored_scale():
    spec = QuantSpec(Integer(8))
    assert Rule(".*", grad=Assignment(spec, Dynamic(AbsMax()))).grad is not None
    for quantizer in (Static(AbsMax()), LSQ(AbsMax())):
        name = type(quantizer).__name__
        with pytest.raises(ValueError, match=rf"^grad\.quantizer={name}: .*not seen by calibration; use .*dynamic"):
            Rule(".*", grad=Assignment(spec, quantizer))
