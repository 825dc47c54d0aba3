"""A browser for the tests of the page, and the records that the page shows.

Needs playwright and a Chromium on the machine's path; where they are not, the tests that ask for `browser` are skipped.
"""

import itertools
import json
import shutil

import numpy as np
import pytest

from qresearch.reports.report_command import write_report
from qresearch.store.index import indexed
from qresearch.store.record import write_json

METHODS, BITS, SEEDS = ("ptq", "qat"), (8, 4, 3, 2), (0, 1, 2)
LAYERS = ("conv1", "conv2", "linear")
TOP1 = {"ptq": {8: 96.0, 4: 86.0, 3: 49.0, 2: 12.0}, "qat": {8: 95.7, 4: 94.0, 3: 92.0, 2: 72.0}}

# Scrolled to each time it is asked: plots above that are drawn meanwhile push it away again.
IN_SIGHT = """(id) => {
  byId(id).scrollIntoView({behavior: 'instant'});
  return figures.get(id).seen && !figures.get(id).stale;
}"""


def put_cell(folder, name, method, bits, seed, **changes):
    rng = np.random.default_rng([METHODS.index(method), bits, seed])
    rows = []
    for layer, tensor in itertools.product(LAYERS, ("weight", "input", "output")):
        clip, rounding = rng.uniform(0, 1e-3, 2)
        split = {} if tensor == "output" else {"mse_clip": clip, "mse_round": rounding}
        rows.append({"layer": layer, "tensor": tensor, "sqnr_db": 6.02 * bits + rng.normal(), "mse": 1e-3, **split})
    metrics = {
        "top1": TOP1[method][bits] + rng.normal(),
        "top1_float": 96.5 + 0.1 * seed,
        "test_images": 297,
        "sqnr_weight_db": 6.02 * bits + rng.normal(),
        "size_bytes": 500 * bits + (200 if method == "qat" else 0),
        "size_bytes_float": 16000,
        "bitops": 83264 * bits * bits,
        "energy_arithmetic_uj_estimate": 0.002 * bits * bits,
        "energy_memory_uj_estimate": 0.3 * bits,
        "litert_latency_ms": 0.02 + 0.001 * bits + 0.002 * rng.uniform(),
        "litert_latency_ratio": 0.25,
        "litert_top1": TOP1[method][bits],
        "litert_bytes": 600 * bits,
        "seconds": 1.5,
    }
    if bits == 8:
        metrics |= {"onnx_latency_ms": 0.05, "onnx_latency_ratio": 0.5, "onnx_top1": 95.0, "onnx_bytes": 5000}
    record = {
        "schema": 2,
        "status": "finished",
        "message": None,
        "config": {
            "method": {"name": method},
            "weight": {"bits": bits, "observer": {"_target_": f"qresearch.observers.{method}"}},
            "act": {"bits": bits},
            "model": {"width": 16},
            "tracker": {"_target_": "NoTracker"},
            "seed": seed,
        },
        "config_hash": f"{METHODS.index(method)}{bits}{seed}".zfill(12),
        "overrides": [f"method={method}", f"weight.bits={bits}", f"seed={seed}"],
        "group": "0a1b2c3d",
        "metrics": metrics,
        "layers": rows,
        "environment": {"device": "cpu", "git_commit": "0123456789", "git_dirty": False, "versions": {"jax": "0.10"}},
        "finished_at": f"2026-11-23T12:00:{seed:02}+00:00",
    }
    write_json(folder / name / "result.json", record | changes)
    if method == "qat":
        steps = range(1, 31)
        curve = [
            {"step": s, "loss": 2 / s + 0.1 * seed, "accuracy": 1 - 1 / s, "scale/conv1.weight": 0.1 + s} for s in steps
        ]
        write_json(folder / name / "curves.json", {"baseline": curve[:5], "qat": curve})


def put_cells(folder):
    for index, (method, bits, seed) in enumerate(itertools.product(METHODS, BITS, SEEDS)):
        put_cell(folder, str(index), method, bits, seed)
    lost = {"top1_float": 96.5}
    put_cell(folder, "24", "qat", 2, 3, status="diverged", message="The loss is nan", metrics=lost, layers=[])
    config = {"method": {"name": "ptq"}, "weight": {"bits": 17}, "act": {"bits": "${weight.bits}"}, "seed": 0}
    broken = {"metrics": {}, "layers": [], "group": None, "config": config}
    record = json.loads((folder / "0" / "result.json").read_text()) | broken
    del record["group"]
    write_json(folder / "25" / "result.json", record | {"status": "failed", "message": "bits=17 is outside 1..16"})


class Seen:
    """A page, and what it asked for and complained about since it was opened."""

    def __init__(self, browser, address):
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(60_000)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.page.goto(address)

    def _hear(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def draw(self, *ids):
        """Bring plots into sight, by default each, and wait until they are drawn."""
        for name in ids or self.ask("[...figures.keys()].filter((id) => byId(id).checkVisibility())"):
            self.page.wait_for_function(IN_SIGHT, arg=name)

    def ask(self, expression, argument=None):
        return self.page.evaluate(expression, argument)

    def texts(self, selector):
        return [" ".join(text.split()) for text in self.page.locator(selector).all_inner_texts()]

    def column(self, name):
        return self.texts(f'#table-body [data-column="{name}"]')


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on the path")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(browser):
    """Opens an address; returns what is `Seen`."""
    return lambda address: Seen(browser, address)


@pytest.fixture(scope="module")
def write_cell():
    """Writes the record of one cell, and its curves where it is trained."""
    return put_cell


@pytest.fixture(scope="module")
def write_cells():
    """Writes a sweep: both methods at four widths with three seeds, a diverged and a failed cell."""
    return put_cells


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a report on that sweep, and its records as the index has them."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    put_cells(folder)
    write_report(folder, folder / "report.html")
    return (folder / "report.html").as_uri(), indexed(folder)


@pytest.fixture(scope="module")
def opened(open_page, report):
    """One page for most tests: a new one takes two seconds."""
    found = open_page(report[0])
    found.ask("window.untouched = structuredClone(state)")
    return found


@pytest.fixture
def seen(opened):
    """The page as a reader finds it."""
    yield opened
    assert opened.complaints == []
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    opened.page.emulate_media(color_scheme="light")
    opened.ask("scrollTo(0, 0); change(structuredClone(untouched)); document.activeElement.blur()")
