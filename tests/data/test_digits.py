"""The digits that are shipped: the documented facts of the set, and the checks every data set shares."""

import hashlib

import numpy as np
import pytest

from qresearch.data.cifar10 import CIFAR10
from qresearch.data.digits import FILE, SHA256, Digits
from qresearch.data.fashion_mnist import FashionMNIST
from qresearch.data.mnist import MNIST

COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # documented by the UCI repository
PIXEL_SUM = 561718  # of scikit-learn's load_digits().images


def test_shapes_and_types():
    for (images, labels), number in ((Digits().train(), 1500), (Digits().test(), 297)):
        assert images.shape == (number, *Digits.shape) and images.dtype == np.uint8
        assert labels.shape == (number,) and labels.dtype == np.int32
        assert not images.flags.writeable and not labels.flags.writeable


def test_documented_facts():
    (train, train_labels), (test, test_labels) = Digits().train(), Digits().test()
    images, labels = np.concatenate([train, test]), np.concatenate([train_labels, test_labels])
    assert np.bincount(labels).tolist() == COUNTS
    assert images.sum() == PIXEL_SUM
    assert images.min() == 0 and images.max() == Digits.maximum
    assert labels[:10].tolist() == list(range(10))


def test_the_shipped_file_is_the_one_of_the_checksum():
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA256
    assert FILE.stat().st_size < 50_000


def test_count_takes_the_first_images():
    images, labels = Digits().train(20)
    assert np.array_equal(images, Digits().train()[0][:20]) and np.array_equal(labels, Digits().train()[1][:20])


def test_loading_twice_reads_once():
    assert np.shares_memory(Digits().train()[0], Digits().train()[0])


@pytest.mark.parametrize("data", [Digits, MNIST, FashionMNIST, CIFAR10])
@pytest.mark.parametrize("count", [0, -1, 60_001])
def test_impossible_count(data, count):
    with pytest.raises(ValueError, match=rf"count={count} is not between 1 and .*{data.name}; choose None"):
        data().train(count)


@pytest.mark.parametrize("data", [Digits, MNIST, FashionMNIST, CIFAR10])
def test_impossible_crop(data):
    for crop in (-1, data.shape[0]):
        with pytest.raises(ValueError, match=rf"crop={crop} is not a number of pixels between 0 and"):
            data(crop=crop)
    assert data(crop=data.shape[0] - 1).crop == data.shape[0] - 1


@pytest.mark.parametrize("data", [Digits, MNIST, FashionMNIST, CIFAR10])
def test_description(data):
    assert data().flip == (data is CIFAR10) and data().crop == {CIFAR10: 4, Digits: 1}.get(data, 0)
    assert len(data.mean) == len(data.std) == data.shape[2]
    assert hash(data()) == hash(data()) and data() == data()
