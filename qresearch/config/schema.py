"""The keys of a configuration that are the same for every run, with their types and defaults."""

import dataclasses
import enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from qresearch.core.rounding import Rounding
from qresearch.core.spec import Granularity, ScaleFormat, ScaleRule
from qresearch.graph.forms import Between
from qresearch.graph.rescale import Requantize

PACKAGED = Path(__file__).parents[1] / "configs"
CONFIG_FOLDER = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "configs"
SIDES = ("weight", "act", "grad")
PARTS = ("grid", "observer", "quantizer", "estimator")  # of a side: nodes with a `_target_`
UNHASHED = ("tracker", "sweep", "runs_dir")  # they change no number


class ConfigError(ValueError):
    """A configuration that cannot be run."""


class Method(enum.StrEnum):
    """What is done to the float baseline."""

    float = "float"  # nothing: train or load it, and evaluate
    ptq = "ptq"  # quantize it as it is
    qat = "qat"  # quantize it and train on


class BatchNorm(enum.StrEnum):
    """What becomes of batch norm in the quantized network."""

    fold = "fold"  # folded into the convolution before quantization
    freeze = "freeze"  # kept, with the statistics of the baseline
    train = "train"  # kept, with batch statistics while training (QAT only)


@dataclasses.dataclass
class MethodConfig:
    name: Method = MISSING
    batch_norm: BatchNorm = BatchNorm.fold


@dataclasses.dataclass
class TensorConfig:
    """How a weight, an activation or a gradient is quantized; bits=null keeps it float."""

    bits: int | None = 8
    grid: Any = MISSING
    granularity: Granularity = Granularity.tensor
    block_size: Any = None  # an integer, or two of them
    scale_format: ScaleFormat = ScaleFormat.float32
    scale_rule: ScaleRule | None = None
    rounding: Rounding = Rounding.half_even
    observer: Any = MISSING
    quantizer: Any = MISSING
    estimator: Any = MISSING


@dataclasses.dataclass
class RuleConfig:
    """Layers whose path matches; `weight`, `act` and `grad` change keys of the run's own for them."""

    match: str = MISSING
    float: bool = False
    weight: dict[str, Any] = dataclasses.field(default_factory=dict)
    act: dict[str, Any] = dataclasses.field(default_factory=dict)
    grad: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class CalibrationConfig:
    """The first `images` of the training set, in order, without augmentation."""

    images: int = 512
    batch_size: int = 128


@dataclasses.dataclass
class ExportConfig:
    """What becomes of the quantized network beside its evaluation."""

    file: bool = False  # keep it as model.safetensors, its weights packed
    parity: bool = False  # compare it with the network that computes with integers, on the whole test set
    between: Between = Between.int32  # what lies between the layers of that network
    requantize: Requantize = Requantize.even  # how it rescales integers


class Stack(enum.StrEnum):
    """Whether cells of a group are computed side by side."""

    on = "on"
    off = "off"
    auto = "auto"  # off on a CPU; elsewhere whichever a short timed probe finds faster


@dataclasses.dataclass
class SweepConfig:
    """How a sweep is run; none of it changes what a cell is."""

    name: str = MISSING  # of its folder under runs_dir; `qresearch sweep` makes it from the overrides, so that the
    # same command goes on where it was stopped
    force: bool = False  # compute cells again that have a result
    yes: bool = False  # allow more than 10,000 cells
    stack: Stack = Stack.auto
    chunk: int = 16  # how many cells are stacked at most


@dataclasses.dataclass
class RunConfig:
    model: Any = MISSING
    data: Any = MISSING
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
    weight: TensorConfig = dataclasses.field(default_factory=TensorConfig)
    act: TensorConfig = dataclasses.field(default_factory=TensorConfig)
    grad: TensorConfig = dataclasses.field(default_factory=TensorConfig)  # of the output of each layer
    rules: dict[str, RuleConfig] = dataclasses.field(default_factory=dict)
    ptq: Any = MISSING
    baseline: Any = MISSING  # the recipe of the float baseline
    optim: Any = MISSING  # the recipe of quantization-aware training
    calibration: CalibrationConfig = dataclasses.field(default_factory=CalibrationConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    anatomy_images: int = 256
    tracker: Any = MISSING
    seed: int = 0
    sweep: SweepConfig = dataclasses.field(default_factory=SweepConfig)
    runs_dir: str = "runs"


ConfigStore.instance().store(name="schema", node=RunConfig)


NODES = ("model", "data", "ptq", "baseline", "optim", "tracker")  # top-level nodes with a `_target_`
