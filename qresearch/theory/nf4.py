"""NF4's levels: quantiles of the normal distribution, as `grids/nf4.py` builds them.

Dettmers, Pagnoni, Holtzman, Zettlemoyer, "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023,
arXiv:2305.14314.
"""

import numpy as np

from qresearch.grids.nf4 import nf4
from qresearch.theory.computed import Computed


def levels() -> list[Computed]:
    """A row for each code; float32 numbers, as the published ones."""
    return [Computed(f"code {code}", "level", float(level)) for code, level in enumerate(np.asarray(nf4().levels))]
