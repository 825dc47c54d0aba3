"""One epoch of QAT from the published ResNet-20 (`experiment=qat_cifar10`) at 4, 3 and 2 bits: top-1 on the test set.

    .venv/bin/python benchmarks/qat_cifar10.py [bits ...]

Six to eight minutes for each width on two CPU cores. Targets: W4A4 >= 90.0, W3A3 >= 86.5; W2A2 has none.
"""

import sys
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir

from qresearch.compilation import keep_compiled_programs
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.run import run


def main(*widths: int) -> None:
    keep_compiled_programs()
    for bits in widths or (4, 3, 2):
        with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            overrides = [f"weight.bits={bits}", f"act.bits={bits}", f"runs_dir={folder}", "tracker=none"]
            record = run(compose("config", ["experiment=qat_cifar10", *overrides]), Path(folder), group="benchmark")
        metrics = record["metrics"]
        print(f"W{bits}A{bits}: top-1 {metrics['top1']:.2f} % (float {metrics['top1_float']:.2f} %)", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
