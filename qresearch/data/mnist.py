"""MNIST: 28x28 grey handwritten digits, 60,000 to train and 10,000 to test.

LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
the IEEE, 1998.
"""

import dataclasses
from typing import ClassVar

from qresearch.data.dataset import Split, check_augmentation, check_count
from qresearch.data.idx import IdxFiles, load
from qresearch.data.source import DataFile

ORIGIN = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = IdxFiles(
    packed=DataFile("mnist.npz", "d3d5f11dd0fda2ce173728a21686709d330204101b01a9197ae496fab4d4d770"),
    train=(
        DataFile(
            name="mnist/train-images-idx3-ubyte.gz",
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            url=ORIGIN + "train-images-idx3-ubyte.gz",
        ),
        DataFile(
            name="mnist/train-labels-idx1-ubyte.gz",
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            url=ORIGIN + "train-labels-idx1-ubyte.gz",
        ),
    ),
    test=(
        DataFile(
            name="mnist/t10k-images-idx3-ubyte.gz",
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            url=ORIGIN + "t10k-images-idx3-ubyte.gz",
        ),
        DataFile(
            name="mnist/t10k-labels-idx1-ubyte.gz",
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            url=ORIGIN + "t10k-labels-idx1-ubyte.gz",
        ),
    ),
)


@dataclasses.dataclass(frozen=True)
class MNIST:
    """Handwritten digits, normalised with the statistics of their training images."""

    name: ClassVar[str] = "mnist"
    classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)
    maximum: ClassVar[int] = 255
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        check_augmentation(self)

    def train(self, count: int | None = None) -> Split:
        """The first `count` training images in their original order, and their labels."""
        count = check_count(count, 60_000, self.name)
        images, labels = load(FILES, "train")
        return images[:count], labels[:count]

    def test(self) -> Split:
        """The 10,000 test images in their original order, and their labels."""
        return load(FILES, "test")
