"""Result files as the paper would have them, for the tests of dd/report: change a number and a
verdict must change."""

import pandas as pd

from dd import report

GOOD = {  # source: (fid, kid, paired[, kid within a style])
    "autoencoder": (10, 0.1, 0.9),
    "names": (100, 5.0, 0.10),
    "names_keywords": (90, 4.5, 0.12),
    "names_style": (92, 4.6, 0.12),
    "dediffusion": (60, 3.0, 0.40),
    "alt_text": (70, 3.5, 0.30),
    "soft": (58, 2.9, 0.45),
    "shuffled": (61, 3.0, 0.01, 9.0),
    "random": (95, 4.8, 0.00),
    "empty": (120, 6.0, 0.00),
    "names_all": (95, 4.8, 0.13),
    "captioner_detailed": (105, 4.0, 0.28),
}
SWEEP = {"names": {1.5: 80, 3.0: 82, 6.0: 120}, "dediffusion": {1.5: 85, 3.0: 60, 6.0: 66}}
NOVEL = ("autoencoder", "names", "names_keywords", "dediffusion", "alt_text")
ANSWERS = {  # context: exact match with examples
    "dediffusion": 0.6,
    "names": 0.5,
    "names_keywords": 0.5,
    "shuffled": 0.3,
    "empty": 0.3,
    "alt_text": 0.9,
    "commonest": 0.3,
}


def line(split, source, guidance, fid, kid, paired, within=None):
    """A row of reconstruction.csv, intervals of two percent."""
    facts = dict(dataset="emoji", split=split, source=source, decoder="sketch", seed=0, n=400)
    within = 2 * kid if within is None else within
    for name, v in {"fid": fid, "kid": kid, "paired": paired, "kid_within": within}.items():
        facts |= {name: v, f"{name}_lo": 0.98 * v, f"{name}_hi": 1.02 * v}
    return facts | dict(guidance=guidance, r_at_1=0.1)


def table(**changed) -> pd.DataFrame:
    """reconstruction.csv of the decoder trained through; `changed`: source -> scores."""
    scores = {**GOOD, **changed}
    rows = [line("test", s, 3.0, *v) for s, v in scores.items()]
    rows += [line("novel", s, 3.0, *scores[s]) for s in NOVEL]
    rows += [line("outside", s, 3.0, *scores[s]) for s in (*NOVEL, "shuffled")]
    rows += [line("val", s, g, fid, 1.0, 0.1) for s, by in SWEEP.items() for g, fid in by.items()]
    return pd.DataFrame(rows)


def judged(*decoders) -> pd.DataFrame:
    """The same with judges that find what the first decoder found."""
    rows = table()
    others = [rows[rows["split"] != "novel"].assign(decoder=d) for d in decoders]
    return pd.concat([rows, *others], ignore_index=True)


def searched(concept: float = 0.3, **changed) -> pd.DataFrame:
    """What a search engine finds, in the place of a judge's rows; `concept`: the share of right
    ones from De-Diffusion's text, 0.9 from others."""
    rows = table(**changed).query("split == 'test'").assign(decoder="search", guidance=float("nan"))
    shares = {"right_concept": [concept if s == "dediffusion" else 0.9 for s in rows["source"]]}
    for name, share in (shares | {"right_style": 0.4}).items():
        rows[name] = share
        rows[f"{name}_lo"], rows[f"{name}_hi"] = rows[name] - 0.02, rows[name] + 0.02
    return rows


def by_style() -> pd.DataFrame:
    """kid_by_style.csv: De-Diffusion nearer than names, everywhere."""
    rows = []
    for decoder in ("sketch", "search"):
        for source, kid in (("names", 3.0), ("dediffusion", 1.0)):
            for style in ("noto", "twemoji"):
                facts = dict(decoder=decoder, source=source, seed=0, style=style, n=40, kid=kid)
                rows.append(dict(facts, kid_lo=kid - 0.1, kid_hi=kid + 0.1))
    return pd.DataFrame(rows)


def curve(at_three: float) -> pd.DataFrame:
    """FID over guidance on test drawings; De-Diffusion has `at_three` at guidance 3."""
    fids = {
        "names": (100.0, 100.0, 100.0),
        "names_keywords": (100.0, 100.0, 100.0),
        "names_all": (99.0, 90.0, 99.0),
        "dediffusion": (120.0, at_three, 70.0),
    }
    facts = dict(split="curve", decoder="sketch", seed=0, n=1024)
    rows = [
        dict(facts, source=s, guidance=g, fid=f, fid_lo=f - 1, fid_hi=f + 1)
        for s, values in fids.items()
        for g, f in zip((1.5, 3.0, 6.0), values)
    ]
    return pd.DataFrame(rows)


def crossed(away: float) -> pd.DataFrame:
    """crossed.csv: 0.3 from the own encoder, `away` and 0.1 from another's."""
    rows = []
    for through in ("sketch", "judge-a"):
        for decoder in ("sketch", "judge-a"):
            p = 0.3 if through == decoder else away if decoder == "sketch" else 0.1
            facts = dict(trained_through=through, decoder=decoder, guidance=2.0, seed=0, paired=p)
            rows.append(dict(facts, paired_lo=p - 0.01, paired_hi=p + 0.01))
    return pd.DataFrame(rows)


def answers(**changed) -> pd.DataFrame:
    """few_shot.csv; `changed`: context -> score of every question."""
    rows = []
    usual = dict(task="vqa", model="m", ways=0, induction=False, seed="all", n=100, leak=False)

    def add(context, value, **facts):
        interval = dict(score=value, lo=value - 0.02, hi=value + 0.02, metric="exact")
        pseudo = facts["shots"] == 0
        rows.append({**usual, "context": context, "pseudo": pseudo, **interval, **facts})

    for context, value in {**ANSWERS, **changed}.items():
        for kind in ("all", "all but what", "colour", "style"):
            for shots, less in ((0, 0.1), (4, 0.0), (16, 0.0)):
                add(context, value - less, kind=kind, shots=shots)
        played = dict(task="classification", kind="test", shots=1)
        for ways in (2, 5):
            for named in (True, False):
                add(context, value + 0.2 * named, ways=ways, induction=named, **played)
        add(context, 100 * value, task="captioning", kind="caption", shots=4, metric="cider")
    return pd.DataFrame(rows)


def differences() -> pd.DataFrame:
    """few_shot_differences.csv: De-Diffusion minus empty text and minus alt text."""
    base = dict(model="m", pseudo=False, context="dediffusion", n=100, by_seed="+0.1")
    rows = []
    for shots in (4, 16):
        for kind in ("all but what", "colour"):
            for than, d in (("empty", 0.25 + 0.01 * (kind == "colour")), ("alt_text", -0.3)):
                facts = dict(base, shots=shots, kind=kind, than=than, leak=than == "alt_text")
                rows.append(dict(facts, difference=d, lo=d - 0.02, hi=d + 0.02))
    return pd.DataFrame(rows)


def gaps(**changed) -> pd.DataFrame:
    """differences.csv, De-Diffusion ahead by every score; `changed`: source -> (score, value)."""
    rows, ahead = [], {"fid": -20.0, "kid_within": -3.0, "paired": 0.1}
    for than in ("names", "names_keywords", "names_all", "names_style", "captioner_detailed"):
        for score, value in (ahead | dict([changed[than]] if than in changed else [])).items():
            half = 0.02 if score == "paired" else 1.5
            row = dict(decoder="sketch", n=400, than=than, score=score, difference=value)
            rows.append(row | dict(lo=value - half, hi=value + half))
    return pd.DataFrame(rows)


def verdicts(folder, rows) -> dict[str, str]:
    """The verdict on every claim once `rows` are the folder's reconstruction.csv."""
    rows.to_csv(folder / "reconstruction.csv", index=False)
    return {c["id"]: c["verdict"] for c in report.claims(folder)}
