"""Training: against a loop in numpy, reproducible, and stopped with what it knew when the loss is lost."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.fake_quantize import MARGIN
from qresearch.core.program import count_programs
from qresearch.core.spec import QuantSpec
from qresearch.data.normalise import Normalise
from qresearch.grids.integer import Integer, Range
from qresearch.nn.calibrate import calibrate
from qresearch.nn.fake_quant import QParam
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.observers.absmax import AbsMax
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.quantizers.lsq import LSQ
from qresearch.quantizers.static import Static
from qresearch.training.augment import Augment
from qresearch.training.loop import Diverged, fit
from qresearch.training.optimizer import SGD, Schedule

RNG = np.random.default_rng(0)
LABELS = (np.arange(20) % 3).astype(np.int32)
IMAGES = np.clip(RNG.integers(0, 6, size=(20, 2, 2, 1)) + 5 * (LABELS[:, None, None, None] - 1), 0, 15).astype(np.uint8)
ONE = np.ones((1, 1, 1, 1), np.float32)
NORMALISE = Normalise(np.float32(15), 0.5 * ONE, 0.25 * ONE)


class Net(nnx.Module):
    """Softmax regression."""

    def __init__(self):
        self.linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.linear(x.reshape(x.shape[0], -1))


def build(network=Net):
    """Random numbers in the parameters, and batch statistics as they start."""
    net, rng = nnx.eval_shape(network), np.random.default_rng(1)
    nnx.update(
        net,
        jax.tree.map(
            lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), nnx.state(net, nnx.Param)
        ),
    )
    nnx.update(
        net, jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape), leaf.dtype), nnx.state(net, nnx.BatchStat))
    )
    return net


def quantized(quantizer, bits=2):
    net = build()
    spec = QuantSpec(Integer(bits, range=Range.narrow))
    rules = assign(["linear"], [Rule(".*", weight=Assignment(spec, quantizer))])
    layers = geometry(net, (1, 2, 2, 1))
    return quantize_model(net, rules, layers, calibrate(net, rules, []))


def train(model, recipe, *, seed=0, augment=None, images=IMAGES):
    """(curves, what was heard) of one model, which must not diverge."""
    ((curves, diverged),), heard = train_all([model], [recipe], seeds=[seed], augment=augment, images=images)
    assert diverged is None
    return curves, heard


def train_all(models, recipes, *, seeds, augment=None, images=IMAGES):
    heard = []
    options = {
        "normalise": NORMALISE,
        "augment": augment or Augment(),
        "recipes": recipes,
        "seeds": seeds,
        "listen": lambda *told: heard.append(told),
    }
    return fit(models, images, LABELS[: len(images)], **options), heard


def lost(model, recipe):
    """Why the training of one model was broken off, its curves, and what was heard."""
    ((curves, diverged),), heard = train_all([model], [recipe], seeds=[0])
    assert isinstance(diverged, Diverged) and diverged.curves == curves
    return diverged, curves, heard


def scale_of(model):
    return model.linear.dot_general.weight.qparams["scale"][...]


def slow_training(model, steps):
    """Learned-step-size training on all images at once, with every derivative written out, in float64."""
    x = ((IMAGES / 15 - 0.5) / 0.25).reshape(20, 4)
    w, b, s = (np.asarray(part, np.float64) for part in (model.linear.kernel, model.linear.bias, scale_of(model)))
    velocity, losses, (n, qmax) = [0.0, 0.0, 0.0], [], (w.size, 1)
    for step in range(steps):
        v = w / s
        assert not np.any((np.abs(v) > qmax) & (np.abs(v) < qmax + 4 * MARGIN * qmax))
        q, inside = np.round(np.clip(v, -qmax, qmax)), np.abs(v) <= qmax
        logits = x @ (q * s) + b
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses.append(-np.log(p[np.arange(20), LABELS]).mean())
        d_logits = (p - np.eye(3)[LABELS]) / 20
        d_rounded = x.T @ d_logits
        d_s = np.sum(d_rounded * np.where(inside, q - v, q)) / np.sqrt(n * qmax)
        gradients = d_rounded * inside + 0.01 * w, d_logits.sum(axis=0) + 0.01 * b, d_s
        share = 0.5 * (1 + np.cos(np.pi * step / steps))
        velocity = [0.9 * old + new for old, new in zip(velocity, gradients, strict=True)]
        w, b, s = w - 0.5 * share * velocity[0], b - 0.5 * share * velocity[1], s - 0.2 * share * velocity[2]
    return w, b, s, losses


def test_quantization_aware_training_against_a_loop():
    model = quantized(LSQ(MeanMagnitude()))
    w, b, s, losses = slow_training(model, 3)
    before = model.linear.kernel[...]
    curves, _ = train(model, SGD(0.5, 0.2, momentum=0.9, weight_decay=0.01, epochs=3, batch_size=20))
    np.testing.assert_allclose([point["loss"] for point in curves], losses, rtol=1e-5)
    np.testing.assert_allclose(model.linear.kernel[...], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.linear.bias[...], b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scale_of(model), s, rtol=1e-5)
    assert np.abs(w - before).max() > 0.1 and curves[-1]["scale/linear.weight"] == pytest.approx(s.item(), rel=1e-5)


def test_it_learns_and_tells():
    model = build()
    curves, heard = train(model, SGD(0.5, epochs=30, batch_size=8))  # 20 images: two steps an epoch, four images rest
    assert [point["step"] for point in curves] == list(range(1, 61))
    assert heard == [(0, point["step"], 60, point) for point in curves]
    assert curves[-1]["loss"] < 0.5 * curves[0]["loss"] and curves[-1]["accuracy"] > 0.8


def test_a_long_training_has_a_curve_of_about_a_hundred_points():
    curves, _ = train(build(), SGD(0.1, epochs=25, batch_size=2))
    assert 80 <= len(curves) <= 125 and curves[-1]["step"] == 250


def test_the_seed_decides_everything():
    recipe, augment = SGD(0.1, schedule=Schedule.constant, epochs=2, batch_size=5), Augment(flip=True, crop=1)
    models = [build() for _ in range(3)]
    first, again, other = (
        train(model, recipe, seed=seed, augment=augment)[0] for model, seed in zip(models, (0, 0, 1), strict=True)
    )
    assert first == again and first != other
    np.testing.assert_array_equal(models[0].linear.kernel[...], models[1].linear.kernel[...])


def test_every_image_is_used_once_an_epoch():
    """With a rate of zero the mean loss of an epoch is the loss of the data set, whatever the order."""
    curves, _ = train(build(), SGD(0.0, momentum=0.0, epochs=4, batch_size=10))
    losses = np.array([point["loss"] for point in curves]).reshape(4, 2)
    assert losses.mean(axis=1) == pytest.approx(losses.mean(), rel=1e-6) and not np.allclose(losses[0], losses[1])


def test_numbers_that_are_not_learned_stay():
    model = quantized(Static(AbsMax()), bits=3)
    before, kernel = scale_of(model), model.linear.kernel[...]
    train(model, SGD(0.5, epochs=1, batch_size=10))
    np.testing.assert_array_equal(scale_of(model), before)
    assert not np.allclose(model.linear.kernel[...], kernel)
    assert len(nnx.to_flat_state(nnx.state(model, QParam))) == 1


def test_bit_widths_share_the_programs():
    recipe = SGD(0.1, epochs=1, batch_size=10)
    train(quantized(LSQ(MeanMagnitude()), bits=2), recipe)
    with count_programs() as counted:
        curves, _ = train(quantized(LSQ(MeanMagnitude()), bits=4), recipe, seed=3)
    assert counted == {} and len(curves) == 2


class WithNorm(nnx.Module):
    def __init__(self):
        self.norm, self.net = nnx.BatchNorm(4, rngs=nnx.Rngs(0)), Net()

    def __call__(self, x):
        return self.net(self.norm(x.reshape(x.shape[0], -1)))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_behaves_as_the_model_was_left(training):
    model = build(WithNorm)
    model.set_attributes(use_running_average=not training)
    train(model, SGD(0.1, epochs=1, batch_size=10))
    assert bool(np.any(np.asarray(model.norm.mean) != 0)) is training


def test_a_loss_that_is_lost():
    model = build()
    kernel = model.linear.kernel[...]
    diverged, curves, heard = lost(model, SGD(1e38, momentum=0.0, weight_decay=0.0, epochs=4, batch_size=10))
    assert re.fullmatch(r"The loss is (nan|inf) after step \d+; lower optim\.learning_rate\.", str(diverged))
    assert 1 < diverged.step <= 8 and [point["step"] for point in curves] == list(range(1, diverged.step))
    assert all(np.isfinite(point["loss"]) for point in curves)
    assert [point for *_, point in heard] == curves
    np.testing.assert_array_equal(model.linear.kernel[...], kernel)  # it keeps its weights


def test_fewer_images_than_a_batch():
    with pytest.raises(ValueError, match=r"^optim\.batch_size=128 is larger than the 20 training images; lower it\.$"):
        train(build(), SGD())


def test_a_learned_scale_that_turns_negative():
    """It would flip every sign and still be finite."""
    model = quantized(LSQ(AbsMax()))
    diverged, *_ = lost(model, SGD(epochs=30, batch_size=20, learning_rate=0.0, quantizer_learning_rate=30.0))
    assert re.match(r"The scale/linear.weight is -\d.* after step", str(diverged))


CELLS = ((2, 0.5, 0), (3, 0.1, 1), (4, 0.3, 0))  # bits, rate, seed


def recipe_of(rate, **options):
    return SGD(rate, 0.2, momentum=0.9, weight_decay=0.01, epochs=3, batch_size=8, **options)


def test_models_side_by_side_train_as_they_do_alone():
    augment = Augment(flip=True, crop=1)
    alone, together = ([quantized(LSQ(MeanMagnitude()), bits) for bits, *_ in CELLS] for _ in range(2))
    recipes, seeds = [recipe_of(rate) for _, rate, _ in CELLS], [seed for *_, seed in CELLS]
    found, heard = train_all(together, recipes, seeds=seeds, augment=augment)
    for number, model in enumerate(alone):
        curves, told = train(model, recipes[number], seed=seeds[number], augment=augment)
        stacked, diverged = found[number]
        assert diverged is None and stacked == [pytest.approx(point, rel=1e-4, abs=1e-6) for point in curves]
        assert [said[1:] for said in heard if said[0] == number] == [
            (*said[1:3], stacked[i]) for i, said in enumerate(told)
        ]
        np.testing.assert_allclose(together[number].linear.kernel[...], model.linear.kernel[...], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(scale_of(together[number]), scale_of(model), rtol=1e-4)
    assert len({cell.curves[-1]["loss"] for cell in found}) == len(CELLS)


@pytest.mark.parametrize("cells", [1, 3])
def test_many_steps_in_one_program_train_as_a_loop_does(cells, monkeypatch):
    """As on an accelerator."""
    recipes, seeds = [recipe_of(rate) for _, rate, _ in CELLS[:cells]], [seed for *_, seed in CELLS[:cells]]
    found = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        models = [quantized(LSQ(MeanMagnitude()), bits) for bits, *_ in CELLS[:cells]]
        with count_programs() as counted:
            trained, _ = train_all(models, recipes, seeds=seeds)
        assert counted[f"train_step{'s' * (backend == 'gpu')}{'_together' * (cells > 1)}"] <= 1
        found.append(([cell.curves for cell in trained], [model.linear.kernel[...] for model in models]))
    (curves, kernels), (scanned, scanned_kernels) = found
    for number in range(cells):
        assert scanned[number] == [pytest.approx(point, rel=1e-4, abs=1e-6) for point in curves[number]]
        np.testing.assert_allclose(scanned_kernels[number], kernels[number], rtol=1e-4, atol=1e-6)


def test_one_that_diverges_leaves_the_others_alone():
    """It keeps its weights and the curves that it had; nobody hears of it afterwards."""
    models, rates = [build() for _ in range(3)], (0.1, 1e38, 0.3)
    kernel = models[1].linear.kernel[...]
    recipes = [SGD(rate, momentum=0.0, weight_decay=0.0, epochs=4, batch_size=10) for rate in rates]
    found, heard = train_all(models, recipes, seeds=[0, 1, 2])
    assert [cell.diverged is None for cell in found] == [True, False, True]
    broken = found[1].diverged
    assert [point["step"] for point in found[1].curves] == list(range(1, broken.step)) and broken.curves == found[
        1
    ].curves
    assert [said for said in heard if said[0] == 1] == [(1, point["step"], 8, point) for point in found[1].curves]
    np.testing.assert_array_equal(models[1].linear.kernel[...], kernel)
    for number in (0, 2):
        model = build()
        curves, _ = train(model, recipes[number], seed=number)
        assert found[number].curves == [pytest.approx(point, rel=1e-4) for point in curves]
        np.testing.assert_allclose(models[number].linear.kernel[...], model.linear.kernel[...], rtol=1e-4, atol=1e-6)


def test_when_all_have_diverged_it_stops():
    recipes = [SGD(1e38, momentum=0.0, weight_decay=0.0, epochs=1000, batch_size=10)] * 2
    found, heard = train_all([build(), build()], recipes, seeds=[0, 1])
    assert all(cell.diverged.step < 100 for cell in found) and len(heard) == sum(len(cell.curves) for cell in found)


def test_batch_norm_of_models_side_by_side_is_their_own():
    alone, together = ([build(WithNorm) for _ in range(2)] for _ in range(2))
    recipe = SGD(0.1, epochs=1, batch_size=10)
    train_all(together, [recipe] * 2, seeds=[0, 1])
    for seed in (0, 1):
        train(alone[seed], recipe, seed=seed)
        np.testing.assert_allclose(together[seed].norm.mean, alone[seed].norm.mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(together[seed].norm.var, alone[seed].norm.var, rtol=1e-5)
    assert not np.allclose(together[0].norm.mean, together[1].norm.mean)


def test_stacks_of_other_numbers_share_the_programs():
    recipes = [SGD(rate, epochs=1, batch_size=10) for rate in (0.1, 0.2)]
    train_all([quantized(LSQ(MeanMagnitude()), bits) for bits in (2, 8)], recipes, seeds=[0, 1])
    others = [SGD(rate, weight_decay=0.1, epochs=2, batch_size=10) for rate in (0.3, 0.4)]
    with count_programs() as counted:
        found, _ = train_all([quantized(LSQ(MeanMagnitude()), bits) for bits in (3, 4)], others, seeds=[2, 3])
    assert counted == {} and [len(cell.curves) for cell in found] == [4, 4]
