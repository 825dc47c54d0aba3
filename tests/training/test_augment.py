"""Random flips and crops: what comes out is a mirrored image, or a window of the padded one, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.training.augment import Augment

IMAGES = np.random.default_rng(0).uniform(1, 2, size=(200, 4, 4, 2)).astype(np.float32)
KEY = jax.random.key(0)


@jax.jit
def augmented(augment, images, key):
    return augment(images, key=key)


def windows(image, pixels):
    """Every crop of the padded image, by its corner."""
    padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    return {(i, j): padded[i : i + 4, j : j + 4] for i in range(2 * pixels + 1) for j in range(2 * pixels + 1)}


def test_without_either_nothing_changes():
    np.testing.assert_array_equal(Augment()(jnp.asarray(IMAGES), key=KEY), IMAGES)


def test_a_flip_mirrors_about_half_of_the_images():
    out = np.asarray(augmented(Augment(flip=True), IMAGES, KEY))
    mirrored = [bool(np.array_equal(image, original[:, ::-1])) for image, original in zip(out, IMAGES, strict=True)]
    kept = [bool(np.array_equal(image, original)) for image, original in zip(out, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130  # 4 standard deviations around 100


def test_a_crop_is_a_window_of_the_padded_image():
    out = np.asarray(augmented(Augment(crop=1), IMAGES, KEY))
    corners = []
    for image, original in zip(out, IMAGES, strict=True):
        corners += [corner for corner, window in windows(original, 1).items() if np.array_equal(image, window)]
    assert len(corners) == len(IMAGES) and set(corners) == {(i, j) for i in range(3) for j in range(3)}


def test_both_together():
    out = np.asarray(augmented(Augment(flip=True, crop=2), IMAGES, KEY))
    for image, original in zip(out, IMAGES, strict=True):
        candidates = [*windows(original, 2).values(), *windows(original[:, ::-1], 2).values()]
        assert any(np.array_equal(image, candidate) for candidate in candidates)


def test_the_key_alone_decides():
    augment = Augment(flip=True, crop=2)
    np.testing.assert_array_equal(augmented(augment, IMAGES, KEY), augmented(augment, IMAGES, KEY))
    assert not np.array_equal(augmented(augment, IMAGES, KEY), augmented(augment, IMAGES, jax.random.key(1)))


def test_stored_integers_stay_integers():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 255, size=(5, 4, 4, 1)), jnp.uint8)
    out = jax.eval_shape(augmented, Augment(flip=True, crop=1), pixels, KEY)
    assert out.dtype == jnp.uint8 and out.shape == pixels.shape
