"""The tables of README.md and results/README.md, made anew from results/full.

    python tools/fill_tables.py            # after `make study STUDY=full`
    python tools/fill_tables.py --check    # exit code 1 if a table is not what the results say

What stands between `<!-- table NAME -->` and `<!-- end NAME -->` is replaced; the names are those
of TABLES below. No other line is touched.
"""

from __future__ import annotations

import re
import sys
from functools import cache, partial
from pathlib import Path

import pandas as pd

from dd import report
from dd.report.tables import interval, number, printed, rows_of
from dd.sources import LABELS

ROOT = Path(__file__).parent.parent
FULL = ROOT / "results" / "full"
PAGES = ("README.md", "results/README.md")
COMPARED = {*report.read_table(FULL, "differences")["than"]}  # with De-Diffusion
COMPARED |= {"dediffusion", "alt_text", "shuffled", "empty"}


def block(title: str) -> pd.DataFrame:
    """A table of report.blocks by its heading."""
    return dict(report.blocks(report.read_table(FULL)))[title]


def across(score: str, split: str = "test") -> pd.DataFrame:
    """One score of what is compared, a column for each decoder and the search engine."""
    table = report.read_table(FULL)
    of = {d: rows_of(table[table["decoder"] == d], split) for d in table["decoder"].unique()}
    cell = lambda rows, s: interval(rows.loc[s], score) if s in rows.index else "-"
    sources = [s for s in LABELS if s in COMPARED]
    text = {"text source": [LABELS[s] for s in sources]}
    text |= {report.short(d): [cell(rows, s) for s in sources] for d, rows in of.items()}
    return pd.DataFrame(text)


def first_page() -> pd.DataFrame:
    """The main table's rows that the first page compares."""
    rows = block("test drawings").drop(columns="n").set_index("text source")
    shown = [LABELS[s] for s in LABELS if s in ("autoencoder", "ideal_name", *COMPARED)]
    return rows.loc[[label for label in shown if label in rows.index]].reset_index()


def outside() -> pd.DataFrame:
    """FID and paired similarity of outside drawings, by every decoder that draws."""
    fid, paired = across("fid", "outside"), across("paired", "outside")
    kept = fid["sketch"] != "-"
    text = {"text source": fid["text source"]}
    for of in (d for d in fid.columns[1:] if d != "search"):
        text |= {f"{of}: FID": fid[of], f"{of}: paired": paired[of]}
    return pd.DataFrame(text)[kept]


def texts() -> pd.DataFrame:
    """What the texts of each source are made of (readability.csv)."""
    rows = report.read_table(FULL, "readability")
    percent = lambda column: [number(".0f", 100 * v) for v in rows[column]]
    return pd.DataFrame(
        {
            "text source": [LABELS[s] for s in rows["source"]],
            "words": [number(".1f", v) for v in rows["words"]],
            "different ones": [number(".1f", v) for v in rows["distinct"]],
            "of them used for that drawing by people or the alt text, %": percent("precision"),
            "of the name's words said, %": percent("coverage"),
        }
    )


def styles() -> pd.DataFrame:
    """In how many pictures the original's style is recognised (style_recognised.csv)."""
    rows = report.read_table(FULL, "style_recognised")
    cell = lambda r: number(".1f", 100 * r["recognised"], 100 * r["lo"], 100 * r["hi"])
    return pd.DataFrame(
        {
            "pictures from": [LABELS.get(s, s) for s in rows["source"]],
            "style recognised, %": [cell(r) for _, r in rows.iterrows()],
        }
    )


def edits() -> pd.DataFrame:
    """Words exchanged (editing.csv)."""
    rows = report.read_table(FULL, "editing")
    text = rows[["edit", "text"]].copy()
    text["asked for"] = [f"{r['asked for']:.3f} ± {r['half']:.3f}" for _, r in rows.iterrows()]
    text["like the original"] = [f"{v:.3f}" for v in rows["like the original"]]
    return text


def cut() -> pd.DataFrame:
    """Parts of De-Diffusion's texts, paired similarity (judges_words.csv)."""
    rows = report.read_table(FULL, "judges_words")
    rows["cell"] = [f"{r['paired']:.3f} ± {r['half']:.3f}" for _, r in rows.iterrows()]
    text = rows.pivot(index="kept", columns="decoder", values="cell")
    order = [[*dict.fromkeys(rows[c])] for c in ("kept", "decoder")]
    return text.loc[order[0], order[1]].rename_axis("kept of the text").reset_index()


def claims() -> pd.DataFrame:
    told = pd.DataFrame(report.claims(FULL))
    return told.assign(verdict="**" + told["verdict"] + "**")[["id", "statement", "verdict"]]


def lengths() -> pd.DataFrame:
    """The paper's Table 4: few and many words, on validation drawings."""
    rows = report.read_table(FULL, "lengths")
    names = {0: "people: name"}
    text = {"words": [names.get(n, str(n)) for n in rows["tokens"]]}
    for head, score in (("FID", "fid"), ("paired", "paired")):
        text[head] = [interval(r, score) for _, r in rows.iterrows()]
    return pd.DataFrame(text)


def recipes() -> pd.DataFrame:
    """Training recipes of the encoder, mean and range over the training seeds if several."""
    rows = report.read_table(FULL, "relaxations")
    text = []
    for name, of in rows.groupby("name", sort=False):
        cell = {"recipe": name}
        for head, column, form in (
            ("denoising loss", "probe_loss", ".4f"),
            ("different words in a text", "distinct_words", ".1f"),
            ("words that fit", "fitting_words", ".2f"),
        ):
            v = of[column]
            ends = (v.min(), v.max()) if len(v) > 1 else ()
            cell[head] = number(form, v.mean(), *ends)
        text.append(cell)
    return pd.DataFrame(text)


few_shot = cache(partial(report.few_shot_tables, FULL))  # six tables come from one reading


def asked(title: str) -> pd.DataFrame:
    """A table of notebook 8 whose heading begins like this."""
    return next(t for name, t in few_shot() if name.startswith(title))


TABLES = {
    "first page": first_page,
    "outside": outside,
    "texts": texts,
    "styles": styles,
    "edits": edits,
    "cut": cut,
    "headline": lambda: block("test drawings"),
    "novel": lambda: block("novel concepts"),
    "differences": lambda: report.ahead(FULL),
    "fid": lambda: across("fid"),
    "kid_within": lambda: across("kid_within"),
    "paired": lambda: across("paired"),
    "lengths": lengths,
    "recipes": recipes,
    "smollm2": lambda: asked("Questions (smollm2): exact match, by shots"),
    "gemma3": lambda: asked("Questions (gemma3): exact match, by shots"),
    "smollm2 kinds": lambda: asked("Questions (smollm2), 16 examples"),
    "gemma3 kinds": lambda: asked("Questions (gemma3), 16 examples"),
    "smollm2 minus": lambda: asked("The same questions (smollm2)"),
    "gemma3 minus": lambda: asked("The same questions (gemma3)"),
    "claims": claims,
}
PLACE = re.compile(r"<!-- table (?P<name>.+?) -->\n.*?<!-- end (?P=name) -->", re.S)


def filled(text: str) -> str:
    """A page with its tables as the results have them."""

    def made(place: re.Match) -> str:
        name = place["name"]
        rows = "\n".join(printed(TABLES[name](), "md"))
        return f"<!-- table {name} -->\n{rows}\n<!-- end {name} -->"

    return PLACE.sub(made, text)


def main() -> int:
    check, stale = "--check" in sys.argv[1:], []
    for path in (ROOT / page for page in PAGES):
        before = path.read_text()
        if (after := filled(before)) != before:
            stale.append(path.name)
            if not check:
                path.write_text(after)
    print("changed:" if stale else "all tables are as the results say", *stale)
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
