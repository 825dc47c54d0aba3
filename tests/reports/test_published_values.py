"""The file of published values: its shape, what it says of its sources, and what a wrong entry is told."""

import dataclasses
from copy import deepcopy
from typing import Any

import pytest
from omegaconf import OmegaConf

from qresearch.reports.published import FILE, TIERS, Published, problems, published

CONTENT: Any = OmegaConf.to_container(OmegaConf.load(FILE))
IDS = [entry["id"] for entry in CONTENT]


def test_the_file_has_no_faults():
    assert problems(CONTENT) == []
    assert len(IDS) >= 9


@pytest.mark.parametrize("id", IDS)
def test_every_entry_says_where_its_values_are_from(id):
    entry = published(id)
    assert isinstance(entry, Published) and entry.id == id
    assert entry.paper and entry.authors and entry.source and entry.notes and entry.metric
    assert 1900 < entry.year < 2100 and entry.tier in TIERS
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.year = 1  # type: ignore


def test_printed_digits_are_kept():
    assert published("max1960_gaussian").values["levels: y1"]["N = 2"] == "0.7980"
    assert published("sawb_coeff").values["4 bits"] == {"c1": "12.68", "c2": "-12.80"}
    assert published("akamaster_fp").values["ResNet-44"]["this implementation"] == "6.90"
    assert published("aciq_alpha").values["7 bits"]["gaussian, solved"] == "3.61511460"


def test_what_others_computed_is_not_called_published():
    """The one entry of computed quantizers says so; ACIQ's has the authors' numbers alone."""
    assert published("gaussian_quantizers").tier == "computed"
    assert "Not published values" in published("gaussian_quantizers").notes
    columns = {column for line in published("aciq_alpha").values.values() for column in line}
    assert not any("computed" in column for column in columns)


def test_an_unknown_id():
    with pytest.raises(
        ValueError, match=r"^published=max1961: published.yaml has no such entry; there are aciq_alpha, "
    ):
        published("max1961")


def broken(**changes):
    content = deepcopy(CONTENT[:2])
    content[0].update(changes)
    return problems(content)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": IDS[1]}, f"id {IDS[1]} is there more than once."),
        ({"tier": "hearsay"}, f"{IDS[0]}: tier='hearsay' is none of primary, secondary, user-report, computed."),
        ({"year": "1960"}, f"{IDS[0]}: year='1960' is not a year."),
        ({"arxiv": 1810.05723}, f"{IDS[0]}: arxiv=1810.05723 is not a string."),
        ({"values": {}}, f"{IDS[0]}: values has no rows."),
        ({"values": {"a": {}}}, f"{IDS[0]}: row 'a' has no columns."),
        ({"values": {"a": None}}, f"{IDS[0]}: row 'a' has no columns."),
        ({"values": {"a": {"b": 1.5}}}, f"{IDS[0]}: a, b: 1.5 is not a number in quotes."),
        ({"values": {"a": {"b": "~1"}}}, f"{IDS[0]}: a, b: '~1' is not a number in quotes."),
        ({"values": {"a": {"b": "nan"}}}, f"{IDS[0]}: a, b: 'nan' is not a number in quotes."),
        ({"values": {2: {"b": "1"}}}, f"{IDS[0]}: 2: names of rows and columns are strings."),
        ({"comment": "?"}, f"{IDS[0]}: keys missing: [], unknown: ['comment']."),
    ],
)
def test_faults_are_found(changes, fault):
    assert broken(**changes) == [fault]


def test_missing_keys_and_other_shapes():
    content = deepcopy(CONTENT[:1])
    del content[0]["source"], content[0]["notes"]
    assert problems(content) == [f"{IDS[0]}: keys missing: ['notes', 'source'], unknown: []."]
    assert problems({"a": 1}) == problems(["a"]) == ["the file is not a list of entries."]
