"""`qresearch table`: tables beside the published numbers, from the records at hand."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from rich.table import Table as Lines
from rich.text import Text

from qresearch.compose import Composer
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.replacing import replacing
from qresearch.reports.console import console
from qresearch.tables.cell import FAILED, TableError, TableView, counted
from qresearch.tables.exact_table import ExactTable
from qresearch.tables.file import UnknownTable, read_table, table_path, table_paths
from qresearch.tables.formats import FORMATS, SUFFIXES, console_parts
from qresearch.tables.planned_cells import Records, cells_of, find_records
from qresearch.tables.sweep_table import BUDGETS, SweepTable, UnknownBudget
from qresearch.tables.sweep_view import progress, sweep_view

DESCRIPTION = """Tables beside the published numbers.

  qresearch table               all tables, and how far each of them is
  qresearch table NAME          shows one, from the records below runs_dir
  qresearch table NAME run      runs the cells that it lacks, then shows it

NAME is a file of experiments/, or a path that ends in .yaml."""
RUN, RUNS_DIR = "run", "runs_dir="

Sweep = Callable[[list[list[str]], Path], None]  # runs the cells with these overrides, in a folder


class Request(NamedTuple):
    """A command line, read."""

    name: str | None
    run: bool
    budget: str | None
    form: str
    output: Path | None
    runs: Path


def main(arguments: list[str], sweep: Sweep) -> None:
    """List tables, show one, or run what it lacks; exits with 2 for a wrong command line and 1 for anything else."""
    request = _request(arguments)
    try:
        if request.name is None:
            _list(request.runs)
        else:
            _table(request.name, request, sweep)
    except (UnknownTable, UnknownBudget) as error:
        _exit(2, f"qresearch table: {error}")
    except (ValueError, OSError) as error:
        _exit(1, f"error: {error}")
    except KeyboardInterrupt:
        _exit(130, "interrupted: finished runs are kept, and the same command goes on.")


def _table(name: str, request: Request, sweep: Sweep) -> None:
    """Show one table; exits with 1 where it was to be run and a cell failed."""
    path = table_path(name)
    table = read_table(path)
    try:
        if isinstance(table, ExactTable):
            if request.budget:
                raise UnknownBudget(f"{name} is computed when it is shown, and has no budgets.")
            view = table.view()
        else:
            view = _swept(table, path.stem, request, sweep)
    except UnknownBudget:
        raise
    except ValueError as error:
        raise TableError(f"{path}: {error}") from error
    _show(view, request)
    if request.run and any(cell.word == FAILED for cell in view.cells):
        sys.exit(1)


def _request(arguments: list[str]) -> Request:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("qresearch table", description=DESCRIPTION, formatter_class=formatter)
    parser.add_argument("words", nargs="*", metavar=f"NAME | {RUN} | BUDGET | {RUNS_DIR}DIR", help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=FORMATS, help="default: as FILE is named, else console")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="write the table there")
    parser.usage = f"qresearch table [NAME [{RUN}] [{' | '.join(BUDGETS)}]] [{RUNS_DIR}DIR] [--format FORMAT] [-o FILE]"
    given = parser.parse_intermixed_args(arguments)
    for word in given.words:
        if "=" in word and not word.startswith(RUNS_DIR):
            parser.error(f"{word}: a table takes {RUNS_DIR}DIR alone; what its cells are is said in its file.")
    runs = [word.removeprefix(RUNS_DIR) for word in given.words if word.startswith(RUNS_DIR)]
    name, *rest = [word for word in given.words if not word.startswith(RUNS_DIR)] or [None]
    budgets = [word for word in rest if word != RUN]
    if len(budgets) > 1 or rest.count(RUN) > 1 or len(runs) > 1 or (name is None and (given.format or given.output)):
        parser.error(f"there is no table in {' '.join(arguments)!r}, or more than one of a kind.")
    if given.output and not given.format and given.output.suffix not in SUFFIXES:
        parser.error(f"-o {given.output}: the ending says no format; use {', '.join(SUFFIXES)}, or --format.")
    form = given.format or SUFFIXES.get(given.output.suffix if given.output else "", "console")
    folder = Path(runs[0] if runs else "runs").expanduser()
    return Request(name, RUN in rest, budgets[0] if budgets else None, form, given.output, folder)


def _swept(table: SweepTable, name: str, request: Request, sweep: Sweep) -> TableView:
    """The table of a budget, after running what is missing where that was asked for."""
    budget = table.budget(request.budget)
    table.check_published()
    cells = cells_of(table, budget, Composer.start(CONFIG_FOLDER))
    records = _records(request.runs)
    if request.run:
        overrides = {key: planned.overrides for planned, key in cells}
        missing = [overrides[key] for key in overrides if key not in records or records[key]["status"] == FAILED]
        print(f"{len(missing)} of {len(overrides)} runs to do (all take {budget.cost()})", file=sys.stderr)
        if missing:
            folder = request.runs / f"table_{name}"
            place = [f"{RUNS_DIR}{_quoted(str(request.runs))}", f"sweep.name={_quoted(folder.name)}"]
            sweep([[*cell, *place] for cell in missing], folder)
            records = _records(request.runs)
    return sweep_view(table, budget, [(planned, records.get(key)) for planned, key in cells])


def _records(runs: Path) -> Records:
    """The records at hand; those that cannot be read are told of."""
    records, bad = find_records(runs)
    for message in bad:
        print(f"unreadable: {message}", file=sys.stderr)
    return records


def _quoted(path: str) -> str:
    """A path as the value of an override."""
    if re.fullmatch(r"[\w./~-]+", path):
        return path
    return "'" + re.sub(r"(\\*)'", r"\1\1\'", path) + "'"


def _show(view: TableView, request: Request) -> None:
    if request.output is not None:
        with replacing(request.output) as stream:
            stream.write(FORMATS[request.form](view).encode())
        print(f"table: {request.output}")
    elif request.form == "console":
        for part in console_parts(view):
            console.print(part, soft_wrap=isinstance(part, Text))
    else:
        print(FORMATS[request.form](view), end="")


def _list(runs: Path) -> None:
    """Every table with its title and how far its cells are; one that cannot be read says why."""
    paths, records, composer = table_paths(), _records(runs), Composer.start(CONFIG_FOLDER)
    lines = Lines("table", "kind", "cells", "title", box=None, header_style="bold")
    broken = False
    for name, path in paths.items():
        kind, title = "", ""
        try:
            table = read_table(path)
            kind, title = table.kind, table.title
            states = _states(table, records, composer)
        except ValueError as error:
            states, broken = [f"error: {error}"], True
        lines.add_row(*(Text(text) for text in (name, kind, "\n".join(states), title)))
    console.print(lines)
    if broken:
        sys.exit(1)


def _states(table: ExactTable | SweepTable, records: Records, composer: Composer) -> list[str]:
    """How far a table is, a line for each budget."""
    if isinstance(table, ExactTable):
        return [counted(table.view().cells)]
    states = []
    for name, budget in table.budgets.items():
        runs = [(planned, records.get(key)) for planned, key in cells_of(table, budget, composer)]
        states.append(f"{name}: {progress(sweep_view(table, budget, runs).cells, runs)}")
    return states


def _exit(code: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)
