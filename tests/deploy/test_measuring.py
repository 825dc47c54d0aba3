"""The clocks and the sensors of a deployment, with made-up time and energy."""

import ctypes
import sys

import numpy as np
import pytest

from qresearch.deploy.joules import Sensor, joules_per_call, sensors
from qresearch.deploy.latency import COUNTED, SETTLING, latencies
from qresearch.deploy.memory import peak_bytes


class Clock:
    """Moves when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_latencies_are_percentiles_of_calls_in_turn():
    clock, order = Clock(), []
    lengths = {"a": iter(np.linspace(0.001, 0.2, 100)), "b": iter(np.full(100, 0.5))}

    def call(name):
        order.append(name)
        settles = (order.count(name) - 1) % (SETTLING + COUNTED) < SETTLING
        clock.now += 60.0 if settles else next(lengths[name])  # the first calls of a turn do not count

    found = latencies({name: lambda name=name: call(name) for name in "ab"}, rounds=100, clock=clock)
    milliseconds = np.linspace(1, 200, 100)
    assert found["a"] == pytest.approx((*np.percentile(milliseconds, (50, 5, 95)), 100))
    assert found["b"] == pytest.approx((500, 500, 500, 100))
    turn = SETTLING + COUNTED
    assert "".join(order) == ("a" * turn + "b" * turn) * (100 // COUNTED)


def test_few_rounds_have_no_percentiles():
    with pytest.raises(ValueError, match="rounds=19 is too few for percentiles; take 20 or more"):
        latencies({}, rounds=19)


def zone(folder, name, label, joules, wraps=1000.0):
    (folder / name).mkdir()
    (folder / name / "name").write_text(f"{label}\n")
    (folder / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{int(wraps * 1e6)}\n")


def test_rapl_packages_are_read_and_their_counters_wrap(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 999.0)
    zone(tmp_path, "intel-rapl:1", "package-1", 5.0)
    zone(tmp_path, "intel-rapl:0:0", "core", 7.0)  # a part of the first package
    (tmp_path / "intel-rapl:2").mkdir()  # one that we may not read
    found = sensors(tmp_path, nvml="no such library")
    assert [(sensor.name, sensor.read(), sensor.wraps) for sensor in found] == [
        ("RAPL package-0", 999.0, 1000.0),
        ("RAPL package-1", 5.0, 1000.0),
    ]
    clock = Clock()

    def call():
        clock.now += 0.25
        used = {"intel-rapl:0": 0.5, "intel-rapl:1": 0.25}
        for name, joules in used.items():
            path = tmp_path / name / "energy_uj"
            path.write_text(str(int((int(path.read_text()) + joules * 1e6) % 1e9)))

    # Four calls in a second: the first counter goes from 999 J to 1 J.
    assert joules_per_call(call, found, clock=clock) == pytest.approx({"RAPL package-0": 0.5, "RAPL package-1": 0.25})


def test_without_a_sensor_nothing_is_claimed(tmp_path):
    assert sensors(tmp_path, nvml="no such library") == []
    assert joules_per_call(lambda: pytest.fail("it was run"), []) == {}


class Nvml:
    """Two cards: one that counts millijoules, and an old one that does not."""

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = index + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device, total):
        total._obj.value = 12_500
        return 0 if device.value == 1 else 3  # not supported


def test_nvml_counts_millijoules(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml())
    found = sensors(tmp_path)
    assert [(sensor.name, sensor.read()) for sensor in found] == [("NVML GPU 0", 12.5)]
    assert isinstance(found[0], Sensor)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone says what a process takes")
def test_a_file_that_cannot_be_run_has_no_peak(tmp_path):
    path = tmp_path / "network"
    path.write_bytes(b"nothing")
    assert peak_bytes("litert", path, 1, (1, 4)) is None
