"""Write docs/conventions.md: every choice that changes numbers, with the difference that it makes, measured here.

    python docs/conventions.py

Takes about a minute. All numbers come from fixed random tensors, so a second run writes the same page.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qresearch.core.division import divide
from qresearch.core.fake_quantize import fake_quantize, round_to_grid
from qresearch.core.rounding import Rounding
from qresearch.core.spec import QuantSpec
from qresearch.estimators.clipped_straight_through import ClippedStraightThrough
from qresearch.estimators.straight_through import StraightThrough
from qresearch.grids.apot import apot
from qresearch.grids.integer import Integer, Range, ZeroPoint
from qresearch.grids.lloyd_max import lloyd_max
from qresearch.grids.mid_rise import MidRise
from qresearch.grids.minifloat import MiniFloat, Special
from qresearch.grids.nf4 import nf4
from qresearch.grids.powers_of_two import powers_of_two
from qresearch.observers.absmax import AbsMax
from qresearch.observers.gaussian import Gaussian
from qresearch.observers.mean_magnitude import MeanMagnitude
from qresearch.observers.minmax import MinMax
from qresearch.observers.mse import MSE
from qresearch.observers.percentile import Percentile

PAGE = Path(__file__).with_suffix(".md")
WIDTHS = (2, 3, 4, 5, 6, 8)
SHAPE = (4096, 64)  # contracted along its first axis
NORMAL = jax.random.normal(jax.random.key(0), SHAPE)
TENSORS = {
    "normal": NORMAL,
    "Laplace": jax.random.laplace(jax.random.key(1), SHAPE) / jnp.sqrt(2.0),
    "ReLU of normal": jnp.maximum(NORMAL, 0.0),
    "columns of unequal size": NORMAL * jnp.exp(jax.random.normal(jax.random.key(2), (1, SHAPE[1]))),
}
E4M3, E2M1 = MiniFloat(4, 3), MiniFloat(2, 1, Special.finite)


def sqnr(x: Any, observer: Any, spec: QuantSpec) -> float:
    """Signal to quantization noise in dB."""
    scale, zero_point = observer.resolve(observer.measure(x, contract=(0,), spec=spec), spec)
    error = x - round_to_grid(x, scale, zero_point, spec)
    return float(10 * jnp.log10(jnp.sum(x**2) / jnp.sum(error**2)))


def table(corner: str, columns: Iterable[Any], rows: dict[str, Iterable[Any]]) -> str:
    """A Markdown table; numbers with two decimals."""
    lines = [f"| {corner} | " + " | ".join(map(str, columns)) + " |"]
    lines.append("| --- |" + " ---: |" * len(list(columns)))
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def by_width(x: Any, observer: Any, grid: Callable[[int], Any], **choices: Any) -> list[float]:
    return [sqnr(x, observer, QuantSpec(grid(bits), **choices)) for bits in WIDTHS]


def ranges() -> str:
    rows = {}
    for title, observer in (("the largest magnitude (absmax)", AbsMax()), ("least squared error (mse)", MSE())):
        for choice in Range:
            rows[f"`{choice}`, {title}"] = by_width(NORMAL, observer, lambda bits, c=choice: Integer(bits, range=c))
        rows[f"format=mid_rise, {title}"] = by_width(NORMAL, observer, MidRise)
    return table("SQNR in dB, normal data, one scale", [f"{bits} bits" for bits in WIDTHS], rows)


def zero_points() -> str:
    rows = {}
    for name in ("normal", "ReLU of normal"):
        x = TENSORS[name]
        signed = name == "normal"
        rows[f"{name}, `none`, {'signed' if signed else 'unsigned'}"] = by_width(
            x, MinMax(), lambda bits, s=signed: Integer(bits, signed=s)
        )
        if not signed:
            rows[f"{name}, `none`, signed"] = by_width(x, MinMax(), Integer)
        for choice in (ZeroPoint.integer, ZeroPoint.float):
            rows[f"{name}, `{choice}`"] = by_width(
                x, MinMax(), lambda bits, c=choice: Integer(bits, zero_point=c, signed=False)
            )
    shifted = NORMAL + 3.0
    for choice in ZeroPoint:
        rows[f"normal + 3, `{choice}`"] = by_width(
            shifted, MinMax(), lambda bits, c=choice: Integer(bits, zero_point=c, signed=c is ZeroPoint.none)
        )
    return table("SQNR in dB, scale from minimum and maximum", [f"{bits} bits" for bits in WIDTHS], rows)


def roundings() -> str:
    rows, scale = {}, jnp.full((1, 1), 0.5)
    halves = jnp.round(NORMAL * 4) / 4  # a quarter of them on ties
    for choice in ("half_even", "half_away", "floor", "ceil", "stochastic"):
        spec = QuantSpec(Integer(4), rounding=choice)
        cells = []
        for x in (NORMAL, halves, jnp.abs(halves)):
            error = x - fake_quantize(x, scale, None, spec, ClippedStraightThrough(), key=jax.random.key(3))
            cells += [float(10 * jnp.log10(jnp.sum(x**2) / jnp.sum(error**2))), f"{float(jnp.mean(error)):+.4f}"]
        rows[f"`{choice}`"] = cells
    columns = [
        f"{name}: {what}" for name in ("normal", "on quarters", "their magnitudes") for what in ("SQNR", "mean(E)")
    ]
    return table("4 bits, scale 1/2", columns, rows)


def divisions() -> str:
    rows = {}
    for bits in (4, 8, 16):
        scale = jnp.max(jnp.abs(NORMAL), axis=0, keepdims=True) / Integer(bits).high
        exact = jnp.round(jax.jit(divide)(NORMAL, scale))
        product = jnp.round(NORMAL * (1.0 / scale))
        rows[f"{bits} bits"] = [f"{int(jnp.sum(exact != product))} of {NORMAL.size}"]
    return table("normal data, one scale for each column", ["codes that differ"], rows)


def gradients() -> str:
    """The gradient of an LSQ scale under the two orders and the two treatments of the bound."""
    x, spec = NORMAL[:, :1], QuantSpec(Integer(3))
    scale = jnp.max(jnp.abs(x), keepdims=True) / 4

    def ours(scale, estimator):
        return jnp.sum(fake_quantize(x, scale, None, spec, estimator))

    def round_first(scale):
        v = x / scale
        rounded = v + jax.lax.stop_gradient(jnp.round(v) - v)
        return jnp.sum(jnp.clip(rounded, spec.grid.low, spec.grid.high) * scale)

    def jnp_clip(scale):
        v = jnp.clip(x / scale, spec.grid.low, spec.grid.high)
        return jnp.sum((v + jax.lax.stop_gradient(jnp.round(v) - v)) * scale)

    found = {
        "clip, then round; the bound is inside (`clipped_straight_through`)": jax.grad(ours)(
            scale, ClippedStraightThrough()
        ),
        "the gradient passes everywhere (`straight_through`)": jax.grad(ours)(scale, StraightThrough()),
        "clip by `jnp.clip`, then round": jax.grad(jnp_clip)(scale),
        "round, then clip by `jnp.clip`": jax.grad(round_first)(scale),
    }
    return table(
        "d(sum of x_hat)/d(scale), 4096 normal values, 3 bits",
        ["gradient"],
        {name: [float(value[0, 0])] for name, value in found.items()},
    )


def granularities() -> str:
    rows = {}
    choices = {
        "`tensor`": {},
        "`channel`": {"granularity": "channel"},
        "`block`, `block_size=128`": {"granularity": "block", "block_size": 128},
        "`block`, `block_size=32`": {"granularity": "block", "block_size": 32},
        "`block`, `block_size=[32, 8]`": {"granularity": "block", "block_size": (32, 8)},
    }
    for name, choice in choices.items():
        rows[name] = by_width(TENSORS["columns of unequal size"], AbsMax(), Integer, **choice)
    return table("SQNR in dB, columns of unequal size", [f"{bits} bits" for bits in WIDTHS], rows)


def scale_formats() -> str:
    rows = {}
    formats = [("float32", None), ("bfloat16", None), ("e4m3", None)]
    formats += [("e8m0", rule) for rule in ("floor", "ceil", "nearest", "even")]
    grids = {"int8": Integer(8), "int4": Integer(4), "e4m3": E4M3, "e2m1": E2M1}
    for name, rule in formats:
        choice = {"granularity": "block", "block_size": 32, "scale_format": name, "scale_rule": rule}
        rows[f"`{name}`" + (f", `scale_rule={rule}`" if rule else "")] = [
            sqnr(NORMAL, AbsMax(), QuantSpec(grid, **choice)) for grid in grids.values()
        ]
    return table("SQNR in dB, normal data, blocks of 32", grids, rows)


def observers() -> str:
    parts = []
    named = {
        "absmax": AbsMax(),
        "percentile (99.99)": Percentile(),
        "percentile (99.0)": Percentile(99.0),
        "mse": MSE(),
        "mean_magnitude": MeanMagnitude(),
        "gaussian": Gaussian(),
    }
    for name in ("normal", "Laplace"):
        rows = {f"`{key}`": by_width(TENSORS[name], observer, Integer) for key, observer in named.items()}
        parts.append(table(f"SQNR in dB, {name}, one scale", [f"{bits} bits" for bits in WIDTHS], rows))
    return "\n\n".join(parts)


def four_bits() -> str:
    grids = {
        "int4": Integer(4),
        "int4 narrow": Integer(4, range=Range.narrow),
        "mid_rise": MidRise(4),
        "e2m1": E2M1,
        "nf4": nf4(),
        "apot": apot(4),
        "powers_of_two": powers_of_two(4),
        "lloyd_max (normal)": lloyd_max(4),
    }
    columns, rows = [], {f"`{name}`": [] for name in grids}
    for name in ("normal", "Laplace"):
        for title, choice in (("one scale, mse", None), ("blocks of 64, absmax", 64)):
            columns.append(f"{name}: {title}")
            block = {} if choice is None else {"granularity": "block", "block_size": choice}
            for key, grid in grids.items():
                observer = MSE() if choice is None else AbsMax()
                rows[f"`{key}`"].append(sqnr(TENSORS[name], observer, QuantSpec(grid, **block)))
    return table("SQNR in dB at 4 bits", columns, rows)


def floats() -> str:
    rows = {}
    for name, grid in {
        "e4m3": E4M3,
        "e5m2": MiniFloat(5, 2, Special.ieee),
        "e4m3fnuz": MiniFloat(4, 3, Special.fnuz),
        "e5m2fnuz": MiniFloat(5, 2, Special.fnuz),
        "e3m4": MiniFloat(3, 4, Special.ieee),
        "e3m2": MiniFloat(3, 2, Special.finite),
        "e2m3": MiniFloat(2, 3, Special.finite),
        "e2m1": E2M1,
    }.items():
        wide = NORMAL * jnp.exp(2 * jax.random.normal(jax.random.key(4), SHAPE))
        found = [sqnr(x, AbsMax(), QuantSpec(grid)) for x in (NORMAL, wide)]
        beyond = dataclasses.replace(grid, saturate=False) if grid.special is not Special.finite else None
        lost = "-" if beyond is None else str(np.asarray(beyond.round(2 * grid.high, Rounding.half_even, None)))
        rows[f"`{name}`"] = [f"{float(grid.high):g}", int(grid.count), *found, lost]
    columns = ["largest", "values", "normal", "normal, magnitudes over 4 decades", "`saturate=false`: 2 x largest"]
    return table("SQNR in dB, one scale by absmax", columns, rows)


def page() -> str:
    """The whole page."""
    parts = {name: function() for name, function in MEASURED.items()}
    return TEXT.format(**parts)


MEASURED = {
    "ranges": ranges,
    "zero_points": zero_points,
    "roundings": roundings,
    "divisions": divisions,
    "gradients": gradients,
    "granularities": granularities,
    "scale_formats": scale_formats,
    "observers": observers,
    "four_bits": four_bits,
    "floats": floats,
}
TEXT = Path(__file__).with_name("conventions.in.md").read_text()

if __name__ == "__main__":
    PAGE.write_text(page())
