"""A small convolutional network with batch norm, for images of 8x8 to 32x32."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx


class CNNModel(nnx.Module):
    """Two 3x3 convolutions (the second with stride 2), batch norm and ReLU after each, global average
    pooling, a linear layer.
    """

    norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, channels: int, width: int, classes: int, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(channels, width, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (3, 3), strides=2, padding=1, use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(2 * width, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.linear = nnx.Linear(2 * width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = nnx.relu(self.bn2(self.conv2(x)))
        return self.linear(jnp.mean(x, axis=(1, 2)))


@dataclasses.dataclass(frozen=True)
class CNN:
    """Two convolutions of `width` and twice `width` channels."""

    width: int = 16
    weights: str | None = None

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1.")

    def build(self, shape, classes, *, rngs):
        return CNNModel(shape[-1], self.width, classes, rngs=rngs)
