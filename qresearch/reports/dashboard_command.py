"""`qresearch dashboard [RUNS] [--port N]`: the page of `qresearch report`, live, for this machine alone."""

import argparse
import errno
import sys
from pathlib import Path

from qresearch.reports.dashboard import Dashboard
from qresearch.reports.live_folder import LiveFolder

PORT = 8642
WHY = {
    errno.EADDRINUSE: "is in use, perhaps by another dashboard; --port 0 picks a free one.",
    errno.EACCES: "is kept for the system; name one from 1024, or --port 0, which picks a free one.",
}


def main(arguments: list[str]) -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="qresearch dashboard", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="a folder with runs in it; runs/")
    parser.add_argument("--port", type=port, default=PORT, help=f"{PORT} where it is not given; 0 picks a free one")
    options = parser.parse_args(arguments)
    if not options.runs.is_dir():
        sys.exit(f"error: {options.runs}: there is no such folder. Name the one in which the runs lie, or will.")
    source = LiveFolder(options.runs)
    try:
        server = Dashboard(source, options.port)
    except OSError as error:
        sys.exit(f"error: port {options.port} {WHY.get(error.errno or 0, f'cannot be used: {error.strerror}')}")
    source.watch()
    print(f"dashboard: {server.address} shows {options.runs}; Ctrl-C ends it.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


def port(text: str) -> int:
    """A number of a port; argparse shows what is raised."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535, 0 for a free one.")
    return int(text)
