"""The graph in floats, rounded where the integers of execution would be: what integer execution is compared with."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Integer

from qresearch.core.division import divide
from qresearch.core.qtensor import QTensor, dequantize, quantize
from qresearch.graph.forms import Form, float_weight
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Pad, Relu, Reshape, Scaling, Slice, Window

Floats = Float[Array, "batch ..."]


def simulate(
    graph: Graph, x: Floats, forms: Mapping[str, Form], given: Mapping[str, Array] | None = None
) -> tuple[dict[str, Floats], dict[str, Array]]:
    """Every tensor of the graph, and the codes that each quantized layer takes, for a batch.

    A tensor with a form in `forms` is rounded to it; without forms this is the network that was traced. A layer takes
    the codes `given` for it in place of those that reach it.
    """
    values, codes = {INPUT: x}, {}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node, Layer) and node.act is not None:
            q = rounded(inputs[0], node.act)
            codes[node.name] = q.codes
            if given is not None:
                q = QTensor(given[node.name], q.scale, q.zero_point, q.spec)
            inputs = [dequantize(q)]
        value = evaluate(node, *inputs)
        values[node.name] = fake_round(value, forms[node.name]) if node.name in forms else value
    return values, codes


def rounded(x: Floats, scaling: Scaling) -> QTensor:
    ones = (1,) * x.ndim
    zero_point = None if scaling.spec.grid.symmetric else jnp.full(ones, scaling.zero_point)
    return quantize(x, jnp.full(ones, scaling.scale), zero_point, scaling.spec)


def fake_round(x: Floats, form: Form) -> Floats:
    return form_values(form_codes(x, form), form)


def form_codes(x: Floats, form: Form) -> Int32[Array, "batch ..."]:
    """The integers of a form that stand for `x`."""
    q = jnp.clip(divide(x, jnp.float32(form.scale)) + form.zero_point, form.low, form.high)
    return jnp.round(q).astype(jnp.int32)


def form_values(codes: Integer[Array, "batch ..."], form: Form) -> Floats:
    return (codes.astype(jnp.int32) - form.zero_point).astype(jnp.float32) * jnp.float32(form.scale)


def evaluate(node: Any, *inputs: Floats) -> Floats:
    """What a node makes of its inputs, in floats."""
    match node:
        case Layer():
            return float_layer(node, inputs[0])
        case Relu():
            return jnp.maximum(inputs[0], 0.0)
        case Add():
            return inputs[0] + inputs[1]
        case Mean():
            return jnp.sum(inputs[0], [axis + 1 for axis in node.axes]) / node.count
        case _:
            return move(node, inputs[0], 0.0)


def move(node: Any, x: Array, zero: Any) -> Array:
    """What a node makes that moves values about and pads them with `zero`: a reshape, a slice or a padding."""
    match node:
        case Reshape():
            return x.reshape(x.shape[0], *node.shape)
        case Slice():
            return jax.lax.slice(x, (0, *node.start), (x.shape[0], *node.limit), (1, *node.stride))
        case Pad():
            return jnp.pad(x, ((0, 0), *node.padding), constant_values=zero)
    raise TypeError(f"{type(node).__name__} does not move values about")


def float_layer(layer: Layer, x: Floats) -> Floats:
    out = operator(layer.window, x, jnp.asarray(float_weight(layer)))
    gain, bias = along_channels(layer.gain, out), along_channels(layer.bias, out)
    return out * gain + bias if (layer.gain != 1).any() else out + bias


def along_channels(numbers: Any, x: Array) -> Array:
    """One number, or one for each channel, in the rank of `x`."""
    return jnp.reshape(jnp.asarray(numbers), (1,) * (x.ndim - 1) + (-1,))


def operator(window: Window | None, x: Array, weight: Array, product: Callable | None = None, **kwargs: Any) -> Array:
    """The product of a layer; `product` takes the place of calling JAX's operator."""
    call = product or (lambda operator, *args, **kwargs: operator(*args, **kwargs))
    if window is None:
        return call(jax.lax.dot_general, x, weight, (((x.ndim - 1,), (0,)), ((), ())), **kwargs)
    spatial = tuple(range(1, x.ndim - 1))
    images, kernel = (0, x.ndim - 1, *spatial), (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
    kwargs |= {
        "window_strides": window.strides,
        "padding": window.padding,
        "rhs_dilation": window.dilation,
        "feature_group_count": window.groups,
        "dimension_numbers": jax.lax.ConvDimensionNumbers(images, kernel, images),
    }
    return call(jax.lax.conv_general_dilated, x, weight, **kwargs)
