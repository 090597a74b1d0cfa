"""Figures in one fixed, paper-like style: each function takes data and a path stem, saves stem.png and stem.pdf, returns the stem.

    path = image_grid(images, study.path("figures/data_styles"), columns=9, titles=names)
    show(path)                                               # last line of a notebook cell

No pyplot: figures are made, saved and dropped, so nothing is left open and no backend is chosen for the reader. Files carry no date,
so the same data give the same bytes. Images are uint8 (M, H, W, 3).
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = (
    "#1b5e9b",
    "#c8442e",
    "#2e8b57",
    "#8a5aab",
    "#d98c1f",
    "#5a5a5a",
    "#17a2a2",
    "#b03a78",
    "#7a6a2f",
    "#333333",
    "#7fb2e5",
    "#e59a8f",
    "#a9c77e",
)
STYLE = {
    "font.family": "serif",
    "font.serif": ["DejaVu Serif"],
    "mathtext.fontset": "dejavuserif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.04,
    "pdf.fonttype": 42,
}
INCH = 0.72  # side of one picture in a grid, at scale 1


def style():
    """The style as a context: `with style(): ...`. Every function below runs inside it."""
    return rc_context(STYLE)


def save(figure: Figure, path: str | Path) -> Path:
    """Write stem.png and stem.pdf; without dates, so that equal figures are equal files."""
    stem = Path(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.parent / f"{stem.name}.png", metadata={"Software": None})
    figure.savefig(
        stem.parent / f"{stem.name}.pdf",
        metadata={"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    )
    return stem


def show(path: str | Path):
    """The saved PNG, to end a notebook cell with; its text form is the same on every machine."""
    from IPython.display import Image

    stem = Path(path)
    return Image(filename=str(stem.parent / f"{stem.name}.png"))


def image_grid(
    images,
    path: str | Path,
    columns: int,
    titles=None,
    row_labels=None,
    scale: float = 1.0,
    wrap: int | None = None,
    heading: str = "",
) -> Path:
    """Pictures row by row. titles: one per picture, or one per column (then only above the first row); row_labels: left of each row.
    None or a missing picture leaves its place empty. wrap: characters per line of titles and row labels (default: what fits)."""
    images = list(images)
    rows = -(-len(images) // columns)
    per_picture = titles is not None and len(titles) == len(images) and rows > 1
    wrap = wrap or max(8, int(13 * scale))
    titles = [textwrap.fill(str(t), wrap) for t in titles] if titles is not None else []
    lines = max([t.count("\n") + 1 for t in titles], default=0)
    gap = 0.13 * lines
    height = (
        rows * (INCH * scale + (gap if per_picture else 0.03))
        + (0 if per_picture else gap)
        + (0.25 if heading else 0)
    )
    with style():
        figure = Figure(figsize=(columns * INCH * scale, max(height, 0.5)))
        axes = figure.subplots(
            rows,
            columns,
            squeeze=False,
            gridspec_kw={
                "wspace": 0.04,
                "hspace": 0.04 + (gap / (INCH * scale) if per_picture else 0),
            },
        )
        for i, axis in enumerate(axes.flat):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if i < len(images) and images[i] is not None:
                axis.imshow(images[i], vmin=0, vmax=255, cmap="gray")
            if titles and i < len(titles) and (per_picture or i < columns):
                axis.set_title(titles[i], fontsize=6.2, pad=2)
            if row_labels is not None and i % columns == 0 and i // columns < len(row_labels):
                axis.set_ylabel(
                    textwrap.fill(str(row_labels[i // columns]), wrap),
                    fontsize=6.5,
                    rotation=0,
                    ha="right",
                    va="center",
                    labelpad=4,
                )
        if heading:
            figure.suptitle(heading, fontsize=8.5, y=1.02)
        return save(figure, path)


def _curves_on(
    axis,
    series: dict,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    lines: dict | None = None,
    markers: bool = False,
    logx: bool = False,
    logy: bool = False,
    ylim=None,
    legend: bool | str = True,
    colours: dict | None = None,
) -> None:
    for k, (name, values) in enumerate(series.items()):
        colour = (colours or {}).get(name, COLOURS[k % len(COLOURS)])
        axis.plot(
            values[0],
            values[1],
            marker="o" if markers or len(values[0]) < 3 else None,
            color=colour,
            label=name,
        )
        if len(values) == 4:
            axis.fill_between(
                values[0], values[2], values[3], color=colour, alpha=0.15, linewidth=0
            )
    for k, (name, height) in enumerate((lines or {}).items()):
        axis.axhline(
            height,
            color="#555555",
            linewidth=0.9,
            linestyle=("--", ":", "-.", (0, (1, 3)), (0, (5, 1)))[k % 5],
            label=name,
        )
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if logx:
        axis.set_xscale("log")
    if logy:
        axis.set_yscale("log")
    if ylim:
        axis.set_ylim(ylim)
    if legend and (len(series) > 1 or lines):
        below = (
            dict(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
            if legend == "below"
            else {}
        )
        axis.legend(frameon=True, framealpha=0.75, edgecolor="none", **below)


def curves(
    series: dict,
    path: str | Path,
    xlabel: str,
    ylabel: str,
    title: str = "",
    lines: dict | None = None,
    markers: bool = False,
    logx: bool = False,
    logy: bool = False,
    ylim=None,
    size: tuple[float, float] = (3.6, 2.5),
    legend: bool | str = True,
) -> Path:
    """Line plot. series: {name: (x, y) or (x, y, low, high)}; lines: {name: height} are drawn across, dashed; legend: "below" puts it there."""
    with style():
        figure = Figure(figsize=size)
        _curves_on(
            figure.subplots(),
            series,
            xlabel,
            ylabel,
            title,
            lines,
            markers,
            logx,
            logy,
            ylim,
            legend,
        )
        return save(figure, path)


def panels(plots: list[dict], path: str | Path, size: tuple[float, float] = (2.6, 2.2)) -> Path:
    """Line plots side by side. plots: one dict of `curves`' arguments (series, xlabel, ylabel, title, lines, ...) per panel; legend: "below" puts it there."""
    with style():
        figure = Figure(figsize=(size[0] * len(plots), size[1]), layout="constrained")
        for axis, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots):
            _curves_on(axis, **plot)
        return save(figure, path)


def _bars_on(
    axis,
    names,
    values,
    ylabel: str = "",
    low=None,
    high=None,
    title: str = "",
    highlight=(),
    horizontal: bool = True,
    lines: dict | None = None,
    digits: int | None = None,
    marks=(),
    colours: dict | None = None,
) -> None:
    names, values = [str(n) for n in names], np.asarray(values, float)
    low, high = (None if v is None else np.asarray(v, float) for v in (low, high))
    error = None if low is None else np.abs(np.stack([values - low, high - values]))
    look = {
        "color": [
            (colours or {}).get(n, COLOURS[1] if n in highlight else COLOURS[0]) for n in names
        ],
        "error_kw": {"elinewidth": 0.8, "ecolor": "#333333", "capsize": 2},
    }
    where = np.arange(len(names))
    if horizontal:
        axis.barh(where, values, xerr=error, height=0.68, **look)
        axis.set(yticks=where, yticklabels=names, xlabel=ylabel, title=title)
        axis.grid(False, axis="y")
    else:
        axis.bar(where, values, yerr=error, width=0.68, **look)
        axis.set(
            xticks=where,
            xticklabels=[textwrap.fill(n, 12) for n in names],
            ylabel=ylabel,
            title=title,
        )
        axis.grid(False, axis="x")
    for k, value in enumerate(values if digits is not None else []):
        side, edge = (-1, low) if value < 0 else (1, high)  # outside the bar and its interval
        end = value if edge is None or not np.isfinite(edge[k]) else edge[k]
        axis.annotate(
            f"{value:.{digits}f}",
            (end, k) if horizontal else (k, end),
            (3 * side, 0) if horizontal else (0, 2 * side),
            textcoords="offset points",
            va="center" if horizontal else "bottom" if side > 0 else "top",
            ha=("left" if side > 0 else "right") if horizontal else "center",
            fontsize=6.5,
        )
    for k in np.flatnonzero(list(marks)):
        axis.annotate(
            "*",
            (values[k] if high is None else high[k], k),
            (2, -2),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for k, (name, height) in enumerate((lines or {}).items()):
        (axis.axvline if horizontal else axis.axhline)(
            height, color="#555555", linewidth=0.9, linestyle=("--", ":", "-.")[k % 3], label=name
        )
    if lines:
        axis.legend()


def bars(
    names,
    values,
    path: str | Path,
    ylabel: str,
    low=None,
    high=None,
    *,
    horizontal: bool = True,
    size: tuple[float, float] | None = None,
    **more,
) -> Path:
    """Bars with intervals. low, high: ends of the intervals; highlight: names drawn in the second colour; digits: print the values; marks: which (horizontal) bars get a *."""
    size = size or (
        (3.8, 0.35 + 0.24 * len(names)) if horizontal else (0.6 + 0.45 * len(names), 2.4)
    )
    with style():
        figure = Figure(figsize=size)
        axis = figure.subplots()
        _bars_on(axis, names, values, ylabel, low, high, horizontal=horizontal, **more)
        if horizontal:
            axis.invert_yaxis()
        return save(figure, path)


def bar_panels(plots: list[dict], path: str | Path) -> Path:
    """Horizontal bars of the same names side by side. plots: one dict of `bars`' arguments (names, values, ylabel, low, high, title, ...) per panel."""
    with style():
        figure = Figure(
            figsize=(2.4 * len(plots) + 1.4, 0.5 + 0.26 * len(plots[0]["names"])),
            layout="constrained",
        )
        axes = figure.subplots(1, len(plots), sharey=True, sharex=True, squeeze=False)[0]
        for axis, plot in zip(axes, plots):
            _bars_on(axis, **plot)
        axes[0].invert_yaxis()
        return save(figure, path)


def heat(
    values,
    path: str | Path,
    xlabels=None,
    ylabels=None,
    xlabel: str = "",
    ylabel: str = "",
    titles=None,
    scale: float = 1.0,
    vmax=None,
) -> Path:
    """One or several matrices (K, R, C) side by side, dark = large, e.g. word weights per position at several temperatures."""
    values = np.asarray(values, float)
    values = values[None] if values.ndim == 2 else values
    with style():
        figure = Figure(
            figsize=(scale * (0.6 + 1.9 * len(values)), scale * (0.5 + 0.16 * values.shape[1])),
            layout="constrained",
        )
        for k, axis in enumerate(figure.subplots(1, len(values), squeeze=False)[0]):
            axis.imshow(values[k], cmap="Blues", vmin=0, vmax=vmax, aspect="auto")
            axis.grid(False)
            axis.set(
                xlabel=xlabel,
                ylabel=ylabel if k == 0 else "",
                title=titles[k] if titles is not None else "",
            )
            axis.set(xticks=[], yticks=[])
            if xlabels is not None:
                axis.set_xticks(
                    np.arange(values.shape[2]), list(xlabels), rotation=90, fontsize=5.5
                )
            if ylabels is not None and k == 0:
                axis.set_yticks(np.arange(values.shape[1]), list(ylabels), fontsize=6)
        return save(figure, path)


def sheet(
    originals,
    texts: dict[str, list[str]],
    pictures: dict[str, np.ndarray],
    path: str | Path,
    names=None,
    scale: float = 1.0,
    wrap: int = 30,
) -> Path:
    """The picture sheet: one row an image: the original, then for each source its text and what was drawn from it.

    texts {source: strings}, pictures {source: uint8 (M, H, W, 3)}; a source may have only a text or only pictures. names: under the originals."""
    sources = list(dict.fromkeys([*texts, *pictures]))
    columns = [("original", "picture")] + [
        c
        for s in sources
        for c in ((s, "text"), (s, "picture"))
        if s in (texts if c[1] == "text" else pictures)
    ]
    widths, rows = [2.1 if kind == "text" else 1.0 for _, kind in columns], len(originals)
    under = [] if names is None else [textwrap.fill(str(n), 18) for n in names]
    gap = 0.05 + 0.15 * max(
        (n.count("\n") + 1 for n in under), default=0
    )  # lines under the originals
    with style():
        figure = Figure(
            figsize=(INCH * 1.15 * scale * sum(widths), INCH * 1.15 * scale * rows * (0.97 + gap))
        )
        axes = figure.subplots(
            rows,
            len(columns),
            squeeze=False,
            gridspec_kw={"width_ratios": widths, "wspace": 0.05, "hspace": gap},
        )
        for i in range(rows):
            for axis, (source, kind) in zip(axes[i], columns):
                axis.set(xticks=[], yticks=[])
                axis.grid(False)
                axis.spines[:].set_visible(False)
                if kind == "text":
                    words = textwrap.fill(
                        str(texts[source][i]), wrap, max_lines=9, placeholder=" ..."
                    )
                    axis.text(
                        0.03,
                        0.5,
                        words or "(nothing)",
                        fontsize=5.6,
                        va="center",
                        ha="left",
                        transform=axis.transAxes,
                    )
                else:
                    axis.imshow((originals if source == "original" else pictures[source])[i])
                if i == 0 and (kind == "text" or source == "original" or source not in texts):
                    axis.set_title(source, fontsize=7.5, pad=3)
                if source == "original" and under:
                    axis.set_xlabel(under[i], fontsize=5.8, labelpad=2)
        return save(figure, path)
