"""docs/conventions.md is what docs/conventions.py writes, and names the keys that there are."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from qresearch.config.schema import CONFIG_FOLDER, TensorConfig
from qresearch.core.rounding import Rounding
from qresearch.core.spec import ScaleFormat, ScaleRule
from qresearch.grids.integer import Range, ZeroPoint

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "conventions.md").read_text()
NUMBER = re.compile(r"[-+]?\d+\.\d+")


def test_every_choice_is_on_the_page():
    for choices in (Range, ZeroPoint, Rounding, ScaleFormat, ScaleRule):
        for choice in choices:
            assert f"`{choice}`" in PAGE or f"={choice}`" in PAGE, choice
    for field in dataclasses.fields(TensorConfig):
        if field.name not in ("bits", "quantizer"):  # not conventions
            assert re.search(rf"`(format@)?\w*\.?{field.name}", PAGE) or field.name == "grid", field.name


def test_what_it_tells_to_type_exists():
    for group, name in re.findall(r"`?(format|rules|observer)(?:@\w+)?=(\w+)", PAGE):
        assert (CONFIG_FOLDER / group / f"{name}.yaml").is_file(), (group, name)


@pytest.mark.slow
def test_the_page_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("conventions", DOCS / "conventions.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    again = script.page()
    assert NUMBER.sub("#", again) == NUMBER.sub("#", PAGE)
    for ours, shown in zip(NUMBER.findall(again), NUMBER.findall(PAGE), strict=True):
        assert float(ours) == pytest.approx(float(shown), abs=0.02)
