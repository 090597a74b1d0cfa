"""Result files as tables of text: Markdown, LaTeX and HTML, and the headline for a terminal.

A table of text is a frame whose cells are printed as they are; `printed` writes it in every form.
"""

import html
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import read_csv, read_json, write_text
from ..sources import INCEPTION, LABELS, LITE2, SEARCH

SPLITS = {"test": "test drawings", "novel": "novel concepts", "outside": "outside drawings"}
QUESTIONS = {
    "what": "what is it",
    "group": "which group",
    "colour": "main colour",
    "style": "which style",
    "is it": "is it of group ...?",
    "is there": "is there any ...?",
    "all but what": "all but `what is it`",
}
NOTES = (
    "95 % intervals in brackets; FID and KID in {}; {}where nothing else is said, drawn by {}; "
    "one seed ({})."
)
WHY_NARROW = (
    "FID is of the whole mixture of styles: a decoder that has learnt that mixture can make it "
    "again from names alone, so FID does not reward what else a text says. KID in a style "
    "takes one style at a time (the mean is shown): each is a narrow target, as COCO is for the "
    "paper's decoder of the whole web, and there a text must say what a name does not."
)
FEW_SHOT_NOTES = (
    "95 % bootstrap intervals in brackets: of scores over questions, of differences over draws of "
    "examples, too; * the context (of a difference: the other one) holds the answer by "
    "construction. CIDEr's document frequencies are those of each draw's own references."
)


def read_table(folder: Path, name: str = "reconstruction", every_noise: bool = False):
    """A result file or None; reconstruction.csv without its further starting noises, or with."""
    path = Path(folder) / f"{name}.csv"
    if not path.exists():
        return None
    if name != "reconstruction":
        return read_csv(path)
    table = read_csv(path, "split", "source", "decoder", "seed")
    if every_noise:
        return table
    return table[table["seed"] == table["seed"].min()].reset_index(drop=True)


def seen_by(folder: Path) -> str:
    """What FID and KID are distances of."""
    path = Path(folder) / "parameters" / "05_reconstruction.json"
    features = read_json(path).get("features", LITE2) if path.exists() else LITE2
    if features.startswith(INCEPTION):
        return "Inception-v3's 2,048 features (torchmetrics, antialiased)"
    if features != LITE2:
        return f"features of {short(features)}, not comparable with Inception's"
    return "EfficientNet-Lite2 features, not comparable with Inception's"


def is_emoji(of: pd.DataFrame | Path) -> bool:
    """Whether a table of a study, or its folder, is of the emoji world."""
    if isinstance(of, pd.DataFrame):
        return of.iloc[0].get("world", "emoji") == "emoji"
    told = map(read_json, Path(of).glob("parameters/*.json"))
    return all(parameters.get("world", "emoji") == "emoji" for parameters in told)


def worded(text: str, of: pd.DataFrame | Path) -> str:
    """What we say of drawings; in another world than emoji they are images."""
    if is_emoji(of):
        return text
    return text.replace("drawing", "image").replace("Drawing", "Image")


def has_styles(table: pd.DataFrame) -> bool:
    """Whether any row has a KID inside styles: other worlds than emoji have none."""
    return "kid_within" in table and bool(table["kid_within"].notna().any())


def own(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's own decoder: the first in the table."""
    return table[table["decoder"] == table["decoder"].iloc[0]]


def trained_through(table: pd.DataFrame) -> str | None:
    """The decoder that the encoder was trained through: the study's own in the emoji world. In
    another one it need not be: None."""
    return table["decoder"].iloc[0] if is_emoji(table) else None


def rows_of(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """One row a source, indexed by it, in the sources' order."""
    rows = table[table["split"] == split].drop_duplicates("source").set_index("source")
    return rows.loc[[s for s in LABELS if s in rows.index]]


def swept(table: pd.DataFrame, split: str = "val") -> pd.DataFrame:
    """FID by guidance (rows) and source (columns): of the sweep ("val") or the "curve"."""
    rows = table[table["split"] == split]
    return rows.pivot_table(index="guidance", columns="source", values="fid", sort=True)


def short(decoder: str) -> str:
    """A decoder's name; train-decoder's folders are all called pipeline: then the parent's."""
    path = Path(decoder)
    return path.parent.name if path.name == "pipeline" else path.name


def drawn_by(decoder: str) -> str:
    return f"{'found' if decoder == SEARCH else 'drawn'} by {short(decoder)}"


def number(form: str, value: float, *ends: float) -> str:
    """A number as text, with its interval if there is one; - for none."""
    interval = f" [{', '.join(f'{end:{form}}' for end in ends)}]" if ends else ""
    return "-" if pd.isna(value) else f"{value:{form}}{interval}"


def interval(row: pd.Series, score: str) -> str:
    """A score of a row with its interval."""
    size = abs(row[score])
    share = score == "paired" or score.startswith("right")
    form = ".3f" if share else ".2f" if size < 100 else ".1f" if size < 1000 else ".0f"
    return number(form, row[score], row[f"{score}_lo"], row[f"{score}_hi"])


def source_table(table: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = rows_of(table, split)
    scores = {"FID": "fid", "KID in a style": "kid_within", "KID": "kid", "paired": "paired"}
    if not has_styles(table):
        del scores["KID in a style"]
    text = {
        "text source": [LABELS[s] for s in rows.index],
        "guidance": [number("g", g) for g in rows["guidance"]],
    }
    for head, score in scores.items():
        if score in rows:
            text[head] = [interval(r, score) for _, r in rows.iterrows()]
    text["R@1 %"] = [number(".1f", 100 * r) for r in rows["r_at_1"]]
    for of in ("concept", "style"):
        right = [f"right_{of}{end}" for end in ("", "_lo", "_hi")]
        if right[0] in rows and rows[right[0]].notna().any():
            text[f"right {of} %"] = [number(".1f", *r) for r in 100 * rows[right].to_numpy()]
    text["n"] = [str(int(n)) for n in rows["n"]]
    return pd.DataFrame(text)


def blocks(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(heading, table) by decoder and split: the decoder trained through first, then the judges."""
    found = []
    for k, decoder in enumerate(table["decoder"].unique()):
        for split, title in SPLITS.items():
            text = source_table(table[table["decoder"] == decoder], split)
            title = worded(title, table)
            if len(text):
                found.append((title if k == 0 else f"{title}, {drawn_by(decoder)}", text))
    return found


def noises(folder: Path) -> pd.DataFrame | None:
    """Mean and range over the starting noises of each row drawn from several; None without them."""
    table = read_table(folder, every_noise=True)
    if table is None or table["seed"].nunique() < 2:
        return None
    by, rows = ["decoder", "split", "source"], []
    table = table[table["split"].isin(SPLITS) & table.duplicated(by, keep=False)]
    for (decoder, split, source), draws in table.groupby(by, sort=False):
        over = draws[["fid", "kid", "paired"]].agg(["mean", "min", "max"])
        row = {"drawn by": short(decoder), worded("drawings", folder): split}
        row |= {"text source": LABELS[source]}
        row |= {"draws": str(len(draws)), "FID": number(".1f", *over["fid"])}
        row |= {"KID": number(".2f", *over["kid"]), "paired": number(".3f", *over["paired"])}
        rows.append(row)
    return pd.DataFrame(rows)


def ahead(folder: Path) -> pd.DataFrame | None:
    """differences.csv: De-Diffusion minus each other source, by decoder; None without it."""
    table, rows = read_table(folder, "differences"), {}
    if table is None:
        return None
    heads = {"fid": ("FID", "+.1f"), "kid_within": ("KID in a style", "+.2f")}
    heads["paired"] = "paired", "+.3f"
    for r in table.itertuples():
        who = {"drawn by": short(r.decoder), "De-Diffusion minus": LABELS[r.than]}
        head, form = heads[r.score]
        row = rows.setdefault((r.decoder, r.than), who)
        row[head] = number(form, r.difference, r.lo, r.hi)
    return pd.DataFrame(rows.values())


def crossing(folder: Path) -> pd.DataFrame | None:
    """Paired similarity, trained through (rows) x drawn by (columns); * where the two are one."""
    table = read_table(folder, "crossed")
    if table is None:
        return None
    rows = {}
    for r in table.itertuples():
        cell = number(".3f", r.paired, r.paired_lo, r.paired_hi)
        mark = " *" if r.trained_through == r.decoder else ""
        row = rows.setdefault(r.trained_through, {"trained through": short(r.trained_through)})
        row[f"drawn by {short(r.decoder)}"] = cell + mark
    return pd.DataFrame(rows.values())


def kid_by_style(folder: Path) -> pd.DataFrame | None:
    """KID style by style from the texts of a few sources, by every drawer; None without it."""
    table = read_table(folder, "kid_by_style")
    if table is None:
        return None
    rows = {}
    for r in table.itertuples():
        who = {"by": short(r.decoder), "style": r.style, "n": str(r.n)}
        row = rows.setdefault((r.decoder, r.style), who)
        row[LABELS[r.source]] = number(".2f", r.kid, r.kid_lo, r.kid_hi)
    return pd.DataFrame(rows.values())


def crossings(gap: pd.Series) -> list[float]:
    """Where a difference over guidance (its index) changes sign, on straight lines between."""
    x, y = gap.index.to_numpy(float), gap.to_numpy(float)
    at = np.flatnonzero(y[:-1] * y[1:] < 0)
    return list(x[at] - y[at] * np.diff(x)[at] / np.diff(y)[at])


def guidance_summary(folder: Path) -> pd.DataFrame | None:
    """Does the order depend on how guidance is chosen? FID of the curve on test drawings at each
    source's own best guidance (flattering to all), at the one that is best on average, at the
    paper's lowest (1.5), and where De-Diffusion's curve crosses this one. None without a curve."""
    table = read_table(folder)
    if table is None or not (table["split"] == "curve").any():
        return None
    rows, curve = [], table[table["split"] == "curve"]
    for decoder, drawn in curve.groupby("decoder", sort=False):
        fid = swept(drawn, "curve")
        shared, ours = fid.mean(axis=1).idxmin(), fid["dediffusion"]
        for source in (s for s in LABELS if s in fid):
            theirs = fid[source]
            crossed = ", ".join(f"{w:.1f}" for w in crossings(ours - theirs))
            side = "ahead" if ours.iloc[-1] < theirs.iloc[-1] else "behind"
            row = {"drawn by": short(decoder), "text source": LABELS[source]}
            row["best"] = f"{theirs.min():.1f} at {theirs.idxmin():g}"
            row["shared"] = f"{theirs[shared]:.1f} at {shared:g}"
            if 1.5 in fid.index:
                row["at 1.5"] = f"{theirs[1.5]:.1f}"
            same = source == "dediffusion"
            row["De-Diffusion crosses"] = "-" if same else crossed or f"never: {side}"
            rows.append(row)
    return pd.DataFrame(rows)


def pooled(table: pd.DataFrame, kind: str, metric: str) -> pd.DataFrame:
    """few_shot.csv's rows of one kind and score over all seeds of examples."""
    every_seed = table["seed"].astype(str) == "all"
    return table[(table["kind"] == kind) & (table["metric"] == metric) & every_seed]


def most_shots(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the most examples that each model was shown."""
    return rows[rows["shots"] == rows.groupby("model")["shots"].transform("max")]


def _as_text(table: pd.DataFrame, context: str, score: str, sign: str = "") -> pd.DataFrame:
    """Rows in the sources' order with their text: percent (CIDEr x 100), * where it leaks."""
    scale = np.where(table["kind"] == "caption", 1, 100)
    values = zip(table[score] * scale, table["lo"] * scale, table["hi"] * scale, table["leak"])
    order = {source: k for k, source in enumerate(LABELS)}
    text = table.assign(
        cell=[number(f"{sign}.1f", *v) + "*" * bool(leak) for *v, leak in values],
        rank=table[context].map(order),
        context=table[context].map(LABELS),
        given=["pseudo-examples" if s == 0 else f"{s} examples" for s in table["shots"]],
        asked=table["kind"].map(QUESTIONS),
    )
    by = [c for c in ("rank", "ways", "shots") if c in text]
    return text.sort_values(by, kind="stable")


def few_shot_tables(folder: Path) -> list[tuple[str, pd.DataFrame]]:
    """few_shot.csv in the form of the paper's tables, (heading, table) each, over all seeds of
    examples."""
    scores, apart = read_table(folder, "few_shot"), read_table(folder, "few_shot_differences")
    if scores is None:
        return []
    scores = _as_text(scores[scores["seed"].astype(str) == "all"], "context", "score")
    apart = None if apart is None else _as_text(apart, "than", "difference", "+")
    found, but_what = [], "kinds: all but `what is it`"
    minus = "De-Diffusion minus that from another context"

    def add(title, rows, columns, *index):
        if len(rows):
            by = ["rank", "context", *index]
            text = rows.pivot_table("cell", by, columns, aggfunc="first", sort=False).fillna("-")
            sizes = ", ".join(map(str, sorted(set(rows["n"]))))
            text = text.reset_index().drop(columns="rank").rename_axis(columns=None)
            found.append((f"{title}; n = {sizes}", text))

    for model, rows in scores.groupby("model", sort=False):
        asked = rows[rows["task"] == "vqa"]
        whole = asked[asked["kind"] == "all but what"]
        for metric, name in (("exact", "exact match"), ("vqa", "VQA accuracy")):
            title = f"Questions ({model}): {name}, by shots (Tables 1, 7); {but_what}"
            add(title, whole[whole["metric"] == metric], "given")
        kinds = most_shots(asked[~asked["kind"].str.startswith("all")])
        title = f"Questions ({model}), {kinds['shots'].max()} examples: exact match by kind"
        add(title, kinds[kinds["metric"] == "exact"], "asked")
        if apart is not None:
            same = apart[apart["model"] == model]
            title = f"The same questions ({model}): exact match from {minus}; {but_what}"
            add(title, same[same["kind"] == "all but what"], "given")
            kinds = most_shots(same[~same["kind"].str.startswith("all")])
            title = f"The same questions ({model}), {kinds['shots'].max()} examples: "
            add(f"{title}exact match from {minus}, by kind", kinds, "asked")
        played = rows[rows["task"] == "classification"].assign(
            how=lambda t: [f"{w}-way {s}-shot" for w, s in zip(t["ways"], t["shots"])],
            **{"induction named": lambda t: t["induction"].map({True: "yes", False: "no"})},
        )
        for split, title in SPLITS.items():
            title = f"Open-ended classification of {title} ({model}): exact match by ways and shots"
            add(f"{title} (Table 3)", played[played["kind"] == split], "how", "induction named")
        title = f"Captions ({model}): CIDEr against people's names and keywords, by shots (Table 2)"
        add(title, rows[rows["task"] == "captioning"], "given")
    return found


def flat(text) -> str:
    """Anybody's text on one line."""
    return " ".join(str(text).split())


def cell(text) -> str:
    """The same in Markdown: it ends no cell and is no HTML."""
    return html.escape(flat(text), quote=False).replace("|", r"\|")


def printed(table: pd.DataFrame, form: str, **more) -> list[str]:
    """A table of text as lines of "md", "tex" (the head, then the rows) or "html" (`more`: of
    DataFrame.to_html)."""
    if form == "html":
        ours = f"<tr>\n      <td>{LABELS['dediffusion']}</td>"
        with pd.option_context("display.max_colwidth", None):
            page = table.to_html(index=False, border=0, **more)
        return page.replace(ours, ours.replace("<tr>", "<tr class=best>")).splitlines()
    if form == "tex":
        table = table.map(flat).rename(columns=flat).replace("-", "--")
        lines = table.to_latex(index=False, escape=True).splitlines()
        return [line for line in lines if line.endswith(r"\\")]
    words = [c.astype(str).str.contains(r"[^\W\d_]{2}").any() for _, c in table.items()]
    rule = "|".join("---" if left else "---:" for left in [True, *words[1:]])
    lines = (map(cell, cells) for cells in [table.columns, *table.to_numpy()])
    head, *rows = (f"| {' | '.join(cells)} |" for cells in lines)
    return [head, f"|{rule}|", *rows]


def write_tables(
    stem: Path, found: list[tuple[str, pd.DataFrame]], notes: str, before: str = ""
) -> list[Path]:
    """stem.md and stem.tex; in LaTeX a head that all tables share stands once, on top. `before`:
    what a reader of the Markdown is told first."""
    md, tex = [before, ""] if before else [], []
    shared = len({tuple(table.columns) for _, table in found}) == 1
    widest = max((len(table.columns) for _, table in found), default=1)
    for title, table in found:
        md += [f"**{cell(title)}**", "", *printed(table, "md"), ""]
        head, *rows = printed(table, "tex")
        escaped = printed(pd.DataFrame(columns=[title]), "tex")[0].removesuffix(r" \\")
        heading = rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{escaped}}}}} \\"
        top = [heading] if shared else [heading, head, r"\midrule"]
        tex += [*top, *rows, r"\midrule"]
    if shared:
        tex = [head, r"\midrule", *tex]
    begin = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{l{'r' * (widest - 1)}}}"]
    tex = [*begin, r"\toprule", *tex[:-1], r"\bottomrule", r"\end{tabular}"]
    tex += [f"% {flat(notes)}", ""]
    paths = [stem.with_suffix(".md"), stem.with_suffix(".tex")]
    for path, lines in zip(paths, ([*md, notes, ""], tex)):
        write_text(path, "\n".join(lines))
    return paths


def tables(folder: Path) -> list[Path]:
    """What the study has of tables/reconstruction.md and .tex (test, novel and outside drawings,
    the same by each judge), few_shot.md and .tex, noise.md, crossed.md, guidance.md and
    kid_by_style.md."""
    table, out, paths = read_table(folder), Path(folder) / "tables", []
    if table is not None:
        through = "trained through and, " if trained_through(table) else ""
        facts = table["decoder"].iloc[0], table["seed"].iloc[0]
        notes = NOTES.format(seen_by(folder), through, *facts)
        why = WHY_NARROW if has_styles(table) else ""
        paths += write_tables(out / "reconstruction", blocks(table), notes, why)
    if found := few_shot_tables(folder):
        paths += write_tables(out / "few_shot", found, FEW_SHOT_NOTES)
    more = {"noise": noises, "crossed": crossing, "guidance": guidance_summary}
    more["kid_by_style"] = kid_by_style
    for name, make in more.items():
        if (text := make(folder)) is not None:
            write_text(out / f"{name}.md", "\n".join(printed(text, "md")) + "\n")
    return paths


def verdict_line(table: pd.DataFrame) -> str:
    """De-Diffusion's text against people's names, picture by picture and as a set."""
    rows = rows_of(table, "test")
    if not {"dediffusion", "names"} <= set(rows.index):
        return "De-Diffusion or names missing from the test table: no verdict."
    told = []
    for score, label, digits in (("paired", "paired similarity", 3), ("fid", "FID", 1)):
        ours, people = (rows.loc[source] for source in ("dediffusion", "names"))
        apart = ours[f"{score}_hi"] < people[f"{score}_lo"]
        apart |= people[f"{score}_hi"] < ours[f"{score}_lo"]
        values = f"{ours[score]:.{digits}f} against {people[score]:.{digits}f}"
        told += [f"{label} {values} (intervals {'apart' if apart else 'overlap'})"]
    return f"De-Diffusion's text against people's names: {told[0]}; as a set, {told[1]}"


def headline(folder: Path) -> str:
    """The test drawings' table as plain text, and one verdict."""
    table = read_table(folder)
    if table is None:
        return f"no results yet in {folder}: notebook 05_reconstruction writes them"
    text = source_table(own(table), "test").set_index("text source")
    shown = text.rename_axis(index=None, columns="text source").to_string()
    return f"{shown}\n\n{verdict_line(own(table))}"
