"""The command line: help, and one-line refusals with exit code 2 and no traceback."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import quick_features

from dd import data, decoder, encoder, metrics
from dd.__main__ import main, parser
from dd.commands import EXIT_CODES, RECIPE
from dd.make_decoders import RECIPES
from dd.sources import DECODERS
from dd.vocab import RULES

ROOT = Path(__file__).parent.parent
COMMANDS = (
    *("write", "draw", "redraw", "explain", "score", "caption", "interrogate", "ask", "run"),
    *("sweep", "claims", "check", "train-decoder", "train-encoder", "bench"),
)


def python(*words):
    """A process of its own, where the process is what is tested."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    how = dict(cwd=ROOT, capture_output=True, text=True, timeout=110, env=settings)
    return subprocess.run([sys.executable, *words], **how)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


def test_help_lists_every_command():
    shown = parser().format_help()
    assert tuple(re.findall(r"^    ([a-z-]+)(?: |$)", shown, re.M)) == COMMANDS
    assert tuple(subparsers()) == COMMANDS
    readme = (ROOT / "README.md").read_text()
    assert not [c for c in COMMANDS if f"python -m dd {c} " not in readme.replace("`", " ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_every_command_an_example(command):
    for action in subparsers()[command]._actions:
        assert action.help, f"{command} {action.dest}"
    (example,) = re.findall("^example: (.*)", subparsers()[command].format_help(), re.M)
    python, m, dd, *words = shlex.split(example)
    assert (python, m, dd) == ("python", "-m", "dd")
    assert parser().parse_args(words).command == command


def test_exit_codes_are_in_every_help():
    for shown in (parser().format_help(), *(c.format_help() for c in subparsers().values())):
        assert " ".join(shown.split()).count(" ".join(EXIT_CODES.split())) == 1


def test_version_is_the_same_everywhere(capsys):
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"dd-study {cited['version']}\n"
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {cited['version']} " in changes


@pytest.mark.parametrize(
    "word, meant", [("redarw", "redraw"), ("train_encoder", "train-encoder"), ("qqqq", "--help")]
)
def test_a_misspelt_command_is_answered_with_the_nearest(word, meant, capsys):
    with pytest.raises(SystemExit) as refused:
        main([word, "x.png"])
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert meant in line and word in line and ("mean" in line) == (word != "qqqq")


def test_the_names_of_the_shipped_decoders_stand_once():
    of = {c: {a.dest: a for a in subparsers()[c]._actions} for c in COMMANDS}
    assert of["redraw"]["decoder"].default == [*DECODERS] == of["check"]["decoder"].choices
    parts = of["train-decoder"]["name"].choices
    assert parts == ["all", *RECIPES] and set(DECODERS) < set(RECIPES)
    table = (ROOT / "dd" / "commands.toml").read_text()
    assert not re.findall(r'\[[^]]*"(?:sketch|judge-.)"', table)


def test_help_of_run_lists_every_parameter():
    from dd.study import PARAMETERS

    shown = subparsers()["run"].format_help()
    assert set(PARAMETERS) <= set(re.findall(r"^  (\w+) ", shown, re.M))


@pytest.mark.parametrize(
    "words, message",
    [
        (("draw", "red", "--n", "0"), "0 is not a number from 1 to 2147483647"),
        (("draw", "red", "--guidance", "abc"), "invalid decimal value: 'abc'"),
        (("train-encoder", "--hard-from", "2"), "2.0 is not a number from 0 to 1"),
        (("train-decoder", "--seen", "63"), "63 is not a number from 64"),
        (("train-encoder", "--batch", "0"), "0 is not a number from 1"),
        (("train-encoder", "--width", "3"), "3 is not a number from 4"),
        (("train-encoder", "--data", "1.5"), "1.5 is not a number from 0 to 1"),
        (("train-encoder", "--peak", "nan"), "nan is not a number"),
        (("train-encoder", "--rule", "nouns"), "invalid choice: 'nouns'"),
        (("check", "--split", "train"), "invalid choice: 'train'"),
        (("draw", "red", "--seed", "9" * 30), "999 is not a number from 0 to 2147483647"),
        (("caption", "x", "--size", "100000"), "100000 is not a number from 8 to 2048"),
        (("ask", "x", "--batch", "100000"), "100000 is not a number from 1 to 256"),
        (("draw", "red", "--sampler", "dmp"), "did you mean 'dpm'?"),
        (("draw", "red", "--smpler=dpm"), "did you mean '--sampler'?"),
        (("claims", "--decodr", "x"), "unrecognized arguments: --decodr; --help"),  # none there
        (("draw", "red", "--n", "x\ny"), "--n: invalid integer value: 'x\\ny'"),
    ],
)
def test_options_out_of_bounds_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as refused:
        main(list(words))
    told = capsys.readouterr().err
    assert refused.value.code == 2 and message in told and told.count("\n") == 1


def test_options_reach_the_command():
    args = parser().parse_args(["train-encoder", "--tau-start", "2", "--seen", "256"])
    assert (args.tau_start, args.seen, args.hard_from, args.least) == (2.0, 256, 0.7, 5)
    assert {k: getattr(args, k) for k in RECIPE} == RECIPE | {"tau_start": 2.0}
    assert set(subparsers()["train-encoder"]._option_string_actions["--rule"].choices) == set(RULES)
    args = parser().parse_args(["score", "a.csv", "--guidance", "1", "2.5"])
    assert (args.guidance, args.split, args.steps) == ([1.0, 2.5], None, 8)
    assert parser().parse_args(["score", "a.csv"]).guidance == [3.0]
    args = parser().parse_args(["run", "full", "-p", "a=1", "-p", "b=2"])
    assert (args.study, args.parameter) == ("full", ["a=1", "b=2"])
    assert parser().parse_args(["run"]).parameter == []


@pytest.mark.parametrize(
    "words, message",
    [
        (("run", "quick", "-p", "tokens=abc"), "tokens is 'abc'"),
        (("run", "quick", "-p", "nonsense=1"), "unknown parameter 'nonsense'"),
        (("run", "quick", "-p", "tokens"), "NAME=VALUE"),
        (("run", "quick", "-p", "tokens=3", "-p", "tokens=4"), "one name is given twice; keep one"),
        (("run", "quick", "-p", f"study={'a' * 300}"), "at most 100 letters"),
        (("draw", "a\udcff"), "the text 'a\\udcff' has half a character"),
        (("redraw", "a.png", "--text", "a\udcff"), "has half a character"),
        (("caption", "blip", "--prompt", "a\udcff"), "the prompt 'a\\udcff' has half a character"),
        (("score", "a.csv", "--pictures", __file__), "test_cli.py is a file; give a folder"),
        (("run", "absent"), "no parameter file"),
        (("run", "quick", "-p", "guidance=1e-4"), "1.0e-4"),
        (("score", "missing.csv"), "no such file"),
        (("write", "missing.png"), "missing image missing.png"),
        (("draw", " "), "text is empty"),
        (("draw", "red", "--decoder", "some/where"), "revision"),
        (("claims", "absent"), "no such results"),
        (("claims", ""), "no such results"),
        (("run", "quick", "-p", "guidances=[1,"), "no YAML value"),
        (("redraw", "missing.png"), "missing image missing.png"),
        (
            ("redraw", "a.png", "b.png", "--text", "red"),
            "1 texts for 2 pictures; give one for each",
        ),
        (("redraw", *["a.png"] * 201), "201 rows in one figure; at most 200"),
        (("redraw", "a.png", "--out", "a.jpg"), "--out a.jpg: the figure is a PNG file"),
        (("explain", "twemoji/1f955x"), "an id is twemoji/1f955 or "),
        (("interrogate", "clip", "--world", "mine"), "--world mine: give --bank FILE"),
        (("caption", "blip", "--out", "a.csv"), "written as .parquet"),
    ],
)
def test_wrong_input_is_one_line(words, message, capsys, monkeypatch, whole_dataset):
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)  # read once
    assert main(list(words)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in lines if not line.startswith(("device:", "numbers:"))]
    assert len(lines) == 1 and message in lines[0], lines


@pytest.fixture
def told(capsys):
    def told(*words):
        code = main([str(w) for w in words])
        out = capsys.readouterr()
        assert code == 0, out.err
        return out

    return told


@pytest.fixture
def picture(whole_dataset, tmp_path):
    """A drawing with a transparent border, wider than high, on disk."""
    from PIL import Image

    sheet = Image.new("RGBA", (90, 70), (0, 0, 0, 0))
    sheet.paste(Image.fromarray(whole_dataset.images[0]), (13, 3))
    sheet.save(tmp_path / "a.png")
    return tmp_path / "a.png"


CHANGED = "transparent, laid on white; 90 x 70 pixels, cut to the square in its middle"


def test_write_then_draw(told, picture, tmp_path):
    from PIL import Image

    shown = told("write", picture)
    text = shown.out.strip()
    assert f"note: {picture}: {CHANGED}" in shown.err
    assert "written by the shipped encoder, words a picture: 16" in shown.err
    assert 1 <= len(text.split()) <= 16
    assert json.loads(told("write", picture, "--json").out) == [
        {"image": str(picture), "text": text}
    ]
    how = ("--n", 2, "--steps", 2, "--scale", 1, "--out", tmp_path / "b.png")
    shown = told("draw", text + " aple qqqqq", *how)
    assert Image.open(tmp_path / "b.png").size == (128, 64)
    words = "words, and reads such words all alike: "
    words += "aple (nearest known: maple, apple), qqqqq\n"
    assert words in shown.err
    how = ("--steps", 1, "--scale", 1, "--out", tmp_path / "c.png", "--json")
    made = json.loads(told("draw", "red xyzzy", *how).out)
    assert Image.open(tmp_path / "c.png").size == (64, 64)  # one picture, unless asked for more
    assert (made["text"], made["unknown"], made["steps"]) == ("red xyzzy", 0.5, 1)


def test_redraw_of_ones_own_picture(told, picture, tiny_folder, tmp_path):
    """The words, and one drawing of them by each decoder, in one figure; people's words in a row
    of their own."""
    from PIL import Image

    out, how = tmp_path / "b.png", ("--steps", 1, "--out", tmp_path / "b.png")
    shown = told("redraw", picture, *how, "--decoder", tiny_folder)
    text = told("write", picture).out.strip()
    assert shown.out.splitlines() == [f"{picture}\tDe-Diffusion\t{text}", str(out)]
    assert f"note: {picture}: {CHANGED}" in shown.err
    small = Image.open(out).size
    shown = told("redraw", picture, *how, "--decoder", tiny_folder, "--text", "red\n\tapple")
    assert shown.out.splitlines()[1] == f"{picture}\tpeople\tred apple"
    shown = told("redraw", picture, *how, "--text", "red apple", "--json")  # every shipped decoder
    made, large = json.loads(shown.out), Image.open(out).size
    assert [row["text"] for row in made["texts"]] == [text, "red apple"]
    assert large[0] > small[0] and large[1] > 1.5 * small[1]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["a.png", "b.png"]


def test_explain_a_drawing_by_its_id(told, whole_dataset, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    how = ("--decoder", tiny_folder, "--steps", 1, "--noises", 2, "--out", tmp_path / "e.png")
    shown = told("explain", "twemoji/1f955", *how, "--json")
    made = json.loads(shown.out)
    assert " ".join(row["word"] for row in made["words"]) == made["text"]
    assert set(made["words"][0]) == {"position", "word", "adds", "half"}
    assert "note: tiny does not know" in shown.err and made["unknown"] > 0  # it learnt few words
    assert (tmp_path / "e.png").stat().st_size > 10_000 and "training drawing" not in shown.err
    seen = whole_dataset.subset("train", 1).frame["id"].iloc[0]
    shown = told("explain", seen, *how)
    assert "is a training drawing" in shown.err
    assert len(shown.out.splitlines()) == 1 + len(made["words"]) + 1  # head, words, file


@pytest.fixture
def cheap_scores(monkeypatch, whole_dataset, tiny_decoder):
    """`score` and `check` with their own code, but 40 pictures, a tiny decoder and no network that
    computes image features."""
    few = lambda images, *a, **k: quick_features(images)[:, :300:10]
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    monkeypatch.setattr(decoder.Decoder, "load", lambda *a, **k: tiny_decoder)
    monkeypatch.setattr(tiny_decoder, "name", "sketch")
    monkeypatch.setattr(metrics, "image_features", few)
    monkeypatch.setattr(metrics, "WIDTH", 30)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)
    return whole_dataset.subset("novel", 40)


READ = data.load_dataset  # before a test replaces it
QUICK = ("--split", "novel", "--steps", 1, "--guidance", 1)


def test_score_of_ones_own_captions(told, cheap_scores, tmp_path):
    frame = cheap_scores.frame
    mine = pd.DataFrame({"id": [*frame["id"], "stranger"], "text": [*frame["name"], "x"]})
    mine.to_csv(tmp_path / "mine.csv", index=False)
    csv = tmp_path / "table.csv"
    shown = told("score", tmp_path / "mine.csv", *QUICK, "--on-bad", "skip", "--out", csv)
    table = pd.read_csv(csv)
    facts = table[["source", "split", "guidance", "n"]].values.tolist()
    assert facts == [["mine", "novel", 1.0, 40]] and table["fid"].iloc[0] > 0
    assert shown.err.count("left out: mine.csv, row 42: unknown id 'stranger'") == 1
    assert "precision" in shown.out
    made = json.loads(
        told("score", tmp_path / "mine.csv", *QUICK, "--on-bad", "skip", "--json").out
    )
    assert made["scores"][0]["fid"] == pytest.approx(table["fid"].iloc[0])
    assert 0 <= made["words"]["precision"] <= 1


def test_ask_for_machines(told, llm_folder, tmp_path):
    """The result that is printed, and the same in JSON, of captions and of questions."""
    (tmp_path / "t.csv").write_text("id,text\n1,red apple\n2,blue\n")
    notes = [{"image_id": i, "caption": "red"} for i in (1, 2)]
    (tmp_path / "c.json").write_text(json.dumps({"annotations": notes}))
    asked = ("ask", tmp_path / "t.csv", "--model", llm_folder, "--captions", tmp_path / "c.json")
    made = json.loads(told(*asked, "--json").out)
    assert told(*asked).out == f"CIDEr {made['cider']:.1f} of {made['n']} captions\n"
    assert made["n"] == 2


def test_claims_of_a_study(told):
    from dd.report import CLAIMS
    from dd.study import results_root

    folder = results_root() / "mine"
    folder.mkdir(parents=True)
    for file in (ROOT / "results" / "full").glob("*.csv"):
        shutil.copy(file, folder)
    lines, found = told("claims", "mine").out, json.loads(told("claims", "mine", "--json").out)
    assert [c["id"] for c in found] == [c["id"] for c in CLAIMS]
    assert all(f"{c['id']:4} {c['verdict']:15} {c['statement']}" in lines for c in found)


def test_score_of_the_outside_drawings(told, cheap_scores, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load_dataset", READ)
    frame = READ("outside").subset("test", 40).frame
    frame.rename(columns={"name": "text"})[["id", "text"]].to_csv(tmp_path / "names.csv")
    csv = tmp_path / "table.csv"
    told("score", tmp_path / "names.csv", "--world", "outside", *QUICK[2:], "--out", csv)
    (row,) = pd.read_csv(csv).to_dict("records")
    assert (row["world"], row["split"], row["n"]) == ("outside", "all", 40)
    assert row["kid_within"] > 0  # its sets are styles


def test_score_of_what_a_search_engine_finds(told, cheap_scores, whole_dataset, tmp_path):
    """The same table, one row whatever the guidance; people's names find better than one word."""
    frame, rows = cheap_scores.frame, {}
    for source, said in (("names", frame["name"]), ("word", ["zebra"] * len(frame))):
        pd.DataFrame({"id": frame["id"], "text": said}).to_csv(tmp_path / "t.csv", index=False)
        how = ("--split", "novel", "--guidance", 1, 2, "--decoder", "search")
        told("score", tmp_path / "t.csv", *how, "--out", tmp_path / "o.csv")
        (rows[source],) = pd.read_csv(tmp_path / "o.csv").to_dict("records")
    assert rows["names"]["decoder"] == "search" and rows["names"]["n"] == 40
    assert pd.isna(rows["names"]["guidance"]) and rows["names"]["fid"] < rows["word"]["fid"]


def test_check_draws_published_texts_again(told, cheap_scores, tmp_path, monkeypatch, capsys):
    """What `score` gave is published; the same machine finds the same, and a table that says
    otherwise is found out."""
    from dd import study
    from dd.texts import write_texts

    anew = lambda self, pixels: ["red star"] + ["blue star"] * (len(pixels) - 1)
    monkeypatch.setattr(encoder.Encoder, "write", anew)
    folder = study.results_root() / "mine"
    texts, results = folder / "texts" / "novel" / "dediffusion.parquet", "reconstruction.csv"
    made_with = {"steps": 1, "sampler": "dpm", "seed": 0, "encoder": "shipped"}
    (folder / "parameters").mkdir(parents=True)
    (folder / "parameters" / "05_reconstruction.json").write_text(json.dumps(made_with))
    write_texts(texts, cheap_scores, ["red star"] * 40)
    told("score", texts, *QUICK, "--out", folder / results)
    again = ("check", "mine", "--split", "novel", "--sources")
    loads, load = [], encoder.Encoder.load
    monkeypatch.setattr(encoder.Encoder, "load", lambda name: loads.append(name) or load(name))
    assert "OUTSIDE" not in told(*again, "dediffusion", "--out", tmp_path / "same.csv").out
    assert not loads  # what writes nothing anew needs no encoder
    same = pd.read_csv(tmp_path / "same.csv")
    told(*again, "dediffusion", "--precision", "float32", "--out", tmp_path / "plain.csv")
    assert set(pd.read_csv(tmp_path / "plain.csv")["numbers"]) == {"float32"}
    assert same["score"].tolist() == ["fid", "kid", "paired", "r_at_1"]
    assert same["here"].tolist() == pytest.approx(same["published"].tolist(), rel=1e-4)
    assert set(same["n"]) == {40}
    shown = told(*again, "dediffusion_anew").out
    assert "1 of 40 texts are the published ones to the letter" in shown
    assert "51.2% are kept" in shown
    made = told(*again, "dediffusion_anew", "--json")
    assert "51.2% are kept" in made.err and "fid" in made.err
    made = json.loads(made.out)
    assert made["written_anew"]["texts"] == 40 and made["written_anew"]["same"] == 1
    assert [row["score"] for row in made["scores"]] == ["fid", "kid", "paired", "r_at_1"]
    assert json.loads(told(*again, "dediffusion", "--json").out)["written_anew"] is None
    other = pd.read_csv(folder / results).assign(fid=1.0, fid_lo=0.9, fid_hi=1.1)
    other.to_csv(folder / results, index=False)
    shown = told(*again, "dediffusion").out
    assert shown.count("OUTSIDE") == 1 and "1 published" in shown and "[0.9, 1.1]: OUTSIDE" in shown
    has = "no row and texts of it on novel through sketch; it has dediffusion, dediffusion_anew"
    for words, message in (
        ((*again, "names"), has),
        (("check", "absent"), "absent/reconstruction.csv: no such results; python -m dd run makes"),
        (("check", "mnie"), "there are results of mine; did you mean 'mine'?"),
    ):
        assert main(list(words)) == 2 and message in capsys.readouterr().err
    kept, of_another = texts.read_bytes(), pd.DataFrame({"id": ["a.png"], "text": ["x"]})
    for damage, message in (
        (lambda: of_another.to_parquet(texts), "'a.png' is no novel drawing of the emoji world"),
        (lambda: texts.write_bytes(b"half"), "dediffusion.parquet: not a usable Parquet file"),
    ):
        damage()
        assert main([*again, "dediffusion"]) == 2 and message in capsys.readouterr().err
    texts.write_bytes(kept)
    (folder / "weights.json").write_text(json.dumps({"sketch": "other", "judge-a": "another"}))
    assert main([*again, "dediffusion"]) == 2
    assert "drawn by other weights of sketch" in capsys.readouterr().err
    (folder / "weights.json").write_text(json.dumps({"sketch": study.cache.model_hash("sketch")}))
    told(*again, "dediffusion")


def test_bench_prints_one_object_as_json(told, monkeypatch, tmp_path):
    """Nothing is timed here; rows and what was left out go to stderr."""
    from dd import bench

    latents = lambda self, pixels, **how: torch.zeros(len(pixels), 4, 8, 8)
    monkeypatch.setattr(decoder.Decoder, "encode", latents)
    monkeypatch.setattr(bench, "backbone_features", lambda pixels, **how: torch.zeros(1))
    monkeypatch.setattr(metrics, "image_features", lambda images, **how: None)
    monkeypatch.setattr(bench, "in_turn", lambda *args: {"ratio": 2.0})
    monkeypatch.setattr(bench, "gflops", lambda *args: 1.0)
    monkeypatch.setattr(bench, "share_of_peak", lambda *args: {"share": 0.5})

    def lost(name):
        raise FileNotFoundError(f"{name} is not here")

    monkeypatch.setattr(bench.llm.LanguageModel, "load", lost)
    shown = told("bench", "--json", "--out", tmp_path / "speed.json")
    made = json.loads(shown.out)
    assert made["drawing"] == {"ratio": 2.0} and made["denoiser share of peak"] == {"share": 0.5}
    assert made == json.loads((tmp_path / "speed.json").read_text())
    assert "answering: left out" in shown.err and "drawing " in shown.err
    shown = told("bench")
    assert re.search("^drawing +ratio 2.0$", shown.out, re.M) and "{" not in shown.out


def test_train_encoder_on_a_folder_of_ones_own(told, whole_dataset, tiny_folder, tmp_path):
    from PIL import Image

    files = [f"{i}.png" for i in range(128)]
    for name, image in zip(files, whole_dataset.images):
        Image.fromarray(image).save(tmp_path / name)
    captions = pd.DataFrame({"file_name": files, "text": ["red blue round"] * 128})
    captions.to_csv(tmp_path / "captions.csv", index=False)
    made = tmp_path / "made"
    how = ("--decoder", tiny_folder, "--tokens", 3, "--seen", 128, "--out", made)
    shape = ("--width", 32, "--blocks", 2, "--no-tie", "--rule", "word_final", "--repeats", 0.1)
    steps = ("--batch", 32, "--accumulate", 2, "--peak", 1e-3, "--optimizer", "muon", "--data", 0.5)
    more = ("--gradient-checkpointing", "--precision", "float32", "--checkpoint-every", 2)
    shown = told("train-encoder", "--world", tmp_path, *how, *shape, *steps, *more)
    assert "32 images a step: 1 processes x 2 parts x 16 images" in shown.err
    assert len(told("write", tmp_path / "0.png", "--encoder", made).out.split()) <= 3
    recipe, half = json.loads((made / "recipe.json").read_text()), READ(tmp_path, split="train")
    assert recipe["images"] == half.subset("all", 64).fingerprint()
    named = {k: v for k, v in recipe.items() if k in RECIPE and RECIPE[k] != v}
    changed = dict(tokens=3, width=32, blocks=2, tie=False, rule="word_final", repeats=0.1)
    assert named == changed | dict(B=32, peak=1e-3, optimizer="muon")


def test_a_folder_of_ones_own_is_never_taken_for_a_shipped_one():
    from dd.runtime import ASSETS, shipped

    assert shipped("sketch") == ASSETS / "sketch"
    assert shipped("./sketch") == shipped(Path("sketch")) == Path("sketch")


def test_a_real_process_exits_with_two():
    shown = python("-m", "dd", "run", "quick", "-p", "nonsense")
    assert shown.returncode == 2
    assert shown.stderr == "dd run: -p 'nonsense': NAME=VALUE needed\n"


FIRST = "from dd.__main__ import *; PICTURE = 'results/full/figures/data_near.png'; "
LAST = "; print(*sorted({m.split('.')[0] for m in sys.modules}))"


@pytest.mark.parametrize(
    "code, heavy",
    [
        ("parser().format_help()", "torch pandas numpy yaml PIL"),
        (
            "assert main(['write', PICTURE]) == 0",
            "transformers diffusers accelerate pandas sympy matplotlib",
        ),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, heavy):
    shown = python("-c", FIRST + code + LAST)
    assert shown.returncode == 0, shown.stderr
    loaded = set(shown.stdout.splitlines()[-1].split())
    assert "argparse" in loaded and not set(heavy.split()) & loaded
