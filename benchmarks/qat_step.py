"""The cost of a QAT step (W4A4, LSQ, the bit-width traced) against the float step: ResNet-20, batch 64, one
thread, CPU time.

    .venv/bin/python benchmarks/qat_step.py [rounds]

Float and QAT steps take turns; the printed figure is the median of the ratios of neighbours. Target: <= 1.10.
"""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qresearch.compilation import keep_compiled_programs
from qresearch.core.spec import QuantSpec
from qresearch.data.normalise import Normalise
from qresearch.grids.integer import Integer
from qresearch.models.resnet import ResNet
from qresearch.nn.calibrate import calibrate
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.lsq import LSQ
from qresearch.training.augment import Augment
from qresearch.training.optimizer import SGD
from qresearch.training.step import Problem, TrainState, split_model, start_training, train_step

BATCH = 64


def quantized(model: nnx.Module, images: jax.Array, bits: int) -> nnx.Module:
    """The model with LSQ at `bits` on every weight and input."""
    layers = geometry(model, (1, 32, 32, 3))
    weight = Assignment(QuantSpec(Integer(bits)), LSQ(MeanMagnitude()))
    act = Assignment(QuantSpec(Integer(bits, signed=None)), LSQ(MeanMagnitude()))
    rules = assign(list(layers), [Rule(".*", weight, act)])
    return quantize_model(model, rules, layers, calibrate(model, rules, [images]))


def stepper(model: nnx.Module, problem: Problem):
    """A function that takes one training step and waits for it."""
    model.train()
    graphdef, parts = split_model(model)
    state = TrainState(*parts, start_training(problem.recipe, *parts[:2]))
    index = np.arange(BATCH, dtype=np.int32)

    def take() -> float:
        nonlocal state
        started = time.process_time()
        state, _ = train_step(graphdef, state, problem, index, np.int32(0))
        jax.block_until_ready(state)
        return time.process_time() - started

    return take


def main(rounds: int = 15) -> None:
    keep_compiled_programs()
    images = jax.random.randint(jax.random.key(0), (BATCH, 32, 32, 3), 0, 256, jnp.int32).astype(jnp.uint8)
    labels = jnp.arange(BATCH, dtype=jnp.int32) % 10
    unit = np.ones((1, 1, 1, 3), np.float32)
    problem = Problem(images, labels, Normalise(np.float32(255), unit, unit), SGD(), 1000, jax.random.key(0), Augment())
    model = ResNet(20).build((32, 32, 3), 10, rngs=nnx.Rngs(0))
    model.eval()
    qat = stepper(quantized(model, problem.normalise(images), 4), problem)
    float_step = stepper(model, problem)
    for take in (qat, float_step, qat, float_step):
        take()
    pairs = [(float_step(), qat()) for _ in range(rounds)]
    ratio = np.median([b / a for a, b in pairs])
    floats, quants = np.median(pairs, axis=0)
    print(
        f"float step {floats:.3f} CPU-s, QAT step {quants:.3f} CPU-s, "
        f"ratio {ratio:.3f} (median of {rounds}; target 1.10)"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
