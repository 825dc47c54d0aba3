"""A picture that is one: of the right size, with lines in it, in colours that are told apart."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from qresearch.reports.curves import COLOURS, Series, draw_curves

LINES = [Series("PTQ", {8: [90.0, 91.0], 4: [70.0, 80.0]}), Series("QAT", {8: [91.0], 4: [89.0]}, dashed=True)]


def pixels_of(image, colour):
    return np.sum(np.all(np.abs(image[..., :3] - to_rgb(colour)) < 0.02, axis=-1))


@pytest.mark.parametrize("panels", [1, 2])
def test_lines_are_drawn_in_their_colours(panels, tmp_path):
    path = tmp_path / "new" / "curves.png"
    assert draw_curves(path, [("top-1", LINES, 92.0), ("SQNR", LINES, None)][:panels], title="accuracy") == path
    image = matplotlib.image.imread(path)
    height, width = image.shape[:2]
    assert height == round(4.4 * 130) and width == round(5.2 * panels * 130)
    assert image.std() > 0.02
    assert all(pixels_of(image, colour) > 100 for colour in COLOURS[:2])
    assert all(pixels_of(image, colour) == 0 for colour in COLOURS[2:4])


def test_the_line_is_the_mean_of_the_seeds_and_the_band_its_interval(tmp_path, monkeypatch):
    drawn = {}
    axes = __import__("matplotlib.axes", fromlist=["Axes"]).Axes
    monkeypatch.setattr(axes, "fill_between", lambda self, x, low, high, **style: drawn.update(x=x, low=low, high=high))
    plot = axes.plot

    def watch(self, x, y, *args, **style):
        drawn["y"] = y
        return plot(self, x, y, *args, **style)

    monkeypatch.setattr(axes, "plot", watch)
    draw_curves(tmp_path / "a.png", [("top-1", [Series("PTQ", {8: [90, 91, 95], 2: [10, 20, 60]})], None)], title="t")
    assert list(drawn["x"]) == [2, 8]
    np.testing.assert_allclose(drawn["y"], [30, 92])
    t = 4.3026527  # Student's, at 0.975 and two degrees of freedom
    halves = [t * np.std(values, ddof=1) / np.sqrt(3) for values in ([10, 20, 60], [90, 91, 95])]
    np.testing.assert_allclose(drawn["low"], np.subtract([30, 92], halves), rtol=1e-6)
    np.testing.assert_allclose(drawn["high"], np.add([30, 92], halves), rtol=1e-6)
