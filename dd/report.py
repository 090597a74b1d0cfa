"""From result files to tables, figures, verdicts and one page to read. Knows results only: no model is loaded, nothing is computed anew.

    headline(folder)                       # the table of the test drawings as text, and one verdict
    claims(folder)                         # every claim below -> holds | does not hold | not tested, with its numbers
    build_report(folder, notebooks)        # results/<study>/report/index.html, readable without a network

Files missing from a study (no sweep in `quick`, a notebook not yet run) leave their part out and never stop the rest.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from . import published
from .runtime import write_json
from .texts import LENGTHS

COMMONEST = "commonest"  # answers that no model gave
NAMES = {
    "real": "originals, half against half",
    "autoencoder": "autoencoder only (floor)",
    "names": "people: name",
    "names_keywords": "people: name and keywords",
    "names_all": "people: all they wrote",
    "retrieval": "name of the nearest training drawing",
    "captioner": "captioner, taught names",
    "captioner_detailed": "captioner, taught alt text",
    "interrogator": "interrogator: chained phrases",
    "pez": "hard prompts by similarity (PEZ)",
    "ph2p": "hard prompts by the decoder's loss (after PH2P)",
    "dediffusion": "De-Diffusion",
    **{f"dediffusion_{N}": f"De-Diffusion, {N} words, briefly trained" for N in LENGTHS},
    "alt_text": "alt text (oracle)",
    "soft": "De-Diffusion, soft tokens (ceiling)",
    "shuffled": "De-Diffusion, shuffled (control)",
    "random": "random words (control)",
    "empty": "empty text (control)",
    "commonest": "always the commonest answer, unread",
}
SPLITS = {"test": "test drawings", "novel": "novel concepts"}
KEY_FIGURES = {
    "reconstruction_sheet": "Original, text, and what the decoder draws from the text.",
    "fid_guidance": "FID against guidance, ours and the paper's.",
    "kid_within": "Distance of whole sets, and inside one drawing style.",
    "judges_sheet": "One text, two decoders: only the first was ever asked what it likes to read.",
    "judges_paired": "Closeness to the own original, by decoder.",
    "texts_examples": "One drawing, in people's, De-Diffusion's and the alt text's words.",
    "rate_quality": "Words spent against distance left.",
    "texts_words": "The words used most, by the encoder and by people.",
}


# -- claims: fixed before the numbers were made ---------------------------------------------------------------------------------


class Claim(NamedTuple):
    id: str
    statement: str
    place: str  # in the paper; "-" for a control of ours
    criterion: str
    test: Callable[[pd.DataFrame], tuple[bool | None, str]]
    table: str = "own"  # which rows it is about: "own", of the decoder trained through; "all", of the judges, too; "few_shot"; "lengths"; "noise", of every starting noise; "eyes", both eyes'; "crossed"


def row(table: pd.DataFrame, split: str, source: str) -> pd.Series | None:
    """The one row of a source on test or novel; None if the study has none."""
    found = table[(table["split"] == split) & (table["source"] == source)]
    return found.iloc[0] if len(found) else None


def below(split: str, score: str, low: str, *high: str, apart: bool = True):
    """A test: `low`'s score lies below that of each source in `high`, with their intervals apart."""

    def test(table):
        rows = [row(table, split, s) for s in (low, *high)]
        if any(r is None for r in rows):
            return (
                None,
                f"no row for {' or '.join(s for s, r in zip((low, *high), rows) if r is None)} on {split}",
            )
        if score not in table:
            return None, f"no column {score}: these results are of an earlier version"
        a, *others = rows
        good = all(
            a[f"{score}_hi"] < b[f"{score}_lo"] if apart else a[score] < b[score] for b in others
        )
        return good, "; ".join(f"{score} of {r['source']} {interval(r, score)}" for r in rows)

    return test


def together(verdicts) -> bool | None:
    """One refutation refutes; short of one, a missing verdict leaves the whole open."""
    return False if False in verdicts else None if None in verdicts else True


def every(*tests):
    """A test: all of `tests` hold."""

    def test(table):
        verdicts, told = zip(*(t(table) for t in tests))
        return together(verdicts), "; ".join(told)

    return test


def more_than(source: str):
    """A test: the alt text draws better than `source`, as a set (FID) and drawing by drawing (paired similarity)."""
    return every(
        below("test", "fid", "alt_text", source), below("test", "paired", source, "alt_text")
    )


def interval(r: pd.Series, score: str) -> str:
    digits = (
        3 if score == "paired" else 2 if abs(r[score]) < 100 else 1 if abs(r[score]) < 1000 else 0
    )
    return f"{r[score]:.{digits}f} [{r[f'{score}_lo']:.{digits}f}, {r[f'{score}_hi']:.{digits}f}]"


def shuffled_collapse(table):
    own, other, chance = (row(table, "test", s) for s in ("dediffusion", "shuffled", "random"))
    if own is None or other is None or chance is None:
        return None, "dediffusion, shuffled and random are all needed on test"
    kept = own["fid_lo"] <= other["fid"] <= own["fid_hi"]
    fell = other["paired"] <= chance["paired"] + 0.1 * (own["paired"] - chance["paired"])
    return bool(kept and fell), (
        f"fid {other['fid']:.1f} shuffled, De-Diffusion {interval(own, 'fid')}; paired {other['paired']:.3f} shuffled, "
        f"{chance['paired']:.3f} random, {own['paired']:.3f} De-Diffusion"
    )


def floor_is_low(table):
    floor, people = row(table, "test", "autoencoder"), row(table, "test", "names")
    if floor is None or people is None:
        return None, "autoencoder and names are both needed on test"
    return (
        bool(floor["fid"] <= people["fid"] / 6),
        f"fid {floor['fid']:.1f} autoencoder, {people['fid']:.1f} names: 1 to {people['fid'] / floor['fid']:.1f}",
    )


def swept(table: pd.DataFrame, split: str = "val") -> pd.DataFrame:
    """FID over guidance, of the sweep on validation drawings or of the "curve" on test drawings: one row a guidance, one column a source."""
    return table[table["split"] == split].pivot_table(
        index="guidance", columns="source", values="fid", sort=True
    )


def in_sweep(low: float, high: float, better: bool):
    """A test: at every swept guidance from low to high De-Diffusion's FID is below (better) or above names'."""

    def test(table):
        fid = swept(table)
        fid = fid[(fid.index >= low) & (fid.index <= high)]
        if fid.empty or not {"dediffusion", "names"} <= set(fid.columns):
            return None, f"no sweep between guidance {low:g} and {high:g} in this study"
        gaps = fid["dediffusion"] - fid["names"]
        good = gaps < 0 if better else gaps > 0
        return bool(good.all()), "De-Diffusion minus names: " + ", ".join(
            f"{g:+.1f} at {w:g}" for w, g in gaps.items()
        )

    return test


def on_curve(low: float, *others: str):
    """A test: on the curve of the test drawings De-Diffusion's FID lies below that of each of `others` at every guidance from low on."""

    def test(table):
        fid = swept(table, "curve")
        fid = fid[fid.index >= low]
        if fid.empty or not {"dediffusion", *others} <= set(fid.columns):
            return None, "no curve of all these sources on test drawings in this study"
        gaps = {s: fid["dediffusion"] - fid[s] for s in others}
        told = "; ".join(
            f"De-Diffusion minus {s}: " + ", ".join(f"{g:+.1f} at {w:g}" for w, g in gap.items())
            for s, gap in gaps.items()
        )
        return all(bool((gap < 0).all()) for gap in gaps.values()), told

    return test


def flatter(table):
    fid = swept(table)
    if len(fid) < 3 or not {"dediffusion", "names"} <= set(fid.columns):
        return None, "no sweep in this study"
    rise = {s: fid[s].iloc[-1] / fid[s].min() for s in ("dediffusion", "names")}
    return (
        bool(rise["dediffusion"] < rise["names"]),
        f"FID at guidance {fid.index[-1]:g} over the lowest: {rise['dediffusion']:.3f} De-Diffusion, {rise['names']:.3f} names",
    )


def by_judges(*tests, fit: bool = True):
    """A test: every one of `tests` holds on the rows of every decoder but the one that the encoder was trained through. With `fit`, a
    decoder that cannot tell alt text from silence is heard on nothing else."""

    def one(rows, t):
        able, told = more_than("empty")(rows) if fit else (True, "")
        return t(rows) if able else (None, f"no fit judge ({told})")

    def test(table):
        others = list(table["decoder"].unique())[1:]
        if not others:
            return None, "every row was drawn by the decoder that the encoder was trained through"
        results = [(d, *one(table[table["decoder"] == d], t)) for d in others for t in tests]
        return together([good for _, good, _ in results]), "; ".join(
            f"{d}: {told}" for d, _, told in results
        )

    return test


def pairing_matters(table):
    own, other = row(table, "test", "dediffusion"), row(table, "test", "shuffled")
    if own is None or other is None:
        return None, "dediffusion and shuffled are both needed on test"
    good = (
        own["paired_lo"] > max(0.0, other["paired_hi"])
        and other["paired_lo"] <= 0.1 * own["paired"]
    )
    return bool(good), f"paired {interval(own, 'paired')}, shuffled {interval(other, 'paired')}"


def transfers(table):
    good, told = below("test", "fid", "dediffusion", "names")(table)
    blind = row(table, "test", "shuffled")
    return (
        good,
        told
        if blind is None
        else f"{told} (what FID cannot see: {interval(blind, 'fid')} with the texts shuffled)",
    )


def pooled(table: pd.DataFrame, kind: str, metric: str) -> pd.DataFrame:
    """few_shot.csv's rows of one kind and score over all seeds of examples."""
    return table[
        (table["kind"] == kind) & (table["metric"] == metric) & (table["seed"].astype(str) == "all")
    ]


def compared(pairs) -> tuple[bool | None, str]:
    """(better, worse) rows -> do the intervals of every pair lie apart the right way, and the numbers."""
    told = [
        f"{b.model}, {b.shots} shots"
        + (f", {b.ways} ways" if b.ways else "")
        + f": {b.context} {b.score:.3g} [{b.lo:.3g}, {b.hi:.3g}], {w.context}"
        f"{'' if b.induction == w.induction else ' without induction'}{'' if b.shots == w.shots else f' {w.shots} shots'} {w.score:.3g} [{w.lo:.3g}, {w.hi:.3g}]"
        for b, w in pairs
    ]
    return (all(b.lo > w.hi for b, w in pairs) if pairs else None), "; ".join(
        told
    ) or "not in this study's few_shot.csv"


def pairs_of(better: pd.DataFrame, worse: pd.DataFrame, by: list[str]):
    """Rows of two parts of few_shot.csv that agree in `by`, as pairs."""
    other = {tuple(getattr(w, c) for c in by): w for w in worse.itertuples()}
    return [
        (b, other[key])
        for b in better.itertuples()
        if (key := tuple(getattr(b, c) for c in by)) in other
    ]


def most_shots(part: pd.DataFrame) -> pd.DataFrame:
    """The rows with the most examples that each model was shown."""
    return part[part["shots"] == part.groupby("model")["shots"].transform("max")]


def answers_above(context: str, than: str, kind: str, metric: str = "exact", least: int | None = 0):
    """A test: every model scores higher from `context` than from `than`, with intervals apart, at every number of shots from `least` (None: with the most)."""

    def test(table):
        part = pooled(table, kind, metric)
        part = most_shots(part) if least is None else part[part["shots"] >= least]
        return compared(
            pairs_of(
                part[part["context"] == context],
                part[part["context"] == than],
                ["model", "shots", "pseudo"],
            )
        )

    return test


def more_shots(table):
    part = pooled(table, "all", "exact")
    part = part[part["context"] == "dediffusion"]
    most = most_shots(part)
    return compared(pairs_of(most[most["shots"] > 0], part[part["shots"] == 0], ["model"]))


def more_words(table):
    """Exact match never falls from one number of words to the next, and the longest text's lies above the shortest's, intervals apart."""
    part, by = most_shots(pooled(table, "all but what", "exact")), ["model", "shots"]
    of_length = [part[part["context"] == f"dediffusion_{N}"] for N in LENGTHS]
    apart, told = compared(pairs_of(of_length[-1], of_length[0], by))
    rises = all(
        more.score >= less.score
        for a, b in zip(of_length, of_length[1:])
        for more, less in pairs_of(b, a, by)
    )
    asked = len(of_length[0]) and all(
        set(rows["model"]) == set(of_length[0]["model"]) for rows in of_length
    )
    return (apart and rises if asked else None), "; ".join(
        [
            told,
            *(f"{r.context} {r.score:.3g}" for rows in of_length[1:-1] for r in rows.itertuples()),
        ]
    )


def readers_agree(table):
    """Texts that the first model puts apart (ASKED, the most examples) keep their order with every other model."""
    part = most_shots(pooled(table, "all but what", "exact"))
    part = part[part["context"] != COMMONEST].rename(columns={"lo": "score_lo", "hi": "score_hi"})
    first, *others = (part[part["model"] == m].set_index("context") for m in part["model"].unique())
    results = {o["model"].iloc[0]: turned_pairs(first, o, "score") for o in others}
    told = "; ".join(
        f"{m}: {len(t)} of {n} pairs turned" + (f" ({', '.join(t)})" if t else "")
        for m, (n, t) in results.items()
    )
    return (
        not any(t for _, t in results.values()) if any(n for n, _ in results.values()) else None
    ), told or "only one model"


def classifies(table):
    part = pooled(table, "test", "exact")
    ours, by = part[part["context"] == "dediffusion"], ["model", "shots", "ways"]
    induced = part[part["induction"]]
    return compared(
        pairs_of(ours[ours["induction"]], induced[induced["context"] == "empty"], by)
        + pairs_of(ours[ours["induction"]], ours[~ours["induction"]], by)
    )


def own(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the decoder that the encoder was trained through: the first in the table."""
    return table[table["decoder"] == table["decoder"].iloc[0]]


def longer_is_better(table):
    """lengths.csv: FID falls from each number of words to the next, and ends its way past people's name by sixteen words."""
    people, ours = (
        table[table["source"] == s].sort_values("tokens") for s in ("names", "dediffusion")
    )
    at = ours[ours["tokens"] == 16]
    good = (
        ours["fid"].is_monotonic_decreasing
        and len(at) > 0
        and at["fid"].iloc[0] < people["fid"].iloc[0]
    )
    return (
        bool(good),
        f"FID {', '.join(f'{r.fid:.1f} with {r.tokens} words' for r in ours.itertuples())}; {people['fid'].iloc[0]:.1f} names",
    )


def turned_pairs(before: pd.DataFrame, after: pd.DataFrame, score: str) -> tuple[int, list[str]]:
    """Sources whose intervals lie apart in `before` (indexed by source): how many pairs, and those whose order is the other way round in `after`."""
    pairs = [
        (a, b)
        for a in before.index
        for b in before.index
        if before.loc[a, f"{score}_hi"] < before.loc[b, f"{score}_lo"]
        and {a, b} <= set(after.index)
    ]
    return len(pairs), [f"{a}/{b}" for a, b in pairs if after.loc[a, score] >= after.loc[b, score]]


def order_kept(by: str):
    """A test: on the test drawings of every decoder, pairs of sources that the first value of column `by` puts apart (FID; paired similarity) keep their order at every other."""

    def test(table):
        told, turned = [], 0
        for decoder, part in table[
            (table["split"] == "test") & ~table["source"].isin(("real", "autoencoder"))
        ].groupby("decoder", sort=False):
            first, *others = (part[part[by] == v].set_index("source") for v in part[by].unique())
            for score in ("fid", "paired") if others else ():
                results = [turned_pairs(first, o, score) for o in others]
                turned += sum(len(t) for _, t in results)
                told.append(
                    f"{short(decoder)}, {score}: {' and '.join(f'{len(t)} of {n}' for n, t in results)} pairs turned"
                    + (
                        f" ({', '.join(x for _, t in results for x in t)})"
                        if any(t for _, t in results)
                        else ""
                    )
                )
        return (turned == 0 if told else None), "; ".join(told) or f"only one {by}"

    return test


def diagonal(table):
    """crossed.csv: every decoder draws closest from the text of the encoder that was trained through it."""
    good, told = True, []
    for decoder, part in table.groupby("decoder", sort=False):
        own, rest = (
            part[part["trained_through"] == decoder],
            part[part["trained_through"] != decoder],
        )
        good &= len(own) == 1 and bool((rest["paired_hi"] < own["paired_lo"].iloc[0]).all())
        told.append(
            f"{short(decoder)} draws from "
            + ", ".join(
                f"{short(r.trained_through)}'s {r.paired:.3f} [{r.paired_lo:.3f}, {r.paired_hi:.3f}]"
                for r in part.itertuples()
            )
        )
    return (good if table["decoder"].nunique() > 1 else None), "; ".join(told)


def closer_than(*sources: str):
    """A test: De-Diffusion's paired similarity lies above that of each of `sources`, intervals apart."""
    return every(*(below("test", "paired", s, "dediffusion") for s in sources))


MACHINES = ("retrieval", "interrogator", "pez")
PEOPLE = ("names", "names_keywords", "names_all")
APART = "the 95 % intervals do not overlap"
ASKED = "questions whose answer no name holds (all kinds but `what`)"
CLAIMS = [
    Claim(
        "C1",
        "De-Diffusion text regenerates images better than what people call them.",
        "Fig. 3, Table 6",
        f"test FID of De-Diffusion below names', {APART}",
        below("test", "fid", "dediffusion", "names"),
    ),
    Claim(
        "C2",
        "... and better than everything that people wrote about them.",
        "Fig. 3, Table 6 (5 concatenated)",
        f"test FID of De-Diffusion below names and keywords', {APART}",
        below("test", "fid", "dediffusion", "names_keywords"),
    ),
    Claim(
        "C3",
        "The same by an unbiased distance.",
        "- (no KID in the paper)",
        f"test KID of De-Diffusion below names' and below names and keywords', {APART}",
        below("test", "kid", "dediffusion", "names", "names_keywords"),
    ),
    Claim(
        "C4",
        "Each picture is closer to its own original than with people's names.",
        "- (no per-image score in the paper)",
        f"test paired similarity of De-Diffusion above names', {APART}",
        below("test", "paired", "names", "dediffusion"),
    ),
    Claim(
        "C5",
        "FID cannot see a shuffled pairing; the paired score can.",
        "- (control)",
        "shuffled texts: FID inside De-Diffusion's interval, and paired similarity at most "
        "random words' plus a tenth of De-Diffusion's lead over it",
        shuffled_collapse,
    ),
    Claim(
        "C6",
        "The decoder listens: text that says more draws better.",
        "- (control)",
        f"test: the alt text's FID below names' and its paired similarity above names', {APART}",
        more_than("names"),
    ),
    Claim(
        "C7",
        "The autoencoder does not hide the differences between texts.",
        "- (control)",
        "test FID of the autoencoder alone at most a sixth of names'",
        floor_is_low,
    ),
    Claim(
        "C8",
        "De-Diffusion is ahead at every guidance from 3 on.",
        "Fig. 3, Table 6",
        "FID of De-Diffusion below names' at each swept guidance of 3 and more",
        in_sweep(3, 99, True),
    ),
    Claim(
        "C9",
        "With little guidance the order turns: De-Diffusion behind people's text.",
        "Table 6, guidance 1.5",
        "FID of De-Diffusion above names' at each swept guidance from 1 to 1.5",
        in_sweep(1, 1.5, False),
    ),
    Claim(
        "C10",
        "The lead holds for concepts never seen.",
        "- (the paper has no such split)",
        f"novel FID of De-Diffusion below names', {APART}",
        below("novel", "fid", "dediffusion", "names"),
    ),
    Claim(
        "C11",
        "De-Diffusion's curve over guidance is flatter.",
        "Fig. 3, Table 6",
        "FID at the highest swept guidance over the lowest FID: smaller for De-Diffusion than for names",
        flatter,
    ),
    Claim(
        "C12",
        "The text serves a decoder it was not trained through.",
        "Fig. 3, Section 4",
        f"every other decoder's test FID of De-Diffusion below names', {APART}",
        by_judges(transfers),
        "all",
    ),
    Claim(
        "C13",
        "A language model answers questions from the text.",
        "Tables 1-3, 7",
        f"few-shot exact match above the blank context's: all kinds, the model's every number of shots, {APART}",
        answers_above("dediffusion", "empty", "all"),
        "few_shot",
    ),
    Claim(
        "C14",
        "More tokens are better, and fifteen suffice to beat people.",
        "Table 4",
        "validation FID falls from each number of words to the next, at equal images seen, and lies below "
        "names' with sixteen",
        longer_is_better,
        "lengths",
    ),
    Claim(
        "C15",
        "The third party prefers it to all that people wrote, by FID and by KID.",
        "Fig. 3, Table 6 (5 concatenated)",
        f"every other decoder's test FID and test KID of De-Diffusion below names and keywords', {APART}",
        by_judges(
            below("test", "fid", "dediffusion", "names_keywords"),
            below("test", "kid", "dediffusion", "names_keywords"),
        ),
        "all",
    ),
    Claim(
        "C16",
        "The third party's pictures are closer to their own originals than with people's words.",
        "- (no per-image score in the paper)",
        f"every other decoder's test paired similarity of De-Diffusion above names' and names and keywords', {APART}",
        by_judges(
            below("test", "paired", "names", "dediffusion"),
            below("test", "paired", "names_keywords", "dediffusion"),
        ),
        "all",
    ),
    Claim(
        "C17",
        "The judges can judge: they draw better from alt text than from nothing.",
        "- (control)",
        f"every other decoder's test FID of alt text below that of empty text, its paired similarity above, {APART}",
        by_judges(more_than("empty"), fit=False),
        "all",
    ),
    Claim(
        "C18",
        "On the judges, too, the text is about its own drawing.",
        "- (control)",
        f"every other decoder: De-Diffusion's paired similarity above nothing and above shuffled texts', {APART}; shuffled's interval reaches down to a tenth of it",
        by_judges(pairing_matters),
        "all",
    ),
    Claim(
        "C19",
        "De-Diffusion text regenerates images better than a captioner's.",
        "Fig. 3, Table 6 (BLIP-2, PaLI-X)",
        f"test FID of De-Diffusion below the captioner's that was taught people's names and below the one's that was taught alt text, {APART}",
        every(
            below("test", "fid", "dediffusion", "captioner"),
            below("test", "fid", "dediffusion", "captioner_detailed"),
        ),
    ),
    Claim(
        "C20",
        "The third party prefers it to a captioner's, too.",
        "Fig. 3, Table 6 (BLIP-2, PaLI-X)",
        f"every other decoder's test FID of De-Diffusion below both captioners', {APART}",
        by_judges(
            below("test", "fid", "dediffusion", "captioner"),
            below("test", "fid", "dediffusion", "captioner_detailed"),
        ),
        "all",
    ),
    Claim(
        "C21",
        "Each picture is closer to its own original than with a captioner's words.",
        "- (no per-image score in the paper)",
        f"test paired similarity of De-Diffusion above both captioners', {APART}",
        every(
            below("test", "paired", "captioner", "dediffusion"),
            below("test", "paired", "captioner_detailed", "dediffusion"),
        ),
    ),
    Claim(
        "C22",
        "De-Diffusion text regenerates images better than all that people wrote, group included.",
        "Fig. 3, Table 6 (5 concatenated)",
        f"test FID of De-Diffusion below that of all their words, {APART}",
        below("test", "fid", "dediffusion", "names_all"),
    ),
    Claim(
        "C23",
        "It answers better than from people's words.",
        "Table 7 (VQAv2; not OKVQA)",
        f"{ASKED}: exact match from De-Diffusion above that from names and from names and "
        f"keywords, at every number of shots, {APART}",
        every(
            answers_above("dediffusion", "names", "all but what"),
            answers_above("dediffusion", "names_keywords", "all but what"),
        ),
        "few_shot",
    ),
    Claim(
        "C24",
        "... and better than from a captioner's words.",
        "Table 7 (BLIP-2)",
        f"{ASKED}: exact match from De-Diffusion above that from the captioner taught people's names, at every number of "
        f"shots, {APART}",
        answers_above("dediffusion", "captioner", "all but what"),
        "few_shot",
    ),
    Claim(
        "C25",
        "What answers is the text of this image, not the examples.",
        "- (control)",
        f"all kinds: exact match from De-Diffusion above that from texts of other images, at every number of shots, {APART}",
        answers_above("dediffusion", "shuffled", "all"),
        "few_shot",
    ),
    Claim(
        "C26",
        "More examples help.",
        "Tables 1, 7",
        f"all kinds, De-Diffusion: exact match with the most examples above that with text-only pseudo-examples, {APART}",
        more_shots,
        "few_shot",
    ),
    Claim(
        "C27",
        "Open-ended classification by label names works from a few examples, and naming the classes helps.",
        "Table 3",
        "test drawings, 2 and 5 ways, every number of shots: from De-Diffusion with induction above blank "
        f"contexts with induction, and above itself without, {APART}",
        classifies,
        "few_shot",
    ),
    Claim(
        "C28",
        "The model writes captions from the text.",
        "Table 2",
        f"CIDEr against people's words from De-Diffusion above that from blank contexts, at every number of shots from 1, {APART}",
        answers_above("dediffusion", "empty", "caption", "cider", least=1),
        "few_shot",
    ),
    Claim(
        "C29",
        "In a narrow world, as COCO is to a decoder of the whole web, the text is ahead as a set, too.",
        "Fig. 3, Table 6 (another setting)",
        f"test KID inside a drawing style, averaged over styles: De-Diffusion below names and below names and keywords, {APART}",
        below("test", "kid_within", "dediffusion", "names", "names_keywords"),
    ),
    Claim(
        "C30",
        "... and on the judges.",
        "Fig. 3, Table 6 (another setting)",
        "every other decoder: the same as C29",
        by_judges(below("test", "kid_within", "dediffusion", "names", "names_keywords")),
        "all",
    ),
    Claim(
        "C31",
        "Inside a style a distance of sets sees the pairing that FID cannot.",
        "- (control)",
        f"test KID inside a drawing style: De-Diffusion below its shuffled self, {APART}",
        below("test", "kid_within", "dediffusion", "shuffled"),
    ),
    Claim(
        "C32",
        "In a narrow world it is ahead of a captioner's, too.",
        "Fig. 3, Table 6 (another setting)",
        f"test KID inside a drawing style: De-Diffusion below both captioners', {APART}",
        below("test", "kid_within", "dediffusion", "captioner", "captioner_detailed"),
    ),
    Claim(
        "C33",
        "The ranking of texts does not hang on the starting noise.",
        "- (the paper draws once)",
        "test drawings, every decoder: two sources whose FID (paired similarity) lie apart from the first starting "
        "noise keep their order from every other",
        order_kept("seed"),
        "noise",
    ),
    Claim(
        "C34",
        "The ranking of texts does not hang on the eye.",
        "- (control)",
        "test drawings, every decoder: two sources whose FID (paired similarity) lie apart by EfficientNet-Lite2 keep their order by "
        "EfficientNet-Lite1",
        order_kept("eye"),
        "eyes",
    ),
    Claim(
        "C35",
        "Every decoder draws closest from the encoder that was trained through it.",
        "- (the paper trains through one)",
        f"trained through x judged by: in paired similarity each decoder's own encoder above the "
        f"others, {APART}",
        diagonal,
        "crossed",
    ),
    Claim(
        "C36",
        "It says more of a drawing than machines that search for words.",
        "- (rivals after the paper: interrogator, hard prompts)",
        f"test paired similarity of De-Diffusion above retrieved names', the interrogator's "
        f"and the hard prompts' by similarity, {APART} (their guidance is chosen among every second value of the sweep)",
        closer_than(*MACHINES),
    ),
    Claim(
        "C37",
        "... and to the judges, too.",
        "- (the same)",
        "every other decoder: the same as C36",
        by_judges(closer_than(*MACHINES)),
        "all",
    ),
    Claim(
        "C38",
        "Learning to write beats searching by the same loss, picture by picture.",
        "- (after PH2P, in its simplest form)",
        f"test paired similarity of De-Diffusion above that of hard prompts by the decoder's "
        f"loss, {APART}",
        closer_than("ph2p"),
    ),
    Claim(
        "C39",
        "On test drawings, too, it is ahead of all that people write at every guidance from 3 on.",
        "Fig. 3, Table 6",
        "curve on test drawings: FID of De-Diffusion below those of names, names and "
        "keywords, and all their words at each guidance of 3 and more",
        on_curve(3, *PEOPLE),
    ),
    Claim(
        "C40",
        "... and on the judges.",
        "Fig. 3, Table 6",
        "every other decoder: the same as C39",
        by_judges(on_curve(3, *PEOPLE)),
        "all",
    ),
    Claim(
        "C41",
        "More words answer more.",
        "Table 4 (there of FID)",
        f"{ASKED}, encoders of equal training: exact match does not fall from 4 to 8 to 16 to 24 words, and that from 24 lies above that from 4, with the most examples, {APART}",
        more_words,
        "few_shot",
    ),
    Claim(
        "C42",
        "The reader can read: it finds in a text what the text says.",
        "- (control)",
        f"questions of colour and of style: exact match from the alt text, which holds both, above that from blank contexts, with the "
        f"most examples, {APART}",
        every(
            answers_above("alt_text", "empty", "colour", least=None),
            answers_above("alt_text", "empty", "style", least=None),
        ),
        "few_shot",
    ),
    Claim(
        "C43",
        "It answers better than from words that machines search for.",
        "- (rivals after the paper)",
        f"{ASKED}: exact match from De-Diffusion above that from the interrogator and from hard prompts by similarity, at every "
        f"number of shots, {APART}",
        every(
            answers_above("dediffusion", "interrogator", "all but what"),
            answers_above("dediffusion", "pez", "all but what"),
        ),
        "few_shot",
    ),
    Claim(
        "C44",
        "Which text answers more does not hang on the reader.",
        "- (the paper asks one model)",
        f"{ASKED}, the most examples: two sources whose exact match the first language model puts apart, intervals apart, keep "
        "their order with every other model",
        readers_agree,
        "few_shot",
    ),
    Claim(
        "C45",
        "Every reader answers more from the detailed captioner's text than from De-Diffusion's.",
        "- (seen with SmolLM2 before it was written down; a prediction for further models)",
        f"{ASKED}, the most examples: exact match from the captioner taught alt text above that from De-Diffusion, {APART}",
        answers_above("captioner_detailed", "dediffusion", "all but what", least=None),
        "few_shot",
    ),
    Claim(
        "C46",
        "It answers more than somebody who reads nothing and always says what is commonest.",
        "- (control; written down when a reviewer had seen the numbers)",
        f"{ASKED}, the most examples: exact match from De-Diffusion above that of the training drawings' commonest answer, kind by kind (yes or no: by a coin), {APART}",
        answers_above("dediffusion", COMMONEST, "all but what", least=None),
        "few_shot",
    ),
]


def claims(folder: Path) -> list[dict]:
    """Every claim with its verdict and numbers; written to claims.json."""
    folder, out = Path(folder), []
    table, second = read_table(folder), read_table(folder, "second_eye")
    eyes = (
        None
        if table is None or second is None
        else pd.concat([table.assign(eye=2), second.assign(eye=1)])
    )
    rows = {
        "own": None if table is None else own(table),
        "all": table,
        "few_shot": read_table(folder, "few_shot"),
        "lengths": read_table(folder, "lengths"),
        "noise": read_table(folder, every_noise=True),
        "eyes": eyes,
        "crossed": read_table(folder, "crossed"),
    }
    for c in CLAIMS:
        missing = {
            "few_shot": "few_shot.csv yet; run notebook 08_language",
            "lengths": "lengths.csv; notebook 05_reconstruction makes it if lengths_seen > 0",
            "eyes": "second_eye.csv yet; run notebook 06_judges",
            "crossed": "crossed.csv; notebook 06_judges makes it if cross_seen > 0",
        }.get(c.table, "reconstruction.csv yet; run notebook 05_reconstruction")
        good, numbers = (
            (None, f"no {folder.name}/{missing}")
            if rows[c.table] is None
            else c.test(rows[c.table])
        )
        out.append(
            {
                "id": c.id,
                "statement": c.statement,
                "place": c.place,
                "criterion": c.criterion,
                "verdict": "not tested" if good is None else "holds" if good else "does not hold",
                "numbers": numbers,
            }
        )
    if folder.exists():
        write_json(folder / "claims.json", out)
    return out


# -- tables ---------------------------------------------------------------------------------------------------------------------


def read_table(
    folder: Path, name: str = "reconstruction", every_noise: bool = False
) -> pd.DataFrame | None:
    """A result file, or None; of reconstruction.csv the rows of the first starting noise, or of every one."""
    path = Path(folder) / f"{name}.csv"
    table = pd.read_csv(path) if path.exists() else None
    return (
        table
        if table is None or name != "reconstruction" or every_noise
        else table[table["seed"] == table["seed"].min()].reset_index(drop=True)
    )


def noises(folder: Path) -> pd.DataFrame | None:
    """How far the starting noise alone moves a row: mean and range of FID, KID and paired similarity over its draws, one row a decoder, split and source. None with one draw."""
    table = read_table(folder, every_noise=True)
    if table is None or table["seed"].nunique() < 2:
        return None
    table = table[table["split"].isin(SPLITS)]
    table = table[table.duplicated(["decoder", "split", "source"], keep=False)]
    rows = []
    for (decoder, split, source), part in table.groupby(["decoder", "split", "source"], sort=False):
        told = lambda s, d: f"{part[s].mean():.{d}f} [{part[s].min():.{d}f}, {part[s].max():.{d}f}]"
        rows.append(
            {
                "drawn by": short(decoder),
                "drawings": split,
                "text source": NAMES[source],
                "draws": str(len(part)),
                "FID": told("fid", 1),
                "KID": told("kid", 2),
                "paired": told("paired", 3),
            }
        )
    return pd.DataFrame(rows)


def crossing(folder: Path) -> pd.DataFrame | None:
    """crossed.csv as a square: paired similarity, rows trained through, columns drawn by; * where the two are one."""
    table = read_table(folder, "crossed")
    if table is None:
        return None
    cell = [
        f"{r.paired:.3f} [{r.paired_lo:.3f}, {r.paired_hi:.3f}]"
        + (" *" if r.trained_through == r.decoder else "")
        for r in table.itertuples()
    ]
    wide = table.assign(cell=cell).pivot_table(
        index="trained_through", columns="decoder", values="cell", aggfunc="first", sort=False
    )
    wide.index, wide.columns = (
        [short(d) for d in wide.index],
        [f"drawn by {short(d)}" for d in wide.columns],
    )
    return wide.rename_axis("trained through").reset_index()


def table_rows(table: pd.DataFrame, split: str) -> list[dict[str, str]]:
    """The rows of one split as text, in the fixed order of NAMES; what markdown, LaTeX, plain text and HTML all print."""
    out = []
    for source, name in NAMES.items():
        r = row(table, split, source)
        if r is None:
            continue
        cell = lambda value, digits: "-" if pd.isna(value) else f"{value:.{digits}f}"
        spread = lambda s: "-" if pd.isna(r[s]) else interval(r, s)
        out.append(
            {
                "text source": name,
                "guidance": "-" if pd.isna(r["guidance"]) else f"{r['guidance']:g}",
                "FID": spread("fid"),
                "KID": spread("kid"),
                **({"KID in a style": spread("kid_within")} if "kid_within" in r else {}),
                "paired": spread("paired"),
                "R@1 %": cell(100 * r["r_at_1"], 1),
                "n": str(int(r["n"])),
            }
        )
    return out


def markdown(table: pd.DataFrame) -> list[str]:
    """A table of text as lines of Markdown."""
    return [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join(["---"] + ["---:"] * (len(table.columns) - 1)) + "|",
        *("| " + " | ".join(r) + " |" for r in table.to_numpy()),
    ]


def short(decoder: str) -> str:
    """A decoder's name for titles and file names; train-decoder's folders are all called pipeline, so their parent says which."""
    path = Path(decoder)
    return path.parent.name if path.name == "pipeline" else path.name


def blocks(table: pd.DataFrame):
    """(decoder, split, heading, rows) of every part of the printed table: the decoder trained through first, then the judges."""
    for k, decoder in enumerate(table["decoder"].unique()):
        part = table[table["decoder"] == decoder]
        for split, title in SPLITS.items():
            if rows := table_rows(part, split):
                yield (
                    decoder,
                    split,
                    title if k == 0 else f"{title}, drawn by {short(decoder)}",
                    rows,
                )


def tables(folder: Path) -> list[Path]:
    """tables/reconstruction.md and .tex, test drawings first, then novel concepts, then the same by each judge."""
    folder, table = Path(folder), read_table(folder)
    if table is None:
        return []
    out = folder / "tables"
    out.mkdir(parents=True, exist_ok=True)
    md, tex, notes = (
        [],
        [],
        (
            f"95 % intervals in brackets; FID and KID in EfficientNet-Lite2 features, not comparable with Inception's; trained through and, "
            f"where nothing else is said, drawn by {table['decoder'].iloc[0]}; one seed ({table['seed'].iloc[0]})."
        ),
    )
    for _, _, title, rows in blocks(table):
        heads = list(rows[0])
        md += [
            f"**{title}**",
            "",
            "| " + " | ".join(heads) + " |",
            "|" + "|".join(["---"] + ["---:"] * (len(heads) - 1)) + "|",
        ]
        md += ["| " + " | ".join(r.values()) + " |" for r in rows] + [""]
        tex += (
            [rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{latex(title)}}}}} \\"]
            + [" & ".join(latex(v) for v in r.values()) + r" \\" for r in rows]
            + [r"\midrule"]
        )
    (out / "reconstruction.md").write_text("\n".join([*md, notes, ""]))
    for name, extra in (
        ("noise", noises(folder)),
        ("crossed", crossing(folder)),
        ("guidance", guidance_summary(folder)),
    ):
        if extra is not None:
            (out / f"{name}.md").write_text("\n".join(markdown(extra)) + "\n")
    lines = (
        [
            r"% \usepackage{booktabs}",
            r"\begin{tabular}{lrrrrrrr}",
            r"\toprule",
            " & ".join(latex(h) for h in heads) + r" \\",
            r"\midrule",
            *tex[:-1],
            r"\bottomrule",
            r"\end{tabular}",
            f"% {notes}",
            "",
        ]
        if tex
        else [""]
    )
    (out / "reconstruction.tex").write_text("\n".join(lines))
    return [out / "reconstruction.md", out / "reconstruction.tex"]


QUESTION_NAMES = {
    "what": "what is it",
    "group": "which group",
    "colour": "main colour",
    "style": "which style",
    "is it": "is it of group ...?",
    "is there": "is there any ...?",
    "all": "all",
    "all but what": "all but `what is it`",
}


def few_shot_tables(folder: Path) -> list[tuple[str, pd.DataFrame]]:
    """few_shot.csv in the form of the paper's tables: [(heading, table of text)], also written to tables/few_shot.md and .tex. Scores in
    percent (CIDEr times 100), over all seeds of examples; * marks contexts that hold the answer by construction."""
    folder, table = Path(folder), read_table(folder, "few_shot")
    if table is None:
        return []
    table = table[table["seed"].astype(str) == "all"]
    scale = table["metric"].map(lambda m: 1 if m == "cider" else 100)
    cell = pd.Series(
        [
            f"{v * k:.1f} [{lo * k:.1f}, {hi * k:.1f}]{'*' if leak else ''}"
            for v, lo, hi, k, leak in zip(
                table["score"], table["lo"], table["hi"], scale, table["leak"]
            )
        ],
        index=table.index,
    )
    order = {s: i for i, s in enumerate(NAMES)}
    named = lambda t, context: t.assign(
        context_name=t[context].map(NAMES),
        rank=t[context].map(order),
        given=["pseudo-examples" if s == 0 else f"{s} examples" for s in t["shots"]],
    )
    table = named(table.assign(cell=cell), "context")
    apart, out = read_table(folder, "few_shot_differences"), []
    if apart is not None:
        cell = [
            f"{100 * d:+.1f} [{100 * lo:+.1f}, {100 * hi:+.1f}]{'*' if leak else ''}"
            for d, lo, hi, leak in zip(apart["difference"], apart["lo"], apart["hi"], apart["leak"])
        ]
        apart = named(apart.assign(cell=cell), "than")

    def add(title, part, rows, columns):
        if len(part):
            wide = part.pivot_table(
                index=["rank", *rows], columns=columns, values="cell", aggfunc="first", sort=False
            ).reset_index("rank", drop=True)
            sizes = sorted(set(part["n"]))
            out.append((f"{title}; n = {', '.join(map(str, sizes))}", wide.fillna("-")))

    for model in table["model"].unique():
        part = table[table["model"] == model]
        asked = part[part["task"] == "vqa"].sort_values(
            ["rank", "shots", "pseudo"], ascending=[True, True, False]
        )
        add(
            f"Questions ({model}): exact match, by shots (Tables 1, 7); kinds: all but `what is it`",
            asked[(asked["kind"] == "all but what") & (asked["metric"] == "exact")],
            ["context_name"],
            ["given"],
        )
        add(
            f"Questions ({model}): VQA accuracy, by shots (Tables 1, 7); kinds: all but `what is it`",
            asked[(asked["kind"] == "all but what") & (asked["metric"] == "vqa")],
            ["context_name"],
            ["given"],
        )
        most = asked[asked["shots"] == asked["shots"].max()]
        add(
            f"Questions ({model}), {asked['shots'].max()} examples: exact match by kind",
            most[
                most["kind"].isin(QUESTION_NAMES)
                & (most["metric"] == "exact")
                & ~most["kind"].str.startswith("all")
            ].assign(asked=lambda t: t["kind"].map(QUESTION_NAMES)),
            ["context_name"],
            ["asked"],
        )
        if apart is not None and len(apart):
            same = apart[apart["model"] == model].sort_values(["rank", "shots"])
            add(
                f"The same questions ({model}): exact match from De-Diffusion minus that from another context; kinds: all but `what is it`",
                same[same["kind"] == "all but what"],
                ["context_name"],
                ["given"],
            )
            same = same[same["shots"] == same["shots"].max()]
            add(
                f"The same questions ({model}), {same['shots'].max()} examples: exact match from De-Diffusion minus that from another context, by kind",
                same[~same["kind"].str.startswith("all")].assign(
                    asked=lambda t: t["kind"].map(QUESTION_NAMES)
                ),
                ["context_name"],
                ["asked"],
            )
        for split, title in SPLITS.items():
            played = part[(part["task"] == "classification") & (part["kind"] == split)].sort_values(
                ["rank", "ways", "shots"]
            )
            add(
                f"Open-ended classification of {title} ({model}): exact match by ways and shots (Table 3)",
                played.assign(
                    induced=played["induction"].map({True: "yes", False: "no"}),
                    how=[f"{w}-way {s}-shot" for w, s in zip(played["ways"], played["shots"])],
                ).rename(columns={"induced": "induction named"}),
                ["context_name", "induction named"],
                ["how"],
            )
        said = part[part["task"] == "captioning"].sort_values(["rank", "shots"])
        add(
            f"Captions ({model}): CIDEr against people's names and keywords, by shots (Table 2)",
            said,
            ["context_name"],
            ["given"],
        )
    md, tex = [], []
    for title, wide in out:
        heads = [*wide.index.names, *wide.columns]
        heads = ["context" if h == "context_name" else h for h in heads]
        lines = [
            [*(key if isinstance(key, tuple) else (key,)), *values]
            for key, values in zip(wide.index, wide.to_numpy())
        ]
        md += [
            f"**{title}**",
            "",
            "| " + " | ".join(heads) + " |",
            "|" + "|".join(["---"] + ["---:"] * (len(heads) - 1)) + "|",
            *("| " + " | ".join(l) + " |" for l in lines),
            "",
        ]
        tex += [
            rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{latex(title)}}}}} \\",
            " & ".join(latex(h) for h in heads) + r" \\",
            r"\midrule",
            *(" & ".join(latex(v) for v in l) + r" \\" for l in lines),
            r"\midrule",
        ]
    widest = max((len(w.index.names) + len(w.columns) for _, w in out), default=1)
    notes = (
        "95 % bootstrap intervals in brackets: of scores over questions, of differences over draws of examples, too; * the context (of a difference: the other one) holds the answer by construction. "
        "CIDEr's document frequencies are those of each draw's own references."
    )
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "tables" / "few_shot.md").write_text("\n".join([*md, notes, ""]))
    (folder / "tables" / "few_shot.tex").write_text(
        "\n".join(
            [
                r"% \usepackage{booktabs}",
                rf"\begin{{tabular}}{{l{'r' * (widest - 1)}}}",
                r"\toprule",
                *tex[:-1],
                r"\bottomrule",
                r"\end{tabular}",
                f"% {notes}",
                "",
            ]
        )
    )
    return out


def latex(text: str) -> str:
    return text.replace("%", r"\%").replace("&", r"\&").replace("_", r"\_") if text != "-" else "--"


def verdict_line(table: pd.DataFrame) -> str:
    ours, people = row(table, "test", "dediffusion"), row(table, "test", "names")
    if ours is None or people is None:
        return "De-Diffusion or names missing from the test table: no verdict."
    gap, apart = (
        people["fid"] - ours["fid"],
        ours["fid_hi"] < people["fid_lo"] or people["fid_hi"] < ours["fid_lo"],
    )
    return f"De-Diffusion's FID is {'lower' if gap > 0 else 'higher'} than names' by {abs(gap):.1f} (intervals apart: {'yes' if apart else 'no'})"


def headline(folder: Path) -> str:
    """The test drawings' table as plain text, and one verdict."""
    table = read_table(folder)
    if table is None:
        return f"no results yet in {folder}: notebook 05_reconstruction writes them"
    table = own(table)
    rows = table_rows(table, "test")
    heads = list(rows[0])
    widths = [max(len(h), *(len(r[h]) for r in rows)) for h in heads]
    line = lambda cells: "  ".join(
        c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))
    )
    return "\n".join(
        [line(heads), *(line(list(r.values())) for r in rows), "", verdict_line(table)]
    )


# -- figures --------------------------------------------------------------------------------------------------------------------


def curve(folder: Path, decoder: str | None = None) -> Path | None:
    """FID against guidance in the form of the paper's Fig. 3, ours (intervals for names and De-Diffusion) beside the paper's; None without a sweep. On test drawings
    if the study has that curve, else on the validation drawings. Drawn by the decoder trained through, or by another one (figures/fid_guidance_<decoder>)."""
    from .figures import panels

    table = read_table(folder)
    ours = (
        None
        if table is None
        else own(table)
        if decoder is None
        else table[table["decoder"] == decoder]
    )
    ours = (
        None
        if ours is None
        else ours[ours["split"] == ("curve" if (ours["split"] == "curve").any() else "val")]
    )
    if ours is None or ours.empty:
        return None
    which = {"curve": "test drawings", "val": "validation drawings"}[ours["split"].iloc[0]]
    first = (
        "names",
        "names_keywords",
        "dediffusion",
        "alt_text",
        "captioner",
        "captioner_detailed",
    )  # with all of them, the colours of their like in the paper
    series = {
        NAMES[s]: tuple(
            part[c].to_numpy()
            for c in (
                "guidance",
                "fid",
                *(("fid_lo", "fid_hi") if s in ("names", "dediffusion") else ()),
            )
        )
        for s in dict.fromkeys((*first, *NAMES))
        if len(part := ours[ours["source"] == s].sort_values("guidance"))
    }
    shown = (
        "human, random 1 of 5",
        "human, 5 concatenated",
        "De-Diffusion",
        "human, longest of 5",
        "BLIP-2 captions",
        "PaLI-X captions",
    )
    theirs = {s: (published.GUIDANCE, published.SWEEP[s]) for s in shown}
    return panels(
        [
            {
                "series": series,
                "xlabel": "guidance",
                "ylabel": "FID (EfficientNet-Lite2)",
                "title": f"drawn by {short(ours['decoder'].iloc[0])}, {int(ours['n'].max()):,} {which}",
                "markers": True,
                "legend": "below",
            },
            {
                "series": theirs,
                "xlabel": "guidance",
                "ylabel": "FID (Inception-v3)",
                "title": "the paper, Table 6, n = 30,000",
                "markers": True,
                "legend": "below",
            },
        ],
        Path(folder)
        / "figures"
        / ("fid_guidance" if decoder is None else f"fid_guidance_{short(decoder)}"),
        size=(3.6, 3.3),
    )


def guidance_summary(folder: Path) -> pd.DataFrame | None:
    """Does the order hang on how guidance is chosen? FID of the curve on test drawings, one row a decoder and source: at each source's own best guidance on this curve (flattering to
    all), at the one shared value that is best on average, at the paper's lowest (1.5), and the guidances at which De-Diffusion's curve crosses this one. None without that curve."""
    table = read_table(folder)
    if table is None or not (table["split"] == "curve").any():
        return None
    rows = []
    for decoder in table["decoder"].unique():
        fid = swept(table[table["decoder"] == decoder], "curve")
        if fid.empty:
            continue
        shared = fid.mean(axis=1).idxmin()
        for source in (s for s in NAMES if s in fid):
            rows.append(
                {
                    "drawn by": short(decoder),
                    "text source": NAMES[source],
                    "best": f"{fid[source].min():.1f} at {fid[source].idxmin():g}",
                    "shared": f"{fid.loc[shared, source]:.1f} at {shared:g}",
                    **({"at 1.5": f"{fid.loc[1.5, source]:.1f}"} if 1.5 in fid.index else {}),
                    "De-Diffusion crosses": "-"
                    if source == "dediffusion"
                    else ", ".join(f"{w:.1f}" for w in crossings(fid["dediffusion"] - fid[source]))
                    or (
                        "never: ahead"
                        if fid["dediffusion"].iloc[-1] < fid[source].iloc[-1]
                        else "never: behind"
                    ),
                }
            )
    return pd.DataFrame(rows)


def crossings(gap: pd.Series) -> list[float]:
    """Where a difference over guidance (its index) changes sign, read off the straight line between neighbours."""
    x, y = gap.index.to_numpy(float), gap.to_numpy(float)
    return [
        float(x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i]))
        for i in range(len(y) - 1)
        if y[i] * y[i + 1] < 0
    ]


def ranking(folder: Path) -> Path | None:
    """Paired similarity of every text source on the test drawings, one panel's bars a decoder: figures/judges_paired. None without judges."""
    from .figures import bar_panels

    table = read_table(folder)
    if table is None or table["decoder"].nunique() < 2:
        return None
    test = table[
        (table["split"] == "test") & table["paired"].notna() & (table["source"] != "autoencoder")
    ]
    parts = {d: part.set_index("source") for d, part in test.groupby("decoder", sort=False)}
    sources = [s for s in NAMES if all(s in part.index for part in parts.values())]
    plots = [
        {
            "names": [NAMES[s] for s in sources],
            "values": part.loc[sources, "paired"],
            "low": part.loc[sources, "paired_lo"],
            "high": part.loc[sources, "paired_hi"],
            "ylabel": "paired similarity",
            "title": f"drawn by {short(d)}" + (" (trained through)" if k == 0 else ""),
            "highlight": [NAMES["dediffusion"]],
        }
        for k, (d, part) in enumerate(parts.items())
    ]
    return bar_panels(plots, Path(folder) / "figures" / "judges_paired")


def narrow(folder: Path) -> Path | None:
    """KID of whole sets beside KID inside a drawing style, every source, drawn by the decoder trained through: figures/kid_within."""
    from .figures import bar_panels

    table = read_table(folder)
    if table is None or "kid_within" not in table:
        return None
    test = own(table)[lambda t: t["split"] == "test"].set_index("source").dropna(subset="kid")
    sources = [s for s in NAMES if s in test.index]
    plots = [
        {
            "names": [NAMES[s] for s in sources],
            "values": test.loc[sources, score],
            "low": test.loc[sources, f"{score}_lo"],
            "high": test.loc[sources, f"{score}_hi"],
            "ylabel": "KID",
            "title": title,
            "highlight": [NAMES["dediffusion"]],
        }
        for score, title in (("kid", "all drawings"), ("kid_within", "inside a style (mean)"))
    ]
    return bar_panels(plots, Path(folder) / "figures" / "kid_within") if sources else None


def second_look(folder: Path) -> Path | None:
    """FID of the test drawings by one eye against FID by the other, one point a source (but silence and random words), one panel a decoder: figures/second_eye. None without a second eye."""
    from matplotlib.figure import Figure

    from .figures import COLOURS, save, style

    first, second = read_table(folder), read_table(folder, "second_eye")
    if first is None or second is None:
        return None
    both = first[(first["split"] == "test") & ~first["source"].isin(("random", "empty"))].merge(
        second, on=["source", "decoder"], suffixes=("", "_2")
    )  # far from all others
    if both.empty:
        return None
    sources, decoders = (
        [s for s in NAMES if s in set(both["source"])],
        list(both["decoder"].unique()),
    )
    with style():
        figure = Figure(figsize=(2.3 * len(decoders) + 2.2, 2.6), layout="constrained")
        for axis, decoder in zip(figure.subplots(1, len(decoders), squeeze=False)[0], decoders):
            of = both[both["decoder"] == decoder].set_index("source")
            for k, s in enumerate(sources):
                if s in of.index:
                    axis.plot(
                        of.loc[s, "fid"],
                        of.loc[s, "fid_2"],
                        "os^Dv"[k // len(COLOURS) % 5],
                        color=COLOURS[k % len(COLOURS)],
                        markersize=5,
                        label=NAMES[s],
                    )
            axis.set(
                xlabel="FID, EfficientNet-Lite2",
                ylabel="FID, EfficientNet-Lite1" if decoder == decoders[0] else "",
                title=f"drawn by {short(decoder)}",
            )
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=6.5
        )
        return save(figure, Path(folder) / "figures" / "second_eye")


def rate(folder: Path) -> Path | None:
    """What a text spends, in words and in bits, against the FID it leaves, from rate_quality.csv (source, words, bits, fid, fid_lo, fid_hi; bits_lm with notebook 8)."""
    from matplotlib.figure import Figure

    from .figures import COLOURS, save, style

    path = Path(folder) / "rate_quality.csv"
    if not path.exists():
        return None
    points = pd.read_csv(path)
    with style():
        prices = {
            "words": "words per text (mean)",
            "bits": "bits per text (unigram model)",
            "bits_lm": "bits per text (language model)",
        }
        prices = {what: label for what, label in prices.items() if what in points}
        figure = Figure(figsize=(1.8 + 2.7 * len(prices), 2.9), layout="constrained")
        for axis, (what, label) in zip(
            figure.subplots(1, len(prices), sharey=True), prices.items()
        ):
            for k, p in points.iterrows():
                axis.errorbar(
                    p[what],
                    p.fid,
                    yerr=[[p.fid - p.fid_lo], [p.fid_hi - p.fid]],
                    fmt="os^Dv"[k // len(COLOURS) % 5],
                    color=COLOURS[k % len(COLOURS)],
                    capsize=2,
                    elinewidth=0.8,
                    label=NAMES.get(p.source, p.source),
                )
            axis.set(xlabel=label, ylabel="FID, test drawings" if what == "words" else "")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=6.5)
        return save(figure, Path(folder) / "figures" / "rate_quality")


def exact_match(part: pd.DataFrame, title: str) -> dict:
    """A panel of figures.bar_panels from rows of few_shot.csv indexed by context; * marks contexts that hold the answer by construction."""
    return {
        "names": [NAMES[s] for s in part.index],
        "marks": part["leak"],
        "values": 100 * part["score"],
        "low": 100 * part["lo"],
        "high": 100 * part["hi"],
        "ylabel": "exact match, %",
        "title": title.replace("`", "'"),
        "highlight": [NAMES["dediffusion"]],
    }


def answered(folder: Path) -> Path | None:
    """Exact match by context: at left every kind of question but `what`, by shots; at right each kind with the most shots: figures/few_shot."""
    from .figures import bar_panels

    table = read_table(folder, "few_shot")
    if table is None or not (table["task"] == "vqa").any():
        return None
    table = table[
        (table["model"] == table["model"].iloc[0])
        & (table["shots"] == table["shots"][table["task"] == "vqa"].max())
    ]
    plots = []
    for kind in ("all but what", "group", "colour", "style", "what"):
        part = pooled(table, kind, "exact").set_index("context")
        part = part.loc[[s for s in NAMES if s in part.index]]
        if len(part):
            plots.append(exact_match(part, QUESTION_NAMES[kind]))
    return bar_panels(plots, Path(folder) / "figures" / "few_shot") if plots else None


def readers(folder: Path) -> Path | None:
    """Exact match by context, as each language model reads it: every kind of question but `what`, and the main colour, of the contexts that all were shown: figures/few_shot_readers."""
    from .figures import bar_panels

    table = read_table(folder, "few_shot")
    models = [] if table is None else list(table.loc[table["task"] == "vqa", "model"].unique())
    if len(models) < 2:
        return None
    plots, most = [], most_shots(table[table["task"] == "vqa"])
    shown = [
        s for s in NAMES if all(s in set(most.loc[most["model"] == m, "context"]) for m in models)
    ]
    for kind in ("all but what", "colour"):
        for model in models:
            part = (
                pooled(most[most["model"] == model], kind, "exact").set_index("context").loc[shown]
            )
            plots.append(exact_match(part, f"{model}: {QUESTION_NAMES[kind]}"))
    return bar_panels(plots, Path(folder) / "figures" / "few_shot_readers")


# -- the page -------------------------------------------------------------------------------------------------------------------

CSS = """body{font:16px/1.5 Georgia,serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}h1,h2{font-weight:600}table{border-collapse:collapse;
font-size:.88rem;margin:1rem 0}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #ddd;vertical-align:top}td:first-child,th:first-child,.claims td,
.claims th{text-align:left}th{border-bottom:2px solid #444}.best td{background:#eef4fb}.holds{color:#1c7c3c}.does.not{color:#b3261e}.tested{color:#777}figure{margin:1.5rem 0}
img{max-width:100%}figcaption{font-size:.88rem;color:#555}pre{background:#f6f6f6;padding:.7rem;overflow:auto;font-size:.82rem}a{color:#1b5e9b}.small{font-size:.85rem;color:#666}"""


def html_table(rows: list[dict[str, str]], css: str = "") -> str:
    cells = lambda tag, values: "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values)
    body = "".join(
        f"<tr{' class=best' if r.get('text source') == NAMES['dediffusion'] else ''}>{cells('td', r.values())}</tr>"
        for r in rows
    )
    return f"<table class='{css}'><thead><tr>{cells('th', rows[0])}</tr></thead><tbody>{body}</tbody></table>"


def html_figure(path: Path, caption: str = "") -> str:
    picture = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(caption or path.stem.replace("_", " "))
    return f"<figure><img alt='{name}' src='data:image/png;base64,{picture}'><figcaption>{name}</figcaption></figure>"


def page(notebook: Path, out: Path) -> str:
    """One executed notebook as a page that needs no network: pictures inside, no script from elsewhere. -> its title."""
    import nbformat
    from nbconvert import HTMLExporter

    nb = nbformat.read(notebook, as_version=4)
    for cell in (
        c for c in nb.cells if c.cell_type == "code"
    ):  # progress lines were for whoever waited
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    body, _ = HTMLExporter(template_name="lab", embed_images=True).from_notebook_node(nb)
    body = re.sub(
        r"<script\b[^>]*>.*?</script>",
        lambda m: "" if "http" in m[0] else m[0],
        body,
        flags=re.S | re.I,
    )
    out.write_text(re.sub(r"<link\b[^>]*https?://[^>]*>", "", body, flags=re.I))
    heading = next(
        (
            line
            for c in nb.cells
            if c.cell_type == "markdown"
            for line in c.source.splitlines()
            if line.startswith("# ")
        ),
        f"# {notebook.stem}",
    )
    return heading[2:].strip()


def build_report(folder: Path, notebooks) -> Path:
    """report/index.html: table, verdicts, figures, the notebooks as pages, the parameters. Whatever exists is shown."""
    folder = Path(folder)
    out, table = folder / "report", read_table(folder)
    out.mkdir(parents=True, exist_ok=True)
    (
        tables(folder),
        curve(folder),
        rate(folder),
        narrow(folder),
        second_look(folder),
        ranking(folder),
        answered(folder),
        readers(folder),
    )
    verdicts = claims(folder)
    parts = [
        f"<h1>De-Diffusion, studied again: <em>{html.escape(folder.name)}</em></h1>",
        "<p>Which text regenerates an image best: people's, or that of an encoder trained through a frozen text-to-image model? "
        "After Wei et al., <em>De-Diffusion Makes Text a Strong Cross-Modal Interface</em> (arXiv 2311.00618). Every number below comes from a file in this results folder.</p>",
    ]
    if table is not None:
        parts += [f"<p><strong>{html.escape(verdict_line(own(table)))}</strong></p>"]
        for _, _, title, rows in blocks(table):
            parts += [f"<h2>{html.escape(title[0].upper() + title[1:])}</h2>", html_table(rows)]
        parts += [
            "<p class=small>95 % intervals in brackets. FID and KID in EfficientNet-Lite2 features of 64-pixel drawings: not comparable in size with the paper's.</p>"
        ]
    else:
        parts += ["<p>No reconstruction table yet: notebook 05_reconstruction writes it.</p>"]
    for title, extra in (
        ("How far the starting noise moves a row: mean and range over its draws", noises(folder)),
        ("FID over guidance on test drawings, read four ways", guidance_summary(folder)),
        (
            "Trained through x drawn by: paired similarity, * where the two are one",
            crossing(folder),
        ),
    ):
        parts += (
            [f"<h3>{title}</h3>", html_table(extra.to_dict("records"))] if extra is not None else []
        )
    for title, wide in few_shot_tables(folder):
        parts += [
            f"<h3>{html.escape(title)}</h3>",
            wide.rename_axis(columns=None)
            .rename_axis(index=lambda n: "context" if n == "context_name" else n)
            .reset_index()
            .to_html(border=0, index=False),
        ]
    claim_rows = "".join(
        f"<tr><td>{c['id']}</td><td>{html.escape(c['statement'])}<br><span class=small>{html.escape(c['place'])}. Criterion: {html.escape(c['criterion'])}.</span></td>"
        f"<td class='{c['verdict']}'>{c['verdict']}</td><td class=small>{html.escape(c['numbers'])}</td></tr>"
        for c in verdicts
    )
    parts += [
        "<h2>Claims</h2><p>Each criterion was written down before the numbers that first judged it (C45 when the first of two language models had answered, C46 when both had); encoders trained later were judged by the same criteria. The sweep that some of them read was widened once, from guidance 6 to 8, and made finer once, by 4 and 6.</p>",
        f"<table class=claims><thead><tr><th></th><th>claim</th><th>verdict</th><th>numbers</th></tr></thead><tbody>{claim_rows}</tbody></table>",
    ]
    found = {p.stem: p for p in sorted((folder / "figures").glob("*.png"))}
    if found:
        parts += [
            "<h2>Figures</h2>",
            *(
                html_figure(found.pop(k), caption)
                for k, caption in KEY_FIGURES.items()
                if k in found
            ),
        ]
        parts += (
            [
                "<details><summary>All other figures</summary>",
                *(html_figure(p) for p in found.values()),
                "</details>",
            ]
            if found
            else []
        )
    links = []
    for name in notebooks:
        executed, shown = folder / "notebooks" / f"{name}.ipynb", out / f"{name}.html"
        if executed.exists():
            title = page(executed, shown)
        else:  # a page stays when the notebook behind it has been tidied away
            kept = (
                re.search(r"<h1[^>]*>(.*?)<", shown.read_text(), re.S) if shown.exists() else None
            )
            title = kept and html.unescape(kept[1])
        links += [
            f"<li><a href='{name}.html'>{html.escape(title)}</a></li>"
            if title
            else f"<li>{name}: not run in this study</li>"
        ]
    parts += ["<h2>Notebooks, as they last ran</h2><ol>", *links, "</ol>", "<h2>Parameters</h2>"]
    for path in sorted((folder / "parameters").glob("*.json")):
        parts += [
            f"<p><a href='../parameters/{path.name}'>{path.stem}</a></p><pre>{html.escape(json.dumps(json.loads(path.read_text()), sort_keys=True))}</pre>"
        ]
    parts += [
        "<h2>The paper's own inconsistencies</h2><ul>",
        *(f"<li>{html.escape(i)}</li>" for i in published.INCONSISTENCIES),
        "</ul>",
    ]
    index = out / "index.html"
    index.write_text(
        f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'><title>De-Diffusion: {html.escape(folder.name)}</title>"
        f"<style>{CSS}</style></head><body>{''.join(parts)}</body></html>\n"
    )
    return index
