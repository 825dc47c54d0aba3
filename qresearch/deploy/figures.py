"""What a network is in deployment: bytes, accuracy, latency, memory and energy of every engine that there is."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qresearch.deploy.engines import Engine, engines
from qresearch.deploy.joules import joules_per_call, sensors
from qresearch.deploy.latency import latencies
from qresearch.deploy.memory import peak_bytes
from qresearch.deploy.result import Networks
from qresearch.deploy.targets import TARGETS
from qresearch.evaluation.cost import layer_costs
from qresearch.evaluation.size import float_bytes

BATCHES = (1, 32)
CHUNK = 500  # images that are classified at a time
TABLE = "Horowitz, ISSCC 2014, 45 nm, 0.9 V"  # of the estimates of energy


def figures(networks: Networks, *, threads: int, rounds: int) -> dict[str, Any]:
    """{"engines": [{"engine", "runtime", "precision", "bytes", "top1", "agreement" (share of the test images put into
    the class of JAX's integers), "largest_lsb" (of the output, against them), "latency" (by batch), "peak_bytes" (by
    batch), "joules" (by sensor, batch 1)}, ...], "missing", "threads", "images", "files" and "float_bytes" (bytes),
    "costs" (by network and layer, for one image), "table" (that their estimates of energy come from)}
    """
    found, missing = engines(networks, threads)
    images, labels = networks.cell.data.test()
    logits = {engine.name: classify(engine, networks, images) for engine in found}
    timed = {batch: _latencies(found, networks, images[:batch], rounds) for batch in BATCHES}
    reference, step = logits["JAX int8"], networks.deployment.forms[networks.deployment.graph.output].scale
    rows = []
    for engine in found:
        own = logits[engine.name]
        row = {"engine": engine.name, "runtime": engine.runtime, "precision": engine.precision}
        row |= {"bytes": None if engine.content is None else len(engine.content)}
        row |= {"top1": 100 * float(np.mean(own.argmax(axis=1) == labels))}
        if engine.precision == "int8":
            row |= {"agreement": float(np.mean(own.argmax(axis=1) == reference.argmax(axis=1)))}
            row |= {"largest_lsb": int(np.round(np.abs(own - reference).max() / step))}
        row |= {"latency": {str(batch): timed[batch][engine.name]._asdict() for batch in BATCHES}}
        row |= {"peak_bytes": {str(batch): _memory(engine, networks, images[:batch], threads) for batch in BATCHES}}
        row |= {"joules": joules_per_call(engine.prepare(_fed(networks, images[:1])), sensors())}
        rows.append(row)
    return {
        "engines": rows,
        "missing": missing,
        "threads": threads,
        "images": len(labels),
        "files": {"safetensors": len(TARGETS["safetensors"].quantized(networks)[0])},
        "float_bytes": float_bytes(networks.reference),
        "table": TABLE,
        "costs": _costs(networks),
    }


def classify(engine: Engine, networks: Networks, images: np.ndarray) -> np.ndarray:
    """The logits of all images."""
    starts = range(0, len(images), CHUNK)
    return np.concatenate([engine.logits(_fed(networks, images[start : start + CHUNK])) for start in starts])


def _fed(networks: Networks, images: np.ndarray) -> np.ndarray:
    return np.asarray(networks.cell.normalise(images), np.float32)


def _latencies(found: Sequence[Engine], networks: Networks, images: np.ndarray, rounds: int) -> dict[str, Any]:
    x = _fed(networks, images)
    return latencies({engine.name: engine.prepare(x) for engine in found}, rounds=rounds)


def _memory(engine: Engine, networks: Networks, images: np.ndarray, threads: int) -> int | None:
    x = _fed(networks, images)
    if engine.temporary is not None:
        return engine.temporary(x)
    shape = (len(x), x.shape[-1], *x.shape[1:-1]) if engine.runtime == "onnx" else x.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network")
        path.write_bytes(engine.content or b"")
        return peak_bytes(engine.runtime, path, threads, shape)


def _costs(networks: Networks) -> dict[str, Any]:
    """What is counted for one image, layer by layer: operations, bytes, and estimates of energy from them."""
    models = {"float32": networks.reference, "quantized": networks.model}
    costs = {name: layer_costs(model, networks.cell.layers) for name, model in models.items()}
    return {name: {layer: cost._asdict() for layer, cost in found.items()} for name, found in costs.items()}
