"""`qresearch methods`: everything that a tensor can be quantized with, found by walking the folders of configs/.

A method is a yaml that names a class or a function; its summary is the yaml's first line, its paper the first
citation among the yaml's comments or else in the file of the code.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from rich.table import Table

from qresearch.config.schema import CONFIG_FOLDER
from qresearch.reports.console import console

# The folders of methods, what each holds, and how one of them is chosen.
GROUPS = {
    "format": ("grids", "format@weight=NAME, format@act=NAME, format@grad=NAME"),
    "estimator": ("gradient estimators", "estimator@weight.estimator=NAME, estimator@act.estimator=NAME"),
    "quantizer": ("quantizers", "quantizer@weight.quantizer=NAME, quantizer@act.quantizer=NAME"),
    "observer": ("observers", "observer@weight.observer=NAME, observer@act.observer=NAME"),
    "ptq": ("PTQ methods", "ptq=NAME"),
}
# Authors, "Title", venue and year, and where it is there the arXiv number.
NAME = r"[A-Z][\w'\-]+"
CITATION = re.compile(
    rf"({NAME})((?:,? and {NAME}|, {NAME})*(?:,? et al\.)?), "  # authors
    r'"[^"]+"(?: \([^)]*\))?,[^"]*?\b((?:19|20)\d\d)(, arXiv:[\d.]+\d)?'  # title, venue, year, number
)


class MethodEntry(NamedTuple):
    """One line of the list."""

    group: str
    name: str
    target: str  # the class or function, with its module
    summary: str
    paper: str  # "" where the file cites none


def methods(folder: Path = CONFIG_FOLDER) -> list[MethodEntry]:
    """Every method of every group, in the order of groups and names."""
    return [_entry(group, path) for group in GROUPS for path in sorted((folder / group).glob("*.yaml"))]


def show_methods() -> None:
    """Print them, a table for each group."""
    found = methods()
    for group, (title, choice) in GROUPS.items():
        table = Table(title=f"{title}  ({choice})", box=None, title_justify="left", header_style="bold")
        table.add_column("name", no_wrap=True)
        table.add_column("what it is")
        table.add_column("paper", no_wrap=True)
        for entry in found:
            if entry.group == group:
                table.add_row(entry.name, entry.summary, entry.paper or "-")
        console.print(table, highlight=False, markup=False)
        console.print()


def _entry(group: str, path: Path) -> MethodEntry:
    text = path.read_text()
    content: Any = OmegaConf.load(path)
    node = content["grid"] if group == "format" else content
    module, _, name = node["_target_"].rpartition(".")
    comments = "\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    summary = (comments or inspect.getdoc(getattr(importlib.import_module(module), name)) or "-").splitlines()[0]
    cited = paper(comments)
    if not cited and content.get("bits", 0) is not None:  # bits: null names a grid and does not use it
        cited = paper(inspect.getdoc(importlib.import_module(module)) or "")
    return MethodEntry(group, path.stem, f"{module}.{name}", summary, cited)


def paper(docstring: str) -> str:
    """The first citation of a docstring as "First author et al. YEAR, arXiv:NUMBER"; "" where there is none."""
    found = CITATION.search(" ".join(docstring.split()))
    if found is None:
        return ""
    first, others, year, number = found.groups()
    return f"{first}{' et al.' if others else ''} {year}{number or ''}"
