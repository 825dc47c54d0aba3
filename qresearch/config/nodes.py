"""Nodes of a configuration with a `_target_`: each is checked against the dataclass that it names, so that a new method
brings its own schema.
"""

import dataclasses
import enum
import functools
import inspect
import json
import types
import typing
from typing import Any

import hydra.utils
import omegaconf
from omegaconf import MISSING, Container, OmegaConf

from qresearch.config.schema import ConfigError

APART = ("observer", "bits")  # what a side says itself: a quantizer's observer, and the bits of a grid


def build(node: Any, **parts: Any) -> Any:
    """The object that a `_target_` node describes, with `parts` that were built apart.

    Raises ConfigError with the object's own complaint about a value.
    """
    target: Any = hydra.utils.get_object(node["_target_"])
    arguments = {key: value for key, value in plain(node).items() if key != "_target_"}
    try:
        for name, kind, _ in parameters(node):
            if isinstance(kind, type) and issubclass(kind, enum.Enum) and name in arguments:
                arguments[name] = kind(arguments[name])
        return target(**arguments, **parts)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def typed(node: Any, key: str) -> dict[str, Any]:
    """The node with the defaults of the dataclass that its `_target_` names, its keys and types checked."""
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"{key}={node!r} has no _target_; choose a file of the group configs/{key.split('.')[-1]}.")
    return _typed_node(text(node), key)


@functools.lru_cache(maxsize=4096)
def _typed_node(text: str, key: str) -> dict[str, Any]:
    node = json.loads(text)
    fields = [
        (name, _config_type(kind), dataclasses.field(default=default if _is_plain(default) else MISSING))
        for name, kind, default in parameters(node)
        if name not in APART
    ]
    name = node["_target_"].rsplit(".", 1)[-1]
    schema = OmegaConf.structured(dataclasses.make_dataclass(name, [("_target_", str, MISSING), *fields]))
    try:
        return plain(OmegaConf.merge(schema, node))
    except omegaconf.errors.ConfigKeyError as error:
        keys = [field for field, *_ in fields]
        raise ConfigError(f"{key}: {first_line(error)}; {name} has the keys {keys}.") from error
    except omegaconf.errors.ValidationError as error:
        raise ConfigError(f"{key}.{error.full_key}: {first_line(error)}.") from error


def parameters(node: Any) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of all that the target of a node takes: a dataclass, or a function that makes one."""
    target = hydra.utils.get_object(node["_target_"])
    if dataclasses.is_dataclass(target):
        return [(field.name, field.type, field.default) for field in dataclasses.fields(target)]
    return [(p.name, p.annotation, p.default) for p in inspect.signature(target).parameters.values()]


def plain(cfg: Any) -> Any:
    """A config as dicts, lists and JSON values."""
    if isinstance(cfg, Container):
        return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    if isinstance(cfg, dict):
        return {key: plain(value) for key, value in cfg.items()}
    if dataclasses.is_dataclass(cfg):
        return {key: plain(value) for key, value in vars(cfg).items()}
    return cfg.name if isinstance(cfg, enum.Enum) else cfg


def text(value: Any) -> str:
    """JSON, which serves as a key: the parts of a configuration are looked up by it."""
    return json.dumps(value, sort_keys=True)


def first_line(error: Exception) -> str:
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
