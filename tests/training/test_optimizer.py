"""Recipes: schedules at their corners, and updates against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.training.optimizer import SGD, Adam, Schedule, learning_rate_share

RNG = np.random.default_rng(0)
TRAINED = {"w": RNG.normal(size=(3, 2))}, {"scale": RNG.normal(size=(1,))}
GRADIENTS = [({"w": RNG.normal(size=(3, 2))}, {"scale": RNG.normal(size=(1,))}) for _ in range(3)]


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (Schedule.constant, {0.0: 1, 0.5: 1, 1.0: 1}),
        (Schedule.cosine, {0.0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0}),
        (Schedule.steps, {0.0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1.0: 0.01}),
    ],
)
def test_schedules(schedule, shares):
    for progress, share in shares.items():
        assert learning_rate_share(schedule, jnp.float32(progress)) == pytest.approx(share, abs=1e-6)


def as_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def train(recipe):
    """The pair after three steps of the recipe at progress 0, 1/3 and 2/3."""
    trained = as_float32(TRAINED)
    state = recipe.transformation(jnp.zeros(())).init(trained)
    for number, gradient in enumerate(GRADIENTS):
        update, state = recipe.transformation(jnp.float32(number / 3)).update(as_float32(gradient), state, trained)
        trained = jax.tree.map(jnp.add, trained, update)
    return trained


@pytest.mark.parametrize("quantizer_rate", [None, 0.02])
def test_sgd(quantizer_rate):
    """v <- m v + (g + decay w), w <- w - rate v; the quantizers' numbers do not decay."""
    weights, qparams = train(SGD(0.1, quantizer_rate, momentum=0.9, weight_decay=0.05, schedule=Schedule.steps))
    w, s, v_w, v_s = TRAINED[0]["w"], TRAINED[1]["scale"], 0.0, 0.0
    for number, (g_w, g_s) in enumerate(GRADIENTS):
        share = (1, 1, 0.1)[number]
        v_w = 0.9 * v_w + g_w["w"] + 0.05 * w
        v_s = 0.9 * v_s + g_s["scale"]
        w, s = w - 0.1 * share * v_w, s - (quantizer_rate or 0.1) * share * v_s
    np.testing.assert_allclose(weights["w"], w, rtol=1e-5)
    np.testing.assert_allclose(qparams["scale"], s, rtol=1e-5)


@pytest.mark.usefixtures("standard_dtypes")
@pytest.mark.parametrize("quantizer_rate", [None, 0.02])
def test_adam(quantizer_rate):
    """Kingma & Ba 2015, algorithm 1, with the decay of Loshchilov & Hutter 2019, algorithm 2, on the weights."""
    weights, qparams = train(Adam(0.1, quantizer_rate, weight_decay=0.05, schedule=Schedule.constant))

    def adam(x, gradients, rate, decay):
        m = v = 0.0
        for t, g in enumerate(gradients, 1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            x = x - rate * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * x)
        return x

    np.testing.assert_allclose(
        weights["w"], adam(TRAINED[0]["w"], [g["w"] for g, _ in GRADIENTS], 0.1, 0.05), rtol=1e-4
    )
    expected = adam(TRAINED[1]["scale"], [g["scale"] for _, g in GRADIENTS], quantizer_rate or 0.1, 0.0)
    np.testing.assert_allclose(qparams["scale"], expected, rtol=1e-4)


@pytest.mark.parametrize("recipe", [SGD, Adam])
def test_numbers_are_leaves_and_shapes_are_not(recipe):
    structure = jax.tree.structure(recipe(learning_rate=0.1, quantizer_learning_rate=0.1))
    assert structure == jax.tree.structure(recipe(learning_rate=3.0, quantizer_learning_rate=0.5, weight_decay=0.3))
    assert structure == jax.tree.structure(recipe(0.1, 0.1, epochs=2))
    for other in ({"batch_size": 2}, {"schedule": Schedule.constant}):
        assert structure != jax.tree.structure(recipe(0.1, 0.1, **other))


@pytest.mark.parametrize("recipe", [SGD, Adam])
@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "must be at least 1"),
        ("batch_size", -1, "must be at least 1"),
        ("learning_rate", -0.1, "is negative; give 0 or more"),
        ("quantizer_learning_rate", -0.1, "is negative; give 0 or more"),
        ("weight_decay", -1e-4, "is negative; give 0 or more"),
    ],
)
def test_numbers_that_no_training_can_use(recipe, name, value, rule):
    with pytest.raises(ValueError, match=rf"^{name}={value} {rule}\.$"):
        recipe(**{name: value})
