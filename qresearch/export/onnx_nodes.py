"""The nodes of a graph as ONNX operators, channels before space."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from qresearch.core.integer_form import integers
from qresearch.core.integer_product import check_accumulator
from qresearch.core.qtensor import QTensor
from qresearch.export.onnx_codes import SMALL, TWO_BITS, form_codes, input_codes, layout, weight_codes
from qresearch.export.onnx_writer import BYTES, Codes, Writer
from qresearch.graph.forms import Form
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Pad, Relu, Reshape, Slice


def onnx_axis(axis: int, rank: int) -> int:
    """Where an axis of a sample of `rank` axes stands in ONNX, which has the batch and the channels first."""
    return 1 if axis == rank - 1 else axis + 2


def onnx_shape(shape: tuple) -> tuple:
    """What goes with the axes of a sample, in their order in ONNX."""
    return (shape[-1], *shape[:-1]) if shape else ()


class Emitter:
    """Writes the nodes in their order. Tensors are floats or, with forms, codes, which become floats where an operator
    takes them.

    Raises ValueError at once for what ONNX does not hold.
    """

    def __init__(self, graph: Graph, forms: Mapping[str, Form], *, in_bytes: bool):
        self.graph, self.writer, self.is_integer = graph, Writer(), bool(forms)
        unsigned = self.is_integer
        self.forms = {name: form_codes(form, f"{name!r}", unsigned=unsigned) for name, form in forms.items()}
        self.taken = {layer.name: input_codes(layer, unsigned=unsigned) for layer in graph.layers if layer.act}
        quantized = [layer for layer in graph.layers if isinstance(layer.weight, QTensor)]
        self.weights = {layer.name: weight_codes(layer, self._spatial(layer), in_bytes=in_bytes) for layer in quantized}
        self.floats: dict[str, str] = {}
        self.codes: dict[str, tuple[str, Codes]] = {}

    def emit(self) -> str:
        """Write everything; the name of the output."""
        self._put(INPUT, INPUT)
        for node in self.graph.nodes:
            match node:
                case Layer():
                    self._layer(node)
                case Add():
                    self._put(node.name, self._call("Add", node, *map(self._float, node.inputs)))
                case Relu():
                    self._put(node.name, self._relu(node))
                case Mean():
                    self._mean(node)
                case _:
                    self._move(node)
        return self._float(self.graph.output)

    def _call(self, operator: str, node: Any, *inputs: str, **attributes: Any) -> str:
        return self.writer.call(operator, inputs, f"{node.name}/{operator}", **attributes)

    def _put(self, name: str, x: str) -> None:
        """Keep a tensor, rounded to its form. Before a ReLU of the same form nothing is: it would be rounded twice."""
        after = self.graph.consumers(name)
        before_relu = len(after) == 1 and isinstance(after[0], Relu)
        if name not in self.forms or (before_relu and self.forms.get(after[0].name) == self.forms[name]):
            self.floats[name] = x
        else:
            self.codes[name] = self.writer.encoded(x, self.forms[name], name), self.forms[name]

    def _float(self, name: str) -> str:
        if name not in self.floats:
            self.floats[name] = self.writer.decoded(*self.codes[name], name)
        return self.floats[name]

    def _spatial(self, layer: Layer) -> int:
        """Over how many axes the weight of a layer moves; a matrix does so over all but the last one."""
        return len(layer.shape) - 1

    def _layer(self, layer: Layer) -> None:
        bias, inputs = f"{layer.name}/bias", [self._input(layer), self._weight(layer)]
        takes_codes, is_integer = self.is_integer or layer.name in self.taken, self._is_integer_layer(layer)
        if is_integer:
            inputs.append(self._whole_bias(layer, bias))
        elif not takes_codes:
            inputs.append(self.writer.constant(bias, np.asarray(layer.bias, np.float32)))
        out = self._product(layer, inputs)
        if takes_codes and not is_integer:
            # A float bias within a product of codes would be rounded by ONNX Runtime to whole products, and a float
            # weight to 8 bits, both unasked; an Add would be taken into the product, a Sub is not.
            negative = -np.asarray(layer.bias, np.float32).reshape(-1, *[1] * self._spatial(layer))
            out = self._call("Sub", layer, out, self.writer.constant(bias, negative))
        self._put(layer.name, out)

    def _product(self, layer: Layer, inputs: list[str]) -> str:
        if not self._spatial(layer):
            # A Gemm that is not transposed, of floats and codes, would become a MatMulNBits, which rounds the floats.
            return self._call("Gemm", layer, *inputs, transB=1)
        if layer.window is None:
            return self._call("Conv", layer, *inputs)
        strides, padding, dilation, groups = layer.window
        pads = [before for before, _ in padding] + [after for _, after in padding]
        return self._call("Conv", layer, *inputs, strides=strides, pads=pads, dilations=dilation, group=groups)

    def _input(self, layer: Layer) -> str:
        (source,), codes = layer.inputs, self.taken.get(layer.name)
        if codes is None or (source in self.codes and self.codes[source][1] == codes):
            return self._float(source)
        name = f"{layer.name}/input"
        return self.writer.decoded(self.writer.encoded(self._float(source), codes, name), codes, name)

    def _weight(self, layer: Layer) -> str:
        name = f"{layer.name}/weight"
        if layer.name not in self.weights:
            w = np.asarray(layer.weight, np.float32) * np.asarray(layer.gain, np.float32)
            return self.writer.constant(name, layout(layer, w, self._spatial(layer)))
        codes, scale, zero_point, axis, block = self.weights[layer.name]
        q = self.writer.constant(f"{name}/codes", codes)
        if codes.dtype in (SMALL if self.is_integer else TWO_BITS):
            kind = np.dtype("int8" if codes.dtype.name.startswith("int") else "uint8")
            q = self.writer.call("Cast", [q], f"{name}/bytes", to=onnx.helper.np_dtype_to_tensor_dtype(kind))
            zero_point = zero_point.astype(kind)
        numbers = [self.writer.constant(f"{name}/scale", scale), self.writer.constant(f"{name}/zero_point", zero_point)]
        places = {"axis": axis, "block_size": block}
        places = {key: value for key, value in places.items() if value is not None}
        return self.writer.call("DequantizeLinear", [q, *numbers], name, **places)

    def _whole_bias(self, layer: Layer, name: str) -> str:
        """In units of the products, as int32."""
        scale = self.weights[layer.name].scale.astype(np.float64) * self.taken[layer.name].scale
        bias = np.round(layer.bias.astype(np.float64) / scale)
        _check_sums(layer, self.taken[layer.name], bias)
        numbers = {"codes": bias.astype(np.int32), "scale": scale.astype(np.float32)}
        numbers = [self.writer.constant(f"{name}/{key}", each) for key, each in numbers.items()]
        return self.writer.call("DequantizeLinear", numbers, name, **({"axis": 0} if scale.size > 1 else {}))

    def _is_integer_layer(self, layer: Layer) -> bool:
        """Whether ONNX Runtime has a kernel for it that computes with integers."""
        if not self.is_integer or not layer.on_integers:
            return False
        weight, in_bytes = self.weights[layer.name], self.taken[layer.name].in_bytes
        return in_bytes and weight.block is None and weight.codes.dtype in (*SMALL, *BYTES)

    def _relu(self, node: Relu) -> str:
        """ONNX Runtime drops a Relu before floats of 8 bits, as if their codes ended at 0."""
        taken = [self.taken.get(layer.name) for layer in self.graph.consumers(node.name)]
        if all(codes is None or codes.low is not None for codes in taken):
            return self._call("Relu", node, self._float(node.inputs[0]))
        return self._call(
            "Max", node, self._float(node.inputs[0]), self.writer.constant(f"{node.name}/zero", np.float32(0))
        )

    def _mean(self, node: Mean) -> None:
        (source,) = node.inputs
        rank, x = len(self.graph.shape_of(source)), self._float(source)
        if rank > 1 and node.axes == tuple(range(rank - 1)):
            pooled = self._call("GlobalAveragePool", node, x)
            if node.name in self.forms:
                q, codes = self.writer.encoded(pooled, self.forms[node.name], node.name), self.forms[node.name]
                self.codes[node.name] = self._call("Flatten", node, q), codes
            else:
                self.floats[node.name] = self._call("Flatten", node, pooled)
            return
        axes = sorted(onnx_axis(axis, rank) for axis in node.axes)
        axes = self.writer.constant(f"{node.name}/axes", np.asarray(axes, np.int64))
        out = self._call("ReduceMean", node, x, axes, keepdims=0)
        if rank - 1 in node.axes:  # what is left is in the order of the graph
            out = self._to_channels_first(node, out, node.shape)
        self._put(node.name, out)

    def _move(self, node: Any) -> None:
        """Values are moved as codes where they stay what they are, since ONNX Runtime pads no floats between codes as
        integers.
        """
        (source,) = node.inputs
        form = self.forms.get(node.name)
        if form is not None and form.in_bytes and source in self.codes and self.codes[source][1] == form:
            q, codes = self.codes[source]
            self.codes[node.name] = self._moved(node, q, np.asarray(codes.zero_point).astype(codes.kind)), codes
        else:
            self._put(node.name, self._moved(node, self._float(source), np.float32(0)))

    def _moved(self, node: Any, x: str, zero: Any) -> str:
        rank = len(self.graph.shape_of(node.inputs[0]))
        match node:
            case Reshape():
                return self._reshaped(node, x)
            case Slice():
                kept = zip(node.start, node.limit, node.stride, self.graph.shape_of(node.inputs[0]), strict=True)
                cut = [
                    (onnx_axis(axis, rank), *three) for axis, (*three, size) in enumerate(kept) if three != [0, size, 1]
                ]
                axes, starts, ends, steps = np.asarray(cut, np.int64).reshape(-1, 4).T
                numbers = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
                return self._call(
                    "Slice", node, x, *(self.writer.constant(f"{node.name}/{k}", v) for k, v in numbers.items())
                )
            case Pad():
                sides = ((0, 0), *onnx_shape(node.padding))
                pads = self.writer.constant(f"{node.name}/pads", np.asarray(sides, np.int64).T.reshape(-1))
                return self._call("Pad", node, x, pads, self.writer.constant(f"{node.name}/zero", zero))
        raise TypeError(f"{type(node).__name__} has no operator in ONNX")

    def _reshaped(self, node: Reshape, x: str) -> str:
        """In the order of the graph, channels last, since that is what a reshape keeps."""
        shape = self.graph.shape_of(node.inputs[0])
        if _order_matters(shape):
            x = self._call("Transpose", node, x, perm=[0, *range(2, len(shape) + 1), 1])
        first = not _order_matters(node.shape)
        sizes = (0, *(onnx_shape(node.shape) if first else node.shape))  # 0: the batch as it is
        out = self._call("Reshape", node, x, self.writer.constant(f"{node.name}/shape", np.asarray(sizes, np.int64)))
        return out if first else self._to_channels_first(node, out, node.shape)

    def _to_channels_first(self, node: Any, x: str, shape: tuple[int, ...]) -> str:
        rank = len(shape)
        return (
            x if rank < 2 else self.writer.call("Transpose", [x], f"{node.name}/first", perm=[0, rank, *range(1, rank)])
        )


def _order_matters(shape: tuple[int, ...]) -> bool:
    """Whether it makes a difference if channels come first or last."""
    return len(shape) > 1 and shape[-1] > 1 and max(shape[:-1]) > 1


def _check_sums(layer: Layer, taken: Codes, bias: np.ndarray) -> None:
    """Raise ValueError where int32 may not hold what the layer sums."""
    assert taken.low is not None and taken.high is not None
    lhs = max(taken.high - taken.zero_point, taken.zero_point - taken.low)
    w = np.abs(np.asarray(integers(layer.codes)[0]))
    terms, rhs = w[..., 0].size, int(w.max(initial=0))
    check_accumulator(terms, lhs, rhs, f"Layer {layer.name!r}")
    check_accumulator(
        1, 1, terms * lhs * rhs + int(np.abs(bias).max(initial=0)), f"With its bias, layer {layer.name!r}"
    )
