"""`qresearch collect [RUNS]`: the records of a folder into its local index.

A record that cannot be read is a line on stderr and changes no exit code: a half-copied file among thousands must not
end the script that collects before it reports, all else is in the index, and the line comes again each time until
the file is mended or moved.
"""

import argparse
import sys
import time
from pathlib import Path

from qresearch.store.full_disk import StoreError
from qresearch.store.index import INDEX, collect


def main(arguments: list[str]) -> None:
    """Refresh the index and say what was found; exits with 1 where there is no folder or it cannot be written."""
    parser = argparse.ArgumentParser("qresearch collect", description="Gather result.json files into index.sqlite.")
    parser.add_argument("runs", nargs="?", type=Path, default=Path("runs"), metavar="RUNS", help="default: runs")
    folder = parser.parse_args(arguments).runs
    started = time.monotonic()
    try:
        new, kept, removed, bad = collect(folder)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    for message in bad:
        print(f"unreadable: {message}", file=sys.stderr)
    counts = f"{new} new, {kept} kept, {removed} removed, {len(bad)} unreadable"
    print(f"collected: {new + kept} records ({counts}) in {folder / INDEX}, {time.monotonic() - started:.1f} s")
