"""The page is one file that fetches nothing, runs no script but its two, and says so to the browser; the command."""

import base64
import hashlib
import html.parser
import itertools
import json
import re
from importlib import resources

import pytest
from plotly.offline import get_plotlyjs

from qresearch.reports.report import SCRIPTS, STYLES, embedded, page
from qresearch.reports.report_command import main
from qresearch.store.record import write_json

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028'\"&amp;"


class Parts(html.parser.HTMLParser):
    """The tags of a page, and the texts of its scripts as a browser would take them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.title = [], [], ""
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        if self.inside == "title":
            self.title += data


def parts(title="runs", data='{"rows":[]}', curves=None):
    return Parts(page(title=title, data=data, curves=curves))


def policy(found):
    (meta,) = [attributes for tag, attributes in found.tags if attributes.get("http-equiv")]
    return dict(rule.strip().split(" ", 1) for rule in meta["content"].split(";"))


def test_nothing_is_fetched():
    found = parts(curves={})
    fetching = [
        (tag, key, value)
        for tag, attributes in found.tags
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert all(value.startswith(("#", "data:")) for _, _, value in fetching)
    style = resources.files("qresearch.reports").joinpath("page")
    assert not any("url(" in style.joinpath(f"{name}.css").read_text() for name in STYLES)


def test_the_policy_allows_the_two_scripts_and_no_connection():
    found = parts(curves={})
    rules = policy(found)
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'none'"
    run = [text for attributes, text in found.scripts if attributes.get("type") != "application/json"]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run]
    assert rules["script-src"].split() == [*hashes, "'unsafe-eval'"]
    assert run[0] == get_plotlyjs()


def test_a_live_page_may_ask_its_own_server_alone():
    assert policy(parts(curves=None))["connect-src"] == "'self'"


def test_plotly_offers_no_upload():
    """Its default is a button that sends the chart to a service of its makers."""
    script = resources.files("qresearch.reports").joinpath("page", "figure.js").read_text()
    assert "showSendToCloud: false" in script and 'plotlyServerURL: ""' in script


def test_every_script_and_style_of_the_folder_is_in_the_page():
    folder = resources.files("qresearch.reports").joinpath("page")
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.js" for name in SCRIPTS} | {f"{name}.css" for name in STYLES} | {"page.html"}
    (*_, (_, own)) = parts(curves={}).scripts
    assert all(folder.joinpath(f"{name}.js").read_text() in own for name in SCRIPTS)


def test_no_name_is_declared_by_two_scripts():
    """They share one scope."""
    (*_, (_, own)) = parts(curves={}).scripts
    names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", own, flags=re.MULTILINE)
    assert len(names) > 150 and len(names) == len(set(names))


def test_every_element_that_a_script_asks_for_is_in_the_page():
    found = parts(curves={})
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    (*_, (_, own)) = found.scripts
    asked = set(re.findall(r"""(?:byId|choice|chosenColumn|figure)\("([\w-]+)""", own))
    assert len(asked) > 50 and asked <= set(ids)


def test_labels_and_headings():
    """Every select and field has a label, every section a name, and headings go down one step at a time."""
    found = parts(curves={})
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
    sections = [attributes for tag, attributes in found.tags if tag == "section"]
    assert all("aria-labelledby" in attributes or "aria-label" in attributes for attributes in sections)
    text = resources.files("qresearch.reports").joinpath("page", "page.html").read_text()
    fields = len(re.findall(r"<(?:select|input)\b", text))
    assert fields == len(re.findall(r"<label>[^<]*<(?:select|input)\b", text)) > 10


def test_hostile_texts_stay_texts():
    data = json.dumps({"rows": [HOSTILE]})
    found = parts(title=HOSTILE, data=data, curves={"runs": {HOSTILE: {}}})
    assert found.title == HOSTILE
    held = [text for attributes, text in found.scripts if attributes.get("type") == "application/json"]
    assert [json.loads(text) for text in held] == [json.loads(data), {"runs": {HOSTILE: {}}}]
    assert len(found.scripts) == 4
    assert not any(attributes.get("onerror") for _, attributes in found.tags)


def test_places_in_texts_are_not_filled():
    data = json.dumps({"rows": ["{{style}}", "{{plotly}}"]})
    found = parts(title="{{script}}", data=data, curves={})
    assert found.title == "{{script}}" and json.loads(found.scripts[1][1])["rows"] == ["{{style}}", "{{plotly}}"]


@pytest.mark.parametrize("text", ["</script>", "<!--", "-->", "]]>", "&lt;"])
def test_embedded_text_has_no_character_that_html_knows(text):
    found = embedded(json.dumps(text))
    assert not set("<>&") & set(found) and json.loads(found) == text


def record(seed, **changes):
    return {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {"weight": {"bits": 4}, "seed": seed},
        "config_hash": f"{seed:012}",
        "overrides": [f"seed={seed}"],
        "group": "0a1b2c3d",
        "metrics": {"top1": 90.0 + seed},
        "layers": [],
        "environment": {},
        "finished_at": "2026-11-23T12:00:00+00:00",
    } | changes


def written(path):
    found = Parts(path.read_text())
    (data, curves) = [text for attributes, text in found.scripts if attributes.get("type") == "application/json"]
    return json.loads(data), json.loads(curves)


def test_the_command_writes_the_page_beside_the_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        write_json(tmp_path / "runs" / "sweep" / str(seed) / "result.json", record(seed))
    write_json(tmp_path / "runs" / "sweep" / "0" / "curves.json", {"qat": [{"step": 1, "loss": 2.5}]})
    main(["runs/sweep"])
    out, err = capsys.readouterr()
    assert re.fullmatch(r"report: runs/sweep/report\.html \(2 runs, \d\.\d MB\)\n", out) and err == ""
    data, curves = written(tmp_path / "runs" / "sweep" / "report.html")
    assert (data["title"], data["folder"], data["live"], data["whole"]) == ("sweep", "runs/sweep", False, True)
    assert [row[0] for row in data["rows"]] == ["0/result.json", "1/result.json"]
    assert curves == {"series": [{"step": [1], "loss": [2.5]}], "runs": {"0/result.json": {"qat": 0}}}
    assert [path.name for path in (tmp_path / "runs" / "sweep").glob("*.part")] == []


def test_the_default_folder_and_another_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "runs" / "sweep" / "0" / "result.json", record(0))
    main(["-o", "out/page.html"])
    assert capsys.readouterr().out.startswith("report: out/page.html (1 run")
    assert written(tmp_path / "out" / "page.html")[0]["rows"][0][0] == "sweep/0/result.json"


def test_records_that_cannot_be_read_are_named_and_the_others_shown(tmp_path, capsys):
    write_json(tmp_path / "good" / "result.json", record(0))
    for index in range(7):
        (tmp_path / f"bad{index}").mkdir()
        (tmp_path / f"bad{index}" / "result.json").write_text("{")
    main([str(tmp_path)])
    out, err = capsys.readouterr()
    assert "(1 run" in out
    lines = err.splitlines()
    assert len(lines) == 6 and all(line.startswith("left out: ") for line in lines)
    assert "bad0" in lines[0] and lines[-1] == "left out: 2 more; the page lists them."
    assert len(written(tmp_path / "report.html")[0]["bad"]) == 7
    assert (tmp_path / "bad0" / "result.json").read_text() == "{"


@pytest.mark.parametrize("make", [True, False], ids=["empty", "missing"])
def test_a_folder_without_records_is_one_message(make, tmp_path, capsys):
    folder = tmp_path / "runs"
    if make:
        folder.mkdir()
    with pytest.raises(SystemExit) as caught:
        main([str(folder)])
    assert isinstance(caught.value.code, str) and caught.value.code.startswith("error: ")
    assert str(folder) in caught.value.code and "\n" not in caught.value.code
    assert not (folder / "report.html").exists()


def test_a_place_that_cannot_be_written_is_one_message(tmp_path):
    write_json(tmp_path / "runs" / "0" / "result.json", record(0))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "runs"), "-o", str(tmp_path / "file" / "page.html")])
    assert isinstance(caught.value.code, str) and str(tmp_path / "file") in caught.value.code


def test_a_wrong_command_line_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--bits", "4"])
    assert caught.value.code == 2
    assert "--bits" in capsys.readouterr().err
