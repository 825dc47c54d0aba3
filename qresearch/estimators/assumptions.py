"""What estimators ask of a grid, in words for whoever chose another one."""

from jax.core import Tracer

from qresearch.core.spec import QuantSpec


def check_two_values(spec: QuantSpec, name: str) -> None:
    """Raise ValueError where the grid has other values than one and its negative: `name` replaces a sign."""
    grid = spec.grid
    if not isinstance(grid.bits, int):
        return
    if grid.bits != 1 or not grid.symmetric or float(grid.low) != -float(grid.high):
        raise ValueError(
            f"estimator={name} with grid={grid.describe()}: it replaces the derivative of a sign, so it needs a grid "
            "of two values, -1 and 1; use format=binary, or another estimator."
        )


def check_unit_steps(spec: QuantSpec, name: str) -> None:
    """Raise ValueError where the neighbours of the grid are not all one apart: `name` counts in steps."""
    step = spec.grid.top_step
    if not spec.grid.uniform or (not isinstance(step, Tracer) and float(step) != 1.0):
        raise ValueError(
            f"estimator={name} with grid={spec.grid.describe()}: it counts in steps, and the neighbours of this grid "
            "are not all one apart; use format=int, ternary or mid_rise (binary with bits=1), or another estimator."
        )
