"""A QuantSpec as JSON values and back, to the last bit. A grid is named by its class; nothing else can be named."""

import dataclasses
import enum
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

import qresearch.grids
from qresearch.core.spec import QuantSpec

GRIDS = "qresearch.grids"


def spec_to_json(spec: QuantSpec) -> dict[str, Any]:
    """The fields of the spec that have another value than by default; its grid as {"class": "integer.Integer", its
    fields}. To change a default is to change the format of the file.
    """
    kind = type(spec.grid)
    grid = {"class": f"{kind.__module__.removeprefix(GRIDS + '.')}.{kind.__name__}", **_fields(spec.grid)}
    return _fields(spec) | {"grid": grid}


def spec_from_json(values: Any) -> QuantSpec:
    """The spec that `spec_to_json` was given. Raises ValueError for anything else."""
    try:
        given = dict(values)
        grid = dict(given.pop("grid"))
        kind = _grid_class(grid.pop("class"))
        kinds = {field.name: field.type for field in dataclasses.fields(kind)}
        block = given.get("block_size")
        given["block_size"] = tuple(block) if isinstance(block, list) else block
        return QuantSpec(kind(**{name: _typed(value, kinds.get(name)) for name, value in grid.items()}), **given)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{values!r} describes no quantized tensor: {error}.") from error


def _grid_class(name: str) -> Any:
    """The class "module.Class" of the package of grids, and of no other."""
    module, _, kind = str(name).partition(".")
    there = {path.stem for path in Path(next(iter(qresearch.grids.__path__))).glob("*.py")}
    if not re.fullmatch(r"\w+\.\w+", str(name)) or module not in there:
        raise ValueError(f"{name!r} is no grid of this version of qresearch")
    found = getattr(importlib.import_module(f"{GRIDS}.{module}"), kind, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and hasattr(found, "encode")):
        raise ValueError(f"{name!r} is no grid of this version of qresearch")
    return found


def _fields(node: Any) -> dict[str, Any]:
    fields = [field for field in dataclasses.fields(node) if field.name != "grid"]
    given = {field.name: (_plain(getattr(node, field.name)), field.default) for field in fields}
    return {
        name: value for name, (value, usual) in given.items() if usual is dataclasses.MISSING or value != _plain(usual)
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return np.asarray(value).tolist()  # float32 is exact in a float of Python


def _typed(value: Any, kind: Any) -> Any:
    """A list as the array that it was, and a word as the choice that it names."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    return np.asarray(value, np.float32) if isinstance(value, list) else value
