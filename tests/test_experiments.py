"""Every table of experiments/ is read and checked, the exact ones are computed. A new file is tested by existing."""

import itertools
import re

import hydra
import pytest

from qresearch.cells.cell import prepare
from qresearch.compose import Composer
from qresearch.config.check import check, config_hash
from qresearch.config.schema import CONFIG_FOLDER
from qresearch.data.source import data_folder
from qresearch.tables.exact_table import ExactTable
from qresearch.tables.file import TABLES_FOLDER, read_table, table_paths
from qresearch.tables.formats import FORMATS
from qresearch.tables.planned_cells import cells_of
from qresearch.tables.sweep_table import SweepTable
from qresearch.tables.sweep_view import sweep_view

TABLES = table_paths()
EXACT = [name for name, path in TABLES.items() if isinstance(read_table(path), ExactTable)]
SWEPT = [name for name in TABLES if name not in EXACT]


@pytest.fixture(scope="module")
def composer():
    return Composer.start(CONFIG_FOLDER)


def sweep_table(name) -> SweepTable:
    found = read_table(TABLES[name])
    assert isinstance(found, SweepTable)
    return found


def test_tables_of_a_checkout_are_its_own():
    assert CONFIG_FOLDER.parent / "experiments" == TABLES_FOLDER
    assert {"ptq_resnet20", "digits"} <= set(SWEPT) and len(EXACT) >= 5


@pytest.mark.parametrize("name", TABLES)
def test_every_file_starts_with_its_command_its_figures_and_its_cost(name):
    command, *rest = TABLES[name].read_text().splitlines()
    assert command.startswith(f"# qresearch table {name}")
    about = " ".join(itertools.takewhile(lambda line: line.startswith("# "), rest))
    assert any(character.isdigit() for character in about)
    assert "CPU" in about and ("minute" in about or "second" in about)


@pytest.mark.parametrize("name", EXACT)
def test_every_exact_table_has_its_reasons_where_it_is_outside_and_nowhere_else(name):
    found = read_table(TABLES[name])
    assert isinstance(found, ExactTable)
    view = found.view()
    outside = {(cell.row, cell.column) for cell in view.cells if cell.word == "outside"}
    assert outside == {(row, column) for row, line in (found.reasons or {}).items() for column in line}
    assert any(cell.word == "reproduced" for cell in view.cells) or outside
    assert all(form(view) for form in FORMATS.values())


@pytest.mark.parametrize("name", SWEPT)
def test_every_sweep_table_composes_in_every_budget_and_its_published_values_exist(name, composer):
    found = sweep_table(name)
    found.check_published()
    for budget in found.budgets.values():
        cells = cells_of(found, budget, composer)
        by_overrides = {tuple(planned.overrides): key for planned, key in cells}
        assert len(set(by_overrides.values())) == len(by_overrides)  # cells that are told apart are not the same run
        view = sweep_view(found, budget, [(planned, None) for planned, _ in cells])
        assert {cell.word for cell in view.cells} == {"not run"} and all(form(view) for form in FORMATS.values())


@pytest.mark.parametrize("name", SWEPT)
def test_every_sweep_table_is_ready_to_run(name, composer):
    found = sweep_table(name)
    for overrides in {tuple(planned.overrides) for planned in found.plan(found.budget(None))}:
        cfg = check(composer.compose(overrides))
        weights = cfg.model.get("weights")
        if weights and not (data_folder() / weights).is_file():
            pytest.skip(f"it needs {weights}")
        assert prepare(cfg).layers


def test_digits_are_the_cells_of_the_demo(composer):
    found = sweep_table("digits")
    planned = {key for _, key in cells_of(found, found.budgets["short"], composer)}
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        params = hydra.compose("config", ["experiment=demo"], return_hydra_config=True).hydra.sweeper.params
    axes = [[f"{key}={value}" for value in str(values).split(",")] for key, values in params.items()]
    cells = [composer.compose(["experiment=demo", *combination]) for combination in itertools.product(*axes)]
    assert planned == {config_hash(check(cell)) for cell in cells} and len(planned) == 48


def test_budgets_of_digits_share_their_runs(composer):
    found = sweep_table("digits")
    smoke, short, paper = ({key for _, key in cells_of(found, b, composer)} for b in found.budgets.values())
    assert smoke < short < paper


def test_the_two_reports_are_of_one_run(composer):
    found = sweep_table("ptq_resnet20")
    cells = cells_of(found, found.budgets["short"], composer)
    assert len(cells) == 6 and len({key for _, key in cells}) == 1
    assert str(found.published_of("ptq_resnet20 (PyTorch FX int8)", "W8A8 - float")) == "0.02"
    assert str(found.published_of("cvm-runtime (MRT int8)", "W8A8 - float")) == "-0.06"


def test_the_examples_of_the_page_are_tables(composer, tmp_path):
    page = (TABLES_FOLDER.parent / "docs" / "tables.md").read_text()
    kinds = []
    for number, example in enumerate(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example)
        found = read_table(path)
        kinds.append(found.kind)
        if isinstance(found, SweepTable):
            assert all(cells_of(found, budget, composer) for budget in found.budgets.values())
        else:
            assert {cell.word for cell in found.view().cells} == {"reproduced"}
    assert kinds == ["exact", "sweep"]
