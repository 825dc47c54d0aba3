"""Energy that sensors measure, in joules: RAPL through the kernel's powercap files, and NVML on NVIDIA.

A sensor counts all that its package or card draws, whoever draws it, and idle too; it is never added to an estimate.
RAPL: `energy_uj` of every package, which wraps around at `max_energy_range_uj`, and which many systems let only root
read. NVML: the counter of millijoules since the driver was loaded (Volta and later).
"""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


class Sensor(NamedTuple):
    name: str
    read: Callable[[], float]  # joules so far
    wraps: float  # at which the counter begins again


def sensors(powercap: Path = POWERCAP, nvml: str = NVML) -> list[Sensor]:
    """Those that this machine has and lets us read."""
    return _rapl(powercap) + _nvml(nvml)


def joules_per_call(
    call: Callable[[], Any],
    found: list[Sensor],
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """What each sensor counts in one call, the mean over `seconds` of calls."""
    if not found:
        return {}
    before, began, calls = [sensor.read() for sensor in found], clock(), 0
    while clock() - began < seconds:
        call()
        calls += 1
    used = [sensor.read() - start for sensor, start in zip(found, before, strict=True)]
    return {
        sensor.name: (amount if amount >= 0 else amount + sensor.wraps) / calls
        for sensor, amount in zip(found, used, strict=True)
    }


def _rapl(powercap: Path) -> list[Sensor]:
    found = []
    for zone in sorted(powercap.glob("intel-rapl:[0-9]*")):  # AMD's are called so too
        if zone.name.count(":") > 1:  # a part of a package: cores, memory
            continue
        try:
            int((zone / "energy_uj").read_text())
            wraps = int((zone / "max_energy_range_uj").read_text()) / 1e6
            name = (zone / "name").read_text().strip()
        except (OSError, ValueError):
            continue
        found.append(Sensor(f"RAPL {name}", lambda path=zone / "energy_uj": int(path.read_text()) / 1e6, wraps))
    return found


def _nvml(library: str) -> list[Sensor]:
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return []
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    found = []
    for index in range(count.value):
        device, total = ctypes.c_void_p(), ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
            continue
        if nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(total)):
            continue  # a card before Volta

        def read(device=device) -> float:
            total = ctypes.c_ulonglong()
            nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(total))
            return total.value / 1e3

        found.append(Sensor(f"NVML GPU {index}", read, 2.0**64 / 1e3))
    return found
