"""Sweeps that compile once, against a program for each bit-width: wall-clock seconds of both, and their ratio.

    .venv/bin/python benchmarks/sweep.py [cells of the static kind that are timed, default 8]

The digits CNN, every cell with bit-widths of its own. "Bits as data" is `qresearch sweep` as it is, its compilation
included. "Static" is the same sweep with a grid whose bits are part of the program, so that each cell compiles programs
of its own; its cells cost the same, so some of them are timed and the time is multiplied. One more static cell comes
before both, so that neither pays for what a process does once (imports, the first tracing of each operation, Hydra's
first composition). The compilation cache on disk is off, and the float baseline is there before. Overhead is what a
cell takes beside its own computation: composition, checks, hashes, and the files of its record.
"""

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

from qresearch.compose import Composer
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.core.pytree import pytree_dataclass
from qresearch.grids.integer import Integer
from qresearch.sweep.grid import run_grid

PTQ = ["method=ptq", "rules=ends_8bit", "tracker=none"]
QAT = ["method=qat", "rules=ends_8bit", "tracker=none", "optim.batch_size=60", "optim.epochs=8"]  # 200 steps
SIDES = ("weight", "act", "rules.ends.weight", "rules.ends.act")
STATIC = [f"{side}.grid._target_=__main__.StaticInteger" for side in SIDES]


@pytree_dataclass
class StaticInteger(Integer):
    """The integer grid with its bits in the structure of the program."""

    bits: int = 8


def cells(common: list[str], weights: range, acts: range, ends: range) -> list[list[str]]:
    """One cell for each combination of bit-widths."""
    spans = itertools.product(weights, acts, ends)
    return [
        [*common, f"weight.bits={w}", f"act.bits={a}", f"rules.ends.weight.bits={f}", f"rules.ends.act.bits={f}"]
        for w, a, f in spans
    ]


def seconds(composer: Composer, chosen: list[list[str]], folder: Path) -> tuple[float, list[dict]]:
    """The time of a sweep from its overrides to its records."""
    started = time.monotonic()
    records = run_grid([(composer.compose(overrides), overrides) for overrides in chosen], folder)
    assert all(record["status"] == "finished" for record in records), [record["message"] for record in records]
    return time.monotonic() - started, records


def compare(name: str, composer: Composer, chosen: list[list[str]], timed: int, aim: float, folder: Path) -> None:
    """Print what the sweep takes both ways."""
    seconds(composer, [[*chosen[0], *STATIC]], folder / f"{name} first")
    data, records = seconds(composer, chosen, folder / name)
    own = sum(record["metrics"]["seconds"] for record in records)
    some = [[*overrides, *STATIC] for overrides in chosen[1 :: (len(chosen) - 1) // timed][:timed]]
    each = [seconds(composer, [one], folder / f"{name} static")[0] for one in some]
    static = statistics.median(each) * len(chosen)
    print(
        f"{name}: {data:.1f} s with bits as data, {static:.0f} s static (median of {len(some)} cells "
        f"{statistics.median(each):.2f} s), ratio {static / data:.1f} (aim {aim:.0f}); overhead "
        f"{1e3 * (data - own) / len(chosen):.1f} ms a cell (aim 20)",
        flush=True,
    )


def main(timed: int = 8) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, composer = Path(name), Composer.start(CONFIG_FOLDER)
        runs = f"runs_dir={folder}"
        seconds(composer, [["method=float", "tracker=none", runs]], folder / "baseline")
        few, many = range(3, 7), range(2, 10)
        for label, chosen, aim in (
            ("16 PTQ cells", cells([*PTQ, runs], few, few, range(8, 9)), 12),
            ("16 QAT cells of 200 steps", cells([*QAT, runs], few, few, range(8, 9)), 7),
            ("256 PTQ cells", cells([*PTQ, runs], many, many, range(5, 9)), 30),
        ):
            compare(label, composer, chosen, timed, aim, folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
