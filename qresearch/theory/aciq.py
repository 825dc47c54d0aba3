"""ACIQ's clipping values: where clipping noise and rounding noise add up to the least.

    two-sided  2 C(a) + a^2 / (3 4^M)        C(a) = integral of (x - a)^2 p(x) from a on
    one-sided    C(a) + a^2 / (24 4^M)       for max(x, 0), the codes from 0 to a
    Laplace    C(a) = e^-a,                  a in units of b
    Gaussian   C(a) = (1 + a^2) Q(a) - a phi(a),    a in units of sigma

The second term is step^2 / 12 with a step of 2a / 2^M (a / 2^M, for half of the values). As C' = -2 integral of
(x - a) p(x), the derivative rises with a and has one root; it is found by bisection and secants. One-sided with M bits
is two-sided with M + 1. The model puts the outermost level half a step inside of a and takes noise for evenly spread
over a step, so at few bits its optimum is not that of the quantizer (`uniform_grid.py`).

Banner, Nahshan, Soudry, "Post-training 4-bit quantization of convolution networks for rapid-deployment", NeurIPS 2019,
arXiv:1810.05723 (Banner, Nahshan, Hoffer, Soudry, "ACIQ", in its first version).
"""

import numpy as np
from scipy.optimize import root_scalar

from qresearch.theory.computed import Computed
from qresearch.theory.densities import GAUSSIAN, LAPLACE, Density

BITS = {"gaussian": range(1, 9), "laplace": range(9)}  # the authors' table has 0 bits for Laplace alone
SOLVED = range(2, 9)  # the widths of the list that their solver gave
TEXT = range(2, 5)  # the widths of the text


def clips() -> list[Computed]:
    """A row for each width, a column for each list that the authors give."""
    found = []
    for density in (GAUSSIAN, LAPLACE):
        name = density.name
        columns = {name: (BITS[name], False), f"{name}, one-sided": (BITS[name], True)}
        columns |= {f"{name}, solved": (SOLVED, False)}
        if density is LAPLACE:
            columns |= {"laplace, one-sided, solved": (SOLVED, True), "laplace, in the text": (TEXT, False)}
        for column, (widths, one_sided) in columns.items():
            found += [Computed(row(bits), column, clip(density, bits, one_sided=one_sided)) for bits in widths]
    return found


def row(bits: int) -> str:
    return f"{bits} bit" if bits == 1 else f"{bits} bits"


def clip(density: Density, bits: int, *, one_sided: bool = False) -> float:
    """The clipping value of least noise."""

    def half_derivative(a: float) -> float:
        tails = density.tails(np.array([a]))
        sides, rounding = (1, 1 / 24) if one_sided else (2, 1 / 3)
        return rounding * a / 4**bits - sides * float(tails.moment[0] - a * tails.mass[0])

    return float(root_scalar(half_derivative, bracket=(0.0, 100.0), xtol=1e-15, rtol=1e-14).root)
