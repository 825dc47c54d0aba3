"""Wall-clock seconds of `qresearch demo`: with an empty compilation cache and no baselines, then again in that folder.

    .venv/bin/python benchmarks/demo_time.py

Targets on two CPU cores: <= 90 s, then <= 45 s.
"""

import os
import subprocess
import sys
import tempfile
import time


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        for name, target in (("first", 90), ("second", 45)):
            started = time.monotonic()
            command = [sys.executable, "-m", "qresearch.cli", "demo"]
            done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
            totals = next(line for line in done.stdout.splitlines() if line.startswith("sweep:"))
            print(f"{name} run: {time.monotonic() - started:.1f} s (target {target}); {totals}")


if __name__ == "__main__":
    main()
