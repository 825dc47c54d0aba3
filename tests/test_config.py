"""The typed configuration: what it refuses, what a hash sees, and what specs come out of rules."""

import enum
import json
from typing import Any

import hydra
import pytest
from hydra.errors import ConfigCompositionException
from jaxtyping import Array, Float

from qresearch.config.check import check, config_hash
from qresearch.config.nodes import _config_type, build, plain
from qresearch.config.rules import build_rules
from qresearch.config.schema import CONFIG_FOLDER, BatchNorm, ConfigError, Method, RuleConfig, RunConfig, Stack
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec, ScaleFormat
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.models.cnn import CNN
from qresearch.nn.rules import assign
from qresearch.observers.mse import MSE
from qresearch.observers.percentile import Percentile
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static
from qresearch.training.optimizer import Schedule

LAYERS = ["conv1", "conv2", "linear"]


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return check(hydra.compose("config", list(overrides)))


def specs(*overrides):
    """(weight spec, act spec) of every layer, None for a side that stays float."""
    rules = assign(LAYERS, build_rules(compose(*overrides)))
    return {path: tuple(side and side.spec for side in (rule.weight, rule.act)) for path, rule in rules.items()}


def bits(*overrides):
    return {path: tuple(spec and spec.grid.bits for spec in pair) for path, pair in specs(*overrides).items()}


@pytest.mark.parametrize(
    ("override", "value", "rule"),
    [
        ("seed=foo", "foo", "Integer"),
        ("seed=1.5", "1.5", "Integer"),
        ("weight.bits=foo", "foo", "Integer"),
        ("weight.bits=4.5", "4.5", "Integer"),
        ("weight.granularity=row", "row", r"tensor, channel, block"),
        ("act.scale_format=float13", "float13", r"float32, bfloat16, power_of_two, e8m0, e4m3"),
        ("grad.rounding=up", "up", r"half_even, half_away, floor, ceil, stochastic"),
        ("method.name=qat2", "qat2", r"float, ptq, qat"),
        ("method.batch_norm=drop", "drop", r"fold, freeze, train"),
        ("calibration.images=many", "many", "Integer"),
    ],
)
def test_wrong_types_and_choices_fail_in_composition(override, value, rule):
    with pytest.raises(ConfigCompositionException) as caught:
        compose(override)
    assert value in str(caught.value.__cause__)
    assert rule in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width=wide", r"^model\b.*'wide'.*Integer"),
        ("model.width=8.5", r"^model\b.*'8.5'.*Integer"),
        ("data.flip=maybe", r"^data\b.*'maybe'.*bool"),
        ("baseline.learning_rate=fast", r"^baseline\b.*'fast'.*Float"),
        ("weight.grid.signed=maybe", r"^weight\.grid\b.*'maybe'.*bool"),
        ("weight.grid.zero_point=maybe", r"^weight\.grid\b.*'maybe'.*\[none, integer, float\]"),
        ("act.grid.range=wide", r"^act\.grid\b.*'wide'.*\[narrow, full, half_step\]"),
        ("+weight.grid.bits=4", r"^weight\.grid\b.*'bits'"),  # `weight.bits` says it
        ("optim.schedule=linear", r"^optim\b.*'linear'.*\[constant, cosine, steps\]"),
        ("+model.depth=3", r"^model\b.*'depth'(.|\n)*CNN has the keys \['width', 'weights'\]"),
        ("+optim.epoch=3", r"^optim\b.*'epoch'(.|\n)*'epochs'"),
        ("+weight.observer.percentile=99", r"^weight.observer\b.*'percentile'(.|\n)*AbsMax has the keys \[\]"),
        ("+act.quantizer.bits=99", r"^act.quantizer\b.*'bits'"),
        ("weight.observer=mse", r"weight.observer='mse' has no _target_; choose a file of the group configs/observer"),
        ("calibration.batch_size=0", r"calibration.batch_size .* at least 1"),
        ("anatomy_images=0", r"anatomy_images .* at least 1"),
    ],
)
def test_wrong_keys_and_types_of_a_class_are_errors(override, message):
    with pytest.raises(ConfigError, match=message):
        compose(override)


@pytest.mark.parametrize("override", ["weight.bit=4", "sead=1", "method.fold=true", "calibration.image=8"])
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_unknown_keys_are_errors(override, sign):
    """Hydra's own message offers `+`, so that form must not pass either."""
    with pytest.raises((ConfigCompositionException, ConfigError), match=override.partition("=")[0].rpartition(".")[2]):
        compose(sign + override, "method=float")


def test_values_that_a_class_refuses_are_config_errors():
    cfg = compose("observer@act.observer=percentile", "act.observer.percentile=200")
    with pytest.raises(ConfigError, match=r"percentile=200.0 is outside \(0, 100\]"):
        build(cfg.act.observer)
    with pytest.raises(ConfigError, match=r"rules.every: percentile=200.0"):
        build_rules(cfg)


def test_hash_sees_numbers_and_nothing_else():
    first = config_hash(compose())
    assert len(first) == 12 and int(first, 16) >= 0
    for same in (["tracker=none"], ["runs_dir=elsewhere"], ["seed=0", "weight.bits=8"], ["model=cnn"]):
        assert config_hash(compose(*same)) == first
    assert config_hash(compose("act.bits=${weight.bits}")) == first
    different = ["seed=1", "weight.bits=4", "act.bits=null", "model.width=8", "baseline.epochs=1", "method=qat"]
    hashes = [config_hash(compose(override)) for override in different]
    assert len({first, *hashes}) == 1 + len(different)
    assert hashes == [config_hash(compose(override)) for override in different]


def test_hash_is_the_same_for_the_same_number_in_another_spelling():
    spellings = ("optim.learning_rate=1", "optim.learning_rate=1.0", "optim.learning_rate=1e0")
    assert len({config_hash(compose(spelling)) for spelling in spellings}) == 1


def test_check_fills_in_the_defaults_of_the_classes_and_is_idempotent():
    cfg = compose("observer@act.observer=mse", "~act.observer.candidates", "~act.observer.lowest")
    assert build(cfg.act.observer) == MSE()
    assert (cfg.act.observer["candidates"], cfg.act.observer["lowest"]) == (96, 0.05)
    assert plain(check(cfg)) == plain(cfg)
    assert config_hash(check(cfg)) == config_hash(cfg)


def test_check_gives_dataclasses_with_nodes_as_dicts():
    cfg = compose("method=qat", "weight.rounding=floor", "sweep.stack=on", "rules=ends_8bit", "act.scale_format=e8m0")
    assert type(cfg) is RunConfig and (cfg.method.name, cfg.method.batch_norm) == (Method.qat, BatchNorm.train)
    assert (cfg.weight.rounding, cfg.act.scale_format) == (Rounding.floor, ScaleFormat.e8m0)
    assert (cfg.sweep.stack, cfg.sweep.force, cfg.calibration.images, cfg.seed) == (Stack.on, False, 512, 0)
    assert [type(rule) for rule in cfg.rules.values()] == [RuleConfig] * 2
    assert cfg.rules["ends"].weight["bits"] == 8 and cfg.rules["rest"].weight == {}
    assert cfg.model == {"_target_": "qresearch.models.cnn.CNN", "width": 16, "weights": None}
    assert cfg.weight.quantizer["_target_"] == "qresearch.quantizers.lsq.LSQ"


def test_what_another_file_brought_is_as_good_as_what_hydra_composed():
    """A record's configuration, for one, which is plain JSON."""
    cfg = compose("method=qat", "rules=ends_8bit", "weight.bits=3")
    again = check(json.loads(json.dumps(plain(cfg))))
    assert again == cfg and config_hash(again) == config_hash(cfg)


def test_a_configuration_is_not_changed_by_the_next_one():
    """Equal parts are one object for all of them."""
    first = compose("weight.bits=3", "observer@act.observer=mse")
    kept = plain(first)
    second = compose("weight.bits=4", "model.width=8", "rules=ends_8bit")
    assert plain(first) == kept and first.baseline is second.baseline
    assert (first.weight.bits, second.weight.bits) == (3, 4)


def test_plain_is_json_and_resolved():
    content = plain(compose("act.bits=${weight.bits}", "weight.bits=5", "model=resnet", "model.depth=32"))
    assert content["act"]["bits"] == 5
    assert content["weight"]["granularity"] == "channel" and type(content["weight"]["granularity"]) is str
    assert content["model"]["weights"] == "resnet32_cifar10.safetensors"


def test_default_specs():
    for weight, act in specs().values():
        assert weight == QuantSpec(Integer(8, ZeroPoint.none, True, Range.full), Granularity.channel)
        assert act == QuantSpec(Integer(8, ZeroPoint.none, None, Range.full), Granularity.tensor)


def test_null_bits_are_float():
    assert bits("act.bits=null", "weight.bits=4") == dict.fromkeys(LAYERS, (4, None))
    assert bits("weight.bits=null") == dict.fromkeys(LAYERS, (None, 8))
    assert bits("weight.bits=null", "act.bits=null") == dict.fromkeys(LAYERS, (None, None))


def test_bits_by_interpolation():
    assert bits("act.bits=${weight.bits}", "weight.bits=5") == dict.fromkeys(LAYERS, (5, 5))


def test_rules_change_keys_of_their_layers():
    kept = {"conv1": (8, 8), "conv2": (3, 2), "linear": (8, 8)}
    assert bits("rules=ends_8bit", "weight.bits=3", "act.bits=2") == kept
    everywhere = bits("weight.bits=3", "+rules.every.weight.bits=6", "+rules.every.act.bits=null")
    assert everywhere == dict.fromkeys(LAYERS, (6, None))
    found = specs("rules=ends_8bit", "weight.bits=3", "+rules.ends.weight.granularity=tensor")
    assert [found[path][0].granularity for path in LAYERS] == ["tensor", "channel", "tensor"]
    assert bits("rules=ends_8bit", "rules.ends.float=true")["conv1"] == (None, None)


def test_rules_can_change_the_classes():
    rules = assign(
        LAYERS,
        build_rules(
            compose(
                "rules=ends_8bit",
                "observer@weight.observer=percentile",
                "+rules.ends.weight.observer._target_=qresearch.observers.mse.MSE",
                "+rules.ends.weight.observer.candidates=8",
                "+rules.ends.act.quantizer._target_=qresearch.quantizers.dynamic.Dynamic",
            )
        ),
    )
    assert rules["conv1"].weight.quantizer == Static(MSE(candidates=8))
    assert isinstance(rules["conv1"].act.quantizer, Dynamic)
    assert isinstance(rules["conv2"].act.quantizer, Static)


def test_a_rule_with_an_unknown_key_is_an_error():
    with pytest.raises(ConfigError, match=r"rules.every: .*'bit'"):
        build_rules(compose("+rules.every.weight.bit=4"))


def test_a_rule_can_be_added_on_the_command_line():
    rules = build_rules(compose("rules.every.match=conv1", "+rules={rest:{match:'.*',float:true}}"))
    assert [rule.match for rule in rules] == ["conv1", ".*"]
    assert rules[0].weight.spec.grid.bits == 8 and rules[1].weight is None


def test_build_makes_what_the_node_says():
    cfg = compose("model.width=4", "optim=sgd", "observer@act.observer=percentile", "act.observer.percentile=99")
    assert build(cfg.model) == CNN(width=4)
    assert build(cfg.act.observer) == Percentile(99.0)
    assert build(cfg.optim).schedule is Schedule.cosine
    assert isinstance(build_rules(compose("method=qat"))[0].weight.quantizer, LSQ)


class Colour(enum.StrEnum):
    red = "red"


@pytest.mark.parametrize(
    ("annotation", "held"),
    [
        (int, int),
        (str, str),
        (bool, bool),
        (Colour, Colour),
        (float | int | Float[Array, ""], float),
        (float | Float[Array, ""], float),
        (int | Float[Array, ""], int),
        (float | int | Float[Array, ""] | None, float | None),
        (str | None, str | None),
        (int | str, Any),
        (Float[Array, ""], Any),
        (list[int], Any),
        (Any, Any),
    ],
    ids=str,
)
def test_the_part_of_an_annotation_that_a_config_can_hold(annotation, held):
    assert _config_type(annotation) == held
