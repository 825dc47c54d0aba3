"""The typed configuration of a run, and what is built from it.

Fixed keys are dataclasses here. A node with `_target_` (a model, an observer, an optimizer, ...) is checked
against the dataclass that it names, so a new method brings its own schema. Wrong keys, types and enum values
are errors before anything is computed.
"""

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

import hydra.utils
import jax
import omegaconf
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec, ScaleFormat, ScaleRule
from qresearch.nn.rules import Assignment, Rule, check_act_granularity

PACKAGED = Path(__file__).parent / "configs"
CONFIG_FOLDER = PACKAGED if PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"
SIDES = ("weight", "act", "grad")
PARTS = ("grid", "observer", "quantizer", "estimator")  # of a side: nodes with a `_target_`
APART = ("observer", "bits")  # what a side says itself: a quantizer's observer, and the bits of a grid
UNHASHED = ("tracker", "runs_dir")  # they change no number


class ConfigError(ValueError):
    """A configuration that cannot be run."""


class Method(enum.StrEnum):
    """What is done to the float baseline."""

    float = "float"  # nothing: train or load it, and evaluate
    ptq = "ptq"  # quantize it as it is
    qat = "qat"  # quantize it and train on


class BatchNorm(enum.StrEnum):
    """What becomes of batch norm in the quantized network."""

    fold = "fold"  # folded into the convolution before quantization
    freeze = "freeze"  # kept, with the statistics of the baseline
    train = "train"  # kept, with batch statistics while training (QAT only)


@dataclasses.dataclass
class MethodConfig:
    name: Method = MISSING
    batch_norm: BatchNorm = BatchNorm.fold


@dataclasses.dataclass
class TensorConfig:
    """How a weight, an activation or a gradient is quantized; bits=null keeps it float."""

    bits: int | None = 8
    grid: Any = MISSING
    granularity: Granularity = Granularity.tensor
    block_size: Any = None  # an integer, or two of them
    scale_format: ScaleFormat = ScaleFormat.float32
    scale_rule: ScaleRule | None = None
    rounding: Rounding = Rounding.half_even
    observer: Any = MISSING
    quantizer: Any = MISSING
    estimator: Any = MISSING


@dataclasses.dataclass
class RuleConfig:
    """Layers whose path matches; `weight`, `act` and `grad` change keys of the run's own for them."""

    match: str = MISSING
    float: bool = False
    weight: dict[str, Any] = dataclasses.field(default_factory=dict)
    act: dict[str, Any] = dataclasses.field(default_factory=dict)
    grad: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class CalibrationConfig:
    """The first `images` of the training set, in order, without augmentation."""

    images: int = 512
    batch_size: int = 128


@dataclasses.dataclass
class RunConfig:
    model: Any = MISSING
    data: Any = MISSING
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    weight: TensorConfig = dataclasses.field(default_factory=TensorConfig)
    act: TensorConfig = dataclasses.field(default_factory=TensorConfig)
    grad: TensorConfig = dataclasses.field(default_factory=TensorConfig)  # of the output of each layer
    rules: dict[str, RuleConfig] = dataclasses.field(default_factory=dict)
    ptq: Any = MISSING
    baseline: Any = MISSING  # the recipe of the float baseline
    optim: Any = MISSING  # the recipe of quantization-aware training
    calibration: CalibrationConfig = dataclasses.field(default_factory=CalibrationConfig)
    anatomy_images: int = 256
    tracker: Any = MISSING
    seed: int = 0
    runs_dir: str = "runs"


ConfigStore.instance().store(name="schema", node=RunConfig)


def check(cfg: DictConfig) -> DictConfig:
    """`cfg` with every interpolation resolved and every `_target_` node checked against its dataclass.

    Raises ConfigError with the key, the value and the rule.
    """
    try:
        cfg = DictConfig(plain(OmegaConf.merge(OmegaConf.structured(RunConfig), plain(cfg))))
    except omegaconf.errors.OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    for name in ("model", "data", "ptq", "baseline", "optim", "tracker"):
        cfg[name] = _typed(cfg[name], name)
    for side in SIDES:
        for part in PARTS:
            cfg[side][part] = _typed(cfg[side][part], f"{side}.{part}")
    if cfg.calibration.images < 1 or cfg.calibration.batch_size < 1 or cfg.anatomy_images < 1:
        raise ConfigError("calibration.images, calibration.batch_size and anatomy_images must be at least 1.")
    if not 0 <= cfg.seed < 2**31:
        raise ConfigError(f"seed={cfg.seed} is outside 0..{2**31 - 1}.")
    if cfg.method.name == Method.ptq and cfg.grad.bits is not None:
        raise ConfigError(
            f"grad.bits={cfg.grad.bits} with method=ptq, which computes no gradients; use method=qat, or "
            "format@grad=float32."
        )
    if cfg.method.name == Method.ptq and cfg.method.batch_norm == BatchNorm.train:
        raise ConfigError("method.batch_norm=train needs training; with method=ptq use fold or freeze.")
    return cfg


def config_hash(cfg: DictConfig) -> str:
    """Twelve hex digits that name the numbers of a run: equal for equal resolved configs, tracker and folders aside."""
    kept = {key: value for key, value in plain(cfg).items() if key not in UNHASHED}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def plain(cfg: Any) -> Any:
    """A config as dicts, lists and JSON values."""
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def build(node: DictConfig, **parts: Any) -> Any:
    """The object that a `_target_` node describes, with `parts` that were built apart.

    Raises ConfigError with the object's own complaint about a value.
    """
    target: Any = hydra.utils.get_object(node["_target_"])
    arguments = {key: value for key, value in plain(node).items() if key != "_target_"}
    try:
        for name, kind, _ in _parameters(node):
            if isinstance(kind, type) and issubclass(kind, enum.Enum) and name in arguments:
                arguments[name] = kind(arguments[name])
        return target(**arguments, **parts)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def build_rules(cfg: DictConfig) -> list[Rule]:
    """The rules of a run in their order.

    Raises ConfigError for a spec that is not possible, and for a quantizer or observer that does not fit its
    spec.
    """
    rules = []
    for name, rule in cfg.rules.items():
        try:
            sides = {side: None if rule.float else _assignment(cfg[side], rule[side], side) for side in SIDES}
            rules.append(Rule(rule.match, **sides))
            check_act_granularity(rules)
        except (ValueError, omegaconf.errors.OmegaConfBaseException) as error:
            raise ConfigError(f"rules.{name}: {error}") from error
    return rules


def _assignment(config: DictConfig, changes: DictConfig, side: str) -> Assignment | None:
    replaced = [key for key, value in changes.items() if isinstance(value, DictConfig) and "_target_" in value]
    kept = {key: value for key, value in config.items() if key not in replaced}  # another class has other keys
    merged: Any = OmegaConf.merge(OmegaConf.structured(TensorConfig), kept, changes)
    if config.bits is None or merged.bits is None:  # float for the run, or for these layers
        return None
    nodes = {part: _typed(merged[part], f"{side}.{part}") for part in PARTS}
    choices = [field.name for field in dataclasses.fields(QuantSpec) if field.name != "grid"]
    observer, estimator = build(nodes["observer"]), build(nodes["estimator"])
    try:
        scaling = {key: plain(merged)[key] for key in choices}
        if isinstance(scaling["block_size"], list):
            scaling["block_size"] = tuple(scaling["block_size"])
        spec = QuantSpec(_grid(nodes["grid"], merged.bits), **scaling)
        if side != "act":  # calibration sees inputs alone
            spec = spec.with_sign(True)
        assignment = Assignment(spec, build(nodes["quantizer"], observer=observer), estimator)
        _rehearse(assignment)
    except ValueError as error:
        raise ConfigError(_addressed(f"{side}.{error}", side)) from error  # the message begins with the key
    return assignment


def _addressed(message: str, side: str) -> str:
    """The message with its advice as it is typed for this side: observer@weight.observer=mse, format@weight=int."""
    message = re.sub(r"(?<![.\w])(observer|quantizer|estimator)=", rf"\1@{side}.\1=", message)
    return re.sub(r"\bformat=", f"format@{side}=", message)


def _grid(node: DictConfig, bits: int) -> Any:
    """The grid of a side in its bits; a family of one width must have been asked for that width."""
    if "bits" in (name for name, *_ in _parameters(node)):
        return build(node, bits=bits)
    grid = build(node)
    if int(grid.bits) != bits:
        raise ConfigError(f"bits={bits} is no width of the grid {grid.describe()}, which has {grid.bits}; set that.")
    return grid


def _rehearse(assignment: Assignment) -> None:
    """Trace the quantizer on a placeholder, so that a combination that cannot work says so now."""
    quantizer, closed = assignment.quantizer, assignment.spec.with_sign(True)
    rows, columns = closed.block_size if isinstance(closed.block_size, tuple) else (closed.block_size or 1, 1)

    def start(x, key):
        observed = quantizer.observer.measure(x, contract=(0,), spec=closed)
        rounding = functools.partial(fake_quantize, spec=closed, estimator=assignment.estimator, key=key)
        return quantizer.apply(x, quantizer.init(observed, closed), rounding, contract=(0,), spec=closed)

    jax.eval_shape(start, jax.ShapeDtypeStruct((rows, columns), "float32"), jax.eval_shape(jax.random.key, 0))


def _typed(node: Any, key: str) -> DictConfig:
    """The node with the defaults of the dataclass that its `_target_` names, its keys and types checked."""
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{key}={node!r} has no _target_; choose a file of the group configs/{key.split('.')[-1]}.")
    fields = [
        (name, _config_type(kind), dataclasses.field(default=default if _is_plain(default) else MISSING))
        for name, kind, default in _parameters(node)
        if name not in APART
    ]
    name = node["_target_"].rsplit(".", 1)[-1]
    schema = OmegaConf.structured(dataclasses.make_dataclass(name, [("_target_", str, MISSING), *fields]))
    try:
        return DictConfig(plain(OmegaConf.merge(schema, node)))
    except omegaconf.errors.ConfigKeyError as error:
        keys = [field for field, *_ in fields]
        raise ConfigError(f"{key}: {_first_line(error)}; {name} has the keys {keys}.") from error
    except omegaconf.errors.ValidationError as error:
        raise ConfigError(f"{key}.{error.full_key}: {_first_line(error)}.") from error


def _parameters(node: DictConfig) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of all that the target of a node takes: a dataclass, or a function that makes one."""
    target = hydra.utils.get_object(node["_target_"])
    if dataclasses.is_dataclass(target):
        return [(field.name, field.type, field.default) for field in dataclasses.fields(target)]
    return [(p.name, p.annotation, p.default) for p in inspect.signature(target).parameters.values()]


def _first_line(error: Exception) -> str:
    """OmegaConf's message without its lines for programmers."""
    return str(error).splitlines()[0]


def _is_plain(default: Any) -> bool:
    return default is None or isinstance(default, (bool, int, float, str))


def _config_type(annotation: Any) -> Any:
    """The part of a field's type that a config can hold: `float | Array` is a float, and what is left open is
    anything.
    """
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [arg for arg in typing.get_args(annotation) if _is_config_type(arg)]
        values = [arg for arg in members if arg is not type(None)]
        kind = float if set(values) == {int, float} else values[0] if len(values) == 1 else Any
        return kind | None if type(None) in members else kind
    return annotation if _is_config_type(annotation) else Any


def _is_config_type(annotation: Any) -> bool:
    if annotation in (bool, int, float, str, type(None)):
        return True
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)
