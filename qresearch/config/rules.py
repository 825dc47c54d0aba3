"""The rules of a run, built from its sides (`weight`, `act`, `grad`) and from what single rules change of them."""

import dataclasses
import functools
import json
import re
from typing import Any

import jax
import omegaconf

from qresearch.config.check import section
from qresearch.config.nodes import build, parameters, plain, text, typed
from qresearch.config.schema import PARTS, SIDES, ConfigError, RunConfig, TensorConfig
from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.nn.rules import Assignment, Rule, check_act_granularity


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
    return _assignment(text(plain(config)), text(plain(changes)), side)


@functools.lru_cache(maxsize=4096)
def _assignment(given: str, changed: str, side: str) -> Assignment | None:
    config = json.loads(given)
    settings = plain(section(TensorConfig, side, text(_merged(config, json.loads(changed)))))
    if config["bits"] is None or settings["bits"] is None:  # float for the run, or for these layers
        return None
    nodes = {part: typed(settings[part], f"{side}.{part}") for part in PARTS}
    choices = [field.name for field in dataclasses.fields(QuantSpec) if field.name != "grid"]
    observer, estimator = build(nodes["observer"]), build(nodes["estimator"])
    try:
        scaling = {key: settings[key] for key in choices}
        if isinstance(scaling["block_size"], list):
            scaling["block_size"] = tuple(scaling["block_size"])
        spec = QuantSpec(_grid(nodes["grid"], settings["bits"]), **scaling)
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


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The settings with the changes in them; a node with a `_target_` of its own replaces what was there, since another
    class has other keys.
    """
    merged = dict(settings)
    for key, value in changes.items():
        inside = isinstance(value, dict) and "_target_" not in value and isinstance(settings.get(key), dict)
        merged[key] = settings[key] | value if inside else value
    return merged


def _addressed(message: str, side: str) -> str:
    """The message with its advice as it is typed for this side: observer@weight.observer=mse, format@weight=int."""
    message = re.sub(r"(?<![.\w])(observer|quantizer|estimator)=", rf"\1@{side}.\1=", message)
    return re.sub(r"\bformat=", f"format@{side}=", message)


def _grid(node: dict[str, Any], bits: int) -> Any:
    """The grid of a side in its bits; a family of one width must have been asked for that width."""
    if "bits" in (name for name, *_ in parameters(node)):
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
