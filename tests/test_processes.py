"""Several processes train as one does: on two of them (gloo), started as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import Killed, killed_after
from PIL import Image

from dd.__main__ import main

ROOT = Path(__file__).parent.parent


def launched(n: int, *words):
    """A command on n processes of this machine, by torchrun, as `accelerate launch` does it where
    there are GPUs (without any it starts a single process)."""
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", n, "-m", "dd")
    command = [sys.executable, "-m", *map(str, (*launch, *words))]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    settings["OMP_NUM_THREADS"] = "1"
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=settings)


@pytest.mark.slow
def test_two_processes_go_on_from_one_and_end_as_one_would(
    whole_dataset, tiny_folder, tmp_path, monkeypatch
):
    """The same losses at an equal batch, noise and all; told once, kept once."""
    frame = whole_dataset.frame.iloc[:67]  # one process has more of them than the other
    for i, image in enumerate(whole_dataset.images[:67]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    table = {"file_name": [f"{i}.png" for i in range(67)], "text": frame["name"]}
    pd.DataFrame(table).to_csv(tmp_path / "captions.csv", index=False)
    how = ("train-encoder", "--world", tmp_path, "--decoder", tiny_folder, "--seen", 192)
    how += ("--batch", 16, "--tokens", 4, "--width", 32, "--blocks", 1, "--least", 0)
    how += ("--peak", 5e-3, "--noise", 1, "--tau-start", 2, "--hard-from", 0.8)
    how = [*map(str, how), "--precision", "float32", "--checkpoint-every", "2", "--out"]
    assert main([*how, str(tmp_path / "one")]) == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 4)
        main([*how, str(tmp_path / "two")])
    done = launched(2, *how, tmp_path / "two", "--accumulate", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "two")]
    told = [line for line in done.stderr.splitlines() if line.startswith(("16 images", "round"))]
    assert told[0] == "16 images a step: 2 processes x 2 parts x 4 images"
    assert len(told) == 2 and "67 texts of training images" in told[1]
    logs = [(tmp_path / out / "encoder.jsonl").read_text().splitlines() for out in ("one", "two")]
    one, two = ([json.loads(line) for line in log] for log in logs)
    assert [line["seen"] for line in two] == [line["seen"] for line in one] == [*range(16, 193, 16)]
    losses = [[line["loss"] for line in log] for log in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and len(set(losses[0])) > 6
