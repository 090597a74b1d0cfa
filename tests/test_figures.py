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
    marked = figures.bars(["x", "y"], [1, 2], tmp_path / "marked", "v", colours={"x": "#123456"})
    assert drawn(bars) > 500 and drawn(marked, "#123456") > 500 and drawn(marked) == 0


def test_bars_and_curves_side_by_side(tmp_path):
    plot = {"names": ["x", "y"], "values": [1, -2], "ylabel": "v", "colours": {"y": RED}}
    bars = figures.bar_panels([plot, {**plot, "digits": 1}], tmp_path / "bars")
    assert drawn(bars) > 1000
    curve = {"series": lines("x"), "colours": {"x": RED}}
    path = figures.panels([curve, {**curve, "series": lines("y")}], tmp_path / "curves")
    assert drawn(path) > 50


def axis_of(draw, **plot):
    with figures.style():
        axis = figures.Figure().subplots()
        draw(axis, **plot)
        axis.figure.draw_without_rendering()
    return axis


def test_legends_never_lie_over_curves_or_labels():
    across = {"p": 1, "q": 2}
    for plot in ({"series": lines("a", "b")}, {"series": lines(*"abcdef"), "lines": across}):
        axis = axis_of(figures._draw_curves, xlabel="x", ylabel="y", **plot)
        label = axis.xaxis.label.get_window_extent()
        assert axis.get_legend().get_window_extent().y1 < label.y0
    assert axis_of(figures._draw_curves, series=lines("a")).get_legend() is None


def test_a_line_across_has_its_sources_colour_and_interval():
    across = {"x": (1.0, 0.5, 2.0), "chance": 0.1}
    plot = {"series": lines("y"), "lines": across, "colours": {"x": RED}}
    axis = axis_of(figures._draw_curves, **plot)
    assert [line.get_color() for line in axis.lines[1:]] == [RED, "#555555"]
    [band] = axis.patches
    assert matplotlib.colors.to_hex(band.get_facecolor()) == RED
    assert (band.get_y(), band.get_height()) == (0.5, 1.5)


def test_bars_have_a_key_and_panels_a_note(tmp_path, monkeypatch):
    plot = {"names": ["x", "y"], "values": [1, 2], "ylabel": "v", "key": {"seen": RED}}
    legend = axis_of(figures._draw_bars, **plot).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["seen"]
    made = []
    monkeypatch.setattr(figures, "save", lambda figure, path: made.append(figure))
    figures.bar_panels([plot], tmp_path / "bars", note="* told")
    assert made[0].get_supxlabel() == "* told"


def lab(colours) -> np.ndarray:
    """Linear RGB (K, 3) -> CIE L*a*b*, in which distances are about those that people see."""
    to_xyz = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]]
    x, y, z = np.cbrt(colours @ np.array(to_xyz).T + 1e-9).T  # white is (1, 1, 1)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def linear(colours) -> np.ndarray:
    rgb = np.array([matplotlib.colors.to_rgb(c) for c in colours])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


# What people without red, or without green, receptors see (Machado et al. 2009)
SEEN = {
    "all": np.eye(3),
    "no red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green": [[0.3673, 0.8606, -0.2279], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
}


def test_colours_of_other_things_are_no_sources_and_can_be_told_apart():
    other, sources = linear(figures.COLOURS), linear(s.colour for s in SOURCES.values())
    assert np.linalg.norm(lab(other)[:, None] - lab(sources), axis=-1).min() > 18
    for who, seen in SEEN.items():
        points = lab(np.clip(other @ np.array(seen).T, 0, 1))
        apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(len(other), 1)]
        assert apart.min() > 18, who
    assert (other @ [0.2126, 0.7152, 0.0722]).max() < 0.4  # dark enough for a line on white


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
