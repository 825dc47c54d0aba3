"""From a quantized network to its graph: the network is traced, and what JAX has recorded is read.

The layers are found by their slots; each is traced as a function of its own, whose name is the path of the layer. What
follows from numbers alone is computed on the spot. A factor and an offset for each channel, such as a bias or a batch
norm that is not folded, go into the layer before them.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import Literal

from qresearch.core.qtensor import QTensor
from qresearch.core.spec import Granularity, QuantSpec
from qresearch.graph.nodes import INPUT, Add, Graph, Layer, Mean, Pad, Relu, Reshape, Scaling, Slice, Window
from qresearch.nn.fake_quant import FakeQuant, TensorQuantizer
from qresearch.nn.geometry import Geometry
from qresearch.nn.slots import OPERATORS, Slot, slots
from qresearch.quantizers.quantizer import Quantizer

BATCH = 2  # of the traced input; every tensor has to keep it as its first axis
WAY_OUT = "Set export.between=float32, or keep the layer float by a rule."
LAYER = "layer:"  # before the path, in the name of the function that stands for a layer


class GraphError(ValueError):
    """A network that does something which the nodes of a graph do not say."""


class _Tensor(NamedTuple):
    """A tensor of the graph, as it was after `version` changes to the node that makes it."""

    name: str
    version: int


def trace(model: nnx.Module, layers: Mapping[str, Geometry], shape: tuple[int, ...]) -> Graph:
    """The graph of a network (`eval()` first) for images of `shape`; `layers` is its geometry.

    Raises GraphError for an operator without a node, with the layer before it, and ValueError for a quantizer that
    changes values before or after it rounds them, or whose scale is found at run time.
    """
    marked = nnx.clone(model)
    for path, slot in slots(marked).items():
        slot.fill(_marker(path, slot.attribute))
    jaxpr = jax.make_jaxpr(lambda x: marked(x))(jnp.zeros((BATCH, *shape)))
    reader = _Reader({path: (slot, layers[path]) for path, slot in slots(model).items()})
    (output,) = reader.run(jaxpr.jaxpr, jaxpr.consts, [reader.begin(shape)])
    reader.check(output)
    return Graph(shape, tuple(reader.nodes.values()))


def _marker(path: str, attribute: str) -> Callable:
    """What stands for a layer while the network is traced: its operator, as a function that is named."""

    def marker(lhs, rhs=None, *args, **kwargs):
        if attribute not in ("dot_general", "conv_general_dilated"):
            raise GraphError(f"Layer {path!r} is an embedding, which no graph has; use export.between=float32.")

        def layer(x, weight):
            return OPERATORS[attribute](x, weight, *args, **kwargs)

        layer.__name__ = LAYER + path
        return jax.jit(layer)(lhs, rhs)

    return marker


class _Reader:
    """Walks through what was traced. Values are tensors of the graph or numpy arrays."""

    def __init__(self, places: Mapping[str, tuple[Slot, Geometry]]):
        self.places = places
        self.nodes: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.sums: set[str] = set()  # means that still want their division
        self.last = "the input"  # the layer that was met last, for messages

    def begin(self, shape: tuple[int, ...]) -> _Tensor:
        self.shapes[INPUT], self.versions[INPUT] = shape, 0
        return _Tensor(INPUT, 0)

    def run(self, jaxpr: Any, consts: list[Any], arguments: list[Any]) -> list[Any]:
        known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

        def value(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            out = self._equation(eqn, [value(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, out, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, values: list[Any]) -> list[Any]:
        name = str(eqn.params.get("name", ""))
        if name.startswith(LAYER):
            return [self._layer(name.removeprefix(LAYER), eqn, values)]
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None and eqn.primitive.name not in ("scan", "while", "cond"):
            return self.run(getattr(inner, "jaxpr", inner), list(getattr(inner, "consts", ())), values)
        if not any(isinstance(value, _Tensor) for value in values):
            out = eqn.primitive.bind(*values, **eqn.params)
            return list(out) if eqn.primitive.multiple_results else [out]
        operator = getattr(self, f"_{eqn.primitive.name}", None)
        if operator is None:
            raise self._unknown(eqn.primitive.name)
        return [operator(eqn, *values)]

    def _unknown(self, operation: str) -> GraphError:
        return GraphError(
            f"After layer {self.last!r} the network applies {operation}, which has no integer form here. Set "
            "export.between=float32, which leaves what lies between the layers float."
        )

    def check(self, tensor: _Tensor) -> None:
        """Raise GraphError where a tensor is used that a node has gone beyond, or is still a sum."""
        if tensor.version != self.versions[tensor.name] or tensor.name in self.sums:
            raise self._unknown("a sum, or uses a layer's output before its bias")

    def _node(self, kind: Any, eqn: Any, inputs: list[_Tensor], **details: Any) -> _Tensor:
        """A node of the graph, named by its kind and a number, or by `name`."""
        for tensor in inputs:
            self.check(tensor)
        batch, *shape = eqn.outvars[0].aval.shape or (0,)
        if batch != BATCH:
            raise self._unknown(f"{eqn.primitive.name} across the batch")
        name = details.pop("name", f"{kind.__name__.lower()}.{sum(isinstance(n, kind) for n in self.nodes.values())}")
        if name in self.nodes:
            raise GraphError(f"Layer {name!r} is called more than once; give each use a layer of its own.")
        self.nodes[name] = kind(name, tuple(tensor.name for tensor in inputs), tuple(shape), **details)
        self.versions[name], self.shapes[name] = 0, tuple(shape)
        return _Tensor(name, 0)

    def _layer(self, path: str, eqn: Any, values: list[Any]) -> _Tensor:
        x, kernel = values
        if not isinstance(x, _Tensor) or isinstance(kernel, _Tensor):
            raise GraphError(f"Layer {path!r} does not multiply an activation with a weight; keep it out of the graph.")
        slot, g = self.places[path]
        occupant = slot.occupant if isinstance(slot.occupant, FakeQuant) else None
        weight: Any = np.asarray(kernel, np.float32)
        if occupant is not None and occupant.weight is not None:
            occupant.weight.check_ends_with_rounding(
                g.rhs_shape, g.rhs_axes, f"The weight of layer {path!r} has no codes"
            )
            weight = _concrete(occupant.weight.quantize(slot.weight[...], g.rhs_axes))
        act = None if occupant is None or occupant.act is None else _scaling(path, occupant.act, g)
        (product,) = _flat(eqn.params["jaxpr"].jaxpr)
        channels = eqn.outvars[0].aval.shape[-1]
        numbers = {"bias": np.zeros(channels, np.float32), "gain": np.ones(channels, np.float32)}
        self.last = path
        window = _window(path, product)
        return self._node(Layer, eqn, [x], name=path, weight=weight, act=act, window=window, **numbers)

    def _add(self, eqn, a, b):
        if isinstance(a, _Tensor) and isinstance(b, _Tensor):
            if self.shapes[a.name] != self.shapes[b.name]:
                raise self._unknown("an addition of tensors of different shapes")
            return self._node(Add, eqn, [a, b])
        tensor, number = (a, b) if isinstance(a, _Tensor) else (b, a)
        return self._affine(eqn, tensor, factor=1.0, offset=number)

    def _sub(self, eqn, a, b):
        if isinstance(b, _Tensor):
            raise self._unknown("a subtraction")
        return self._affine(eqn, a, factor=1.0, offset=-np.asarray(b))

    def _mul(self, eqn, a, b):
        if isinstance(a, _Tensor) and isinstance(b, _Tensor):
            raise self._unknown("a product of two activations")
        tensor, number = (a, b) if isinstance(a, _Tensor) else (b, a)
        return self._affine(eqn, tensor, factor=number, offset=0.0)

    def _div(self, eqn, a, b):
        if isinstance(b, _Tensor):
            raise self._unknown("a division by an activation")
        return self._affine(eqn, a, factor=1 / np.asarray(b, np.float64), offset=0.0)

    def _affine(self, eqn: Any, tensor: _Tensor, *, factor: Any, offset: Any) -> _Tensor:
        """tensor * factor + offset: the division of a mean, or numbers for each channel of a layer."""
        node: Any = self.nodes.get(tensor.name)
        factor, offset = np.asarray(factor, np.float64), np.asarray(offset, np.float64)
        if tensor.name in self.sums and not offset.any() and factor.size == 1:
            if math.isclose(factor.item() * node.count, 1, rel_tol=1e-6):
                self.sums.remove(tensor.name)
                return tensor
            raise self._unknown("a sum that is no mean")
        for number in (factor, offset):
            if not isinstance(node, Layer) or any(size != 1 for size in number.shape[:-1]):
                raise self._unknown(f"{eqn.primitive.name} with numbers")
        self.check(tensor)
        factor, offset = (number.reshape(-1) for number in (factor, offset))
        changed = {"gain": node.gain * factor, "bias": node.bias * factor + offset}
        self.nodes[node.name] = dataclasses.replace(node, **{k: np.float32(v) for k, v in changed.items()})
        self.versions[node.name] += 1
        return _Tensor(node.name, self.versions[node.name])

    def _max(self, eqn, a, b):
        tensor, number = (a, b) if isinstance(a, _Tensor) else (b, a)
        if isinstance(number, _Tensor) or np.any(np.asarray(number)):
            raise self._unknown("a maximum other than with zero")
        return self._node(Relu, eqn, [tensor])

    def _reduce_sum(self, eqn, tensor):
        axes = tuple(axis - 1 for axis in eqn.params["axes"])
        count = math.prod(self.shapes[tensor.name][axis] for axis in axes)
        made = self._node(Mean, eqn, [tensor], axes=axes, count=count)
        self.sums.add(made.name)
        return made

    def _reshape(self, eqn, tensor):
        if eqn.outvars[0].aval.shape[1:] == self.shapes[tensor.name]:
            return tensor
        return self._node(Reshape, eqn, [tensor])

    def _squeeze(self, eqn, tensor):
        return self._reshape(eqn, tensor)

    def _convert_element_type(self, eqn, tensor):
        if eqn.params["new_dtype"] != np.float32:
            raise self._unknown(f"a conversion to {eqn.params['new_dtype']}")
        return tensor

    def _copy(self, eqn, tensor):
        return tensor

    _stop_gradient = _copy

    def _slice(self, eqn, tensor):
        start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
        stride = eqn.params["strides"] or (1,) * len(start)
        details = {"start": start[1:], "limit": limit[1:], "stride": stride[1:]}
        return self._node(Slice, eqn, [tensor], **{key: tuple(map(int, value)) for key, value in details.items()})

    def _pad(self, eqn, tensor, value):
        if isinstance(value, _Tensor) or np.any(np.asarray(value)):
            raise self._unknown("a padding other than with zero")
        config = [tuple(map(int, entry)) for entry in eqn.params["padding_config"]]
        if any(inner or low < 0 or high < 0 for low, high, inner in config):
            raise self._unknown("a padding between elements, or a negative one")
        if not any(low or high for low, high, _ in config):
            return tensor
        return self._node(Pad, eqn, [tensor], padding=tuple((low, high) for low, high, _ in config[1:]))


def _concrete(q: QTensor) -> QTensor:
    """The tensor with Python numbers in its spec, and so with codes in the smallest type."""
    spec = _with_numbers(q.spec)
    return QTensor(spec.grid.encode(q.spec.grid.decode(q.codes)), q.scale, q.zero_point, spec)


def _with_numbers(spec: QuantSpec) -> QuantSpec:
    return jax.tree.map(lambda leaf: np.asarray(leaf).item() if np.ndim(leaf) == 0 else leaf, spec)


def check_scaling(path: str, spec: QuantSpec, quantizer: Quantizer) -> None:
    """Raise ValueError where the input of a layer has no single scale that is known before it is seen."""
    tensor, name = f"The input of layer {path!r}", type(quantizer).__name__
    if not quantizer.stored:
        raise ValueError(f"{tensor} has a scale that {name} finds at run time, from floats. {WAY_OUT}")
    if spec.granularity is not Granularity.tensor:
        raise ValueError(f"{tensor} has granularity={spec.granularity}, and a graph knows one scale. {WAY_OUT}")


def _scaling(path: str, quantizer: TensorQuantizer, g: Geometry) -> Scaling:
    """How the input of a layer is rounded. Raises ValueError where rounding is not all that happens to it."""
    tensor = f"The input of layer {path!r}"
    check_scaling(path, quantizer.spec, quantizer.quantizer)
    quantizer.check_ends_with_rounding(g.lhs_shape, g.lhs_axes, f"{tensor} has no codes")
    probe = jax.device_put(np.ones(g.lhs_shape, np.float32))
    values, scale, zero_point = quantizer.rounding(probe, g.lhs_axes)
    if values is not probe:
        raise ValueError(f"{tensor} is changed by {type(quantizer.quantizer).__name__} before it is rounded. {WAY_OUT}")
    scale, zero_point = (np.asarray(0.0 if number is None else number) for number in (scale, zero_point))
    return Scaling(_with_numbers(quantizer.spec), np.float32(scale.reshape(())), np.float32(zero_point.reshape(())))


def _flat(jaxpr: Any) -> list[Any]:
    """The equations, with those of functions within it in their place."""
    found = []
    for eqn in jaxpr.eqns:
        inner = eqn.params.get("jaxpr")
        found += [eqn] if inner is None else _flat(inner.jaxpr)
    return found


def _window(path: str, eqn: Any) -> Window | None:
    """How the operator of a layer moves; None for a product of matrices.

    Raises GraphError for a layout other than (batch, ..., features) times (..., input, output).
    """
    numbers = eqn.params["dimension_numbers"]
    rank = len(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "dot_general":
        plain = (((rank - 1,), (0,)), ((), ())) == numbers and len(eqn.invars[1].aval.shape) == 2
    else:
        spatial = tuple(range(1, rank - 1))
        images, kernel = (0, rank - 1, *spatial), (rank - 1, rank - 2, *range(rank - 2))
        plain = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (images, kernel, images)
        plain &= set(eqn.params["lhs_dilation"]) == {1} and eqn.params["batch_group_count"] == 1
    if not plain:
        raise GraphError(f"Layer {path!r} multiplies by {numbers}, a layout that no graph has.")
    if eqn.primitive.name == "dot_general":
        return None
    params = eqn.params
    return Window(params["window_strides"], params["padding"], params["rhs_dilation"], params["feature_group_count"])
