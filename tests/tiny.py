"""Runs that take next to no time: their overrides, and their composition."""

import hydra

from qresearch.config.schema import CONFIG_FOLDER

TINY = [
    "model=mlp",
    "model.width=8",
    "baseline.epochs=1",
    "optim.epochs=1",
    "anatomy_images=8",
    "calibration.images=16",
    "tracker=none",
]


def compose(*overrides):
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return hydra.compose("config", list(overrides))
