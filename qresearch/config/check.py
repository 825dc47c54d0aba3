"""From a composed configuration to a typed one: wrong keys, types and values are errors before anything is computed."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import omegaconf
from omegaconf import DictConfig, OmegaConf

from qresearch.config.nodes import first_line, plain, text, typed
from qresearch.config.schema import (
    NODES,
    PARTS,
    SIDES,
    UNHASHED,
    BatchNorm,
    CalibrationConfig,
    ConfigError,
    ExportConfig,
    Method,
    MethodConfig,
    RuleConfig,
    RunConfig,
    SweepConfig,
    TensorConfig,
)
from qresearch.graph.forms import Between
from qresearch.graph.rescale import Requantize

SECTIONS = {
    "method": MethodConfig,
    "calibration": CalibrationConfig,
    "export": ExportConfig,
    "sweep": SweepConfig,
} | dict.fromkeys(SIDES, TensorConfig)


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
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error
    _check_keys(given)
    checked = {name: typed(given[name], name) for name in NODES}
    for name, kind in SECTIONS.items():
        values = {key: typed(value, f"{name}.{key}") if key in PARTS else value for key, value in given[name].items()}
        checked[name] = section(kind, name, text(values))
    checked["rules"] = {name: section(RuleConfig, f"rules.{name}", text(rule)) for name, rule in given["rules"].items()}
    scalars = section(Scalars, "", text({key: given[key] for key in _names(Scalars)}))
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
    if (cfg.export.parity or cfg.export.file) and cfg.method.name == Method.float:
        key = "parity" if cfg.export.parity else "file"
        raise ConfigError(f"export.{key}=true with method=float, which has no codes; use method=ptq or qat.")
    if cfg.export.between == Between.float32 and cfg.export.requantize != Requantize.even:
        raise ConfigError(
            f"export.requantize={cfg.export.requantize} with export.between=float32, where no integers are "
            "rescaled; use export.between=int32 or int8."
        )
    if cfg.method.name == Method.ptq and cfg.method.batch_norm == BatchNorm.train:
        raise ConfigError("method.batch_norm=train needs training; with method=ptq use fold or freeze.")


def config_hash(cfg: Any) -> str:
    """Twelve hex digits that name the numbers of a run: equal for equal resolved configs, tracker and folders aside."""
    kept = {key: value for key, value in plain(cfg).items() if key not in UNHASHED}
    return hashlib.sha256(text(kept).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=4096)
def section(kind: type, key: str, values: str) -> Any:
    """An instance of the dataclass with the values of the JSON `values`, types checked."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(_schema(kind), json.loads(values)))
    except omegaconf.errors.OmegaConfBaseException as error:
        where = ".".join(filter(None, (key, str(error.full_key or ""))))
        raise ConfigError(f"{where}: {first_line(error)}") from error


@functools.cache
def _schema(kind: type) -> DictConfig:
    return OmegaConf.structured(kind)


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
