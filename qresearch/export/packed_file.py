"""The packed file of a quantized network: safetensors with the codes of its weights in bytes.

    LAYER.codes         uint8    the codes of its weight, packed (core/packing.py)
    LAYER.scale         float32  or, where the scale's format holds it in less, see `scale_tensors`
    LAYER.zero_point    float32, int8 or uint8, where the grid has one
    anything else       float32  what stays float, by its path in the network

The metadata holds `format`, `version`, `about` (what the writer wants to be known, as JSON), `specs`, a list of the
different ones, and `layers`: for every layer its weight, [place of its spec in that list, shape], and its input,
[place of its spec, scale, zero point], each of them null where that side is float. Reading needs jax, numpy and
safetensors alone.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from qresearch.core.packing import unpack
from qresearch.core.qtensor import QTensor, has_signed_codes
from qresearch.core.scaling import Scaling
from qresearch.core.spec import POWERS_OF_TWO, QuantSpec, ScaleFormat
from qresearch.export.spec_json import spec_from_json

FORMAT, VERSION = "qresearch-packed", "1"
BIAS = 127  # of the exponent of a scale that is a power of two


class PackedFileError(ValueError):
    """A file that is no packed network, or not a whole one."""


class PackedFile(NamedTuple):
    """What a file holds, by the path of the layer or of the tensor."""

    about: dict[str, Any]
    weights: dict[str, QTensor]
    inputs: dict[str, Scaling]
    floats: dict[str, np.ndarray]


def read_packed(path: Path) -> PackedFile:
    """The network in a packed file, to the bits that were written.

    Raises PackedFileError for a file that cannot be read, is no packed network, is of another version, or whose tensors
    and metadata disagree.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as stream:
            names = stream.keys()  # no dict
            metadata, tensors = stream.metadata() or {}, {name: stream.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise PackedFileError(f"{path} cannot be read as safetensors: {error}. Export it again.") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        found = f"{metadata.get('format')} {metadata.get('version')}"
        raise PackedFileError(f"{path} is {found}, not {FORMAT} {VERSION}; export it again with this version.")
    try:
        return _parsed(metadata, tensors)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise PackedFileError(f"{path}: its tensors and its metadata disagree: {said}. Export it again.") from error


def _parsed(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> PackedFile:
    weights, inputs = {}, {}
    specs = [spec_from_json(spec) for spec in json.loads(metadata["specs"])]
    for path, (weight, taken) in json.loads(metadata["layers"]).items():
        if weight is not None:
            place, shape = weight
            weights[path] = _weight(path, specs[place], shape, tensors)
        if taken is not None:
            place, *numbers = taken
            scale, zero_point = (None if number is None else np.float32(number) for number in numbers)
            inputs[path] = Scaling(specs[place], scale, zero_point)
    return PackedFile(json.loads(metadata["about"]), weights, inputs, tensors)


def _weight(path: str, spec: QuantSpec, shape: list[int], tensors: dict[str, np.ndarray]) -> QTensor:
    words = tensors.pop(f"{path}.codes")
    if words.dtype != np.uint8:
        raise ValueError(f"{path}.codes is {words.dtype}, not uint8")
    codes = unpack(words, int(spec.grid.bits), shape, signed=has_signed_codes(spec))
    zero_point = tensors.pop(f"{path}.zero_point", None)
    if (zero_point is None) != spec.grid.symmetric:
        raise ValueError(f"{path}.zero_point does not go with the grid {spec.grid.describe()}")
    scale = jnp.asarray(_scale(f"{path}.scale", tensors))
    return QTensor(codes, scale, None if zero_point is None else jnp.asarray(zero_point, jnp.float32), spec)


def scale_tensors(name: str, scale: np.ndarray, spec: QuantSpec) -> dict[str, np.ndarray]:
    """The tensors that hold a scale in the bytes of its format, or in float32 where those do not give it back."""
    scale = np.asarray(scale, np.float32)
    for tensors in _compact(name, scale, spec):
        if np.array_equal(_scale(name, dict(tensors)), scale):
            return tensors
    return {name: scale}


def _compact(name: str, scale: np.ndarray, spec: QuantSpec) -> list[dict[str, np.ndarray]]:
    if spec.scale_format is ScaleFormat.bfloat16:
        return [{f"{name}.bfloat16": scale.astype(ml_dtypes.bfloat16).view(np.uint16)}]
    if spec.scale_format in POWERS_OF_TWO:
        exponents = np.frexp(scale)[1] - 1 + BIAS
        return [{f"{name}.exponent": np.clip(exponents, 0, 255).astype(np.uint8)}]
    if spec.scale_format is ScaleFormat.e4m3:
        tensor = (scale.max() / np.float32(448)).astype(np.float32)
        held = (scale / tensor).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return [{f"{name}.e4m3": held, f"{name}.tensor": tensor.reshape(1)}]
    return []


def _scale(name: str, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The scale as float32; its tensors are taken out."""
    if f"{name}.bfloat16" in tensors:
        return tensors.pop(f"{name}.bfloat16").view(ml_dtypes.bfloat16).astype(np.float32)
    if f"{name}.exponent" in tensors:
        return np.ldexp(np.float32(1), tensors.pop(f"{name}.exponent").astype(np.int32) - BIAS).astype(np.float32)
    if f"{name}.e4m3" in tensors:
        held = tensors.pop(f"{name}.e4m3").view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        return held * tensors.pop(f"{name}.tensor")
    return tensors.pop(name)


def zero_point_tensor(zero_point: np.ndarray) -> np.ndarray:
    """The zero points as int8 or uint8 where they are such numbers."""
    zero_point = np.asarray(zero_point, np.float32)
    whole = np.array_equal(np.round(zero_point), zero_point)
    for kind in map(np.iinfo, ("int8", "uint8")):
        if whole and zero_point.min() >= kind.min and zero_point.max() <= kind.max:
            return zero_point.astype(kind.dtype)
    return zero_point
