"""What executes a network: ONNX Runtime, LiteRT, and JAX's compiled programs, each behind the same two calls."""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.deploy.result import Networks
from qresearch.deploy.targets import TARGETS
from qresearch.graph.integers import integer_network
from qresearch.graph.nodes import Graph
from qresearch.graph.rescale import Requantize
from qresearch.graph.simulate import simulate

RUNTIMES = {"onnx": ("onnxruntime", "ONNX Runtime"), "litert": ("ai_edge_litert", "LiteRT"), "jax": ("jax", "JAX")}


@dataclasses.dataclass(frozen=True)
class Engine:
    """A network in a runtime. `prepare(x)` gives a call without arguments that computes the logits of the images `x`
    (batch, height, width, channels), normalised.
    """

    runtime: str
    precision: str  # float32, int8: how it computes
    prepare: Callable[[np.ndarray], Callable[[], Any]]
    content: bytes | None = None  # of its file
    temporary: Callable[[np.ndarray], int] | None = None  # bytes that a program of JAX takes for a batch

    @property
    def name(self) -> str:
        return f"{RUNTIMES[self.runtime][1]} {self.precision}"

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.prepare(x)())


def engines(networks: Networks, threads: int) -> tuple[list[Engine], list[str]]:
    """The engines that this machine has for a network, float and integer of each; and why the others are missing."""
    found, missing = _jax_engines(networks), []
    for runtime, make in (("litert", litert_engine), ("onnx", onnx_engine)):
        package, name = RUNTIMES[runtime]
        if importlib.util.find_spec(package) is None:
            extra = f"`make setup EXTRAS={runtime}` in a checkout, or pip install 'qresearch[{runtime}]'"
            missing.append(f"{name} is not installed: the extra `{runtime}` brings it ({extra}).")
            continue
        target = TARGETS[runtime]
        for precision, write in (
            ("int8", lambda given, of=target: of.quantized(given)[0]),
            ("float32", target.float32),
        ):
            assert write is not None
            try:
                found.insert(0, make(write(networks), precision, threads))
            except ValueError as error:
                missing.append(f"{name} {precision}: {error}")
    return found, missing


def onnx_engine(content: bytes, precision: str, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    # Its threads would wait in a loop for the next call, on the cores of whatever runs then.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        channels_first = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
        return lambda: session.run(None, {name: channels_first})[0]

    return Engine("onnx", precision, prepare, content)


def litert_engine(content: bytes, precision: str, threads: int) -> Engine:
    from ai_edge_litert.interpreter import Interpreter

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(source, x.shape)
        interpreter.allocate_tensors()

        def run() -> Any:
            interpreter.set_tensor(source, x)
            interpreter.invoke()
            return interpreter.get_tensor(target)

        return run

    return Engine("litert", precision, prepare, content)


def _jax_engines(networks: Networks) -> list[Engine]:
    graph, forms = networks.deployment
    network = integer_network(graph, forms, Requantize.float)

    def on_integers(network, x):
        return network.decode(network(network.encode(x))[0])

    plain = networks.float_graph
    return [
        _jax_engine("float32", lambda _, x: _simulated(plain, x), None),
        _jax_engine("int8", on_integers, network),
    ]


def _simulated(graph: Graph, x: jax.Array) -> jax.Array:
    return simulate(graph, x, {})[0][graph.output]


def _jax_engine(precision: str, function: Callable, state: Any) -> Engine:
    program = jax.jit(function)

    def prepare(x: np.ndarray) -> Callable[[], Any]:
        on_device = jnp.asarray(x)
        return lambda: program(state, on_device).block_until_ready()

    def temporary(x: np.ndarray) -> int:
        analysis: Any = program.lower(state, jnp.asarray(x)).compile().memory_analysis()
        return int(analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes)

    return Engine("jax", precision, prepare, None, temporary)
