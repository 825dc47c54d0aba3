"""A cell before and while it computes: its group, its checks, and where its float network comes from."""

import collections

import jax
import numpy as np
import pytest
from flax import nnx

from qresearch.cells import compute, stages
from qresearch.cells.cell import prepare
from qresearch.cells.compute import run_cells
from qresearch.cells.stages import baseline, calibration, quantize, train
from qresearch.config.check import check
from qresearch.data.source import VARIABLE
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from qresearch.nn.fake_quant import FakeQuant
from qresearch.nn.slots import slots
from qresearch.store.shared import Shared
from tiny import TINY, compose


def cell_of(*overrides):
    return prepare(check(compose(*TINY, *overrides)))


def silent(*told):
    pass


def alone(cell, folder):
    """The outcome of a cell that is computed by itself."""
    (outcome,) = run_cells([cell], Shared(folder), silent)
    return outcome


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(runs):
    """The float network of the default cell."""
    return baseline(cell_of(), Shared(runs), silent)[0]


def quantized(cell, network, folder):
    return quantize(cell, network, calibration(cell, network, Shared(folder)))


def parameters(model):
    return jax.device_get(jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_cells_that_differ_in_numbers_are_of_one_group(method):
    group = cell_of(f"method={method}").group
    for override in ("seed=1", "weight.bits=3", "act.bits=5", "optim.learning_rate=0.5", "optim.weight_decay=0"):
        assert cell_of(f"method={method}", override).group == group
    percentiles = [f"act.observer.percentile={value}" for value in (99.9, 99.99)]
    assert len({cell_of("observer@act.observer=percentile", override).group for override in percentiles}) == 1


def test_cells_that_differ_in_choices_are_of_different_groups():
    choices = [
        "method=ptq",
        "method=qat",
        "method=float",
        "weight.granularity=tensor",
        "weight.grid.range=narrow",
        "weight.grid.zero_point=integer",
        "format@weight=mid_rise",
        "weight.rounding=half_away",
        "estimator@weight.estimator=straight_through",
        "act.bits=null",
        "act.grid.signed=true",
        "observer@act.observer=mse",
        "quantizer@act.quantizer=dynamic",
        "method.batch_norm=freeze",
        "model.width=16",
        "model.depth=1",
        "data=mnist",
    ]
    groups = {cell_of(choice).group for choice in choices}
    groups.add(cell_of("method=qat", "grad.bits=8").group)
    assert len(groups) == len(choices) + 1


def test_prepare_computes_nothing(monkeypatch):
    monkeypatch.setattr("qresearch.data.digits.load", lambda: pytest.fail("the data was read"))
    cell = cell_of("method=qat")
    assert list(cell.layers) == ["layers.0", "layers.1", "layers.2"] == list(cell.rules)
    assert cell.layers["layers.0"].rhs_shape == (64, 8)
    assert cell.weights is None


def test_a_baseline_is_trained_once(runs, trained):
    heard = []
    again, curves = baseline(cell_of("method=qat", "weight.bits=3"), Shared(runs), lambda *point: heard.append(point))
    assert not heard and curves[-1]["step"] == 1500 // 64
    for kept, loaded in zip(parameters(trained), parameters(again), strict=True):
        np.testing.assert_array_equal(kept, loaded)
    assert len(list((runs / "baselines").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("override", ["seed=1", "baseline.learning_rate=0.1", "model.width=4"])
def test_what_a_baseline_is_made_from_names_it(override, tmp_path):
    heard = []
    baseline(cell_of(), Shared(tmp_path), silent)
    baseline(cell_of(override), Shared(tmp_path), lambda stage, step, total, point: heard.append((stage, step, total)))
    assert heard == [("baseline", step, 23) for step in range(1, 24)]
    assert len(list((tmp_path / "baselines").glob("*.safetensors"))) == 2


def test_seeds_differ_in_their_first_weights_and_not_only_in_their_batches(tmp_path):
    frozen = ["baseline.learning_rate=0", "method=float"]
    first, second = (baseline(cell_of(*frozen, f"seed={seed}"), Shared(tmp_path), silent)[0] for seed in (0, 1))
    assert not np.array_equal(parameters(first)[-1], parameters(second)[-1])


def test_weights_from_a_file(runs, trained, tmp_path, monkeypatch):
    save_checkpoint(trained, tmp_path / "mine.safetensors")
    by_path = cell_of(f"model.weights={tmp_path / 'mine.safetensors'}", "method=float")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    by_name = cell_of("model.weights=mine.safetensors")
    assert by_path.weights == by_name.weights
    found = alone(by_path, tmp_path)
    assert found.curves == {} and not (tmp_path / "baselines").exists()
    assert found.metrics["top1"] == alone(cell_of("method=float"), runs).metrics["top1"]


def test_missing_weights_name_both_ways_to_them(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        cell_of("model.weights=none.safetensors")
    for part in (
        "model.weights=none.safetensors",
        str(tmp_path),
        VARIABLE,
        "model.weights=null",
        "import-torch FILE -o",
    ):
        assert part in str(caught.value)


def test_quantize_leaves_the_float_network_alone(trained, tmp_path):
    before = parameters(trained)
    model = quantized(cell_of("weight.bits=2"), trained, tmp_path)
    for kept, now in zip(before, parameters(trained), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert all(isinstance(slot.occupant, FakeQuant) for slot in slots(model).values())
    assert not any(isinstance(slot.occupant, FakeQuant) for slot in slots(trained).values())
    assert len(np.unique(slots(model)["layers.0"].layer.kernel[:, 0])) <= 3


def test_calibration_reads_the_first_training_images(trained, tmp_path):
    """The scale of the first layer's input is the largest of those pixels over 255."""
    for count in (1, 16):
        model = quantized(cell_of(f"calibration.images={count}", "calibration.batch_size=5"), trained, tmp_path)
        images, _ = cell_of().data.train(count)
        scale = slots(model)["layers.0"].occupant.act.qparams["scale"][...]
        np.testing.assert_allclose(scale, images.max() / 16 / 255, rtol=1e-6)


def test_training_starts_from_the_float_weights(trained, tmp_path):
    """With a learning rate of zero nothing moves."""
    cell = cell_of("method=qat", "optim.learning_rate=0", "optim.batch_size=500")
    model = quantized(cell, trained, tmp_path)
    (curves,) = train([cell], [model], silent)
    assert [point["step"] for point in curves] == [1, 2, 3]
    for kept, now in zip(parameters(trained), parameters(model), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_a_rule_that_keeps_a_layer_float(trained, tmp_path):
    cell = cell_of("rules.every.match='layers.[01]'", "+rules={rest:{match:layers.2,float:true}}")
    model = quantized(cell, trained, tmp_path)
    assert [row["bits"] for row in audit(model)] == [8, 8, 8, 8, None, None]
    assert set(float_tensors(model)) == {"layers.0.bias", "layers.1.bias", "layers.2.bias", "layers.2.kernel"}


def test_checkpoints_of_baselines_load_in_any_cell(runs, trained):
    (path,) = (runs / "baselines").glob("*.safetensors")
    cell = cell_of("method=float")
    network = nnx.eval_shape(lambda: cell.model.build(cell.data.shape, cell.data.classes, rngs=nnx.Rngs(0)))
    load_checkpoint(network, path)
    for kept, loaded in zip(parameters(trained), parameters(network), strict=True):
        np.testing.assert_array_equal(kept, loaded)


@pytest.fixture
def made(monkeypatch):
    """How often a float network was trained, statistics taken and networks evaluated."""
    counts = collections.Counter()

    def counting(module, name):
        real = getattr(module, name)

        def wrapped(*arguments):
            counts[name] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, wrapped)

    for module, name in ((stages, "_train_baseline"), (stages, "calibrate"), (compute, "evaluate")):
        counting(module, name)
    return counts


def test_what_cells_share_is_made_once(made, tmp_path):
    """In this process; and in the next one, whose memory is empty, nothing of it is made again."""
    cells = [cell_of(f"weight.bits={bits}") for bits in (8, 4, 2)]
    shared = Shared(tmp_path)
    outcomes = [run_cells([cell], shared, silent)[0] for cell in cells]
    assert made == {"_train_baseline": 1, "calibrate": 1, "evaluate": 1 + len(cells)}
    again = [alone(cell, tmp_path) for cell in cells]
    assert made == {"_train_baseline": 1, "calibrate": 1, "evaluate": 1 + 2 * len(cells)}
    for first, second in zip(outcomes, again, strict=True):
        assert first.metrics | {"seconds": 0} == second.metrics | {"seconds": 0} and first.layers == second.layers
    kept = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.*") if path.name != ".claims"}
    assert kept == {"baselines", "evaluation", "calibration"}


@pytest.mark.parametrize(
    ("override", "remade"),
    [
        ("seed=1", {"_train_baseline": 1, "calibrate": 1, "evaluate": 2}),
        ("baseline.weight_decay=0.01", {"_train_baseline": 1, "calibrate": 1, "evaluate": 2}),
        ("calibration.images=17", {"calibrate": 1, "evaluate": 1}),
        ("calibration.batch_size=5", {"calibrate": 1, "evaluate": 1}),
        ("observer@act.observer=mse", {"calibrate": 1, "evaluate": 1}),
        ("act.bits=4", {"calibrate": 1, "evaluate": 1}),
        ("method.batch_norm=freeze", {"calibrate": 1, "evaluate": 1}),
        ("weight.bits=4", {"evaluate": 1}),
        ("act.bits=null", {"evaluate": 1}),
        ("method=float", {"evaluate": 1}),
        ("observer@weight.observer=mse", {"evaluate": 1}),
        ("anatomy_images=4", {"evaluate": 1}),
    ],
)
def test_a_stage_is_made_again_when_what_it_depends_on_changes(override, remade, runs, made):
    shared = Shared(runs / "stages")
    run_cells([cell_of()], shared, silent)
    made.clear()
    (outcome,) = run_cells([cell_of(override)], shared, silent)
    assert outcome.error is None and made == remade


def test_another_checkpoint_under_the_same_name_is_another_source(trained, made, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(trained, path)
    first, again = (alone(cell_of(f"model.weights={path}"), tmp_path) for _ in range(2))
    assert made == {"calibrate": 1, "evaluate": 3} and first.metrics["loss"] == again.metrics["loss"]
    other = nnx.clone(trained)
    nnx.update(other, jax.tree.map(lambda leaf: leaf / 2, nnx.state(other, nnx.Param)))
    save_checkpoint(other, path)
    second = alone(cell_of(f"model.weights={path}"), tmp_path)
    assert made == {"calibrate": 2, "evaluate": 5} and second.metrics["loss_float"] != first.metrics["loss_float"]
