"""The live page in a real browser: it takes in what is new and keeps what the reader chose."""

import re
import threading

import pytest

from qresearch.reports.dashboard import Dashboard
from qresearch.reports.live_folder import LiveFolder


@pytest.fixture
def live(write_cells, tmp_path):
    folder = tmp_path / "runs"
    write_cells(folder / "sweep")
    source = LiveFolder(folder)
    server = Dashboard(source, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, source, server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_live_page_takes_in_what_is_new_and_keeps_what_the_reader_chose(open_page, write_cell, live):
    folder, source, server = live
    seen = open_page(server.address)
    seen.page.get_by_text("Reading the records").wait_for()
    source.refresh()
    seen.ask("takeNews()")
    assert seen.texts("#shown") == ["26 of 26 runs shown"]
    seen.page.click("#mode-runs")
    seen.page.get_by_role("button", name="weight.bits", exact=True).click()
    seen.page.locator("#table-body input").nth(3).check()
    seen.ask("setFilter('config:method.name', {values: ['qat']})")
    seen.draw("plot-accuracy")
    box = seen.page.locator("#plot-accuracy .nsewdrag").bounding_box()
    seen.page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    seen.page.mouse.up()
    zoom = "document.querySelector('#plot-accuracy').layout.xaxis.range"
    zoomed = seen.ask(zoom)
    seen.draw("plot-parallel")
    chosen = seen.ask("state")
    place = "byId('plot-parallel').getBoundingClientRect().top"
    before = seen.ask(place)
    answers = []
    seen.page.on("response", lambda answer: answers.append(answer))
    write_cell(folder / "sweep", "30", "qat", 4, 4)
    source.refresh()
    seen.ask("takeNews()")  # or the page has done so by itself
    told = [answer.json() for answer in answers if "/data?" in answer.url]
    news = next(content for content in told if content["rows"])
    assert [row[0] for row in news["rows"]] == ["sweep/30/result.json"] and not news["whole"]
    assert seen.texts("#shown") == ["14 of 27 runs shown"]
    assert seen.page.locator('tr[data-path="sweep/30/result.json"]').count() == 1
    assert seen.ask("state") == chosen and seen.ask(place) == pytest.approx(before, abs=1)
    seen.draw("plot-accuracy")
    assert zoomed[1] - zoomed[0] < 4 and seen.ask(zoom) == zoomed
    brush = "document.querySelector('#plot-parallel').data?.[0].dimensions[0].constraintrange"
    assert seen.ask(f"webgl ? {brush} : null") in ([[0.75, 1.25]], [0.75, 1.25], None)
    seen.page.reload()
    seen.page.wait_for_function("view.records.length === 27")
    assert seen.ask("state") == chosen and seen.texts("#shown") == ["14 of 27 runs shown"]
    assert all(url.startswith(server.address) for url in seen.requests)
    assert seen.complaints == []
    seen.page.close()


@pytest.mark.parametrize("size", [(390, 844), (1400, 900)], ids=["phone", "desktop"])
def test_the_live_page_says_which_sweep_it_shows_and_of_how_many_runs(size, open_page, write_cell, live):
    folder, source, server = live
    write_cell(folder / "old sweep", "1", "ptq", 8, 0, finished_at="2020-01-01T00:00:00+00:00")
    source.refresh()
    seen = open_page(server.address)
    seen.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    seen.page.wait_for_function("view.records.length === 26")
    assert seen.texts("#scope-text") == ["sweep: 26 of 27 runs, the newest of 2 sweeps"]
    for css in ("#scope-text", "#sweep", "#all-sweeps"):
        box = seen.page.locator(css).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] and box["y"] + box["height"] < 300
    assert re.fullmatch(r"live, \d\d:\d\d:\d\d UTC", seen.texts("#live")[0])
    seen.page.click("#all-sweeps")
    assert seen.texts("#scope-text") == ["all 2 sweeps: 27 runs"] and seen.texts("#shown") == ["27 of 27 runs shown"]
    assert not seen.page.locator("#all-sweeps").is_visible()
    assert seen.complaints == []
    seen.page.close()


@pytest.mark.slow
def test_the_live_page_shows_the_last_sweep_and_the_curves_of_any_run(open_page, write_cell, live):
    folder, source, server = live
    old = {"finished_at": "2020-01-01T00:00:00+00:00"}
    write_cell(folder / "old sweep", "1", "ptq", 8, 0, **old)
    source.refresh()
    seen = open_page(server.address)
    seen.page.wait_for_function("view.records.length === 26")
    assert seen.ask("document.querySelector('#sweep').value") == "sweep"
    seen.page.select_option("#sweep", "*")
    assert seen.texts("#shown") == ["27 of 27 runs shown"]
    seen.page.select_option("#sweep", "old sweep")
    assert seen.texts("#shown") == ["1 of 1 run shown"]
    seen.page.select_option("#sweep", "sweep")
    seen.page.get_by_role("checkbox", name="Pick qat, weight.bits 3").check()
    seen.page.locator("#plot-training").scroll_into_view_if_needed()
    seen.page.wait_for_function("document.querySelector('#plot-training').data?.length === 3")
    asked = [url for url in seen.requests if "/curves" in url]
    assert len(asked) == len(set(asked))
    assert seen.complaints == []
    seen.page.close()


@pytest.mark.slow
def test_the_live_page_says_when_its_server_has_gone(open_page, write_cell, tmp_path):
    write_cell(tmp_path / "runs", "0", "ptq", 8, 0)
    source = LiveFolder(tmp_path / "runs")
    source.refresh()
    server = Dashboard(source, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    seen = open_page(server.address)
    seen.page.get_by_text("1 of 1 run shown").wait_for()
    source.trouble = "the disk is full"
    seen.ask("takeNews()")
    assert seen.texts("#live") == ["Not refreshed: the disk is full"]
    seen.page.context.set_offline(True)
    seen.ask("takeNews()")
    assert seen.texts("#live") == ["The dashboard has ended; this page keeps what it shows."]
    assert seen.texts("#shown") == ["1 of 1 run shown"]
    seen.page.close()
    server.shutdown()
    server.server_close()
    thread.join()
