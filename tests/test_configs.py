"""Every config file composes and builds, every experiment is ready to run, every class has its file.

All of them are found by walking the folders: a new file is tested by existing.
"""

import functools
import importlib
import inspect
import os
import pkgutil
from pathlib import Path

import hydra
import pytest
import yaml

from qresearch.cells.cell import prepare
from qresearch.config.check import check
from qresearch.config.nodes import build, plain
from qresearch.config.rules import build_rules
from qresearch.config.schema import CONFIG_FOLDER, SIDES, ConfigError
from qresearch.data.source import VARIABLE

FILES = sorted(CONFIG_FOLDER.rglob("*.yaml"))
CHOICES = [f"{path.parent.name}={path.stem}" for path in FILES if path.parent.parent == CONFIG_FOLDER]
EXPERIMENTS = [path for path in FILES if path.parent.name == "experiment"]
# Where the files of a group land in a run; those of other groups land under the group's name.
PLACES = {
    "optim": ("baseline", "optim"),
    "format": SIDES,
    **{part: tuple(f"{side}.{part}" for side in SIDES) for part in ("observer", "quantizer", "estimator")},
}
# Those that scale blocks of 16 or 32 elements.
BLOCKS = {
    f"format={path.stem}"
    for path in FILES
    if path.parent.name == "format" and yaml.safe_load(path.read_text()).get("granularity") == "block"
}
# The classes of the files that name one.
TARGETS = {
    f"{path.parent.name}={path.stem}": hydra.utils.get_object(content["_target_"])
    for path in FILES
    if "_target_" in (content := yaml.safe_load(path.read_text()))
}
# What a part of a side may be made for, from the plainest on.
GRIDS = (
    "format@{side}=int",
    "format@{side}=int {side}.grid.signed=false {side}.bits=4 {side}.granularity=tensor",
    "format@{side}=mid_rise",
    "format@{side}=ternary",
    "format@{side}=binary",
    "format@{side}=levels",
)
# The folders whose classes the files name, and a method that tells such a class from what helps it.
NAMED = {
    "grids": "decode",
    "estimators": "pull",
    "observers": "resolve",
    "quantizers": "apply",
    "ptq": "solve",
    "models": "build",
    "data": "train",
    "training": "transformation",
    "store": "finish",
}
needs_data = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"the weights are looked for in {VARIABLE}")


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return check(hydra.compose("config", list(overrides)))


def overrides(choice, place, grid=GRIDS[0]):
    """The choice of a file for a place, and what it needs of the others; there are gradients in training alone."""
    training = ["method=qat"] if place.startswith("grad") else []
    return [*training, *needs(choice, place, grid)]


def needs(choice, place, grid):
    group, _, name = choice.partition("=")
    side = place.partition(".")[0]
    chosen = choice if place == group else f"{group}@{place}={name}"
    if choice == "model=resnet":
        return [chosen, "model.weights=null"]
    if choice in BLOCKS:  # a network of 64, 128 and 10 features; scales of blocks of an input are not stored
        needs = {"act": ["quantizer@act.quantizer=dynamic"], "grad": ["grad.block_size=2"]}
        return [chosen, "model=mlp", *needs.get(side, ())]
    if place == group or group in ("format", "optim"):
        return [chosen]
    if group != "quantizer":
        return [chosen, *grid.format(side=side).split()]
    observer = "percentile" if "levels" in grid else "absmax"  # the levels may be fitted to a histogram
    return [chosen, f"observer@{side}.observer={observer}", *grid.format(side=side).split()]


def takes(choice, place, grid):
    try:
        return bool(build_rules(compose(*overrides(choice, place, grid))))
    except ConfigError:
        return False


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if not choice.startswith(("experiment", "sweep"))])
def test_every_file_can_be_chosen_and_built(choice):
    group = choice.partition("=")[0]
    places = PLACES.get(group, (group,))
    is_part = places[0].startswith("weight.")
    grid = next((grid for grid in GRIDS if takes(choice, places[0], grid)), None) if is_part else GRIDS[0]
    assert grid, "it takes none of GRIDS"
    for place in places:
        cfg = compose(*overrides(choice, place, grid))
        node = functools.reduce(dict.__getitem__, place.split("."), plain(cfg))
        if place == "grad.quantizer" and TARGETS[choice].stored:
            with pytest.raises(ConfigError, match=r"grad\.quantizer=\w+: a gradient is not seen by calibration"):
                prepare(cfg)
            continue
        if "_target_" in node and group != "quantizer":  # that one needs its observer: `prepare` builds it
            built = type(build(node))
            assert f"{built.__module__}.{built.__name__}" == node["_target_"]
        cell = prepare(cfg)
        assert set(cell.rules) == (set() if choice == "method=float" else set(cell.layers))
        if group == "format":
            sides = [getattr(rule, place) for rule in cell.rules.values()]
            assert [side and int(side.spec.grid.bits) for side in sides] == [node["bits"]] * len(cell.layers)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_is_ready_to_run(path):
    on_cifar10 = "data: cifar10" in path.read_text()
    if on_cifar10 and not os.environ.get(VARIABLE):
        pytest.skip(f"its weights are looked for in {VARIABLE}")
    cell = prepare(compose(f"experiment={path.stem}"))
    assert cell.layers
    assert (cell.weights is not None) == on_cifar10


@needs_data
def test_depth_chooses_the_weights():
    cfg = compose("experiment=float_cifar10", "model.depth=32")
    assert prepare(cfg).weights.name == "resnet32_cifar10.safetensors"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_starts_with_what_it_is(path):
    first = path.read_text().removeprefix("# @package _global_\n").partition("\n")[0]
    assert first.startswith("# ")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_starts_with_its_command_and_its_time(path):
    package, command, *rest = path.read_text().splitlines()
    assert package == "# @package _global_"
    assert command.startswith("# qresearch ") and path.stem in command
    assert any(line.startswith("# ") and "cores" in line for line in rest)


def test_every_class_has_a_file_that_names_it():
    contents = [yaml.safe_load(path.read_text()) for path in FILES]
    targets = {node.get("_target_") for content in contents for node in (content, content.get("grid", {}))}
    for folder, method in NAMED.items():
        package = importlib.import_module(f"qresearch.{folder}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, member in inspect.getmembers(importlib.import_module(module.name)):
                own = getattr(member, "__module__", None) == module.name and not getattr(member, "_is_protocol", False)
                # A class, or a function that makes one.
                cls = inspect.signature(member).return_annotation if inspect.isfunction(member) else member
                named = inspect.isclass(cls) and callable(getattr(cls, method, None))
                if own and named and not name.startswith("_"):
                    assert f"{module.name}.{name}" in targets


def test_configs_of_a_checkout_are_its_own():
    assert Path(__file__).parents[1] / "configs" == CONFIG_FOLDER


def test_demo_has_48_cells_in_4_groups():
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", ["experiment=demo"], return_hydra_config=True)
    spans = {key: str(values).split(",") for key, values in cfg.hydra.sweeper.params.items()}
    assert spans == {
        "method": ["ptq", "qat"],
        "weight.granularity": ["tensor", "channel"],
        "weight.bits": ["8", "4", "3", "2"],
        "seed": ["0", "1", "2"],
    }
    corners = [
        (f"method={method}", f"weight.granularity={granularity}", *numbers)
        for method in spans["method"]
        for granularity in spans["weight.granularity"]
        for numbers in (("weight.bits=8", "seed=0"), ("weight.bits=2", "seed=2"))
    ]
    groups = [prepare(compose("experiment=demo", *corner)).group for corner in corners]
    assert groups[::2] == groups[1::2] and len(set(groups)) == 4


def test_demo_keeps_the_ends_at_8_bits_and_moves_the_rest_together():
    rules = build_rules(compose("experiment=demo", "weight.bits=3"))
    assert [(rule.weight.spec.grid.bits, rule.act.spec.grid.bits) for rule in rules] == [(8, 8), (3, 3)]
