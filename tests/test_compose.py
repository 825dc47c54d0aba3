"""Composition of cells: what Hydra itself would make of the same overrides, and its errors; but once for all values."""

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from qresearch.compose import Composer, axes
from qresearch.config.schema import CONFIG_FOLDER, SIDES

PARTS = ("observer", "quantizer", "estimator")
PLACES = {"optim": ("baseline", ""), "format": SIDES} | {
    part: tuple(f"{side}.{part}" for side in SIDES) for part in PARTS
}
FILES: dict[str, list[str]] = {}  # by the key that chooses one of them
for path in sorted(CONFIG_FOLDER.glob("*/*.yaml")):
    for place in PLACES.get(path.parent.name, ("",)) if path.parent.name not in ("hydra", "sweep") else ():
        FILES.setdefault(f"{path.parent.name}{f'@{place}' if place else ''}", []).append(path.stem)
# Each of them is in one of these lists.
CHOICES = [
    [f"{key}={names[number % len(names)]}" for key, names in FILES.items()]
    for number in range(max(len(names) for names in FILES.values()))
]
LISTS = [
    [],
    ["seed=3", "weight.bits=4"],
    ["weight.bits=4", "weight.bits=2", "act.bits=null"],
    ["act.bits=${weight.bits}", "weight.bits=5"],
    ["weight.bits=${act.bits}", "seed=${weight.bits}"],
    ["optim.learning_rate=1e-3", "optim.weight_decay=0", "optim.learning_rate=${baseline.learning_rate}"],
    ["model.weights='a, b [1].safetensors'", "runs_dir='$HOME'"],
    ['model.weights="it\'s"', "runs_dir=''"],
    ["model.weights=null", "data.crop=0", "data.flip=true"],
    ["model.weights=/a/b-c_d.safetensors", "runs_dir=../x\\=y"],
    ["rules.every.match='layers.[01]|conv,1'"],
    ["rules.every.match=conv1|linear", "rules.every.float=True"],
    ["weight.granularity=block", "weight.block_size=8", "weight.scale_format=e8m0", "weight.scale_rule=floor"],
    ["weight.granularity=block", "weight.block_size=[32, 8]", "weight.bits=4"],
    ["weight.rounding=half_away", "act.grid.range=narrow", "act.grid.signed=null"],
    ["sweep.stack=on", "sweep.force=true", "sweep.yes=true", "sweep.chunk=4"],
    ["method=qat", "model=mlp", "optim@baseline=sgd", "baseline.epochs=2", "seed=1"],
    ["observer@act.observer=percentile", "act.observer.percentile=99.5", "act.bits=4"],
    ["act.observer.percentile=99.5", "observer@act.observer=percentile"],  # a value before the choice that it is of
    ["weight.bits=3", "format@weight=nf4"],
    ["format@weight=mxfp4", "weight.bits=4", "model=mlp"],
    ["experiment=demo", "weight.bits=2", "seed=1"],
    ["experiment=qat_cifar10", "method=ptq", "model.depth=32"],
    ["~experiment", "seed=1", "~tracker"],
    ["rules=ends_8bit", "rules.ends.weight.bits=6"],
    ["+rules.every.weight.bits=4", "weight.bits=2"],
    ["++weight.bits=3", "++rules.every.act.bits=null"],
    ["~rules.every", "+rules={one:{match:'.*'}}", "seed=2"],
    ["+rules={rest:{match:'.*',float:true}}", "rules.every.match=conv1"],
    ["~act.grid.range", "act.bits=2"],
    ["act.grid.range=narrow", "~act.grid.range", "+act.grid.range=full"],
    ["act={bits:4,granularity:channel}", "act.bits=3"],
    ["act.bits=3", "act={bits:4,granularity:channel}"],
    ["model={width:4}", "model.width=8"],
    ["model.width=8", "model={width:4}"],
    ["model=mlp", "model.width=8", "model={width:4}", "seed=1"],
]
BAD = [
    ["experiment=null", "seed=1"],
    ["~rules.every", "+rules.one.match='.*'", "seed=2"],
    ["weight.bit=4"],
    ["sead=1"],
    ["modle=cnn"],
    ["model=vgg"],
    ["model.depht=4"],
    ["seed=foo"],
    ["seed=1.5"],
    ["weight.bits=4.5"],
    ["weight.rounding=up"],
    ["weight.granularity=null"],
    ["seed=null"],
    ["weight=4"],
    ["seed={a:1}"],
    ["sweep.stack=maybe"],
    ["~nothing"],
    ["~weight.bit"],
    ["+experiment=demo"],
    ["observer@act=mse,"],
    ["observer@nowhere.observer=mse"],
    ["weight.bits=4", "model=mlp", "weight.bit=4"],
    ["method"],
]


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


def by_hydra(overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return hydra.compose("config", overrides)


def seen(cfg):
    """All that there is to see: values, interpolations as they stand, what comes of them, and the types."""
    types = {key: OmegaConf.get_type(cfg, key) for key in cfg}
    resolved = {
        key: OmegaConf.to_container(cfg, resolve=True)[key] for key in cfg if key != "sweep"
    }  # it says the time
    return OmegaConf.to_container(cfg), resolved, types, OmegaConf.is_struct(cfg)


@pytest.mark.parametrize("overrides", LISTS, ids=" ".join)
def test_it_equals_hydras_own(overrides, composer):
    assert seen(composer.compose(overrides)) == seen(by_hydra(overrides))


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_every_file_of_every_group(number, composer):
    overrides = ["calibration.images=8", *CHOICES[number], "seed=1"]
    assert seen(composer.compose(overrides)) == seen(by_hydra(overrides))


def test_no_file_was_left_out():
    chosen = {(word.partition("=")[0].partition("@")[0], word.partition("=")[2]) for words in CHOICES for word in words}
    files = {(path.parent.name, path.stem) for path in CONFIG_FOLDER.glob("*/*.yaml")}
    assert {file for file in files - chosen if file[0] != "sweep"} == set() and len(chosen) > 80


@pytest.mark.parametrize("overrides", BAD, ids=" ".join)
def test_errors_are_hydras_own(overrides, composer):
    with pytest.raises(Exception) as expected:
        by_hydra(overrides)
    with pytest.raises(type(expected.value)) as caught:
        composer.compose(overrides)
    ours, hydras = str(caught.value), str(expected.value)
    assert ours.startswith(hydras.splitlines()[0])
    if "To append to your config" in hydras:  # which is no help here
        assert "The keys there are: " in ours
    else:
        assert ours == hydras
    assert str(caught.value.__cause__) == str(expected.value.__cause__)


@pytest.fixture
def composed(composer, monkeypatch):
    """What Hydra had to compose from the beginning since."""
    calls, real = [], composer.loader.load_sweep_config

    def counting(master, overrides):
        calls.append(overrides)
        return real(master, overrides)

    monkeypatch.setattr(composer.loader, "load_sweep_config", counting)
    monkeypatch.setattr(composer, "_bases", {})
    return calls


def test_cells_that_differ_in_plain_values_are_composed_once(composer, composed):
    cells = [
        ["method=qat", f"weight.bits={bits}", "act.bits=${weight.bits}", f"seed={seed}", f"optim.learning_rate={rate}"]
        for bits in (8, 4, "null")
        for seed in (0, 1)
        for rate in ("0.1", "1e-3")
    ]
    found = [composer.compose(overrides) for overrides in cells]
    assert composed == [["method=qat"]]
    assert [(cfg.weight.bits, cfg.act.bits, cfg.seed, cfg.optim.learning_rate) for cfg in found] == [
        (bits, bits, seed, rate) for bits in (8, 4, None) for seed in (0, 1) for rate in (0.1, 0.001)
    ]


def test_each_set_of_choices_is_composed_once(composer, composed):
    for _ in range(2):
        for method in ("ptq", "qat"):
            for observer in ("mse", "absmax"):
                composer.compose([f"method={method}", "seed=1", f"observer@act.observer={observer}"])
    assert composed == [
        [f"method={method}", f"observer@act.observer={observer}"]
        for method in ("ptq", "qat")
        for observer in ("mse", "absmax")
    ]


def test_a_cell_can_be_changed_without_harm_to_the_next(composer):
    first = composer.compose(["seed=1"])
    OmegaConf.set_struct(first, False)
    first.weight.bits, first.rules.every.match, first["more"] = 3, "conv1", 1
    assert seen(composer.compose(["seed=1"])) == seen(by_hydra(["seed=1"]))


def test_it_starts_and_leaves_hydra_as_it_was():
    """So that another one, or Hydra itself, can be started in the same process."""
    Composer.start(CONFIG_FOLDER)
    assert not GlobalHydra.instance().is_initialized()
    Composer.start(CONFIG_FOLDER).compose(["seed=1"])
    assert by_hydra(["seed=1"]).seed == 1


@pytest.mark.parametrize(
    ("overrides", "counts"),
    [
        (["seed=0,1,2", "weight.bits=4"], {"seed": 3, "weight.bits": 1}),
        (["seed=range(0,10,2)", "method=choice(ptq,qat)"], {"seed": 5, "method": 2}),
        (["model.weights='a,b'", "weight.block_size=[8,4],[4,4]"], {"model.weights": 1, "weight.block_size": 2}),
        (["act.bits=${weight.bits}", "+rules.every.weight.bits=2,3", "~experiment"], {"act.bits": 1}),
        (["seed=0,1", "seed=5"], {"seed": 1}),
        ([], {}),
    ],
    ids=str,
)
def test_axes_are_counted(overrides, counts):
    found = {key: len(values) for key, values in axes(overrides, {}).items()}
    assert found.items() >= counts.items() and len(found) == len({word.partition("=")[0] for word in overrides})


def test_the_command_line_goes_before_the_parameters_of_the_sweeper():
    found = axes(["seed=7,8"], {"method": "ptq,qat", "seed": "0,1,2"})
    assert found == {"method": ["ptq", "qat"], "seed": ["7", "8"]}


def test_an_empty_axis_has_no_value():
    assert axes(["weight.bits=8,4", "seed=range(0,0)"], {}) == {"weight.bits": ["8", "4"], "seed": []}
