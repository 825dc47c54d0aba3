"""Where things stand: results in sight on a phone, no column cut, buttons beside plots, the sweep at the top."""

import itertools

import pytest

from qresearch.reports.report_command import write_report

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1400, "height": 900}
METRICS = {"top1_float": 96.5, "size_bytes": 5548, "bitops": 5328896, "sqnr_weight_db_min": 20.3, "test_images": 297}


@pytest.fixture(scope="module")
def grid(open_page, write_cell, tmp_path_factory):
    """The page of a sweep over three keys, with wide intervals."""
    folder = tmp_path_factory.mktemp("grid") / "sweep"
    points = itertools.product(("ptq", "qat"), (8, 4, 3, 2), ("channel", "tensor"), (0, 1))
    for index, (method, bits, granularity, seed) in enumerate(points):
        weight = {"bits": bits, "granularity": granularity}
        config = {"method": {"name": method}, "weight": weight, "seed": seed}
        metrics = METRICS | {"top1": 60.0 + bits + 7 * seed, "seconds": 1.5 + 2 * seed}
        write_cell(folder, f"{index:02}", method, bits, seed, config=config, metrics=metrics)
    write_report(folder, folder / "report.html")
    return open_page((folder / "report.html").as_uri())


@pytest.fixture
def phone(grid):
    grid.page.set_viewport_size(PHONE)
    grid.page.wait_for_function("narrow() && document.querySelector('#table-head th:nth-child(4)').innerText !== ''")
    yield grid
    grid.ask("change({picks: [], mode: null})")
    assert grid.complaints == []


@pytest.fixture
def desktop(grid):
    grid.page.set_viewport_size(DESKTOP)
    yield grid
    assert grid.complaints == []


def edges(seen, css):
    """Left, top, right and bottom of the first element."""
    return seen.ask(
        "(css) => (({left, top, right, bottom}) => [left, top, right, bottom])"
        "(document.querySelector(css).getBoundingClientRect())",
        css,
    )


@pytest.mark.parametrize("mode", ["settings", "runs"])
def test_a_phone_shows_the_accuracy_without_scrolling_sideways(mode, phone):
    phone.page.click(f"#mode-{mode}")
    cell = '#table-body tr [data-column="metric:top1"]'
    left, _, right, _ = edges(phone, cell)
    assert left >= 0 and right <= PHONE["width"] - 12


def test_what_scrolls_sideways_says_so(phone):
    box = phone.page.locator(".scroll", has=phone.page.locator("#table"))
    hint = phone.page.locator(".scroll:has(#table) + .sideways")
    assert box.get_attribute("data-more") == "right" and hint.is_visible()
    shadow = "getComputedStyle(document.querySelector('.scroll:has(#table)')).boxShadow"
    assert "inset" in phone.ask(shadow)
    left = edges(phone, "#table-body th")[0]
    box.evaluate("(e) => (e.scrollLeft = 1e4)")
    phone.page.wait_for_function("document.querySelector('.scroll:has(#table)').dataset.more === 'left'")
    assert not hint.is_visible() and "inset" in phone.ask(shadow)
    assert edges(phone, "#table-body th")[0] < left < 100  # the name of the row stays in sight, at the edge
    box.evaluate("(e) => (e.scrollLeft = 0)")


def test_a_phone_shows_the_difference_and_its_p_first(phone):
    heads = phone.texts(".compare thead th")
    assert heads == ["metric", "B − A", "p", "A", "B"] or heads == ["metric", "B − A", "A", "B"]
    right = edges(phone, ".compare tbody td:nth-child(3)")[2]
    assert right <= PHONE["width"] - 12
    box = phone.page.locator(".scroll", has=phone.page.locator(".compare"))
    wide = box.evaluate("(e) => e.scrollWidth > e.clientWidth + 1")
    assert (box.get_attribute("data-more") == "right") == wide


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_buttons_of_plots_hide_nothing(size, grid):
    grid.page.set_viewport_size(size)
    grid.draw()
    places = grid.ask(
        "[...document.querySelectorAll('.plot[data-drawn]')].map((e) => [e.id, e.getBoundingClientRect().top,"
        " e.querySelector('.modebar').getBoundingClientRect().top,"
        " e.querySelector('.modebar').getBoundingClientRect().bottom,"
        " e.querySelector('.main-svg').getBoundingClientRect().top])"
    )
    assert len(places) >= 8
    for name, plot, top, bottom, drawing in places:
        assert plot - 1 <= top < bottom <= drawing + 1, name


def test_no_column_is_cut_on_a_desktop(desktop):
    desktop.page.wait_for_function("!narrow() && document.querySelector('.scroll:has(#table)').dataset.more === ''")
    right = edges(desktop, ".scroll:has(#table)")[2]
    assert edges(desktop, "#table-head th:last-child")[2] <= right + 1
    assert desktop.texts("#table-head th:last-child") == ["seconds"]
    assert not desktop.page.locator(".scroll:has(#table) + .sideways").is_visible()


def test_another_width_keeps_the_height_of_plots(grid):
    heights = (
        "[...document.querySelectorAll('.plot[data-drawn] .main-svg')].map((e) => e.getBoundingClientRect().height)"
    )
    grid.page.set_viewport_size(DESKTOP)
    grid.draw()
    before = grid.ask(heights)
    for width in (1300, 1200, 1400):
        grid.page.set_viewport_size(DESKTOP | {"width": width})
        grid.page.wait_for_timeout(400)  # plotly draws anew a moment after a resize
    assert grid.ask(heights) == pytest.approx(before, abs=1) and len(before) >= 8
