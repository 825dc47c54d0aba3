"""The tensors of a LiteRT file with what their codes stand for, and how one form becomes another.

Codes of fewer than 256 values are laid against the upper end of int8, where saturation clips them. What clips them
below is a fused ReLU where zero is their lowest code, and else one more QUANTIZE, to the same scale and a zero point
that lays them against the lower end. Its factor is 1, so it changes nothing else; and XNNPACK runs it, which leaves
MAXIMUM and RELU on int8 to the other kernels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from qresearch.export.litert_file import LiteRTFile, Scaling
from qresearch.graph.forms import Form

LOW, HIGH = -128, 127  # of int8


class Value(NamedTuple):
    """A tensor of the file, of `shape` without the batch; its codes are those of the form, plus `offset`. It is float
    where the form is None.
    """

    index: int
    shape: tuple[int, ...]
    form: Form | None = None
    offset: int = 0

    @property
    def is_positive(self) -> bool:
        """Whether no code lies below that of zero."""
        return self.form is not None and starts_at_zero(self.form)


def starts_at_zero(form: Form) -> bool:
    return form.low == form.zero_point


class LiteRTValues:
    """The values of a file, made as they are needed."""

    def __init__(self, file: LiteRTFile):
        self.file = file
        self.converted: dict[tuple[Value, Form | None], Value] = {}

    def convert(self, value: Value, form: Form | None, name: str) -> Value:
        """A value in a form; `name` is that of a tensor that this makes."""
        if value.form == form:
            return value
        if (value, form) not in self.converted:

            def make(index: int) -> int:
                return self.file.operator("DEQUANTIZE" if form is None else "QUANTIZE", [value.index], index)

            self.converted[value, form] = self.place(name, value.shape, form, make, clipped=value.is_positive)
        return self.converted[value, form]

    def place(
        self, name: str, shape: Sequence[int], form: Form | None, make: Callable[[int], int], *, clipped: bool
    ) -> Value:
        """The value that `make` makes, which is given the index of a new tensor, clipped to the form; `clipped` says
        that nothing in it lies below zero.
        """
        if form is None:
            value = self.new(name, shape)
            make(value.index)
            return value
        value = self.new(name, shape, form, HIGH - form.high)
        make(value.index)
        if form.low + value.offset == LOW or (clipped and starts_at_zero(form)):
            return value
        raised = self.new(f"{name} clipped", shape, form, LOW - form.low)
        self.file.operator("QUANTIZE", [value.index], raised.index)
        return raised

    def new(self, name: str, shape: Sequence[int], form: Form | None = None, offset: int = 0) -> Value:
        """A tensor without the operator that makes it.

        Raises ValueError for a form that int8 does not hold.
        """
        if form is None:
            return Value(self.file.tensor(name, "FLOAT32", shape), tuple(shape))
        zero = form.zero_point + offset
        if form.high - form.low > HIGH - LOW or not LOW <= zero <= HIGH:
            raise ValueError(
                f"{name!r} holds integers from {form.low} to {form.high} with the zero point {form.zero_point}; LiteRT "
                "holds at most 8 bits, with a zero point among their codes. Use the forms of narrow_forms."
            )
        scaling = Scaling(np.array(form.scale, np.float32), zero)
        return Value(self.file.tensor(name, "INT8", shape, scaling), tuple(shape), form, offset)

    def like(self, value: Value, name: str, shape: Sequence[int]) -> Value:
        """A new tensor with the scale and the zero point of another."""
        return self.new(name, shape, value.form, value.offset)
