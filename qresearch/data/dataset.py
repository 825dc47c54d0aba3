"""What a data set is: images as integers, their labels, and the numbers that normalise and augment them."""

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

Split = tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]


@runtime_checkable
class Data(Protocol):
    """A data set of images. A model sees `(image / maximum - mean) / std`."""

    name: ClassVar[str]
    classes: ClassVar[int]
    shape: ClassVar[tuple[int, int, int]]  # height, width, channels
    maximum: ClassVar[int]  # the largest value a pixel may have
    mean: ClassVar[tuple[float, ...]]  # per channel, of image / maximum
    std: ClassVar[tuple[float, ...]]

    @property
    def flip(self) -> bool:
        """Whether training mirrors each image with probability one half."""
        ...

    @property
    def crop(self) -> int:
        """How many pixels of zeros training pads on each side before it crops at random; 0 does neither."""
        ...

    def train(self, count: int | None = None) -> Split:
        """The first `count` training images, None for all, in their original order, and their labels."""
        ...

    def test(self) -> Split:
        """All test images in their original order, and their labels."""
        ...


def check_augmentation(data: Data) -> None:
    """Raise unless `crop` is a number of pixels that this data set can be padded with."""
    limit = min(data.shape[:2]) - 1
    if not isinstance(data.crop, int) or not 0 <= data.crop <= limit:
        raise ValueError(
            f"crop={data.crop!r} is not a number of pixels between 0 and {limit} for {data.name} images of "
            f"{data.shape[0]}x{data.shape[1]}; choose 0 for no random crop."
        )


def check_count(count: int | None, total: int, name: str) -> int:
    """The number of training images that `count` asks for."""
    if count is not None and not 1 <= count <= total:
        raise ValueError(
            f"count={count} is not between 1 and {total}, the training images of {name}; choose None for all."
        )
    return total if count is None else count
