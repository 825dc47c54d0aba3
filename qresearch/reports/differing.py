"""Which keys tell configurations apart."""

import json
from collections.abc import Iterable
from typing import Any


def differing_keys(configs: Iterable[dict[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all configs; of keys that always change together, the first
    (a class comes last).
    """
    configs = list(configs)
    keys = list(dict.fromkeys(key for config in configs for key in config))
    columns: dict[tuple[int, ...], str] = {}
    for key in sorted(keys, key=lambda key: key.endswith("_target_")):
        values = [json.dumps(config.get(key)) for config in configs]
        codes: dict[str, int] = {}
        pattern = tuple(codes.setdefault(value, len(codes)) for value in values)
        if len(codes) > 1:
            columns.setdefault(pattern, key)
    chosen = set(columns.values())
    return [key for key in keys if key in chosen]
