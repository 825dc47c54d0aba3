"""What the page of `qresearch report` and `qresearch dashboard` is told: records as rows of small numbers, and a head
that says what the numbers mean.

Everything that repeats (values of the configuration, names of metrics and layers, machines) is numbered once and
keeps its number for as long as the table lives, so that of a growing folder only new and changed rows are sent again.
SQNR is kept to 0.01 dB and the share of clipping to 1/250, which makes 10,000 records of a ResNet-20 about 6 MB.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from qresearch.config.schema import UNHASHED
from qresearch.reports.curves import COLOURS

TENSORS = ("weight", "input", "output")
SPLIT = TENSORS[:2]  # an output holds the error of all layers before, which has no such split
SQNR_STEP = 0.01  # dB
SQNR_LARGEST = 32767
CLIP_STEPS = 250
NO_SQNR, NO_CLIP = -32768, 255
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
SEED = "seed"

Record = dict[str, Any]


class Numbered:
    """Values in the order in which they were first seen; equal ones (8 and 8.0, but not 1 and true) share a number."""

    def __init__(self):
        self.values: list[Any] = []
        self.numbers: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        plain = value is None or isinstance(value, (bool, int, float, str))
        key = (isinstance(value, bool), value) if plain else json.dumps(value, sort_keys=True)
        found = self.numbers.setdefault(key, len(self.values))
        if found == len(self.values):
            self.values.append(_told(value))
        return found


class RunTable:
    """The records of a folder as the page reads them; `update` again after the folder has changed."""

    def __init__(self):
        self.keys = Numbered()  # of the configuration, those that have differed
        self.values: dict[str, Numbered] = {}
        self.metrics, self.networks, self.machines = Numbered(), Numbered(), Numbered()
        self.rows: dict[str, str] = {}  # JSON, by the path of the record
        self.head: dict[str, Any] = {}

    def update(self, records: Sequence[Record]) -> None:
        """Make the rows and the head of these records, as `store.index.indexed` gives them."""
        sound = [record["config"] for record in records if record["status"] != "failed"]
        configs = sound or [_resolved(record["config"]) for record in records]
        varying = _varying(configs)
        for key in varying:
            self.keys.number(key)
            self.values.setdefault(key, Numbered())
        self.rows = {record["path"]: json.dumps(self._row(record), separators=(",", ":")) for record in records}
        self.head = {
            "keys": self.keys.values,
            "values": [self.values[key].values for key in self.keys.values],
            "constant": {key: _told(value) for key, value in (configs or [{}])[0].items() if key not in varying},
            "metrics": self.metrics.values,
            "networks": self.networks.values,
            "unhashed": UNHASHED,
            "machines": self.machines.values,
            "colours": COLOURS,
        }

    def _row(self, record: Record) -> list[Any]:
        """In the order in which `readRow` of page/data.js takes them."""
        failed = record["status"] == "failed"
        config = _resolved(record["config"]) if failed else record["config"]
        metrics: dict[int, float] = {
            self.metrics.number(name): value if isinstance(value, int) else float(f"{value:.6g}")
            for name, value in record["metrics"].items()
        }
        return [
            record["path"],
            record["status"],
            record["message"],
            record["config_hash"],
            record["group"],
            record["overrides"],
            record["finished_at"],
            self.machines.number(record["environment"]),
            [self.values[key].number(config[key]) if key in config else -1 for key in self.keys.values],
            [metrics.get(number) for number in range(max(metrics, default=-1) + 1)],
            *self._layers(record["layers"]),
        ]

    def _layers(self, layers: dict[str, dict[str, dict[str, Any]]]) -> tuple[int, str, str]:
        """The number of the network, SQNR of layer x tensor (int16) and clipping's share of the error (uint8)."""
        rows = [tensors.get(tensor, {}) for tensors in layers.values() for tensor in TENSORS]
        sqnr = [_sqnr(row.get("sqnr_db")) for row in rows]
        clip = [_clip(tensors.get(tensor, {})) for tensors in layers.values() for tensor in SPLIT]
        network = self.networks.number(list(layers))
        return network, _base64(np.array(sqnr, "<i2")), _base64(np.array(clip, np.uint8))


def document(about: dict[str, Any], rows: Iterable[str]) -> str:
    """What the page reads, as JSON: `about` with the rows, which are JSON already."""
    return f'{json.dumps(about, separators=(",", ":"))[:-1]},"rows":[{",".join(rows)}]}}'


def settings(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records that have not failed, by what the seeds of one point of a sweep share."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["status"] != "failed":
            kept = [
                item for item in record["config"].items() if item[0] != SEED and item[0].split(".")[0] not in UNHASHED
            ]
            found.setdefault(json.dumps(kept, sort_keys=True), []).append(record)
    return found


def _varying(configs: Sequence[Record]) -> list[str]:
    """The keys that not all have, or not with one value, in the order of the configurations."""
    first = configs[0] if configs else {}
    varying = set()
    for config in configs:
        if config.keys() != first.keys():
            varying |= config.keys() ^ first.keys()
        varying.update(key for key, value in config.items() if key in first and not _same(first[key], value))
    return [key for key in dict.fromkeys(key for config in configs for key in config) if key in varying]


def _same(a: Any, b: Any) -> bool:
    return a is b or (a == b and isinstance(a, bool) == isinstance(b, bool))


def _resolved(config: Record) -> Record:
    """A failed cell's configuration is as it was given: `${weight.bits}` is looked up, other references stay."""
    found = {}
    for key, value in config.items():
        reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        found[key] = config.get(reference.group(1), value) if reference else value
    return found


def _told(value: Any) -> Any:
    """A value as JSON has it: infinities in words, as what JSON's 1e999 becomes would end the page."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _sqnr(value: Any) -> int:
    if not _is_finite(value):
        return NO_SQNR
    return max(-SQNR_LARGEST, min(SQNR_LARGEST, round(value / SQNR_STEP)))


def _clip(row: dict[str, Any]) -> int:
    clipping, rounding = row.get("mse_clip"), row.get("mse_round")
    if not (_is_finite(clipping) and _is_finite(rounding)) or min(clipping, rounding) < 0 or clipping + rounding == 0:
        return NO_CLIP
    return round(CLIP_STEPS * clipping / (clipping + rounding))


def _is_finite(value: Any) -> TypeGuard[float]:
    """Whether it is a number that the page can take; null is none, nor is what JSON's 1e999 becomes."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _base64(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
