"""What a quantized network does from its input to its output, as a list of few kinds of nodes.

It is what integer execution and the exporters read: no module, no configuration, no program. Shapes are those of one
sample; the batch is the first axis of every tensor and is left out. Images are (height, width, channels).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from qresearch.core.qtensor import QTensor
from qresearch.core.scaling import Scaling

INPUT = "input"  # the name of what the network is given


@dataclasses.dataclass(frozen=True)
class Node:
    """`name` is that of the tensor that comes out, of `shape`; `inputs` are those of the tensors that go in."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layer(Node):
    """gain * operator(round(x), weight) + bias, for every output channel; its name is the path of the layer.

    `weight` is (input, output) or, for a convolution, (spatial ..., input, output). What is not quantized is float.
    """

    weight: QTensor | np.ndarray
    act: Scaling | None
    bias: np.ndarray
    gain: np.ndarray
    window: "Window | None" = None  # of a convolution

    @property
    def channels(self) -> int:
        return self.shape[-1]

    @property
    def on_integers(self) -> bool:
        """Whether both what it multiplies are codes."""
        return self.act is not None and isinstance(self.weight, QTensor)

    @property
    def codes(self) -> QTensor:
        """The weight of a layer whose weight is quantized."""
        assert isinstance(self.weight, QTensor)
        return self.weight


class Window(NamedTuple):
    """How a convolution moves: padding is (before, after) for each spatial axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


@dataclasses.dataclass(frozen=True)
class Relu(Node):
    """max(x, 0)"""


@dataclasses.dataclass(frozen=True)
class Add(Node):
    """The sum of two tensors of one shape."""


@dataclasses.dataclass(frozen=True)
class Mean(Node):
    """The mean over `axes`, which are gone afterwards."""

    axes: tuple[int, ...]
    count: int


@dataclasses.dataclass(frozen=True)
class Reshape(Node):
    """The same elements in another shape."""


@dataclasses.dataclass(frozen=True)
class Slice(Node):
    """x[start:limit:stride] along every axis."""

    start: tuple[int, ...]
    limit: tuple[int, ...]
    stride: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pad(Node):
    """Zeros before and after, along every axis."""

    padding: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """The nodes, each after those that it needs; the last one's tensor is the output."""

    shape: tuple[int, ...]  # of the input
    nodes: tuple[Any, ...]

    @property
    def output(self) -> str:
        return self.nodes[-1].name

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(node for node in self.nodes if isinstance(node, Layer))

    def consumers(self, name: str) -> list[Any]:
        """The nodes that take the tensor `name`."""
        return [node for node in self.nodes if name in node.inputs]

    def shape_of(self, name: str) -> tuple[int, ...]:
        return self.shape if name == INPUT else next(node.shape for node in self.nodes if node.name == name)
