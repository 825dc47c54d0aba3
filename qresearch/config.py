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
from omegaconf import MISSING, Container, DictConfig, OmegaConf

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, QuantSpec, ScaleFormat, ScaleRule
from qresearch.nn.rules import Assignment, Rule, check_act_granularity

PACKAGED = Path(__file__).parent / "configs"
CONFIG_FOLDER = PACKAGED if PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"
SIDES = ("weight", "act", "grad")
PARTS = ("grid", "observer", "quantizer", "estimator")  # of a side: nodes with a `_target_`
APART = ("observer", "bits")  # what a side says itself: a quantizer's observer, and the bits of a grid
UNHASHED = ("tracker", "sweep", "runs_dir")  # they change no number


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


class Stack(enum.StrEnum):
    """Whether cells of a group are computed side by side."""

    on = "on"
    off = "off"
    auto = "auto"  # off on a CPU; elsewhere whichever a short timed probe finds faster


@dataclasses.dataclass
class SweepConfig:
    """How a sweep is run; none of it changes what a cell is."""

    name: str = MISSING  # of its folder under runs_dir; `qresearch sweep` makes it from the overrides, so that the
    # same command goes on where it was stopped
    force: bool = False  # compute cells again that have a result
    yes: bool = False  # allow more than 10,000 cells
    stack: Stack = Stack.auto
    chunk: int = 16  # how many cells are stacked at most


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
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)
    runs_dir: str = "runs"


ConfigStore.instance().store(name="schema", node=RunConfig)

NODES = ("model", "data", "ptq", "baseline", "optim", "tracker")  # top-level nodes with a `_target_`
SECTIONS = {"method": MethodConfig, "calibration": CalibrationConfig, "sweep": SweepConfig} | dict.fromkeys(
    SIDES, TensorConfig
)


@dataclasses.dataclass
class Scalars:
    """The top-level keys that are numbers or words."""

    anatomy_images: int = 256
    seed: int = 0
    runs_dir: str = "runs"


def check(cfg: Any) -> RunConfig:
    """The configuration as dataclasses, every interpolation resolved and every `_target_` node (then a dict) checked
    against its class.

    Its parts are shared between the configurations of a sweep, which mostly repeat each other: do not change them.
    Raises ConfigError with the key, the value and the rule.
    """
    try:
        given = plain(cfg)
    except omegaconf.errors.OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    _check_keys(given)
    checked = {name: _typed(given[name], name) for name in NODES}
    for name, kind in SECTIONS.items():
        section = {key: _typed(value, f"{name}.{key}") if key in PARTS else value for key, value in given[name].items()}
        checked[name] = _section(kind, name, _text(section))
    checked["rules"] = {
        name: _section(RuleConfig, f"rules.{name}", _text(rule)) for name, rule in given["rules"].items()
    }
    scalars = _section(Scalars, "", _text({key: given[key] for key in _names(Scalars)}))
    checked_cfg = RunConfig(**checked, **vars(scalars))
    _check_values(checked_cfg)
    return checked_cfg


def _check_keys(given: dict[str, Any]) -> None:
    for key in given:
        if key not in _names(RunConfig):
            raise ConfigError(f"{key}: there is no such key; the keys are {_names(RunConfig)}.")


def _check_values(cfg: RunConfig) -> None:
    if cfg.calibration.images < 1 or cfg.calibration.batch_size < 1 or cfg.anatomy_images < 1:
        raise ConfigError("calibration.images, calibration.batch_size and anatomy_images must be at least 1.")
    if cfg.sweep.chunk < 1:
        raise ConfigError(f"sweep.chunk={cfg.sweep.chunk} must be at least 1.")
    if not 0 <= cfg.seed < 2**31:
        raise ConfigError(f"seed={cfg.seed} is outside 0..{2**31 - 1}.")
    if cfg.method.name == Method.ptq and cfg.grad.bits is not None:
        raise ConfigError(
            f"grad.bits={cfg.grad.bits} with method=ptq, which computes no gradients; use method=qat, or "
            "format@grad=float32."
        )
    if cfg.method.name == Method.ptq and cfg.method.batch_norm == BatchNorm.train:
        raise ConfigError("method.batch_norm=train needs training; with method=ptq use fold or freeze.")


@functools.lru_cache(maxsize=4096)
def _section(kind: type, key: str, text: str) -> Any:
    """An instance of the dataclass with the values of the JSON `text`, types checked."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), json.loads(text)))
    except omegaconf.errors.OmegaConfBaseException as error:
        where = ".".join(filter(None, (key, str(error.full_key or ""))))
        raise ConfigError(f"{where}: {_first_line(error)}") from error


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _text(value: Any) -> str:
    """JSON, which serves as a key: the parts of a configuration are looked up by it."""
    return json.dumps(value, sort_keys=True)


def config_hash(cfg: Any) -> str:
    """Twelve hex digits that name the numbers of a run: equal for equal resolved configs, tracker and folders aside."""
    kept = {key: value for key, value in plain(cfg).items() if key not in UNHASHED}
    return hashlib.sha256(_text(kept).encode()).hexdigest()[:12]


def plain(cfg: Any) -> Any:
    """A config as dicts, lists and JSON values."""
    if isinstance(cfg, Container):
        return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    if isinstance(cfg, dict):
        return {key: plain(value) for key, value in cfg.items()}
    if dataclasses.is_dataclass(cfg):
        return {key: plain(value) for key, value in vars(cfg).items()}
    return cfg.name if isinstance(cfg, enum.Enum) else cfg


def build(node: Any, **parts: Any) -> Any:
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


def build_rules(cfg: RunConfig) -> list[Rule]:
    """The rules of a run in their order.

    Raises ConfigError for a spec that is not possible, and for a quantizer or observer that does not fit its
    spec.
    """
    rules = []
    for name, rule in cfg.rules.items():
        try:
            sides = {
                side: None if rule.float else _side(getattr(cfg, side), getattr(rule, side), side) for side in SIDES
            }
            rules.append(Rule(rule.match, **sides))
            check_act_granularity(rules)
        except (ValueError, omegaconf.errors.OmegaConfBaseException) as error:
            raise ConfigError(f"rules.{name}: {error}") from error
    return rules


def _side(config: TensorConfig, changes: dict[str, Any], side: str) -> Assignment | None:
    return _assignment(_text(plain(config)), _text(plain(changes)), side)


@functools.lru_cache(maxsize=4096)
def _assignment(text: str, changed: str, side: str) -> Assignment | None:
    config, changes = DictConfig(json.loads(text)), DictConfig(json.loads(changed))
    replaced = [key for key, value in changes.items() if isinstance(value, DictConfig) and "_target_" in value]
    kept = {key: value for key, value in config.items() if key not in replaced}  # another class has other keys
    merged: Any = OmegaConf.merge(OmegaConf.structured(TensorConfig), kept, changes)
    if config.bits is None or merged.bits is None:  # float for the run, or for these layers
        return None
    nodes = {part: _typed(plain(merged)[part], f"{side}.{part}") for part in PARTS}
    choices = [name for name in _names(QuantSpec) if name != "grid"]
    observer, estimator = build(nodes["observer"]), build(nodes["estimator"])
    try:
        scaling = {key: plain(merged)[key] for key in choices}
        if isinstance(scaling["block_size"], list):
            scaling["block_size"] = tuple(scaling["block_size"])
        spec = QuantSpec(_grid(nodes["grid"], merged.bits), **scaling)
        if side != "act":  # calibration sees inputs alone
            spec = spec.with_sign(True)
        assignment = Assignment(spec, build(nodes["quantizer"], observer=observer), estimator)
        structure = jax.tree.structure(assignment)
        if structure not in _rehearsed:  # numbers change nothing in whether a combination can work
            _rehearse(assignment)
            _rehearsed.add(structure)
    except ValueError as error:
        raise ConfigError(_addressed(f"{side}.{error}", side)) from error  # the message begins with the key
    return assignment


def _addressed(message: str, side: str) -> str:
    """The message with its advice as it is typed for this side: observer@weight.observer=mse, format@weight=int."""
    message = re.sub(r"(?<![.\w])(observer|quantizer|estimator)=", rf"\1@{side}.\1=", message)
    return re.sub(r"\bformat=", f"format@{side}=", message)


def _grid(node: dict[str, Any], bits: int) -> Any:
    """The grid of a side in its bits; a family of one width must have been asked for that width."""
    if "bits" in (name for name, *_ in _parameters(node)):
        return build(node, bits=bits)
    grid = build(node)
    if int(grid.bits) != bits:
        raise ConfigError(f"bits={bits} is no width of the grid {grid.describe()}, which has {grid.bits}; set that.")
    return grid


_rehearsed: set[Any] = set()  # the structures of assignments that have passed: tracing one takes 10 ms


def _rehearse(assignment: Assignment) -> None:
    """Trace the quantizer on a placeholder, so that a combination that cannot work says so now."""
    quantizer, closed = assignment.quantizer, assignment.spec.with_sign(True)
    rows, columns = closed.block_size if isinstance(closed.block_size, tuple) else (closed.block_size or 1, 1)

    def start(x, key):
        observed = quantizer.observer.measure(x, contract=(0,), spec=closed)
        rounding = functools.partial(fake_quantize, spec=closed, estimator=assignment.estimator, key=key)
        return quantizer.apply(x, quantizer.init(observed, closed), rounding, contract=(0,), spec=closed)

    jax.eval_shape(start, jax.ShapeDtypeStruct((rows, columns), "float32"), jax.eval_shape(jax.random.key, 0))


def _typed(node: Any, key: str) -> dict[str, Any]:
    """The node with the defaults of the dataclass that its `_target_` names, its keys and types checked."""
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}={node!r} has no _target_; choose a file of the group configs/{key.split('.')[-1]}.")
    return _typed_node(_text(node), key)


@functools.lru_cache(maxsize=4096)
def _typed_node(text: str, key: str) -> dict[str, Any]:
    node = json.loads(text)
    fields = [
        (name, _config_type(kind), dataclasses.field(default=default if _is_plain(default) else MISSING))
        for name, kind, default in _parameters(node)
        if name not in APART
    ]
    name = node["_target_"].rsplit(".", 1)[-1]
    schema = OmegaConf.structured(dataclasses.make_dataclass(name, [("_target_", str, MISSING), *fields]))
    try:
        return plain(OmegaConf.merge(schema, node))
    except omegaconf.errors.ConfigKeyError as error:
        keys = [field for field, *_ in fields]
        raise ConfigError(f"{key}: {_first_line(error)}; {name} has the keys {keys}.") from error
    except omegaconf.errors.ValidationError as error:
        raise ConfigError(f"{key}.{error.full_key}: {_first_line(error)}.") from error


def _parameters(node: Any) -> list[tuple[str, Any, Any]]:
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
