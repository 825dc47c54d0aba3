"""A LiteRT file (once TensorFlow Lite; a FlatBuffer marked TFL3): tensors, the operators between them, metadata.

It is written with the schema that the package ai-edge-litert brings; no converter and no interpreter takes part. What
the kernels take is held against `OPERATORS`, so that a file has no operator that the interpreter would refuse.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qresearch.core.packing import pack

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of the bytes of a constant; the schema asks for it, and Python's packing of it does not see to it
MISSING = (
    "LiteRT files are written with the schema of ai-edge-litert, which is not installed; install the extra litert: "
    "make setup EXTRAS=litert in a checkout, or pip install 'qresearch[litert]'."
)
# By operator: its table of options, and its version for the types of what goes in and what comes out.
OPERATORS = {
    "CONV_2D": (
        "Conv2DOptions",
        {
            "FLOAT32 FLOAT32 FLOAT32 -> FLOAT32": 6,
            "INT8 INT8 INT32 -> INT8": 3,
            "INT8 INT4 INT32 -> INT8": 7,
        },
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        {"FLOAT32 FLOAT32 FLOAT32 -> FLOAT32": 2, "INT8 INT8 INT32 -> INT8": 3, "INT8 INT4 INT32 -> INT8": 6},
    ),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        {
            "FLOAT32 FLOAT32 FLOAT32 -> FLOAT32": 5,
            "INT8 INT8 INT32 -> INT8": 12,
            "INT8 INT4 INT32 -> INT8": 12,
            "INT8 INT2 INT32 -> INT8": 14,
        },
    ),
    "ADD": ("AddOptions", {"FLOAT32 FLOAT32 -> FLOAT32": 1, "INT8 INT8 -> INT8": 2}),
    "MEAN": ("ReducerOptions", {"FLOAT32 INT32 -> FLOAT32": 1, "INT8 INT32 -> INT8": 2}),
    "AVERAGE_POOL_2D": ("Pool2DOptions", {"INT8 -> INT8": 2}),
    "RELU": (None, {"FLOAT32 -> FLOAT32": 1, "INT8 -> INT8": 2}),
    "PAD": ("PadOptions", {"FLOAT32 INT32 -> FLOAT32": 1, "INT8 INT32 -> INT8": 2}),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        {"FLOAT32 INT32 INT32 INT32 -> FLOAT32": 1, "INT8 INT32 INT32 INT32 -> INT8": 2},
    ),
    "RESHAPE": ("ReshapeOptions", {"FLOAT32 INT32 -> FLOAT32": 1, "INT8 INT32 -> INT8": 1}),
    "QUANTIZE": ("QuantizeOptions", {"FLOAT32 -> INT8": 1, "INT8 -> INT8": 2}),
    "DEQUANTIZE": ("DequantizeOptions", {"INT8 -> FLOAT32": 2}),
}


class Scaling(NamedTuple):
    """x ~ (codes - zero_point) * scale, in the float32 of the file; a scale for each index of `axis`, or one."""

    scale: np.ndarray
    zero_point: int = 0
    axis: int = 0


def litert_schema() -> Any:
    """The schema of the file as Python classes. Raises ValueError where the extra is not installed."""
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError as error:
        raise ValueError(MISSING) from error


def litert_metadata(content: bytes) -> dict[str, str]:
    """The metadata that a file was written with."""
    schema = litert_schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data).decode() for entry in model.metadata or []}


class LiteRTFile:
    """Tensors are added before the operators that take them, operators in the order in which they run."""

    def __init__(self) -> None:
        self.schema = litert_schema()
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [_Buffer(self.schema, b"")]  # the empty one of tensors that are no constants
        self.operators: list[Any] = []
        self.codes: list[tuple[str, int]] = []

    def tensor(self, name: str, kind: str, shape: Sequence[int], scaling: Scaling | None = None) -> int:
        """The index of a new tensor of `shape`, the batch left out, which may be of any length."""
        return self._tensor(name, kind, [1, *shape], scaling, shapeSignature=[-1, *shape])

    def constant(self, name: str, values: np.ndarray, scaling: Scaling | None = None, *, kind: str = "") -> int:
        """The index of a new constant; `kind` is that of its values, or INT4 or INT2, which packs them."""
        kind = kind or values.dtype.name.upper()
        bits = {"INT4": 4, "INT2": 2}.get(kind)
        self.buffers.append(_Buffer(self.schema, (values if bits is None else pack(values, bits)).tobytes()))
        return self._tensor(name, kind, list(values.shape), scaling, buffer=len(self.buffers) - 1)

    def _tensor(self, name: str, kind: str, shape: list[int], scaling: Scaling | None, **details: Any) -> int:
        made = self.schema.TensorT(name=name, type=getattr(self.schema.TensorType, kind), shape=shape, **details)
        if scaling is not None:
            scale = np.asarray(scaling.scale, np.float32).ravel()
            made.quantization = self.schema.QuantizationParametersT(
                scale=scale, zeroPoint=[scaling.zero_point] * scale.size, quantizedDimension=scaling.axis
            )
        self.tensors.append(made)
        return len(self.tensors) - 1

    def kind(self, tensor: int) -> str:
        kinds = vars(self.schema.TensorType).items()
        return next(name for name, value in kinds if value == self.tensors[tensor].type and name[0] != "_")

    def operator(self, name: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """`output`, which the operator makes of `inputs`.

        Raises TypeError where no kernel takes tensors of these types.
        """
        table, versions = OPERATORS[name]
        types = f"{' '.join(map(self.kind, inputs))} -> {self.kind(output)}"
        if types not in versions:
            raise TypeError(f"{name} with {types}: LiteRT has {', '.join(versions)}")
        if (code := (name, versions[types])) not in self.codes:
            self.codes.append(code)
        made = self.schema.OperatorT(
            opcodeIndex=self.codes.index(code), inputs=list(inputs), outputs=[output]
        )  # fmt: skip
        if table is not None:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, table)
            made.builtinOptions = getattr(self.schema, f"{table}T")(**options)
        self.operators.append(made)
        return output

    def padding(self, same: bool) -> int:
        return self.schema.Padding.SAME if same else self.schema.Padding.VALID

    def activation(self, relu: bool) -> int:
        return self.schema.ActivationFunctionType.RELU if relu else self.schema.ActivationFunctionType.NONE

    def content(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, str] | None = None
    ) -> bytes:
        """The file, with one signature that names its inputs and outputs."""
        schema, entries = self.schema, []
        for name, text in (metadata or {}).items():
            self.buffers.append(_Buffer(schema, text.encode()))
            entries.append(schema.MetadataT(name=name, buffer=len(self.buffers) - 1))
        maps = [
            [schema.TensorMapT(name=name, tensorIndex=index) for name, index in ends.items()]
            for ends in (inputs, outputs)
        ]
        subgraph = schema.SubGraphT(
            name="main", tensors=self.tensors, operators=self.operators,
            inputs=list(inputs.values()), outputs=list(outputs.values()),
        )  # fmt: skip
        signature = schema.SignatureDefT(signatureKey="serving_default", inputs=maps[0], outputs=maps[1])
        model = schema.ModelT(
            version=SCHEMA_VERSION, description="qresearch", subgraphs=[subgraph], buffers=self.buffers,
            operatorCodes=[self._operator_code(*code) for code in self.codes],
            signatureDefs=[signature], metadata=entries,
        )  # fmt: skip
        builder = importlib.import_module("flatbuffers").Builder(1 << 16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _operator_code(self, name: str, version: int) -> Any:
        number = getattr(self.schema.BuiltinOperator, name)
        return self.schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=version)


class _Buffer:
    """The bytes of a constant, which packs itself as BufferT of the schema does, aligned."""

    def __init__(self, schema: Any, data: bytes):
        self.schema, self.data = schema, data

    def Pack(self, builder: Any) -> int:  # the name that the schema calls
        if self.data:
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            data = builder.EndVector()
        self.schema.BufferStart(builder)
        if self.data:
            self.schema.BufferAddData(builder, data)
        return self.schema.BufferEnd(builder)
