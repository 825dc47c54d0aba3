"""CPU seconds from the start of a process to its first trained ResNet-20 step (W4A4 LSQ), without and with
the compilation cache.

    .venv/bin/python benchmarks/cold_start.py [runs]

Targets: <= 9 CPU-s cold, <= 3 CPU-s with a warm cache. The checkpoint is random (its values cost nothing),
the images are noise.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = """
import sys, tempfile
import jax, numpy as np
from pathlib import Path
from flax import nnx
from qresearch.compilation import keep_compiled_programs
keep_compiled_programs()
from qresearch.config.check import check
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.cells.cell import prepare
from qresearch.cells.stages import baseline, calibration, quantize
from qresearch.store.shared import Shared
from qresearch.training.step import Problem, TrainState, split_model, start_training, train_step
from qresearch.training.augment import Augment
from hydra import compose, initialize_config_dir
with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
    paper = [f"observer@{side}.observer=mean_magnitude" for side in ("weight", "act")]
    cfg = compose("config", ["experiment=qat_cifar10", f"model.weights={sys.argv[1]}", "tracker=none", *paper])
import qresearch.data.cifar10 as cifar10
noise = (np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), np.uint8), np.arange(512, dtype=np.int32) % 10)
cifar10.CIFAR10.train = lambda self, count=None: noise
cell = prepare(check(cfg))
shared = Shared(Path(tempfile.mkdtemp(dir=Path(sys.argv[1]).parent)))
model, _ = baseline(cell, shared, None)
model = quantize(cell, model, calibration(cell, model, shared))
model.train()
graphdef, parts = split_model(model)
from qresearch.config.nodes import build
recipe = build(cell.cfg.optim)
state = TrainState(*parts, start_training(recipe, *parts[:2]))
problem = Problem(*map(jax.numpy.asarray, noise), cell.normalise, recipe, 100, jax.random.key(0), Augment(True, 4))
state, metrics = train_step(graphdef, state, problem, np.arange(64, dtype=np.int32), np.int32(0))
print(float(metrics["loss"]))
"""

MAKE_CHECKPOINT = """
import sys
from pathlib import Path
from flax import nnx
from qresearch.models.resnet import ResNet
from qresearch.models.checkpoint import save_checkpoint
save_checkpoint(ResNet(20).build((32, 32, 3), 10, rngs=nnx.Rngs(0)), Path(sys.argv[1]))
"""


def child_cpu_seconds(code: str, argument: str, environment: dict[str, str]) -> float:
    """User and system time of a process that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, argument], env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(runs: int = 3) -> None:
    cold, warm, imports = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder) / "resnet20.safetensors")
        child_cpu_seconds(MAKE_CHECKPOINT, checkpoint, dict(os.environ))
        for run in range(runs):
            environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder) / f"cache{run}")}
            cold.append(child_cpu_seconds(CHILD, checkpoint, environment))
            warm.append(child_cpu_seconds(CHILD, checkpoint, environment))
            imports.append(child_cpu_seconds("import flax.nnx", "", environment))
    print(
        f"to the first trained step: cold {np.median(cold):.1f} CPU-s (target 9), "
        f"warm {np.median(warm):.1f} CPU-s (target 3); importing flax.nnx alone {np.median(imports):.1f} CPU-s"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
