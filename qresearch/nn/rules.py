"""Rules: which layers are quantized, and how. The first rule whose pattern matches a layer's path decides."""

import re
from collections.abc import Sequence
from typing import Any

from qresearch.core.estimator import Estimator
from qresearch.core.pytree import leaf, pytree_dataclass
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.quantizers.quantizer import Quantizer


@pytree_dataclass
class Assignment:
    """What is done to one tensor: a grid, the rule for its scale, and the derivative of its rounding.

    Raises ValueError for a quantizer, an observer or an estimator whose assumptions do not hold for the grid. Where its
    sign is open, what depends on the sign is judged when calibration has closed it.
    """

    spec: QuantSpec = leaf()
    quantizer: Quantizer = leaf()
    estimator: Estimator = leaf(ClippedStraightThrough())

    def __post_init__(self):
        self.quantizer.check(self.spec)
        if self.quantizer.observes:
            self.quantizer.observer.check(self.spec)
        self.estimator.check(self.spec)


@pytree_dataclass
class Rule:
    """Layers whose whole path matches `match` (a regular expression); a side that is None stays float."""

    match: str
    weight: Assignment | None = leaf(None)
    act: Assignment | None = leaf(None)
    grad: Assignment | None = leaf(None)  # of the layer's output

    def __post_init__(self):
        try:
            re.compile(self.match)
        except re.error as error:
            raise ValueError(f"match={self.match!r} is not a regular expression: {error}.") from error
        if self.grad is not None and self.grad.quantizer.stored:
            raise ValueError(
                f"grad.quantizer={type(self.grad.quantizer).__name__}: a gradient is not seen by calibration; "
                "use quantizer@grad.quantizer=dynamic."
            )


def assign(paths: Sequence[str], rules: Sequence[Rule]) -> dict[str, Any]:
    """The rule of every layer.

    Raises ValueError for a layer that no rule matches, and for a rule that decides no layer.
    """
    chosen = {path: next((rule for rule in rules if re.fullmatch(rule.match, path)), None) for path in paths}
    undecided = [path for path, rule in chosen.items() if rule is None]
    if undecided:
        raise ValueError(
            f"No rule decides the layers {undecided}; add a last rule with match='.*', or one that keeps them float."
        )
    used = {id(rule) for rule in chosen.values()}
    idle = [rule.match for rule in rules if id(rule) not in used]
    if idle:
        raise ValueError(
            f"The rules {idle} decide no layer. Layers of this model: {list(paths)}. "
            "A rule matches a whole path, and the first match wins; remove the rule or mend its pattern."
        )
    return chosen


def check_act_granularity(rules: Sequence[Rule]) -> None:
    """Raise ValueError where an activation has a stored scale for each sample: another batch would not fit it."""
    for rule in rules:
        if rule.act is not None and rule.act.quantizer.stored and rule.act.spec.granularity != "tensor":
            raise ValueError(
                f"act.granularity={rule.act.spec.granularity} with a stored scale (rule {rule.match!r}): "
                "an activation's channels are its samples, which change from batch to batch; "
                "use act.granularity=tensor, or a dynamic quantizer."
            )
