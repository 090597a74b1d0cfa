"""Figures: one colour for one name, legends beside the curves, the same data give the same file."""

import matplotlib.colors
import numpy as np
from PIL import Image

from dd import figures
from dd.sources import SOURCES

RED = "#ff0000"


def drawn(path, colour=RED) -> int:
    """Pixels of exactly this colour in the saved PNG."""
    pixels = np.asarray(Image.open(f"{path}.png").convert("RGB"))
    wanted = np.rint(255 * np.array(matplotlib.colors.to_rgb(colour)))
    return int((pixels == wanted).all(2).sum())


def lines(*names):
    return {name: ([0, 1, 2], [k, k + 1, k]) for k, name in enumerate(names)}


def test_a_name_has_its_colour_wherever_it_stands(tmp_path):
    one = figures.curves(lines("x", "y"), tmp_path / "one", "x", "y", colours={"y": RED})
    other = figures.curves(lines("y", "z"), tmp_path / "other", "x", "y", colours={"y": RED})
    plain = figures.curves(lines("x", "y"), tmp_path / "plain", "x", "y")
    assert drawn(one) > 50 < drawn(other) and drawn(plain) == 0
    bars = figures.bars(["x", "y"], [1, 2], tmp_path / "bars", "v", colours={"x": RED})
    marked = figures.bars(["x", "y"], [1, 2], tmp_path / "marked", "v", colours={"x": "#c8442e"})
    assert drawn(bars) > 500 and drawn(marked, figures.COLOURS[1]) > 500 and drawn(marked) == 0


def test_bars_and_curves_side_by_side(tmp_path):
    plot = {"names": ["x", "y"], "values": [1, -2], "ylabel": "v", "colours": {"y": RED}}
    bars = figures.bar_panels([plot, {**plot, "digits": 1}], tmp_path / "bars")
    assert drawn(bars) > 1000
    curve = {"series": lines("x"), "colours": {"x": RED}}
    path = figures.panels([curve, {**curve, "series": lines("y")}], tmp_path / "curves")
    assert drawn(path) > 50


def legend_is_below(series, **more):
    with figures.style():
        axis = figures.Figure().subplots()
        figures._draw_curves(axis, series, **more)
        axis.figure.canvas.draw()
        legend = axis.get_legend().get_window_extent()
    return legend.y1 < axis.get_window_extent().y0


def test_long_legends_never_lie_over_curves():
    assert not legend_is_below(lines(*"abcd"))
    assert legend_is_below(lines(*"abcd"), legend="below")
    assert legend_is_below(lines(*"abcde")) and legend_is_below(
        lines(*"abc"), lines={"p": 1, "q": 2}
    )


def test_sheet_names_sources_in_their_colours(tmp_path):
    images = np.full((2, 8, 8, 3), 255, np.uint8)
    colours = {"ours": SOURCES["dediffusion"].colour}
    paths = [
        figures.sheet(images, {"ours": ["a b", ""]}, {}, tmp_path / name, colours=of)
        for name, of in (("plain", None), ("coloured", colours))
    ]
    counts = [drawn(p, colours["ours"]) for p in paths]
    assert counts[0] == 0 < counts[1]


def test_same_data_same_files_and_labels_of_any_kind(tmp_path):
    images = np.zeros((5, 8, 8, 3), np.uint8)
    grid = lambda name, titles: figures.image_grid(images, tmp_path / name, 2, titles=titles)
    a, b = grid("a", ["p", "q"]), grid("b", np.array(["p", "q"]))
    for suffix in (".png", ".pdf"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    heat = figures.heat(np.eye(3), tmp_path / "heat", xlabels="abc", ylabels="xyz", xlabel="w")
    assert all(p.with_suffix(".png").exists() for p in (a, b, heat))


def test_every_source_has_a_colour_of_its_own():
    colours = [s.colour for s in SOURCES.values()]
    assert len(set(colours)) == len(colours)


def test_a_shown_figure_is_small_and_has_its_name(tmp_path):
    """In 256 colours; the display's metadata name the file, which the report's pages link to."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    path = figures.image_grid(noise, tmp_path / "of_noise", 2)
    shown = figures.show(path)
    assert shown.metadata == {"figure": "of_noise"}
    assert len(shown.data) < 0.6 * path.with_suffix(".png").stat().st_size
