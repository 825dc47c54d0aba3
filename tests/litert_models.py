"""Models of one int8 operator as LiteRT files, written with the schema of the runtime, and their interpreter.

The interpreter has three sets of kernels, and they do not agree. Measured with ai-edge-litert 2.3.0 on an x86 with
AVX-512, random layers whose outputs use 100 to 260 codes, against BUILTIN_REF; nothing differs by more than one code:

    operator           codes       BUILTIN_WITHOUT_DEFAULT_DELEGATES    BUILTIN (XNNPACK)
    CONV_2D            1 920 000   0.051 %                              0.046 %
    FULLY_CONNECTED    1 920 000   0.049 %                              0.0003 %
    ADD                  400 000   0                                    0.0013 %
    MEAN                  51 200   0 (dimensions kept: 13.3 %)          7.6 %
    AVERAGE_POOL_2D       25 600   0                                    0

BUILTIN_REF, the reference kernels, follows the fixed-point arithmetic of the paper except in FULLY_CONNECTED, which it
does in float64. BUILTIN_WITHOUT_DEFAULT_DELEGATES runs convolutions and products in ruy, whose second rounding takes
ties upwards. XNNPACK multiplies the accumulator by the multiplier, both as float32, and rounds halves to the even code:
so computed, 0 of 200 513 codes of convolutions and products differed from it.
"""

import dataclasses
from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

TYPES = {np.dtype(np.int8): schema.TensorType.INT8, np.dtype(np.int32): schema.TensorType.INT32}


@dataclasses.dataclass(frozen=True)
class Scaling:
    """x ~ (codes - zero_point) * scale, in the float32 of the file; a scale for each index of `axis`, or one."""

    scale: np.ndarray
    zero_point: int = 0
    axis: int = 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a model: an input or output of a shape, or a constant."""

    shape: tuple[int, ...]
    scaling: Scaling | None = None
    constant: np.ndarray | None = None


def convolution(
    image: tuple[int, ...],
    weight: np.ndarray,
    bias: np.ndarray,
    scalings: tuple[Scaling, Scaling, Scaling],
    *,
    strides: tuple[int, int] = (1, 1),
    same: bool = True,
    relu: bool = False,
) -> bytes:
    """CONV_2D of an NHWC image by a weight of shape (out, height, width, in); `scalings` of image, weight, output."""
    options = schema.Conv2DOptionsT(
        padding=_padding(same), strideH=strides[0], strideW=strides[1], fusedActivationFunction=_activation(relu)
    )
    size = output_size(image[1:3], weight.shape[1:3], strides, same)
    output = Tensor((image[0], *size, weight.shape[0]), scalings[2])
    inputs = [Tensor(image, scalings[0]), *_parameters(weight, bias, scalings)]
    return _model("CONV_2D", schema.BuiltinOptions.Conv2DOptions, options, inputs, output, version=3)


def fully_connected(
    rows: int, weight: np.ndarray, bias: np.ndarray, scalings: tuple[Scaling, Scaling, Scaling], *, relu: bool = False
) -> bytes:
    """FULLY_CONNECTED of (rows, in) by a weight of shape (out, in); `scalings` of input, weight, output."""
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=_activation(relu))
    inputs = [Tensor((rows, weight.shape[1]), scalings[0]), *_parameters(weight, bias, scalings)]
    output = Tensor((rows, weight.shape[0]), scalings[2])
    kind = schema.BuiltinOptions.FullyConnectedOptions
    return _model("FULLY_CONNECTED", kind, options, inputs, output, version=12 if scalings[1].scale.size > 1 else 4)


def addition(shape: tuple[int, ...], scalings: tuple[Scaling, Scaling, Scaling], *, relu: bool = False) -> bytes:
    """ADD of two tensors of `shape`; `scalings` of the two and of the output."""
    options = schema.AddOptionsT(fusedActivationFunction=_activation(relu))
    inputs = [Tensor(shape, scaling) for scaling in scalings[:2]]
    return _model("ADD", schema.BuiltinOptions.AddOptions, options, inputs, Tensor(shape, scalings[2]), version=2)


def mean(image: tuple[int, ...], scalings: tuple[Scaling, Scaling], *, keep_dims: bool) -> bytes:
    """MEAN of an NHWC image over height and width; `scalings` of input and output."""
    options = schema.ReducerOptionsT(keepDims=keep_dims)
    inputs = [Tensor(image, scalings[0]), Tensor((2,), constant=np.array([1, 2], np.int32))]
    output = Tensor((image[0], 1, 1, image[3]) if keep_dims else (image[0], image[3]), scalings[1])
    return _model("MEAN", schema.BuiltinOptions.ReducerOptions, options, inputs, output, version=2)


def average_pool(
    image: tuple[int, ...], window: tuple[int, int], scaling: Scaling, *, strides: tuple[int, int], relu: bool = False
) -> bytes:
    """AVERAGE_POOL_2D of an NHWC image without padding; input and output share `scaling`."""
    options = schema.Pool2DOptionsT(
        padding=_padding(False), filterHeight=window[0], filterWidth=window[1], strideH=strides[0], strideW=strides[1]
    )
    options.fusedActivationFunction = _activation(relu)
    output = Tensor((image[0], *output_size(image[1:3], window, strides, False), image[3]), scaling)
    kind = schema.BuiltinOptions.Pool2DOptions
    return _model("AVERAGE_POOL_2D", kind, options, [Tensor(image, scaling)], output, version=2)


def run(model: bytes, *inputs: np.ndarray, resolver: OpResolverType) -> np.ndarray:
    """The output of a model with one output, on one thread."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def output_size(size: Sequence[int], window: Sequence[int], strides: Sequence[int], same: bool) -> tuple[int, ...]:
    """Height and width of what a window of `window` leaves of an image."""
    taken = [0, 0] if same else [length - 1 for length in window]
    return tuple(-(-(n - less) // stride) for n, less, stride in zip(size, taken, strides, strict=True))


def _parameters(weight: np.ndarray, bias: np.ndarray, scalings: tuple[Scaling, Scaling, Scaling]) -> list[Tensor]:
    """Weight and bias; the scale of the bias is that of input times weight."""
    summed = Scaling(np.float32(scalings[0].scale) * scalings[1].scale)
    return [Tensor(weight.shape, scalings[1], weight), Tensor(bias.shape, summed, bias)]


def _padding(same: bool) -> int:
    return schema.Padding.SAME if same else schema.Padding.VALID


def _activation(relu: bool) -> int:
    return schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE


def _model(name: str, kind: int, options: object, inputs: list[Tensor], output: Tensor, *, version: int) -> bytes:
    """The file of a model that is one operator; inputs that are constants are not inputs of the model."""
    code = getattr(schema.BuiltinOperator, name)
    operator = schema.OperatorT(
        inputs=list(range(len(inputs))), outputs=[len(inputs)], builtinOptionsType=kind, builtinOptions=options
    )
    buffers, tensors = [schema.BufferT()], []  # the first buffer is the empty one of tensors that are no constants
    for index, tensor in enumerate([*inputs, output]):
        buffers += [] if tensor.constant is None else [schema.BufferT(data=list(tensor.constant.tobytes()))]
        tensors.append(_tensor(tensor, f"tensor {index}", 0 if tensor.constant is None else len(buffers) - 1))
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=[index for index, tensor in enumerate(inputs) if tensor.constant is None],
        outputs=[len(inputs)],
        operators=[operator],
    )
    codes = [schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)]
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers, description=name)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(tensor: Tensor, name: str, buffer: int) -> schema.TensorT:
    dtype = np.dtype(np.int8) if tensor.constant is None else tensor.constant.dtype
    made = schema.TensorT(shape=list(tensor.shape), type=TYPES[dtype], buffer=buffer, name=name)
    if tensor.scaling is not None:
        scale = np.float32(tensor.scaling.scale).ravel()
        zero_points = [tensor.scaling.zero_point] * scale.size
        made.quantization = schema.QuantizationParametersT(
            scale=scale.tolist(), zeroPoint=zero_points, quantizedDimension=tensor.scaling.axis
        )
    return made
