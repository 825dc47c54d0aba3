"""Numbers as a paper prints them: the digits say how exactly they are meant."""

from decimal import Decimal, InvalidOperation
from typing import NamedTuple


class Printed(NamedTuple):
    """A printed number: its value, and how many decimals it has (fewer than none for 1.2e6)."""

    value: Decimal
    decimals: int

    @property
    def half_unit(self) -> float:
        """Half a unit of the last printed digit: what rounding may have taken or added."""
        return 0.5 * 10.0**-self.decimals

    def __str__(self) -> str:
        return f"{self.value:.{max(self.decimals, 0)}f}"


def as_printed(text: str, decimals: int | None = None) -> Printed:
    """The number that `text` prints; `decimals` where zeros at its end got lost (1.224 of a column of 1.2240).

    Raises ValueError for what is no number.
    """
    try:
        value = Decimal(text.strip().replace("\N{MINUS SIGN}", "-"))
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is no number; write it as it is printed, such as '91.50'.") from error
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{text!r} is no number; leave out cells that a paper leaves open.")
    return Printed(value, -exponent if decimals is None else decimals)


def change(value: Printed, other: Printed) -> Printed:
    """value - other, exactly; as many decimals as the finer of the two."""
    return Printed(value.value - other.value, max(value.decimals, other.decimals))
