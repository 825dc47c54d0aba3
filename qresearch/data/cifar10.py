"""CIFAR-10: 32x32 colour photographs of ten kinds of things, 50,000 to train and 10,000 to test.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
Labels in order: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
"""

import dataclasses
from typing import ClassVar

from qresearch.data.cifar10_records import Batch, Batches, load
from qresearch.data.dataset import Split, check_augmentation, check_count
from qresearch.data.source import DataFile

FILES = Batches(
    archive=DataFile(
        name="cifar-10-binary.tar.gz",  # md5 on the origin's page: c32a1d4ab5d03f1284b67883e8d87530
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
    batches=(
        Batch(
            DataFile("cifar10_train_1.npz", "fc2e7d0373a359c182e1cb16c18dddec85008b5ceb64d95a0bd19f251aa026a1"),
            member="cifar-10-batches-bin/data_batch_1.bin",
            images_sha256="a50e8b48728e1667d682a807155c375279d5ae321fb12242c02e3104a6bc8b21",
        ),
        Batch(
            DataFile("cifar10_train_2.npz", "05053ab8e8b4edebf8cc403b025b36351a8f47235f917fb4330002848273f73d"),
            member="cifar-10-batches-bin/data_batch_2.bin",
            images_sha256="0b825e5592c3b72ea18d6ec2ff5f5b19d33e41a75f5039054a9bb87be3cf69a0",
        ),
        Batch(
            DataFile("cifar10_train_3.npz", "95867d0091396141a3b28f558d32a4510769bda9973028d9bb0901a77d1ae91e"),
            member="cifar-10-batches-bin/data_batch_3.bin",
            images_sha256="c6ee1dd4601a69ec085d8ebf53ee6441775491a6839a0a9ae8fa198e88a3a429",
        ),
        Batch(
            DataFile("cifar10_train_4.npz", "acb317512cbe638eacabab012e8e862cc49156712971f5539d05b1d7b6ca6ac4"),
            member="cifar-10-batches-bin/data_batch_4.bin",
            images_sha256="1f6b6c799cff375a9f8fae2fac909d51ee09f38a6a60eebb9e8fec6f47ddc48f",
        ),
        Batch(
            DataFile("cifar10_train_5.npz", "5829cc1faa94d3776e006ba7efeef1006dcc906c694e54fba97e7a7d9b2c1df4"),
            member="cifar-10-batches-bin/data_batch_5.bin",
            images_sha256="58e3bbf713e28357476a351d3a05d056372f94c681d04ca9d62a076fdf2a643b",
        ),
        Batch(
            DataFile("cifar10_test.npz", "a87ed4a08027643fe5d8959bb6e3f55e2509add506cda9fa0655e666bae14b6f"),
            member="cifar-10-batches-bin/test_batch.bin",
            images_sha256="177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
        ),
    ),
)
TEST = 5  # the number of the test batch


@dataclasses.dataclass(frozen=True)
class CIFAR10:
    """Photographs, normalised with ImageNet's statistics, as the published checkpoints were trained."""

    name: ClassVar[str] = "cifar10"
    classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)
    maximum: ClassVar[int] = 255
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)

    flip: bool = True
    crop: int = 4

    def __post_init__(self) -> None:
        check_augmentation(self)

    def train(self, count: int | None = None) -> Split:
        """The first `count` training images in their original order, and their labels."""
        count = check_count(count, 50_000, self.name)
        images, labels = load(FILES, 0, -(-count // 10_000))
        return images[:count], labels[:count]

    def test(self) -> Split:
        """The 10,000 test images in their original order, and their labels."""
        return load(FILES, TEST, TEST + 1)
