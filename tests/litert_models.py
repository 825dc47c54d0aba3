"""Models of one int8 operator as LiteRT files, and their interpreter.

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

from collections.abc import Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from qresearch.export.litert_file import LiteRTFile, Scaling

Scalings = tuple[Scaling, Scaling, Scaling]


def convolution(
    image: tuple[int, ...],
    weight: np.ndarray,
    bias: np.ndarray,
    scalings: Scalings,
    *,
    strides: tuple[int, int] = (1, 1),
    same: bool = True,
    relu: bool = False,
) -> bytes:
    """CONV_2D of an NHWC image by a weight of shape (out, height, width, in); `scalings` of image, weight, output."""
    size = output_size(image[1:3], weight.shape[1:3], strides, same)
    file = LiteRTFile()
    x = file.tensor("image", "INT8", image[1:], scalings[0])
    y = file.tensor("output", "INT8", (*size, weight.shape[0]), scalings[2])
    options = {"padding": file.padding(same), "strideH": strides[0], "strideW": strides[1]}
    options["fusedActivationFunction"] = file.activation(relu)
    file.operator("CONV_2D", [x, *_parameters(file, weight, bias, scalings)], y, **options)
    return file.content({"image": x}, {"output": y})


def fully_connected(
    rows: int, weight: np.ndarray, bias: np.ndarray, scalings: Scalings, *, relu: bool = False
) -> bytes:  # fmt: skip
    """FULLY_CONNECTED of (rows, in) by a weight of shape (out, in); `scalings` of input, weight, output."""
    file = LiteRTFile()
    x = file.tensor("input", "INT8", weight.shape[1:], scalings[0])
    y = file.tensor("output", "INT8", weight.shape[:1], scalings[2])
    inputs = [x, *_parameters(file, weight, bias, scalings)]
    file.operator("FULLY_CONNECTED", inputs, y, fusedActivationFunction=file.activation(relu))
    return file.content({"input": x}, {"output": y})


def addition(shape: tuple[int, ...], scalings: Scalings, *, relu: bool = False) -> bytes:
    """ADD of two tensors of `shape`; `scalings` of the two and of the output."""
    file = LiteRTFile()
    names = ("a", "b", "sum")
    a, b, y = (file.tensor(name, "INT8", shape[1:], each) for name, each in zip(names, scalings, strict=True))
    file.operator("ADD", [a, b], y, fusedActivationFunction=file.activation(relu))
    return file.content({"a": a, "b": b}, {"sum": y})


def mean(image: tuple[int, ...], scalings: tuple[Scaling, Scaling], *, keep_dims: bool) -> bytes:
    """MEAN of an NHWC image over height and width; `scalings` of input and output."""
    file = LiteRTFile()
    x = file.tensor("image", "INT8", image[1:], scalings[0])
    axes = file.constant("axes", np.array([1, 2], np.int32))
    y = file.tensor("mean", "INT8", (1, 1, image[3]) if keep_dims else image[3:], scalings[1])
    file.operator("MEAN", [x, axes], y, keepDims=keep_dims)
    return file.content({"image": x}, {"mean": y})


def average_pool(
    image: tuple[int, ...], window: tuple[int, int], scaling: Scaling, *, strides: tuple[int, int], relu: bool = False
) -> bytes:
    """AVERAGE_POOL_2D of an NHWC image without padding; input and output share `scaling`."""
    file = LiteRTFile()
    x = file.tensor("image", "INT8", image[1:], scaling)
    y = file.tensor("mean", "INT8", (*output_size(image[1:3], window, strides, False), image[3]), scaling)
    options = {"filterHeight": window[0], "filterWidth": window[1], "strideH": strides[0], "strideW": strides[1]}
    options |= {"padding": file.padding(same=False), "fusedActivationFunction": file.activation(relu)}
    file.operator("AVERAGE_POOL_2D", [x], y, **options)
    return file.content({"image": x}, {"mean": y})


def run(model: bytes, *inputs: np.ndarray, resolver: OpResolverType) -> np.ndarray:
    """The output of a model with one output, on one thread, for a batch of any length."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    details = interpreter.get_input_details()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], values.shape)
    interpreter.allocate_tensors()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def output_size(size: Sequence[int], window: Sequence[int], strides: Sequence[int], same: bool) -> tuple[int, ...]:
    """Height and width of what a window of `window` leaves of an image."""
    taken = [0, 0] if same else [length - 1 for length in window]
    return tuple(-(-(n - less) // stride) for n, less, stride in zip(size, taken, strides, strict=True))


def _parameters(file: LiteRTFile, weight: np.ndarray, bias: np.ndarray, scalings: Scalings) -> list[int]:
    """Weight and bias; the scale of the bias is that of input times weight."""
    summed = Scaling(np.float32(scalings[0].scale) * scalings[1].scale)
    return [file.constant("weight", weight, scalings[1]), file.constant("bias", bias, summed)]
