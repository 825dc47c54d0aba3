"""Undo the packing of colour images: three planes, each predicted from the pixels to the left and above.

    plane[i, j] = residual[i, j] + median(l, u, l + u - c)      mod 256

with l the pixel to the left, u above, c above left; the first row uses l, the first column u. The planes are
G, R - G + 128 and B - G + 128. This is the median edge detector of Weinberger, Seroussi and Sapiro, "The
LOCO-I lossless image compression algorithm", IEEE Transactions on Image Processing, 2000. It is sequential
in a plane, so the planes of all images are decoded side by side.
"""

import numpy as np
from jaxtyping import UInt8


def unpack(residual: UInt8[np.ndarray, "3 n h w"]) -> UInt8[np.ndarray, "n 3 h w"]:
    """The images, channels in the order red, green, blue."""
    _, number, height, width = residual.shape
    pixels = np.ascontiguousarray(residual.reshape(3 * number, height * width).T)  # one row holds a pixel of all
    planes = pixels.reshape(height, width, 3 * number)
    for i in range(height):
        for j in range(width):
            planes[i, j] += predict(planes, i, j)
    green, red, blue = planes.reshape(height, width, 3, number).transpose(2, 3, 0, 1)
    shifted = green - np.uint8(128)
    return np.stack([red + shifted, green, blue + shifted], axis=1)


def predict(planes: UInt8[np.ndarray, "h w m"], i: int, j: int) -> UInt8[np.ndarray, " m"]:
    """What the decoded pixels say of pixel (i, j), modulo 256."""
    if not i or not j:
        return planes[i, j - 1] if j else planes[i - 1, j] if i else np.zeros_like(planes[0, 0])
    left, up, corner = planes[i, j - 1], planes[i - 1, j], planes[i - 1, j - 1]
    # median(l, u, l + u - c) = l + u - clip(c, min(l, u), max(l, u)): in 0..255 though l + u may wrap around
    return left + up - np.clip(corner, np.minimum(left, up), np.maximum(left, up))
