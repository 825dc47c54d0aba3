"""Integer products against loops over Python integers, on either side of the bound of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.integer_product import (
    EXACT_IN_FLOAT32,
    LARGEST_INT32,
    check_accumulator,
    integer_product,
    largest_sum,
)

MATRIX = (((1,), (0,)), ((), ()))
IMAGES = {"window_strides": (2, 2), "padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def integers(shape, low, high, kind="int8", seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(low, high + 1, shape).astype(kind))


def by_hand(x, w):
    """The convolution of IMAGES, in a loop."""
    x, w = np.pad(np.asarray(x, np.int64), ((0, 0), (1, 1), (1, 1), (0, 0))), np.asarray(w, np.int64)
    rows, columns = ((size - 3) // 2 + 1 for size in x.shape[1:3])
    out = np.zeros((x.shape[0], rows, columns, w.shape[-1]), np.int64)
    for i in range(rows):
        for j in range(columns):
            out[:, i, j] = np.einsum("nhwc,hwco->no", x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], w)
    return out


@pytest.mark.parametrize("largest", ["proved", "unknown"])
def test_a_matrix_product(largest):
    x, w = integers((5, 300), -128, 127), integers((300, 7), -127, 127, seed=1)
    bound = largest_sum(np.asarray(w), (0,), 128) if largest == "proved" else LARGEST_INT32
    assert (bound <= EXACT_IN_FLOAT32) == (largest == "proved")
    found = jax.jit(lambda x, w: integer_product(jax.lax.dot_general, x, w, MATRIX, largest=bound))(x, w)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.asarray(x, np.int64) @ np.asarray(w, np.int64))


@pytest.mark.parametrize("largest", ["proved", "unknown"])
def test_a_convolution(largest):
    x, w = integers((2, 9, 8, 16), 0, 255, "uint8"), integers((3, 3, 16, 5), -127, 127, seed=1)
    bound = largest_sum(np.asarray(w), (0, 1, 2), 255) if largest == "proved" else LARGEST_INT32
    found = integer_product(jax.lax.conv_general_dilated, x, w, largest=bound, **IMAGES)
    np.testing.assert_array_equal(found, by_hand(x, w))


def test_float32_is_exact_at_its_bound_and_not_beyond():
    """2^24 ones and one: the sum that float32 cannot hold needs int32."""
    x, w = jnp.full((1, 4097), 64, jnp.int8), jnp.full((4097, 1), 64, jnp.int8)
    at, beyond = x[:, :4096], jnp.asarray(np.where(np.arange(4097) < 4096, 64, 1)[None].astype(np.int8))
    ones = jnp.asarray(np.where(np.arange(4097) < 4096, 64, 1)[:, None].astype(np.int8))
    assert largest_sum(np.asarray(w[:4096]), (0,), 64) == EXACT_IN_FLOAT32
    exact = integer_product(jax.lax.dot_general, at, w[:4096], MATRIX, largest=EXACT_IN_FLOAT32)
    assert int(exact[0, 0]) == EXACT_IN_FLOAT32
    found = integer_product(jax.lax.dot_general, beyond, ones, MATRIX, largest=EXACT_IN_FLOAT32 + 1)
    assert int(found[0, 0]) == EXACT_IN_FLOAT32 + 1


def test_the_largest_sum_is_that_of_the_worst_output():
    w = np.array([[1, -5], [-2, 5], [3, 5]], np.int8)
    assert largest_sum(w, (0,), 10) == 150
    assert largest_sum(np.full((3, 3, 64, 64), -127, np.int8), (0, 1, 2), 255) == 576 * 127 * 255
    assert largest_sum(np.zeros((0, 4), np.int8), (0,), 255) == 0


def test_an_accumulator_that_could_overflow():
    check_accumulator(66_311, 127, 255, "layer")
    with pytest.raises(ValueError, match=r"fc sums 66312 products .* 127 and 255: up to 2147514120.*keep it float"):
        check_accumulator(66_312, 127, 255, "fc")


@pytest.mark.parametrize(("low", "high", "kind"), [(-128, 127, "int8"), (0, 255, "uint8")])
def test_products_on_machines_that_multiply_int8(low, high, kind):
    """Inputs of 0 to 255 are shifted into int8; the padding of an image is a zero, not a shifted one."""
    x, w = integers((2, 9, 8, 16), low, high, kind), integers((3, 3, 16, 5), -128, 127, seed=1)
    find = jax.jit(lambda x, w: integer_product(jax.lax.conv_general_dilated, x, w, largest=0, native=True, **IMAGES))
    np.testing.assert_array_equal(find(x, w), by_hand(x, w))
    assert "f32" not in str(jax.make_jaxpr(find)(x, w))
    x, w = integers((5, 300), low, high, kind), integers((300, 7), -128, 127, seed=1)
    found = integer_product(jax.lax.dot_general, x, w, MATRIX, largest=0, native=True)
    np.testing.assert_array_equal(found, np.asarray(x, np.int64) @ np.asarray(w, np.int64))
