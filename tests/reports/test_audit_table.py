"""The audit in words: a line for every weight and input, and one for all that stays float."""

from qresearch.reports.audit_table import COLUMNS, audit_table

QUANTIZED = {
    "bits": 4,
    "grid": "int4 narrow",
    "granularity": "block 32",
    "scale": "e8m0 floor",
    "rounding": "half_even",
    "quantizer": "Static",
    "observer": "MSE",
    "estimator": "EWGS",
}
ROWS = [
    {"layer": "conv1", "tensor": "weight", **QUANTIZED},
    {"layer": "conv1", "tensor": "input", **QUANTIZED, "grid": "uint4 zero point integer"},
    {"layer": "linear", "tensor": "weight", "bits": None},
]


def test_one_line_for_each_side():
    title, head, *lines, floats = audit_table(
        ROWS, {"conv1.bias": 1000, "linear.bias": 10, "linear.kernel": 640}
    ).splitlines()
    assert title.startswith("audit")
    assert tuple(head.split()) == COLUMNS
    same = ["block", "32", "e8m0", "floor", "half_even", "Static", "MSE", "EWGS"]
    assert [line.split() for line in lines] == [
        ["conv1", "weight", "int4", "narrow", *same],
        ["conv1", "input", "uint4", "zero", "point", "integer", *same],
        ["linear", "weight", "float"],
    ]
    assert floats == "stays float: 1,650 numbers in 3 tensors (bias 1,010, kernel 640)"


def test_nothing_is_cut_and_no_line_ends_in_blanks():
    path = "encoder.layers.11.attention.output.projection"
    lines = audit_table([{"layer": path, "tensor": "weight", **QUANTIZED}], {}).splitlines()
    assert any(path in line for line in lines)
    assert all(line == line.rstrip() for line in lines)
