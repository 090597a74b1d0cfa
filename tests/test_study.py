"""Chunks resume; every source is drawn from its strings; what a number stands on is on disk."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from dd import texts as sources
from dd.decoder import Decoder
from dd.encoder import Encoder
from dd.study import BadParameter, Study, core, experiments
from dd.study.cache import model_hash
from dd.study.core import JUDGED, TEST
from dd.study.parameters import taken


def chunks(study):
    return sorted((study.folder / "cache" / "draw").glob("*.safetensors"))


def test_drawing_resumes_chunk_by_chunk(study, monkeypatch):
    whole, first = study.drawn("dediffusion", "test", 2.0, chunk=4)
    assert whole.shape == (10, 352) and first.shape == (10, 64, 64, 3) and len(chunks(study)) == 3
    for of, noise in (("val", 0), ("test", 1)):  # elsewhere the first chunk's pictures are enough
        pictures = study.drawn("names", of, 2.0, chunk=4, noise=noise)[1]
        assert pictures.shape == (4, 64, 64, 3)
    [c.unlink() for c in chunks(study) if "names" in c.name]
    drawn, draw = [], Study._draw_chunk
    counted = lambda self, *a: drawn.append(a[3]) or draw(self, *a)
    monkeypatch.setattr(Study, "_draw_chunk", counted)
    again, _ = study.drawn("dediffusion", "test", 2.0, chunk=4)
    assert torch.equal(again, whole) and not drawn  # nothing is computed twice
    chunks(study)[1].unlink()  # killed there
    again, first_again = study.drawn("dediffusion", "test", 2.0, chunk=4)
    assert len(drawn) == 1 and len(drawn[0]) == 4  # only what was lost
    assert torch.equal(again, whole) and np.array_equal(first, first_again)


def test_a_changed_parameter_draws_anew(study):
    a = study.drawn("names", "test", 2.0, chunk=16)[0]
    b = study.drawn("names", "test", 1.0, chunk=16)[0]
    study.seed = 1
    c = study.drawn("names", "test", 2.0, chunk=16)[0]
    assert len(chunks(study)) == 3 and not torch.equal(a, b) and not torch.equal(a, c)


def test_every_source_is_drawn_from_its_own_strings_and_the_same_noise(study, monkeypatch):
    """What is scored is the string, read again by the decoder; only the soft ceiling and the
    autoencoder bypass it."""
    asked, drawn, draw = {}, {}, study.dec.draw

    def noted(texts, ids, **options):
        asked[source] = texts, ids, options
        return draw(texts, ids, **options)

    monkeypatch.setattr(study.dec, "draw", noted)
    for source in ("autoencoder", "soft", *sources.WRITERS, "dediffusion", "shuffled"):
        features, first = study.drawn(source, "test", 2.0)
        assert features.shape == (10, 352) and features.isfinite().all() and len(first) == 10
        assert not [s for s, other in drawn.items() if torch.equal(other, features)]
        drawn[source] = features
    assert "autoencoder" not in asked and asked["soft"][2].pop("states") is not None
    for source, (texts, _, options) in asked.items():
        if source != "soft":
            assert texts == study.texts(source) and options.pop("states") is None
    for _, ids, options in asked.values():
        assert ids == list(study.subset("test").frame["id"]) and options == asked["names"][2]


def test_random_words_are_as_long_as_the_written_text(study):
    assert {len(t.split()) for t in study.texts("random")} == {study.enc.pooler.config.N}


def test_a_study_killed_three_times_ends_like_an_undisturbed_one(cheap_study, monkeypatch):
    draw, drawn = Study._draw_chunk, []

    def go(name, die_at=None):
        def dying(self, *a):
            drawn.append(a[0])
            if len(drawn) == die_at:
                raise KeyboardInterrupt
            return draw(self, *a)

        drawn.clear()
        monkeypatch.setattr(Study, "_draw_chunk", dying)
        study = cheap_study(name)
        return study.reconstruction(), study.folder / "reconstruction.csv"

    table, whole = go("whole")
    assert len(drawn) == 10 and set(table["n"]) == {120}
    assert list(table["source"]) == ["autoencoder", "ideal_name", "ideal_style", *TEST]
    assert " ".join(table.columns) == (
        "world split source decoder guidance seed n fid fid_lo fid_hi kid kid_lo kid_hi "
        "paired paired_lo paired_hi r_at_1 kid_within kid_within_lo kid_within_hi"
    )
    for at in (2, 4, 3):
        with pytest.raises(KeyboardInterrupt):
            go("killed", die_at=at)
        assert not (whole.parent.parent / "killed" / "reconstruction.csv").exists()
    again = go("killed")[1]
    assert len(drawn) == 10 - (1 + 3 + 2) and again.read_bytes() == whole.read_bytes()


def test_judges_draw_the_same_texts_and_their_rows_follow(cheap_study, tiny_folder, judge_folder):
    study = cheap_study("judged", judges=[str(judge_folder)])
    with pytest.raises(BadParameter, match="run notebook 05_reconstruction first"):
        study.judged()
    own = study.reconstruction()
    table, texts = study.judged(), study.texts("dediffusion")
    assert list(table["decoder"].unique()) == [str(tiny_folder), str(judge_folder), "search"]
    bounds = ["autoencoder", "ideal_name", "ideal_style"]
    assert list(table["source"]) == [*own["source"], *bounds, *JUDGED, *JUDGED]
    same = table[table["source"].isin(bounds)].groupby("source")["fid"].nunique()
    assert same["ideal_name"] == same["ideal_style"] == 1  # of no decoder
    assert study.through(str(judge_folder)).texts("dediffusion") == texts
    once = (study.folder / "reconstruction.csv").read_bytes()
    assert study.reconstruction().equals(own)  # notebook 5 again: the judges stay
    assert (study.folder / "reconstruction.csv").read_bytes() == once
    gaps = experiments.differences(study, study.by_each).set_index(["decoder", "than", "score"])
    assert list(gaps.index.unique("decoder")) == list(study.by_each)
    fids = table[table["split"] == "test"].set_index(["decoder", "source"])["fid"]
    for name in study.by_each:
        apart = fids[name, "dediffusion"] - fids[name, "names"]
        assert gaps.loc[(name, "names", "fid"), "difference"] == pytest.approx(apart, abs=1e-3)
    drew = json.loads((study.folder / "weights.json").read_text())
    assert set(drew) == {"encoder", str(tiny_folder), str(judge_folder)}
    assert drew[str(judge_folder)] == model_hash(str(judge_folder))
    assert len(study.judged()) == len(table)  # not appended twice
    assert (study.folder / "reconstruction.csv").read_bytes() == once


def test_texts_are_written_once_and_follow_the_encoder(study, tiny_decoder, tmp_path, monkeypatch):
    texts, ids = study.texts("dediffusion"), Encoder.ids
    assert len(texts) == 10 and all(len(t.split()) == 5 for t in texts)
    assert sorted(study.texts("shuffled")) == sorted(texts) != study.texts("shuffled")
    file = study.folder / "texts" / "test" / "dediffusion.parquet"
    assert pd.read_parquet(file)["text"].tolist() == texts
    monkeypatch.setattr(Encoder, "ids", None)
    file.unlink()
    assert study.texts("dediffusion") == texts and file.exists()  # kept: no network is asked
    monkeypatch.setattr(Encoder, "ids", ids)
    Encoder.new(tiny_decoder, 5, D=32, blocks=1, seed=3).save(tmp_path / "encoder")
    study.__dict__.pop("encoder_folder", None), study.__dict__.pop("enc", None)
    assert study.texts("dediffusion") != texts  # new weights, new words


def test_rivals_write_and_are_drawn_and_judged(
    cheap_study, whole_dataset, judge_folder, monkeypatch
):
    """One captioner, trained once through the study's own decoder; the judge gets the same strings;
    the judge draws the rivals that are drawn from every noise."""
    from dd import baselines

    few_steps = partial(baselines.hard_prompts_by_loss, steps=2)
    monkeypatch.setattr(baselines, "hard_prompts_by_loss", few_steps)
    rivals = ["names_all", "retrieval", "captioner", "interrogator", "pez", "ph2p"]
    study = cheap_study("rivals", rivals=rivals, rivals_seen=256, judges=[str(judge_folder)])
    study.subsets["train"] = whole_dataset.subset("train", 256)
    folder = study.rival("captioner")
    assert study.rival("interrogator") == study.rival("pez") != folder  # they share one similarity
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", None)  # a second training would fail
    texts = {s: study.texts(s) for s in rivals}
    assert study.rival("captioner") == folder
    names = set(sources.names(study.subset("train")))
    assert set(texts["retrieval"]) <= names and len(set(texts["retrieval"])) > 1
    shorter = study.texts("names_keywords")
    assert all(a.startswith(n) and len(a) > len(n) for a, n in zip(texts["names_all"], shorter))
    words = {s: {len(t.split()) for t in texts[s]} for s in rivals}
    assert max(words["captioner"]) <= 6 and words["interrogator"] <= {1, 2, 3, 4, 5}
    assert words["pez"] == words["ph2p"] == {5}
    assert {s: study.through(str(judge_folder)).texts(s) for s in rivals} == texts
    study.reconstruction()
    for decoder, rows in study.judged().groupby("decoder"):
        drawn = {"names_all"} if decoder == str(judge_folder) else set(rivals)
        assert set(rivals) & set(rows["source"]) == drawn and rows["source"].is_unique, decoder
    fids = {("captioner", 1.0): 2, ("captioner", 2.0): 1}
    fids |= {("dediffusion", 1.0): 2, ("dediffusion", 2.0): 3}
    swept = pd.DataFrame([dict(source=s, guidance=g, fid=f) for (s, g), f in fids.items()])
    best = study.best_guidance(swept)
    assert best["captioner"] == 2.0 and best["shuffled"] == 1.0
    row = lambda self, source, split, guidance, noise=0: dict(source=source, guidance=guidance)
    monkeypatch.setattr(Study, "row", row)
    study.n_val = 120
    assert set(rivals) < set(study.sweep()["source"])


def test_a_notebook_takes_parameters_from_its_names_and_writes_them_before_the_work(tmp_path):
    names = dict(study="mine", n_test=400, decoder=core, Study=Study, seed=3, other=1, captions=len)
    study = Study.of_notebook("07_editing", names | dict(captions=lambda: 1))
    assert (study.n_test, study.seed, study.decoder) == (400, 3, "sketch")
    told = json.loads((study.folder / "parameters" / "07_editing.json").read_text())
    wanted = "study seed decoder encoder n_test guidance steps sampler n_train pairs".split()
    wanted += "world world_images features".split()
    assert told == {name: study.parameters[name] for name in wanted}
    again = Study.of_notebook("07_editing", {**names, "study": study, "captions": 0})
    assert again.parameters == {**study.parameters, "captions": 0}
    with pytest.raises(BadParameter, match="n_test is 'all'"):
        Study.of_notebook("07_editing", dict(n_test="all"))


def test_best_guidance_is_chosen_on_validation_per_source(study):
    fids = dict(names=(3, 1), dediffusion=(1, 2), alt_text=(5, 4), names_keywords=(1, 9))
    rows = [
        dict(source=source, guidance=guidance, fid=fid)
        for source, both in fids.items()
        for guidance, fid in zip((1.0, 2.0), both)
    ]
    best = study.best_guidance(pd.DataFrame(rows))
    assert best["names"] == 2.0 and best["dediffusion"] == best["shuffled"] == 1.0
    assert set(study.best_guidance(pd.DataFrame()).values()) == {2.0}


def test_missing_encoder_says_what_to_do(study):
    study.encoder = "trained"
    study.__dict__.pop("encoder_folder", None)
    with pytest.raises(BadParameter, match="run notebook 03_encoder first"):
        study.texts("dediffusion")


def test_further_noises_are_rows_of_the_file_and_not_of_the_table(cheap_study, monkeypatch):
    from dd import report

    monkeypatch.setattr(core, "TEST", ("names", "dediffusion", "empty"))
    monkeypatch.setattr(core, "FURTHER", {"novel": ("names",), "outside": ("names",)})
    study = cheap_study("noises", noise_seeds=3, n_novel=120, n_outside=120)
    table, file = study.reconstruction(), pd.read_csv(study.path("reconstruction.csv"))
    assert set(table["seed"]) == {0}
    for seed in (1, 2):
        rows = file["source"][file["seed"] == seed]
        assert list(rows) == ["names", "dediffusion"]  # of the test drawings, and no control
    worlds = file.drop_duplicates("split").set_index("split")["world"]
    assert worlds["outside"] == "outside" and set(worlds.drop("outside")) == {"emoji"}
    names = file[(file["source"] == "names") & (file["split"] == "test")]
    assert names["fid"].nunique() == 3  # other noise, other pictures
    assert (file["seed"] == 0).sum() == len(table) == len(report.read_table(study.folder))
    assert list(report.noises(study.folder)["draws"]) == ["3"] * 2
    monkeypatch.setattr(Decoder, "draw", None)
    assert study.reconstruction().equals(table)  # kept


def test_the_curve_is_of_test_drawings_and_chooses_nothing(cheap_study, monkeypatch):
    from dd import report
    from dd.sources import LABELS

    monkeypatch.setattr(core, "TEST", ("names", "dediffusion"))
    monkeypatch.setattr(core, "SWEPT", ("names", "dediffusion"))  # no captioner among its rivals
    study = cheap_study("curve", n_test=140, curve=120, guidances=[2.0, 3.0])
    table = study.reconstruction()
    curve = table[table["split"] == "curve"]
    drawn = [(s, g) for s in ("names", "dediffusion") for g in (2.0, 3.0)]
    assert list(zip(curve["source"], curve["guidance"])) == drawn and set(curve["n"]) == {120}
    at_test = dict(zip(study.subset("test").frame["id"], study.texts("dediffusion", "test")))
    some = [at_test[i] for i in study.subset("curve").frame["id"]]
    assert some == study.texts("dediffusion", "curve")
    chosen = table.loc[table["split"] == "test", "guidance"].dropna()
    assert set(chosen) == {study.guidance}  # as without a curve
    told = report.guidance_summary(study.folder)["text source"]
    assert list(told) == [LABELS["names"], LABELS["dediffusion"]]
    assert report.curve(study.folder).with_suffix(".png").exists()


def test_a_notebook_cannot_use_what_it_does_not_take():
    """A parameter that a run does not hand over would be read as its default, in silence."""
    study = Study.of_notebook("01_data", {"seed": 3})
    assert study.seed == 3 and set(study.parameters) == {*taken("01_data")}
    with pytest.raises(BadParameter, match="'n_test' and does not take it"):
        study.subset("test")
    with pytest.raises(BadParameter, match="n_novel"):
        Study.of_notebook("05_metrics", {}).through("judge-a").n_novel  # noqa: B018


def test_notebook_3_trains_by_its_parameters(
    study, tiny_folder, whole_dataset, clip_folder, tmp_path, monkeypatch
):
    """Batch, rule and backbone, as `train-encoder` takes them; the defaults change no key."""
    import dd.train
    from dd.study import experiments
    from dd.study.parameters import ROOT

    cells = json.loads((ROOT / "notebooks" / "03_encoder.ipynb").read_text())["cells"]
    (source,) = ("".join(c["source"]) for c in cells if "train_encoder(train, dec, run" in str(c))
    assert study.recipe == {}
    changed = dict(batch=32, rule="all", backbone=str(clip_folder))
    sizes = dict(n_train=256, tokens=3, encoder_seen=128, decoder=str(tiny_folder))
    mine = Study({"study": "mine", **sizes, **changed})
    mine.dataset = whole_dataset
    assert len(mine.probe) == 64  # notebook 2 shows rows of it
    asked, train, make = {}, mine.subset("train"), dd.train.train_encoder
    monkeypatch.setattr(dd.train, "train_encoder", lambda *a, **k: make(*a, **asked | k))
    asked |= dict(width=32, blocks=1, least=0)
    names = dict(dd=dd, study=mine, experiments=experiments, train=train, dec=mine.dec)
    names |= dict(probe=train.subset("all", 8), latents=mine.latents("train"))
    exec(source, names)
    recipe = json.loads((mine.path("encoder") / "recipe.json").read_text())
    assert (recipe["B"], recipe["rule"], recipe["backbone"]) == tuple(changed.values())
    assert names["run"] != mine.training("encoder_run/", "train_encoder", tokens=3, seen=128)
