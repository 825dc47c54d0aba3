"""From stored pixels to the numbers that a network sees."""

from typing import Any

import numpy as np

from qresearch.core.pytree import leaf, pytree_dataclass


@pytree_dataclass
class Normalise:
    """(images / maximum - mean) / std for images (n, h, w, c); mean and std have shape (1, 1, 1, c)."""

    maximum: Any = leaf()
    mean: Any = leaf()
    std: Any = leaf()

    def __call__(self, images: Any) -> Any:
        return (images.astype("float32") / self.maximum - self.mean) / self.std


def normalise_for(data: Any) -> Normalise:
    """The normalisation of a data set, from its `maximum`, `mean` and `std`."""
    mean, std = (np.asarray(value, np.float32).reshape(1, 1, 1, -1) for value in (data.mean, data.std))
    return Normalise(np.float32(data.maximum), mean, std)
