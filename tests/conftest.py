"""Tiny but real components: decoders saved and loaded as the shipped ones are, a small dataset."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from importlib import import_module

import pandas as pd
import pytest
import torch
from PIL import Image

from dd import data, train
from dd.__main__ import main
from dd.captions import alt_text, alt_text_phrases
from dd.data import load_dataset
from dd.decoder import Decoder
from dd.make_decoders import new_sketch
from dd.vocab import build_word_tokenizer

torch.set_num_threads(min(2, torch.get_num_threads()))
# a shell starts what runs in the background with Ctrl-C ignored, and processes of tests inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_results(tmp_path, monkeypatch):
    """No test writes into the repository's results."""
    monkeypatch.setenv("DD_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def float32(monkeypatch):
    """Parity is checked in float32: bfloat16 rounds what a test wants to see."""
    from dd.runtime import plain_float32

    with plain_float32():
        yield


@pytest.fixture(scope="session")
def whole_dataset():
    return load_dataset("emoji")


@pytest.fixture(scope="session")
def small_dataset(whole_dataset):
    return whole_dataset.subset("train", 64)


@pytest.fixture(scope="session")
def mixture_texts(small_dataset):
    return [alt_text(p, limit=10_000) for p in alt_text_phrases(small_dataset)]


class Killed(Exception):
    pass


def killed_after(monkeypatch, steps: int):
    """The real Progress, until the process dies at its n-th call: before that step's checkpoint."""

    class Dying(train.Progress):
        calls = 0

        def __call__(self, done, note=""):
            Dying.calls += 1
            if Dying.calls == steps:
                raise Killed
            super().__call__(done, note)

    monkeypatch.setattr(train, "Progress", Dying)


def assert_same(a: dict, b: dict):
    assert a.keys() == b.keys()
    for k in a:
        assert torch.equal(a[k], b[k]), k


def tiny_vae():
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny(
        in_channels=3,
        out_channels=3,
        latent_channels=16,
        encoder_block_out_channels=(16,) * 4,
        decoder_block_out_channels=(16,) * 4,
        num_encoder_blocks=(0, 0, 1, 1),
        num_decoder_blocks=(1, 1, 0, 0),
        scaling_factor=1.0,
    )


def quick_features(images, *a, **k):
    """Every 35th number of a picture: enough for the plumbing of scores, and no network runs."""
    return torch.from_numpy(images.reshape(len(images), -1)[:, ::35][:, :352]).float()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, mixture_texts):
    """A pipeline folder of the shipped decoder's shape, untrained."""
    folder = tmp_path_factory.mktemp("decoders") / "tiny"
    vae = tiny_vae()
    new_sketch(
        build_word_tokenizer(mixture_texts, max_length=32), vae, channels=(32, 64), D=64, layers=1
    ).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def tiny_decoder(tiny_folder):
    return Decoder.load(tiny_folder)


@pytest.fixture(scope="session")
def bpe_tokenizer(mixture_texts):
    """The real CLIPTokenizer class over a small byte-pair vocabulary learnt here: sub-words,
    end-of-word marks, punctuation."""
    import json

    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    core = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"'s|[a-z]+|[0-9]|[^\sa-z0-9]+"), "removed", invert=True
    )  # as CLIP cuts words
    core.train_from_iterator(
        [*mixture_texts, "red, blue! (round) 3 2 1. sky-high: it's"] * 3,
        trainers.BpeTrainer(vocab_size=600, end_of_word_suffix="</w>", show_progress=False),
    )
    learnt = json.loads(core.to_str())["model"]
    vocab = dict(learnt["vocab"])
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    return CLIPTokenizer(
        vocab=vocab, merges=[tuple(m) for m in learnt["merges"]], model_max_length=20
    )


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory, bpe_tokenizer):
    """Stable Diffusion 1 in miniature, every part of the real class: AutoencoderKL, CLIPTextModel,
    CLIPTokenizer, PNDM, epsilon."""
    from diffusers import (
        AutoencoderKL,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(bpe_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=20,
            bos_token_id=bpe_tokenizer.bos_token_id,
            eos_token_id=bpe_tokenizer.eos_token_id,
            pad_token_id=bpe_tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    folder = tmp_path_factory.mktemp("decoders") / "sd"
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=bpe_tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def sd_decoder(sd_folder):
    return Decoder.load(sd_folder)


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory):
    """judge-a's shape: the real MiniLM from its package, a small diffusion transformer with an
    output that is not zero."""
    from dd.make_decoders import new_judge_a

    vae = tiny_vae()
    torch.manual_seed(1)
    pipeline = new_judge_a(vae, D=64, layers=1)
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.1)
    folder = tmp_path_factory.mktemp("decoders") / "judge"
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def judge_decoder(judge_folder):
    return Decoder.load(judge_folder)


@pytest.fixture(scope="session")
def spelling_decoder(tmp_path_factory, mixture_texts):
    """judge-b's shape: byte-level pieces of words, a T5 encoder, three levels."""
    from dd.make_decoders import new_judge_b
    from dd.vocab import build_byte_tokenizer

    vae = tiny_vae()
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("decoders") / "spelling"
    new_judge_b(
        build_byte_tokenizer(mixture_texts, max_length=32, V=400),
        vae,
        channels=(32, 64, 64),
        D=48,
        layers=1,
    ).save_pretrained(folder, safe_serialization=True)
    return Decoder.load(folder)


@pytest.fixture(params=["sketch", "judge-a", "judge-b", "stable-diffusion"])
def decoder(request):
    return request.getfixturevalue(
        {
            "sketch": "tiny_decoder",
            "judge-a": "judge_decoder",
            "judge-b": "spelling_decoder",
            "stable-diffusion": "sd_decoder",
        }[request.param]
    )


@pytest.fixture(scope="session")
def small_patches(small_dataset):
    from dd.encoder import backbone_features
    from dd.runtime import plain_float32

    with plain_float32():  # kept for the session, so never in a test's own number format
        return backbone_features(small_dataset.pixels())


@pytest.fixture(scope="session")
def small_latents(small_dataset, tiny_decoder):
    from dd.runtime import plain_float32
    from dd.train import encode_all

    with plain_float32():
        return encode_all(tiny_decoder, small_dataset)


def narrow_features(images, *a, **k):
    """Fewer numbers than drawings, and no row of originals: half the drawings are fewer still."""
    return quick_features(images)[:, :64]


@pytest.fixture
def study(tiny_folder, tiny_decoder, whole_dataset, tmp_path):
    from dd.encoder import Encoder
    from dd.study import Study

    Encoder.new(tiny_decoder, 5, D=32, blocks=1).save(tmp_path / "encoder")
    sizes = dict(tokens=5, n_test=10, n_val=10, guidance=2.0, guidances=[1.0, 2.0], steps=2)
    folders = dict(decoder=str(tiny_folder), encoder=str(tmp_path / "encoder"))
    study = Study({"study": "tiny", **folders, **sizes})
    study.dataset = whole_dataset  # read once for all tests
    return study


@pytest.fixture
def cheap_study(tiny_folder, whole_dataset, tmp_path, monkeypatch):
    """Studies of the whole path, 120 drawings a source: an untrained decoder and encoder, one step,
    cheap image features of fewer numbers than drawings."""
    from dd import metrics
    from dd.encoder import Encoder
    from dd.study import Study

    Encoder.new(Decoder.load(tiny_folder), 5, D=32, blocks=1).save(tmp_path / "encoder")
    monkeypatch.setattr(metrics, "image_features", narrow_features)
    monkeypatch.setitem(metrics.score.__kwdefaults__, "bootstraps", 2)
    folders = dict(decoder=str(tiny_folder), encoder=str(tmp_path / "encoder"))
    sizes = dict(tokens=5, n_test=120, guidance=1.0, guidances=[1.0], steps=1)

    def make(name, **more):
        study = Study({"study": name, **folders, **sizes, **more})
        study.dataset = whole_dataset
        return study

    return make


@pytest.fixture
def no_features(monkeypatch):
    """Features and latents that are all 0, where what is learnt does not matter."""
    from dd.encoder import FEATURES, P
    from dd.study import Study

    zeros = lambda self, split, _=None: torch.zeros(len(self.subset(split)), P, FEATURES).half()
    monkeypatch.setattr(Study, "patches", zeros)
    shape = lambda self: (self.dec.C, self.dec.h, self.dec.h)
    zeros = lambda self, split: torch.zeros(len(self.subset(split)), *shape(self))
    monkeypatch.setattr(Study, "latents", zeros)


@pytest.fixture(scope="session")
def pieces():
    """Byte-level pieces (GPT-2's and SmolLM2's kind), which keep case and line breaks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    core.train_from_iterator(
        ["Context: red blue\nQuestion: what\nAnswer: red$\n"] * 9,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<|end|>", "<|start|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", bos_token="<|start|>", pad_token="<|end|>"
    )


def tiny_llm(kind, pieces, L=256):
    """A small language model with random weights, of a real class."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    size = dict(
        vocab_size=len(pieces),
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=L,
        eos_token_id=0,
        bos_token_id=1,
    )
    if kind == "llama":
        net = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **size))
    else:
        window = dict(sliding_window=16, sliding_window_pattern=2)
        net = Gemma3ForCausalLM(Gemma3TextConfig(num_hidden_layers=3, head_dim=8, **window, **size))
    for p in net.parameters():  # a wider spread: a model whose answers differ
        torch.nn.init.normal_(p, std=0.25) if p.dim() > 1 else None
    return net


@pytest.fixture(scope="session")
def llm_folder(pieces, tmp_path_factory):
    """A tiny language model as `from_pretrained` reads it."""
    folder = tmp_path_factory.mktemp("llm")
    tiny_llm("llama", pieces, L=2048).save_pretrained(folder)
    pieces.save_pretrained(folder)
    return folder


SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory, bpe_tokenizer):
    """CLIP in miniature, every part of the real class, with weights as they fall."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTextConfig,
        CLIPVisionConfig,
    )

    folder, ids = (
        tmp_path_factory.mktemp("clips") / "clip",
        bpe_tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"]),
    )
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            vocab_size=len(bpe_tokenizer),
            max_position_embeddings=20,
            bos_token_id=ids[0],
            eos_token_id=ids[1],
            pad_token_id=ids[1],
            **SMALL,
        ).to_dict(),
        vision_config=CLIPVisionConfig(image_size=32, patch_size=8, **SMALL).to_dict(),
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    CLIPProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        bpe_tokenizer,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory):
    """DINOv2 in miniature, likewise."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dinos") / "dinov2"
    torch.manual_seed(0)
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    Dinov2Model(Dinov2Config(image_size=28, patch_size=14, **sizes)).save_pretrained(folder)
    size = dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    BitImageProcessorPil(**size).save_pretrained(folder)
    return folder


@pytest.fixture
def told(capsys):
    """Run a command -> (exit code, what it said on stderr, without the lines about the machine)."""

    def told(*words):
        code = main([str(w) for w in words])
        lines = capsys.readouterr().err.strip().splitlines()
        return code, [x for x in lines if not x.startswith(("device:", "numbers:")) and x.strip()]

    return told


@pytest.fixture
def refused(told):
    """Run a command that is refused in one line -> the line."""

    def refused(*words):
        code, lines = told(*words)
        assert code == 2 and len(lines) == 1, lines
        return lines[0]

    return refused


@pytest.fixture
def few(monkeypatch, small_dataset):
    """Eight drawings, read at once, all of the test split."""
    dataset = small_dataset.rows(range(8))
    dataset.frame["split"] = "test"
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: dataset)
    return dataset


def own_folder(tmp_path, texts):
    for i, _ in enumerate(texts):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(len(texts))], "text": texts})
    table.to_csv(tmp_path / "captions.csv", index=False)


@pytest.fixture
def one_notebook(tmp_path, monkeypatch):
    """A study of one notebook, with the cell that is given."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    from dd import report

    module = import_module("dd.study.run")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "NOTEBOOKS", {"01_a": "seed"})
    monkeypatch.setattr(module, "taken", lambda name: ("study", "seed"))
    monkeypatch.setattr(report, "build_report", lambda folder, names: folder / "report")
    (tmp_path / "notebooks").mkdir()

    def made(cell):
        first = new_code_cell("study = 'x'", metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=[first, new_code_cell(cell)], metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / "notebooks" / "01_a.ipynb")

    return made
