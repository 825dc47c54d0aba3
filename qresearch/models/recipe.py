"""What a model recipe is: the numbers that a network is built from, apart from the network."""

from typing import Protocol, runtime_checkable

from flax import nnx


@runtime_checkable
class ModelRecipe(Protocol):
    """A frozen dataclass whose fields are the keys of `model` in a config."""

    weights: str | None  # a checkpoint: a path, or the name of a file in the data folder; None: train

    def build(self, shape: tuple[int, int, int], classes: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """The network for images of `shape` (height, width, channels); it maps (n, h, w, c) floats to (n,
        classes) logits.
        """
        ...
