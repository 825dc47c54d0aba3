"""Compose the configurations of many cells: once for each set of group choices, plain values merged in.

Hydra composes every cell from its defaults list anew, which takes 100 ms and more with twenty groups. Most cells of a
sweep differ in plain values alone (bits, seeds, rates). They take a configuration composed with the same choices, and
the values are set in it as Hydra sets them. The result equals Hydra's own composition.
"""

import copy
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException


class Composer:
    """Composes cells for one master configuration of Hydra's."""

    def __init__(self, loader: Any, master: DictConfig):
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}

    @classmethod
    def start(cls, folder: Path) -> "Composer":
        """A composer of the configurations in `folder`, for use outside of Hydra's own programs."""
        GlobalHydra.instance().clear()
        hydra.initialize_config_dir(str(folder), version_base="1.3")
        loader = GlobalHydra.instance().config_loader()
        composer = cls(loader, hydra.compose("config", return_hydra_config=True))
        GlobalHydra.instance().clear()  # the next one may be started
        return composer

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of the cell with these overrides, none of which spans several values.

        Raises ConfigCompositionException for an unknown key, an unknown choice and a value of a wrong type.
        """
        parsed = [self._parse(override) for override in overrides]
        values = [override for override in parsed if self._is_value(override)]
        apart = [override for override in parsed if not self._is_value(override)]
        if not all(self._is_choice(override) for override in apart):
            values, apart = [], parsed  # keys are added, removed or merged: the order matters
        cfg = copy.deepcopy(self._base(tuple(str(override.input_line) for override in apart)))
        for override in values:
            _set(cfg, override)
        return cfg

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            (self._parsed[text],) = self.parser.parse_overrides([text])
        return self._parsed[text]

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._bases:
            base = self.loader.load_sweep_config(self.master, list(choices))
            with open_dict(base):
                del base["hydra"]
            self._bases[choices] = base
        return self._bases[choices]

    def _is_value(self, override: Override) -> bool:
        """Whether it sets a key to one value and does nothing else."""
        changes = override.is_add() or override.is_delete() or override.is_force_add()
        scalar = not isinstance(override.value(), (dict, list))
        return scalar and not changes and override.package is None and not self._is_group(override.key_or_group)

    def _is_choice(self, override: Override) -> bool:
        """Whether it names files of a group, which Hydra reads before it sets any value."""
        return self._is_group(override.key_or_group) and not isinstance(override.value(), dict)

    def _is_group(self, key: str) -> bool:
        if key not in self._groups:
            self._groups[key] = bool(self.loader.get_group_options(key))
        return self._groups[key]


def _set(cfg: DictConfig, override: Override) -> None:
    """Set one value as Hydra does, with Hydra's errors."""
    try:
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise ConfigCompositionException(
            f"Could not override '{override.key_or_group}'. {_nearest(cfg, override.key_or_group)}"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def _nearest(cfg: DictConfig, key: str) -> str:
    """Where a key that is not there departs from those that are, and what was meant perhaps."""
    node: Any = cfg
    path = key.split(".")
    for number, part in enumerate(path):
        keys = sorted(str(name) for name in node if name != "_target_") if isinstance(node, DictConfig) else []
        if part in keys:
            node = node[part]
            continue
        where, close = ".".join(path[:number]) or "the configuration", difflib.get_close_matches(part, keys, 1)
        guess = f"; did you mean {'.'.join([*path[:number], *close])}?" if close else "."
        return f"There is no {part!r} in {where}{guess} The keys there are: {', '.join(keys) or 'none'}."
    return ""


def axes(overrides: Sequence[str], params: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values that each key of a sweep takes, on the command line or in the parameters of Hydra's sweeper; a key
    that spans no list of values counts as one.
    """
    hydra = GlobalHydra.instance()
    parser = OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None)  # for glob(...)
    spans = {}
    for override in parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *overrides]):
        key = override.get_key_element()
        spans[key] = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else [key]
    return spans
