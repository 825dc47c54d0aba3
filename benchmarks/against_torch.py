"""Fake-quantization of 16 million float32 values here and in torch, one thread each, in one process, in turn.

python benchmarks/against_torch.py [--pairs 9]      needs torch: make setup EXTRAS=torch
"""

import argparse
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pairs", type=int, default=9)
parser.add_argument("--size", type=int, default=4096, help="the array has this many rows and columns")
arguments = parser.parse_args()
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

try:
    import torch
except ImportError:
    raise SystemExit("torch is not installed, so nothing is compared; `make setup EXTRAS=torch` adds it.") from None

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer

torch.set_num_threads(1)
ARRAY = np.random.default_rng(0).normal(size=(arguments.size, arguments.size)).astype(np.float32)
X, G = jnp.asarray(ARRAY), jnp.ones_like(ARRAY)
T, TG = torch.from_numpy(ARRAY.copy()), torch.ones(ARRAY.shape)
SCALES = {"tensor": np.full((1, 1), 0.5, np.float32), "channel": np.full((1, arguments.size), 0.5, np.float32)}


@jax.jit
def ours(x, scale, spec):
    return fake_quantize(x, scale, None, spec, ClippedStraightThrough())


@jax.jit
def ours_both_ways(x, scale, spec, g):
    rounded, pull = jax.vjp(lambda x, scale: ours(x, scale, spec), x, scale)
    return rounded, *pull(g)


def theirs(x, scale, granularity):
    if granularity == "tensor":
        return torch.fake_quantize_per_tensor_affine(x, float(scale[0, 0]), 0, -8, 7)
    zero = torch.zeros(arguments.size, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(x, torch.from_numpy(scale[0]), zero, 1, -8, 7)


def theirs_both_ways(scale, granularity):
    """With the gradient of the scale, as ours."""
    x = T.clone().requires_grad_()
    step = torch.from_numpy(scale[0]).clone().requires_grad_()
    zero = torch.zeros(step.shape)
    if granularity == "tensor":
        rounded = torch._fake_quantize_learnable_per_tensor_affine(x, step, zero, -8, 7, 1.0)
    else:
        rounded = torch._fake_quantize_learnable_per_channel_affine(x, step, zero, 1, -8, 7, 1.0)
    rounded.backward(TG)


def seconds(function, *inputs):
    """CPU time of one call."""
    started = time.process_time()
    jax.block_until_ready(function(*inputs))
    return time.process_time() - started


def ratio(first, second):
    """The median over pairs of the time of `second` over that of `first`."""
    for call in (first, second):
        seconds(*call)
    return statistics.median(seconds(*second) / seconds(*first) for _ in range(arguments.pairs))


def main():
    print(f"{ARRAY.size / 1e6:.1f} M float32 values, 4 bits, torch {torch.__version__}, jax {jax.__version__}")
    for name, scale in SCALES.items():
        spec = QuantSpec(Integer(jnp.int32(4)), name)
        same = np.mean(np.asarray(ours(X, scale, spec)) == theirs(T, scale, name).numpy())
        one_way = ratio((ours, X, scale, spec), (theirs, T, scale, name))
        two_ways = ratio((ours_both_ways, X, scale, spec, G), (theirs_both_ways, scale, name))
        print(f"{name:8} equal values {same:.4%}   torch takes {one_way:.1f} x forward, {two_ways:.1f} x both ways")


if __name__ == "__main__":
    main()
