"""A network as an ONNX file: float operators between QuantizeLinear and DequantizeLinear, channels before space.

    without forms   the inputs and weights of quantized layers are codes, all else is float: any grid that ONNX holds
    with forms      every tensor is codes, and ONNX Runtime fuses all of it into operators on integers

Operator set 21, the first with codes of 4 and 16 bits and with blocks; 25, the first with codes of 2 bits, where there
are such weights. Slices, paddings and reshapes move codes, since ONNX Runtime pads no floats between codes as integers.

Measured with ONNX Runtime 1.32 on an x86 with AVX-512 VNNI, ResNet-20, 2 threads, medians of interleaved runs:

    W8A8 with forms   no operator is float; 0.51 of the float network's time at batch 1 and at 32; its codes are those
                      of `Requantize.float` but for ties of float32 rounding (3 of a million after two layers)
    activations       uint8: codes of -128..127 are stored 128 higher. As int8 half of the convolutions stay float,
                      2.2 times the time; with session.qdqisint8allowed=1 none does, 10 times
    weights of 4 bits as INT4 in DequantizeLinear the convolutions run in float, 3.5 times the time. So with forms a
                      Cast to INT8 comes before it, which is computed once, on loading: the file is small, and the
                      time that of 8 bits. Without forms INT4 takes 1.2 times that of INT8. 2 bits are always cast: INT2
                      in DequantizeLinear makes a graph that ONNX Runtime refuses
    float: blocks, 16 bits, floats of 8 bits, layers that a rule keeps float, and a mean that leaves an axis of space

ONNX Runtime changes a few graphs, and the file is written so that it does not: it would quantize float biases and
weights between codes, give inputs of 8 bits to a Gemm whose weight alone is quantized, and drop a Relu before 8-bit
floats. An x86 without VNNI may saturate sums of uint8 and int8 products; session.x64quantprecision=1 is for that.
"""

import enum
from collections.abc import Mapping

from qresearch.graph.forms import Form
from qresearch.graph.nodes import INPUT, Graph

OUTPUT = "logits"


class WeightStorage(enum.StrEnum):
    """In which types the codes of weights lie: the smallest, of 2, 4, 8 or 16 bits, or bytes at least."""

    smallest = "smallest"
    bytes = "bytes"


def onnx_model(
    graph: Graph,
    forms: Mapping[str, Form],
    metadata: Mapping[str, str],
    *,
    weight_storage: WeightStorage | str = WeightStorage.smallest,
) -> bytes:
    """The file of a network, checked by onnx: from `input`, float32 (N, channels, height, width) or (N, features), to
    `logits`, for any N.

    Raises ValueError where the package onnx is not installed, and, with the layer and the way out, for grids, scales
    and sums that the file or its runtime does not hold.
    """
    try:
        from qresearch.export.onnx_nodes import Emitter, onnx_shape
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ValueError(
            "Writing ONNX files needs the extra `onnx`, which is not installed: `make setup EXTRAS=onnx` in a "
            "checkout, or pip install 'qresearch[onnx]'."
        ) from error
    emitter = Emitter(graph, forms, in_bytes=WeightStorage(weight_storage) is WeightStorage.bytes)
    output = emitter.emit()
    ends = {INPUT: onnx_shape(graph.shape), OUTPUT: onnx_shape(graph.shape_of(graph.output))}
    return emitter.writer.content(ends, output, metadata)
