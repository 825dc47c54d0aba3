"""The way to a LiteRT file over StableHLO and the private package litert-converter 0.5: an oracle for our writer.

Roundings are composites, `quant.fake_quant`, that carry their form to the converter; it drops what JAX computes in
their place, and rounds biases by itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
from litert_converter import converter_api_ext as api  # pyright: ignore[reportMissingImports]
from litert_converter.mlir import ir, passmanager  # pyright: ignore[reportMissingImports]

from qresearch.graph.forms import float_weight
from qresearch.graph.nodes import INPUT, Layer
from qresearch.graph.simulate import evaluate, operator


def converted(graph, forms):
    """The file of a quantized graph whose forms all have 256 codes, for a batch of one."""
    x = np.zeros((1, *graph.shape), np.float32)
    text = jax.export.export(jax.jit(lambda x: _logits(graph, forms, x)), platforms=["cpu"])(x).mlir_module()
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(text)
        api.set_signature(module.operation, "serving_default", ["input"], ["logits"])
        config = api.ConvertToTFLConfig()
        config.model_origin_framework, config.strict_qdq_mode = "JAX", True
        api.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
        return api.export_flatbuffer_to_bytes(module.operation)


def _logits(graph, forms, x):
    values = {INPUT: _rounded(x, forms[INPUT])}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, Layer):
            value = operator(node.window, inputs[0], _weight(node))
            value += jnp.broadcast_to(node.bias, value.shape)
        else:
            value = evaluate(node, *inputs)
        after = graph.consumers(node.name)
        is_clipped = len(after) == 1 and forms[after[0].name] == forms[node.name] and type(after[0]).__name__ == "Relu"
        values[node.name] = value if is_clipped else _rounded(value, forms[node.name])
    return values[graph.output]


def _rounded(x, form):
    assert form.high - form.low == 255
    return _composite(lambda x, **attributes: x * 1, x, form.scale, form.zero_point + 127 - form.high)


def _weight(layer):
    weight = float_weight(layer)
    scale = np.asarray(layer.codes.scale).reshape(-1)
    return _composite(lambda w, **attributes: w * 1, weight, scale, 0, quantization_dimension=weight.ndim - 1)


def _composite(function, x, scale, zero_point, **attributes):
    scale = np.float32(scale).reshape(-1)
    zero_points = np.full(scale.size, zero_point, np.int64)
    rounding = jax.lax.composite(function, name="quant.fake_quant")
    return rounding(x, scale=scale, zero_point=zero_points, dtype="i8", narrow_range=bool(attributes), **attributes)
