"""Every tracker config names its class and lists every field of it; the tracker of nothing does nothing."""

import dataclasses
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from qresearch.store.tracker import NoTracker
from qresearch.store.wandb_tracker import WandbTracker

CONFIGS = Path(__file__).parents[2] / "configs" / "tracker"
EXPECTED = {
    "none": NoTracker(),
    "wandb": WandbTracker(),
    "wandb_online": WandbTracker(online=True),
}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_builds_its_tracker(path):
    config = OmegaConf.load(path)
    tracker = hydra.utils.instantiate(config)
    assert tracker == EXPECTED[path.stem]
    assert set(config) == {"_target_"} | {field.name for field in dataclasses.fields(tracker)}


def test_no_tracker_leaves_no_trace(tmp_path):
    tracker = NoTracker()
    tracker.start(folder=tmp_path, name="run", group=None, config={})
    tracker.log(0, {"loss": 1.0})
    tracker.finish({"status": "ok"})
    assert list(tmp_path.iterdir()) == []
