"""Faults of a machine and hostile input: writes that fail, kills, two processes at once, memory
that is short. Old results stay whole, nothing half-written is left, and the user reads one line."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch
from conftest import assert_same, own_folder
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file
from test_bad_models import DRAW

from dd import data, decoder, files, reading, train
from dd.encoder import Encoder

ROOT = Path(__file__).parent.parent


@contextmanager
def full_after(size: int):
    """The system refuses to write more than `size` bytes to a file, to whatever library asks."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def contents(folder: Path) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 40])
def test_a_write_that_fails_leaves_the_old_picture(size, refused, told, tiny_folder, tmp_path):
    draw = (*DRAW, "--decoder", tiny_folder, "--out", tmp_path / "x.png")
    for before in ({}, None):
        if before is None:
            assert told(*draw)[0] == 0
            before = contents(tmp_path)
        with full_after(size):
            assert "x.png: not written (File too large)" in refused(*draw)
        assert contents(tmp_path) == before


def test_a_write_that_fails_leaves_old_results_and_kept_files(tiny_decoder, tmp_path):
    from dd.runtime import save_state
    from dd.study import cache
    from dd.texts import write_texts

    texts = [f"a red apple {k}" for k in range(400)]
    table = pd.DataFrame({"id": texts, "text": texts})
    dataset = data.Dataset("x", table, np.zeros((400, 2, 2, 3), np.uint8))
    made = iter(range(99))
    writes = {
        "state": lambda: save_state(tmp_path / "a.safetensors", {"w": torch.ones(999)}, {}),
        "tensors": lambda: cache.kept(tmp_path / "t", lambda: {"w": torch.ones(999)}),
        "json": lambda: cache.kept(tmp_path / "j", lambda: [*range(999)]),
        "csv": lambda: files.write_csv(tmp_path / "t.csv", table.assign(k=next(made))),
        "parquet": lambda: write_texts(tmp_path / "t.parquet", dataset, texts),
        "encoder": lambda: Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "enc"),
    }
    for full in (True, False, True):
        before = contents(tmp_path)
        for name, write in writes.items():
            if full and (not before or name not in ("tensors", "json")):  # these are read back
                with full_after(100), pytest.raises(OSError, match="not written .*[Ff]ile too la"):
                    write()
            else:
                write()
        assert not full or contents(tmp_path) == before
    assert not [p for p in tmp_path.rglob("*.tmp*") if p.exists()]


def test_a_notebook_that_cannot_be_written_leaves_the_old_one(refused, told, one_notebook):
    from dd.study import results_root

    one_notebook("print('one')")
    assert told("run", "quick")[0] == 0
    notebooks = results_root() / "quick" / "notebooks"
    before = contents(notebooks)
    one_notebook("print('two')")
    with full_after(300):
        code, lines = told("run", "quick")
    assert code == 2 and "01_a.ipynb: not written (File too large)" in lines[-1]
    assert contents(notebooks) == before
    assert told("run", "quick")[0] == 0 and "two" in (notebooks / "01_a.ipynb").read_text()


def test_a_full_standard_output_is_one_line():
    words = [sys.executable, "-m", "dd", "claims", "full"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "DD_RESULTS": str(ROOT / "results")}
    with open("/dev/full", "w") as out:
        how = dict(stdout=out, stderr=subprocess.PIPE, timeout=110, cwd=ROOT, env=settings)
        shown = subprocess.run(words, **how)
    assert shown.returncode == 2
    assert shown.stderr == b"dd claims: what it writes: No space left on device\n"


# -- kills ----------------------------------------------------------------------------------------


def test_a_kill_among_renames_of_a_folder_leaves_no_mixture(tiny_decoder, tmp_path, monkeypatch):
    """Whatever the moment, the folder is the old encoder, the new one, or none."""
    make = lambda N: Encoder.new(tiny_decoder, N, D=32, blocks=1)
    replace, place, read = os.replace, tmp_path / "encoder", []
    for k in range(12):
        make(3).save(place)
        left = iter([True] * k)

        def killed_later(*names, left=left):
            if not next(left, False):
                os._exit(9)
            replace(*names)

        process = multiprocessing.get_context("fork").Process(target=lambda: make(4).save(place))
        with monkeypatch.context() as m:
            m.setattr(os, "replace", killed_later)
            process.start()
            process.join()
        try:
            read.append(Encoder.load(place).pooler.config.N)
        except FileNotFoundError as error:
            assert "neither shipped nor a folder made by save()" in str(error)
            read.append(None)
        if process.exitcode == 0:
            break
    # first the new one is made beside the old one, then it takes its place
    assert read == sorted(read, key=[3, None, 4].index) and set(read) == {3, None, 4}
    make(3).save(place)
    assert not list(tmp_path.glob(".*.tmp*"))  # what the killed ones left is gone


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for owner in (ended.pid, os.getppid(), "x"):
        (tmp_path / f".a [1].{owner}.tmp.csv").write_text("half")
    files.write_text(tmp_path / "a [1].csv", "whole")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a [1].csv", f".a [1].{os.getppid()}.tmp.csv", ".a [1].x.tmp.csv"}


@pytest.mark.slow
def test_an_interrupted_training_says_so_and_goes_on_to_the_same_weights(
    told, tiny_folder, tmp_path, monkeypatch
):
    (tmp_path / "w").mkdir()
    own_folder(tmp_path / "w", ["red blue round"] * 128)
    how = ("--world", tmp_path / "w", "--decoder", tiny_folder, "--seen", 384, "--tokens", 3)
    plain = train.training_loop
    often = lambda *a, **k: plain(*a, **{**k, "checkpoint_every": 1})
    monkeypatch.setattr(train, "training_loop", often)
    assert told("train-encoder", *how, "--out", tmp_path / "whole")[0] == 0

    class Interrupted(train.Progress):
        def __call__(self, done, note=""):
            super().__call__(done, note)
            if done == 256:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as m:
        m.setattr(train, "Progress", Interrupted)
        code, lines = told("train-encoder", *how, "--out", tmp_path / "cut")
    assert code == 130
    assert lines[-1] == "dd train-encoder: stopped; the same command goes on where it stopped"
    assert told("train-encoder", *how, "--out", tmp_path / "cut")[0] == 0
    read = lambda name: load_file(tmp_path / name / "diffusion_pytorch_model.safetensors")
    assert_same(read("whole"), read("cut"))


# -- several at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train-encoder", "train-decoder"])
def test_two_trainings_in_one_folder_are_refused(command, refused, tiny_folder, tmp_path):
    folder = tmp_path / "made" / ("autoencoder" if command == "train-decoder" else "")
    code = "from dd.files import alone_in; from pathlib import Path; import time\n"
    code += f"with alone_in(Path({str(folder)!r})): print('in', flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.readline() == b"in\n"
        line = refused(command, "--out", tmp_path / "made")
        assert "another run is at work in this folder" in line and "its own with --out" in line
        if command == "train-decoder":  # another part is not in its way
            line = refused(command, "--out", tmp_path / "made", "--name", "sketch")
            assert "run `train-decoder --name autoencoder` first" in line
        other.kill()
    with files.alone_in(folder):  # a killed one leaves no lock
        pass


def test_a_folder_in_which_nothing_came_to_be_does_not_stay(tmp_path):
    with pytest.raises(ZeroDivisionError), files.alone_in(tmp_path / "a"):
        raise ZeroDivisionError
    with files.alone_in(tmp_path / "b"):
        (tmp_path / "b" / "x").touch()
    assert not (tmp_path / "a").exists() and (tmp_path / "b" / "x").exists()


def fill(path: Path, value: str) -> None:
    for _ in range(100):
        files.write_text(path, value)


def test_processes_that_write_one_file_do_not_disturb_each_other(tmp_path):
    values = [letter * 20_000 for letter in "abc"]
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=fill, args=(tmp_path / "x.json", v)) for v in values]
    [w.start() for w in writers]
    [w.join() for w in writers]
    assert [w.exitcode for w in writers] == [0, 0, 0]
    assert (tmp_path / "x.json").read_text() in values and len(list(tmp_path.iterdir())) == 1


# -- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def little_memory(monkeypatch):
    """A megabyte is free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**6))


def test_what_does_not_fit_the_memory_is_refused_before_it_is_read_or_drawn(
    refused, little_memory, tiny_folder, clip_folder, tmp_path, monkeypatch
):
    own_folder(tmp_path, ["red"] * 128)
    monkeypatch.setattr(data, "_picture", lambda *a: pytest.fail("read"))
    monkeypatch.setattr(decoder.Decoder, "_denoise", lambda *a: pytest.fail("drawn"))
    (tmp_path / "bank.txt").write_text("red\n")
    short = "128 pictures of 64 x 64 pixels need 0.0 GB of memory, 0.0 are free; use fewer"
    how = ("--bank", tmp_path / "bank.txt", "--out", tmp_path / "o.parquet")
    assert short in refused("interrogate", clip_folder, "--world", tmp_path, *how)
    many = ("draw", "red", "--n", 300, "--scale", 1, "--out", tmp_path / "x.png")
    assert "300 pictures of 64 x 64" in refused(*many, "--decoder", tiny_folder)
    assert not (tmp_path / "x.png").exists()


def test_an_allocation_that_fails_is_one_line(refused, tiny_folder, tmp_path, monkeypatch):
    how = (*DRAW, "--decoder", tiny_folder, "--out", tmp_path / "x.png")
    for fill in (lambda *a: torch.empty(10**15), lambda *a: np.empty(10**15)):
        monkeypatch.setattr(decoder.Decoder, "_denoise", fill)
        assert "dd draw: not enough memory; give it less at a time" in refused(*how)
    monkeypatch.setattr(decoder.Decoder, "_denoise", lambda *a: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError):  # a fault of the program is not hidden
        refused(*how)


def test_a_loss_in_parts_has_the_same_value_and_gradient(decoder, float32, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(5, decoder.C, decoder.h, decoder.h, generator=rng)
    z_0, eps, t = noise(), noise(), torch.tensor([0, 200, 400, 600, 900])
    found, sizes, predict = [], [], decoder.predict
    counted = lambda x_t, *rest: sizes.append(len(x_t)) or predict(x_t, *rest)
    monkeypatch.setattr(decoder, "predict", counted)
    for B in (64, 2):
        monkeypatch.setattr(decoder, "rows_at_once", lambda *a, B=B: B)
        states = decoder.text_states(["red apple"] * 5).requires_grad_()
        loss = decoder.loss(z_0, states, t, eps)
        loss.sum().backward()
        found.append((loss.detach(), states.grad))
    assert sizes[0] == 5 and max(sizes[1:]) == 2
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


BOMBS = {
    "one text many times": lambda n: dict(id=[str(k) for k in range(n)], text=["a" * 10**4] * n),
    "lists of it": lambda n: dict(id=[str(k) for k in range(n)], text=[["a" * 10**4] * 2] * n),
    "many rows": lambda n: dict(id=["a"] * 99 * n, text=["b"] * 99 * n),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("dictionary", [True, False])
def test_a_table_that_unpacks_to_too_much_is_refused(bomb, dictionary, tmp_path, monkeypatch):
    table, path = pa.table(BOMBS[bomb](300)), tmp_path / "x.parquet"
    parquet.write_table(table, path, use_dictionary=dictionary, compression="zstd")
    assert path.stat().st_size < 10**5
    monkeypatch.setattr(reading, "MOST_SIZE", 10**6)
    with pytest.raises(reading.BadData, match="x.parquet: 0.0 GB or more of texts; split it"):
        reading.texts_by_id(path, reading.Bad("skip"))
    monkeypatch.setattr(reading, "MOST_SIZE", 10**8)
    assert len(reading.texts_by_id(path, reading.Bad("skip"))) == len(set(table["id"].to_pylist()))


def test_other_columns_of_a_table_are_not_unpacked(tmp_path, monkeypatch):
    table = pa.table({"id": ["1"], "text": ["red"], "other": ["a" * 10**7]})
    parquet.write_table(table, tmp_path / "x.parquet", use_dictionary=False)
    monkeypatch.setattr(reading, "MOST_SIZE", 10**6)
    assert list(reading.texts_by_id(tmp_path / "x.parquet", reading.Bad())) == ["1"]
    parquet.write_table(table.select(["other"]), tmp_path / "y.parquet")
    with pytest.raises(reading.BadData, match="row 1: no id column; call one so, of .'other'."):
        reading.texts_by_id(tmp_path / "y.parquet", reading.Bad())


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, name",
    [
        (("draw", "red", "--decoder", "sketc"), "sketch"),
        (("score", "x.csv", "--decoder", "judgea"), "judge-a"),
        (("write", "0.png", "--encoder", "encodr"), "encoder"),
        (("run", "quik"), "quick"),
        (("run", "quick", "-p", "decodr=sketch"), "decoder"),
        (("run", "quick", "-p", "sampler=dmp"), "dpm"),
        (("run", "quick", "-p", "rivals=[captionr]"), "captioner"),
    ],
)
def test_the_nearest_name_is_named(words, name, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("0.png")
    Path("x.csv").write_text("id,text\n1,red\n")
    assert f"did you mean {name!r}?" in refused(*words)


def test_no_name_forges_a_second_line(refused, told, tmp_path, monkeypatch, capsys, tiny_folder):
    monkeypatch.chdir(tmp_path)
    name = "a \"b\" 'c' 🍎\nd\x1b[31m"
    for words in (
        ("write", f"{name}.png"),
        ("score", f"{name}.csv"),
        ("draw", "red", "--decoder", name),
        ("draw", "red", "--decoder", tiny_folder, "--out", f"{name}/x.nonsense"),
        ("interrogate", "x", "--world", name),
        ("claims", name),
    ):
        assert "\x1b" not in refused(*words)
    world = tmp_path / name
    world.mkdir()
    own_folder(world, ["red blue round"] * 128)
    how = ("--decoder", tiny_folder, "--seen", 128, "--tokens", 3, "--out", world / "made")
    assert told("train-encoder", "--world", world, *how)[0] == 0
    capsys.readouterr()
    import_module("dd.__main__").main(
        ["write", f"{world}/0.png", f"{world}/1.png", "--encoder", f"{world}/made"]
    )
    assert len(capsys.readouterr().out.splitlines()) == 2
