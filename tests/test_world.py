"""Worlds, encoders and judges of one's own: the texts of a COCO folder, scored through other
pipelines, and the study's table of it; on miniatures of the real classes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL
from PIL import Image

import dd.__main__ as commands
from dd import data, metrics, train, writing
from dd.__main__ import main
from dd.captions import alt_text_phrases
from dd.data import load_dataset
from dd.decoder import Decoder
from dd.encoder import Encoder
from dd.study import BadParameter, Study, check_run, fingerprint
from dd.study.parameters import NOTEBOOKS, ROOT, load_parameters, taken
from dd.study.run import prepared
from dd.study.world import LEFT_OUT, for_world

M = 72


@pytest.fixture(scope="module")
def coco(tmp_path_factory, whole_dataset):
    """MS-COCO's files, of emoji: pictures in a folder, two captions an image in annotations/."""
    root, some = tmp_path_factory.mktemp("coco"), whole_dataset.subset("test", M)
    (root / "val2014").mkdir(), (root / "annotations").mkdir()
    images, annotations = [], []
    for i, (picture, name) in enumerate(zip(some.images, some.frame["name"])):
        images.append({"id": i, "file_name": f"COCO_{i:012}.png"})
        Image.fromarray(picture).resize((60, 48)).save(root / "val2014" / images[-1]["file_name"])
        said = (f"A picture of {name}.", f"{name} on white")
        annotations += [{"image_id": i, "caption": caption} for caption in said]
    captions = root / "annotations" / "captions_val2014.json"
    captions.write_text(json.dumps({"images": images, "annotations": annotations}))
    return ["--world", str(captions), "--images", str(root / "val2014")]


@pytest.fixture(scope="module")
def sd2_folder(tmp_path_factory, sd_folder):
    """Stable Diffusion 2 in miniature: velocity, linear projections, heads by their width."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(2)
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None)
    linear = dict(use_linear_projection=True, attention_head_dim=[2, 4])
    pipeline.unet = UNet2DConditionModel.from_config({**pipeline.unet.config, **linear})
    config = {**pipeline.scheduler.config, "prediction_type": "v_prediction"}
    pipeline.scheduler = DDIMScheduler.from_config(config)
    folder = tmp_path_factory.mktemp("decoders") / "sd2"
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def text_encoder(tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    size = dict(vocab_size=len(tokenizer), max_position_embeddings=20, projection_dim=32)
    config = CLIPTextConfig(**SMALL | size | {k: getattr(tokenizer, k) for k in ids})
    return CLIPTextModelWithProjection(config)


@pytest.fixture(scope="module", params=["sdxl", "sd3"])
def judge(request, tmp_path_factory, sd_folder, bpe_tokenizer):
    """Stable Diffusion XL and 3 (flow matching) in miniature, every part of the real class."""
    import diffusers

    torch.manual_seed(3)
    vae = diffusers.AutoencoderKL.from_pretrained(sd_folder, subfolder="vae")
    shared = dict(vae=vae, tokenizer=bpe_tokenizer, tokenizer_2=bpe_tokenizer)
    shared |= {k: text_encoder(bpe_tokenizer) for k in ("text_encoder", "text_encoder_2")}
    if request.param == "sdxl":
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            cross_attention_dim=64,
        )
        scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear")
        made = diffusers.StableDiffusionXLPipeline(unet=unet, scheduler=scheduler, **shared)
    else:
        transformer = diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
        )
        vae.register_to_config(shift_factor=0.0)
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        third = dict(text_encoder_3=None, tokenizer_3=None)
        made = diffusers.StableDiffusion3Pipeline(
            transformer=transformer, scheduler=scheduler, **shared, **third
        )
    folder = tmp_path_factory.mktemp("judges") / request.param
    made.save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_judge_draws_by_its_own_call_and_nothing_is_trained_through_it(judge, coco, capsys):
    from diffusers import DiffusionPipeline

    texts, how = ["red circle", "blue cat"], dict(guidance=3.0, steps=3)
    drawer = Decoder.load(judge, judge=True)
    assert drawer.size == 16
    pictures = drawer.draw(texts, ["a", "b"], **how)
    assert pictures.shape == (2, 16, 16, 3) and pictures.dtype == np.uint8
    alone = drawer.draw(texts[1:], ["b"], B=1, **how)  # noise is the image's own
    assert abs(alone[0].astype(int) - pictures[1]).max() <= 1
    same_noise = drawer.draw(texts, ["b", "b"], **how)
    assert not np.array_equal(same_noise[0], same_noise[1])  # the text is read
    third = ("text_encoder_3", "tokenizer_3") if judge.name == "sd3" else ()
    pipeline = DiffusionPipeline.from_pretrained(judge, **dict.fromkeys(third))
    pipeline.set_progress_bar_config(disable=True)
    stream = torch.Generator().manual_seed(data.stable_hash("0/start/b"))
    theirs = pipeline(texts[1], guidance_scale=3.0, num_inference_steps=3, generator=stream)
    assert abs(np.asarray(theirs.images[0]).astype(int) - pictures[1]).max() <= 1
    assert main(["train-encoder", *coco, "--decoder", str(judge), "--out", "no"]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "device" not in x]
    assert "can judge (score, draw), no more; taken are folders of a StableDiffusionPip" in line


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, sd_folder, coco, clip_folder):
    """Of three tokens, with CLIP's tower, trained through the first decoder for two steps."""
    out = tmp_path_factory.mktemp("encoders") / "my-encoder"
    how = ["--decoder", str(sd_folder), "--tokens", "3", "--seen", "128", "--least", "0"]
    world = Path(coco[1])
    pictures = pd.DataFrame(json.loads(world.read_text())["images"])
    table = pictures.assign(text="a picture", split="train")
    table.to_csv(world.with_name("train.csv"), index=False)
    there = ["--world", str(world.with_name("train.csv")), *coco[2:]]
    how += ["--backbone", str(clip_folder)]
    assert main(["train-encoder", *there, *how, "--out", str(out)]) == 0
    return out


def test_features_and_latents_are_held_or_computed_as_they_come(
    coco, encoder, sd_folder, clip_folder, tmp_path, monkeypatch
):
    """Images that stay on disk train as those in memory do."""
    there = ["--world", str(Path(coco[1]).with_name("train.csv")), *coco[2:]]
    how = ["--decoder", str(sd_folder), "--tokens", "3", "--seen", "128", "--least", "0"]
    how += ["--backbone", str(clip_folder), "--out", str(tmp_path / "mine")]
    monkeypatch.setattr(data, "IN_MEMORY", 5 * 16 * 16 * 3)
    monkeypatch.setattr(train, "of_images", lambda compute, images: compute(images.pixels()))
    assert main(["train-encoder", *there, *how]) == 0
    logs = [
        (out / "encoder.jsonl").read_text().splitlines() for out in (encoder, tmp_path / "mine")
    ]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 2


def written(out) -> dict:
    return pd.read_parquet(out).set_index("id")["text"].to_dict()


def test_texts_of_a_world_are_of_pictures_of_the_decoders_size(
    coco, encoder, tmp_path, monkeypatch, capsys
):
    """Stopped and gone on with, one by one and as a set: the same texts."""
    monkeypatch.setattr(writing, "STEP", 16)
    calls, plain = [], Encoder.write

    def stopped(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, pixels)

    monkeypatch.setattr(Encoder, "write", stopped)
    out = tmp_path / "texts.parquet"
    words = ["write", coco[1], *coco[2:], "--encoder", str(encoder), "--out", str(out)]
    assert main(words) == 130 and not out.exists()
    assert "the same command goes on where it stopped" in capsys.readouterr().err
    assert main(words) == 0
    assert calls == [16, 16, 16, 16, 16, 8] and len(written(out)) == M  # the third twice
    assert not list(tmp_path.glob("*part*")) and capsys.readouterr().out == f"{out}\n"
    dataset = load_dataset(coco[1], coco[3], size=16)  # what the encoder was trained on
    assert plain(Encoder.load(encoder), dataset.pixels()) == list(written(out).values())
    monkeypatch.setattr(Encoder, "write", plain)
    files = [str(Path(coco[3]) / f"COCO_{i:012}.png") for i in range(3)]
    assert main(["write", *files, "--encoder", str(encoder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[1] for line in lines] == list(written(out).values())[:3]
    # a folder of pictures without captions; some of them, the ones that a study takes
    few = tmp_path / "few.parquet"
    assert main(["write", coco[3], "--encoder", str(encoder), "--out", str(few), "--n", "5"]) == 0
    ids = load_dataset(coco[3], size=16, captions=False).subset("all", 5).frame["id"]
    assert list(written(few)) == list(ids)
    assert main(["write", coco[3], "--encoder", str(encoder)]) == 2
    assert "a data set; give --out FILE" in capsys.readouterr().err


def test_a_worlds_own_splits_are_kept_apart(coco, encoder, tmp_path, capsys):
    """--split in any world that has some; else the test split, told, and not one training row."""
    world, out = tmp_path / "captions.csv", tmp_path / "texts.parquet"
    table = pd.DataFrame({"file_name": [f"COCO_{i:012}.png" for i in range(9)], "text": "a"})
    table["id"] = [f"i{k}" for k in range(9)]
    table["split"] = [*["train"] * 4, *["val"] * 3, "", ""]
    told = lambda: [x for x in capsys.readouterr().err.splitlines() if "split" in x.split()]

    def texts(*more, code=0) -> list[str]:
        words = ["write", str(world), *coco[2:], "--encoder", str(encoder), "--out", str(out)]
        assert main([*words, *more]) == code
        return list(written(out)) if code == 0 else []

    table.to_csv(world, index=False)
    assert texts() == ["i7", "i8"]  # named as none, where others are
    assert "split test: 2 of 9 images; --split takes one of test, train, val" in told()[-1]
    assert texts("--split", "val") == ["i4", "i5", "i6"] and not told()
    assert texts("--split", "train", "--n", "1")[0] in ("i0", "i1", "i2", "i3")
    assert texts("--split", "novel", code=2) == [] and "has no split 'novel'" in told()[-1]
    (tmp_path / "ids").write_text("i5\ni0\n")
    assert texts("--ids", str(tmp_path / "ids")) == ["i5", "i0"]  # these alone
    assert "split all: 2 of 2 images" in told()[-1]
    table[:7].to_csv(world, index=False)
    assert len(texts()) == 7 and "split all: 7 of 7 images" in told()[-1]
    table.drop(columns="split").to_csv(world, index=False)
    assert len(texts()) == 9 and not told()
    assert texts("--split", "test", code=2) == []
    assert "names no splits; leave --split out" in capsys.readouterr().err


def test_pictures_of_kept_scores_are_drawn_again_where_they_are_not_there(
    coco, sd2_folder, clip_folder, tmp_path, monkeypatch, capsys
):
    """Nor are those of other texts taken for them."""
    ids, P, calls, draw = map(str, range(40)), tmp_path / "P" / "sd2-1-0", [], Decoder.draw
    table = pd.DataFrame({"id": list(ids), "text": "red"})
    table.to_csv(tmp_path / "a.csv", index=False)
    table.assign(text="blue").to_csv(tmp_path / "b.csv", index=False)
    how = [*coco, "--decoder", str(sd2_folder), "--features", str(clip_folder), "--steps", "1"]
    how += ["--guidance", "1", "--keep", str(tmp_path / "K")]
    monkeypatch.setattr(Decoder, "draw", lambda *a, **k: calls.append(1) or draw(*a, **k))

    def score(name: str, *more) -> str:
        assert main(["score", str(tmp_path / name), *how, *more]) == 0
        return capsys.readouterr().err

    plain, pictures = score("a.csv"), ("--pictures", str(tmp_path / "P"))
    assert not P.exists() and "drawn again" not in plain
    assert score("a.csv", *pictures).count("drawn again") == 1 and len(calls) == 2
    first = {p.name: p.read_bytes() for p in P.iterdir()}
    assert len(first) == 40 and "drawn again" not in score("a.csv", *pictures) and len(calls) == 2
    score("b.csv", *pictures)
    assert "drawn again" in score("a.csv", *pictures) and len(calls) == 4
    assert {p.name: p.read_bytes() for p in P.iterdir()} == first


@pytest.mark.slow
def test_three_commands(
    coco, encoder, sd2_folder, judge, clip_folder, tmp_path, monkeypatch, capsys
):
    """Write the texts, score them through others than the decoder trained through, make the
    tables."""
    texts, kept = tmp_path / "texts.parquet", tmp_path / "kept"
    words = ["write", coco[1], *coco[2:], "--encoder", str(encoder), "--out", str(texts)]
    assert main(words) == 0
    seen = ["--features", str(clip_folder), "--steps", "2", "--guidance", "2"]
    for decoder in (sd2_folder, judge):
        out = tmp_path / f"{decoder.name}.csv"
        words = ["score", str(texts), *coco, "--decoder", str(decoder), "--out", str(out)]
        seen[6:] = ["--pictures", str(tmp_path / "drawn")]
        assert main([*words, *seen, "--keep", str(kept)]) == 0
        drawn = tmp_path / "drawn" / f"{decoder.name}-2-0"
        assert sorted(p.name for p in drawn.iterdir()) == sorted(f"{i}.png" for i in range(M))
        (row,) = pd.read_csv(out).to_dict("records")
        assert row["n"] == M and row["decoder"] == decoder.name and row["fid"] > 0
        listed = out.with_suffix(".ids.txt").read_text().split()
        assert row["ids"] == fingerprint(listed) and set(listed) == {str(i) for i in range(M)}
    monkeypatch.setattr(Decoder, "draw", None)  # what is kept is not drawn again
    words[words.index(str(judge))], words[-1] = str(sd2_folder), str(tmp_path / "again.csv")
    assert main([*words, *seen, "--keep", str(kept)]) == 0
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "sd2.csv").read_text()
    few = tmp_path / "few.txt"
    few.write_text("7\n3\n\n")
    words = ["write", coco[1], *coco[2:], "--encoder", str(encoder), "--ids", str(few), "--out"]
    assert main([*words, str(tmp_path / "few.parquet")]) == 0
    assert written(tmp_path / "few.parquet") == {i: written(texts)[i] for i in ("7", "3")}
    few.write_text("7\n007x\n")
    assert main([*words, str(tmp_path / "none.parquet")]) == 2
    assert "few.txt: 1 ids not in" in capsys.readouterr().err


def run_here(name: str, parameters: dict, folder: Path) -> None:
    """A notebook's cells in this process, as Papermill would run them: without a kernel's start."""
    from IPython.core.interactiveshell import InteractiveShell

    notebook = for_world(ROOT / "notebooks" / f"{name}.ipynb", folder / name, parameters)
    assert LEFT_OUT in notebook.read_text() or name in ("04_texts", "05_metrics")
    told = f"`{Path(parameters['decoder']).name}`: where they say" in notebook.read_text()
    assert told == ("world" in taken(name))
    shell = InteractiveShell()
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
        if "parameters" in cell.metadata.get("tags", ()):
            shell.push({p: parameters[p] for p in taken(name)})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_of_another_world_that_is_run_as_it_is(name, tmp_path, capsys):
    """By Papermill or by hand, not by `run`: a cell of the emoji world alone steps aside."""
    from IPython.core.interactiveshell import InteractiveShell

    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    of_emoji = lambda cell: "emoji" in cell.metadata.get("tags", ()) and cell.cell_type == "code"
    for world, told in (("my.json", LEFT_OUT.strip("*") + "\n"), ("emoji", "")):
        shell = InteractiveShell()
        shell.push({"world": world} if "world" in taken(name) else {})
        begin = f"from dd.study import Study\nstudy = Study.of_notebook({name!r}, globals())"
        shell.run_cell(begin).raise_error()
        shell.run_cell("print('another')").raise_error()
        assert capsys.readouterr().out == "another\n"
        for cell in filter(of_emoji, cells if told else ()):
            shell.run_cell(cell.source).raise_error()
            assert capsys.readouterr().out == told


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["sdxl"], indirect=True)
def test_the_study_of_a_world(
    coco, encoder, sd2_folder, judge, clip_folder, llm_folder, tmp_path, capfd
):
    given = dict(world=coco[1], world_images=coco[3], encoder=encoder, decoder=sd2_folder)
    given |= dict(features=clip_folder, n_test=0, steps=2, study="tiny", rivals="[names_turn]")
    words = [w for name, value in given.items() for w in ("-p", f"{name}={value}")]
    assert main(["run", "coco", *words, "--only", "05_reconstruction"]) == 0, capfd.readouterr().err
    told = capfd.readouterr()
    assert "people: name" in told.out
    folder = tmp_path / "results" / "tiny"
    table = pd.read_csv(folder / "reconstruction.csv").set_index("source")
    assert (table.loc[["names", "names_keywords", "dediffusion", "shuffled"], "n"] == M).all()
    assert not {"alt_text", "names_style", "ideal_name"} & set(table.index)
    assert set(table["ids"]) == {fingerprint(sorted(map(str, range(M))))}
    texts = pd.read_parquet(folder / "texts" / "test" / "names_keywords.parquet")["text"]
    assert texts.str.match("a picture of (.*) \\1 on white").all()  # all captions, joined
    turn = pd.read_parquet(folder / "texts" / "test" / "names_turn.parquet").set_index("id")["text"]
    named = turn.index.isin([i for i, text in turn.items() if text.startswith("a picture of")])
    assert list(named) == [True, False] * (M // 2)  # first, second, first again
    notes = (folder / "tables" / "reconstruction.md").read_text()
    assert "features of clip, not" in notes and "style" not in notes
    assert "trained through" not in notes  # the decoder need not be that one
    assert (folder / "report" / "05_reconstruction.html").exists()
    parameters = json.loads((folder / "parameters" / "05_reconstruction.json").read_text())
    parameters |= dict(judges=[str(judge)], language_models=[str(llm_folder)])
    parameters = prepared({**load_parameters("coco"), **parameters})
    for name in NOTEBOOKS:  # the others; notebook 0 is of no world
        if name not in ("00_digits", "05_reconstruction"):
            run_here(name, parameters, tmp_path)
    table = pd.read_csv(folder / "reconstruction.csv").set_index(["decoder", "source"])
    drawn = table.loc[str(judge)].drop("real")
    assert drawn.index[0] == "names" and (drawn["n"] == M).all()  # no autoencoder: it only draws
    assert "search" not in table.index and not (folder / "few_shot.csv").exists()
    assert set(pd.read_csv(folder / "blending.csv")["similarity to"]) > {"no parent"}


def test_originals_are_of_the_decoders_size_and_the_encoder_sees_its_own(
    coco, encoder, sd_folder, sd2_folder, tmp_path
):
    """As `score` loads originals and `write` shows pictures, whichever size the encoder's is; a
    judge's originals are of its own."""
    small = tmp_path / "small"
    Encoder.load(encoder).save(small)
    recipe = json.loads((small / "recipe.json").read_text())
    (small / "recipe.json").write_text(json.dumps(recipe | {"size": 12}))
    given = dict(world=coco[1], world_images=coco[3], encoder=str(small), n_test=9)
    study = Study({"study": "sizes", "decoder": str(sd_folder), **given})
    assert np.array_equal(study.dataset.images, load_dataset(coco[1], coco[3], 16).images)
    seen = load_dataset(coco[1], coco[3], 12).subset("test", 9)
    assert study.enc.write(seen.pixels()) == study.texts("dediffusion")
    assert study.through(str(sd2_folder)).subset("test") is study.subset("test")
    config = shutil.copytree(sd2_folder, tmp_path / "larger") / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 12}))
    judge = study.through(str(tmp_path / "larger"))
    assert judge.subset("test").images.shape[1] == 24
    assert list(judge.subset("test").frame["id"]) == list(study.subset("test").frame["id"])


def test_emoji_are_of_the_decoders_size_too(
    tiny_folder, sd_folder, whole_dataset, tmp_path, monkeypatch
):
    """Drawn, compared and trained on in 16 pixels, written of in the shipped encoder's 64; judges,
    the search engine and drawings of other hands each in theirs."""
    monkeypatch.setattr(data, "IN_MEMORY", 0)  # and not held, as of 512 pixels they would not be
    study = Study({"study": "small", "decoder": str(sd_folder), "n_test": 5, "steps": 1})
    test, plain = study.subset("test"), whole_dataset.subset("test", 5)
    assert isinstance(test.images, data.Pictures) and len(study.dataset) == len(whole_dataset)
    assert list(test.frame["id"]) == list(plain.frame["id"])
    assert alt_text_phrases(test) == alt_text_phrases(plain)
    assert test.images.shape[1:] == study.drawn("names", "test", 2.0)[1].shape[1:] == (16, 16, 3)
    assert study.latents("test").shape[1:] == (study.dec.C, study.dec.h, study.dec.h)
    assert study.texts("dediffusion") == Encoder.load("encoder").write(plain.pixels())
    assert torch.equal(study.real("test"), metrics.image_features(test.images[:]))
    assert "soft" not in study.sources  # the encoder's words are others than the decoder's
    outside = study.subset("outside").rows(range(4))
    assert outside.images.shape[1] == 16 and study.shown(outside).images.shape[1] == 64
    judge = study.through(str(tiny_folder))
    assert np.array_equal(judge.subset("test").images[:], plain.images)
    assert torch.equal(judge.real("test"), metrics.image_features(plain.images))
    assert judge.engine.shown.images.shape[1] == 64 and study.engine.shown.images.shape[1] == 16
    assert study.through(study.decoder) is study and judge.texts("names") == study.texts("names")
    trained = Study({**study.parameters, "encoder": "trained"})  # by a notebook, not yet
    assert trained.shown(test) is test


def test_what_a_world_lacks_is_told_at_once(coco, tiny_decoder, tmp_path):
    given = dict(world="nowhere.json", rivals=["captioner"], n_novel=400)
    with pytest.raises(BadParameter) as caught:
        check_run(given)
    lines = str(caught.value).split("\n")
    assert [line.split()[0] for line in lines] == ["world", "encoder", "captioner,"]
    old = Encoder.new(tiny_decoder, 3, D=32, blocks=1)
    old.recipe = {}  # of an earlier version
    old.save(tmp_path / "old")
    with pytest.raises(BadParameter, match="^encoder 'old': its recipe.json names no size of pict"):
        check_run(dict(world=coco[1], world_images=coco[3], encoder=str(tmp_path / "old")))


def test_a_data_set_that_would_fill_the_memory_stays_on_disk(coco, monkeypatch):
    held = load_dataset(coco[1], coco[3], size=24)
    monkeypatch.setattr(data, "IN_MEMORY", 5 * 24 * 24 * 3)
    lazy = load_dataset(coco[1], coco[3], size=24)
    assert isinstance(held.images, np.ndarray) and isinstance(lazy.images, data.Pictures)
    assert lazy.images.shape == held.images.shape and len(lazy.images) == M
    assert lazy.fingerprint() == held.fingerprint()
    assert torch.equal(lazy.pixels(slice(60, None)), held.pixels(slice(60, None)))
    few, same = lazy.subset("test", 9), held.subset("test", 9)
    assert isinstance(few.images, data.Pictures) and np.array_equal(few.images[:], same.images)
    assert np.array_equal(few.images[8], same.images[8])


ON_DISK = """
import sys
from dd import __main__ as commands, data
data.IN_MEMORY = 0
assert commands.main() == 0
(most,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(most.split()[1])  # kB; of getrusage a child has its parent's peak
"""


def peak(*words) -> float:
    """Memory of a command in a process of its own, MB, none of a data set's pictures held."""
    settings = {**os.environ, "PYTHONPATH": str(Path(commands.__file__).parent.parent)}
    command = [sys.executable, "-c", ON_DISK, *map(str, words)]
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(
    whole_dataset, tiny_decoder, tiny_folder, clip_folder, tmp_path
):
    """write and train-encoder at 1,000 and 10,000 of them. Held, 9,000 would take 110 MB as bytes,
    440 as numbers, 37 as latents."""
    Encoder.new(tiny_decoder, 4, D=32, blocks=1, backbone=clip_folder).save(tmp_path / "encoder")
    for i, image in enumerate(whole_dataset.images[:64]):
        Image.fromarray(image).save(tmp_path / f"{i}.jpg")
    used = {}
    for n in (1000, 10_000):
        (tmp_path / f"{n}").mkdir()
        for i in range(n):
            os.link(tmp_path / f"{i % 64}.jpg", tmp_path / f"{n}" / f"{i}.jpg")
        rows = {"file_name": [f"{i}.jpg" for i in range(n)], "text": "red", "split": "train"}
        pd.DataFrame(rows).to_csv(tmp_path / f"{n}" / "metadata.csv", index=False)
        how = ["--tokens", 4, "--width", 32, "--blocks", 1, "--backbone", clip_folder]
        how += ["--decoder", tiny_folder, "--least", 0, "--seen", 640, "--out", tmp_path / f"t{n}"]
        texts = ("--encoder", tmp_path / "encoder", "--out", tmp_path / f"{n}.parquet")
        used[n] = (
            peak("write", tmp_path / f"{n}", *texts),
            peak("train-encoder", "--world", tmp_path / f"{n}", *how),
        )
        assert len(written(tmp_path / f"{n}.parquet")) == n
    for few, many in zip(*used.values()):
        assert many < few + 60, used


def test_other_eyes(clip_folder, dinov2_folder, small_dataset):
    images = small_dataset.images[:10]
    for folder, D in ((clip_folder, 16), (dinov2_folder, 24)):
        assert metrics.width(str(folder)) == D
        seen = metrics.image_features(images, eye=str(folder))
        assert seen.shape == (10, D) and seen.dtype == torch.float32
        alone = metrics.image_features(images[3:4], eye=str(folder))
        assert torch.allclose(alone[0], seen[3], atol=1e-5) and seen.std(0).min() > 0
    with pytest.raises(data.BadData, match="no such file of weights"):
        metrics.width("inception:nowhere.pth")


def test_scores_of_many_images_in_parts(monkeypatch):
    torch.manual_seed(0)
    real, fake = torch.randn(300, 8), torch.randn(300, 8) + 0.4
    whole, every = metrics.KID(real, fake).value(), metrics.retrieval(real, fake)
    monkeypatch.setattr(metrics, "BLOCK", 60)
    scores = metrics.score(real, fake, bootstraps=20)
    assert scores["kid"] != whole and abs(scores["kid"] - whole) < 0.2 * whole
    assert scores["kid_lo"] < whole < scores["kid_hi"]
    assert torch.equal(metrics.retrieval(real, fake), every)
