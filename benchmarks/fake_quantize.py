"""Fused fake-quantization of 16 million float32 values, beside reading and writing them once.

Every figure is a ratio of CPU times, taken in one process with the two sides in turn; the median of the pairs counts.

    python benchmarks/fake_quantize.py [--pairs 15] [--threads 1]
"""

import argparse
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pairs", type=int, default=15)
parser.add_argument("--size", type=int, default=4096, help="the array has this many rows and columns")
arguments = parser.parse_args()
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp

from qresearch.core.fake_quantize import fake_quantize
from qresearch.core.granularity import scale_shape
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.grids.integer import Integer
from qresearch.grids.levels import Levels
from qresearch.grids.minifloat import MiniFloat

X = jax.random.normal(jax.random.key(0), (arguments.size, arguments.size))
G = jax.random.normal(jax.random.key(1), X.shape)
INT4 = Integer(jnp.int32(4))
LEVELS = Levels([float(level) for level in jnp.linspace(-1.0, 1.0, 16) ** 3])
SPECS = {
    "int4 tensor": QuantSpec(INT4),
    "int4 channel": QuantSpec(INT4, "channel"),
    "int4 block 128": QuantSpec(INT4, "block", 128),
    "16 levels channel": QuantSpec(LEVELS, "channel"),
    "e4m3 channel": QuantSpec(MiniFloat(4, 3), "channel"),
    "e2m1 channel": QuantSpec(MiniFloat(2, 1, "finite"), "channel"),
}


@jax.jit
def copy(x):
    """The yardstick: one pass that reads and writes."""
    return x + 1


@jax.jit
def forward(x, scale, spec):
    return fake_quantize(x, scale, None, spec, ClippedStraightThrough())


@jax.jit
def both_ways(x, scale, spec, g):
    rounded, pull = jax.vjp(lambda x, scale: forward(x, scale, spec), x, scale)
    return rounded, *pull(g)


def seconds(function, *inputs):
    """CPU time of one call."""
    started = time.process_time()
    jax.block_until_ready(function(*inputs))
    return time.process_time() - started


def ratio(first, second):
    """The median over pairs of the times of two calls, each a tuple of a function and its arguments."""
    for call in (first, second):
        seconds(*call)
    return statistics.median(seconds(*first) / seconds(*second) for _ in range(arguments.pairs))


def main():
    device = jax.devices()[0].device_kind
    print(f"{X.size / 1e6:.1f} M float32 values, {device}, jax {jax.__version__}; CPU time over that of x + 1")
    scales = {
        name: jnp.full(scale_shape(X.shape, contract=(0,), spec=spec), 3.0 / float(spec.grid.reach))
        for name, spec in SPECS.items()
    }
    for name, spec in SPECS.items():
        one_way = ratio((forward, X, scales[name], spec), (copy, X))
        two_ways = ratio((both_ways, X, scales[name], spec, G), (copy, X))
        print(f"{name:20} forward {one_way:5.2f}   forward and backward {two_ways:5.2f}")
    integer = (forward, X, scales["int4 channel"], SPECS["int4 channel"])
    for name in ("16 levels channel", "e4m3 channel", "e2m1 channel"):
        print(f"{name:20} over int4 channel {ratio((forward, X, scales[name], SPECS[name]), integer):5.2f}")


if __name__ == "__main__":
    main()
