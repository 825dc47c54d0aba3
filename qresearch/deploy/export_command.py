"""`qresearch export RESULT --to TARGET -o FILE`: the quantized network of a result as a file."""

import argparse
import sys
import time
from pathlib import Path

from qresearch.deploy.result import load_networks, one_result
from qresearch.deploy.targets import TARGETS
from qresearch.evaluation.size import float_bytes
from qresearch.store.record import write_bytes

DESCRIPTION = """The quantized network of a result as a file.

  safetensors  codes packed into bytes, to be read by qresearch.export.packed_file
  onnx         QuantizeLinear and DequantizeLinear around every operator, for ONNX Runtime (extra `onnx`)
  litert       int8 operators, for LiteRT on phones and small devices (extra `litert`)

KEY=VALUE picks one of several results: `qresearch export runs/demo method=qat weight.bits=8 seed=0 ...`. What a target
cannot hold is an error that says so."""


def main(arguments: list[str]) -> None:
    """Write the file, and say how large it is; exits with 2 for a wrong command line and 1 for anything else."""
    parser = argparse.ArgumentParser(
        prog="qresearch export", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="a result.json, its folder, or a folder of runs")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of the result, where there are several"
    )
    parser.add_argument("--to", required=True, choices=list(TARGETS))
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--float32", action="store_true", help="the network before it was quantized (onnx, litert)")
    options = parser.parse_intermixed_args(arguments)
    if options.float32 and TARGETS[options.to].float32 is None:
        parser.error(f"--float32 is for onnx and litert, and the target is {options.to}.")
    try:
        print(write(options.result, options.settings, options.to, options.output, float32=options.float32))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def write(place: Path, settings: list[str], to: str, output: Path, *, float32: bool = False) -> str:
    """Write the file, and say so. Raises ValueError for what cannot be found, built again, or held by the target."""
    started = time.monotonic()
    networks = load_networks(one_result(place, settings))
    target = TARGETS[to]
    content, said = (target.float32(networks), "") if float32 and target.float32 else target.quantized(networks)
    write_bytes(output, content)
    whole = float_bytes(networks.reference)
    return (
        f"{output}: {len(content):,} bytes, {len(content) / whole:.3f} of the {whole:,} bytes of float32 parameters "
        f"({time.monotonic() - started:.1f} s)" + (said and f"\n{said}")
    )
