"""An ONNX graph in the making: its nodes and constants, and how floats become codes and codes floats in it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

BATCH = "N"
OPSET = 21  # the first with 4-bit and 16-bit codes and with blocks
OPSET_OF_TWO_BITS = 25
TWO_BITS = (onnx.TensorProto.INT2, onnx.TensorProto.UINT2)
BYTES = ("int8", "uint8")  # the types of codes that ONNX Runtime clips, slices and pads


class Codes(NamedTuple):
    """How codes lie in a file: x ~ (codes - zero_point) * scale, low <= codes <= high, in a type of numpy.

    Codes of 8-bit floats have no bounds: those of the type, where they `saturate`.
    """

    kind: np.dtype
    scale: float
    zero_point: int = 0
    low: int | None = None
    high: int | None = None
    saturate: bool = True

    @property
    def in_bytes(self) -> bool:
        return self.kind.name in BYTES

    @property
    def clipped(self) -> bool:
        """Whether the type has more codes than are used."""
        if self.low is None:
            return False
        info = ml_dtypes.iinfo(self.kind)
        return (self.low, self.high) != (int(info.min), int(info.max))


class Writer:
    """Collects nodes and constants; every method that adds one returns the name of its tensor."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, values: Any) -> str:
        """A tensor with these values, in their own type."""
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def call(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """The output of an operator."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def encoded(self, x: str, codes: Codes, name: str) -> str:
        """The codes of `x`. Those of a byte are clipped as codes, so that ONNX Runtime fuses what stands around it, and
        wider ones as floats, since it clips no others.
        """
        bounds = np.asarray([codes.low, codes.high]) if codes.clipped else None
        if bounds is not None and not codes.in_bytes:
            x = self._clip(x, ((bounds - codes.zero_point) * codes.scale).astype(np.float32), name)
        attributes = {} if codes.saturate else {"saturate": 0}
        q = self.call("QuantizeLinear", [x, *self._numbers(codes, name)], f"{name}/codes", **attributes)
        return self._clip(q, bounds.astype(codes.kind), name) if bounds is not None and codes.in_bytes else q

    def decoded(self, q: str, codes: Codes, name: str) -> str:
        """The floats that codes stand for."""
        return self.call("DequantizeLinear", [q, *self._numbers(codes, name)], f"{name}/values")

    def _clip(self, x: str, bounds: np.ndarray, name: str) -> str:
        ends = [self.constant(f"{name}/{key}", end) for key, end in zip(("low", "high"), bounds, strict=True)]
        return self.call("Clip", [x, *ends], f"{name}/clipped")

    def _numbers(self, codes: Codes, name: str) -> list[str]:
        scale = self.constant(f"{name}/scale", np.float32(codes.scale))
        return [scale, self.constant(f"{name}/zero_point", np.asarray(codes.zero_point).astype(codes.kind))]

    def content(self, ends: Mapping[str, tuple[int, ...]], output: str, metadata: Mapping[str, str]) -> bytes:
        """The file, checked. `ends` are the names of the input and of the output, with the shapes of a sample; `output`
        is the tensor that becomes the latter.
        """
        name = list(ends)[1]
        for node in self.nodes:
            node.output[:] = [name if tensor == output else tensor for tensor in node.output]
        infos = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [BATCH, *shape]) for name, shape in ends.items()
        ]
        found = helper.make_graph(self.nodes, "network", infos[:1], infos[1:], list(self.constants.values()))
        two_bits = any(tensor.data_type in TWO_BITS for tensor in self.constants.values())
        opset = [helper.make_opsetid("", OPSET_OF_TWO_BITS if two_bits else OPSET)]
        version = helper.find_min_ir_version_for(opset)
        model = helper.make_model(found, opset_imports=opset, ir_version=version, producer_name="qresearch")
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
