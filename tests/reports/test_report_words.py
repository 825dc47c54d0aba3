"""What the page calls things: columns that say what they are, labels that tell settings apart, notes that apply."""

import itertools
import re

import pytest

from qresearch.reports.curves import COLOURS
from qresearch.reports.report_command import write_report

METHODS, BITS, GRANULARITIES = ("ptq", "qat"), (8, 4, 3, 2), ("channel", "tensor")
FILES = [f"a_network_of_fifty_layers_from_run_{run}_after_two_hundred_epochs.safetensors" for run in ("one", "two")]
MEAN, WORST = {8: 46.0, 4: 37.0, 3: 35.0, 2: 30.0}, {8: 43.0, 4: 18.0, 3: 11.0, 2: 0.5}


def config(method="ptq", bits=8, granularity="channel", seed=0, **more):
    weight = {"bits": bits, "granularity": granularity}
    return {"method": {"name": method}, "weight": weight, "model": {"width": 16}, "seed": seed} | more


@pytest.fixture(scope="module")
def many(open_page, write_cell, tmp_path_factory):
    """A page over three sweeps, whose keys are not the same."""
    folder = tmp_path_factory.mktemp("many") / "runs"

    def put(name, top1, **given):
        found = config(**given)
        bits = given.get("bits", 8)
        metrics = {"top1": top1, "top1_float": 96.5 + found["seed"], "test_images": 297, "seconds": 1.5}
        metrics |= {"sqnr_weight_db": MEAN[bits], "sqnr_weight_db_min": WORST[bits] + 0.1 * found["seed"]}
        metrics |= {"size_bytes": 500 * bits, "size_bytes_float": 16000, "bitops": 83264 * bits * bits}
        write_cell(folder, name, found["method"]["name"], bits, found["seed"], config=found, metrics=metrics)

    points = itertools.product(METHODS, BITS, GRANULARITIES, (0, 1))
    for index, (method, bits, granularity, seed) in enumerate(points):
        top1 = (12.35 if (method, bits) == ("ptq", 2) else 80.0 + bits) + (3 if method == "ptq" else 4) * seed
        put(f"grid/{index:02}", top1, method=method, bits=bits, granularity=granularity, seed=seed)
    for index, percentile in enumerate((99.0, 99.9, 99.99)):
        put(f"percentiles/{index}", 90.0 + index, act={"observer": {"percentile": percentile}})
    for index, name in enumerate(FILES):
        put(f"files/{index}", 91.0 + index, model={"weights": name})
    write_report(folder, folder / "report.html")
    return open_page((folder / "report.html").as_uri())


@pytest.fixture
def page(many):
    many.ask("change({sweep: null, picks: [], mode: null, choices: {}, filters: {}, sort: null, more: []})")
    yield many
    assert many.complaints == []


def pick(seen, *records):
    for path in records:
        seen.page.locator(f'tr[data-path="{path}/result.json"] input').check()


def test_the_weights_of_the_worst_layer_are_the_column_and_the_row(page):
    page.page.select_option("#sweep", "grid")
    heads = page.texts("#table-head th")
    assert "worst SQNR w dB" in heads and not any("mean" in head for head in heads)
    row = page.page.locator('tr[data-path="grid/12/result.json"]')  # ptq, 2 bits: destroyed, whatever the mean says
    assert row.locator('[data-column="metric:sqnr_weight_db_min"]').inner_text().startswith("0.6 ±")
    assert row.locator('[data-column="metric:sqnr_weight_db"]').count() == 0
    pick(page, "grid/28", "grid/12")
    rows = page.texts(".compare tbody tr:visible th")
    assert "worst SQNR w dB" in rows and not any("mean" in name for name in rows)
    names = page.ask("parallelAxes().map((axis) => axis.column.name)")
    assert "sqnr_weight_db_min" in names and "sqnr_weight_db" not in names
    page.page.get_by_role("button", name="All numbers").click()
    assert "mean SQNR w dB" in page.texts(".compare tbody tr:visible th")


def test_every_header_says_what_it_is(page):
    titles = "(css) => [...document.querySelectorAll(css)].map((e) => [e.innerText.trim(), e.title])"
    for mode in ("#mode-settings", "#mode-runs"):
        page.page.click(mode)
        heads = dict(page.ask(titles, "#table-head th"))
        assert len(heads) > 10 and all(len(title) > 20 for title in heads.values())
        assert "dB" in heads["worst SQNR w dB"] and "worst layer" in heads["worst SQNR w dB"]
        assert "1,000 bytes" in heads["size kB"] and "in seconds" in heads["seconds"]
        assert ("Mean over the finished seeds" in heads["worst SQNR w dB"]) == (mode == "#mode-settings")
        told = page.ask("[...document.querySelectorAll('#table-head button')].map((e) => e.ariaDescription)")
        assert told and all(told)
    page.page.click("#mode-settings")
    assert all(title for _, title in page.ask(titles, ".compare th"))
    page.page.get_by_text("What the columns say").click()
    assert page.page.locator("#table-columns dt").count() == page.page.locator("#table-head th").count() - 1
    page.page.get_by_text("What the columns say").click()


def test_the_mean_says_which_layers_it_is_over(page):
    assert "all quantized layers" in page.ask("columns.get('metric:sqnr_weight_db').says")


def test_no_two_labels_are_the_same_and_none_is_cut(page):
    labels = page.ask("view.every.map((setting) => labelOf(setting.first))")
    assert len(labels) == 21 == len(set(labels))
    assert not any("–" in label or "…" in label for label in labels)
    assert "ptq, weight.bits 8, channel, act.observer.percentile 99.9" in labels
    assert "qat, weight.bits 3, tensor" in labels  # nothing of the keys that it has not, or that most have
    assert all(any(name in label for label in labels) for name in FILES)
    assert page.texts("#usual") == ["Names leave out what most settings have: model.width 16."]
    full = page.ask("view.every.map((setting) => fullLabel(setting.first))")
    assert "qat, weight.bits 3, tensor, width 16" in full


def test_no_two_entries_of_a_legend_are_the_same_and_none_is_cut(page):
    page.draw("plot-accuracy")
    names = page.ask("document.querySelector('#plot-accuracy').data.filter((t) => t.error_y).map((t) => t.name)")
    assert len(names) > 6 and len(names) == len(set(names))
    assert not any("–" in name or "…" in name for name in names)
    titles = page.ask("[...document.querySelectorAll('#plot-accuracy .legend title')].map((e) => e.textContent)")
    assert len(titles) == len(names) and "ptq, channel, width 16, act.observer.percentile 99.9" in titles


def test_texts_are_cut_where_they_stay_apart(page):
    texts = [*FILES, "x" * 50 + "y"]
    cut = page.ask("(texts) => [...distinct(texts, 40).values()]", texts)
    assert cut[:2] == FILES and len(cut[2]) == 40 and "…" in cut[2]


def test_colours_go_by_method_and_granularity_as_in_the_picture_of_the_demo(page):
    page.page.select_option("#sweep", "grid")
    page.draw("plot-accuracy")
    traces = "document.querySelector('#plot-accuracy').data.filter((t) => t.error_y)"
    found = page.ask(f"{traces}.map((t) => [t.name, t.marker.color])")
    lines = ["ptq, tensor", "ptq, channel", "qat, tensor", "qat, channel"]
    assert found == [[name, colour] for name, colour in zip(lines, COLOURS, strict=False)]


def test_notes_on_intervals_and_tests_stand_where_there_are_some(page):
    note = page.page.locator("#table-note")
    assert "95 %" in note.inner_text()
    pick(page, "grid/28", "grid/12")
    assert page.texts(".compare thead th") == ["metric", "A", "B", "B − A", "p"]
    assert all(words in page.texts("#compare-note")[0] for words in ("95 %", "A pair is", "paired t test"))
    page.ask("change({picks: []})")
    page.page.click("#mode-runs")
    assert "95 %" not in note.inner_text()
    pick(page, "grid/00", "percentiles/0")  # one seed: a pair, and no test
    assert page.texts(".compare thead th") == ["metric", "A", "B", "B − A"]
    assert page.texts("#compare-note") == ["A pair is two runs with one seed, from one float network."]
    page.ask("change({picks: []})")
    pick(page, "grid/01", "percentiles/0")  # other float networks
    assert page.texts(".compare thead th") == ["metric", "A", "B"] and page.texts("#compare-note") == [""]


def test_training_says_how_many_settings_are_shown_and_how_others_are(page):
    page.draw("plot-training")
    (note,) = page.texts("#note-training")
    assert note.startswith("6 of 8 settings: ") and "Pick rows of the table (6 at most) to see others." in note
    pick(page, "grid/16")
    page.draw("plot-training")
    assert page.texts("#note-training")[0].startswith("The 1 row picked in the table")


def test_times_have_one_form_and_a_zone(page):
    form = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert re.search(f"last ended {form}", page.texts("#origin")[0])
    page.page.click("#mode-runs")
    page.ask("change({more: ['finished']})")
    assert {bool(re.fullmatch(form, text)) for text in page.column("finished")} == {True}
    assert page.ask("timeInWords('2026-11-23T23:10:45+02:00')") == "2026-11-23 21:10 UTC"
    assert page.ask("[timeInWords(null), timeInWords('soon')]") == ["–", "soon"]
