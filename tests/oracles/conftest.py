"""Golden cases as arguments of tests, and what several of the oracles need.

    @pytest.mark.golden("onnx", "int8_*", "uint8_*")
    def test_codes(case): ...

runs once for each case of tests/golden/onnx.npz whose name fits one of the patterns; `case.x`, `case.scale`, ... are
its arrays, `case.bits`, `case.axis`, ... what its file says about it.
"""

import fnmatch
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fake_quantize import MARGIN
from qresearch.core.qtensor import dequantize, quantize
from qresearch.grids.minifloat import MiniFloat, Special

GOLDEN = Path(__file__).parents[1] / "golden"

MINIFLOATS = {
    "e4m3fn": (4, 3, Special.fn),
    "e5m2": (5, 2, Special.ieee),
    "e4m3fnuz": (4, 3, Special.fnuz),
    "e5m2fnuz": (5, 2, Special.fnuz),
    "e3m2": (3, 2, Special.finite),
    "e2m3": (2, 3, Special.finite),
    "e2m1": (2, 1, Special.finite),
}


def pytest_configure(config):
    config.addinivalue_line("markers", "golden(file, *patterns): run once for each golden case that fits a pattern")


def pytest_generate_tests(metafunc):
    for mark in metafunc.definition.iter_markers("golden"):
        file, *patterns = mark.args
        found = {name: case for name, case in load(file).items() if any(fnmatch.fnmatch(name, p) for p in patterns)}
        unused = [pattern for pattern in patterns if not fnmatch.filter(found, pattern)]
        assert found and not unused, f"{file}.npz has no case {unused or patterns}"
        metafunc.parametrize("case", found.values(), ids=found)


@functools.cache
def load(file: str) -> dict[str, SimpleNamespace]:
    """The cases of a golden file by name."""
    with np.load(GOLDEN / f"{file}.npz") as archive:
        about = json.loads(str(archive["about"]))["cases"]
        return {
            case["name"]: SimpleNamespace(
                **case | {key: archive[f"{case['name']}/{key}"] for key in case["arrays"]},
            )
            for case in about
        }


@pytest.fixture(scope="session")
def golden():
    """`golden(file)`: the cases of a golden file by name."""
    return load


@pytest.fixture(scope="session")
def minifloat():
    """`minifloat("e4m3fn", saturate=...)`: the grid of a format, by its name in the golden files."""
    return lambda name, saturate=True: MiniFloat(*MINIFLOATS[name], saturate)


@pytest.fixture(scope="session")
def quantized():
    """`quantized(x, scale, zero_point, spec)`: codes and values, as numpy arrays."""
    return lambda *operands: _to_numpy(_quantized(*_to_jax(operands)))


@pytest.fixture(scope="session")
def resolved():
    """`resolved(observer, x, contract, spec)`: scale and zero point, as numpy arrays."""
    return lambda observer, x, contract, spec: _to_numpy(_resolved(observer, jnp.asarray(x), contract, spec))


# Compiled as a whole, once for a shape and a family of grids: one by one, the operations of all cases take a minute.
@jax.jit
def _quantized(x, scale, zero_point, spec):
    ours = quantize(x, scale, zero_point, spec)
    return ours.codes, dequantize(ours)


@functools.partial(jax.jit, static_argnums=2)
def _resolved(observer, x, contract, spec):
    return observer.resolve(observer.measure(x, contract=contract, spec=spec), spec)


def _to_jax(operands):
    return [jnp.asarray(operand) if isinstance(operand, np.ndarray) else operand for operand in operands]


def _to_numpy(results):
    return tuple(None if result is None else np.asarray(result) for result in results)


@pytest.fixture(scope="session")
def differing():
    """How many codes differ, after a check that they do so by one and next to a tie alone."""
    return count_differing


@pytest.fixture(scope="session")
def odd_ties():
    """`odd_ties(v, z)`: where v = x / scale is an exact tie and z is odd. There alone z + round(v), which qresearch has
    for a whole zero point, and round(v + z) are two codes.
    """
    return lambda v, z: (v % 1 == 0.5) & (z % 2 == 1)


@pytest.fixture(scope="session")
def regions():
    """Where a value lies for a gradient: (inside, band, far)."""
    return find_regions


def count_differing(ours, theirs, v) -> int:
    """How many codes differ; fails if one does whose v, x / scale or what is rounded there, is more than some
    float32 roundings away from a tie, or by more than one.
    """
    ours, theirs = (np.asarray(codes).astype(np.int64) for codes in (ours, theirs))
    differ = ours != theirs
    distance = np.abs(v - np.floor(v) - 0.5)
    far = distance > 2.0**-22 * np.abs(v)
    assert not np.any(differ & far), f"{v[differ & far]}: {ours[differ & far]}, theirs {theirs[differ & far]}"
    assert np.all(np.abs(ours - theirs) <= 1)
    return int(differ.sum())


def find_regions(v, low, high, *, code=None):
    """Masks by v = x / scale + zero_point (float64): within the ends of the grid; up to half a step beyond, where a
    library that masks the rounded `code` (half to even, unless given) passes the gradient and qresearch does not;
    farther outside.
    """
    margin = MARGIN * (high - low)
    inside = (v >= low - margin) & (v <= high + margin)
    code = np.rint(v) if code is None else code
    band = ~inside & (code >= low) & (code <= high)
    return inside, band, ~(inside | band)
