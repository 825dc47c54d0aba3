"""NF4: sixteen levels at quantiles of a normal distribution, with an exact zero.

    positive  Phi^-1(p) at 8 probabilities p from c downwards, an eighth of c - 1/2 apart
    negative  -Phi^-1(p) at 7, a seventh apart;    then 0;    all divided by the largest
    c = 0.9677083, which is 1 - (1/32 + 1/30) / 2 to seven digits: half a probability cell below 1,
        averaged over the cells of 16 and of 15 levels

Dettmers, Pagnoni, Holtzman, Zettlemoyer, "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023,
arXiv:2305.14314. The paper's equation 4 averages neighbouring quantiles and does not give the published numbers; the
rule above is that of the authors' library, bitsandbytes (`create_normal_map`, offset c). That library spaces the
probabilities in float32, each counted from the nearer end; so do we, and all sixteen levels are the published float32
numbers. Spaced in float64 they differ by up to 1.2e-7. The paper scales blocks of 64 by their largest magnitude
(granularity=block block_size=64, observer=absmax) and stores these scales in 8 bits, which we do not.
"""

from statistics import NormalDist

import numpy as np

from qresearch.grids.levels import Levels

OFFSET = np.float32(0.9677083)
HALF = np.float32(0.5)


def nf4() -> Levels:
    """The sixteen levels from -1 to 1."""
    positive, negative = _quantiles(8), [-q for q in _quantiles(7)]
    found = np.asarray([*negative, 0.0, *reversed(positive)], np.float32)
    return Levels((found / found[-1]).tolist(), "nf4")


def _quantiles(count: int) -> list[float]:
    """Phi^-1 of `count` probabilities evenly spaced from OFFSET towards 1/2, which is left out."""
    step = (HALF - OFFSET) / np.float32(count)
    near_offset = [OFFSET + step * np.float32(i) for i in range((count + 1) // 2)]
    near_half = [HALF - step * np.float32(count - i) for i in range((count + 1) // 2, count)]
    return [NormalDist().inv_cdf(float(p)) for p in near_offset + near_half]
