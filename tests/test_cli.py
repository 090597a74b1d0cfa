"""The command line: help, and one-line refusals with exit code 2 and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import quick_features

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "write",
    "draw",
    "score",
    "caption",
    "interrogate",
    "ask",
    "run",
    "claims",
    "check",
    "train-decoder",
    "train-encoder",
    "bench",
)


def dd(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "dd", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )


def test_help_lists_every_command():
    shown = dd("--help")
    assert shown.returncode == 0 and all(c in shown.stdout for c in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command):
    import argparse

    from dd.__main__ import parser

    sub = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices[
        command
    ]
    for action in sub._actions:
        assert action.help or action.dest == "text", f"{command} {action.dest}"


@pytest.mark.parametrize(
    "words, message",
    [
        (("run", "quick", "-p", "tokens=abc"), "tokens is 'abc'"),
        (("run", "quick", "-p", "nonsense=1"), "unknown parameter 'nonsense'"),
        (("run", "quick", "-p", "tokens"), "NAME=VALUE"),
        (("run", "absent"), "no parameter file"),
        (("run", "quick", "-p", "guidance=1e-4"), "1.0e-4"),
        (("score", "missing.csv"), "no such file"),
        (("write", "missing.png"), "no such image"),
        (("draw", " "), "text is empty"),
        (("draw", "red", "--decoder", "some/where"), "revision"),
        (("claims", "absent"), "no such results"),
        (("run", "quick", "-p", "guidances=[1,"), "no YAML value"),
    ],
)
def test_wrong_input_is_one_line(words, message, capsys, monkeypatch, whole_dataset):
    from dd import data
    from dd.__main__ import main

    monkeypatch.setattr(
        data, "load_dataset", lambda *a, **k: whole_dataset
    )  # read once for all tests
    assert main(list(words)) == 2
    lines = [
        l
        for l in capsys.readouterr().err.strip().splitlines()
        if not l.startswith(("device:", "numbers:"))
    ]
    assert len(lines) == 1 and message in lines[0], lines


@pytest.fixture
def told(capsys):
    def told(*words):
        from dd.__main__ import main

        code = main([str(w) for w in words])
        out = capsys.readouterr()
        assert code == 0, out.err
        return out

    return told


def test_write_then_draw(told, whole_dataset, tmp_path):
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.fromarray(whole_dataset.images[0]).resize((90, 70)).save(picture)
    text = told("write", picture).out.strip()
    assert 1 <= len(text.split()) <= 16 and text == told("write", picture).out.strip()
    shown = told(
        "draw", text + " xyzzy", "--n", 2, "--steps", 2, "--scale", 1, "--out", tmp_path / "b.png"
    )
    assert Image.open(tmp_path / "b.png").size == (128, 64) and "unknown to sketch" in shown.err


def test_score_of_ones_own_captions(told, whole_dataset, tmp_path, monkeypatch):
    import pandas as pd

    from dd import data, metrics

    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)
    monkeypatch.setattr(metrics, "image_features", quick_features)
    frame = whole_dataset.subset("novel", 360).frame
    mine = pd.DataFrame({"id": [*frame["id"], "stranger"], "text": [*frame["name"], "x"]})
    mine.to_csv(tmp_path / "mine.csv", index=False)
    shown = told(
        "score",
        tmp_path / "mine.csv",
        "--split",
        "novel",
        "--steps",
        1,
        "--guidance",
        1,
        "--on-bad",
        "skip",
        "--out",
        tmp_path / "table.csv",
    )
    table = pd.read_csv(tmp_path / "table.csv")
    assert (
        table[["source", "split", "guidance", "n"]].values.tolist() == [["mine", "novel", 1.0, 360]]
        and table["fid"].iloc[0] > 0
    )
    assert (
        "left out: mine.csv, row 362: unknown id 'stranger'" in shown.err
        and "precision" in shown.out
    )


def test_check_draws_published_texts_again(told, whole_dataset, tmp_path, monkeypatch, capsys):
    """What `score` gave is published; the same machine finds the same, and a table that says otherwise is found out."""
    import json

    import pandas as pd

    from dd import data, encoder, metrics, study
    from dd.__main__ import main
    from dd.texts import write_texts

    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)
    monkeypatch.setattr(metrics, "image_features", quick_features)
    monkeypatch.setattr(
        encoder.Encoder,
        "write",
        lambda self, pixels: ["red star"] + ["blue star"] * (len(pixels) - 1),
    )
    folder, part = study.results_root() / "mine", whole_dataset.subset("novel", 360)
    (folder / "parameters").mkdir(parents=True)
    (folder / "parameters" / "05_reconstruction.json").write_text(
        json.dumps({"steps": 1, "sampler": "dpm", "seed": 0, "encoder": "shipped"})
    )
    write_texts(folder / "texts" / "novel" / "dediffusion.parquet", part, ["red star"] * 360)
    told(
        "score",
        folder / "texts" / "novel" / "dediffusion.parquet",
        "--split",
        "novel",
        "--steps",
        1,
        "--guidance",
        1,
        "--out",
        folder / "reconstruction.csv",
    )
    again = ("check", "mine", "--split", "novel", "--sources")
    assert "OUTSIDE" not in told(*again, "dediffusion", "--out", tmp_path / "same.csv").out
    same = pd.read_csv(tmp_path / "same.csv")
    assert (
        same["score"].tolist() == ["fid", "kid", "paired", "r_at_1"]
        and same["here"].tolist() == pytest.approx(same["published"].tolist(), rel=1e-4)
        and set(same["n"]) == {360}
    )
    shown = told(*again, "dediffusion_anew").out
    assert (
        "1 of 360 texts are the published ones to the letter" in shown and "50.1% are kept" in shown
    )
    pd.read_csv(folder / "reconstruction.csv").assign(fid=1.0, fid_lo=0.9, fid_hi=1.1).to_csv(
        folder / "reconstruction.csv", index=False
    )
    shown = told(*again, "dediffusion").out
    assert shown.count("OUTSIDE") == 1 and "1 published" in shown and "[0.9, 1.1]: OUTSIDE" in shown
    for words, message in (
        (
            (*again, "names"),
            "no row and texts of it on novel through sketch; it has dediffusion, dediffusion_anew",
        ),
        (("check", "absent"), "python -m dd run absent makes it"),
    ):
        assert main(list(words)) == 2 and message in capsys.readouterr().err


def test_train_encoder_on_a_folder_of_ones_own(told, whole_dataset, tiny_folder, tmp_path):
    import pandas as pd
    from PIL import Image

    for i in range(128):
        Image.fromarray(whole_dataset.images[i]).save(tmp_path / f"{i}.png")
    pd.DataFrame(
        {"file_name": [f"{i}.png" for i in range(128)], "text": ["red thing"] * 128}
    ).to_csv(tmp_path / "captions.csv", index=False)
    told(
        "train-encoder",
        "--world",
        tmp_path,
        "--decoder",
        tiny_folder,
        "--tokens",
        3,
        "--seen",
        128,
        "--out",
        tmp_path / "made",
    )
    assert len(told("write", tmp_path / "0.png", "--encoder", tmp_path / "made").out.split()) <= 3


def test_a_folder_of_ones_own_is_never_taken_for_a_shipped_one(tmp_path, monkeypatch):
    from dd.runtime import ASSETS, shipped

    assert (
        shipped("sketch") == ASSETS / "sketch"
        and shipped("./sketch") == Path("sketch")
        and shipped(Path("sketch")) == Path("sketch")
    )


def test_a_real_process_exits_with_two():
    shown = dd("run", "quick", "-p", "nonsense=1")
    assert (
        shown.returncode == 2
        and "Traceback" not in shown.stderr
        and "nonsense" in shown.stderr.splitlines()[-1]
    )
    shown = dd("draw", "red", "--guidance", "abc")
    assert shown.returncode == 2 and "Traceback" not in shown.stderr
