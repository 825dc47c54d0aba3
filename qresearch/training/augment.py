"""Random flips and crops of a batch of images, inside the compiled step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from qresearch.core.pytree import pytree_dataclass


@pytree_dataclass
class Augment:
    """Each image is mirrored with probability one half (`flip`) and cut at random out of itself with `crop`
    pixels of zeros around.

    The recipe of He et al. 2016 (arXiv:1512.03385, section 4.2) is flip and crop=4. Zeros are added after
    normalisation, so they stand for the mean colour.
    """

    flip: bool = False
    crop: int = 0

    def __call__(self, images: Shaped[Array, "n h w c"], *, key: jax.Array) -> Shaped[Array, "n h w c"]:
        flip_key, crop_key = jax.random.split(key)
        if self.flip:
            mirrored = jax.random.bernoulli(flip_key, shape=(images.shape[0], 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1, :], images)
        if self.crop:
            images = _random_crop(images, self.crop, crop_key)
        return images


def _random_crop(images, pixels, key):
    n, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * pixels + 1)

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    return jax.vmap(cut)(padded, corners)
