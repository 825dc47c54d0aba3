"""A percentile of the magnitudes sets the range: the rarest values are clipped.

    symmetric:  scale = P(|x|) / qmax
    affine:     range from the (100 - percentile)th to the percentile-th value

McKinstry et al., "Discovering Low-Precision Networks Close to Full-Precision Networks for Efficient Embedded
Inference", 2018, arXiv:1809.04191; Wu et al., "Integer Quantization for Deep Learning Inference", 2020,
arXiv:2004.09602, compare 99.9 to 99.9999. The value is interpolated inside a bin of relative width 2^-8.
"""

import jax.numpy as jnp

from qresearch.core.granularity import scale_shape
from qresearch.core.pytree import Number, leaf, pytree_dataclass
from qresearch.core.scale import scale_from_range
from qresearch.observers.histogram import LOWEST, MAGNITUDES, Histogram, bin_edges, histogram


@pytree_dataclass
class Percentile:
    """Range up to the `percentile`-th percent of the magnitudes (0 < percentile <= 100)."""

    percentile: Number = leaf(99.99)

    def __post_init__(self):
        if isinstance(self.percentile, (int, float)) and not 0 < self.percentile <= 100:
            raise ValueError(
                f"percentile={self.percentile} is outside (0, 100]; 99.99 clips one value in ten thousand."
            )

    def check(self, spec):
        """It fits every grid."""

    def measure(self, x, *, contract, spec):
        return histogram(x, scale_shape(x.shape, contract=contract, spec=spec))

    def combine(self, a, b):
        return Histogram(a.counts + b.counts)

    def resolve(self, statistic, spec):
        counts, share = statistic.counts.astype(jnp.float32), jnp.float32(self.percentile) / 100
        edges = bin_edges()
        if spec.grid.symmetric:
            negative = counts[..., :MAGNITUDES][..., ::-1]
            counts = counts[..., MAGNITUDES:].at[..., 1:].add(jnp.where(spec.grid.low < 0, negative, 0.0))
            edges = edges[MAGNITUDES:].at[0].set(0.0)
            high = _quantile(counts, edges, share)
            return scale_from_range(-high, high, spec)
        return scale_from_range(_quantile(counts, edges, 1 - share), _quantile(counts, edges, share), spec)


def _quantile(counts, edges, share):
    """The value below which a `share` of the counts lies, interpolated linearly inside its bin."""
    total = jnp.cumsum(counts, axis=-1)
    wanted = share * total[..., -1:]
    index = jnp.minimum(jnp.sum(total < wanted, axis=-1, keepdims=True), counts.shape[-1] - 1)
    inside = jnp.take_along_axis(counts, index, axis=-1)
    before = jnp.take_along_axis(total, index, axis=-1) - inside
    part = jnp.clip((wanted - before) / jnp.maximum(inside, 1.0), 0.0, 1.0)
    low, high = edges[index], edges[index + 1]
    value = (low + part * (high - low))[..., 0]
    return jnp.where(jnp.abs(value) <= 2.0**LOWEST, 0.0, value)  # inside the bin of zero
