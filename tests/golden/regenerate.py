"""Write the golden files: small numbers computed by other people's quantization libraries.

Run as `python regenerate.py`, from any folder; the files land beside this script. The tests of the project read the
files and need none of the libraries. The environment (Python 3.11 on x86-64 Linux, CPU builds):

    python3.11 -m venv golden
    golden/bin/pip install torch==2.13.0 brevitas==0.13.4 qwix==0.1.8 jax==0.10.2 flax==0.12.8 \
        onnx==1.23.2 ml_dtypes==0.6.0 numpy==2.4.6 scipy==1.17.1
    golden/bin/pip install --no-deps torchao==0.18.0

Every .npz holds a JSON string "about" (the versions that were used, general notes, and the list of cases with their
parameters) and the arrays of each case under "<case>/<name>". Inputs come from numpy's default_rng with fixed seeds
and the archives carry no dates, so that a second run on the same machine gives the same bytes.
"""

import importlib.metadata
import io
import json
import pathlib
import platform
import warnings
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import onnx
import torch
from brevitas.core.function_wrapper import Identity
from brevitas.core.function_wrapper.ops_ste import CeilSte
from brevitas.core.quant import BinaryQuant, IntQuant, TernaryQuant
from brevitas.core.scaling import ConstScaling
from brevitas.nn import QuantIdentity, QuantLinear
from brevitas.quant import (
    Int8ActPerTensorFloatMinMaxInit,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int8WeightPerTensorFloat,
    ShiftedUint8WeightPerChannelFloat,
    ShiftedUint8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
    Uint8ActPerTensorFloatMaxInit,
)
from brevitas.quant.float import Fp8e4m3WeightPerTensorFloat, Fp8e5m2WeightPerTensorFloat
from brevitas.quant.float_quant_fnuz import (
    Fp8e4m3FNUZWeight,
    Fp8e4m3FNUZWeightPerTensorFloat,
    Fp8e5m2FNUZWeight,
    Fp8e5m2FNUZWeightPerTensorFloat,
)
from brevitas.quant.float_quant_ocp import FpOCPWeight, FpOCPWeightPerChannelFloat, FpOCPWeightPerTensorFloat
from brevitas.quant.mx_quant_ocp import MXFloat8e4m3Weight, MXInt8Weight
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from qwix._src.core import qarray
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.mx_tensor import (
    DTYPE_FP6_E2M3,
    DTYPE_FP6_E3M2,
    get_fp_scale,
    to_dtype,
    to_mx,
    unpack_uint4,
)
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

FOLDER = pathlib.Path(__file__).resolve().parent
SHAPE = (6, 24)  # of most inputs

# The element types that ml_dtypes has, by the short names used in the cases.
FLOATS = {
    "e4m3fn": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


class Golden:
    """Collects the cases of one file and writes it."""

    def __init__(self, packages: list[str], notes: list[str]):
        self.versions = {"python": platform.python_version(), "numpy": np.__version__}
        self.versions |= {name: importlib.metadata.version(name) for name in packages}
        self.notes, self.cases, self.arrays = notes, [], {}

    def add(self, name: str, about: dict, **arrays):
        """One case: its parameters in words, and its arrays by name (None is left out)."""
        assert name not in [case["name"] for case in self.cases], name
        arrays = {key: to_numpy(value) for key, value in arrays.items() if value is not None}
        self.cases.append({"name": name} | about | {"arrays": sorted(arrays)})
        self.arrays |= {f"{name}/{key}": value for key, value in arrays.items()}

    def write(self, file: str):
        about = json.dumps({"versions": self.versions, "notes": self.notes, "cases": self.cases})
        with zipfile.ZipFile(FOLDER / file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, value in ({"about": np.array(about)} | self.arrays).items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(value, order="C"))
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)
        print(f"{file}: {len(self.cases)} cases, {(FOLDER / file).stat().st_size} bytes")


def to_numpy(value) -> np.ndarray:
    """A numpy array; the small integers and floats of ml_dtypes become int8 or uint8, or raise."""
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if value.dtype in (np.dtype(ml_dtypes.int2), np.dtype(ml_dtypes.int4)):
        return value.astype(np.int8)
    if value.dtype in (np.dtype(ml_dtypes.uint2), np.dtype(ml_dtypes.uint4)):
        return value.astype(np.uint8)
    assert value.dtype.kind in "biuf", value.dtype
    return value


def bits(value: np.ndarray) -> np.ndarray:
    """The bit patterns of a one-byte float type (types below 8 bits in the low bits)."""
    return value.view(np.uint8)


def grid_inputs(rng, shape, scale, low, high, ties: bool) -> np.ndarray:
    """Inputs for a grid of step `scale` whose in-range values are scale * low .. scale * high.

    With ties all are multiples of scale / 4 (exact when the scale is a power of two): half the random ones are ties or
    grid points. Without ties, all stay 0.05 steps away from a tie. The first columns hold the bounds, their neighbours
    at both sides, and two values far outside.
    """
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    part = rng.choice([-0.25, 0.0, 0.25, 0.5], shape) if ties else rng.uniform(-0.45, 0.45, shape)
    steps = rng.integers(low - 3, high + 4) + part
    near = [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75] if ties else [-1.2, -0.7, -0.4, 0.0, 0.3, 0.4, 0.6]
    for column, offset in enumerate(near):
        steps[:, column] = low[:, column] + offset
        steps[:, column + 7] = high[:, column + 7] + offset
    steps[:, 14], steps[:, 15] = 20 * low[:, 14] - 50, 20 * high[:, 15] + 50
    return (steps * scale).astype(np.float32)


def cotangent(rng, shape) -> np.ndarray:
    """Multiples of 1/2, so that most sums of gradients are exact in float32."""
    return (rng.choice([-3, -2, -1, 1, 2, 3, 4], shape) / 2).astype(np.float32)


def short(x: np.ndarray) -> np.ndarray:
    """Values with 8 significant bits: the files become smaller."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


def reciprocal_inputs(scale: np.float32, low: int, high: int) -> np.ndarray:
    """Values that round differently as x / scale and as x * (1 / scale), both in float32."""
    middle = ((np.arange(low, high) + 0.5) * scale).astype(np.float32)
    x = np.concatenate([np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))])
    return x[np.rint(x / scale) != np.rint(x * (np.float32(1) / scale))]


RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int8narrow": (-127, 127),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
}


def range_about(low: int, high: int) -> dict:
    width = int(np.ceil(np.log2(high - low + 1)))
    return {"bits": width, "quant_min": low, "quant_max": high, "signed": low < 0, "narrow": high - low == 2**width - 2}


def torch_fake_quantize():
    """torch.fake_quantize_per_tensor_affine and torch.fake_quantize_per_channel_affine."""
    golden = Golden(
        ["torch"],
        [
            "y = (clamp(zero_point + round_half_even(x * (1 / scale)), quant_min, quant_max) - zero_point) * scale",
            "dx = g where the rounded code before the clamp lies in quant_min..quant_max, else 0",
            "a float zero_point (per channel only) is added before the rounding and is never rounded itself",
        ],
    )
    rng = np.random.default_rng(1)
    for kind, (low, high) in RANGES.items():
        middle = min(high, max(low, round(0.4 * (high + low)) + 1))
        for zero in (0, middle) if kind == "int8" else (middle,):
            for ties in (True, False) if kind in ("int8", "uint4") else (True,):
                scale = 2.0**-4 if ties else float(np.float32(rng.uniform(0.02, 0.2)))
                x = grid_inputs(rng, SHAPE, np.float32(scale), low - zero, high - zero, ties)
                g = cotangent(rng, x.shape)
                tx = torch.tensor(x, requires_grad=True)
                y = torch.fake_quantize_per_tensor_affine(tx, scale, zero, low, high)
                y.backward(torch.tensor(g))
                about = {"function": "torch.fake_quantize_per_tensor_affine", "axis": None, "ties": ties}
                about |= range_about(low, high) | {"scale": scale, "zero_point": zero}
                if ties:
                    about["tie_rule"] = "x / scale is an exact multiple of 1/4; a tie is where it is n + 1/2"
                name = f"tensor_{kind}_zero{zero}_{'ties' if ties else 'random'}"
                zero_point = np.int32(zero)
                golden.add(name, about, x=x, scale=np.float32(scale), zero_point=zero_point, g=g, y=y, dx=tx.grad)

    for scale in (np.float32(0.1), np.float32(0.0123)):
        x = reciprocal_inputs(scale, -128, 127)
        y = torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(scale), 0, -128, 127)
        about = {"function": "torch.fake_quantize_per_tensor_affine", "axis": None, "ties": False}
        about |= range_about(-128, 127) | {"note": "every x rounds otherwise under x / scale: shows the reciprocal"}
        golden.add(f"tensor_int8_reciprocal_{scale:.4f}", about, x=x, scale=scale, zero_point=np.int32(0), y=y)

    for axis in (0, 1):
        for kind in ("int8", "uint4", "int2"):
            for ties in (True, False) if kind == "int8" else (True,):
                low, high = RANGES[kind]
                count, shape = SHAPE[axis], ((6, 1), (1, 24))[axis]
                scale = 2.0 ** rng.integers(-6, 2, count) if ties else rng.uniform(0.02, 0.2, count)
                scale, zero = scale.astype(np.float32), rng.integers(low, high + 1, count).astype(np.int32)
                z = zero.reshape(shape)
                x = grid_inputs(rng, SHAPE, scale.reshape(shape), low - z, high - z, ties)
                g = cotangent(rng, x.shape)
                tx = torch.tensor(x, requires_grad=True)
                y = torch.fake_quantize_per_channel_affine(tx, torch.tensor(scale), torch.tensor(zero), axis, low, high)
                y.backward(torch.tensor(g))
                about = {"function": "torch.fake_quantize_per_channel_affine", "axis": axis, "ties": ties}
                about |= range_about(low, high)
                name = f"channel{axis}_{kind}_{'ties' if ties else 'random'}"
                golden.add(name, about, x=x, scale=scale, zero_point=zero, g=g, y=y, dx=tx.grad)

    scale = np.array([0.0625, 0.5, 1.0, 0.25, 2.0, 0.125], np.float32)
    zero = np.array([0.5, 1.25, -3.75, 0.0, 2.0, 9.0], np.float32)
    x = grid_inputs(rng, SHAPE, scale[:, None], -8 - np.round(zero[:, None]), 7 - np.round(zero[:, None]), True)
    g = cotangent(rng, x.shape)
    tx = torch.tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_channel_affine(tx, torch.tensor(scale), torch.tensor(zero), 0, -8, 7)
    y.backward(torch.tensor(g))
    about = {"function": "torch.fake_quantize_per_channel_affine", "axis": 0, "ties": True} | range_about(-8, 7)
    about |= {"zero_point_kind": "float32: added before rounding, not rounded, not clamped to the range"}
    golden.add("channel0_int4_float_zero_point", about, x=x, scale=scale, zero_point=zero, g=g, y=y, dx=tx.grad)
    golden.write("torch_fake_quantize.npz")


def torch_learnable():
    """torch._fake_quantize_learnable_per_tensor_affine and ..._per_channel_affine, with their three gradients."""
    golden = Golden(
        ["torch"],
        [
            "forward: as torch.fake_quantize_*, with zero_point := clamp(round_half_even(zero_point))",
            "backward: code = round_half_even(zero_point + x * (1 / scale)), the zero point added BEFORE rounding",
            "dx = g inside (quant_min <= code <= quant_max), else 0",
            "dscale = sum g * grad_factor * (inside: (xfq - x) / scale; outside: quant_min or quant_max - zero_point)",
            "dzero_point = sum g * grad_factor * (inside: 0; outside: -scale)",
            "per tensor the backward pass takes trunc(clamp(zero_point + 0.5)) for the zero point, so that a negative"
            " one is off by one against the forward pass; per channel both round half to even",
        ],
    )
    rng = np.random.default_rng(2)

    def run(name, x, scale, zero, axis, low, high, grad_factor, about):
        g = cotangent(rng, x.shape)
        tx, ts, tz = (torch.tensor(a, requires_grad=True) for a in (x, scale, zero))
        if axis is None:
            y = torch._fake_quantize_learnable_per_tensor_affine(tx, ts, tz, low, high, grad_factor)
            backward = np.trunc(np.clip(zero + np.float32(0.5), low, high))
        else:
            y = torch._fake_quantize_learnable_per_channel_affine(tx, ts, tz, axis, low, high, grad_factor)
            backward = np.clip(np.rint(zero), low, high)
        y.backward(torch.tensor(g))
        forward = np.clip(np.rint(zero), low, high)
        kind = "tensor" if axis is None else "channel"
        about = {"function": f"torch._fake_quantize_learnable_per_{kind}_affine", "axis": axis} | about
        about |= range_about(low, high) | {"grad_factor": grad_factor}
        about |= {"zero_point_forward": forward.tolist(), "zero_point_backward": backward.tolist()}
        about |= {"zero_points_agree": bool((forward == backward).all())}
        grads = {"dx": tx.grad, "dscale": ts.grad, "dzero_point": tz.grad}
        golden.add(name, about, x=x, scale=scale, zero_point=zero, g=g, y=y, **grads)

    points = {
        "int8": [3.3, -7.0],
        "uint8": [99.6],
        "int4": [0.0, 1.3, 0.5, -2.0, 11.0],
        "uint4": [7.5],
        "int2": [-1.0],
    }
    for kind, zeros in points.items():
        low, high = RANGES[kind]
        for zero in zeros:
            for ties in (True, False) if zero in (3.3, -2.0) else (True,):
                scale = np.float32(2.0**-3 if ties else rng.uniform(0.02, 0.2))
                rounded = np.clip(np.rint(zero), low, high).astype(int)
                x = grid_inputs(rng, SHAPE, scale, low - rounded, high - rounded, ties)
                name = f"tensor_{kind}_zero{zero:g}_{'ties' if ties else 'random'}"
                z = np.array([zero], np.float32)
                run(name, x, np.array([scale]), z, None, low, high, 1.0, {"ties": ties})
    x = grid_inputs(rng, SHAPE, np.float32(0.125), -8, 7, True)
    eighth, three = np.array([0.125], np.float32), np.array([3.0], np.float32)
    run("tensor_int4_factor", x, eighth, three, None, -8, 7, 0.25, {"ties": True})

    for axis in (0, 1):
        for kind in ("int8", "uint4", "int2"):
            for ties in (True, False) if kind == "int8" else (True,):
                low, high = RANGES[kind]
                count, shape = SHAPE[axis], ((6, 1), (1, 24))[axis]
                scale = 2.0 ** rng.integers(-5, 2, count) if ties else rng.uniform(0.02, 0.2, count)
                scale, zero = scale.astype(np.float32), rng.uniform(low, high, count).astype(np.float32)
                zero[: count // 2] = np.rint(zero[: count // 2])
                rounded = np.clip(np.rint(zero), low, high).astype(int).reshape(shape)
                x = grid_inputs(rng, SHAPE, scale.reshape(shape), low - rounded, high - rounded, ties)
                name = f"channel{axis}_{kind}_{'ties' if ties else 'random'}"
                run(name, x, scale, zero, axis, low, high, 1.0, {"ties": ties})
    golden.write("torch_learnable.npz")


def weight_quant(quantizer, x: np.ndarray, **options):
    """What a brevitas weight quantizer makes of x: the quant tensor of a linear layer in eval mode."""
    options = {f"weight_{key}": value for key, value in options.items()}
    layer = QuantLinear(x.shape[1], x.shape[0], bias=False, weight_quant=quantizer, **options)
    layer.weight.data = torch.tensor(x)
    return layer.eval().quant_weight()


def brevitas_int():
    """brevitas: integer weight and activation quantizers, and its bare IntQuant with all gradients."""
    golden = Golden(
        ["brevitas", "torch"],
        [
            "codes = clamp(round_half_even(x / scale + zero_point)); y = (codes - zero_point) * scale; a true division",
            "weights: scale = max(absmax, 1e-10) / t, t = 2^(bits-1) - 1 if narrow, else 2^(bits-1)",
            "fixed point: scale = 2^ceil(log2(absmax)) / 2^ceil(log2(2^(bits-1)))",
            "shifted: scale = max(max - min(min, 0), 1e-10) / 255, zero_point = clamp(round(-min(min, 0) / scale))",
            "codes are the library's .int(), for binary the sign; a zero_point of 0 is not stored",
        ],
    )
    rng = np.random.default_rng(3)

    def weight(name, quantizer, x, axis, about, **options):
        q = weight_quant(quantizer, x, **options)
        about = {"quantizer": quantizer.__name__, "axis": axis, "options": options} | about
        about |= {"bits": int(q.bit_width), "signed": bool(q.signed)}
        zero_point = q.zero_point if (q.zero_point != 0).any() else None
        golden.add(name, about, x=x, scale=q.scale, zero_point=zero_point, codes=q.int(), y=q.value)

    x = short(rng.standard_normal(SHAPE))
    channels = x * np.array([[1], [0.1], [7], [0], [1e-3], [50]], np.float32)
    for width in (8, 4, 3, 2):
        about = {"narrow": True, "ties": False}
        weight(f"weight_tensor_{width}", Int8WeightPerTensorFloat, x, None, about, bit_width=width)
        weight(f"weight_channel_{width}", Int8WeightPerChannelFloat, channels, 0, about, bit_width=width)
        top = 2 ** (width - 1) - 1
        tied = (rng.integers(-4 * top, 4 * top + 1, SHAPE) / 64).astype(np.float32)
        tied[0, 0] = top / 16
        about = {"narrow": True, "ties": True, "note": "scale is exactly 1/16, x are multiples of 1/64"}
        weight(f"weight_tensor_{width}_ties", Int8WeightPerTensorFloat, tied, None, about, bit_width=width)
    about, options = {"narrow": False, "ties": False}, {"bit_width": 4, "narrow_range": False}
    weight("weight_tensor_4_wide", Int8WeightPerTensorFloat, x, None, about, **options)
    weight("weight_fixed_point_8", Int8WeightPerTensorFixedPoint, x, None, {"narrow": True, "ties": False})
    about = {"narrow": False, "ties": False}
    weight("weight_shifted_uint8", ShiftedUint8WeightPerTensorFloat, x + np.float32(0.7), None, about)
    weight("weight_shifted_positive", ShiftedUint8WeightPerTensorFloat, np.abs(x) + np.float32(1), None, about)
    shifted = channels + np.array([[0], [1], [-3], [0], [0], [20]], np.float32)
    weight("weight_shifted_channel_uint8", ShiftedUint8WeightPerChannelFloat, shifted, 0, about)
    edge = x / 5
    edge[0, :10] = [0, -0.0, 0.1, -0.1, 0.05, -0.05, 0.15, -0.15, 0.049, -0.051]
    about = {"narrow": True, "note": "scale 0.1 is a constant of the class; sign(0) is +1, also for -0"}
    weight("weight_binary", SignedBinaryWeightPerTensorConst, edge, None, about)
    about = {"narrow": True, "note": "scale 0.1 is a constant; round half even, so +-0.5 * scale gives 0"}
    weight("weight_ternary", SignedTernaryWeightPerTensorConst, edge, None, about)

    def bare(name, quantizer, about):
        g = cotangent(rng, edge.shape)
        tx = torch.tensor(edge, requires_grad=True)
        y, scale, _, _ = quantizer(tx)
        y.backward(torch.tensor(g))
        codes = torch.sign(y).to(torch.int8)
        golden.add(name, about, x=edge, scale=scale, codes=codes, y=y, g=g, dx=tx.grad)

    about = {
        "quantizer": "brevitas.core.quant.BinaryQuant",
        "bits": 1,
        "axis": None,
        "note": "dx = g * scale everywhere",
    }
    bare("bare_binary", BinaryQuant(ConstScaling(0.1)), about)
    about = {"quantizer": "brevitas.core.quant.TernaryQuant", "bits": 2, "axis": None, "threshold": 0.5}
    about |= {"note": "codes = sign(x) where |x| > threshold * scale, else 0; dx = g * scale where codes != 0"}
    bare("bare_ternary", TernaryQuant(ConstScaling(0.1), 0.5), about)

    def act(name, quantizer, x, about, **options):
        layer = QuantIdentity(act_quant=quantizer, return_quant_tensor=True, **options).eval()
        g = cotangent(rng, x.shape)
        tx = torch.tensor(x, requires_grad=True)
        q = layer(tx)
        q.value.backward(torch.tensor(g))
        about = {"quantizer": quantizer.__name__, "axis": None, "options": options, "narrow": False} | about
        about |= {"bits": int(q.bit_width), "signed": bool(q.signed)}
        golden.add(name, about, x=x, scale=q.scale, codes=q.int(), y=q.value, g=g, dx=tx.grad)

    about = {"ties": True, "note": "max_val / 255 = 1/16; dx passes where the rounded code is in range"}
    tied = grid_inputs(rng, SHAPE, np.float32(0.0625), 0, 255, True)
    act("act_uint8", Uint8ActPerTensorFloatMaxInit, tied, about, max_val=255 / 16)
    about = {"ties": True, "note": "max(-min_val, max_val) / 8 = 1/4; dx passes where the rounded code is in range"}
    tied = grid_inputs(rng, SHAPE, np.float32(0.25), -8, 7, True)
    act("act_int4", Int8ActPerTensorFloatMinMaxInit, tied, about, min_val=-2.0, max_val=2.0, bit_width=4)

    for width, signed, narrow, zero in (
        (8, True, False, 3),
        (8, False, False, 120),
        (4, True, True, 0),
        (2, True, False, 0),
    ):
        for axis in (None, 0) if width == 4 or not signed else (None,):
            low = (-(2 ** (width - 1)) + narrow) if signed else 0
            high = 2 ** (width - 1) - 1 if signed else 2**width - 1
            scale = np.array(0.125) if axis is None else 2.0 ** rng.integers(-5, 2, (6, 1))
            scale = scale.astype(np.float32)
            zeros = np.full(scale.shape, zero, np.float32)
            x, g = grid_inputs(rng, SHAPE, scale, low - zero, high - zero, True), cotangent(rng, SHAPE)
            tx, ts, tz = (torch.tensor(a, requires_grad=True) for a in (x, scale, zeros))
            core = IntQuant(narrow_range=narrow, signed=signed, input_view_impl=Identity())
            y = core(ts, tz, torch.tensor(float(width)), tx)
            y.backward(torch.tensor(g))
            codes = core.to_int(ts, tz, torch.tensor(float(width)), tx).to(torch.int16)
            about = {"quantizer": "brevitas.core.quant.IntQuant", "axis": axis, "ties": True}
            about |= range_about(low, high) | {"bits": width, "narrow": narrow, "zero_point_kind": "float32 parameter"}
            about |= {"note": "autograd through round_ste and TensorClamp: gradients of scale and zero_point are exact"}
            grads = {"dx": tx.grad, "dscale": ts.grad, "dzero_point": tz.grad}
            name = f"bare_{'tensor' if axis is None else 'channel'}_{width}_{'signed' if signed else 'unsigned'}"
            golden.add(name, about, x=x, scale=scale, zero_point=zeros, codes=codes, y=y, g=g, **grads)
    golden.write("brevitas_int.npz")


def float_codes(element: str, x: np.ndarray, scale: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Bit patterns for brevitas values, which it does not give itself; None if they do not give y back exactly."""
    scale = np.asarray(scale, np.float32)
    codes = (y / scale).astype(FLOATS[element])
    same = np.array_equal(codes.astype(np.float32) * scale, y, equal_nan=True)
    return bits(codes) if same else None


def float_edges(element: str) -> np.ndarray:
    """All finite values of a type, the middles between neighbours (ties) and values beyond the largest."""
    every = np.arange(2 ** {"e3m2": 6, "e2m3": 6, "e2m1": 4}.get(element, 8)).astype(np.uint8)
    values = every.view(FLOATS[element]).astype(np.float32)
    values = np.unique(values[np.isfinite(values)])
    top = values[-1] * np.array([1.01, 1.03125, 1.0625, 1.125, 1.25, 2.0], np.float32)
    edges = np.concatenate([values, (values[1:] + values[:-1]) / 2, top, -top])
    return np.pad(edges, (0, -len(edges) % 8)).reshape(8, -1).astype(np.float32)


def brevitas_float():
    """brevitas: minifloat weight quantizers, with the scale they find and with scale 1."""
    golden = Golden(
        ["brevitas", "torch", "ml_dtypes"],
        [
            "scale = max(absmax, 1e-10) / largest; y = clamp(round_to_format(x / scale), -largest, largest) * scale",
            "round_to_format: step 2^max(floor(log2(|v|)) - mantissa, 1 - bias - mantissa), round half even",
            "ocp: largest 448 (e4m3), 57344 (e5m2), 28 (e3m2), 7.5 (e2m3), 6 (e2m1)",
            "plain (no inf or nan codes): bias 2^(exponent-1) - 1, largest 480 (e4m3), 114688 (e5m2)",
            "fnuz: bias 2^(exponent-1), largest 240 (e4m3), 57344 (e5m2)",
            "codes: brevitas gives none; found here as the ml_dtypes cast of y / scale, kept only if they give y back;"
            " values compare equal but the sign of zero may be lost in fnuz",
        ],
    )
    rng = np.random.default_rng(4)

    def case(name, quantizer, element, x, axis, about, **options):
        q = weight_quant(quantizer, x, **options)
        y, scale = q.value.detach().numpy(), q.scale.detach().numpy()
        codes = float_codes(element, x, scale, y) if element else None
        about = {"quantizer": quantizer.__name__, "element": element, "axis": axis, "options": options} | about
        about |= {"exponent_bits": int(q.exponent_bit_width), "mantissa_bits": int(q.mantissa_bit_width)}
        about |= {"exponent_bias": int(q.exponent_bias), "saturating": bool(q.saturating)}
        golden.add(name, about, x=x, scale=scale, codes=codes, y=y)

    x = short(rng.standard_normal(SHAPE) * np.exp2(rng.uniform(-12, 0, SHAPE)))
    x[0, :2] = [0.0, 3.7]
    channels = x * np.array([[1], [0.1], [7], [0], [1e-3], [50]], np.float32)
    sizes = {"e4m3fn": (8, 4, 3), "e5m2": (8, 5, 2), "e3m2": (6, 3, 2), "e2m3": (6, 2, 3), "e2m1": (4, 2, 1)}
    for element, (width, exponent, mantissa) in sizes.items():
        options = {"bit_width": width, "exponent_bit_width": exponent, "mantissa_bit_width": mantissa}
        case(f"ocp_tensor_{element}", FpOCPWeightPerTensorFloat, element, x, None, {"variant": "ocp"}, **options)
        about = {"variant": "ocp", "note": "scale 1: all values of the format, the ties between them, and beyond"}
        case(f"ocp_cast_{element}", FpOCPWeight, element, float_edges(element), None, about, **options)
    for element in ("e4m3fn", "e2m1"):
        width, exponent, mantissa = sizes[element]
        options = {"bit_width": width, "exponent_bit_width": exponent, "mantissa_bit_width": mantissa}
        case(f"ocp_channel_{element}", FpOCPWeightPerChannelFloat, element, channels, 0, {"variant": "ocp"}, **options)
    for element in ("e4m3fn", "e5m2"):
        width, exponent, mantissa = sizes[element]
        options = {"bit_width": width, "exponent_bit_width": exponent, "mantissa_bit_width": mantissa}
        about = {"variant": "ocp", "note": "not saturating: beyond the largest comes nan (e4m3) or inf (e5m2)"}
        edges = float_edges(element)
        case(f"ocp_cast_{element}_open", FpOCPWeight, element, edges, None, about, saturating=False, **options)
    case("plain_tensor_e4m3", Fp8e4m3WeightPerTensorFloat, None, x, None, {"variant": "plain"})
    case("plain_tensor_e5m2", Fp8e5m2WeightPerTensorFloat, None, x, None, {"variant": "plain"})
    case("fnuz_tensor_e4m3fnuz", Fp8e4m3FNUZWeightPerTensorFloat, "e4m3fnuz", x, None, {"variant": "fnuz"})
    case("fnuz_tensor_e5m2fnuz", Fp8e5m2FNUZWeightPerTensorFloat, "e5m2fnuz", x, None, {"variant": "fnuz"})
    about = {"variant": "fnuz", "note": "scale 1: all values of the format, the ties between them, and beyond"}
    case("fnuz_cast_e4m3fnuz", Fp8e4m3FNUZWeight, "e4m3fnuz", float_edges("e4m3fnuz"), None, about)
    case("fnuz_cast_e5m2fnuz", Fp8e5m2FNUZWeight, "e5m2fnuz", float_edges("e5m2fnuz"), None, about)
    golden.write("brevitas_float.npz")


def block_inputs(rng, rows: int, columns: int, block: int) -> np.ndarray:
    """Normal values whose blocks differ in size by powers of two; the first six blocks are special.

    Block 0 is all zero; the absmax of blocks 1 to 5 is 1, 1.5, 1.75, 1.9375 and 1.99 times a power of two.
    """
    count = rows * columns // block
    x = rng.standard_normal((count, block))
    x[:6] /= np.abs(x[:6]).max(1, keepdims=True)
    x[:6] *= np.array([[0], [1], [1.5], [1.75], [1.9375], [1.99]])
    return short(x * np.exp2(rng.integers(-6, 7, (count, 1)))).reshape(rows, columns)


def brevitas_mx():
    """brevitas: the OCP microscaling quantizers, blocks of 32 along the last axis."""
    golden = Golden(
        ["brevitas", "torch", "ml_dtypes"],
        [
            "scale = max(2^floor(log2(max(absmax, 1e-10))), 1e-10) / 2^floor(log2(largest)), log2 in float32",
            "largest: 448, 57344, 28, 7.5, 6 for e4m3, e5m2, e3m2, e2m3, e2m1 and 128 for int8",
            "so an int8 block has codes up to 255 before the clamp to -128..127: half an octave is cut off; the OCP"
            " format would use a step twice as large, 2^(floor(log2(absmax)) - 6)",
            "scale is not limited to the range of e8m0; the lower bound 1e-10 is applied before and after the rounding"
            " to a power of two: an all-zero block (floor) has scale 1e-10 / 2^floor(log2(largest))",
            "ceil cases: restrict_value_float_to_int_impl = CeilSte, for absmax only: the element part keeps floor",
            "scale has the shape (rows, blocks), codes: see brevitas_float.npz",
        ],
    )
    rng = np.random.default_rng(5)
    x = block_inputs(rng, 12, 64, 32)
    sizes = {"e4m3fn": (8, 4, 3), "e5m2": (8, 5, 2), "e3m2": (6, 3, 2), "e2m3": (6, 2, 3), "e2m1": (4, 2, 1)}
    for rule in ("floor", "ceil"):
        for element in (*sizes, "int8"):
            options, about = {}, {"element": element, "axis": 1, "block": 32, "exponent_rule": rule}
            if element != "int8":
                options = dict(
                    zip(("bit_width", "exponent_bit_width", "mantissa_bit_width"), sizes[element], strict=True)
                )
            about |= {"options": dict(options)}
            if rule == "ceil":
                options["restrict_value_float_to_int_impl"] = CeilSte
                if element not in ("e4m3fn", "e2m1", "int8"):
                    continue
            quantizer = MXInt8Weight if element == "int8" else MXFloat8e4m3Weight
            rows = x if rule == "floor" else x[:4]
            q = weight_quant(quantizer, rows, **options)
            y, scale = q.value.detach().numpy(), q.scale_.detach().numpy().reshape(len(rows), -1)
            about |= {"quantizer": quantizer.__name__, "scale": "power of two, float32"}
            if element == "int8":
                codes = q.int()
                about |= range_about(-128, 127)
            else:
                codes = float_codes(element, rows, np.repeat(scale, 32, 1), y)
            golden.add(f"{rule}_{element}", about, x=rows, scale=scale, codes=codes, y=y)
    golden.write("brevitas_mx.npz")


def qwix():
    """qwix: qarray.quantize and qarray.dequantize on the CPU, outside jit."""
    golden = Golden(
        ["qwix", "jax", "jaxlib", "flax", "ml_dtypes"],
        [
            "absmax: scale = absmax / bound, bound = quant_max + 0.5 for integers (127.5, 7.5, 3.5, 1.5), the largest"
            " finite value for floats (448, 57344, 6), 1 for nf4; scale below sqrt(float32 tiny) becomes 1",
            "minmax (int8 and int4 only): min and max are first widened to hold 0; scale = (max - min) / (2^bits - 1);"
            " zero_point = saturate(round_half_even(quant_min - min / scale)), stored in the integer type",
            "codes = saturate(round_half_even(x / scale + zero_point)); y = (codes - zero_point) * scale",
            "int8 and int4 are saturated by XLA's conversion, 'int2'..'int7' by clip; symmetric codes use the whole"
            " range: -absmax may round to quant_min, +absmax is cut to quant_max",
            "the source divides, but XLA on the CPU turns a division by a broadcast array into a product with its"
            " reciprocal: codes really are round(x * (1 / scale) + zero_point), and where there is more than one scale,"
            " scale really is absmax * float32(1 / bound)",
            "floats: clip to the largest finite value, then cast (half even); mxfp8 and mxfp4:"
            " scale = 2^ceil(log2(absmax / largest)); nvfp4: one level, scale = e4m3fn(absmax / 6)",
            "nf4: codes are the index of the nearest of the 16 table values (the first of two equally near)",
            "codes of float types are bit patterns in uint8; scale has as many axes as x",
        ],
    )
    rng = np.random.default_rng(6)
    x = short(rng.standard_normal((4, 32)) * np.exp2(rng.integers(-3, 4, (4, 1))))
    x[1, :16], x[2] = 0, 0

    def case(name, qtype, x, method="absmax", channel=(), tiled=None, **about):
        how = qarray.HowToQuantize(
            qtype=qtype, channelwise_axes=channel, tiled_axes=tiled or {}, calibration_method=method
        )
        q = qarray.quantize(jnp.asarray(x), how)
        codes = np.asarray(q.qvalue)
        if codes.dtype in [np.dtype(t) for t in FLOATS.values()]:
            codes = bits(codes)
        text = qtype if isinstance(qtype, str) else jnp.dtype(qtype).name
        about = {"qtype": text, "calibration": method, "channelwise_axes": list(channel)} | about
        about |= {"tiled_axes": {str(k): v for k, v in (tiled or {}).items()}, "stored_as": str(q.qvalue.dtype)}
        y = qarray.dequantize(q)
        golden.add(name, about, x=x, scale=q.scale, zero_point=q.zero_point, codes=codes, y=y)

    shapes = {"tensor": {}, "channel0": {"channel": (0,)}, "channel1": {"channel": (1,)}}
    shapes |= {"tiled16": {"channel": (0,), "tiled": {1: 16}}, "tiled_both": {"tiled": {0: 2, 1: 16}}}
    for text, qtype in {"int8": jnp.int8, "int4": jnp.int4, "int2": "int2", "int3": "int3"}.items():
        for shape, options in shapes.items():
            if shape in ("tensor", "tiled16") or text == "int4" or (text == "int8" and shape != "tiled_both"):
                case(f"absmax_{shape}_{text}", qtype, x, **options)
    for text, qtype in {"int8": jnp.int8, "int4": jnp.int4}.items():
        for shape in ("tensor", "tiled16"):
            case(f"minmax_{shape}_{text}", qtype, x, method="minmax", **shapes[shape])
        case(f"minmax_positive_{text}", qtype, np.abs(x) + np.float32(0.5), method="minmax")
        case(f"fixed_{text}", qtype, x, method="fixed,-1.25,3.5", note="asymmetric, fixed range, values beyond it")
        low, high = RANGES[text]
        scale = 2.0**-4 if text == "int8" else 2.0**-2
        tied = grid_inputs(rng, SHAPE, np.float32(scale), low, high, True)
        note = "fixed absmax chosen so that the scale is a power of two; x are multiples of scale / 4"
        case(f"fixed_ties_{text}", qtype, tied, method=f"fixed,{(high + 0.5) * scale}", ties=True, note=note)
    for text, qtype in {"e4m3fn": jnp.float8_e4m3fn, "e5m2": jnp.float8_e5m2, "e2m1": jnp.float4_e2m1fn}.items():
        case(f"absmax_tensor_{text}", qtype, x)
        if text != "e5m2":
            case(f"absmax_tiled16_{text}", qtype, x, channel=(0,), tiled={1: 16})
    case("absmax_tensor_nf4", "nf4", x)
    case("absmax_tiled16_nf4", "nf4", x, channel=(0,), tiled={1: 16})
    table = np.asarray(qarray.numerics.get_nf4_buckets())
    golden.add("table_nf4", {"note": "the 16 values of nf4"}, y=table)
    x = block_inputs(rng, 4, 64, 32)
    case("mxfp8", "mxfp8", x, channel=(0,), tiled={1: 32})
    case("mxfp4", "mxfp4", x, channel=(0,), tiled={1: 32})
    case("nvfp4", "nvfp4", x, channel=(0,), tiled={1: 16}, note="block scales above 448 are cut, no tensor scale")
    golden.write("qwix.npz")


ONNX_INTS = {
    "uint8": np.uint8,
    "int8": np.int8,
    "uint16": np.uint16,
    "int16": np.int16,
    "uint4": ml_dtypes.uint4,
    "int4": ml_dtypes.int4,
    "uint2": ml_dtypes.uint2,
    "int2": ml_dtypes.int2,
}


def onnx_run(op: str, inputs: list[np.ndarray], **attributes) -> list[np.ndarray]:
    """One node in a model of the newest operator set, run by the reference evaluator."""
    names = ["x", "scale", "zero_point"][: len(inputs)]
    results = ["y", "y_scale", "y_zero_point"] if op == "DynamicQuantizeLinear" else ["y"]
    node = helper.make_node(op, names, results, **attributes)
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    infos = [helper.make_tensor_value_info(n, t, a.shape) for n, t, a in zip(names, types, inputs, strict=True)]
    outs = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in results]
    graph = helper.make_graph([node], "one_node", infos, outs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx.defs.onnx_opset_version())])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))


def onnx_reference():
    """onnx: QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear of the reference evaluator."""
    golden = Golden(
        ["onnx", "ml_dtypes"],
        [
            f"operator set {onnx.defs.onnx_opset_version()}",
            "integers: codes = clip(int32(rint(x / scale)) + zero_point), y = (codes - zero_point) * scale",
            "floats: codes = cast(x / scale), with a clip to the finite range first if saturate is 1 (float8 only)",
            "the float6 and float4 types always saturate; there NaN becomes -0, and with a zero_point given, -0 becomes"
            " +0 because the zero_point is added",
            "inf, NaN and |x / scale| >= 2^31 with integer types go through an undefined int32 cast (on x86 +inf gives"
            " quant_min, and a negative zero_point then wraps to quant_max): no such value is in the integer cases",
            "codes: integers as numbers, floats as bit patterns; y: DequantizeLinear of the codes",
            "blocked: scale has the shape of x except along axis, where it is x.shape[axis] / block_size",
        ],
    )
    rng = np.random.default_rng(7)

    def case(name, kind, dtype, x, scale, zero, about, axis=1, block=0, saturate=None):
        attributes = {"axis": axis} | ({"block_size": block} if block else {})
        extra = {} if saturate is None else {"saturate": saturate}
        inputs = [x, scale] if zero is None else [x, scale, zero]
        if zero is None:
            extra["output_dtype"] = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        codes = onnx_run("QuantizeLinear", inputs, **attributes, **extra)[0]
        y = onnx_run("DequantizeLinear", [codes, *inputs[1:]], **attributes)[0]
        about = {"type": kind, "scale_shape": list(scale.shape), "has_zero_point": zero is not None} | about
        about |= {"axis": axis if scale.shape else None, "block_size": block, "saturate": saturate}
        if dtype in FLOATS.values():
            codes, zero = bits(codes), None
        golden.add(name, about, x=x, scale=scale, zero_point=zero, codes=codes, y=y)

    layouts = {  # the shape of x, the shape of the scale, the axis and the block size
        "tensor": ((4, 16), (), 1, 0),
        "axis0": ((4, 16), (4,), 0, 0),
        "axis1": ((4, 16), (16,), 1, 0),
        "block_axis1": ((4, 32), (4, 4), 1, 8),
        "block_axis0": ((8, 16), (2, 16), 0, 4),
    }

    for kind, dtype in ONNX_INTS.items():
        info = ml_dtypes.iinfo(dtype)
        low, high = int(info.min), int(info.max)
        for layout, (shape, scale_shape, axis, block) in layouts.items():
            if kind not in ("int8", "uint4") and layout not in ("tensor", "block_axis1"):
                continue
            for with_zero in (True, False) if layout == "tensor" and high < 256 and high > 2 else (True,):
                scale = (2.0 ** rng.integers(-5, 3, scale_shape)).astype(np.float32)
                zero = np.asarray(rng.integers(low, high + 1, scale_shape) if with_zero else np.zeros(scale_shape, int))
                wide, wide_zero = scale, zero
                if block:
                    wide, wide_zero = np.repeat(scale, block, axis), np.repeat(zero, block, axis)
                elif scale_shape:
                    wide, wide_zero = (np.expand_dims(a, 1 - axis) for a in (scale, zero))
                x = grid_inputs(rng, shape, wide, low - wide_zero, high - wide_zero, True)
                given = zero.astype(dtype) if with_zero else None
                name = f"{kind}_{layout}_{'zero' if with_zero else 'plain'}"
                case(name, kind, dtype, x, scale, given, {"ties": True}, axis, block)
    for kind, zero in (("int8", -3), ("uint8", 131)):
        low, high = RANGES[kind]
        scale, zero, dtype = np.array(0.037, np.float32), np.array(zero), ONNX_INTS[kind]
        x = grid_inputs(rng, (4, 16), scale, low - zero, high - zero, False)
        case(f"{kind}_tensor_random", kind, dtype, x, scale, zero.astype(dtype), {"ties": False})
    scale = np.float32(0.1)
    x = reciprocal_inputs(scale, -128, 127)[None]
    about = {"ties": False, "note": "every x rounds otherwise under x * (1 / scale): shows the division"}
    case("int8_tensor_division", "int8", np.int8, x, np.array(scale), np.array(0, np.int8), about)

    for kind, dtype in FLOATS.items():
        edges = float_edges(kind).ravel()
        top = np.float32(ml_dtypes.finfo(dtype).max)
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e10, -1e10, 2 * top], np.float32)
        one, zero = np.array(1, np.float32), np.array(0, np.float32).astype(dtype)
        for saturate in (1, 0) if kind.startswith(("e4m3", "e5m2")) else (1,):
            about = {"ties": True, "note": "all values of the type, the middles between them, and beyond the largest;"}
            about["note"] += f" the last {len(special)} are NaN, infinities, zeros of both signs and far values"
            x = np.concatenate([edges, special])[None]
            case(f"{kind}_cast_saturate{saturate}", kind, dtype, x, one, None, about, saturate=saturate)
        if kind in ("e4m3fn", "e2m1"):
            about = {"ties": False, "note": "with a zero_point, which must be 0"}
            case(f"{kind}_special_zero", kind, dtype, special[None], one, zero, about, saturate=1)
        chosen = {"e4m3fn": ("axis0", "axis1", "block_axis1"), "e2m1": ("block_axis1",)}
        for layout in chosen.get(kind, ()):
            shape, scale_shape, axis, block = layouts[layout]
            scale = (2.0 ** rng.integers(-5, 3, scale_shape)).astype(np.float32)
            wide = np.repeat(scale, block, axis) if block else np.expand_dims(scale, 1 - axis)
            x = (rng.choice(edges, shape) * wide).astype(np.float32)
            case(f"{kind}_{layout}", kind, dtype, x, scale, None, {"ties": True}, axis, block, 1)

    x32 = rng.integers(-(2**30), 2**30, (4, 16)).astype(np.int32)
    scale = np.float32(2.0 ** rng.integers(-20, 3, 16))
    y = onnx_run("DequantizeLinear", [x32, scale], axis=1)[0]
    about = {"type": "int32", "axis": 1, "note": "DequantizeLinear only; int32 is cast to float32 first"}
    golden.add("int32_dequantize", about, codes=x32, scale=scale, y=y)

    normal = rng.standard_normal((4, 16)).astype(np.float32)
    dynamic = {"normal": normal, "positive": np.abs(normal) + 1, "negative": -np.abs(normal) - 1, "zeros": 0 * normal}
    dynamic["ties"] = np.float32(np.concatenate([[-32.0, 95.5], np.arange(-16, 14) + 0.25, np.arange(-16, 16) + 0.25]))
    dynamic["ties"] = dynamic["ties"].reshape(4, 16)
    about = {"type": "uint8", "axis": None}
    about |= {"rule": "min and max are widened to hold 0; scale = (max - min) / 255, or 1 / 255 if both are 0;"}
    about["rule"] += " zero_point = rint(clip(0 - min / scale, 0, 255)); codes = clip(rint(x / scale) + zero_point)"
    for text, x in dynamic.items():
        codes, scale, zero = onnx_run("DynamicQuantizeLinear", [x])
        y = onnx_run("DequantizeLinear", [codes, scale, zero])[0]
        golden.add(f"dynamic_{text}", about, x=x, scale=scale, zero_point=zero, codes=codes, y=y)
    golden.write("onnx.npz")


def mx_rules():
    """torchao: the shared exponent of a block by its four rules, whole blocks, and NVFP4 with two levels."""
    golden = Golden(
        ["torchao", "torch"],
        [
            "emax: 8, 15, 2, 4, 2 and largest: 448, 57344, 7.5, 28, 6 for e4m3fn, e5m2, e2m3, e3m2, e2m1",
            "floor: floor(log2(absmax)) - emax, from the exponent bits",
            "ceil: ceil(log2(absmax)) - emax, from the exponent bits plus one if the mantissa is not 0",
            "even: floor(log2(r)) - emax, r = absmax with its mantissa rounded to the element's mantissa bits, half up:"
            " the exponent is one higher from (2 - 2^-(mantissa+1)) * 2^k on, that tie included",
            "rceil: ceil(log2(absmax / largest)) in float32 arithmetic, so a quotient one float above a power of two"
            " may still be taken for it (the list 'log2_rounds' of a case has the indices of such absmax)",
            "exponent = biased code - 127; floor, ceil, even: clamped to -127..128, with 255 (NaN) for NaN; rceil:"
            " clamped to -127..127, +inf gives code 254",
            "for floor, ceil and even the elements are x / max(2^exponent, 2^-126); for rceil x * 2^-exponent, where"
            " code 0 multiplies by 1 instead; then a clamp to the largest value and a cast, half even",
            "nvfp4 two levels: tensor scale t = absmax / (448 * 6), block scale b = e4m3fn(clip(block absmax / 6 / t,"
            " 2^-6, 448)), elements e2m1(clip(x * ((1 / t) / b), -6, 6)); one level: t = 1 and x * (1 / b)",
            "nvfp4 value: y = element * (t * b); codes are one element per byte; scale codes are e4m3fn bit patterns",
        ],
    )
    rng = np.random.default_rng(8)
    modes = {mode.value: mode for mode in ScaleCalculationMode}
    elements = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "e2m3": DTYPE_FP6_E2M3}
    elements |= {"e3m2": DTYPE_FP6_E3M2, "e2m1": torch.float4_e2m1fn_x2}
    largest = {"e4m3fn": 448, "e5m2": 57344, "e2m3": 7.5, "e3m2": 28, "e2m1": 6}

    spread = np.exp2(rng.uniform(-30, 30, 200)).astype(np.float32)
    knots = np.array([1, 1.25, 1.5, 1.625, 1.75, 1.875, 1.9375, 1.96875], np.float32)
    knots = (knots * np.float32(2) ** np.array([[-20], [-7], [0], [1], [13]], np.float32)).ravel()
    below, above = np.nextafter(knots, np.float32(0)), np.nextafter(knots, np.float32(np.inf))
    powers = np.float32(2) ** np.arange(-40, 41, 4, dtype=np.float32)
    extreme = np.array(
        [0, 1e-45, 2.0**-127, 2.0**-126, 2.0**-119, 2.0**-118, 2.0**127, 3.4e38, np.inf, np.nan], np.float32
    )
    absmax = np.concatenate([spread, knots, below, above, powers, np.nextafter(powers, np.float32(0)), extreme])
    block = torch.zeros(len(absmax), 32)
    block[:, 0] = torch.tensor(absmax)
    for element, dtype in elements.items():
        exponents = {}
        for mode in modes:
            codes = to_mx(block, dtype, 32, modes[mode])[0].view(torch.uint8).numpy().ravel()
            exponents[f"exponent_{mode}"] = codes.astype(np.int16) - 127
        fraction, exact = np.frexp(absmax.astype(np.float64) / largest[element])
        exact = np.where(fraction == 0.5, exact - 1, exact)[: -len(extreme)]
        about = {"element": element, "block": 32, "modes": list(modes)}
        about |= {"note": "absmax is the first element of a block that is zero elsewhere"}
        about |= {"extreme": f"the last {len(extreme)} are 0, subnormal, very small, very large, inf and NaN"}
        about["log2_rounds"] = np.flatnonzero(exact != exponents["exponent_rceil"][: -len(extreme)]).tolist()
        golden.add(f"exponent_{element}", about, absmax=absmax, **exponents)

    x = block_inputs(rng, 4, 64, 32)
    for element, dtype in elements.items():
        for mode in modes if element in ("e4m3fn", "e2m1") else ("floor",):
            scale, data = to_mx(torch.tensor(x), dtype, 32, modes[mode])
            y = to_dtype(data, scale, dtype, 32, torch.float32)
            codes = unpack_uint4(data) if element == "e2m1" else data.view(torch.uint8)
            about = {"element": element, "block": 32, "axis": 1, "mode": mode}
            golden.add(f"block_{element}_{mode}", about, x=x, scale=get_fp_scale(scale), codes=codes, y=y)

    x = block_inputs(rng, 4, 64, 16)
    for text, level in (("two", per_tensor_amax_to_scale(torch.tensor(x).abs().max())), ("one", None)):
        q = NVFP4Tensor.to_nvfp4(torch.tensor(x), per_tensor_scale=level)
        scale = q.scale.view(torch.float8_e4m3fn)
        about = {"element": "e2m1", "block": 16, "axis": 1, "levels": text, "scale_dtype": "float8_e4m3fn"}
        arrays = {"scale_codes": scale.view(torch.uint8), "tensor_scale": level, "scale": scale.to(torch.float32)}
        codes = unpack_uint4(q.qdata.view(torch.uint8))
        golden.add(f"nvfp4_{text}_level", about, x=x, codes=codes, y=q.dequantize(torch.float32), **arrays)
    golden.write("mx_rules.npz")


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    jax.config.update("jax_platforms", "cpu")
    torch_fake_quantize()
    torch_learnable()
    brevitas_int()
    brevitas_float()
    brevitas_mx()
    qwix()
    onnx_reference()
    mx_rules()


if __name__ == "__main__":
    main()
