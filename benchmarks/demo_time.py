"""Wall-clock seconds of `qresearch demo`: with an empty compilation cache and no baselines; then every cell anew, with
what is there by then; and once more, where nothing is left to do.

    .venv/bin/python benchmarks/demo_time.py

Targets on two CPU cores: <= 90 s, then <= 45 s; the last has none.
"""

import os
import subprocess
import sys
import tempfile
import time


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        runs = (
            ("first run", [], " (target 90)"),
            ("every cell anew", ["sweep.force=true"], " (target 45)"),
            ("again", [], ""),
        )
        for name, words, target in runs:
            started = time.monotonic()
            command = [sys.executable, "-m", "qresearch.cli", "demo", *words]
            done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
            totals = next(line for line in done.stdout.splitlines() if line.startswith("sweep:"))
            print(f"{name}: {time.monotonic() - started:.1f} s{target}; {totals}")


if __name__ == "__main__":
    main()
