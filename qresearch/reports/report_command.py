"""`qresearch report [RUNS] [-o FILE]`: the records of a folder as one HTML page that needs nothing else."""

import argparse
import datetime
import sys
from pathlib import Path
from typing import Any

from qresearch.replacing import replacing
from qresearch.reports.report import page
from qresearch.reports.report_curves import curves_of_some
from qresearch.reports.report_data import RunTable, document
from qresearch.store.full_disk import StoreError, naming_a_full_disk
from qresearch.store.index import collect, indexed

SHOWN = 5  # messages about records that cannot be read


def main(arguments: list[str]) -> None:
    """Write the page, and say where it is."""
    parser = argparse.ArgumentParser(prog="qresearch report", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="a folder with runs in it; runs/")
    parser.add_argument("-o", "--output", type=Path, help="the file to write; RUNS/report.html where it is not given")
    options = parser.parse_args(arguments)
    target = options.output or options.runs / "report.html"
    try:
        bad, count = write_report(options.runs, target)
    except (StoreError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for message in bad[:SHOWN]:
        print(f"left out: {message}", file=sys.stderr)
    if len(bad) > SHOWN:
        print(f"left out: {len(bad) - SHOWN} more; the page lists them.", file=sys.stderr)
    print(f"report: {target} ({count} runs, {target.stat().st_size / 1e6:.1f} MB)")


def write_report(folder: Path, target: Path) -> tuple[list[str], int]:
    """Collect the records under `folder` and write the page; returns the messages about those that cannot be read,
    and the number of those in the page.

    Raises StoreError where the index cannot be written, and ValueError where there is no record.
    """
    bad = collect(folder).bad
    records = indexed(folder)
    if not records and not bad:
        raise ValueError(f"{folder} holds no result.json; `qresearch sweep` or `qresearch run` makes some.")
    table = RunTable()
    table.update(records)
    about = about_folder(folder) | {"whole": True, "bad": bad, "head": table.head}
    content = page(
        title=about["title"],
        data=document(about, table.rows.values()),
        curves=curves_of_some(folder, records),
    )
    with naming_a_full_disk(target), replacing(target) as stream:
        stream.write(content.encode())
    return bad, len(records)


def about_folder(folder: Path) -> dict[str, Any]:
    """What the page says of itself."""
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"title": folder.resolve().name, "folder": str(folder), "made": made, "live": False}
