"""What the quantizers with a learned scale share."""

import jax
from jaxtyping import Array, Float

from qresearch.core.spec import QuantSpec


def scale_gradient(x: Float[Array, "..."], factor: Float[Array, ""]) -> Float[Array, "..."]:
    """`x` itself, with its gradient multiplied by `factor` (Esser et al., ICLR 2020, arXiv:1902.08153, Appendix A)."""
    damped = x * factor
    return jax.lax.stop_gradient(x - damped) + damped


def check_uniform(spec: QuantSpec, name: str) -> None:
    """Raise ValueError for a grid that the quantizer called `name` cannot have: a zero point, or unequal steps."""
    if not spec.grid.symmetric:
        raise ValueError(f"grid.zero_point: {name} learns a scale and no zero point; use quantizer=lsq_plus or static.")
    if not spec.grid.uniform:
        raise ValueError(
            f"grid={spec.grid.describe()}: {name} learns the step of a grid of equal steps, and this one has none; "
            "use quantizer=static or dynamic, or an integer grid."
        )
