"""QuEST's scales: the outermost level of the symmetric grid of equal steps that is best for N(0, 1).

    a = argmin_a E (z - Q_a(z))^2,    2^b levels from -a to a (three for "1.585 bits")

Panferov, Chen, Tabesh, Castro, Nikdan, Alistarh, "QuEST: Stable Training of LLMs with 1-Bit Weights and Activations",
2025, arXiv:2502.05003; the numbers are OPTIMAL_GAUSSIAN_SCALES of the authors' code.
"""

from qresearch.theory.computed import Computed
from qresearch.theory.densities import GAUSSIAN
from qresearch.theory.uniform_grid import best_step

COUNTS = {"1 bit": 2, "1.585 bits": 3} | {f"{bits} bits": 2**bits for bits in range(2, 9)}
COLUMN = "outermost level"


def scales() -> list[Computed]:
    """A row for each width."""
    return [Computed(row, COLUMN, outermost_level(count)) for row, count in COUNTS.items()]


def outermost_level(count: int) -> float:
    """In standard deviations."""
    return best_step(GAUSSIAN, count) * (count - 1) / 2
