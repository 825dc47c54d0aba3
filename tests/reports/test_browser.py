"""The page in a real browser: quiet, usable with a pointer, a keyboard and a phone, and deaf to hostile texts."""

import numpy as np
import pytest

from picked_records import finished, values
from qresearch.reports.report_command import write_report
from qresearch.store.record import write_json

HOSTILE = "</script><script>window.harm=1</script><img src=x onerror='window.harm=2'>\"'`${1}<b>\u2028&amp;"
LINK = '<a href="javascript:window.harm=3">click</a>'


def test_every_plot_is_drawn_and_nothing_is_asked_for(seen, report):
    seen.draw()
    drawn = seen.ask("[...document.querySelectorAll('.plot')].filter((e) => e.dataset.drawn).map((e) => e.id)")
    assert len(drawn) == 12 == seen.page.locator(".plot").count()
    assert seen.requests == [report[0]]
    assert seen.page.locator('.modebar-btn[data-title*="hare"], .modebar-btn[data-title*="loud"]').count() == 0


def test_a_value_of_the_dialog_is_that_of_the_record(seen, report):
    seen.page.click("#mode-runs")
    (record,) = finished(report[1], method="qat", bits=3, seed=1)
    row = seen.page.locator(f'tr[data-path="{record["path"]}"]')
    assert row.locator('[data-column="metric:top1"]').inner_text() == f"{record['metrics']['top1']:.2f}"
    row.locator("button.link").focus()
    seen.page.keyboard.press("Enter")
    facts = dict(line.split("\t") for line in seen.page.locator("#details .facts").all_inner_texts()[1].splitlines())
    assert {name: float(value) for name, value in facts.items()} == {
        name: float(f"{value:.6g}") for name, value in record["metrics"].items()
    }
    assert "weight.bits\t3" in seen.page.locator("#details .facts").all_inner_texts()[2]
    seen.page.keyboard.press("Escape")
    assert not seen.page.locator("#details").is_visible()


def test_sorting_by_pointer_and_by_keyboard(seen, report):
    seen.page.click("#mode-runs")

    def numbers(column):
        return [float(text) for text in seen.column(column) if text != "–"]

    def direction(label):
        return seen.page.locator("th", has=seen.page.get_by_role("button", name=label, exact=False)).get_attribute(
            "aria-sort"
        )

    expected = sorted((round(value, 2) for value in values(finished(report[1]))), reverse=True)
    assert numbers("metric:top1") == expected and direction("top-1 %") == "descending"
    seen.page.get_by_role("button", name="top-1 %", exact=True).click()
    assert numbers("metric:top1") == expected[::-1] and direction("top-1 %") == "ascending"
    seen.page.keyboard.press("Enter")  # the focus has stayed on the column
    assert numbers("metric:top1") == expected
    bits = seen.page.get_by_role("button", name="weight.bits", exact=True)
    bits.focus()
    seen.page.keyboard.press("Enter")
    found = numbers("config:weight.bits")
    assert found == sorted(found) and len(found) == 25 and direction("weight.bits") == "ascending"
    assert direction("top-1 %") == "none"
    seen.page.get_by_role("button", name="Next").click()
    assert seen.column("config:weight.bits") == ["17"] and seen.texts("#page-number") == ["26–26 of 26 runs"]
    bits.focus()
    seen.page.keyboard.press("Space")
    assert numbers("config:weight.bits") == [17, *found[:0:-1]]


def drag(seen, axis, low, high):
    """Drag along an axis of the parallel coordinates between two shares of its height; from the bottom."""
    seen.page.locator("#plot-parallel").scroll_into_view_if_needed()
    brush = seen.page.locator("#plot-parallel .axis-brush .background").nth(axis)
    brush.wait_for()
    box = brush.bounding_box()
    x, bottom = box["x"] + box["width"] / 2, box["y"] + box["height"]
    seen.page.mouse.move(x, bottom - low * box["height"])
    seen.page.mouse.down()
    seen.page.mouse.move(x, bottom - (low + high) / 2 * box["height"], steps=3)
    seen.page.mouse.move(x, bottom - high * box["height"], steps=3)
    seen.page.mouse.up()


def test_brushing_an_axis_filters_the_whole_page(seen, report):
    seen.page.locator("#plot-parallel").scroll_into_view_if_needed()
    seen.page.wait_for_function("document.querySelector('#plot-parallel').dataset.drawn || webgl === false")
    if not seen.ask("webgl"):
        pytest.skip("this Chromium has no WebGL")
    names = seen.ask("document.querySelector('#plot-parallel').data[0].dimensions.map((axis) => axis.name)")
    assert names[:4] == ["config:method.name", "config:weight.bits", "config:seed", "metric:top1"]
    drag(seen, 3, 0.45, 0.999)
    ((low, high),) = seen.ask("state.filters['metric:top1'].ranges")
    kept = [value for value in values(finished(report[1])) if low <= value <= high]
    assert 3 < len(kept) < 24
    assert seen.texts("#shown") == [f"{len(kept)} of 26 runs shown"]
    assert seen.page.locator("#biased").is_visible()
    seen.page.click("#mode-runs")
    assert sorted(map(float, seen.column("metric:top1"))) == sorted(round(value, 2) for value in kept)
    drag(seen, 0, 0.6, 0.9)  # the upper of the two methods
    assert seen.ask("state.filters['config:method.name']") == {"values": ["qat"]}
    assert set(seen.column("config:method.name")) == {"qat"}
    seen.page.get_by_role("button", name="Remove the filter top-1").click()
    assert seen.texts("#shown") == ["13 of 26 runs shown"]
    assert seen.ask("document.querySelector('#plot-parallel').data[0].dimensions[3].constraintrange ?? null") is None
    seen.page.click("#clear")
    assert seen.texts("#shown") == ["26 of 26 runs shown"]


def test_filtering_and_searching_by_keyboard(seen):
    seen.page.locator("summary", has_text="Filter").focus()
    seen.page.keyboard.press("Enter")
    seen.page.select_option("#filter-column", "config:method.name")
    seen.page.get_by_label("qat", exact=True).focus()
    seen.page.keyboard.press("Space")
    assert seen.texts("#shown") == ["13 of 26 runs shown"]
    assert seen.ask("document.activeElement.parentElement.innerText.trim()") == "qat"
    seen.page.keyboard.press("Space")
    assert seen.texts("#shown") == ["26 of 26 runs shown"]
    seen.page.select_option("#filter-column", "metric:top1")
    seen.page.get_by_label("from").fill("90")
    seen.page.get_by_role("button", name="Filter", exact=True).click()
    assert seen.ask("state.filters") == {"metric:top1": {"ranges": [[90, None]]}}
    seen.page.click("#clear")
    seen.page.get_by_label("Search").fill("nan")
    assert seen.texts("#shown") == ["1 of 26 runs shown"]


def test_what_went_wrong_is_listed(seen):
    assert seen.page.locator("#problem-box").get_attribute("open") is not None
    text = seen.page.locator("#problem-list").inner_text()
    assert "The loss is nan" in text and "bits=17 is outside 1..16" in text and "method=qat weight.bits=2" in text


def test_a_phone_scrolls_down_alone(seen):
    seen.page.set_viewport_size({"width": 375, "height": 700})
    seen.ask("refresh()")
    seen.draw()
    assert seen.ask("document.documentElement.scrollWidth") == 375
    inside = "(e) => e instanceof HTMLElement && !e.closest('.scroll') && e.getBoundingClientRect().right > 376"
    assert seen.ask(f"[...document.querySelectorAll('main *')].filter({inside}).map((e) => e.outerHTML)") == []
    sizes = "[...document.querySelectorAll('main p, main td')].map((e) => parseFloat(getComputedStyle(e).fontSize))"
    assert min(seen.ask(sizes)) >= 12


def contrast(one, other):
    """WCAG's contrast of two colours given as `rgb(r, g, b)`."""

    def luminance(colour):
        share = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_can_be_read(scheme, seen):
    seen.page.emulate_media(color_scheme=scheme)
    seen.draw("plot-accuracy")

    def style(selector, name):
        return seen.ask("([css, name]) => getComputedStyle(document.querySelector(css))[name]", [selector, name])

    page = style("body", "backgroundColor")
    assert (contrast(page, "rgb(0, 0, 0)") < 2) == (scheme == "dark")
    for selector in ("body", ".note", "thead th", ".bad", "button.link", "#tiles span"):
        assert contrast(style(selector, "color"), page) >= 4.5, selector
    for _ in range(100):  # plots are drawn anew a moment after the page has changed its colours
        if contrast(style("#plot-accuracy .ytick text", "fill"), page) >= 4.5:
            break
        seen.page.wait_for_timeout(100)
    assert contrast(style("#plot-accuracy .ytick text", "fill"), page) >= 4.5
    lines = seen.ask("document.querySelector('#plot-accuracy').data.slice(1).map((trace) => trace.marker.color)")
    assert len(set(lines)) == 2 and min(contrast(rgb(line), page) for line in lines) >= 3
    seen.page.get_by_role("button", name="Switch to").click()
    assert (contrast(style("body", "backgroundColor"), "rgb(0, 0, 0)") < 2) == (scheme == "light")
    seen.page.get_by_role("button", name="Switch to").click()
    assert style("body", "backgroundColor") == page
    seen.ask("delete document.documentElement.dataset.theme; localStorage.clear()")


def test_everything_can_be_reached_with_the_tab_key(seen):
    stops = "[...document.querySelectorAll('button, select, input, summary, a, [tabindex]')]"
    stops += ".filter((e) => e.checkVisibility() && !e.disabled && !e.closest('dialog'))"
    seen.draw()  # the choices of a plot come with it
    seen.ask("scrollTo(0, 0)")
    count = seen.ask(f"{stops}.length")
    reached = set()
    for _ in range(count + 2):
        seen.page.keyboard.press("Tab")
        reached.add(seen.ask(f"{stops}.indexOf(document.activeElement)"))
    assert count > 50 and set(range(count)) <= reached
    seen.page.locator("#theme").focus()
    seen.page.keyboard.press("Tab")
    assert seen.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_hostile_texts_are_shown_and_not_run(open_page, write_cell, tmp_path):
    folder = tmp_path / "a<b>'\"&"
    for seed, value in enumerate((HOSTILE, LINK, "plain")):
        changes = {"config": {"method": {"name": value}, "weight": {"bits": 4}, HOSTILE: value, "seed": seed}}
        changes |= {"overrides": [f"method={value}"], "environment": {"device": HOSTILE, "git_commit": HOSTILE}}
        write_cell(folder, f"{seed}", "ptq", 4, 0, **changes)
    write_cell(folder, "<i>4", "ptq", 4, 4, status="failed", message=HOSTILE + LINK, metrics={}, layers=[])
    layers = [{"layer": HOSTILE, "tensor": "weight", "sqnr_db": 1.0, "mse_clip": 1.0, "mse_round": 1.0}]
    metrics = {"top1": 50.0, "top1_float": 96.5, "constructor": 1.0, "__proto__": 2.0, HOSTILE: 3.0}
    write_cell(folder, "5", "qat", 2, 5, layers=layers, metrics=metrics)
    write_json(folder / "5" / "curves.json", {"qat": [{"step": 1, "loss": 1.0, f"scale/{HOSTILE}.weight": 1.0}]})
    write_report(folder, tmp_path / "page.html")
    seen = open_page((tmp_path / "page.html").as_uri())
    seen.draw()
    seen.page.click("#mode-runs")
    seen.page.locator("summary", has_text="More columns").click()
    for box in seen.page.locator("#more-columns input").all():
        box.check()
    for link in seen.page.locator("#table-body .link").all():
        link.click()
        seen.page.keyboard.press("Escape")
    for box in seen.page.locator("#table-body .pick input").all():
        box.check()
    seen.draw()
    assert seen.ask("window.harm ?? null") is None
    assert (
        seen.page.locator("main script, main img, dialog img, main b:not(.plot *), main a[href^=javascript]").count()
        == 0
    )
    assert seen.ask("[...document.querySelectorAll('.plot a')].filter((e) => e.href.baseVal ?? e.href).length") == 0
    title = seen.ask("document.querySelector('#title').textContent")
    assert title == folder.name
    message = seen.ask("document.querySelector('#problem-list pre').textContent")
    assert message == HOSTILE + LINK
    assert seen.complaints == [] and len(seen.requests) == 1
    seen.page.close()
