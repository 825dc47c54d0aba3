"""Tables by their names: one yaml each in experiments/, with a dataclass behind its `_target_`."""

from pathlib import Path
from typing import Any

import omegaconf
import yaml
from omegaconf import OmegaConf

from qresearch.tables.cell import TableError
from qresearch.tables.exact_table import ExactTable
from qresearch.tables.sweep_table import SweepTable

PACKAGED = Path(__file__).parents[1] / "experiments"
TABLES_FOLDER = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[2] / "experiments"
KINDS = {f"{kind.__module__}.{kind.__name__}": kind for kind in (ExactTable, SweepTable)}

Table = ExactTable | SweepTable


class UnknownTable(TableError):
    """A name that no table has."""


def table_paths() -> dict[str, Path]:
    """The files of all tables, by name."""
    return {path.stem: path for path in sorted(TABLES_FOLDER.glob("*.yaml"))}


def table_path(name: str) -> Path:
    """The file of a table: one of experiments/ by its name, or any other by a path that ends in .yaml.

    Raises UnknownTable with the names that there are.
    """
    path = Path(name).expanduser() if name.endswith(".yaml") else table_paths().get(name)
    if path is None or not path.is_file():
        raise UnknownTable(f"{name!r} is no table; there are {', '.join(table_paths())}, or name a yaml file.")
    return path


def read_table(path: Path) -> Table:
    """The table of a file, its keys and types checked.

    Raises TableError with the file, the key and the rule.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TableError(f"{path}: it is no yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or content.get("_target_") not in KINDS:
        raise TableError(f"{path}: _target_ must be one of {', '.join(KINDS)}.")
    kind = KINDS[content.pop("_target_")]
    keys = ", ".join(OmegaConf.structured(kind))
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), _literal(content)))  # type: ignore
    except omegaconf.errors.OmegaConfBaseException as error:
        where = f"{error.full_key}: " if error.full_key else ""
        message = str(error).splitlines()[0]
        raise TableError(f"{path}: {where}{message.rstrip('.')}. {kind.__name__} has the keys {keys}.") from error
    except ValueError as error:
        raise TableError(f"{path}: {error}") from error


def _literal(node: Any) -> Any:
    """The same with `${` escaped: it belongs to the configurations of the cells, not to the table."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    return node.replace("${", r"\${") if isinstance(node, str) else node
