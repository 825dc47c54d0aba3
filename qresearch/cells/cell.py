"""A cell: what a configuration describes, built and checked before anything is computed."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from qresearch.config.nodes import build, plain
from qresearch.config.rules import build_rules
from qresearch.config.schema import Method, RunConfig
from qresearch.data.normalise import Normalise, normalise_for
from qresearch.data.source import VARIABLE, data_folder, find_file
from qresearch.graph.forms import Between, check_form
from qresearch.graph.trace import check_scaling, trace
from qresearch.models.checkpoint import CheckpointError
from qresearch.nn.geometry import Geometry, geometry
from qresearch.nn.pack_model import check_packable
from qresearch.nn.quantize_model import check_blocks, check_solvable
from qresearch.nn.rules import Rule, assign


class Cell(NamedTuple):
    """What a configuration describes, built and checked, before anything is computed."""

    cfg: RunConfig
    model: Any
    data: Any
    normalise: Normalise
    rules: dict[str, Rule]
    layers: dict[str, Geometry]
    weights: Path | None

    @property
    def group(self) -> str:
        """Names the programs that this cell runs: cells that differ in numbers alone are of one group."""
        cfg = self.cfg
        recipe = build(cfg.optim) if cfg.method.name == Method.qat else None
        ptq = build(cfg.ptq) if cfg.method.name == Method.ptq else None
        built = (self.rules, recipe, ptq)
        structure = jax.tree.structure(built), [jax.numpy.shape(number) for number in jax.tree.leaves(built)]
        choices = (plain(cfg.method), plain(cfg.data), self.model, structure)
        return hashlib.sha256(repr(choices).encode()).hexdigest()[:8]


def prepare(cfg: RunConfig) -> Cell:
    """Build and check everything that can be known before computing.

    Raises ConfigError, or the ValueError of the part that does not fit: rules against layers, blocks against
    shapes, missing weights.
    """
    model, data = build(cfg.model), build(cfg.data)
    for part in (cfg.baseline, cfg.optim, cfg.tracker):
        build(part)
    weights = _weights_path(model.weights)
    layers = _geometry(model, data.shape, data.classes)
    rules = {}
    if cfg.method.name != Method.float:
        rules = assign(list(layers), build_rules(cfg))
        check_blocks(rules, layers)
        if cfg.method.name == Method.ptq:
            check_solvable(rules, build(cfg.ptq))
        if cfg.export.parity:
            _check_packable(rules, layers)
            if cfg.export.between != Between.float32:
                _check_graph(model, data, rules, layers)
    return Cell(cfg, model, data, normalise_for(data), rules, layers, weights)


def _check_packable(rules: Mapping[str, Rule], layers: Mapping[str, Geometry]) -> None:
    """Raise ValueError for a quantized layer without an integer form; an open sign is taken for the larger range."""
    for path, rule in rules.items():
        act, weight = (side and side.spec.with_sign(False) for side in (rule.act, rule.weight))
        if act or weight:
            check_packable(path, act, weight, layers[path])


def _check_graph(model: Any, data: Any, rules: Mapping[str, Rule], layers: Mapping[str, Geometry]) -> None:
    """Raise ValueError for a network that does what no graph says, and for inputs that are not rounded to integers of
    one scale. The network is traced with zeros for weights.
    """
    network = nnx.clone(abstract_network(model, data.shape, data.classes))
    nnx.update(network, jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), nnx.state(network)))
    trace(network, layers, data.shape)
    for path, rule in rules.items():
        if rule.act is not None:
            spec = rule.act.spec.with_sign(False)
            check_scaling(path, spec, rule.act.quantizer)
            check_form(spec, f"The input of layer {path!r}")


@functools.lru_cache(maxsize=64)
def abstract_network(model: Any, shape: tuple[int, ...], classes: int) -> nnx.Module:
    """The network in evaluation mode, without numbers in it; to be cloned before it is filled."""
    network = nnx.eval_shape(lambda: model.build(shape, classes, rngs=nnx.Rngs(0)))
    network.eval()
    return network


@functools.lru_cache(maxsize=64)
def _geometry(model: Any, shape: tuple[int, ...], classes: int) -> dict[str, Geometry]:
    return geometry(abstract_network(model, shape, classes), (1, *shape))


def _weights_path(weights: str | None) -> Path | None:
    """The checkpoint that `model.weights` names: a path, or a file of the data folder."""
    if weights is None:
        return None
    path = Path(weights).expanduser()
    found = path if path.is_file() else find_file(weights)
    if found is None:
        raise CheckpointError(
            f"model.weights={weights}: there is no such file, nor one of that name in {data_folder()} "
            f"(set {VARIABLE} for another folder). Two ways to it: train it, `qresearch run experiment=float_cifar10 "
            "model.weights=null`, and it is kept; or turn a public PyTorch checkpoint into it, "
            f"`qresearch import-torch FILE -o {data_folder() / path.name}`. "
            "model.weights=null trains a baseline for any run."
        )
    return found
