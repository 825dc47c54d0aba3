"""The residual networks for CIFAR-10: 6n + 2 layers, 16/32/64 channels, shortcuts without parameters.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, section 4.2.
Option A: where a stage halves the image and doubles the channels, the shortcut takes every second pixel and
pads zero channels, half on each side. Attribute names are those of the PyTorch checkpoints by Y. Idelbayev
(akamaster/pytorch_resnet_cifar10).
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx


def _conv(channels_in: int, channels: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    init = nnx.initializers.he_normal()
    # Padding of one pixel on every side: "SAME" would pad strided convolutions at the end only.
    return nnx.Conv(
        channels_in, channels, (3, 3), strides=stride, padding=1, use_bias=False, kernel_init=init, rngs=rngs
    )


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=rngs)


class BasicBlock(nnx.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))"""

    norm_pairs = (("conv1", "bn1"), ("conv2", "bn2"))

    def __init__(self, channels_in: int, channels: int, stride: int, *, rngs: nnx.Rngs):
        self.stride, self.padding = stride, (channels - channels_in) // 2
        self.conv1, self.bn1 = _conv(channels_in, channels, stride, rngs), _norm(channels, rngs)
        self.conv2, self.bn2 = _conv(channels, channels, 1, rngs), _norm(channels, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x[:, :: self.stride, :: self.stride, :]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (self.padding, self.padding)))
        return nnx.relu(y + shortcut)


class ResNetModel(nnx.Module):
    """conv, three stages of basic blocks, global average pooling, linear."""

    norm_pairs = (("conv1", "bn1"),)

    def __init__(self, depth: int, channels: int, classes: int, *, rngs: nnx.Rngs):
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = _conv(channels, 16, 1, rngs), _norm(16, rngs)
        self.layer1 = self._stage(blocks, 16, 16, rngs)
        self.layer2 = self._stage(blocks, 16, 32, rngs)
        self.layer3 = self._stage(blocks, 32, 64, rngs)
        self.linear = nnx.Linear(64, classes, kernel_init=nnx.initializers.he_normal(), rngs=rngs)

    def _stage(self, blocks: int, channels_in: int, channels: int, rngs: nnx.Rngs) -> nnx.List:
        first = BasicBlock(channels_in, channels, channels // channels_in, rngs=rngs)
        return nnx.List([first, *(BasicBlock(channels, channels, 1, rngs=rngs) for _ in range(blocks - 1))])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            for block in stage:
                x = block(x)
        return self.linear(jnp.mean(x, axis=(1, 2)))


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The CIFAR ResNet of `depth` 6n + 2 layers: 20, 32, 44, 56, 110, ..."""

    depth: int = 20
    weights: str | None = None

    def __post_init__(self):
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError(f"depth={self.depth} is not 6n + 2 with n >= 1; choose 8, 14, 20, 32, 44, 56 or 110.")

    def build(self, shape, classes, *, rngs):
        return ResNetModel(self.depth, shape[-1], classes, rngs=rngs)
