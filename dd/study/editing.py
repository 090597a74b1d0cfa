"""Editing a picture through its text: two texts mixed, or one kind of word replaced.

    first, second, stranger = pairs(study)
    table, pictures = blends(study, first, second, stranger)    # blending.csv
    table, shown = edits(study)                                 # editing.csv

Rows are those of the study's test drawings; texts are De-Diffusion's. What is compared starts from
the same noise.
"""

import random

import numpy as np
import pandas as pd
from torch.nn.functional import cosine_similarity

from .. import metrics
from ..captions import COLOURS, STYLE_WORDS, pixel_words
from ..texts import blended, exchanged, pairs_across, swapped
from .core import Study
from .experiments import written

_STYLES = set(" ".join(STYLE_WORDS.values()).split()) - {"openmoji", "outlined", "line"}
EDITS = {  # words that are replaced, and by which
    "colour -> red": (set(COLOURS) - {"red"}, "red"),
    "style -> outlined": (_STYLES, "outlined"),
    "thing -> heart": ({"face", "flag", "button", "animal"}, "heart"),
}
COLUMNS = ["edit", "text", "n", "asked for", "half", "like the original"]


def _order(study: Study) -> tuple[list[int], random.Random]:
    """All test drawings in random order, and the generator for what is drawn at random next."""
    rng, M = random.Random(f"{study.seed}/pairs"), len(study.subset("test"))
    return rng.sample(range(M), M), rng


def groups(study: Study) -> list[str]:
    """The group of each test drawing; in a world without them each is one of its own."""
    frame = study.subset("test").frame
    return frame.get("group", frame["id"]).tolist()


def pairs(study: Study) -> tuple[list[int], list[int], list[int]]:
    """-> (first, second, stranger): drawings of different groups that are blended, and for each
    pair the first of another one, a control."""
    order = _order(study)[0]
    first, second = pairs_across(order, groups(study), min(study.pairs, len(order) // 2))
    return first, second, first[1:] + first[:1]


def _draw(study: Study, ids: list[str], texts: list[str], states=None) -> np.ndarray:
    return study.dec.draw(texts, ids, states=states, **study.how(study.guidance))


def blends(study: Study, first: list[int], second: list[int], stranger: list[int]):
    """-> (blending.csv, pictures by kind): each text alone, every other word from each, and the
    mean of what the text encoder makes of both. Scored by similarity to both originals, to the
    less similar of the two, and to the stranger."""
    texts, ids = study.texts("dediffusion"), study.subset("test").frame["id"]
    ids = [f"blend/{ids[i]}/{ids[j]}" for i, j in zip(first, second)]
    a, b = ([texts[i] for i in side] for side in (first, second))
    halfway = (study.dec.text_states(a) + study.dec.text_states(b)) / 2  # (M, L, D)
    pictures = {
        "first text": _draw(study, ids, a),
        "words in turn": _draw(study, ids, [blended(x, y) for x, y in zip(a, b)]),
        "states halfway": _draw(study, ids, a, halfway),
        "second text": _draw(study, ids, b),
    }
    real, rows = study.real("test"), []  # (M, D)
    for kind, drawn in pictures.items():
        features = metrics.image_features(drawn, **study.eye)
        like = lambda of, x=features: metrics.paired_similarity(real[of], x, real.mean(0)).numpy()
        to = {"first": like(first), "second": like(second), "no parent": like(stranger)}
        to["lower of both"] = np.minimum(to["first"], to["second"])
        rows += [(kind, parent, *metrics.mean_half(v), len(v)) for parent, v in to.items()]
    columns = ["picture from", "similarity to", "mean", "half", "n"]
    return written(study, "blending.csv", pd.DataFrame(rows, columns=columns)), pictures


def edits(study: Study):
    """-> (editing.csv, {edit: (rows, texts by kind, pictures by kind)}). Each edit has `pairs`
    drawings whose text has a word to replace and not yet the new one. Scored by how much of the
    change the pictures show, and how like the originals they still are. The control replaces as
    many other words by random ones."""
    test, texts, (order, rng) = study.subset("test"), study.texts("dediffusion"), _order(study)
    said, real = [set(t.split()) for t in texts], study.real("test")
    known, asked_for = sorted(set().union(*said)), _shown(study)
    rows, shown = [], {}
    for edit, (old, new) in EDITS.items():
        able = [i for i in order if old & said[i] and new not in said[i]][: study.pairs]
        ids, own = [test.frame["id"].iloc[i] for i in able], [texts[i] for i in able]
        told = {
            "as written": own,
            "edited": [swapped(t, old, new) for t in own],
            "control": [exchanged(t, old, new, known, rng) for t in own],
        }
        drawn = {kind: _draw(study, ids, some) for kind, some in told.items() if some}
        for kind, pictures in drawn.items():
            features = metrics.image_features(pictures)
            values = np.array([asked_for(edit, p, x) for p, x in zip(pictures, features)])
            like = float(metrics.paired_similarity(real[able], features).mean())
            rows.append((edit, kind, len(able), *metrics.mean_half(values), like))
        shown[edit] = able, told, drawn
    return written(study, "editing.csv", pd.DataFrame(rows, columns=COLUMNS)), shown


def _shown(study: Study):
    """-> a function of (edit, picture, its features): whether the picture shows the change, by the
    rules that measured the alt text; for the heart, its similarity to the average heart drawn."""
    train, centre = study.subset("train"), study.real("test").mean(0)
    hearts = train.images[train.frame["name"].str.contains("heart$")]  # red heart, broken heart
    heart = metrics.image_features(hearts).mean(0) - centre

    def shown(edit: str, picture: np.ndarray, features) -> float:
        if edit.startswith("colour"):
            return float("red" in pixel_words(picture)["colours"])
        if edit.startswith("style"):
            return float("bordered" in pixel_words(picture)["shape"])
        return float(cosine_similarity(features - centre, heart, dim=0))

    return shown
