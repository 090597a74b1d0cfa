"""A search engine in a judge's place, and ideal drawers: the picture is a training drawing."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from dd.captions import alt_text, alt_text_phrases, words
from dd.search import SearchEngine, ideal
from dd.study import Study, experiments
from dd.study.core import JUDGED


@pytest.fixture(scope="module")
def shown(whole_dataset):
    return whole_dataset.subset("train")


@pytest.fixture(scope="module")
def engine(shown):
    return SearchEngine(shown)


@pytest.fixture(scope="module")
def test_drawings(whole_dataset):
    return whole_dataset.subset("test", 200)


def bm25(text: str, said: list[list[str]], k1=1.2, b=0.75) -> np.ndarray:
    """Its formula written out: one score a document."""
    length, mean = np.array([len(d) for d in said]), np.mean([len(d) for d in said])
    counts, score = [Counter(d) for d in said], np.zeros(len(said))
    for word in words(text):
        n = np.array([c[word] for c in counts])
        idf = np.log(1 + (len(said) - (n > 0).sum() + 0.5) / ((n > 0).sum() + 0.5))
        score += idf * n / (n + k1 * (1 - b + b * length / mean))
    return score


def test_the_first_hit_is_that_of_bm25(small_dataset):
    said = [words(alt_text(p, limit=10_000)) for p in alt_text_phrases(small_dataset)]
    texts = ["red face", "blue flag twemoji flat", "Yellow, yellow hand!", "fluent 3d glossy xyzzy"]
    rows = SearchEngine(small_dataset).find(texts, texts)
    for text, row in zip(texts, rows):
        scores = bm25(text, said)
        assert scores[row] == pytest.approx(scores.max(), rel=1e-5) and scores.max() > 0


def test_equal_hits_are_taken_at_random_by_image_and_seed(engine, shown):
    ids = [f"image-{i}" for i in range(300)]
    for text in ("", "xyzzy", "?!"):
        rows = engine.find([text] * 300, ids)
        assert len(set(rows)) > 250 and 0.4 < rows.mean() / len(shown) < 0.6
        assert np.array_equal(rows, engine.find([text] * 300, ids))
        assert (rows != engine.find([text] * 300, ids, seed=1)).mean() > 0.9
    text = "red apple fluent 3d glossy"
    assert len(set(engine.find([text] * 300, ids))) == 1  # one best, for every image
    pictures = engine.draw([text], ids[:1], guidance=3.0, steps=8, sampler="dpm")
    assert np.array_equal(pictures, shown.images[engine.find([text], ids[:1])])


def test_an_ideal_drawer_gives_what_it_is_told(engine, shown, test_drawings):
    of = {k: test_drawings.frame[k].to_numpy() for k in ("concept", "style", "group")}
    got = {k: shown.frame[k].to_numpy() for k in of}
    named, styled = (ideal(engine, test_drawings, with_style=w) for w in (False, True))
    assert (got["concept"][named] == of["concept"]).all() and len(set(named)) > 150
    assert len(set(got["style"][named])) == 9 and not (got["style"][named] == of["style"]).any()
    # no training drawing has both; then the style's that is found first for the name
    assert (got["style"][styled] == of["style"]).all()
    assert (got["concept"][styled] != of["concept"]).all()
    chance = (got["group"][styled] == np.random.default_rng(0).permutation(of["group"])).mean()
    assert (got["group"][styled] == of["group"]).mean() > 2 * chance
    own = ideal(engine, shown.rows(np.arange(50)), with_style=True)
    assert np.array_equal(own, np.arange(50))  # where there is one it is taken


def test_found_rows_are_scored_like_drawn_ones_and_tell_what_was_right(cheap_study, monkeypatch):
    study, looked, real = cheap_study("found"), [], Study.real
    seen = lambda self, split: looked.extend(getattr(split, "frame", {"id": []})["id"]) or real(
        self, split
    )
    monkeypatch.setattr(Study, "real", seen)
    found = study.found()
    table = found.set_index("source")
    assert tuple(table.index) == JUDGED and set(table["decoder"]) == {"search"}
    assert len(looked) == len(set(looked)) > 120  # each drawing once, for all sources
    assert table["guidance"].isna().all() and set(table["n"]) == {120}
    concept, style = table["right_concept"], table["right_style"]
    assert concept["names"] > 0.8 > 0.1 > concept["shuffled"] and concept["empty"] < 0.05
    assert style["names_style"] > style["names"] and style["empty"] < 0.3
    assert (table["right_concept_lo"] <= concept).all() and (table["right_style_hi"] >= style).all()
    assert table.loc["names", "paired"] > table.loc["shuffled", "paired_hi"]
    monkeypatch.setattr("dd.metrics.image_features", lambda *_, **__: 1 / 0)
    assert cheap_study("found").found().equals(found)  # kept: nothing is looked at again
    assert study.asked(("a",), ("b",)) == [("test", "a")]


def test_ideal_drawers_bound_the_narrow_sets(cheap_study, monkeypatch):
    """A drawer told the style is nearer to each style than one told the name."""
    monkeypatch.setattr("dd.metrics.LEAST_IN_CLASS", 5)
    study = cheap_study("ideal", n_test=300)
    rows = {s: study.row(s, "test", 0.0) for s in ("ideal_name", "ideal_style")}
    assert all(np.isnan(r["guidance"]) and r["n"] == 300 for r in rows.values())
    assert rows["ideal_style"]["kid_within"] < rows["ideal_name"]["kid_within"]


def test_kid_is_told_style_by_style(cheap_study, judge_folder, monkeypatch):
    monkeypatch.setattr("dd.metrics.LEAST_IN_CLASS", 5)
    study = cheap_study("styles", judges=[str(judge_folder)])
    study.reconstruction(), study.judged()
    rows = pd.read_csv(study.path("reconstruction.csv"))
    table = experiments.by_style(study)
    assert list(table["decoder"].unique()) == [*study.by_each, "search"]
    assert list(table["source"].unique()) == list(experiments.NARROW)
    whole = pd.read_csv(study.path("reconstruction.csv")).query("split == 'test'")
    whole = whole.set_index(["decoder", "source"])["kid_within"]
    means = table.groupby(["decoder", "source"])["kid"].mean()
    assert means.to_numpy() == pytest.approx(whole[means.index].to_numpy(), rel=1e-4)
    assert (table["kid_lo"] < table["kid_hi"]).all() and study.path("kid_by_style.csv").exists()
    rows[rows["source"] != "names_style"].to_csv(study.path("reconstruction.csv"), index=False)
    assert set(experiments.by_style(study)["source"]) == {*experiments.NARROW} - {"names_style"}
    monkeypatch.setattr("dd.metrics.LEAST_IN_CLASS", 100)  # styles too small: no file of nothing
    assert experiments.by_style(study).empty
