"""Training recipes: which optimizer, with which numbers, for how long.

The numbers are leaves, so runs that differ in them share one compiled step. The optax transformation is built
inside that step.
"""

import enum
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from qresearch.core.pytree import Number, WholeNumber, leaf, pytree_dataclass


class Schedule(enum.StrEnum):
    """The learning rate over training, as a share of its start."""

    constant = "constant"
    cosine = "cosine"  # half a cosine from 1 to 0 (Loshchilov & Hutter 2017, arXiv:1608.03983)
    steps = "steps"  # divided by 10 after 1/2 and after 3/4 of the steps (He et al. 2016, arXiv:1512.03385)


def learning_rate_share(schedule: Schedule, progress: jax.Array) -> jax.Array:
    """The factor on the learning rate at `progress` in 0..1."""
    if schedule is Schedule.cosine:
        return 0.5 * (1 + jnp.cos(jnp.pi * progress))
    if schedule is Schedule.steps:
        return jnp.where(progress < 0.5, 1.0, jnp.where(progress < 0.75, 0.1, 0.01))
    return jnp.ones_like(progress)


@runtime_checkable
class Recipe(Protocol):
    """An optimizer with its numbers, a schedule and a length."""

    schedule: Schedule
    epochs: WholeNumber
    batch_size: int

    def transformation(self, progress: jax.Array) -> optax.GradientTransformation:
        """The update of (weights, qparams) at `progress` in 0..1; the shape of its state depends on no number."""
        ...


def check_recipe(recipe: Any) -> None:
    """Raise ValueError for numbers that no training can use."""
    for name in ("epochs", "batch_size"):
        value = getattr(recipe, name)
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    for name in ("learning_rate", "quantizer_learning_rate", "weight_decay"):
        value = getattr(recipe, name)
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"{name}={value} is negative; give 0 or more.")


def quantizer_rate(recipe: Any) -> Any:
    """The learning rate of the quantizers' numbers: their own, or that of the weights."""
    return recipe.learning_rate if recipe.quantizer_learning_rate is None else recipe.quantizer_learning_rate


def two_groups(weights: optax.GradientTransformation, qparams: optax.GradientTransformation) -> Any:
    """One transformation of the pair (weights, qparams)."""
    return optax.partition({"weights": weights, "qparams": qparams}, ("weights", "qparams"))


@pytree_dataclass
class SGD:
    """Stochastic gradient descent with momentum; weight decay on the weights only.

    `quantizer_learning_rate` is that of the quantizers' learned numbers (None: the same as the weights').
    """

    learning_rate: Number = leaf(0.1)
    quantizer_learning_rate: Number | None = leaf(None)
    momentum: Number = leaf(0.9)
    weight_decay: Number = leaf(1e-4)
    epochs: WholeNumber = leaf(1)
    schedule: Schedule = Schedule.cosine
    batch_size: int = 128

    def __post_init__(self):
        object.__setattr__(self, "schedule", Schedule(self.schedule))
        check_recipe(self)

    def transformation(self, progress):
        share = learning_rate_share(self.schedule, progress)
        rate = self.learning_rate * share
        weights = optax.chain(optax.add_decayed_weights(self.weight_decay), optax.sgd(rate, self.momentum))
        return two_groups(weights, optax.sgd(quantizer_rate(self) * share, self.momentum))


@pytree_dataclass
class Adam:
    """Adam with decoupled weight decay (AdamW) on the weights only.

    Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101.
    """

    learning_rate: Number = leaf(1e-3)
    quantizer_learning_rate: Number | None = leaf(None)
    weight_decay: Number = leaf(0.0)
    epochs: WholeNumber = leaf(1)
    schedule: Schedule = Schedule.cosine
    batch_size: int = 128

    def __post_init__(self):
        object.__setattr__(self, "schedule", Schedule(self.schedule))
        check_recipe(self)

    def transformation(self, progress):
        share = learning_rate_share(self.schedule, progress)
        weights = optax.adamw(self.learning_rate * share, weight_decay=self.weight_decay)
        return two_groups(weights, optax.adam(quantizer_rate(self) * share))
