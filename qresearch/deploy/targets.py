"""The files that a network can be written to, by the word after `--to`."""

import json
from collections.abc import Callable
from typing import NamedTuple

from qresearch.cells.stages import about, packed_file
from qresearch.deploy.result import Networks
from qresearch.export.litert import litert_model
from qresearch.export.onnx import onnx_model
from qresearch.graph.trace import GraphError


class Target(NamedTuple):
    """`quantized` gives the file and what is to be said of it, if anything; `float32` that of the network before it was
    quantized.
    """

    quantized: Callable[[Networks], tuple[bytes, str]]
    float32: Callable[[Networks], bytes] | None


def _packed(networks: Networks) -> tuple[bytes, str]:
    return packed_file(networks.cell, networks.model), ""


def _onnx(networks: Networks) -> tuple[bytes, str]:
    """Codes everywhere, or at the quantized layers alone where a grid has no integers."""
    try:
        (graph, forms), said = networks.deployment, ""
    except GraphError:
        raise
    except ValueError as error:
        graph, forms, said = (
            networks.graph,
            {},
            f"Between its layers all is float, since there are no integers: {error}",
        )
    return onnx_model(graph, forms, metadata(networks)), said


def _litert(networks: Networks) -> tuple[bytes, str]:
    try:
        graph, forms = networks.deployment
    except ValueError as error:
        raise ValueError(f"LiteRT runs networks of 8-bit integers alone. {error}") from error
    return litert_model(graph, forms, metadata(networks)), ""


def metadata(networks: Networks) -> dict[str, str]:
    """What a file says of itself: which network it is, how its pixels are normalised, and which result it is of."""
    said = about(networks.cell) | {"result": networks.record["config_hash"]}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}


TARGETS = {
    "safetensors": Target(_packed, None),
    "onnx": Target(_onnx, lambda networks: onnx_model(networks.float_graph, {}, metadata(networks))),
    "litert": Target(_litert, lambda networks: litert_model(networks.float_graph, {}, metadata(networks))),
}
