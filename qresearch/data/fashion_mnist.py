"""Fashion-MNIST: 28x28 grey pictures of clothes, 60,000 to train and 10,000 to test.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017, arXiv:1708.07747. Labels in order: T-shirt, trouser, pullover, dress, coat, sandal, shirt,
sneaker, bag, ankle boot.
"""

import dataclasses
from typing import ClassVar

from qresearch.data.dataset import Split, check_augmentation, check_count
from qresearch.data.idx import IdxFiles, load
from qresearch.data.source import DataFile

ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"  # has no https; the checksums stand in
FILES = IdxFiles(
    packed=DataFile("fashion_mnist.npz", "c9197ee560c9acf230ecbb856df0071d7e7a84d50e98fdbeadf87ab18a2741a5"),
    train=(
        DataFile(
            name="fashion_mnist/train-images-idx3-ubyte.gz",
            sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            url=ORIGIN + "train-images-idx3-ubyte.gz",
        ),
        DataFile(
            name="fashion_mnist/train-labels-idx1-ubyte.gz",
            sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            url=ORIGIN + "train-labels-idx1-ubyte.gz",
        ),
    ),
    test=(
        DataFile(
            name="fashion_mnist/t10k-images-idx3-ubyte.gz",
            sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            url=ORIGIN + "t10k-images-idx3-ubyte.gz",
        ),
        DataFile(
            name="fashion_mnist/t10k-labels-idx1-ubyte.gz",
            sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            url=ORIGIN + "t10k-labels-idx1-ubyte.gz",
        ),
    ),
)


@dataclasses.dataclass(frozen=True)
class FashionMNIST:
    """Pictures of clothes, normalised with the statistics of their training images."""

    name: ClassVar[str] = "fashion_mnist"
    classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)
    maximum: ClassVar[int] = 255
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)

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
