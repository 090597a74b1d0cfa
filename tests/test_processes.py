"""Several processes do what one does: on two of them (gloo), started as a user would."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Killed, killed_after
from PIL import Image
from test_baselines import blip

from dd import writing
from dd.__main__ import main
from dd.decoder import Decoder
from dd.encoder import Encoder

ROOT = Path(__file__).parent.parent


LAUNCH = ROOT / "docs" / "launch"


def launched(n: int, *words, start=("-m", "dd"), machines=1):
    """A command on n processes, by torchrun; or as on so many machines, all of them this one, by
    accelerate and the documents' file. What the first machine's did."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", n]
    if machines > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            at = ["--main_process_ip", "127.0.0.1", "--main_process_port", free.getsockname()[1]]
        launch = ["accelerate.commands.launch", "--config_file", LAUNCH / "2x8_gpus.yaml", *at]
        launch += ["--num_processes", n, "--machine_rank"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    settings["OMP_NUM_THREADS"] = "1"

    def command(rank: int) -> list[str]:
        which = [rank] * (machines > 1)
        return [sys.executable, "-m", *map(str, (*launch, *which, *start, *words))]

    others = [subprocess.Popen(command(k), env=settings) for k in range(1, machines)]
    try:
        return subprocess.run(command(0), capture_output=True, text=True, timeout=900, env=settings)
    finally:
        for other in others:
            other.terminate(), other.wait()


def world(whole_dataset, folder: Path, M: int = 67) -> Path:
    """A folder of M pictures with their names: one process has more of them than the other."""
    frame = whole_dataset.frame.iloc[:M]
    for i, image in enumerate(whole_dataset.images[:M]):
        Image.fromarray(image).save(folder / f"{i}.png")
    table = {"file_name": [f"{i}.png" for i in range(M)], "text": frame["name"]}
    pd.DataFrame(table).to_csv(folder / "metadata.csv", index=False)
    return folder


def test_torchrun_leaves_every_option_to_the_command():
    """As the documents start it. Without `--` it stops at --n, the beginning of many of its own."""
    from torch.distributed.run import get_args_parser

    pages = (ROOT / "docs" / f"{page}.md" for page in ("paper_scale", "training"))
    told = "".join(page.read_text() for page in pages)
    started = re.findall("torchrun (.* dd [^`#\n]*)", told)
    assert len(started) == 3
    for words in started:
        words = words.replace("...", "--n 40").split()
        given = get_args_parser().parse_args(words)
        there = [given.training_script, *given.training_script_args]
        assert given.module and there == words[words.index("dd") :]


def test_slurm_gives_each_machine_its_number_and_the_command_as_it_is(tmp_path):
    """With programs in the place of Slurm's and accelerate's that say what they are given."""
    for name, does in {
        "scontrol": "echo a; echo b",
        "srun": 'for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": "printf '%s|' \"$@\"; echo",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "[a-b]"}
    given = ["score", "my texts.csv", "--guidance", "1.5", "2"]
    words = ["bash", str(LAUNCH / "slurm.sh"), *given]
    told = subprocess.run(words, capture_output=True, text=True, env=settings, check=True).stdout
    how = "launch|--config_file|docs/launch/2x8_gpus.yaml|--machine_rank|{}|--main_process_ip|a"
    ran = "|".join([how, "-m|dd", *given, "\n"])
    assert told == ran.format(0) + ran.format(1)


@pytest.mark.slow
@pytest.mark.parametrize("machines, learns", [(1, ()), (2, ("--train-backbone",))])
def test_two_processes_go_on_from_one_and_end_as_one_would(
    machines, learns, whole_dataset, tiny_folder, clip_folder, tmp_path, monkeypatch
):
    """The same losses at an equal batch, noise and all; told once, kept once."""
    world(whole_dataset, tmp_path)
    how = ("train-encoder", "--world", tmp_path, "--decoder", tiny_folder, "--seen", 192)
    how += ("--batch", 16, "--tokens", 4, "--width", 32, "--blocks", 1, "--least", 0)
    how += ("--peak", 5e-3, "--noise", 1, "--tau-start", 2, "--hard-from", 0.8)
    how += ("--backbone", clip_folder, *learns)
    how = [*map(str, how), "--precision", "float32", "--checkpoint-every", "2", "--out"]
    assert main([*how, str(tmp_path / "one")]) == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 4)
        main([*how, str(tmp_path / "two")])
    done = launched(2, *how, tmp_path / "two", "--accumulate", 2, machines=machines)
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


SEVERAL = """
import json, sys
import dd.__main__ as commands
from dd import actions, writing
writing.STEP, actions.DRAWN = 16, 2  # slices for each of the processes
sys.exit(max(map(commands.main, json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
def test_shards_are_the_whole(
    whole_dataset, tiny_decoder, tiny_folder, clip_folder, llm_folder, tmp_path, monkeypatch, capsys
):
    """write, draw, score, caption and ask: the files of two processes are those of one to the
    letter; what two have kept, one goes on from; nothing is told twice."""
    there, script = world(whole_dataset, tmp_path), tmp_path / "several.py"
    script.write_text(SEVERAL)
    Encoder.new(tiny_decoder, 4, D=32, blocks=1).save(tmp_path / "encoder")
    torch.manual_seed(1)
    net, processor = blip()
    torch.nn.init.normal_(net.get_input_embeddings().weight, std=1.0)
    net.save_pretrained(tmp_path / "blip"), processor.save_pretrained(tmp_path / "blip")
    named = [{"image_id": i, "caption": f"picture {i}"} for i in range(67)]
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(67)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": named}))
    pd.DataFrame({"id": range(67), "text": whole_dataset.frame["name"][:67]}).to_csv(
        tmp_path / "texts.csv", index=False
    )

    def each(out: Path) -> list[list[str]]:
        out.mkdir()
        pictures = ("--world", there, "--out")
        score = ("score", there / "mine.parquet", "--decoder", tiny_folder, "--steps", 1)
        score += ("--features", clip_folder, "--guidance", 1, 2, "--keep", out / "kept")
        words = [
            ("write", there, "--encoder", tmp_path / "encoder", "--out", out / "texts.parquet"),
            (
                "draw",
                "red",
                "--n",
                5,
                "--steps",
                1,
                "--decoder",
                tiny_folder,
                "--out",
                out / "a.png",
            ),
            (*score, *pictures, out / "scores.csv"),
            ("caption", tmp_path / "blip", "--tokens", 4, *pictures, out / "said.parquet"),
            ("ask", there / "texts.csv", "--captions", there / "captions.json", "--model"),
        ]
        words[-1] += (llm_folder, "--out", out / "answers.csv")
        return [[str(w) for w in one] for one in words]

    files = pd.DataFrame({"id": [f"{i}.png" for i in range(67)], "text": ["red circle"] * 67})
    files.to_parquet(there / "mine.parquet")
    both = [tmp_path / "one", tmp_path / "two"]
    commanded = [each(out) for out in both]
    for n, words in zip((1, 2), commanded):
        done = launched(n, json.dumps(words), start=(script,))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(".parquet\n") == 2 and done.stdout.count("CIDEr") == 1
    for name in ("texts.parquet", "a.png", "scores.csv", "said.parquet", "answers.csv"):
        one, two = ((out / name).read_bytes() for out in both)
        assert one == two, name
    assert len(list((both[1] / "kept").iterdir())) == 2 * 5
    monkeypatch.setattr(Decoder, "draw", None)
    monkeypatch.setattr(writing, "STEP", 16)
    assert main(commanded[1][2]) == 0
    assert (both[1] / "scores.csv").read_bytes() == (both[0] / "scores.csv").read_bytes()


@pytest.mark.slow
def test_an_error_in_one_process_ends_all(whole_dataset, tiny_decoder, tmp_path):
    """Its own line says which; so does a command that no launcher may start."""
    there, script = world(whole_dataset, tmp_path), tmp_path / "several.py"
    Encoder.new(tiny_decoder, 4, D=32, blocks=1).save(tmp_path / "encoder")
    fault = "def write(*_): raise ValueError('a fault')\n"
    fault += "import os; from dd.encoder import Encoder\nif os.environ['RANK'] == '1': "
    script.write_text(fault + "Encoder.write = write" + SEVERAL)
    out = ["--encoder", str(tmp_path / "encoder"), "--out", str(tmp_path / "texts.parquet")]
    words = [["write", str(there), *out]]
    done = launched(2, json.dumps(words), start=(script,))
    assert done.returncode == 1 and "dd write (process 1): a fault" in done.stderr
    assert not (tmp_path / "texts.parquet").exists()
    done = launched(2, "claims")
    assert "dd claims: works in one process; a launcher may start write, " in done.stderr
