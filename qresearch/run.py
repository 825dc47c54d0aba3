"""The program behind `qresearch run`, and behind each cell of a sweep that another engine than ours launches."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from qresearch.compilation import keep_compiled_programs
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.execute import EXPECTED, run, settle, sweep_job
from qresearch.reports.audit_table import audit_table
from qresearch.reports.console import console
from qresearch.reports.statistics import accuracy_interval
from qresearch.reports.sweep_display import SweepDisplay
from qresearch.store.full_disk import StoreError


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run one cell; returns its top-1 accuracy, for sweepers that optimize it.

    Bad input ends a single run with exit code 1 and one message. In a sweep the cell is recorded as `failed`
    and the others go on.
    """
    keep_compiled_programs()
    settings = HydraConfig.get()
    overrides = list(settings.overrides.task)
    if settings.mode == RunMode.MULTIRUN:
        (record,) = settle([sweep_job(cfg, overrides, Path(settings.sweep.dir))], force=cfg.sweep.force, wait=True)
    else:
        record = _alone(cfg, Path(settings.runtime.output_dir), overrides)
    return None if record is None else record["metrics"].get("top1")


def _alone(cfg: DictConfig, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """A single run, which says what it found."""
    try:
        record = run(cfg, folder, overrides=overrides)
    except (*EXPECTED, StoreError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    if record["message"]:
        console.print(f"{record['status']}: {record['message']}", markup=False)
    audit = audit_table(record["audit"], record["float_tensors"])
    console.print(audit, markup=False, highlight=False, soft_wrap=True)
    console.print(metrics_line(record["metrics"]), markup=False, highlight=False, soft_wrap=True)
    if record["parity"]:
        console.print(parity_line(record["parity"]), markup=False, highlight=False, soft_wrap=True)
    print(f"result: {_shown(folder / 'result.json')}")
    return record


def main_or_interrupted() -> None:
    """The program; Ctrl-C keeps and shows what has finished, and exits with 130."""
    try:
        main()
    except KeyboardInterrupt:
        if SweepDisplay.active is not None:
            SweepDisplay.active.close()
        print("interrupted: finished cells are kept.", file=sys.stderr)
        sys.exit(130)


def metrics_line(metrics: dict[str, float | int]) -> str:
    """The headline numbers of a run in a line of words."""
    parts = []
    if "top1" in metrics:
        low, high = accuracy_interval(metrics["top1"], int(metrics["test_images"]))
        images = f"95 % interval {low:.1f} to {high:.1f} % by {metrics['test_images']} images"
        parts.append(f"top-1 {metrics['top1']:.2f} % ({images}; float {metrics['top1_float']:.2f} %)")
    if "size_bytes" in metrics:
        share = metrics["size_bytes"] / metrics["size_bytes_float"]
        parts.append(f"{metrics['size_bytes'] / 1e3:.1f} kB ({share:.3f} of float)")
    return ", ".join([*parts, f"{metrics['programs']} programs compiled", f"{metrics['seconds']:.1f} s"])


def parity_line(parity: dict[str, Any]) -> str:
    """Whether the network computes with integers what is simulated."""
    least = min(parity["layers"], key=lambda row: row["equal"])
    largest = max(row["largest_lsb"] for row in parity["layers"])
    codes = f"all codes equal in {len(parity['layers'])} layers"
    if parity["departs"]:
        codes = (
            f"{100 * least['equal']:.5f} % of the codes equal in the layer with the fewest ({least['layer']}), "
            f"{largest} LSB at most, {parity['departs']} the first that departs"
        )
    scores = f"top-1 {parity['top1_simulated']:.2f} % simulated, {parity['top1_integer']:.2f} % with integers"
    return f"parity: {codes}; {scores}; {100 * parity['agreement']:.2f} % of the images in one class"


def _shown(path: Path) -> str:
    """The path as a person would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


if __name__ == "__main__":
    main_or_interrupted()
