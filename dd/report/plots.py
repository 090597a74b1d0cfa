"""Result files as figures. Every source has its own colour.

lengths(folder)      # of a study: figures/lengths.png and .pdf -> their path without the ending,
                     # or None where the study lacks what they show
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from .. import figures, published
from ..sources import LABELS, SOURCES
from .tables import (
    QUESTIONS,
    drawn_by,
    has_styles,
    is_emoji,
    most_shots,
    own,
    pooled,
    read_table,
    rows_of,
    short,
    trained_through,
    worded,
)

COLOURS = {row.label: row.colour for row in SOURCES.values()}
GREY = "#9a9a9a"  # of what another bar is compared with
COLOURS["originals"] = SOURCES["real"].colour
SHIPPED = Path(__file__).parents[2] / "results" / "full"
LIKE = {  # texts of the paper's Fig. 3, and the source of ours whose colour they share
    "human, random 1 of 5": "names",
    "human, 5 concatenated": "names_keywords",
    "BLIP-2 captions": "captioner",
    "PaLI-X captions": "captioner_detailed",
    "De-Diffusion": "dediffusion",
    "human, longest of 5": "alt_text",
}


def draws(stem: str, *names: str):
    """Of a function (tables, path, ...) -> path or None that draws figures/<stem>: the same for a
    study's folder, from its result files of these names (reconstruction.csv, if none is given)."""

    def of_tables(draw: Callable):
        def of_folder(folder: Path, *more) -> Path | None:
            tables = [read_table(folder, name) for name in names or ("reconstruction",)]
            if any(table is None for table in tables):
                return None
            return draw(*tables, Path(folder) / "figures" / stem, *more)

        of_folder.__name__, of_folder.__doc__ = draw.__name__, draw.__doc__
        return of_folder

    return of_tables


def _counted(n: pd.Series) -> str:
    """How many pictures or questions rows are of."""
    low, high = n.min(), n.max()
    return f"n = {high:,.0f}" if low == high else f"n from {low:,.0f} to {high:,.0f}"


def _bars(rows: pd.DataFrame, score: str, ylabel: str, title: str) -> dict:
    """A panel of bars from rows indexed by source; the title ends with their n."""
    value, low, high = (rows[c] for c in (score, f"{score}_lo", f"{score}_hi"))
    names = [LABELS.get(s, s) for s in rows.index]
    ends = {"values": value, "low": low, "high": high}
    title = f"{title}\n{_counted(rows['n'])}".strip()
    return {"names": names, **ends, "ylabel": ylabel, "title": title, "colours": COLOURS}


@draws("fid_guidance")
def curve(table, out, decoder: str | None = None) -> Path | None:
    """FID against guidance beside the paper's Fig. 3, with intervals for names and De-Diffusion:
    on test drawings if the study has that curve, else on validation drawings; drawn by the
    decoder trained through (figures/fid_guidance) or by another (fid_guidance_<decoder>)."""
    ours = own(table) if decoder is None else table[table["decoder"] == decoder]
    split = "curve" if (ours["split"] == "curve").any() else "val"
    ours = ours[ours["split"] == split].sort_values("guidance")
    if ours.empty:
        return None
    series = {}
    for source in (s for s in LABELS if s in set(ours["source"])):
        ends = ["fid_lo", "fid_hi"] if source in ("names", "dediffusion") else []
        rows = ours.loc[ours["source"] == source, ["guidance", "fid", *ends]]
        series[LABELS[source]] = tuple(rows.to_numpy().T)
    theirs = {name: (published.GUIDANCE, published.SWEEP[name]) for name in LIKE}
    drawings = {"curve": "test drawings", "val": "validation drawings"}[split]
    drawings = worded(drawings, table)
    name, n = short(ours["decoder"].iloc[0]), ours["n"].max()
    both = {"xlabel": "guidance", "markers": True}
    plots = [
        {
            "series": series,
            "ylabel": "FID (EfficientNet-Lite2)",
            "title": f"drawn by {name}, {n:,} {drawings}",
            "colours": COLOURS,
        },
        {
            "series": theirs,
            "ylabel": "FID (Inception-v3)",
            "title": "the paper, Table 6, n = 30,000",
            "colours": {name: SOURCES[source].colour for name, source in LIKE.items()},
        },
    ]
    out = out if decoder is None else out.with_name(f"{out.name}_{name}")
    return figures.panels([both | plot for plot in plots], out, size=(4.0, 3.3))


@draws("judges_paired")
def ranking(table, out) -> Path | None:
    """Paired similarity of every source on test drawings, one panel a decoder:
    figures/judges_paired. None without judges."""
    if table["decoder"].nunique() < 2:
        return None
    drawn = {
        decoder: rows_of(rows, "test").drop(index="autoencoder", errors="ignore")
        for decoder, rows in table[table["paired"].notna()].groupby("decoder", sort=False)
    }
    shown = [s for s in LABELS if all(s in rows.index for rows in drawn.values())]
    through, plots = trained_through(table), []
    for decoder, rows in drawn.items():
        title = drawn_by(decoder) + (" (trained through)" if decoder == through else "")
        plots.append(_bars(rows.loc[shown], "paired", "paired similarity", title))
    return figures.bar_panels(plots, out)


@draws("kid_within")
def narrow(table, out) -> Path | None:
    """KID of whole sets beside KID inside a style, every source, by the decoder trained through:
    figures/kid_within."""
    rows = rows_of(own(table), "test").dropna(subset="kid")
    if not has_styles(rows):
        return None
    titles = {"kid": "all drawings", "kid_within": "inside a style (mean)"}
    plots = [_bars(rows, score, "KID", title) for score, title in titles.items()]
    return figures.bar_panels(plots, out)


def _points(panels: list[dict], out: Path, size: tuple[float, float], sharey: bool) -> Path:
    """Points in their sources' colours, panel by panel: rows indexed by source, x and y (columns),
    and what the axes say; with the interval of y if the rows have it."""
    with figures.style():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=sharey)[0]
        for axis, panel in zip(axes, panels):
            for source, r in panel["rows"].iterrows():
                x, y = r[panel["x"]], r[panel["y"]]
                low, high = (r.get(f"{panel['y']}_{end}", y) for end in ("lo", "hi"))
                look = {"color": SOURCES[source].colour, "label": LABELS[source]}
                look |= {"fmt": "o", "markersize": 5 if low == high else 3.5, "elinewidth": 0.8}
                ends = None if low == high else [[y - low], [high - y]]
                axis.errorbar(x, y, ends, capsize=2, **look)
            axis.set(**panel["axis"])
            axis.tick_params(axis="x", rotation=panel.get("turned", 0))
        handles, labels = axes[0].get_legend_handles_labels()
        named = dict(zip(labels, handles))  # a source has one entry, however many points
        figure.legend(named.values(), named.keys(), loc="outside right center", fontsize=6.5)
        return figures.save(figure, out)


@draws("second_eye", "reconstruction", "second_eye")
def second_look(first, second, out) -> Path | None:
    """FID of the test drawings by two image networks, one point a source, one panel a decoder:
    figures/second_eye. Without empty text and random words, which are far from all others."""
    first = first[(first["split"] == "test") & ~first["source"].isin(("random", "empty"))]
    both = first.merge(second, on=["source", "decoder"], suffixes=("", "_2"))
    panels = []
    for decoder, rows in both.groupby("decoder", sort=False):
        title = f"drawn by {short(decoder)}, {_counted(rows['n'])}"
        axis = {"xlabel": "FID, EfficientNet-Lite2", "title": title}
        axis["ylabel"] = "" if panels else "FID, EfficientNet-Lite1"
        rows = rows.set_index("source").reindex([s for s in LABELS if s in set(rows["source"])])
        panels.append({"rows": rows, "x": "fid", "y": "fid_2", "axis": axis})
    size = (2.3 * len(panels) + 2.2, 2.6)
    return _points(panels, out, size, False) if panels else None


@draws("kid_by_style", "kid_by_style")
def by_style(table, out) -> Path | None:
    """KID style by style, a few sources, one panel a drawer: figures/kid_by_style."""
    names, sources = list(table["style"].unique()), list(table["source"].unique())
    aside = {s: 0.18 * (k - (len(sources) - 1) / 2) for k, s in enumerate(sources)}
    table["x"] = table["style"].map(names.index) + table["source"].map(aside)
    of, panels = table.groupby("style")["n"].max(), []
    labels = [f"{name}, n = {of[name]:,}" for name in names]
    for decoder, rows in table.groupby("decoder", sort=False):
        axis = {"title": drawn_by(decoder), "ylabel": "" if panels else "KID in the style"}
        axis |= {"xticks": range(len(names)), "xticklabels": labels}
        panel = {"rows": rows.set_index("source"), "x": "x", "y": "kid", "axis": axis}
        panels.append(panel | {"turned": 90})
    size = (2.6 * len(panels) + 2.2, 2.9)
    return _points(panels, out, size, False)


@draws("style_recognised", "style_recognised")
def styles(table, out) -> Path | None:
    """In how many pictures the style of the original shows: figures/style_recognised."""
    percent = table.set_index("source")[["recognised", "lo", "hi"]] * 100
    percent.columns = ["score", "score_lo", "score_hi"]
    percent["n"] = table["n"].to_numpy()
    panel = _bars(percent, "score", "style recognised, % of the test drawings", "")
    return figures.bars(path=out, digits=0, **panel)


@draws("lengths", "lengths")
def lengths(table, out) -> Path | None:
    """FID and paired similarity by number of words, and people's name across: figures/lengths."""
    people, ours, plots = table.iloc[0], table.iloc[1:], []
    title = f"{_counted(table['n'])}, one training each"
    both = {"xlabel": "words per text", "markers": True, "colours": COLOURS, "title": title}
    for score, label in (("fid", "FID, validation drawings"), ("paired", "paired similarity")):
        ends = [score, f"{score}_lo", f"{score}_hi"]
        series = {LABELS["dediffusion"]: (ours["tokens"], *(ours[end] for end in ends))}
        across = {LABELS["names"]: people[ends].tolist()}
        plots.append({**both, "series": series, "lines": across, "ylabel": label})
    return figures.panels(plots, out, size=(2.8, 2.7))


@draws("encoder_relaxations", "relaxations")
def recipes(table, out, drawings: int) -> Path | None:
    """Loss of the written text by training recipe, on so many validation drawings: the seeds' mean,
    and from the least to the largest of several: figures/encoder_relaxations."""
    of, seeds = table.groupby("name", sort=False)["probe_loss"], table["seed"].nunique()
    ends = {"low": of.min(), "high": of.max()} if seeds > 1 else {}
    label = f"probe loss (string), {drawings:,} validation drawings"
    title = f"mean of {seeds} trainings, least to largest" if seeds > 1 else "one training each"
    look = {"digits": 3, "size": (4.2, 0.35 + 0.24 * len(of)), "title": title}
    return figures.bars(of.mean().index, of.mean(), out, label, **ends, **look)


@draws("fid_at_n", "fid_at_n")
def fid_at_n(table, out) -> Path | None:
    """FID against 1 / n, and read off at infinitely many drawings: figures/fid_at_n."""
    table["x"] = (1000 / table["n"].where(table["n"] > 0)).fillna(0)
    lines = {s: rows.sort_values("x") for s, rows in table.groupby("source")}
    series = {LABELS[s]: (lines[s]["x"], lines[s]["fid"]) for s in LABELS if s in lines}
    sizes = table["n"][table["n"] > 0]
    title = f"n from {sizes.min():,} to {sizes.max():,}; at 0 the line through them"
    how = dict(markers=True, size=(4.4, 3.2), colours=COLOURS, title=title)
    label = worded("FID, test drawings", out.parents[1])
    return figures.curves(series, out, "1000 / n", label, **how)


@draws("judges_words", "judges_words")
def cut_words(table, out) -> Path | None:
    """Paired similarity of De-Diffusion's texts whole and cut, a panel a decoder:
    figures/judges_words."""
    plots = []
    for decoder, rows in table.groupby("decoder", sort=False):
        ends = {"low": rows["paired"] - rows["half"], "high": rows["paired"] + rows["half"]}
        look = {"title": f"drawn by {short(decoder)}", "ylabel": "paired similarity", "digits": 3}
        look["colours"] = dict.fromkeys(rows["kept"], SOURCES["dediffusion"].colour)
        plots.append({"names": rows["kept"], "values": rows["paired"], **ends, **look})
    return figures.bar_panels(plots, out)


def _own_or_shipped(folder: Path, find: Callable):
    for of in (Path(folder), SHIPPED)[: 2 if is_emoji(folder) else 1]:
        if (found := find(of)) is not None:
            print(f"Of the study {of.name}:")
            return found
    return "in no study here"


def shown(folder: Path, what: str | Callable, *columns: str, where: dict | None = None):
    """A table that not every study makes, to end a notebook's cell with: this study's, or where it
    has none the shipped full study's; which, is printed.

    what    a result file, or a function of a folder
    where   {column: value} of the rows shown"""

    def find(of: Path) -> pd.DataFrame | None:
        table = what(of) if callable(what) else read_table(of, what)
        for column, value in (where or {}).items() if table is not None else ():
            table = table[table[column] == value]
        return None if table is None else table[list(columns or table)].round(3)

    return _own_or_shipped(folder, find)


def picture(folder: Path, name: str):
    """The same for a figure."""

    def find(of: Path):
        path = of / "figures" / name
        return figures.show(path) if path.with_suffix(".png").exists() else None

    return _own_or_shipped(folder, find)


@draws("rate_quality", "rate_quality", "reconstruction")
def rate(table, scores, out) -> Path | None:
    """Mean length of a source's texts, in words and in bits, against FID, from rate_quality.csv:
    figures/rate_quality. Bits of a language model are there once notebook 8 has run."""
    n = rows_of(own(scores), "test")["n"]
    prices = {
        "words": "words per text (mean)",
        "bits": "bits per text (unigram model)",
        "bits_lm": "bits per text (language model)",
    }
    panels, fid = [], worded("FID, test drawings", out.parents[1])
    for x, label in prices.items():
        axis = {"xlabel": label, "ylabel": "" if panels else fid, "title": _counted(n)}
        if x in table:
            panels.append({"rows": table.set_index("source"), "x": x, "y": "fid", "axis": axis})
    size = (1.8 + 2.7 * len(panels), 2.9)
    return _points(panels, out, size, True)


def exact_match(rows: pd.DataFrame, title: str) -> dict:
    """A panel of bars from few_shot.csv's rows, indexed by context; * where a context holds the
    answer by construction."""
    rows = rows.rename(columns={"lo": "score_lo", "hi": "score_hi"})
    percent = (rows[["score", "score_lo", "score_hi"]] * 100).assign(n=rows["n"])
    title = title.replace("`", "'")
    return _bars(percent, "score", "exact match, %", title) | {"marks": rows["leak"]}


def _asked_with(rows: pd.DataFrame) -> str:
    """What stands under bars of answers."""
    draws = len({*rows["seed"].astype(str)} - {"all"})
    told = f"n questions, over {draws} draws of the examples; " if draws > 1 else ""
    return f"{told}* the context holds the answer"


def _by_context(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    rows = pooled(rows, kind, "exact").set_index("context")
    return rows.loc[[s for s in LABELS if s in rows.index]]


@draws("few_shot", "few_shot")
def answered(table, out) -> Path | None:
    """Exact match by context with the most examples, first model: every kind of question but
    `what`, then kind by kind: figures/few_shot."""
    if not (table["task"] == "vqa").any():
        return None
    rows = table[(table["model"] == table["model"].iloc[0]) & (table["task"] == "vqa")]
    plots = []
    for kind in ("all but what", "group", "colour", "style", "what"):
        if len(found := _by_context(most_shots(rows), kind)):
            plots.append(exact_match(found, QUESTIONS[kind]))
    return figures.bar_panels(plots, out, note=_asked_with(rows)) if plots else None


@draws("few_shot_readers", "few_shot")
def readers(table, out) -> Path | None:
    """Exact match by context, model by model, of the contexts that all were shown: every kind of
    question but `what`, and the main colour: figures/few_shot_readers."""
    if table.loc[table["task"] == "vqa", "model"].nunique() < 2:
        return None
    most, plots = most_shots(table[table["task"] == "vqa"]), []
    models = list(most["model"].unique())
    asked = most.groupby("context")["model"].nunique()
    shown = [s for s in LABELS if asked.get(s, 0) == len(models)]
    for kind in ("all but what", "colour"):
        for model in models:
            rows = _by_context(most[most["model"] == model], kind).loc[shown]
            plots.append(exact_match(rows, f"{model}: {QUESTIONS[kind]}"))
    return figures.bar_panels(plots, out, note=_asked_with(most))


@draws("few_shot_classes", "few_shot")
def classes(table, out) -> Path | None:
    """Classification with the classes named against drawings shown of each, first model, for the
    contexts that every model was shown: figures/few_shot_classes. None with one number of shots."""
    rows = pooled(table, "test", "exact")
    rows = rows[rows["induction"] & (rows["task"] == "classification")]
    if rows["shots"].nunique() < 2:
        return None
    models, asked = rows["model"].unique(), rows.groupby("context")["model"].nunique()
    columns, plots = ["score", "lo", "hi"], []
    asked_of = rows.groupby("ways")["n"].max()
    rows = rows[rows["model"] == models[0]].sort_values("shots").set_index(["context", "ways"])
    rows[columns] *= 100
    for ways in (2, 5):
        series = {
            LABELS[s]: tuple(rows.loc[[(s, ways)], ["shots", *columns]].to_numpy().T)
            for s in LABELS
            if asked.get(s, 0) == len(models)
        }
        look = {"xlabel": "drawings of each class", "ylabel": "exact match, %", "markers": True}
        title = f"{ways}-way, classes named, n = {asked_of[ways]:,}"
        look |= {"title": title, "colours": COLOURS}
        plots.append({"series": series, "lines": {"chance among the named": 100 / ways}, **look})
    return figures.panels(plots, out, size=(3.6, 3.3))


def _tested(names: pd.Series, rows: pd.DataFrame, score: str, tested, out: Path, **more) -> Path:
    """Bars of `score` +- half; those of `tested` in De-Diffusion's colour, the others grey."""
    colours = dict.fromkeys(names, GREY)
    colours |= dict.fromkeys(tested, SOURCES["dediffusion"].colour)
    ends = {"low": rows[score] - rows["half"], "high": rows[score] + rows["half"]}
    more["title"] = _counted(rows["n"])
    return figures.bars(names, rows[score], out, colours=colours, **ends, **more)


@draws("editing_blend_scores", "blending")
def blends(table, out) -> Path | None:
    """Similarity to the less similar parent, by kind of blend: figures/editing_blend_scores."""
    rows = table[table["similarity to"] == "lower of both"]
    told = {"ylabel": "similarity to the less similar parent", "digits": 3}
    told["tested"] = ("words in turn", "states halfway")
    return _tested(rows["picture from"], rows, "mean", out=out, **told)


@draws("editing_rates", "editing")
def edits(table, out) -> Path | None:
    """How much of the change is shown, edit by edit and text by text: figures/editing_rates."""
    if table.empty:
        return None
    names = table["edit"] + ": " + table["text"]
    told = {"ylabel": "share that shows it (heart: similarity)", "digits": 2}
    told["tested"] = names[table["text"] == "edited"]
    return _tested(names, table, "asked for", out=out, **told)
