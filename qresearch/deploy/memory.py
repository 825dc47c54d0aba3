"""The peak memory of a file in its runtime: by how much a fresh process grows that loads and runs it.

    python -m qresearch.deploy.memory RUNTIME FILE THREADS SHAPE...

prints the bytes. What the runtime itself takes before it has a network does not count. Linux alone says it.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

RUNS = 3
STATUS = Path("/proc/self/status")


def peak_bytes(runtime: str, path: Path, threads: int, shape: tuple[int, ...]) -> int | None:
    """For one batch of `shape`; None where the system does not say it or the process fails."""
    if not STATUS.exists():
        return None
    words = [sys.executable, "-m", "qresearch.deploy.memory", runtime, str(path), str(threads), *map(str, shape)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else None


def resident(key: str) -> int:
    """Bytes of this process: now (VmRSS), or at most so far (VmHWM)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def _run(runtime: str, content: bytes, threads: int, x: np.ndarray) -> int:
    # Not by way of engines.py, which imports JAX: its memory would be part of the peak.
    if runtime == "onnx":
        import onnxruntime

        before, options = resident("VmRSS"), onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(None, {session.get_inputs()[0].name: x})
    else:
        from ai_edge_litert.interpreter import Interpreter

        before = resident("VmRSS")
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
        interpreter.allocate_tensors()
        for _ in range(RUNS):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
            interpreter.invoke()
    return max(0, resident("VmHWM") - before)


if __name__ == "__main__":
    runtime, path, threads, *shape = sys.argv[1:]
    print(_run(runtime, Path(path).read_bytes(), int(threads), np.zeros(list(map(int, shape)), np.float32)))
