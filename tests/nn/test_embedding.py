"""An embedding's table is quantized as any weight: a row is what one token takes, so channels are rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qresearch.core.spec import QuantSpec
from qresearch.evaluation.anatomy import anatomy
from qresearch.evaluation.audit import audit, float_tensors
from qresearch.evaluation.size import float_bytes, quantized_bytes
from qresearch.grids.integer import Integer
from qresearch.nn.calibrate import calibrate, statistics_structure
from qresearch.nn.geometry import geometry
from qresearch.nn.quantize_model import quantize_model
from qresearch.nn.rules import Assignment, Rule, assign
from qresearch.nn.slots import slots
from qresearch.observers.absmax import AbsMax
from qresearch.ptq.rtn import RTN
from qresearch.quantizers.dynamic import Dynamic
from qresearch.quantizers.static import Static


class Words(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(20, 8, rngs=rngs)
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.embed(tokens.astype(jnp.int32)))


MODEL, TOKENS = Words(nnx.Rngs(0)), jnp.arange(12, dtype=jnp.float32).reshape(3, 4)
LAYERS = geometry(MODEL, TOKENS.shape)
TABLE = np.asarray(MODEL.embed.embedding[...])


def quantized(quantizer, ptq=None, **choices):
    weight = Assignment(QuantSpec(Integer(4), **choices), quantizer)
    act = Assignment(QuantSpec(Integer(8)), Static(AbsMax()))
    rules = assign(list(slots(MODEL)), [Rule(".*", weight=weight, act=act)])
    return quantize_model(MODEL, rules, LAYERS, calibrate(MODEL, rules, [TOKENS]), ptq=ptq)


def by_rows(table, block):
    """4 bits, one scale for each `block` features of a row, by loops."""
    out = np.empty_like(table)
    for row in range(len(table)):
        for start in range(0, table.shape[1], block):
            part = table[row, start : start + block]
            scale = np.abs(part).max() / np.float32(7)
            out[row, start : start + block] = np.rint(part / scale) * scale
    return out


@pytest.mark.parametrize(
    ("choices", "block"), [({"granularity": "channel"}, 8), ({"granularity": "block", "block_size": 4}, 4)]
)
def test_lookups_come_from_the_rounded_table(choices, block):
    expected = by_rows(TABLE, block)
    for model in (quantized(Static(AbsMax()), RTN(), **choices), quantized(Dynamic(AbsMax()), **choices)):
        np.testing.assert_allclose(model.embed(jnp.arange(20)), expected, rtol=1e-6, atol=1e-7)
    settled = quantized(Static(AbsMax()), RTN(), **choices)
    np.testing.assert_allclose(settled.embed.embedding[...], expected, rtol=1e-6, atol=1e-7)


def test_it_trains():
    model = quantized(Dynamic(AbsMax()), granularity="channel")
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    gradient = jax.grad(lambda params: nnx.merge(graphdef, params, rest)(TOKENS).sum())(params)
    rows = np.abs(np.asarray(gradient["embed"]["embedding"].get_value())).sum(axis=1)
    assert np.all(rows[:12] > 0) and np.all(rows[12:] == 0)


def test_the_table_attends_too():
    """`attend` multiplies by the same rounded table."""
    model, query = quantized(Dynamic(AbsMax()), granularity="channel"), jnp.ones((2, 8))
    np.testing.assert_allclose(model.embed.attend(query), query @ by_rows(TABLE, 8).T, rtol=1e-5)


def test_it_has_no_input_and_is_counted_audited_and_taken_apart():
    model = quantized(Static(AbsMax()), RTN(), granularity="channel")
    assert [(row["layer"], row["tensor"]) for row in audit(model)] == [
        ("embed", "weight"),
        ("out", "weight"),
        ("out", "input"),
    ]
    assert float_tensors(model) == {"out.bias": 3}
    rules = assign(list(slots(MODEL)), [Rule(".*", act=Assignment(QuantSpec(Integer(8)), Static(AbsMax())))])
    assert statistics_structure(rules, LAYERS) == jax.tree.structure(calibrate(MODEL, rules, [TOKENS]))
    table, kernel, scale = 20 * 8 * 4 - (80 + 20 * 4), 8 * 3 * 4 - (12 + 3 * 4), 4
    assert float_bytes(MODEL) - quantized_bytes(model, LAYERS) == table + kernel - scale
    (rows,) = anatomy([MODEL], [model], LAYERS, TOKENS, trained=False)
    assert [(row["layer"], row["tensor"]) for row in rows] == [
        ("embed", "weight"),
        ("out", "weight"),
        ("out", "input"),
        ("out", "output"),
    ]
    error = TABLE - by_rows(TABLE, 8)
    assert rows[0]["sqnr_db"] == pytest.approx(10 * np.log10((TABLE**2).sum() / (error**2).sum()), rel=1e-4)
