"""`qresearch export-wandb RUNS [--project P] [--entity E] [--online]`: past records as runs of W&B."""

import argparse
import shlex
import sys
import time
from pathlib import Path

from qresearch.reports.console import progress_bar
from qresearch.store.export_wandb import export_wandb
from qresearch.store.full_disk import StoreError


def main(arguments: list[str]) -> None:
    """Export and say how many runs lie where; exits with 1 where nothing could be exported or W&B fails."""
    parser = argparse.ArgumentParser("qresearch export-wandb", description="Past records as runs of W&B.")
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the folder of the records")
    parser.add_argument("--project", default="qresearch", help="default: qresearch")
    parser.add_argument("--entity", help="the user or team; default: W&B's own")
    parser.add_argument("--online", action="store_true", help="upload now; otherwise `wandb sync` does, later")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        with progress_bar() as bar:
            runs, copies, tracked, bad = export_wandb(
                given.runs,
                project=given.project,
                entity=given.entity,
                online=given.online,
                listen=lambda done, total: bar("runs", done, total),
            )
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    for message in bad:
        print(f"unreadable: {message}", file=sys.stderr)
    where = f"the project {given.project} and in {given.runs / 'wandb'}" if given.online else given.runs / "wandb"
    print(f"exported: {runs} runs in {where}, {time.monotonic() - started:.1f} s")
    if copies:
        print(f"{copies} more records are copies of these runs")
    if tracked:
        print(f"W&B tracked {tracked} of them already: uploading their own wandb folders too would show them twice")
    if not given.online:
        print(f"upload: cd {shlex.quote(str(given.runs))} && wandb sync")
