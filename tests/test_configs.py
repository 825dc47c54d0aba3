"""Every config file composes and builds, every experiment is ready to run, every class has its file.

All of them are found by walking the folders: a new file is tested by existing.
"""

import importlib
import inspect
import os
import pkgutil
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from qresearch.cell import prepare
from qresearch.config import CONFIG_FOLDER, build, build_rules, check
from qresearch.data.source import VARIABLE

FILES = sorted(CONFIG_FOLDER.rglob("*.yaml"))
CHOICES = [f"{path.parent.name}={path.stem}" for path in FILES if path.parent.parent == CONFIG_FOLDER]
EXPERIMENTS = [path for path in FILES if path.parent.name == "experiment"]
# Where the files of a group land in a run; those of other groups land under the group's name.
PLACES = {
    "optim": ("baseline", "optim"),
    "observer": ("weight.observer", "act.observer"),
    "quantizer": ("weight.quantizer", "act.quantizer"),
}
# What a file needs of the others.
NEEDS = {"model=resnet": ["model.weights=null"]}
# The folders whose classes the files name, and a method that tells such a class from what helps it.
NAMED = {
    "observers": "resolve",
    "quantizers": "scale",
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


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if not choice.startswith("experiment")])
def test_every_file_can_be_chosen_and_built(choice):
    group, _, name = choice.partition("=")
    for place in PLACES.get(group, (group,)):
        cfg = compose(choice if place == group else f"{group}@{place}={name}", *NEEDS.get(choice, ()))
        node = OmegaConf.select(cfg, place)
        if "_target_" in node and group != "quantizer":  # that one needs its observer: `prepare` builds it
            built = type(build(node))
            assert f"{built.__module__}.{built.__name__}" == node["_target_"]
        cell = prepare(cfg)
        assert set(cell.rules) == (set() if choice == "method=float" else set(cell.layers))


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
    targets = {content.get("_target_") for content in contents}
    for folder, method in NAMED.items():
        package = importlib.import_module(f"qresearch.{folder}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                own = cls.__module__ == module.name and not getattr(cls, "_is_protocol", False)
                if own and not name.startswith("_") and callable(getattr(cls, method, None)):
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
    assert [(rule.weight.spec.bits, rule.act.spec.bits) for rule in rules] == [(8, 8), (3, 3)]
