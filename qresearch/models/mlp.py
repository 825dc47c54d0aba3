"""A multi-layer perceptron: linear layers with ReLU between them."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import jax
from flax import nnx


class MLPModel(nnx.Module):
    """logits = linear_n(relu(... relu(linear_1(flatten(x)))))"""

    def __init__(self, widths: Sequence[int], *, rngs: nnx.Rngs):
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List([nnx.Linear(n_in, n_out, rngs=rngs) for n_in, n_out in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


@dataclasses.dataclass(frozen=True)
class MLP:
    """`depth` hidden layers of `width` units."""

    width: int = 128
    depth: int = 2
    weights: str | None = None

    def __post_init__(self):
        if self.width < 1 or self.depth < 0:
            raise ValueError(f"width={self.width}, depth={self.depth}: width must be at least 1 and depth at least 0.")

    def build(self, shape, classes, *, rngs):
        return MLPModel([math.prod(shape), *[self.width] * self.depth, classes], rngs=rngs)
