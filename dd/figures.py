"""Figures in one paper-like style: functions that save data as stem.png and stem.pdf.

    path = image_grid(images, study.path("figures/data_styles"), columns=9, titles=names)
    show(path)                                               # last line of a notebook cell

Each returns the stem. `colours` {name: colour} gives series, bars and sources their own colours
(those of texts stand in dd/sources.py); other names get COLOURS in turn. No pyplot: figures are
made, saved and dropped, and no backend is chosen for the reader. Files carry no date, so the same
data give the same bytes. Images are uint8 (M, H, W, 3).
"""

import io
import warnings
from pathlib import Path
from textwrap import fill as broken

import numpy as np
import PIL.Image
from matplotlib import rc_context, rc_params_from_file
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from .files import whole

warnings.filterwarnings("ignore", message="Glyph .* missing")  # people's words, in any script

# Of what is no source of texts, from Paul Tol's schemes: none near a source's colour, and apart
# from one another in print and for colour-blind readers.
COLOURS = "#332288", "#997700", "#44bb99", "#000000", "#994455"
STYLE = Path(__file__).parent / "assets" / "paper.mplstyle"
DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (5, 1)))  # of lines across a plot, in turn
INCH = 0.72  # side of one picture in a grid, at scale 1
BELOW = 32  # points from an axis to the legend under it: room for ticks and label


def fill(text, width: int, **more) -> str:
    """Anybody's text in lines of `width` characters; its dollar signs are no formula."""
    return broken(str(text), width, **more).replace("$", r"\$")


def style():
    """The style as a context: `with style(): ...`. Every function below runs inside it."""
    return rc_context(rc_params_from_file(STYLE, use_default_template=False))


def save(figure: Figure, path: str | Path) -> Path:
    """Write stem.png and stem.pdf (a path that ends in .png is that file alone); without dates, so
    that equal figures are equal files."""
    undated = dict.fromkeys(("CreationDate", "ModDate", "Producer", "Creator"))
    kinds, alone = {".png": {"Software": None}, ".pdf": undated}, str(path).endswith(".png")
    for suffix, metadata in kinds.items():
        if not alone or suffix == ".png":
            with whole(path if alone else f"{path}{suffix}") as temporary:
                figure.savefig(temporary, metadata=metadata)
    return Path(path)


def show(path: str | Path):
    """The saved PNG in 256 colours, a third of its size, to end a notebook cell with; its text form
    is the same on every machine. Its name goes along, for the report's pages."""
    from IPython.display import Image

    with PIL.Image.open(f"{path}.png") as opened:
        opened.convert("RGB").quantize(256).save(stream := io.BytesIO(), "PNG", optimize=True)
    return Image(stream.getvalue(), metadata={"figure": Path(path).name})


def bare(axis) -> None:
    """An axis for a picture: no ticks, grid or frame."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def image_grid(
    images, path: str | Path, columns: int, titles=None, row_labels=None, scale=1.0, wrap=None
) -> Path:
    """Pictures row by row; None or a missing picture leaves its place empty.

    titles: one per picture, or one per column (then only above the first row); row_labels: left of
    each row; wrap: characters per line of both (default: what fits)."""
    images, side = list(images), INCH * scale
    rows = -(-len(images) // columns)
    per_picture = titles is not None and len(titles) == len(images) and rows > 1
    wrap = wrap or max(8, int(13 * scale))
    wrapped = lambda labels: [] if labels is None else [fill(t, wrap) for t in labels]
    titles, row_labels = wrapped(titles), wrapped(row_labels)
    gap = 0.13 * max([t.count("\n") + 1 for t in titles], default=0)
    above, once = (gap, 0) if per_picture else (0.03, gap)  # each row, the first row
    size = (columns * side, max(rows * (side + above) + once, 0.5))
    spaces = {"wspace": 0.04, "hspace": 0.04 + (gap / side if per_picture else 0)}
    with style():
        figure = Figure(figsize=size)
        axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=spaces)
        for i, axis in enumerate(axes.flat):
            bare(axis)
            if i < len(images) and images[i] is not None:
                axis.imshow(images[i], vmin=0, vmax=255, cmap="gray")
            if i < len(titles) and (per_picture or i < columns):
                axis.set_title(titles[i], fontsize=6.2, pad=2)
        for axis, label in zip(axes[:, 0], row_labels):
            at = {"ha": "right", "va": "center", "labelpad": 4}
            axis.set_ylabel(label, fontsize=6.5, rotation=0, **at)
        return save(figure, path)


def _side_by_side(
    draw, plots: list[dict], path: str | Path, size, layout, note: str = "", **shared
) -> Path:
    """One panel of a figure for each of `plots`, drawn by draw(axis, **plot), `note` under them."""
    with style():
        figure = Figure(figsize=size, layout=layout)
        axes = figure.subplots(1, len(plots), squeeze=False, **shared)[0]
        for axis, plot in zip(axes, plots):
            draw(axis, **plot)
        if note:
            figure.supxlabel(note, fontsize=7)
        return save(figure, path)


def _key(axis, **more) -> None:
    """The legend under a plot, where it covers nothing."""
    down = ScaledTranslation(0, -BELOW / 72, axis.figure.dpi_scale_trans)
    where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    axis.legend(**where, bbox_transform=axis.transAxes + down, ncols=2, borderaxespad=0, **more)


def _draw_curves(
    axis, series, lines=None, markers=False, logx=False, colours=None, **labels
) -> None:
    for k, (name, (x, y, *ends)) in enumerate(series.items()):
        colour = (colours or {}).get(name, COLOURS[k % len(COLOURS)])
        marker = "o" if markers or len(x) < 3 else None
        axis.plot(x, y, marker=marker, color=colour, label=name)
        if ends:
            axis.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    for k, (name, height) in enumerate((lines or {}).items()):
        colour, (height, *ends) = (colours or {}).get(name, "#555555"), np.atleast_1d(height)
        look = {"linewidth": 0.9, "linestyle": DASHES[k % len(DASHES)]}
        axis.axhline(height, color=colour, label=name, **look)
        if ends:
            axis.axhspan(*ends, color=colour, alpha=0.12, linewidth=0)
    axis.set(xscale="log" if logx else "linear", **labels)
    if len(series) > 1 or lines:
        _key(axis)


def panels(plots: list[dict], path: str | Path, size=(2.6, 2.2), layout="constrained") -> Path:
    """Line plots side by side. plots: one dict of `curves`' arguments per panel, of this size."""
    return _side_by_side(_draw_curves, plots, path, (size[0] * len(plots), size[1]), layout)


def curves(
    series: dict, path: str | Path, xlabel: str, ylabel: str, size=(3.6, 2.5), **more
) -> Path:
    """Line plot.

    series   {name: (x, y) or (x, y, low, high)}
    lines    {name: height or (height, low, high)}: drawn across, dashed
    more     title, markers, logx, colours"""
    plot = {"series": series, "xlabel": xlabel, "ylabel": ylabel, **more}
    return panels([plot], path, size, layout=None)


def _draw_bars(
    axis,
    names,
    values,
    ylabel: str,
    low=None,
    high=None,
    title: str = "",
    digits: int | None = None,
    marks=(),
    colours: dict | None = None,
    key: dict | None = None,
) -> None:
    names, values, rows = [str(n) for n in names], np.asarray(values, float), np.arange(len(names))
    low, high = (values if v is None else np.asarray(v, float) for v in (low, high))
    error = np.abs(np.stack([values - low, high - values])) if low is not values else None
    look = {"elinewidth": 0.8, "ecolor": "#333333", "capsize": 2}
    colour = [(colours or {}).get(n, COLOURS[0]) for n in names]
    axis.barh(rows, values, xerr=error, height=0.68, color=colour, error_kw=look)
    axis.set(yticks=rows, yticklabels=names, xlabel=ylabel, title=title)
    axis.grid(False, axis="y")
    if digits is not None:
        axis.margins(x=0.15)  # room for the numbers
    near = {"textcoords": "offset points", "va": "center"}
    for k, value in enumerate(values if digits is not None else []):
        side, end = (-1, low[k]) if value < 0 else (1, high[k])  # outside the bar and its interval
        at, text = (end if np.isfinite(end) else value, k), f"{value:.{digits}f}"
        align = "left" if side > 0 else "right"
        axis.annotate(text, at, (3 * side, 0), ha=align, fontsize=6.5, **near)
    for k in np.flatnonzero(list(marks)):
        axis.annotate("*", (high[k], k), (2, -2), fontsize=8, **near)
    if not axis.yaxis_inverted():
        axis.invert_yaxis()  # the first name on top; panels share the axis
    if key:
        _key(axis, handles=[Patch(color=c, label=name) for name, c in key.items()])


def bar_panels(
    plots: list[dict], path: str | Path, size=None, layout="constrained", note: str = ""
) -> Path:
    """Bars of the same names side by side. plots: one dict of `bars`' arguments per panel; note:
    a line under all of them."""
    height = 0.5 + 0.26 * len(plots[0]["names"]) + 0.4 * bool(note)
    size = size or (2.4 * len(plots) + 1.4, height)
    return _side_by_side(_draw_bars, plots, path, size, layout, note, sharex=True, sharey=True)


def bars(
    names, values, path: str | Path, ylabel: str, low=None, high=None, *, size=None, **more
) -> Path:
    """Horizontal bars with intervals; `ylabel` says what the values are.

    low, high    ends of the intervals
    digits       print the values so
    marks        which bars get a *
    key          {what a colour means: colour}, under the plot
    more         title, colours"""
    plot = {"names": names, "values": values, "ylabel": ylabel, "low": low, "high": high, **more}
    return bar_panels([plot], path, size or (3.8, 0.35 + 0.24 * len(names)), layout=None)


def heat(
    values,
    path: str | Path,
    xlabels=None,
    ylabels=None,
    titles=None,
    scale=1.0,
    vmax=None,
    **labels,
) -> Path:
    """One or several matrices (K, R, C) side by side, dark = large: word weights per position."""
    values = np.asarray(values, float)
    K, R, C = (values := values[None] if values.ndim == 2 else values).shape

    def draw(axis, k: int):
        axis.imshow(values[k], cmap="Blues", vmin=0, vmax=vmax, aspect="auto")
        axis.grid(False)
        axis.set(title=titles[k] if titles is not None else "", xticks=[], yticks=[], **labels)
        if k:
            axis.set_ylabel("")
        if xlabels is not None:
            turn = 90 if max(len(str(label)) for label in xlabels) > 2 else 0  # words stand
            axis.set_xticks(np.arange(C), list(xlabels), rotation=turn, fontsize=5.5)
        if ylabels is not None and k == 0:
            axis.set_yticks(np.arange(R), list(ylabels), fontsize=6)

    size = (scale * (0.6 + 1.9 * K), scale * (0.5 + 0.16 * R))
    return _side_by_side(draw, [{"k": k} for k in range(K)], path, size, "constrained")


def sheet(
    originals,
    texts: dict[str, list[str]],
    pictures: dict[str, np.ndarray],
    path: str | Path,
    names=None,
    scale: float = 1.0,
    wrap: int = 27,
    colours: dict | None = None,
) -> Path:
    """One row an image: the original, then for each source its text and what was drawn from it.

    texts {source: strings}, pictures {source: uint8 (M, H, W, 3)}; a source may have only a text or
    only pictures. names: under the originals. colours: of the sources' names."""
    columns = [("original", "picture")]
    for source in dict.fromkeys([*texts, *pictures]):
        kinds = {"text": texts, "picture": pictures}
        columns += [(source, kind) for kind, held in kinds.items() if source in held]
    widths, rows = [2.1 if kind == "text" else 1.0 for _, kind in columns], len(originals)
    under = [] if names is None else [fill(n, 18) for n in names]
    gap = 0.05 + 0.15 * max((n.count("\n") + 1 for n in under), default=0)  # under the originals
    unit, spaces = INCH * 1.15 * scale, {"width_ratios": widths, "wspace": 0.05, "hspace": gap}
    with style():
        figure = Figure(figsize=(unit * sum(widths), unit * rows * (0.97 + gap)))
        axes = figure.subplots(rows, len(columns), squeeze=False, gridspec_kw=spaces)
        for i, k in np.ndindex(axes.shape):
            axis, (source, kind) = axes[i, k], columns[k]
            bare(axis)
            if kind == "text":
                words = fill(texts[source][i], wrap, max_lines=9, placeholder=" ...")
                at = {"va": "center", "ha": "left", "transform": axis.transAxes}
                axis.text(0.03, 0.5, words or "(nothing)", fontsize=5.6, **at)
                axis.set_box_aspect(1 / widths[k])  # as high as a picture, so are the headings
            else:
                axis.imshow((originals if k == 0 else pictures[source])[i])
            if i == 0 and (kind == "text" or k == 0 or source not in texts):
                colour = (colours or {}).get(source, "black")
                axis.set_title(source, fontsize=7.5, pad=3, color=colour)
            if k == 0 and under:
                axis.set_xlabel(under[i], fontsize=5.8, labelpad=2)
        return save(figure, path)
