"""From the overrides of a sweep to records."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from qresearch.compilation import keep_compiled_programs
from qresearch.compose import Composer, axes
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.reports.sweep_display import SweepDisplay
from qresearch.store.full_disk import StoreError
from qresearch.sweep.grid import run_grid

MANY = 10_000


def launch(loader: Any, master: DictConfig, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Run the cells with these overrides; the value of each is its top-1 accuracy (None: it has none)."""
    keep_compiled_programs()
    composer = Composer(loader, master)
    cells = [(composer.compose(overrides), overrides) for overrides in job_overrides]
    records = _run(cells, Path(master.hydra.sweep.dir))
    return [
        JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=record["metrics"].get("top1"))
        for overrides, record in zip(job_overrides, records, strict=True)
    ]


def run_cells_named(cells: Sequence[Sequence[str]], folder: Path) -> None:
    """Run exactly these cells, each given by its overrides, as a sweep in `folder`, outside of Hydra's programs."""
    keep_compiled_programs()
    composer = Composer.start(CONFIG_FOLDER)
    composed = [(composer.compose(overrides), overrides) for overrides in cells]
    display = SweepDisplay(folder, len(cells))
    display.start()
    try:
        _run(composed, folder)
    finally:
        if SweepDisplay.active is display:
            display.close()


def _run(cells: list[tuple[Any, Sequence[str]]], folder: Path) -> list[dict[str, Any]]:
    """The records of the cells; a full disk ends the sweep with one message, and what has finished stays."""
    try:
        return run_grid(cells, folder)
    except StoreError as error:
        if SweepDisplay.active is not None:
            SweepDisplay.active.close()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def check_span(arguments: Sequence[str], params: Mapping[str, Any], master: DictConfig) -> None:
    """Raise what Hydra shows as a message alone, for an empty axis and for more cells than anybody means."""
    spans = axes(arguments, params)
    empty = [key for key, values in spans.items() if not values]
    if empty:
        raise CompactHydraException(f"{', '.join(empty)}: the axis spans no value; give at least one.")
    cells = math.prod(len(values) for values in spans.values())
    if cells > MANY and not master.sweep.yes:
        sizes = ", ".join(f"{key}: {len(values)}" for key, values in spans.items() if len(values) > 1)
        raise CompactHydraException(
            f"{cells:,} cells ({sizes}) are more than {MANY:,}; say sweep.yes=true if you mean them."
        )
