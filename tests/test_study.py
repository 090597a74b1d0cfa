"""Parameters are refused before work starts; chunks resume; what a number stands on is on disk."""

import json

import numpy as np
import pytest
import torch
from conftest import quick_features

from dd import texts as sources
from dd.decoder import Decoder
from dd.encoder import Encoder
from dd.study import SCHEMA, TEST_SOURCES, BadParameter, Study, check, load_parameters


@pytest.mark.parametrize(
    "parameters, message",
    [
        (dict(nonsense=1), "unknown parameter 'nonsense'"),
        (dict(tokens="abc"), "int needed"),
        (dict(tokens=0), "1 to 75"),
        (dict(tokens=76), "1 to 75"),
        (dict(tokens=3.0), "int needed"),
        (dict(tokens=True), "int needed"),
        (dict(guidance="1e-4"), "in YAML write 1.0e-4"),
        (dict(guidance=-1.0), "0.0 to 30.0"),
        (dict(guidance=float("nan")), "0.0 to 30.0"),
        (dict(guidances=[]), "list of different numbers"),
        (dict(guidances=[1, "2"]), "list of different numbers"),
        (dict(guidances=3.0), "list needed"),
        (dict(rivals=["blip"]), "among"),
        (dict(rivals=["captioner", "captioner"]), "different names"),
        (dict(rivals="captioner"), "list needed"),
        (dict(sampler="euler"), "one of"),
        (dict(study="../up"), "names a folder"),
        (dict(seed=-1), "0 to"),
    ],
)
def test_bad_parameters_are_refused(parameters, message, tmp_path, monkeypatch):
    monkeypatch.setenv("DD_RESULTS", str(tmp_path))
    with pytest.raises(BadParameter) as caught:
        Study({"study": "x", **parameters})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())  # nothing was made yet


def test_good_parameters_pass():
    assert check(
        dict(study="mine-2", tokens=16, guidance=3, guidances=[1, 2.5], sampler="ddim")
    ) == dict(study="mine-2", tokens=16, guidance=3, guidances=[1, 2.5], sampler="ddim")


def test_yaml_exponent_without_point_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_text("study: x\nguidance: 1e-4\n")
    with pytest.raises(BadParameter, match="1.0e-4"):
        load_parameters(str(tmp_path / "p.yaml"))
    with pytest.raises(BadParameter, match="no parameter file"):
        load_parameters("absent")


def test_shipped_parameter_files_are_whole():
    for name in ("quick", "full"):
        given = load_parameters(name)
        assert set(given) == set(SCHEMA) and given["study"] == name


@pytest.fixture
def study(tiny_folder, tiny_decoder, whole_dataset, tmp_path):
    Encoder.new(tiny_decoder, 5, D=32, blocks=1).save(tmp_path / "encoder")
    study = Study(
        dict(
            study="tiny",
            seed=0,
            decoder=str(tiny_folder),
            encoder=str(tmp_path / "encoder"),
            tokens=5,
            n_test=10,
            n_val=10,
            n_novel=0,
            guidance=2.0,
            guidances=[1.0, 2.0],
            steps=2,
            sampler="dpm",
        )
    )
    study.__dict__["world"] = whole_dataset  # read once for all tests
    return study


def chunks(study):
    return sorted((study.folder / "cache" / "drawn").glob("*.safetensors"))


def test_drawing_resumes_chunk_by_chunk(study, monkeypatch):
    whole, first = study.drawn("dediffusion", "test", 2.0, chunk=4)
    assert whole.shape == (10, 352) and first.shape == (10, 64, 64, 3) and len(chunks(study)) == 3
    assert (
        study.drawn("dediffusion", "val", 2.0, chunk=4)[1].shape
        == study.drawn("names", "test", 2.0, chunk=4, noise=1)[1].shape
        == (4, 64, 64, 3)
    )  # elsewhere the first chunk is enough
    [c.unlink() for c in chunks(study) if "val-" in c.name or "names" in c.name]
    drawn = []
    original = Study._draw_chunk
    monkeypatch.setattr(
        Study, "_draw_chunk", lambda self, *a: drawn.append(a[3]) or original(self, *a)
    )
    assert (
        torch.equal(study.drawn("dediffusion", "test", 2.0, chunk=4)[0], whole) and not drawn
    )  # nothing is computed twice
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
    """What is judged is the string, read again by the decoder; only the soft ceiling and the autoencoder bypass it."""
    asked, draw = {}, study.dec.draw
    monkeypatch.setattr(
        study.dec,
        "draw",
        lambda texts, ids, **o: asked.update({source: (texts, ids, o)}) or draw(texts, ids, **o),
    )
    seen = {}
    for source in ("autoencoder", "soft", *sources.WRITERS, "dediffusion", "shuffled"):
        eye, first = study.drawn(source, "test", 2.0)
        assert eye.shape == (10, 352) and eye.isfinite().all() and len(first) == 10
        seen[source] = eye
    assert "autoencoder" not in asked and asked["soft"][2].pop("states") is not None
    for source, (texts, ids, options) in asked.items():
        if source != "soft":
            assert texts == study.texts(source) and options.pop("states") is None
    for texts, ids, options in asked.values():
        assert (ids, options) == (list(study.subset("test").frame["id"]), asked["names"][2])
    names = list(seen)
    assert not [
        (a, b) for i, a in enumerate(names) for b in names[i + 1 :] if torch.equal(seen[a], seen[b])
    ]


def test_random_words_are_as_long_as_the_written_text(study):
    assert {len(t.split()) for t in study.texts("random")} == {study.enc.pooler.config.N}


def narrow_eye(images, *a, **k):
    return quick_features(images)[:, :64]  # no real-against-real row: half the drawings are fewer


@pytest.fixture
def cheap_study(tiny_folder, whole_dataset, tmp_path, monkeypatch):
    """Studies of the whole path, 120 drawings a source: an untrained decoder and encoder, one step, a cheap eye of fewer numbers than drawings."""
    from dd import metrics

    Encoder.new(Decoder.load(tiny_folder), 5, D=32, blocks=1).save(tmp_path / "encoder")
    monkeypatch.setattr(metrics, "image_features", narrow_eye)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)

    def make(name, **more):
        study = Study(
            {
                **dict(
                    study=name,
                    seed=0,
                    decoder=str(tiny_folder),
                    encoder=str(tmp_path / "encoder"),
                    tokens=5,
                    n_test=120,
                    n_val=0,
                    n_novel=0,
                    guidance=1.0,
                    guidances=[1.0],
                    steps=1,
                    sampler="dpm",
                ),
                **more,
            }
        )
        study.__dict__["world"] = whole_dataset
        return study

    return make


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
    assert (
        len(drawn) == 9
        and list(table["source"]) == ["autoencoder", *TEST_SOURCES]
        and set(table["n"]) == {120}
    )
    assert list(table.columns) == [
        "world",
        "split",
        "source",
        "decoder",
        "guidance",
        "seed",
        "n",
        "fid",
        "fid_lo",
        "fid_hi",
        "kid",
        "kid_lo",
        "kid_hi",
        "paired",
        "paired_lo",
        "paired_hi",
        "r_at_1",
        "kid_within",
        "kid_within_lo",
        "kid_within_hi",
    ]
    for at in (2, 4, 3):
        with pytest.raises(KeyboardInterrupt):
            go("killed", die_at=at)
        assert not (whole.parent.parent / "killed" / "reconstruction.csv").exists()
    again = go("killed")[1]
    assert len(drawn) == 9 - (1 + 3 + 2) and again.read_bytes() == whole.read_bytes()


def test_lengths_are_trained_and_drawn_once(cheap_study, monkeypatch):
    """One row a length and one of people's name, all on the same validation drawings; a second call draws nothing."""
    from dd import study as module
    from dd.encoder import FEATURES, P

    monkeypatch.setattr(module, "LENGTHS", (4, 8))
    monkeypatch.setattr(
        Study,
        "patches",
        lambda self, split: torch.zeros(len(self.subset(split)), P, FEATURES, dtype=torch.float16),
    )
    monkeypatch.setattr(
        Study,
        "latents",
        lambda self, split: torch.zeros(
            len(self.subset(split)), self.dec.C, self.dec.h, self.dec.h
        ),
    )
    study = cheap_study("lengths", n_val=120, lengths_seen=128)
    best = {"names": 1.0, "dediffusion": 2.0}
    table = study.lengths(best)
    assert (
        list(table["source"]) == ["names", "dediffusion", "dediffusion"]
        and list(table["tokens"]) == [0, 4, 8]
        and set(table["n"]) == {120}
    )
    assert list(table["guidance"]) == [1, 2, 2] and list(table["seen"]) == [0, 128, 128]
    monkeypatch.setattr(Decoder, "draw", None)
    assert study.lengths(best).equals(table) and (study.folder / "lengths.csv").exists()
    assert {len(t.split()) for t in study.texts("dediffusion_4", "test")} == {
        4
    }  # what the language model is shown
    with pytest.raises(BadParameter, match="contexts has 'dediffusion_8' but lengths_seen is 0"):
        check({"contexts": ["names", "dediffusion_8"]})
    with pytest.raises(
        BadParameter, match="further_contexts has 'pez', which is not among contexts"
    ):
        check({"contexts": ["names", "empty"], "further_contexts": ["names", "pez"]})


def test_judges_draw_the_same_texts_and_their_rows_follow(cheap_study, tiny_folder, judge_folder):
    from dd.study import JUDGED_SOURCES

    study = cheap_study("judged", judges=[str(judge_folder)])
    with pytest.raises(BadParameter, match="run notebook 05_reconstruction first"):
        study.judged()
    own = study.reconstruction()
    table, texts = study.judged(), study.texts("dediffusion")
    assert list(table["decoder"].unique()) == [str(tiny_folder), str(judge_folder)]
    assert list(table["source"]) == [*own["source"], "autoencoder", *JUDGED_SOURCES]
    assert study.through(str(judge_folder)).texts("dediffusion") == texts
    once = (study.folder / "reconstruction.csv").read_bytes()
    assert (
        study.reconstruction().equals(own)
        and (study.folder / "reconstruction.csv").read_bytes() == once
    )  # notebook 5 again: the judges stay
    assert (
        len(study.judged()) == len(table)
        and (study.folder / "reconstruction.csv").read_bytes() == once
    )  # not appended twice


def two_notebooks(folder, last):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    (folder / "notebooks").mkdir(exist_ok=True)
    for name, cell in (("01_a", "open('ran', 'a').write(f'a{seed} ')"), ("02_b", last)):
        first = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
        nbformat.write(
            new_notebook(
                cells=[first, new_code_cell(cell)],
                metadata={
                    "kernelspec": {
                        "name": "python3",
                        "display_name": "Python 3",
                        "language": "python",
                    }
                },
            ),
            folder / "notebooks" / f"{name}.ipynb",
        )


def test_run_goes_on_after_a_failure_and_repeats_nothing(tmp_path, monkeypatch):
    from papermill.exceptions import PapermillExecutionError

    from dd import report, study

    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "NOTEBOOKS", ("01_a", "02_b"))
    monkeypatch.setattr(report, "build_report", lambda folder, names: folder / "report")
    (tmp_path / "p.yaml").write_text("study: two\nseed: 3\n")
    go = lambda **o: (
        study.run(str(tmp_path / "p.yaml"), o),
        (tmp_path / "ran").read_text().split(),
    )[1]
    two_notebooks(tmp_path, "1 / 0")
    with pytest.raises(PapermillExecutionError):
        go()
    two_notebooks(tmp_path, "open('ran', 'a').write('b ')")
    assert go() == ["a3", "b"]  # the first is not run again
    assert go() == ["a3", "b"]  # a second call computes nothing
    assert go(seed=4) == ["a3", "b", "a4", "b"]  # another parameter does


def test_a_folder_given_from_here_is_found_by_kernels_that_work_elsewhere(tmp_path, monkeypatch):
    import papermill

    from dd import report, study

    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "NOTEBOOKS", ("01_a",))
    monkeypatch.setattr(report, "build_report", lambda folder, names: folder / "report")
    given = {}
    monkeypatch.setattr(
        papermill, "execute_notebook", lambda *a, parameters, **k: given.update(parameters)
    )
    monkeypatch.setattr(papermill, "inspect_notebook", lambda path: study.SCHEMA)
    two_notebooks(tmp_path, "pass")
    (tmp_path / "here" / "lm").mkdir(parents=True)
    (tmp_path / "here" / "p.yaml").write_text(
        "study: one\nlanguage_models: [smollm2, ./lm]\njudges: [judge-a, ./lm]\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    study.run("p.yaml")
    assert given["language_models"] == ["smollm2", str(tmp_path / "here" / "lm")] and given[
        "judges"
    ] == ["judge-a", str(tmp_path / "here" / "lm")]


@pytest.mark.parametrize(
    "parameters, message",
    [
        (dict(n_test=100), "n_test is 100; 0 or at least 353"),
        (dict(probe_seen=5), "at least 128"),
        (dict(tokens=31), "reads at most 30"),
        (dict(judges=["judge-z"]), "neither shipped"),
        (dict(judges=["sketch"]), "must be another"),
        (dict(judges=[]), "one or more"),
        (dict(judges=["judge-a", "judge-a"]), "different names"),
        (dict(judges="judge-a"), "list needed"),
        (
            dict(language_models=["smollm2", "no/where"]),
            "language model 'no/where': neither shipped",
        ),
        (dict(shots=[4, 4]), "different numbers"),
    ],
)
def test_what_a_run_could_not_finish_is_refused_before_it_starts(parameters, message, tmp_path):
    from dd.study import run

    with pytest.raises(BadParameter, match=message):
        run("quick", parameters)
    assert not (tmp_path / "results").exists()


def test_texts_are_written_once_and_follow_the_encoder(study, tiny_decoder, tmp_path):
    texts = study.texts("dediffusion")
    assert len(texts) == 10 and all(len(t.split()) == 5 for t in texts)
    assert sorted(study.texts("shuffled")) == sorted(texts)
    assert (study.folder / "texts" / "test" / "dediffusion.parquet").exists()
    Encoder.new(tiny_decoder, 5, D=32, blocks=1, seed=3).save(tmp_path / "encoder")
    study.__dict__.pop("encoder_folder", None), study.__dict__.pop("enc", None)
    assert study.texts("dediffusion") != texts  # new weights, new words


def test_rivals_write_and_are_drawn_and_judged(
    cheap_study, whole_dataset, judge_folder, monkeypatch
):
    """One captioner, trained once through the study's own decoder; the judge gets the same strings; both tables hold the rivals."""
    from functools import partial

    from dd import baselines as module
    from dd import train

    monkeypatch.setattr(
        module, "hard_prompts_by_loss", partial(module.hard_prompts_by_loss, steps=2)
    )
    rivals = ["names_all", "retrieval", "captioner", "interrogator", "pez", "ph2p"]
    study = cheap_study("rivals", rivals=rivals, rivals_seen=256, judges=[str(judge_folder)])
    study._parts["train"] = whole_dataset.subset("train", 256)
    folder = study.rival("captioner")
    assert study.rival("interrogator") == study.rival("pez") != folder  # they share one similarity
    monkeypatch.setattr(train.nn.functional, "cross_entropy", None)  # a second training would fail
    texts = {s: study.texts(s) for s in rivals}
    assert study.rival("captioner") == folder
    assert (
        set(texts["retrieval"]) <= set(sources.names(study.subset("train")))
        and len(set(texts["retrieval"])) > 1
    )
    assert all(
        a.startswith(n) and len(a) > len(n)
        for a, n in zip(texts["names_all"], study.texts("names_keywords"))
    )
    assert all(len(t.split()) <= 6 for t in texts["captioner"])
    assert all(1 <= len(t.split()) <= 5 for t in texts["interrogator"]) and {
        len(t.split()) for s in ("pez", "ph2p") for t in texts[s]
    } == {5}
    assert {s: study.through(str(judge_folder)).texts(s) for s in rivals} == texts
    study.reconstruction()
    table = study.judged()
    for decoder, rows in table.groupby("decoder"):
        assert set(rivals) < set(rows["source"]) and len(rows) == len(set(rows["source"])), decoder
    import pandas as pd

    swept = pd.DataFrame(
        [
            dict(source=s, guidance=g, fid=f)
            for s in ("captioner", "dediffusion")
            for g, f in ((1.0, 2), (2.0, 1 if s == "captioner" else 3))
        ]
    )
    assert (
        study.best_guidance(swept)["captioner"] == 2.0
        and study.best_guidance(swept)["shuffled"] == 1.0
    )
    monkeypatch.setattr(
        Study,
        "row",
        lambda self, source, split, guidance, noise=0: {
            "source": source,
            "split": split,
            "guidance": guidance,
        },
    )
    study.parameters["n_val"] = 120
    assert set(rivals) < set(study.sweep()["source"])


def test_fid_of_infinitely_many_is_less_biased(study, monkeypatch):
    """Two samples of one Gaussian: FID is 0, measured too high at any n; the extrapolated value comes nearer. The slope is c / n's."""
    draw = lambda seed: torch.randn(800, 40, generator=torch.Generator().manual_seed(seed))
    monkeypatch.setattr(Study, "real", lambda self, split: draw(0))
    monkeypatch.setattr(
        Study,
        "drawn",
        lambda self, source, split, guidance: (draw(1) + (1.0 if source == "far" else 0.0), None),
    )
    table = study.at_many(["near", "far"], {"near": 1.0, "far": 1.0}).pivot(
        index="source", columns="n", values="fid"
    )
    assert list(table.columns) == [0, 200, 280, 400, 560, 800]
    assert (
        abs(table.loc["near", 0]) < 0.3 * table.loc["near", 800]
        and table.loc["near"].iloc[1:].is_monotonic_decreasing
    )
    assert table.loc["far", 0] == pytest.approx(40, abs=4)  # 40 dimensions, each one away
    monkeypatch.setattr(Study, "real", lambda self, split: draw(0)[:90])
    assert study.at_many(["near"], {"near": 1.0}).empty


def test_parameters_are_on_disk_before_the_work(study):
    study.note("05_reconstruction")
    assert (
        json.loads((study.folder / "parameters" / "05_reconstruction.json").read_text())
        == study.parameters
    )


def test_best_guidance_is_chosen_on_validation_per_source(study):
    import pandas as pd

    sweep = pd.DataFrame(
        [
            dict(source=s, guidance=g, fid=f)
            for s, fids in {
                "names": (3, 1),
                "dediffusion": (1, 2),
                "alt_text": (5, 4),
                "names_keywords": (1, 9),
            }.items()
            for g, f in zip((1.0, 2.0), fids)
        ]
    )
    best = study.best_guidance(sweep)
    assert (
        best["names"] == 2.0
        and best["dediffusion"] == 1.0
        and best["shuffled"] == best["dediffusion"]
    )
    assert set(study.best_guidance(pd.DataFrame()).values()) == {2.0}


def test_missing_encoder_says_what_to_do(study):
    study.parameters["encoder"] = "trained"
    study.__dict__.pop("encoder_folder", None)
    with pytest.raises(BadParameter, match="run notebook 03_encoder first"):
        study.texts("dediffusion")


def test_further_noises_are_rows_of_the_file_and_not_of_the_table(cheap_study, monkeypatch):
    import pandas as pd

    from dd import report
    from dd import study as module

    monkeypatch.setattr(module, "TEST_SOURCES", ("names", "dediffusion", "empty"))
    monkeypatch.setattr(module, "NOVEL_SOURCES", ("names",))
    study = cheap_study("noises", noise_seeds=3, n_novel=120)
    table, file = study.reconstruction(), pd.read_csv(study.path("reconstruction.csv"))
    assert set(table["seed"]) == {0} and list(file["source"][file["seed"] == 1]) == list(
        file["source"][file["seed"] == 2]
    ) == ["names", "dediffusion", "empty", "names"]
    for split in ("test", "novel"):
        assert (
            file[(file["source"] == "names") & (file["split"] == split)]["fid"].nunique() == 3
        )  # other noise, other pictures
    assert (file["seed"] == 0).sum() == len(table) == len(report.read_table(study.folder))
    assert list(report.noises(study.folder)["draws"]) == ["3"] * 4
    monkeypatch.setattr(Decoder, "draw", None)
    assert study.reconstruction().equals(table)  # kept


def test_the_curve_is_of_test_drawings_and_chooses_nothing(cheap_study, monkeypatch):
    from dd import report
    from dd import study as module

    monkeypatch.setattr(module, "TEST_SOURCES", ("names", "dediffusion"))
    monkeypatch.setattr(
        module, "CURVE", ("names", "captioner", "dediffusion")
    )  # no captioner among this study's rivals
    study = cheap_study("curve", n_test=140, curve=120, guidances=[2.0, 3.0])
    table = study.reconstruction()
    curve = table[table["split"] == "curve"]
    assert list(zip(curve["source"], curve["guidance"])) == [
        (s, g) for s in ("names", "dediffusion") for g in (2.0, 3.0)
    ] and set(curve["n"]) == {120}
    at_test = dict(zip(study.subset("test").frame["id"], study.texts("dediffusion", "test")))
    assert [at_test[i] for i in study.subset("curve").frame["id"]] == study.texts(
        "dediffusion", "curve"
    )
    assert set(table.loc[table["split"] == "test", "guidance"].dropna()) == {
        study.guidance
    }  # as without a curve
    assert list(report.guidance_summary(study.folder)["text source"]) == [
        report.NAMES["names"],
        report.NAMES["dediffusion"],
    ]
    assert report.curve(study.folder).with_suffix(".png").exists()


def test_second_eye_looks_at_the_kept_pictures_of_every_decoder(
    cheap_study, judge_folder, tiny_folder, monkeypatch
):
    from dd import metrics
    from dd import study as module

    looked = []

    def eye(images, net=2, **options):
        looked.append(net)
        return narrow_eye(images)[:, :40] ** 2 if net == 1 else narrow_eye(images)

    monkeypatch.setattr(module, "TEST_SOURCES", ("names", "dediffusion", "soft"))
    monkeypatch.setattr(module, "JUDGED_SOURCES", ("names", "dediffusion"))
    study = cheap_study("eyes", judges=[str(judge_folder)])
    monkeypatch.setattr(metrics, "image_features", eye)
    study.reconstruction(), study.judged()
    monkeypatch.setattr(Decoder, "draw", None)
    looked.clear()
    table = study.second_eye(("names", "dediffusion", "soft"))
    assert list(zip(table["decoder"], table["source"])) == [
        (str(tiny_folder), s) for s in ("names", "dediffusion", "soft")
    ] + [(str(judge_folder), s) for s in ("names", "dediffusion")]
    assert (
        set(table["n"]) == {120} and table["fid"].notna().all() and looked == [1] * 6
    )  # the originals once, and every row
    assert study.second_eye(("names", "dediffusion", "soft")).equals(table) and len(looked) == 6


def test_encoders_trained_through_each_decoder_are_drawn_by_all(
    cheap_study, judge_folder, tiny_folder, monkeypatch
):
    from dd import study as module
    from dd.encoder import FEATURES, P

    monkeypatch.setattr(module, "CROSSED", 120)
    monkeypatch.setattr(
        module,
        "backbone_features",
        lambda pixels: torch.zeros(len(pixels), P, FEATURES, dtype=torch.float16),
    )
    monkeypatch.setattr(
        Study,
        "patches",
        lambda self, split: torch.zeros(len(self.subset(split)), P, FEATURES, dtype=torch.float16),
    )
    monkeypatch.setattr(
        Study,
        "latents",
        lambda self, split: torch.zeros(
            len(self.subset(split)), self.dec.C, self.dec.h, self.dec.h
        ),
    )
    study, names = (
        cheap_study("crossed", judges=[str(judge_folder)], cross_seen=128),
        [str(tiny_folder), str(judge_folder)],
    )
    study._parts["train"] = study.dataset.subset("train", 256)
    table = study.crossed(dict.fromkeys(names, 2.0))
    assert [(r.trained_through, r.decoder) for r in table.itertuples()] == [
        (a, b) for a in names for b in names
    ]
    assert table["example"].nunique() == 2 and set(table["n"]) == {
        120
    }  # two encoders, two vocabularies
    monkeypatch.setattr(Decoder, "draw", None)
    assert study.crossed(dict.fromkeys(names, 2.0)).equals(table)


def test_hard_prompts_are_searched_once_with_their_seconds(cheap_study, monkeypatch):
    from functools import partial

    from dd import baselines
    from dd import study as module

    monkeypatch.setattr(module, "HARD", ((2, "pez"), (3, "ph2p")))
    for search in ("hard_prompts", "hard_prompts_by_loss"):
        monkeypatch.setattr(baselines, search, partial(getattr(baselines, search), steps=2))
    study = cheap_study("hard", hard_prompts=120, rivals_seen=256)
    study._parts["train"] = study.dataset.subset("train", 256)
    table = study.hard_prompt_lengths(2.0)
    assert (
        list(table["method"]) == ["dediffusion", "pez", "ph2p"]
        and [len(t.split()) for t in table["example"]] == [5, 2, 3]
        and (table["seconds_per_image"] > 0).all()
    )
    monkeypatch.setattr(Decoder, "draw", None)
    assert study.hard_prompt_lengths(2.0).equals(table)
