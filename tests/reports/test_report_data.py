"""What the page is told: rows that give the records back, numbers that stay, and a size that stays small."""

import base64
import json

import numpy as np
import pytest

from qresearch.reports.report_data import RunTable, document, settings

MACHINE = {"device": "cpu", "git_commit": "0123456789", "git_dirty": False, "versions": {"jax": "0.10"}}
LAYERS = {
    "conv1": {
        "weight": {"sqnr_db": 20.126, "mse_clip": 1.0, "mse_round": 3.0},
        "input": {"sqnr_db": None, "mse_clip": 0.0, "mse_round": 0.0},
        "output": {"sqnr_db": -3.0, "mse_clip": None, "mse_round": None},
    },
    "linear": {"weight": {"sqnr_db": 1e9, "mse_clip": 0.0, "mse_round": 1e-3}},
}


def indexed_record(name, config, **changes):
    """A record as the index gives it."""
    return {
        "path": f"sweep/{name}/result.json",
        "status": "finished",
        "message": None,
        "config_hash": name,
        "group": "0a1b2c3d",
        "overrides": [f"{key}={value}" for key, value in config.items()],
        "finished_at": "2026-11-23T12:00:00+00:00",
        "config": {"model": "cnn", **config},
        "metrics": {"top1": 96.29629629629629, "size_bytes": 5548},
        "layers": {},
        "environment": MACHINE,
    } | changes


def read(table):
    """The records of a table by path, as the page reads them: values in the place of their numbers."""
    head, found = json.loads(json.dumps(table.head)), {}
    for text in table.rows.values():
        path, status, message, digest, group, overrides, finished, machine, codes, metrics, network, sqnr, clip = (
            json.loads(text)
        )
        config = {
            key: values[code]
            for key, values, code in zip(head["keys"], head["values"], codes, strict=True)
            if code >= 0
        }
        found[path] = {
            "status": status,
            "message": message,
            "config_hash": digest,
            "group": group,
            "overrides": overrides,
            "finished_at": finished,
            "environment": head["machines"][machine],
            "config": head["constant"] | config,
            "metrics": {name: v for name, v in zip(head["metrics"], metrics, strict=False) if v is not None},
            "layers": head["networks"][network],
            "sqnr": np.frombuffer(base64.b64decode(sqnr), "<i2"),
            "clip": np.frombuffer(base64.b64decode(clip), np.uint8),
        }
    return found


def table_of(records):
    table = RunTable()
    table.update(records)
    return table


def test_a_row_gives_its_record_back():
    records = [
        indexed_record("a", {"weight.bits": 8, "seed": 0, "block": [32, 16]}),
        indexed_record("b", {"weight.bits": None, "seed": 1, "block": None}, status="diverged", message="lower it"),
    ]
    found = read(table_of(records))
    for record in records:
        row = found[record["path"]]
        told = ("status", "message", "config_hash", "group", "overrides", "finished_at", "environment", "config")
        assert {name: row[name] for name in told} == {name: record[name] for name in told}
        assert row["metrics"] == {"top1": 96.2963, "size_bytes": 5548}  # six digits are shown anywhere


def test_keys_that_all_share_are_told_once():
    table = table_of([indexed_record(str(bits), {"weight.bits": bits, "act.bits": 8}) for bits in (8, 4)])
    assert table.head["constant"] == {"model": "cnn", "act.bits": 8}
    assert (table.head["keys"], table.head["values"]) == (["weight.bits"], [[8, 4]])


@pytest.mark.parametrize(
    ("values", "differ"),
    [([8, 8.0], False), ([1, True], True), ([0, None], True), (["1", 1], True), ([[1], [1]], False), ([[1], 1], True)],
)
def test_which_values_differ(values, differ):
    table = table_of([indexed_record(str(index), {"key": value}) for index, value in enumerate(values)])
    assert table.head["keys"] == (["key"] if differ else [])


def test_a_key_that_some_lack_differs_and_is_lacking_in_their_rows():
    table = table_of([indexed_record("a", {}), indexed_record("b", {"new": None})])
    assert table.head["keys"] == ["new"]
    found = read(table)
    assert "new" not in found["sweep/a/result.json"]["config"]
    assert found["sweep/b/result.json"]["config"]["new"] is None


def test_layers_are_kept_to_a_hundredth_of_a_decibel_and_a_250th_of_the_error():
    (row,) = read(table_of([indexed_record("a", {}, layers=LAYERS)])).values()
    assert row["layers"] == ["conv1", "linear"]
    assert list(row["sqnr"]) == [2013, -32768, -300, 32767, -32768, -32768]  # none, and what is too large
    assert list(row["clip"]) == [round(250 / 4), 255, 0, 255]


@pytest.mark.parametrize("number", [float("inf"), float("nan"), "20", None, [20.0]], ids=str)
def test_a_layer_without_a_number_is_none_and_no_error(number):
    tensor = {"sqnr_db": number, "mse_clip": number, "mse_round": 1.0}
    (row,) = read(table_of([indexed_record("a", {}, layers={"conv1": {"weight": tensor}})])).values()
    assert row["sqnr"][0] == -32768 and row["clip"][0] == 255


def test_networks_of_other_layers_have_their_own_number():
    other = {"blocks.0": {"weight": {"sqnr_db": 5.0, "mse_clip": 1.0, "mse_round": 1.0}}}
    records = [indexed_record("a", {}, layers=LAYERS), indexed_record("b", {}, layers=other), indexed_record("c", {})]
    found = read(table_of(records))
    assert [row["layers"] for row in found.values()] == [["conv1", "linear"], ["blocks.0"], []]
    assert [len(row["sqnr"]) for row in found.values()] == [6, 3, 0]


def test_a_value_that_json_does_not_know_is_told_in_words():
    table = table_of([indexed_record(str(rate), {"rate": rate, "limit": float("inf")}) for rate in (1.0, float("inf"))])
    assert table.head["values"] == [[1.0, "inf"]] and table.head["constant"]["limit"] == "inf"


def test_a_failed_cell_is_told_by_its_own_values_and_makes_no_key_differ():
    """Its configuration is as it was given: without the defaults of the others, with references in it."""
    sound = [indexed_record(str(bits), {"weight.bits": bits, "act.bits": bits, "default": 1}) for bits in (8, 4)]
    given = {"weight.bits": 17, "act.bits": "${weight.bits}", "other": "${no.such}"}
    lost = indexed_record("c", given, status="failed", group=None, metrics={}, message="17 bits")
    table = table_of([*sound, lost])
    assert table.head["keys"] == ["weight.bits", "act.bits"]
    assert json.loads(table.rows[lost["path"]])[8] == [2, 2]
    assert [values[2] for values in table.head["values"]] == [17, 17]


def test_failed_cells_alone_are_told_apart_too():
    failed = [indexed_record(str(bits), {"bits": bits}, status="failed", metrics={}) for bits in (17, 18)]
    assert table_of(failed).head["values"] == [[17, 18]]


def test_what_has_a_number_keeps_it_when_records_come_and_go():
    def at(bits, **metrics):
        return indexed_record(str(bits), {"weight.bits": bits}, metrics=metrics)

    table = table_of([at(8, top1=1.0), at(4, top1=2.0)])
    before = dict(table.rows)
    table.update([at(8, top1=1.0), at(2, top1=3.0, loss=0.5)])
    assert table.rows["sweep/8/result.json"] == before["sweep/8/result.json"]
    assert table.head["values"] == [[8, 4, 2]] and table.head["metrics"] == ["top1", "loss"]
    assert set(table.rows) == {"sweep/8/result.json", "sweep/2/result.json"}


def test_nothing_is_a_table_too():
    table = table_of([])
    assert table.rows == {} and table.head["keys"] == [] and table.head["constant"] == {}


def test_settings_are_what_seeds_share():
    cells = [(bits, seed) for bits in (8, 4) for seed in (0, 1, 2)]
    records = [indexed_record(f"{bits}{seed}", {"weight.bits": bits, "seed": seed}) for bits, seed in cells]
    records[0]["config"]["tracker._target_"] = "NoTracker"  # changes no number
    records[5]["status"] = "failed"
    assert [len(group) for group in settings(records).values()] == [3, 2]


def test_a_document_holds_the_rows():
    table = table_of([indexed_record("a", {"text": "</script>"}), indexed_record("b", {"text": "\u2028"})])
    text = document({"title": "runs", "head": table.head}, table.rows.values())
    assert text.isascii()
    found = json.loads(text)
    assert found["title"] == "runs" and [row[0] for row in found["rows"]] == list(table.rows)
    assert found["head"]["values"] == [["</script>", "\u2028"]]


def test_a_record_of_a_resnet20_takes_less_than_a_kilobyte():
    tensors = {
        name: {"sqnr_db": 31.4159, "mse_clip": 1e-7, "mse_round": 3e-6} for name in ("weight", "input", "output")
    }
    layers = {f"blocks.{index}.conv": tensors for index in range(22)}
    metrics = {f"metric_{index}": 12345.678901 for index in range(20)}
    table = table_of([indexed_record("a" * 12, {"seed": s}, layers=layers, metrics=metrics) for s in (0, 1)])
    assert len(next(iter(table.rows.values()))) < 1000
