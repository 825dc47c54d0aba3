"""The files that a network can be written to, by the word after `--to`."""

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from qresearch.cells.stages import about, packed_file
from qresearch.deploy.result import Networks


class Target(NamedTuple):
    suffix: str
    quantized: Callable[[Networks], bytes]
    float32: Callable[[Networks], bytes] | None  # the same network before it was quantized


def _writer(module: str, function: str) -> Target:
    def write(networks: Networks, graph: Any, forms: Mapping[str, Any]) -> bytes:
        found = getattr(importlib.import_module(module), function)
        return found(graph, forms, metadata(networks))

    suffix = {"onnx_model": ".onnx", "litert_model": ".tflite"}[function]
    return Target(
        suffix,
        lambda networks: write(networks, *networks.deployment),
        lambda networks: write(networks, networks.float_graph, {}),
    )


TARGETS = {
    "safetensors": Target(".safetensors", lambda networks: packed_file(networks.cell, networks.model), None),
    "onnx": _writer("qresearch.export.onnx", "onnx_model"),
    "litert": _writer("qresearch.export.litert", "litert_model"),
}


def metadata(networks: Networks) -> dict[str, str]:
    """What a file says of itself: which network it is, how its pixels are normalised, and which result it is of."""
    said = about(networks.cell) | {"result": networks.record["config_hash"]}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
