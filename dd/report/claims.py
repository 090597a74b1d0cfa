"""The verdicts on claims.yaml. A test takes rows and its arguments from there; it returns whether
the claim holds and the numbers that say so, or raises NoVerdict where the results lack some."""

from pathlib import Path

import pandas as pd
import yaml

from ..files import write_json
from ..sources import SEARCH
from .tables import interval, most_shots, number, own, pooled, read_table, rows_of, short, swept

CLAIMS = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text())
FIRST = "reconstruction.csv yet; run notebook 05_reconstruction"
MISSING = {
    "few_shot": "few_shot.csv yet; run notebook 08_language",
    "lengths": "lengths.csv; notebook 05_side_experiments makes it if lengths_seen > 0",
    "networks": "second_eye.csv yet; run notebook 06_judges",
    "search": "reconstruction.csv with what search finds yet; run notebook 06_judges",
    "differences": "differences.csv yet; run notebook 05_reconstruction",
    "judges' differences": "differences.csv of judges yet; run notebook 06_judges",
    "crossed": "crossed.csv; notebook 06_judges makes it if cross_seen > 0",
}


class NoVerdict(Exception):
    """What the results lack to judge a claim."""


def claims(folder: Path) -> list[dict]:
    """Every claim with its verdict and numbers."""
    found, rows = [], _rows(folder)
    for claim in CLAIMS:
        lacking = MISSING.get(claim["rows"], FIRST)
        good, numbers = None, f"no {lacking}"
        if rows[claim["rows"]] is not None:
            try:
                good, numbers = _decide(claim, rows[claim["rows"]])
            except KeyError as error:
                lacks = f"{claim['rows']}: a table without {error}, which {claim['id']} needs"
                raise ValueError(f"{folder}: {lacks}; restore it or run anew") from None
        verdict = "not tested" if good is None else "holds" if good else "does not hold"
        told = {key: claim[key] for key in ("id", "statement", "place", "criterion")}
        found.append({**told, "verdict": verdict, "numbers": numbers})
    return found


def verdicts(folder: Path, notebook: str | None = None) -> pd.DataFrame:
    """The claims that a notebook shows (or all) with their verdicts, to look at; all are written to
    claims.json."""
    write_json(Path(folder) / "claims.json", found := claims(folder))
    shown = {c["id"] for c in CLAIMS if notebook in (None, *c["notebooks"])}
    table = pd.DataFrame(found)[["id", "verdict", "statement", "numbers"]]
    return table[table["id"].isin(shown)].reset_index(drop=True)


def _rows(folder: Path) -> dict[str, pd.DataFrame | None]:
    """What claims.yaml calls `rows`."""
    table, second = read_table(folder), read_table(folder, "second_eye")
    rows = {name: read_table(folder, name) for name in ("few_shot", "lengths", "crossed")}
    rows |= {"judges": table, "fit judges": table, "own": None if table is None else own(table)}
    found = pd.DataFrame() if table is None else table[table["decoder"] == SEARCH]
    rows["search"] = found if len(found) else None
    gaps = read_table(folder, "differences")
    rows["differences"] = None if gaps is None else own(gaps)
    rows["judges' differences"] = None if gaps is None else gaps.drop(rows["differences"].index)
    rows |= {"noise": read_table(folder, every_noise=True), "networks": None}
    if table is not None and second is not None:
        rows["networks"] = pd.concat([table.assign(network=2), second.assign(network=1)])
    return rows


def _decide(claim: dict, rows: pd.DataFrame) -> tuple[bool | None, str]:
    """All tests of a claim on its rows; where it is about judges, on those of each judge."""
    if claim["rows"] not in ("judges", "fit judges"):
        return _every(rows, *claim["tests"])
    results = []
    for decoder in (d for d in rows["decoder"].unique()[1:] if d != SEARCH):
        drawn = rows[rows["decoder"] == decoder]
        fit, why = _every(drawn, ["alt_text_is_better", "empty"])
        for test in claim["tests"]:
            good, told = None, f"no fit judge ({why})"
            if fit or claim["rows"] == "judges":
                good, told = _every(drawn, test)
            results.append((good, f"{decoder}: {told}"))
    nobody = "every row was drawn by the decoder that the encoder was trained through"
    return _together(results) if results else (None, nobody)


def _every(rows: pd.DataFrame, *tests: list) -> tuple[bool | None, str]:
    """[name of a test, *its arguments] each -> whether all hold."""
    results = []
    for name, *arguments in tests:
        try:
            results.append(globals()[name](rows, *arguments))
        except NoVerdict as lacking:
            results.append((None, str(lacking)))
    return _together(results)


def _together(results: list[tuple[bool | None, str]]) -> tuple[bool | None, str]:
    """One refutation refutes; short of one, a missing verdict leaves the whole open."""
    verdicts = [good for good, _ in results]
    good = False if False in verdicts else None if None in verdicts else True
    return good, "; ".join(told for _, told in results)


def find(table: pd.DataFrame, split: str, *sources: str) -> list[pd.Series]:
    """The rows of these sources."""
    rows = rows_of(table, split)
    if missing := [s for s in sources if s not in rows.index]:
        raise NoVerdict(f"no row for {' or '.join(missing)} on {split}")
    return [rows.loc[s] for s in sources]


def below(table, split: str, score: str, low: str, *high: str):
    """`low`'s score lies below that of each source in `high`, with their intervals apart."""
    rows = find(table, split, low, *high)
    if score not in table:
        raise NoVerdict(f"no column {score}: these results are of an earlier version")
    good = all(rows[0][f"{score}_hi"] < r[f"{score}_lo"] for r in rows[1:])
    return good, "; ".join(f"{score} of {r.name} {interval(r, score)}" for r in rows)


def at_least(table, split: str, score: str, source: str, bound: float):
    """The whole interval of a source's score lies at `bound` or above."""
    (row,) = find(table, split, source)
    return row[f"{score}_lo"] >= bound, f"{score} of {source} {interval(row, score)}"


def ahead_of(gaps, *others: str):
    """By every decoder here De-Diffusion is ahead of each source: FID and KID in a style lower,
    paired similarity higher, the intervals of the differences apart from zero."""
    told, good = [], True
    for decoder, rows in gaps.groupby("decoder", sort=False):
        if missing := [s for s in others if s not in set(rows["than"])]:
            raise NoVerdict(f"no pictures of {' or '.join(missing)} by {short(decoder)}")
        for r in rows[rows["than"].isin(others)].itertuples():
            good &= r.lo > 0 if r.score == "paired" else r.hi < 0
            form = "+.3f" if r.score == "paired" else "+.2f"
            of = f"{short(decoder)}, {r.score} minus {r.than}'s"
            told.append(f"{of} {number(form, r.difference, r.lo, r.hi)}")
    if not told:
        raise NoVerdict("no judge has drawn")
    return good, "; ".join(told)


def alt_text_is_better(table, than: str):
    """Alt text draws better, as a set (FID) and drawing by drawing (paired similarity)."""
    fid, paired = ["fid", "alt_text", than], ["paired", than, "alt_text"]
    return _every(table, ["below", "test", *fid], ["below", "test", *paired])


def closer_than(table, *sources: str):
    """De-Diffusion's paired similarity lies above that of each source, intervals apart."""
    return _every(table, *(["below", "test", "paired", s, "dediffusion"] for s in sources))


def transfers(table):
    """De-Diffusion ahead of names by FID; told beside it, what FID cannot see."""
    good, told = below(table, "test", "fid", "dediffusion", "names")
    rows = rows_of(table, "test")
    if "shuffled" in rows.index:
        blind = interval(rows.loc["shuffled"], "fid")
        told += f" (what FID cannot see: {blind} with the texts shuffled)"
    return good, told


def shuffled_collapse(table):
    ours, other, chance = find(table, "test", "dediffusion", "shuffled", "random")
    kept = ours["fid_lo"] <= other["fid"] <= ours["fid_hi"]
    fell = other["paired"] <= chance["paired"] + 0.1 * (ours["paired"] - chance["paired"])
    return kept and fell, (
        f"fid {other['fid']:.1f} shuffled, De-Diffusion {interval(ours, 'fid')}; paired "
        f"{other['paired']:.3f} shuffled, {chance['paired']:.3f} random, "
        f"{ours['paired']:.3f} De-Diffusion"
    )


def pairing_matters(table):
    ours, other = find(table, "test", "dediffusion", "shuffled")
    above = ours["paired_lo"] > max(0.0, other["paired_hi"])
    told = f"paired {interval(ours, 'paired')}, shuffled {interval(other, 'paired')}"
    return above and other["paired_lo"] <= 0.1 * ours["paired"], told


def floor_is_low(table):
    floor, people = (r["fid"] for r in find(table, "test", "autoencoder", "names"))
    told = f"fid {floor:.1f} autoencoder, {people:.1f} names: 1 to {people / floor:.1f}"
    return floor <= people / 6, told


def over_guidance(table, split: str, low: float, high: float, side: str, *others: str):
    """At every guidance from low to high De-Diffusion's FID is below (above) that of others."""
    fid = swept(table, split).loc[low:high]
    if fid.empty or not {"dediffusion", *others} <= set(fid.columns):
        sweep = f"no sweep between guidance {low:g} and {high:g} in this study"
        curve = "no curve of all these sources on test drawings in this study"
        raise NoVerdict(sweep if split == "val" else curve)
    gaps = pd.DataFrame({s: fid["dediffusion"] - fid[s] for s in others})
    told = (
        f"De-Diffusion minus {s}: " + ", ".join(f"{g:+.1f} at {w:g}" for w, g in gaps[s].items())
        for s in others
    )
    good = gaps < 0 if side == "below" else gaps > 0
    return good.all(axis=None), "; ".join(told)


def flatter(table):
    fid = swept(table)
    if len(fid) < 3 or not {"dediffusion", "names"} <= set(fid.columns):
        raise NoVerdict("no sweep in this study")
    ours, people = (fid[s].iloc[-1] / fid[s].min() for s in ("dediffusion", "names"))
    told = f"FID at guidance {fid.index[-1]:g} over the lowest: {ours:.3f} De-Diffusion, "
    return ours < people, f"{told}{people:.3f} names"


def longer_is_better(table):
    """FID falls from each number of words to the next, and is below names' with sixteen."""
    of = lambda source: table[table["source"] == source].sort_values("tokens")
    names, ours = of("names"), of("dediffusion")
    people, at = names["fid"].iloc[0], ours.loc[ours["tokens"] == 16, "fid"]
    told = ", ".join(f"{r.fid:.1f} with {r.tokens} words" for r in ours.itertuples())
    good = ours["fid"].is_monotonic_decreasing and len(at) > 0 and at.iloc[0] < people
    return good, f"FID {told}; {people:.1f} names"


def diagonal(table):
    """Every decoder draws closest from the text of the encoder trained through it."""
    good, told = True, []
    for decoder, drawn in table.groupby("decoder", sort=False):
        same = drawn["trained_through"] == decoder
        lower = drawn.loc[~same, "paired_hi"] < drawn.loc[same, "paired_lo"].max()
        good &= same.sum() == 1 and lower.all()
        cells = (
            f"{short(r.trained_through)}'s {number('.3f', r.paired, r.paired_lo, r.paired_hi)}"
            for r in drawn.itertuples()
        )
        told.append(f"{short(decoder)} draws from {', '.join(cells)}")
    return (good if len(told) > 1 else None), "; ".join(told)


def _turned(before: pd.DataFrame, after: pd.DataFrame, score: str) -> tuple[int, list[str]]:
    """Pairs of sources (the index) with intervals apart in `before`: how many are in both, and
    those in the other order in `after`."""
    low, high = before[f"{score}_lo"], before[f"{score}_hi"]
    both = [s for s in before.index if s in after.index]
    pairs = [(a, b) for a in both for b in both if high[a] < low[b]]
    value = after[score]
    return len(pairs), [f"{a}/{b}" for a, b in pairs if value[a] >= value[b]]


def order_kept(table, by: str, *others: str):
    """Every decoder, test drawings: De-Diffusion's place before or behind each other source, by FID
    and by paired similarity, is the same at every value of column `by`."""
    told, turned, rows = [], 0, table[table["split"] == "test"]
    for decoder, drawn in rows.groupby("decoder", sort=False):
        for score in ("fid", "paired"):
            values = drawn.pivot_table(index=by, columns="source", values=score, sort=False)
            values = values.dropna(axis=1)
            if len(values) < 2 or "dediffusion" not in values:
                continue
            gaps = values[[s for s in others if s in values]].rsub(values["dediffusion"], axis=0)
            turns = [s for s in gaps if (gaps[s] > 0).nunique() > 1]
            turned += len(turns)
            which = f"turned: {', '.join(turns)}" if turns else f"none of {gaps.shape[1]} turned"
            told.append(f"{short(decoder)}, {score}: {which}")
    if not told:
        raise NoVerdict(f"only one {by}")
    return turned == 0, "; ".join(told)


def _pairs(better: pd.DataFrame, worse: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Rows that agree in `by`, side by side; the worse one's columns end in _w."""
    return better.merge(worse.add_suffix("_w"), left_on=by, right_on=[f"{c}_w" for c in by])


def _compared(pairs: pd.DataFrame) -> tuple[bool, str]:
    """Do the intervals of every pair lie apart the right way, and the numbers."""
    if pairs.empty:
        raise NoVerdict("not in this study's few_shot.csv")
    told = []
    for p in pairs.itertuples():
        ways = f", {p.ways} ways" if p.ways else ""
        induction = "" if p.induction == p.induction_w else " without induction"
        shots = "" if p.shots == p.shots_w else f" {p.shots_w} shots"
        told.append(
            f"{p.model}, {p.shots} shots{ways}: {p.context} {number('.3g', p.score, p.lo, p.hi)}, "
            f"{p.context_w}{induction}{shots} {number('.3g', p.score_w, p.lo_w, p.hi_w)}"
        )
    return (pairs["lo"] > pairs["hi_w"]).all(), "; ".join(told)


def answers_above(table, context: str, than: str, kind: str, metric="exact", least: int | str = 0):
    """Every model scores higher from `context` than from `than`, intervals apart, at every number
    of shots from `least` ("most": with the most)."""
    rows = pooled(table, kind, metric)
    rows = most_shots(rows) if least == "most" else rows[rows["shots"] >= least]
    better, worse = (rows[rows["context"] == c] for c in (context, than))
    return _compared(_pairs(better, worse, "model", "shots", "pseudo"))


def more_shots(table):
    rows = pooled(table, "all", "exact")
    rows = rows[rows["context"] == "dediffusion"]
    most = most_shots(rows)
    return _compared(_pairs(most[most["shots"] > 0], rows[rows["shots"] == 0], "model"))


def readers_agree(table):
    """Texts that the first model puts apart keep their order with every other model."""
    rows = most_shots(pooled(table, "all but what", "exact"))
    rows = rows[rows["context"] != "commonest"].rename(columns={"lo": "score_lo", "hi": "score_hi"})
    models = [(m, g.set_index("context")) for m, g in rows.groupby("model", sort=False)]
    results = {m: _turned(models[0][1], g, "score") for m, g in models[1:]}
    told = "; ".join(
        f"{m}: {len(pairs)} of {n} pairs turned" + (f" ({', '.join(pairs)})" if pairs else "")
        for m, (n, pairs) in results.items()
    )
    if not any(n for n, _ in results.values()):
        raise NoVerdict(told or "only one model")
    return not any(pairs for _, pairs in results.values()), told


def classifies(table):
    rows, by = pooled(table, "test", "exact"), ("model", "shots", "ways")
    ours, named = rows[rows["context"] == "dediffusion"], rows[rows["induction"]]
    blank, induced = named[named["context"] == "empty"], ours[ours["induction"]]
    pairs = [_pairs(induced, other, *by) for other in (blank, ours[~ours["induction"]])]
    return _compared(pd.concat(pairs))
