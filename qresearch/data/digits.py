"""Digits: 1,797 handwritten digits of 8x8 pixels with values 0 to 16, shipped with the package.

The test set of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, https://archive.ics.uci.edu/dataset/80, CC BY 4.0; images and order as in scikit-learn's
`load_digits`. There is no customary split of them: here the first 1,500 are to train and the last 297 to
test. `tests/data/make_digits.py` makes the file again.
"""

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar

import numpy as np

from qresearch.data.checksum import open_verified
from qresearch.data.dataset import Split, check_augmentation, check_count

FILE = Path(__file__).with_name("digits.npz")
SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
TRAIN = 1500


@functools.cache
def load() -> Split:
    """All images and labels, in the original order."""
    with open_verified(FILE, SHA256) as stream, np.load(stream, allow_pickle=False) as arrays:
        images, labels = arrays["images"][..., None], arrays["labels"].astype(np.int32)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


@dataclasses.dataclass(frozen=True)
class Digits:
    """Small handwritten digits, not normalised beyond the division by their maximum."""

    name: ClassVar[str] = "digits"
    classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (8, 8, 1)
    maximum: ClassVar[int] = 16
    mean: ClassVar[tuple[float, ...]] = (0.0,)
    std: ClassVar[tuple[float, ...]] = (1.0,)

    flip: bool = False
    crop: int = 1

    def __post_init__(self) -> None:
        check_augmentation(self)

    def train(self, count: int | None = None) -> Split:
        """The first `count` training images in their original order, and their labels."""
        count = check_count(count, TRAIN, self.name)
        images, labels = load()
        return images[:count], labels[:count]

    def test(self) -> Split:
        """The 297 test images in their original order, and their labels."""
        images, labels = load()
        return images[TRAIN:], labels[TRAIN:]
