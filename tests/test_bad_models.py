"""Models that are not whole, texts that a decoder cannot read, work that would fail late: each is
one line and exit code 2 through the command line, before anything is drawn, trained or written."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import own_folder
from PIL import Image
from safetensors.torch import load_file, save_file
from test_baselines import blip

from dd import data, files, llm, metrics

ROOT = Path(__file__).parent.parent


# -- damages of a folder --------------------------------------------------------------------------


def weights(folder: Path, change):
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def without_one(folder):
    weights(folder, lambda t: t.pop(sorted(t)[0]))


def one_more(folder):
    weights(folder, lambda t: t.update({"a.stranger": torch.zeros(2)}))


def another_size(folder):
    weights(folder, lambda t: t.update({sorted(t)[0]: torch.zeros(3)}))


def holding(value):
    def damage(folder):
        weights(folder, lambda t: t[max(t, key=lambda k: t[k].numel())].view(-1)[:1].fill_(value))

    return damage


def cut(folder):
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(folder):
    shutil.rmtree(folder)


def of_whole_numbers(folder):
    weights(folder, lambda t: t.update({k: v.to(torch.int8) for k, v in t.items()}))


def pickled(folder):
    (path,) = folder.glob("*.safetensors")
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def no_config(folder):
    (folder / "config.json").write_text("{")


DAMAGES = {
    "missing": (without_one, "has no weights for "),
    "unexpected": (one_more, "does not take: a.stranger"),
    "another size": (another_size, "cannot be read: "),
    "whole numbers": (of_whole_numbers, "has no decimal numbers in "),
    "nan": (holding(float("nan")), "has NaN or infinity in "),
    "infinity": (holding(float("inf")), "has NaN or infinity in "),
    "truncated": (cut, "cannot be read: "),
    "gone": (gone, "cannot be read: "),
    "pickle": (pickled, "no file named "),
    "no JSON": (no_config, "cannot be read: "),
}
PARTS = {
    "tiny_folder": ("unet", "vae", "text_encoder"),
    "judge_folder": ("transformer",),
}
DRAW = ("draw", "red", "--n", 1, "--steps", 1, "--scale", 1)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind, part", [(k, p) for k, parts in PARTS.items() for p in parts])
def test_a_decoder_that_is_not_whole_is_refused_by_part(
    kind, part, damage, refused, tmp_path, request
):
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "decoder")
    change, message = DAMAGES[damage]
    change(folder / part)
    line = refused(*DRAW, "--decoder", folder, "--out", tmp_path / "x.png")
    assert f"its part {part} {message}" in line or (f"its part {part}" in line and message in line)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("damage", ["missing", "nan", "truncated", "another size", "whole numbers"])
def test_an_encoder_that_is_not_whole_is_refused(damage, refused, tiny_decoder, tmp_path):
    from dd.encoder import Encoder

    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    DAMAGES[damage][0](tmp_path / "encoder")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    line = refused("write", tmp_path / "a.png", "--encoder", tmp_path / "encoder")
    assert "its pooler" in line


@pytest.mark.parametrize("size", ["x", 0, 64.0, True, None, [64]])
def test_an_encoder_that_names_no_size_of_pictures_is_refused(
    size, refused, tiny_decoder, tmp_path
):
    from dd.encoder import Encoder

    made = Encoder.new(tiny_decoder, 3, D=32, blocks=1)
    made.recipe = {"size": size}
    made.save(tmp_path / "encoder")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    line = refused("write", tmp_path / "a.png", "--encoder", tmp_path / "encoder")
    assert "its recipe.json names no size of pictures, train it anew" in line


def test_a_model_of_another_kind_is_refused_not_filled_with_random_weights(
    refused, few, tmp_path, clip_folder, llm_folder
):
    net, processor = blip()
    net.save_pretrained(tmp_path / "blip"), processor.save_pretrained(tmp_path / "blip")
    (tmp_path / "bank.txt").write_text("a cat\n")
    out = tmp_path / "said.parquet"
    how = ("--bank", tmp_path / "bank.txt", "--out", out)
    assert "interrogator" in refused("interrogate", tmp_path / "blip", *how)
    assert "captioner" in refused("caption", clip_folder, "--out", out)
    assert "captioner" in refused("caption", llm_folder, "--out", out)
    for damage in ("missing", "nan", "truncated", "pickle"):
        folder = shutil.copytree(tmp_path / "blip", tmp_path / damage)
        DAMAGES[damage][0](folder)
        assert DAMAGES[damage][1] in refused("caption", folder, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("damage", ["missing", "nan", "truncated", "pickle"])
def test_a_language_model_that_is_not_whole_is_refused(damage, refused, llm_folder, tmp_path):
    folder = shutil.copytree(llm_folder, tmp_path / "lm")
    DAMAGES[damage][0](folder)
    (tmp_path / "t.csv").write_text("id,text\n1,red\n")
    notes = {"annotations": [{"image_id": 1, "caption": "red"}]}
    (tmp_path / "c.json").write_text(json.dumps(notes))
    asked = ("ask", tmp_path / "t.csv", "--captions", tmp_path / "c.json", "--model", folder)
    line = refused(*asked)
    assert f"language model '{folder}'" in line and DAMAGES[damage][1] in line


# -- pipelines of another shape -------------------------------------------------------------------


def index(**change):
    def damage(folder):
        path = folder / "model_index.json"
        made = {k: v for k, v in (json.loads(path.read_text()) | change).items() if v is not None}
        path.write_text(json.dumps(made))

    return damage


def scheduler(**change):
    def damage(folder):
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return damage


def told_by(file, **change):
    """Other settings in a JSON file of a part; None takes one out."""

    def damage(folder):
        made = json.loads((folder / file).read_text()) | change
        made = {k: v for k, v in made.items() if v is not None}
        (folder / file).write_text(json.dumps(made))

    return damage


def few_tokens(folder):
    path = folder / "tokenizer" / "tokenizer.json"
    made = json.loads(path.read_text())
    merge, ids = made["model"]["merges"][0], made["model"]["vocab"]
    kept = [*[*ids][:20], *merge, "".join(merge)]
    made["model"] |= {"vocab": {k: ids[k] for k in kept}, "merges": [merge]}
    path.write_text(json.dumps(made))


def tokenizer_of(*files):
    """In the files of the library's earlier versions, of which the last one is empty."""

    def damage(folder):
        path = folder / "tokenizer" / "tokenizer.json"
        vocab = json.loads(path.read_text())["model"]["vocab"]
        path.unlink()
        for name in files:
            (path.parent / name).write_text(json.dumps(vocab) if name != files[-1] else "")

    return damage


def unet(**change):
    """Another U-Net in its place, whole by itself."""

    def damage(folder):
        from diffusers import UNet2DConditionModel

        old = UNet2DConditionModel.load_config(folder / "unet")
        shutil.rmtree(folder / "unet")
        UNet2DConditionModel.from_config({**old, **change}).save_pretrained(folder / "unet")

    return damage


def unconditional(folder):
    from diffusers import UNet2DModel

    shutil.rmtree(folder / "unet")
    ends = dict(down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    UNet2DModel(8, 4, 4, block_out_channels=(32,), **ends).save_pretrained(folder / "unet")
    index(unet=["diffusers", "UNet2DModel"])(folder)


SHAPES = {
    "no class": (index(_class_name=None), "names no pipeline class"),
    "unknown class": (index(_class_name="Nonsense"), "names Nonsense"),
    "SDXL": (index(_class_name="StableDiffusionXLPipeline"), "StableDiffusionXLPipeline"),
    "DiT": (index(_class_name="DiTPipeline"), "DiTPipeline"),
    "class of remote code": (index(_class_name=["code", "Mine"]), "names ['code', 'Mine']"),
    "inpainting": (unet(in_channels=9), "reads 9 channels, its latents have 4"),
    "pix2pix": (unet(in_channels=8), "reads 8 channels, its latents have 4"),
    "learned variance": (unet(out_channels=8), "does not predict noise of its latents' shape"),
    "class labels": (unet(num_class_embeds=3), "cannot draw: class_labels should be provided"),
    "SDXL's U-Net": (
        unet(addition_embed_type="text_time", projection_class_embeddings_input_dim=48),
        "cannot draw: ",
    ),
    "other text width": (unet(cross_attention_dim=48), "cannot draw: "),
    "unconditional": (unconditional, "cannot draw: "),
    "no U-Net": (index(unet=None), "its part unet is missing"),
    "no autoencoder": (index(vae=[None, None]), "its part vae is missing"),
    "no tokenizer": (index(tokenizer=None), "its part tokenizer is missing"),
    "part of remote code": (index(unet=["code", "UNet"]), "is of code, whose code is not run"),
    "pooled text": (
        index(text_encoder=["transformers", "CLIPTextModelWithProjection"]),
        "its part text_encoder has no weights for text_projection.weight",
    ),
    "a scheduler of nothing": (
        lambda f: (f / "scheduler" / "scheduler_config.json").write_text("{}"),
        "its part scheduler names no beta_schedule: its noise levels are unknown",
    ),
    "noise levels of NaN": (scheduler(beta_start=float("nan")), "noise levels do not go from none"),
    "flow matching": (
        index(scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
        "names no beta_schedule: its noise levels are unknown",
    ),
    "a scale of text": (told_by("vae/config.json", scaling_factor="x"), "scaling_factor 'x', no"),
    "no size of pictures": (
        told_by("unet/config.json", sample_size=None),
        "sample_size is None, no",
    ),
    "no length of texts": (
        told_by("tokenizer/tokenizer_config.json", model_max_length=None),
        "its tokenizer's model_max_length is 1000000000000000019884624838656, no length of a text",
    ),
    "no room for a word": (
        told_by("tokenizer/tokenizer_config.json", model_max_length=2),
        "its tokenizer's model_max_length is 2, no length of a text",
    ),
    "a tokenizer without files": (tokenizer_of(), "its part tokenizer cannot be read: it knows no"),
    "a tokenizer without merges": (
        tokenizer_of("vocab.json", "merges.txt"),
        "its part tokenizer cannot be read: it knows no words: a file of it is missing or empty",
    ),
    "few tokens": (few_tokens, "not found in the vocabulary"),
    "sample prediction": (scheduler(prediction_type="sample"), "scheduler predicts 'sample'"),
    "a part that is a number": (index(unet=5), "its part unet is missing"),
    "index is a list": (
        lambda f: (f / "model_index.json").write_text("[]"),
        "its model_index.json cannot be read: no JSON object",
    ),
    "no index": (lambda f: (f / "model_index.json").unlink(), "no file named model_index.json"),
    "index is no JSON": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decoder_of_another_shape_is_refused(shape, refused, sd_folder, tmp_path):
    folder = shutil.copytree(sd_folder, tmp_path / "decoder")
    change, message = SHAPES[shape]
    change(folder)
    line = refused(*DRAW, "--decoder", folder, "--out", tmp_path / "x.png")
    assert message in line and not (tmp_path / "x.png").exists()
    if not (shape == "pooled text" or shape.startswith("a tokenizer")):
        assert "taken are folders of a StableDiffusionPipeline" in line


@pytest.mark.parametrize("model", ["someone/model", "someone/model@main", "someone/model@abc123"])
def test_no_command_takes_a_hub_id_without_a_commit(model, refused, few, tmp_path):
    (tmp_path / "c.csv").write_text("id,text\n1,red\n")
    (tmp_path / "bank.txt").write_text("red\n")
    (tmp_path / "c.json").write_text('{"annotations": [{"image_id": 1, "caption": "red"}]}')
    out = tmp_path / "out.parquet"
    for words in (
        ("draw", "red", "--decoder", model),
        ("score", tmp_path / "c.csv", "--decoder", model),
        ("train-encoder", "--decoder", model, "--out", tmp_path / "encoder"),
        ("caption", model, "--out", out),
        ("interrogate", model, "--bank", tmp_path / "bank.txt", "--out", out),
        ("ask", tmp_path / "c.csv", "--captions", tmp_path / "c.json", "--model", model),
        ("run", "quick", "-p", f"decoder={model}"),
        ("run", "quick", "-p", f"judges=[{model}]"),
        ("run", "quick", "-p", f"language_models=[{model}]"),
    ):
        assert "id@commit" in refused(*words), words
    assert {p.name for p in tmp_path.iterdir()} == {"bank.txt", "c.csv", "c.json"}


def test_a_picture_that_is_not_finite_is_refused(refused, tiny_folder, tmp_path):
    how = ("--guidance", 1e300, "--decoder", tiny_folder, "--out", tmp_path / "x.png")
    assert "NaN or infinity; use a smaller guidance" in refused(*DRAW, *how)
    assert not (tmp_path / "x.png").exists()


# -- texts that a decoder does not read -----------------------------------------------------------


@pytest.mark.parametrize(
    "text, lines",
    [
        ("red apple", []),
        ("red, apple!", []),
        ("red xyzzy", ["does not know 1 of 2 words"]),
        ("xyzzy plugh quux", ["does not know 3 of 3 words", "the text without a word that"]),
        ("红苹果", ["does not know 1 of 1 words", "the text without a word that"]),
        ("яблоко red", ["does not know 1 of 2 words"]),
        ("🍎", ["does not know 1 of 1 words", "the text without a word that"]),
        ("...", ["the text without a word that"]),
        ("red " * 31, ["the text longer than the 30 tokens that tiny reads"]),
    ],
)
def test_what_of_a_text_is_not_read_is_said(text, lines, told, tiny_folder, tmp_path):
    code, said = told(
        *DRAW[:1], text, *DRAW[2:], "--decoder", tiny_folder, "--out", tmp_path / "x.png"
    )
    assert code == 0 and len(said) == len(lines), said
    assert all(line in s for line, s in zip(lines, said))


@pytest.fixture
def forty(monkeypatch, whole_dataset):
    """`score` with cheap features, of 40 drawings."""
    from conftest import quick_features

    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    monkeypatch.setattr(
        metrics, "image_features", lambda images, *a, **k: quick_features(images)[:, :300:10]
    )
    monkeypatch.setattr(metrics, "WIDTH", 30)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)
    return list(whole_dataset.subset("novel", 40).frame["id"])


def test_score_counts_what_is_not_read(told, forty, tiny_folder, tmp_path):
    texts = ["red apple"] * 30 + ["苹果 红"] * 6 + ["red " * 40] * 4
    pd.DataFrame({"id": forty, "text": texts}).to_csv(tmp_path / "mine.csv", index=False)
    how = ("--split", "novel", "--steps", 1, "--guidance", 1, "--decoder", tiny_folder)
    code, said = told("score", tmp_path / "mine.csv", *how, "--out", tmp_path / "t.csv")
    said = [line for line in said if line.startswith("note:")]
    assert code == 0 and said == [
        "note: tiny does not know 12 of 232 words, and reads such words all alike: 苹果, 红",
        "note: 6 of 40 texts without a word that tiny knows: drawn from nothing",
        "note: 4 of 40 texts longer than the 30 tokens that tiny reads; the rest is cut off",
    ]
    (row,) = pd.read_csv(tmp_path / "t.csv").to_dict("records")
    assert row["unknown"] == pytest.approx(12 / 232) and row["cut"] == 4


def test_phrases_that_can_never_be_written_are_said(told, refused, few, clip_folder, tmp_path):
    bank, out = tmp_path / "bank.txt", tmp_path / "said.parquet"
    how = ("--bank", bank, "--most", 2, "--out", out)
    bank.write_text("red apple pie\nblue sky over sea\n")
    line = refused("interrogate", clip_folder, *how)
    assert "each of the 2 phrases has more than 2 words" in line and not out.exists()
    bank.write_text("red apple pie\nred\n" + "z" * 60 + "\n")
    code, said = told("interrogate", clip_folder, *how)
    assert code == 0 and said[:2] == [
        "note: 1 of 3 phrases have more than 2 words and are never written",
        f"note: 1 of 2 phrases are longer than the 20 tokens {clip_folder} reads",
    ]
    assert not any("pie" in t for t in pd.read_parquet(out)["text"])


def test_ask_says_which_texts_are_cut(told, llm_folder, tmp_path, monkeypatch):
    """Nothing of a text that the model has room for."""
    longer = {"1": "red " * 90, "2": "red " * 90 + "blue", "3": "red " * 3000}
    pd.DataFrame({"id": longer.keys(), "text": longer.values()}).to_csv(tmp_path / "t.csv")
    notes = {"annotations": [{"image_id": i, "caption": "red"} for i in (1, 2, 3)]}
    (tmp_path / "c.json").write_text(json.dumps(notes))
    from dd.llm import LanguageModel

    met, plain = [], LanguageModel.answer
    noted = lambda self, prompts, **how: met.extend(prompts) or plain(self, prompts, **how)
    monkeypatch.setattr(LanguageModel, "answer", noted)
    asked = ("ask", tmp_path / "t.csv", "--captions", tmp_path / "c.json", "--model", llm_folder)
    code, said = told(*asked)
    assert code == 0 and [p.query.count("red") for p in met] == [90, 90, 3000]
    (line,) = [line for line in said if "lose their beginning" in line]
    assert line.startswith("note: 1 of 3 queries") and "2048 tokens" in line


@pytest.mark.parametrize(
    "texts, more, message",
    [
        (["red apple"] * 128, (), "only 2 words describe at least 5 of the 128 training images"),
        (["红苹果"] * 128, (), "only 0 words describe at least 5"),
        (["red apple"] * 40, (), "40 training images do not fill a batch of 64: use more images"),
        (["red apple"] * 128, ("--tokens", 31), "context holds 1 to 30"),
    ],
)
def test_an_encoder_without_words_is_not_trained(
    texts, more, message, refused, tiny_folder, tmp_path
):
    own_folder(tmp_path, texts)
    how = ("--world", tmp_path, "--decoder", tiny_folder, "--seen", 128, "--tokens", 3)
    line = refused("train-encoder", *how, *more, "--out", tmp_path / "made")
    assert message in line and not (tmp_path / "made").exists()


# -- wrong before the work ------------------------------------------------------------------------


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    """A model, a data set or a training that is begun is a failure."""
    from dd import decoder, llm, make_decoders, train

    def never(*a, **k):
        raise AssertionError("the work was begun")

    for where, name in (
        (decoder.Decoder, "load"),
        (data, "load_dataset"),
        (llm.LanguageModel, "load"),
        (make_decoders, "make_decoder"),
        (train, "train_encoder"),
    ):
        monkeypatch.setattr(where, name, never)


OUTS = {
    "folder": ("{}", "is a folder; give a file to write to"),
    "device": ("/dev/null", "is a device or a pipe, which would be replaced"),
    "inside a file": ("{}/file/x{}", "cannot be written (Not a directory"),
    "where nothing is written": ("/proc/none/x{}", "cannot be written"),
    "long name": ("{}/" + "x" * 260 + "{}", "File name too long"),
}


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize(
    "command", ["draw", "score", "caption", "interrogate", "ask", "check", "bench"]
)
def test_a_place_that_cannot_be_written_is_refused_first(
    command, out, refused, nothing_is_loaded, tmp_path
):
    (tmp_path / "file").write_text("x")
    name, message = OUTS[out]
    suffix = {"draw": ".png", "caption": ".parquet", "interrogate": ".parquet"}.get(command, ".csv")
    first = {"draw": ["red"], "score": [tmp_path / "file"], "ask": [tmp_path / "file"]}
    first |= {"caption": ["blip"], "interrogate": ["clip"]}
    line = refused(command, *first.get(command, []), "--out", name.format(tmp_path, suffix))
    assert message in line and {p.name for p in tmp_path.iterdir()} == {"file"}


def test_a_disk_without_room_and_a_place_to_keep_are_refused_first(
    refused, nothing_is_loaded, tmp_path, monkeypatch
):
    (tmp_path / "c.csv").write_text("id,text\n1,red\n")
    kept = ("score", tmp_path / "c.csv", "--keep")
    assert "c.csv is a file; give a folder" in refused(*kept, tmp_path / "c.csv")
    assert "cannot be written" in refused(*kept, "/proc/none")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=100))
    for words in (("draw", "red"), ("train-encoder",), (*kept, tmp_path / "k", "--out", "t.csv")):
        more = () if "--out" in words else ("--out", tmp_path / "new" / "x.png")
        assert "cannot be written (No space left on device: " in refused(*words, *more)
    assert {p.name for p in tmp_path.iterdir()} == {"c.csv"}


@pytest.mark.parametrize("command", ["train-encoder", "train-decoder"])
def test_a_folder_that_cannot_be_written_is_refused_first(
    command, refused, nothing_is_loaded, tmp_path
):
    (tmp_path / "file").write_text("x")
    assert "is a file; give a folder" in refused(command, "--out", tmp_path / "file")
    assert "cannot be written" in refused(command, "--out", tmp_path / "file" / "x")
    assert "cannot be written" in refused(command, "--out", "/proc/none")


@pytest.mark.parametrize("part, kind", [("", "StableDiffusionPipeline"), ("unet", "UNet2D")])
def test_an_encoder_is_not_written_over_another_model(
    part, kind, refused, nothing_is_loaded, tiny_folder, tmp_path
):
    folder = shutil.copytree(tiny_folder, tmp_path / "decoder")
    held = lambda: {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    before = held()
    assert f"holds another model, a {kind}" in refused("train-encoder", "--out", folder / part)
    assert held() == before


@pytest.mark.parametrize(
    "more, message",
    [
        (("--scale", 5000), "a picture of 320000 x 320000 pixels; image libraries refuse"),
        (("--n", 100_000), "a picture of 6400000 x 64 pixels"),
        (("--n", 1100, "--out", "x.jpg"), "cannot hold a picture of 70400 x 64 pixels; use .png"),
        (("--out", "x.nonsense"), "cannot hold a picture"),
        (("--out", "x"), "cannot hold a picture"),
        (("--steps", 5000), "steps is 5000; decoder tiny has 1000 noise levels"),
        (("--steps", 5000, "--sampler", "ddim"), "use 1 to 1000"),
    ],
)
def test_what_would_fill_the_memory_is_refused(
    more, message, refused, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*DRAW, "--decoder", tiny_folder, *more)
    assert not list(tmp_path.iterdir())


def test_batches_shrink_as_latents_grow(tiny_decoder, monkeypatch):
    """64 x 64 latents are drawn one at a time on a processor, 8 x 8 ones as before."""
    most = lambda h: (monkeypatch.setattr(tiny_decoder, "h", h), tiny_decoder.rows_at_once(32, 128))
    assert most(8)[1] == 32 and most(16)[1] == 8 and most(64)[1] == 1


def test_too_few_captions_for_fid_are_refused_before_anything_is_loaded(
    refused, told, nothing_is_loaded, tmp_path
):
    (tmp_path / "m.csv").write_text("id,text\n1,red\n2,red, blue\n")
    words = ("score", tmp_path / "m.csv", "--on-bad", "skip", "--out", tmp_path / "t.csv")
    code, (left, line) = told(*words)
    assert code == 2 and left.startswith("left out: m.csv, row 3: 3 fields for 2 columns")
    assert "FID needs more images than its 352 feature dimensions; got 1" in line
    assert "m.csv, row 3: 3 fields" in refused(*words[:2])
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


def test_captions_are_not_written_where_cider_is_missing(
    refused, nothing_is_loaded, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    (tmp_path / "m.csv").write_text("id,text\n1,red\n")
    for words in (
        ("ask", tmp_path / "m.csv", "--captions", "c.json"),
        ("run", "quick", "-p", "captions=400"),
    ):
        assert "CIDEr: its package is not installed; pip install" in refused(*words)


def test_too_few_captions_of_known_images_are_refused_before_drawing(
    refused, forty, tiny_folder, tmp_path, monkeypatch
):
    from dd.decoder import Decoder

    monkeypatch.setattr(Decoder, "draw", lambda *a, **k: pytest.fail("drawn"))
    pd.DataFrame({"id": forty[:20], "text": "red"}).to_csv(tmp_path / "m.csv", index=False)
    how = ("--split", "novel", "--decoder", tiny_folder, "--out", tmp_path / "t.csv")
    assert "FID needs more images" in refused("score", tmp_path / "m.csv", *how)


def test_an_id_too_long_for_the_name_of_a_picture_is_refused_before_drawing(
    told, forty, whole_dataset, tiny_folder, tmp_path, monkeypatch
):
    """A character of another script takes nine signs in the file's name."""
    from dd.decoder import Decoder

    monkeypatch.setattr(Decoder, "draw", lambda *a, **k: pytest.fail("drawn"))
    ids = ["\u7ea2" * 30, *forty[1:]]
    some = whole_dataset.subset("novel", 40)
    some.frame["id"] = ids
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: some)
    pd.DataFrame({"id": ids, "text": "red"}).to_csv(tmp_path / "m.csv", index=False)
    how = ("--split", "novel", "--decoder", tiny_folder, "--pictures", tmp_path / "drawn")
    code, lines = told("score", tmp_path / "m.csv", *how)
    assert code == 2 and f".png: cannot be written (File name too long: {tmp_path})" in lines[-1]
    assert not (tmp_path / "drawn").exists()


# -- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, message",
    [
        (b"study: [x", "no YAML"),
        (b"study: x\n\ttokens: 3", "no YAML"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "no YAML"),
        (b"", "no parameters in it"),
        (b"study: x\nseed: 1\nseed: 2\n", "no YAML ('seed' is there twice)"),
        (b"study: 2001-13-01", "no YAML (month must be in 1..12)"),
        (b"[" * 5000, "no YAML (nested too deeply)"),
    ],
)
def test_a_parameter_file_that_is_none_is_refused(content, message, refused, tmp_path):
    (tmp_path / "p.yaml").write_bytes(content)
    line = refused("run", tmp_path / "p.yaml")
    assert message in line and "p.yaml" in line and not (tmp_path / "results").exists()


@pytest.mark.parametrize("value", ["2001-13-01", "[" * 5000, "[1", "{a: 1, a: 2}"])
def test_a_value_that_is_no_yaml_is_refused(value, refused):
    line = refused("run", "quick", "-p", f"tokens={value}")
    assert "is no YAML value; write 3, 0.5, name or [1, 2]" in line and len(line) < 200


def test_a_run_with_a_model_that_cannot_be_read_does_not_begin(
    refused, tiny_folder, llm_folder, tmp_path, monkeypatch
):
    bad, lm = (
        shutil.copytree(f, tmp_path / n) for f, n in ((tiny_folder, "bad"), (llm_folder, "lm"))
    )
    cut(bad / "vae"), cut(lm)
    (tmp_path / "half_a_package").mkdir()
    (tmp_path / "half_a_package" / "__init__.py").write_text("def assemble():\n    import half")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(llm.PACKAGES, "gemma3", ("half_a_package", "pip install it"))
    for given, message in (
        ("encoder=nosuch", "encoder 'nosuch': neither shipped"),
        (f"encoder={bad}", "encoder"),
        (f"decoder={bad}", "its part vae cannot be read"),
        (f"judges=[{bad}]", "its part vae cannot be read"),
        ("decoder=emoji", "no file named model_index.json"),
        (f"language_models=[{lm}]", "language model"),
        ("language_models=[gemma3]", "its package is not whole (No module named 'half'); pip in"),
        ("features=nosuch", "features 'nosuch': neither shipped"),
    ):
        assert message in refused("run", "quick", "-p", given), given
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("file_name,text\n0.png,red\n", "1 images for testing; FID by these features needs 353"),
        ("file_name,text,split\n0.png,red,train\n", "has no split 'test'; it has ['train']"),
        ("id,text\n0.png,red\n", "captions.csv, row 2: no file_name column; call one so, of ['id"),
    ],
)
def test_a_run_in_a_world_that_cannot_be_used_does_not_begin(
    text, message, refused, tiny_folder, tiny_decoder, tmp_path
):
    from dd.encoder import Encoder

    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    own_folder(tmp_path, ["red"])
    (tmp_path / "captions.csv").write_text(text)
    given = dict(world=tmp_path, decoder=tiny_folder, encoder=tmp_path / "encoder")
    line = refused("run", "quick", *(f"-p{name}={value}" for name, value in given.items()))
    assert message in line and "--on-bad" not in line  # `run` has no such option
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_written_is_refused(refused, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", "/proc"):
        monkeypatch.setenv("DD_RESULTS", str(root))
        assert "cannot be written" in refused("run", "quick")


def test_two_runs_in_one_folder_are_refused_and_a_killed_one_leaves_no_lock(
    refused, told, one_notebook, tmp_path
):
    one_notebook("pass")
    folder = tmp_path / "results" / "quick"
    code = "from dd.files import alone_in; from pathlib import Path; import time\n"
    code += f"with alone_in(Path({str(folder)!r})): print('in', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.readline() == b"in\n"
        assert "another run is at work in this folder" in refused("run", "quick")
        other.kill()
    assert told("run", "quick")[0] == 0


def test_notebooks_run_in_this_interpreter_whatever_else_is_called_python3(
    told, one_notebook, tmp_path, monkeypatch
):
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    wrong = {"argv": ["/bin/false"], "display_name": "x", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(wrong))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    one_notebook("import sys; open('who', 'w').write(sys.prefix)")
    assert told("run", "quick")[0] == 0 and (tmp_path / "who").read_text() == sys.prefix


def test_a_run_needs_no_home(told, one_notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    one_notebook("open('ran', 'w')")
    assert told("run", "quick")[0] == 0 and (tmp_path / "ran").exists()


def test_a_read_only_folder_is_refused():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0  # who may write anywhere
    try:
        os.seteuid(65534) if root else None
        for path, is_folder in ((folder, True), (folder / "new", True), (folder / "x.csv", False)):
            with pytest.raises(OSError, match="cannot be written .Permission denied"):
                files.check_writable(path, folder=is_folder)
    finally:
        os.seteuid(0) if root else None
        folder.rmdir()


def test_a_notebook_that_fails_or_dies_is_one_line(told, one_notebook):
    one_notebook("raise OSError(28, 'No space left on device')")
    code, lines = told("run", "quick")
    assert code == 2 and "01_a stopped: OSError: [Errno 28] No space left" in lines[-1]
    one_notebook("import os; os._exit(9)")
    code, lines = told("run", "quick")
    assert code == 2 and "its process died" in lines[-1] and "goes on where it stopped" in lines[-1]


def test_an_interrupt_is_one_line_that_says_how_to_go_on(told, one_notebook, monkeypatch):
    def stop(*a, **k):
        os.kill(os.getpid(), signal.SIGINT)

    one_notebook("import time; time.sleep(30)")
    relay = import_module("dd.study.run").Relay
    show = relay.say
    monkeypatch.setattr(relay, "say", lambda self, x: stop() if "01_a ..." in x else show(self, x))
    code, lines = told("run", "quick")
    assert code == 130
    assert lines[-1] == "dd run: stopped; the same command goes on where it stopped"


# -- a full disk ----------------------------------------------------------------------------------


def full(*a, **k):
    """A write that fails after its first bytes."""
    for x in a:
        if isinstance(x, (str, Path)):
            Path(x).write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def whole_files(folder: Path) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_full_disk_leaves_the_old_picture(refused, told, tiny_folder, tmp_path, monkeypatch):
    out = tmp_path / "made" / "x.png"
    draw = (*DRAW, "--decoder", tiny_folder, "--out", out)
    save = Image.Image.save

    def to_disk(self, file, *how):
        save(self, file, *how) if hasattr(file, "write") else full(file)

    for before in ({}, {"made/x.png": b"old"}):
        for name, content in before.items():
            (tmp_path / name).write_bytes(content)
        with monkeypatch.context() as m:
            m.setattr(Image.Image, "save", to_disk)
            line = refused(*draw)
        assert line.endswith("x.png: not written (No space left on device)")
        assert whole_files(tmp_path) == before
    assert told(*draw)[0] == 0


def test_a_full_disk_leaves_the_old_checkpoint_result_and_kept_file(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from dd import runtime
    from dd.study import cache
    from dd.texts import write_texts

    state, tensors = tmp_path / "a.state.safetensors", {"w": torch.ones(3)}
    table = pd.DataFrame({"id": ["1"], "text": ["x"]})
    dataset = data.Dataset("x", table, np.zeros((1, 2, 2, 3), np.uint8))
    writes = (
        lambda: runtime.save_state(state, tensors, {"step": 1}),
        lambda: cache.kept(tmp_path / "kept", lambda: tensors),
        lambda: cache.kept(tmp_path / "plain", lambda: [1]),
        lambda: files.write_csv(tmp_path / "t.csv", table),
        lambda: write_texts(tmp_path / "t.parquet", dataset, ["x"]),
    )

    def broken(tensors, path, **k):
        Path(path).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    for before in (False, True):
        if before:
            [write() for write in writes]
        old = whole_files(tmp_path)
        assert len(old) == (5 if before else 0)
        with monkeypatch.context() as m:
            m.setattr(runtime, "save_file", broken)
            m.setattr(Path, "write_text", lambda self, *a, **k: full(self))
            m.setattr(pd.DataFrame, "to_csv", lambda self, path, **k: full(path))
            m.setattr(pd.DataFrame, "to_parquet", lambda self, path, **k: full(path))
            for k, write in enumerate(writes):
                if before and k in (1, 2):  # read back, not written again
                    continue
                with pytest.raises(OSError, match=r"not written \(.*No space left on device"):
                    write()
        assert whole_files(tmp_path) == old


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KiB, where one may be mounted."""
    (folder := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    try:
        mounted = not subprocess.run(mount, capture_output=True).returncode
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full_leaves_what_was_there(small_disk):
    from dd import runtime
    from dd.texts import write_texts

    at, rng = small_disk.joinpath, np.random.default_rng(0)

    def write(size: int) -> list:
        words = [rng.bytes(30).hex() for _ in range(size)]
        table = pd.DataFrame({"id": words, "text": words})
        tensors = {"w": torch.from_numpy(rng.random((size, 8)))}
        dataset = data.Dataset("x", table, np.zeros((size, 2, 2, 3), np.uint8))
        return [
            lambda: runtime.save_state(at("a.state.safetensors"), tensors, {"step": 1}),
            lambda: files.write_csv(at("t.csv"), table),
            lambda: files.write_json(at("t.json"), words),
            lambda: write_texts(at("t.parquet"), dataset, words),
        ]

    [small() for small in write(3)]
    old = whole_files(small_disk)
    assert len(old) == 4
    for large in write(2000):
        with pytest.raises(OSError, match=r"not written \(.*No space left on device"):
            large()
        assert whole_files(small_disk) == old


def test_a_full_disk_leaves_the_old_encoder(tiny_decoder, tmp_path, monkeypatch):
    from dd import runtime
    from dd.encoder import Encoder

    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    old = whole_files(tmp_path)
    monkeypatch.setattr(runtime, "save_file", lambda tensors, path, **k: full(path))
    with pytest.raises(OSError, match="No space left"):
        Encoder.new(tiny_decoder, 4, D=32, blocks=1).save(tmp_path / "encoder")
    assert whole_files(tmp_path) == old


def test_a_checkpoint_that_is_not_whole_is_one_line(refused, tiny_folder, tmp_path):
    own_folder(tmp_path, ["red blue round"] * 128)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "encoder.state.safetensors").write_bytes(b"\x00" * 9)
    how = ("--world", tmp_path, "--decoder", tiny_folder, "--seen", 128, "--tokens", 3)
    line = refused("train-encoder", *how, "--out", tmp_path / "made")
    assert "encoder.state.safetensors: not a whole file of tensors" in line
    line = refused("train-encoder", *how, "--data", 0, "--out", tmp_path / "none")
    assert "0 training images do not fill a batch" in line


# -- places and machines --------------------------------------------------------------------------


def test_paths_with_spaces_quotes_and_an_emoji(
    told, tiny_folder, one_notebook, tmp_path, monkeypatch
):
    place = tmp_path / "a b 'c' \"d\" 🍎 @e"
    own = shutil.copytree(tiny_folder, place / "decoder")
    assert told(*DRAW, "--decoder", own, "--out", place / "x 🍎.png")[0] == 0
    own_folder(place, ["red blue round"] * 128)
    how = ("--world", place, "--decoder", own, "--seen", 128, "--tokens", 3)
    assert told("train-encoder", *how, "--out", place / "made")[0] == 0
    assert told("write", place / "0.png", "--encoder", place / "made")[0] == 0
    monkeypatch.setenv("DD_RESULTS", str(place / "results"))
    one_notebook("pass")
    monkeypatch.setattr(import_module("dd.study.run"), "ROOT", tmp_path)
    assert (
        told(
            "run", "quick", "-p", f"encoder={json.dumps(str(place / 'made'), ensure_ascii=False)}"
        )[0]
        == 0
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"HOME": None},
        {"HOME": "/proc/none"},
    ],
)
def test_a_bare_environment(settings, tiny_decoder, tmp_path):
    from dd.encoder import Encoder

    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    for name in ("äpfel 🍎.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    env = {k: v for k, v in (os.environ | settings).items() if v is not None}
    words = ("write", *tmp_path.glob("*.png"), "--encoder", tmp_path / "encoder")
    how = dict(cwd=ROOT, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=110)
    shown = subprocess.run([sys.executable, "-m", "dd", *words], **how)
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 2, shown.stderr


@pytest.mark.parametrize(
    "begin, message",
    [
        # Ctrl-C before the command has begun
        ("import dd.commands as c; c.parser = lambda **k: stop()", "stopped"),
        ("os.makedirs('gone'); os.chdir('gone'); os.rmdir('../gone')", "x.png: cannot be written"),
        ("os.close(1); sys.stdout = None", "no such results"),
    ],
)
def test_a_process_that_is_stopped_early_or_stands_nowhere_says_one_line(begin, message, tmp_path):
    words = ["claims", "none"] if "close" in begin else ["draw", "red", "--out", "x.png"]
    code = f"import os, runpy, signal, sys, time; sys.argv = {['dd', *words]}\n"
    code += "def stop(): os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
    code += f"{begin}\nrunpy.run_module('dd', run_name='__main__')"
    how = dict(cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    shown = subprocess.run([sys.executable, "-c", code], timeout=110, **how)
    assert shown.returncode in (2, 130)
    (line,) = shown.stderr.decode().strip().splitlines()
    assert message in line


def test_every_option_that_a_message_names_exists():
    """Options in the code's own texts, but for those of pip."""
    from dd.__main__ import parser

    program = parser()
    (commands,) = (a.choices for a in program._actions if a.choices)
    every = (program, *commands.values())
    known = {o for c in every for a in c._actions for o in a.option_strings}
    text = "".join(p.read_text() for p in (ROOT / "dd").rglob("*.py"))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {"--no-deps", "--IPKernelApp"}
    assert named and not named - known


@pytest.mark.parametrize("command", ["ask", "caption", "interrogate", "draw", "write"])
def test_code_in_a_model_folder_is_not_run(
    command, refused, few, tmp_path, llm_folder, sd_folder, clip_folder
):
    """Classes of the folder's own, of a kind that the libraries do not know."""
    own = {"ask": llm_folder, "caption": clip_folder, "interrogate": clip_folder}
    folder = shutil.copytree(own.get(command, sd_folder), tmp_path / "own")
    mark = tmp_path / "was-run"
    code = f"open({str(mark)!r}, 'w')\nclass A:\n    pass\nB = C = A\n"
    parts = [folder / p for p in ("unet", "text_encoder", "tokenizer")] if command == "draw" else []
    for part in (folder, *parts):
        (part / "own.py").write_text(code)
        autos = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModel")
        classes = {"AutoConfig": "own.A", **dict.fromkeys(autos, "own.B")}
        (part / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": classes}))
        classes = {"AutoTokenizer": ["own.C", None], "AutoProcessor": "own.C"}
        own_tokenizer = {"tokenizer_class": "C", "auto_map": classes}
        for name in ("tokenizer_config.json", "processor_config.json"):
            (part / name).write_text(json.dumps(own_tokenizer))
    if command == "draw":
        index(unet=["own", "A"])(folder)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "bank.txt").write_text("red\n")
    (tmp_path / "t.csv").write_text("id,text\n1,red\n")
    notes = {"annotations": [{"image_id": 1, "caption": "red"}]}
    (tmp_path / "c.json").write_text(json.dumps(notes))
    out = ("--out", tmp_path / "said.parquet")
    words = {
        "ask": (tmp_path / "t.csv", "--captions", tmp_path / "c.json", "--model", folder),
        "caption": (folder, *out),
        "interrogate": (folder, "--bank", tmp_path / "bank.txt", *out),
        "draw": ("red", "--decoder", folder, "--out", tmp_path / "x.png"),
        "write": (tmp_path / "a.png", "--encoder", folder),
    }
    refused(command, *words[command])
    assert not mark.exists()


def test_a_tokenizer_of_another_model_is_refused(
    refused, tiny_folder, tiny_decoder, sd_folder, tmp_path
):
    from dd.encoder import Encoder

    folder = shutil.copytree(tiny_folder, tmp_path / "decoder")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(sd_folder / "tokenizer", folder / "tokenizer")
    line = refused(*DRAW, "--decoder", folder, "--out", tmp_path / "x.png")
    assert "its tokenizer has 602 tokens, its text encoder " in line
    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    for file in (sd_folder / "tokenizer").iterdir():
        shutil.copy(file, tmp_path / "encoder")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    line = refused("write", tmp_path / "a.png", "--encoder", tmp_path / "encoder")
    assert "its tokenizer has 602 tokens, its pooler " in line
    folder = shutil.copytree(ROOT / "dd/assets/encoder", tmp_path / "shipped")
    shutil.copy(ROOT / "dd/assets/judge-b/tokenizer/tokenizer.json", folder)  # has fewer
    line = refused("write", tmp_path / "a.png", "--encoder", folder)
    assert "its tokenizer has 2048 tokens, its pooler 4050; they must belong together" in line


def test_another_model_is_no_encoder(refused, sd_folder, llm_folder, clip_folder, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    for folder in (sd_folder, sd_folder / "unet", llm_folder, clip_folder):
        line = refused("write", tmp_path / "a.png", "--encoder", folder)
        assert "neither shipped nor a folder made by save(); see python -m dd train-enc" in line


def test_an_adapter_and_a_choice_of_weights_are_refused(refused, llm_folder, tmp_path):
    folder = shutil.copytree(llm_folder, tmp_path / "lm")
    (tmp_path / "t.csv").write_text("id,text\n1,red\n")
    (tmp_path / "c.json").write_text('{"annotations": [{"image_id": 1, "caption": "red"}]}')
    asked = ("ask", tmp_path / "t.csv", "--captions", tmp_path / "c.json", "--model", folder)
    (folder / "a.gguf").write_bytes(b"")
    assert "a.gguf is not its only file of weights; keep one" in refused(*asked)
    (folder / "a.gguf").rename(folder / "adapter_config.json")
    assert "an adapter, which is not read; merge it into its model" in refused(*asked)


def test_results_named_from_here_are_written_here(told, one_notebook, tmp_path, monkeypatch):
    one_notebook("import os; open('where', 'w').write(os.environ['DD_RESULTS'])")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DD_RESULTS", "out")
    assert told("run", "quick")[0] == 0
    assert (tmp_path / "where").read_text() == str(tmp_path / "here" / "out")


def test_a_part_that_another_needs_is_named(refused, tmp_path):
    anew = ("train-decoder", "--out", tmp_path)
    assert "run `train-decoder --name autoencoder` first" in refused(*anew, "--name", "sketch")
    line = refused(*anew, "--name", "judge-b-guide", "--start", tmp_path / "none")
    assert f"{tmp_path}/none/judge-b/made: not there; run `train-decoder --name judge-b`" in line
