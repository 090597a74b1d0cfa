"""Side experiments: each row is computed once, and says what it claims to."""

from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import narrow_features

from dd.decoder import Decoder
from dd.sources import LABELS
from dd.study import Study, core, experiments


def test_samplers_are_compared_once(cheap_study, monkeypatch):
    monkeypatch.setattr(experiments, "SAMPLERS", (("ddim", 2), ("dpm", 1)))
    study = cheap_study("samplers", sampler_check=120)
    table = experiments.samplers(study)
    assert list(table["sampler"]) == ["ddim", "dpm"] and table["fid"].nunique() == 2
    assert (table["pictures_per_second"] > 0).all() and set(table["n"]) == {120}
    monkeypatch.setattr(Decoder, "draw", None)
    assert experiments.samplers(study).equals(table)


def test_lengths_are_trained_and_drawn_once(cheap_study, no_features, monkeypatch):
    """One row a length and one of people's name, all on the same validation drawings; a second call
    draws nothing."""
    monkeypatch.setattr(experiments, "LENGTHS", (4, 8))
    study = cheap_study("lengths", n_val=120, lengths_seen=128)
    best = {"names": 1.0, "dediffusion": 2.0}
    table = experiments.lengths(study, best)
    assert list(table["source"]) == ["names", "dediffusion", "dediffusion"]
    assert list(table["tokens"]) == [0, 4, 8] and set(table["n"]) == {120}
    assert list(table["guidance"]) == [1, 2, 2] and list(table["seen"]) == [0, 128, 128]
    monkeypatch.setattr(Decoder, "draw", None)
    assert experiments.lengths(study, best).equals(table) and study.path("lengths.csv").exists()
    shown = study.texts("dediffusion_4", "test")  # to the language model
    assert {len(t.split()) for t in shown} == {4}


def test_training_recipes_are_compared_once(cheap_study, no_features, monkeypatch):
    """A row a recipe and seed; what differs is what the recipe replaces. A second call trains
    nothing."""
    monkeypatch.setattr(experiments, "RELAXATIONS", {"here": {}, "3 words": dict(tokens=3)})
    study = cheap_study("relaxations", probe_seen=128, n_train=256, training_seeds=2)
    table, logs = experiments.relaxations(study)
    assert list(logs) == ["here", "3 words"] and set(table["seen"]) == {128}
    assert table[["name", "seed"]].values.tolist() == [[n, i] for n in logs for i in (0, 1)]
    assert table["probe_loss"].nunique() == 4  # no training is another one's
    assert [len(log["text"].iloc[-1].split()) for log in logs.values()] == [5, 3]
    assert list(table["probe_loss"])[::2] == [log["probe"].iloc[-1] for log in logs.values()]
    monkeypatch.setattr("dd.train.descend", None)
    again, _ = experiments.relaxations(study)
    assert again.equals(table) and study.path("relaxations.csv").exists()


def test_decoder_logs_put_one_training_behind_the_other(cheap_study, tmp_path):
    (tmp_path / "denoiser.jsonl").write_text('{"seen": 1, "loss": 0.9}\n{"seen": 2, "loss": 0.8}\n')
    (tmp_path / "more.jsonl").write_text('{"seen": 1, "loss": 0.7}\n')
    study = cheap_study("logs", decoder=str(tmp_path))
    logs = experiments.decoder_logs(study, tmp_path / "nothing")
    assert {name: list(log["seen"]) for name, log in logs.items()} == {
        "shipped": [1, 2],
        "shipped, second training": [3],
    }
    written = study.path("decoder_training.csv").read_text().splitlines()
    assert written[0] == "run,seen,loss" and len(written) == 4


def test_panels_of_trainings_are_titled_by_labels(tmp_path):
    """Two sources share the similarity; folders end in a key of 12 letters and digits."""
    folders = {s: tmp_path / f"{s}-0123456789ab" for s in ("captioner_detailed", "similarity")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "log.jsonl").write_text('{"seen": 1, "loss": 0.9, "probe": 0.5}\n')
    saved = lambda s: folders.get(s, folders["similarity"]) / "saved"
    study = SimpleNamespace(rival=saved, probe=range(256))
    panels = experiments.baseline_panels(study, ("captioner_detailed", "pez", "interrogator"))
    assert [p["title"] for p in panels] == [LABELS["captioner_detailed"], "image-text similarity"]
    assert all("256" in p["ylabel"] and {*p["series"]} <= {*p["colours"]} for p in panels)


def test_a_notebook_keeps_the_judges_rows_of_differences(cheap_study, monkeypatch):
    """Notebook 5b compares by its own decoder alone: the rows of judges that are in
    reconstruction.csv stay in the file, those of others go."""
    study, scores = cheap_study("gaps"), dict(than="names", score="fid", difference=1.0)
    rows = [(d, s) for d in (study.decoder, "judge") for s in ("dediffusion", "names")]
    table = pd.DataFrame(rows, columns=["decoder", "source"])
    table = table.assign(split="test", seed=0, guidance=1.0)
    table.to_csv(study.path("reconstruction.csv"), index=False)
    old = dict(n=120, lo=0.0, hi=2.0, **scores)
    kept = pd.DataFrame([dict(decoder=d, **old) for d in (study.decoder, "judge", "gone")])
    kept.to_csv(study.path("differences.csv"), index=False)
    monkeypatch.setattr(Study, "drawn", lambda self, *a, **k: (self.real("test"), None))
    for _ in range(2):
        shown = experiments.differences(study, {study.decoder: study})
        found = pd.read_csv(study.path("differences.csv"))
        assert list(found["decoder"].unique()) == [study.decoder, "judge"]
        assert found.iloc[-1]["difference"] == 1.0 and (found.iloc[:-1]["difference"] == 0).all()
        assert shown.equals(found.iloc[:-1])  # the notebook looks at its own


def test_fid_of_infinitely_many_is_less_biased(study, monkeypatch):
    """Two samples of one Gaussian: FID is 0, measured too high at any n; the extrapolated value
    comes nearer. The slope is c / n's."""
    draw = lambda seed: torch.randn(800, 40, generator=torch.Generator().manual_seed(seed))
    drawn = lambda self, source, split, guidance: (draw(1) + float(source == "far"), None)
    monkeypatch.setattr(Study, "real", lambda self, split: draw(0))
    monkeypatch.setattr(Study, "drawn", drawn)
    table = experiments.at_many(study, ["near", "far"], {"near": 1.0, "far": 1.0})
    table = table.pivot(index="source", columns="n", values="fid")
    assert list(table.columns) == [0, 200, 280, 400, 560, 800]
    assert abs(table.loc["near", 0]) < 0.3 * table.loc["near", 800]
    assert table.loc["near"].iloc[1:].is_monotonic_decreasing
    assert table.loc["far", 0] == pytest.approx(40, abs=4)  # 40 dimensions, each one away
    monkeypatch.setattr(Study, "real", lambda self, split: draw(0)[:90])
    assert experiments.at_many(study, ["near"], {"near": 1.0}).empty


def test_the_second_network_reads_the_kept_pictures_of_every_decoder(
    cheap_study, judge_folder, tiny_folder, monkeypatch
):
    from dd import metrics

    read = []

    def features(images, net=2, **options):
        read.append(net)
        return narrow_features(images)[:, :40] ** 2 if net == 1 else narrow_features(images)

    sources = ("names", "dediffusion", "soft")
    monkeypatch.setattr(core, "TEST", sources)
    monkeypatch.setattr(core, "JUDGED", sources[:2])
    study = cheap_study("eyes", judges=[str(judge_folder)])
    monkeypatch.setattr(metrics, "image_features", features)
    study.reconstruction(), study.judged()
    monkeypatch.setattr(Decoder, "draw", None)
    read.clear()
    table = experiments.second_eye(study, sources)
    rows = [(str(tiny_folder), s) for s in sources] + [(str(judge_folder), s) for s in sources[:2]]
    assert list(zip(table["decoder"], table["source"])) == rows
    assert set(table["n"]) == {120} and table["fid"].notna().all()
    assert read == [1] * 6  # the originals once, and every row
    assert experiments.second_eye(study, sources).equals(table) and len(read) == 6


def test_encoders_trained_through_each_decoder_are_drawn_by_all(
    cheap_study, judge_folder, tiny_folder, no_features, monkeypatch
):
    monkeypatch.setattr(experiments, "CROSSED", 120)
    names = [str(tiny_folder), str(judge_folder)]
    study = cheap_study("crossed", judges=names[1:], cross_seen=128)
    study.subsets["train"] = study.dataset.subset("train", 256)
    table = experiments.crossed(study, dict.fromkeys(names, 2.0))
    pairs = [(r.trained_through, r.decoder) for r in table.itertuples()]
    assert pairs == [(a, b) for a in names for b in names]
    assert table["example"].nunique() == 2  # two encoders, two vocabularies
    assert set(table["n"]) == {120}
    monkeypatch.setattr(Decoder, "draw", None)
    assert experiments.crossed(study, dict.fromkeys(names, 2.0)).equals(table)


def test_hard_prompts_are_searched_once_with_their_seconds(cheap_study, monkeypatch):
    from dd import baselines

    monkeypatch.setattr(experiments, "HARD", ((2, "pez"), (3, "ph2p")))
    for search in ("hard_prompts", "hard_prompts_by_loss"):
        monkeypatch.setattr(baselines, search, partial(getattr(baselines, search), steps=2))
    study = cheap_study("hard", hard_prompts=120, rivals_seen=256)
    study.subsets["train"] = study.dataset.subset("train", 256)
    table = experiments.hard_prompt_lengths(study, 2.0)
    assert list(table["method"]) == ["dediffusion", "pez", "ph2p"]
    assert [len(t.split()) for t in table["example"]] == [5, 2, 3]
    assert (table["seconds_per_image"] > 0).all()
    monkeypatch.setattr(Decoder, "draw", None)
    assert experiments.hard_prompt_lengths(study, 2.0).equals(table)


def test_recognised_counts_the_styles_that_show(cheap_study, monkeypatch):
    study = cheap_study("styles")
    real = study.real("test")
    drawn = lambda self, source, split, guidance: (real if source == "names" else 0 * real, None)
    monkeypatch.setattr(Study, "drawn", drawn)
    table = experiments.recognised(study, ("names", "empty"), {"names": 1.0, "empty": 1.0}, 512)
    table = table.set_index("source")
    assert table.loc["names", "recognised"] == table.loc["originals", "recognised"] > 0.3
    assert table.loc["empty", "share"] == 1 and set(table["n"]) == {120}  # one answer for all
    assert (table["lo"] <= table["recognised"]).all()
    assert study.path("style_recognised.csv").exists()


def test_texts_are_cut_in_two_and_drawn_once_by_every_decoder(
    cheap_study, judge_folder, tiny_folder, monkeypatch
):
    study = cheap_study("cut", judges=[str(judge_folder)])
    guidance = dict.fromkeys(study.by_each, 2.0)
    table = experiments.cut_words(study, guidance)
    kinds = ["whole text", "words that fit", "the other words", "as many, any words"]
    assert list(table["kept"]) == kinds * 2
    assert list(table["decoder"]) == [str(tiny_folder)] * 4 + [str(judge_folder)] * 4
    words = table.set_index(["decoder", "kept"])["words"][str(tiny_folder)]
    assert words["words that fit"] + words["the other words"] == pytest.approx(5, abs=1e-4)
    assert words["as many, any words"] == words["words that fit"]
    monkeypatch.setattr(Decoder, "draw", None)
    assert experiments.cut_words(study, guidance).equals(table)


def test_what_texts_spend_and_what_of_them_arrives(cheap_study, judge_folder, tiny_folder):
    study = cheap_study("spent", judges=[str(judge_folder)])
    scores = pd.DataFrame(1.0, index=list(study.sources), columns=["fid", "fid_lo", "fid_hi"])
    rated = experiments.rate_quality(study, scores).set_index("source")
    assert list(rated.index) == [s for s in study.sources if s not in ("soft", "shuffled")]
    assert rated.loc["random", "words"] == rated.loc["dediffusion", "words"] == 5
    assert rated["bits"].idxmin() == "empty" and study.path("rate_quality.csv").exists()
    rates = experiments.readings(study, ("names", "empty"))
    assert list(rates["source"]) == ["names", "names"]
    assert list(rates["decoder"]) == list(experiments.networks(study)) == list(study.by_each)
    assert list(study.by_each) == [str(tiny_folder), str(judge_folder)]
    assert study.by_each[study.decoder] is study
