"""The graph as a LiteRT file, written by ourselves: no converter stands between the integers and the file.

    "input" float32 (batch, height, width, channels) -> QUANTIZE -> operators on int8 -> DEQUANTIZE -> "logits" float32

The batch may be of any length. A layer that a rule keeps float stands between a DEQUANTIZE and a QUANTIZE; a weight
that is quantized without the layer's input is float there, on its grid. The graph of a float network gives a float32
file of the same operators.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
arXiv:1712.05877. What the interpreter computes from the file is what `integer_network` does, but for roundings of its
kernels; tests/export/test_litert.py says how near. Inputs of 16 bits are refused: the kernels that take them give 16
bits as well, and what lies between the layers has 8.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qresearch.export.litert_file import LiteRTFile, Scaling
from qresearch.export.litert_values import HIGH, LOW, LiteRTValues, Value, starts_at_zero
from qresearch.export.litert_weights import (
    Parameters,
    float_parameters,
    integer_parameters,
    smallest_kind,
    taken_form,
)
from qresearch.graph.forms import Form
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Pad, Relu, Reshape, Slice, Window

OUTPUT = "logits"
BATCH = (0, 0)  # the padding of the batch


def litert_model(
    graph: Graph, forms: Mapping[str, Form], metadata: Mapping[str, str], *, int4_convolutions: bool = False
) -> bytes:
    """The network as a LiteRT file; `forms` are those of `narrow_forms`, or none for a float network. What `metadata`
    says is read back by `litert_metadata`.

    Weights of 4 and 2 bits are stored as such in products of matrices. XNNPACK, which the interpreter uses unless told
    otherwise, has no convolutions by them: with `int4_convolutions` the file is about half as large, and those layers
    run on other kernels, several times slower and with other roundings.

    Raises ValueError, with the layer, what LiteRT holds and the way out, for weights and inputs that it does not hold
    and for convolutions along other than two axes; and where the extra litert is not installed.
    """
    file = LiteRTFile()
    network = _Network(file, graph, forms, int4_convolutions)
    taken = network.new(INPUT, graph.shape)
    values = {INPUT: network.convert(taken, forms.get(INPUT), f"{INPUT} codes")}
    for node in graph.nodes:
        values[node.name] = network.value(node, [values[name] for name in node.inputs])
    output = network.convert(values[graph.output], None, OUTPUT)
    file.tensors[output.index].name = OUTPUT
    return file.content({INPUT: taken.index}, {OUTPUT: output.index}, metadata)


class _Network(LiteRTValues):
    """What comes out of each node, as operators of the file."""

    def __init__(self, file: LiteRTFile, graph: Graph, forms: Mapping[str, Form], int4_convolutions: bool):
        super().__init__(file)
        self.graph, self.forms, self.int4_convolutions = graph, forms, int4_convolutions
        self.clipping = {node.name for node in graph.nodes if self._relu_follows(node)}

    def _relu_follows(self, node: Any) -> bool:
        """Whether a ReLU alone takes what comes out of the node, in the same form, so that the node may do it."""
        after = self.graph.consumers(node.name)
        if not isinstance(node, (Layer, Add)) or len(after) != 1 or not isinstance(after[0], Relu):
            return False
        return self.forms.get(node.name) == self.forms.get(after[0].name)

    def value(self, node: Any, inputs: list[Value]) -> Value:
        """What a node makes of its inputs, in its form."""
        out = self.forms.get(node.name)
        if isinstance(node, Layer):
            return self._layer(node, inputs[0], out)
        if any(value.form is None for value in inputs):  # beside a float layer
            made = self._between(node, [self.convert(value, None, f"{node.name} float") for value in inputs], None)
        else:
            made = self._between(node, inputs, out)
        return self.convert(made, out, f"{node.name} codes")

    def _between(self, node: Any, inputs: list[Value], out: Form | None) -> Value:
        """What a node without weights makes: additions and means in the form `out`, any other in that of its input."""
        x = inputs[0]
        match node:
            case Add():
                return self._clipped(node, "ADD", [value.index for value in inputs], out)
            case Mean():
                return self._mean(node, x, out)
            case Relu():
                if node.inputs[0] in self.clipping or x.is_positive:
                    return x
                return self._moved(node.name, "RELU", x, node.shape)
            case Reshape():
                shape = [-1, *node.shape]
                return self._moved(node.name, "RESHAPE", x, node.shape, shape, newShape=shape)
            case Slice():
                return self._slice(node, x)
            case Pad():
                return self._moved(node.name, "PAD", x, node.shape, [BATCH, *node.padding])
        raise TypeError(f"{type(node).__name__} is no node of a graph")

    def _mean(self, node: Mean, x: Value, out: Form | None) -> Value:
        axes = self._numbers(f"{node.name}.axes", [axis + 1 for axis in node.axes])

        def mean(index: int) -> int:
            return self.file.operator("MEAN", [x.index, axes], index, keepDims=False)

        return self.place(node.name, node.shape, out, mean, clipped=x.is_positive)

    def _slice(self, node: Slice, x: Value) -> Value:
        whole = node.limit[:2] == x.shape[:2] and not any(node.start) and node.stride[2:] == (1,)
        if len(x.shape) == 3 and whole and node.shape[2] == x.shape[2]:
            return self._strided(node, x)
        ends = ([batch, *part] for batch, part in ((0, node.start), (0, node.limit), (1, node.stride)))
        return self._moved(node.name, "STRIDED_SLICE", x, node.shape, *ends, beginMask=1, endMask=1)  # all of the batch

    def _strided(self, node: Slice, x: Value) -> Value:
        """Every second pixel, say, as a convolution by one pixel that multiplies each channel with 1. Its codes are
        those of the slice, and XNNPACK runs it, which a slice with strides would cut its part of the network at.
        """
        made, channels = self.like(x, node.name, node.shape), x.shape[-1]
        weight = np.eye(channels).reshape(channels, 1, 1, channels).astype("int8" if x.form else "float32")
        bias = np.zeros(channels, np.int32 if x.form else np.float32)
        ones = np.ones(channels, np.float32)
        scalings = (None, None) if x.form is None else (Scaling(ones, axis=0), Scaling(ones * x.form.scale))
        constants = [
            self.file.constant(f"{node.name}.{part}", values, scaling)
            for part, values, scaling in zip(("weight", "bias"), (weight, bias), scalings, strict=True)
        ]
        options = {"strideH": node.stride[0], "strideW": node.stride[1], "dilationHFactor": 1, "dilationWFactor": 1}
        options |= {"padding": self.file.padding(False), "fusedActivationFunction": self.file.activation(False)}
        self.file.operator("CONV_2D", [x.index, *constants], made.index, **options)
        return made

    def _numbers(self, name: str, numbers: Any) -> int:
        return self.file.constant(name, np.array(numbers, np.int32))

    def _moved(
        self, name: str, operator: str, x: Value, shape: tuple[int, ...], *numbers: Any, **options: Any
    ) -> Value:
        """What an operator that moves codes about makes of `x`; `numbers` are its constants."""
        made = self.like(x, name, shape)
        constants = [self._numbers(f"{name}.{place}", values) for place, values in enumerate(numbers)]
        self.file.operator(operator, [x.index, *constants], made.index, **options)
        return made

    def _clipped(self, node: Any, operator: str, inputs: list[int], out: Form | None, **options: Any) -> Value:
        """What an operator makes that can clip below zero: for the ReLU that follows, and for codes that start there
        and do not start at the end of int8.
        """
        clips = node.name in self.clipping
        clips |= out is not None and starts_at_zero(out) and out.high - out.low < HIGH - LOW
        options["fusedActivationFunction"] = self.file.activation(clips)
        return self.place(
            node.name, node.shape, out, lambda y: self.file.operator(operator, inputs, y, **options), clipped=clips
        )

    def _layer(self, layer: Layer, x: Value, out: Form | None) -> Value:
        if layer.act is not None:
            x = self.convert(x, taken_form(layer), f"{layer.name} input")
        if not layer.on_integers:
            x = self.convert(x, None, f"{layer.name} float")
            return self.convert(self._product(layer, x, float_parameters(layer), None), out, f"{layer.name} codes")
        if out is None:
            raise ValueError(
                f"Layer {layer.name!r} is quantized and its output has no form; give those of narrow_forms."
            )
        assert x.form is not None
        return self._product(layer, x, integer_parameters(layer, x.form, out), out)

    def _product(self, layer: Layer, x: Value, numbers: Parameters, out: Form | None) -> Value:
        if layer.window is None:
            operator, options = "FULLY_CONNECTED", {"keepNumDims": len(layer.shape) > 1}
        else:
            x, options = self._windows(layer, layer.window, x, numbers.weight.shape[:2])
            depthwise = layer.window.groups == x.shape[-1] > 1
            operator = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
            options |= {"depthMultiplier": layer.channels // x.shape[-1]} if depthwise else {}
        # Output channels come first; of a depthwise convolution last, after an axis of length 1.
        is_last = operator == "DEPTHWISE_CONV_2D"
        weight = np.ascontiguousarray(np.moveaxis(numbers.weight, 2 if is_last else -1, 0))
        scalings = None, None
        if numbers.scale is not None and x.form is not None:
            scalings = (
                Scaling(numbers.scale, axis=3 if is_last else 0),
                Scaling(x.form.scale * numbers.scale),
            )
        constants = [
            self.file.constant(f"{layer.name}.weight", weight, scalings[0], kind=self._kind(layer, numbers)),
            self.file.constant(f"{layer.name}.bias", numbers.bias, scalings[1]),
        ]
        return self._clipped(layer, operator, [x.index, *constants], out, **options)

    def _kind(self, layer: Layer, numbers: Parameters) -> str:
        """The type that holds a weight. No kernel of a convolution takes int2."""
        if numbers.kind != "INT8" or (layer.window is not None and not self.int4_convolutions):
            return numbers.kind
        kind = smallest_kind(numbers.weight)
        return "INT4" if layer.window is not None and kind == "INT2" else kind

    def _windows(self, layer: Layer, window: Window, x: Value, size: tuple[int, ...]) -> tuple[Value, dict[str, Any]]:
        """What a convolution by windows of `size` takes, padded where LiteRT has no name for the padding, and its
        options.
        """
        if len(window.strides) != 2:
            raise ValueError(
                f"Layer {layer.name!r} is a convolution along {len(window.strides)} axes, and LiteRT has those along "
                "two; give its images two axes, one of them of length 1, or keep it out of the network."
            )
        image = x.shape[:2]
        same = tuple(window.padding) == _same_padding(image, size, window)
        if not same and any(map(any, window.padding)):
            padding = (*window.padding, (0, 0))
            shape = tuple(length + sum(ends) for length, ends in zip(x.shape, padding, strict=True))
            x = self._moved(f"{layer.name} padded", "PAD", x, shape, [BATCH, *padding])
        names = ("strideH", "strideW", "dilationHFactor", "dilationWFactor")
        options = dict(zip(names, (*window.strides, *window.dilation), strict=True))
        return x, options | {"padding": self.file.padding(same)}


def _same_padding(image: tuple[int, ...], size: tuple[int, ...], window: Window) -> tuple[tuple[int, int], ...]:
    """What LiteRT calls SAME: as little as lets there be a window for every stride, the odd one at the end."""
    found = []
    for length, taps, stride, dilation in zip(image, size, window.strides, window.dilation, strict=True):
        windows, reach = -(-length // stride), (taps - 1) * dilation + 1
        missing = max((windows - 1) * stride + reach - length, 0)
        found.append((missing // 2, missing - missing // 2))
    return tuple(found)
