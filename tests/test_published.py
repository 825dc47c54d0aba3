"""The published CIFAR-10 networks through the whole program, as a user would type it.

The weight-only table was found by two independent PyTorch implementations, which agree to the last image; so did the
float accuracies. Where only a bound is given, it is what the same recipe reaches elsewhere.
"""

import os

import hydra
import pytest

from qresearch.config.schema import CONFIG_FOLDER
from qresearch.data.source import VARIABLE
from qresearch.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"needs the data and the weights in {VARIABLE}"),
]
BITS = (8, 6, 5, 4, 3, 2)
WEIGHTS_ONLY = {
    "channel": (91.77, 91.66, 91.22, 90.12, 72.07, 9.70),
    "tensor": (91.75, 91.45, 90.84, 85.14, 21.56, 10.00),
}


@pytest.fixture
def record_of(tmp_path):
    """The record of a run with these overrides."""

    def start(*overrides):
        with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            cfg = hydra.compose("config", ["tracker=none", f"runs_dir={tmp_path}", *overrides])
        return run(cfg, tmp_path / "run")

    return start


@pytest.mark.parametrize(("depth", "top1"), [(20, 91.73), (32, 92.63), (56, 93.39)])
def test_float(depth, top1, record_of):
    metrics = record_of("experiment=float_cifar10", f"model.depth={depth}")["metrics"]
    assert round(metrics["top1"], 2) == round(metrics["top1_float"], 2) == top1


@pytest.mark.parametrize("granularity", WEIGHTS_ONLY)
def test_weights_only(granularity, record_of):
    found, programs = {}, []
    for bits in BITS:
        numbers = [f"weight.granularity={granularity}", f"weight.bits={bits}", "act.bits=null"]
        record = record_of("experiment=ptq_cifar10", *numbers)
        found[bits] = record["metrics"]["top1"]
        programs.append(record["metrics"]["programs"])
    # On a CPU all twelve are equal; where sums are ordered otherwise, an image in ten thousand may fall the other way.
    assert found == pytest.approx(dict(zip(BITS, WEIGHTS_ONLY[granularity], strict=True)), abs=0.05)
    assert not any(programs[1:])  # one group, whatever the bits


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        ([], 91.65),  # W8A8
        (["weight.bits=4", "observer@act.observer=percentile"], 89.8),  # W4A8, the 99.99th percentile
        (["weight.bits=4", "act.bits=4", "observer@act.observer=mse"], 84.2),  # W4A4; another implementation: 84.63
    ],
    ids=["W8A8", "W4A8", "W4A4"],
)
def test_weights_and_activations(overrides, least, record_of):
    record = record_of("experiment=ptq_cifar10", *overrides)
    print(f"top-1 {record['metrics']['top1']:.2f}")
    assert record["metrics"]["top1"] >= least
    signs = {row["layer"]: row["grid"].startswith("int") for row in record["audit"] if row["tensor"] == "input"}
    assert signs.pop("conv1") and not any(signs.values())  # the image has two signs, the output of a ReLU one
    assert len(signs) == 19
