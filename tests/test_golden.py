"""A stage whose numbers move gets a new version: each stage's numbers, in float32 on tiny networks
and eight drawings, are kept in tests/golden.json beside the stage's version.

    python tests/test_golden.py --write     # after raising versions in dd/study/cache.py
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_llm, tiny_vae

from dd import baselines, metrics, train
from dd.data import stable_hash, to_pixels
from dd.encoder import Encoder, backbone_features
from dd.study.cache import STAGES

GOLDEN = Path(__file__).with_name("golden.json")
WRITE = "DD_WRITE_GOLDEN"
pytestmark = pytest.mark.usefixtures("float32")


def ten(values) -> list[float]:
    """Ten numbers that move with any of the values and with their order."""
    x = torch.as_tensor(values).double().flatten()
    weights = 1 + 0.5 * torch.cos(torch.arange(len(x), dtype=torch.float64))
    return [float(f"{v.mean():.8g}") for v in (x * weights).tensor_split(10) if len(v)]


def of_texts(texts: list[str]) -> list[float]:
    return [float(stable_hash(text) % 10_000) for text in texts]


def logged(path: Path) -> list[float]:
    """What a training logged, without its times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [v for row in lines for k, v in sorted(row.items()) if k in ("loss", "probe", "rate")]
    return [float(f"{v:.8g}") for v in told if isinstance(v, float)][:10]


@torch.no_grad()
def of_pooler(encoder, patches) -> list[float]:
    """Four numbers of what a trained encoder says of eight drawings, in the words it may write."""
    return ten(encoder.pooler(patches[:8].float())[..., encoder.pooler.allowed])[:4]


@pytest.fixture
def eight(whole_dataset):
    return whole_dataset.subset("test", 8)


def features(eight, **_):
    return ten(backbone_features(eight.pixels()))


@pytest.fixture
def large(eight):
    """The drawings at four times their size: what looks at them makes them smaller again."""
    return eight.images.repeat(4, 1).repeat(4, 2)


def large_features(large, **_):
    return ten(backbone_features(to_pixels(large)))


def large_look(large, **_):
    return ten(metrics.image_features(large))


def latents(eight, tiny_decoder, **_):
    return ten(train.encode_all(tiny_decoder, eight))


def look(eight, **_):
    return ten(metrics.image_features(eight.images))


def write(eight, tiny_decoder, small_dataset, **_):
    patches, tokenizer = backbone_features(eight.pixels()), tiny_decoder.tokenizer
    torch.manual_seed(0)
    net = baselines.Similarity(V=len(tokenizer)).eval().requires_grad_(False)
    bank = baselines.phrase_bank(small_dataset, least=1)
    z_0 = train.encode_all(tiny_decoder, eight)
    texts = Encoder.new(tiny_decoder, 5, D=32, blocks=1).write(eight.pixels())[:4]
    texts += baselines.interrogate(net, tokenizer, patches, bank, most=5)[:2]
    texts += baselines.hard_prompts(net, tokenizer, patches, N=5, steps=3)[:2]
    texts += baselines.hard_prompts_by_loss(tiny_decoder, z_0, N=5, steps=2)[:2]
    return of_texts(texts)


def draw(eight, tiny_decoder, **_):
    texts, ids = [f"red {name}" for name in eight.frame["name"]], list(eight.frame["id"])
    how = dict(guidance=3.0, steps=4, seed=0)
    return [
        number
        for sampler in ("dpm", "ddim")
        for number in ten(tiny_decoder.draw(texts, ids, sampler=sampler, **how))[:5]
    ]


def score(**_):
    noise = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 120, 20, generator=noise)
    classes = [("a", "b", "c")[i % 3] for i in range(120)]
    told = metrics.score(real, real + fake, classes=(classes, classes))
    return [float(f"{v:.8g}") for v in told.values()]


def language_model(pieces):
    from dd.llm import LanguageModel

    return LanguageModel("tiny", tiny_llm("llama", pieces), pieces)


def answer(pieces, **_):
    from dd.llm import Prompt

    asked = [Prompt("Say.\n", ("red -> blue$\n",), f"{what} ->") for what in ("red", "a", "blue b")]
    return of_texts(language_model(pieces).answer(asked, tokens=8))


def bits(pieces, **_):
    return [float(f"{v:.8g}") for v in language_model(pieces).bits(["red", "blue blue", "", "a b"])]


def train_encoder(small_dataset, tiny_decoder, small_patches, small_latents, tmp_path, **_):
    cached = dict(patches=small_patches, z_all=small_latents)
    sizes = dict(seen=32, tokens=4, width=32, blocks=1, B=8, noise=1.0)
    made = train.train_encoder(small_dataset, tiny_decoder, tmp_path, **sizes, **cached)
    return logged(tmp_path / "encoder.jsonl") + of_pooler(made, small_patches)


def train_denoiser(small_dataset, tmp_path, **_):
    from dd.make_decoders import train_autoencoder, train_denoiser

    train_autoencoder(small_dataset, tmp_path, seen=8, B=4, channels=8)
    sizes = dict(seen=16, B=4, channels=(64, 64))
    train_denoiser(small_dataset, tiny_vae().eval(), tmp_path, **sizes)
    return logged(tmp_path / "autoencoder.jsonl") + logged(tmp_path / "denoiser.jsonl")


def train_captioner(small_dataset, tiny_decoder, small_patches, tmp_path, **_):
    sizes = dict(seen=32, width=32, blocks=1, B=8, patches=small_patches)
    made = baselines.train_captioner(
        small_dataset, tiny_decoder, tmp_path, kind="captioner", **sizes
    )
    return logged(tmp_path / "captioner.jsonl") + of_pooler(made, small_patches)


def train_similarity(small_dataset, tiny_decoder, small_patches, tmp_path, **_):
    sizes = dict(seen=64, B=16, patches=small_patches)
    baselines.train_similarity(small_dataset, tiny_decoder.tokenizer, tmp_path, **sizes)
    return logged(tmp_path / "similarity.jsonl")


def shipped_draw(eight, **_):
    from dd.decoder import Decoder

    texts, ids = list(eight.frame["name"]), list(eight.frame["id"])
    return ten(Decoder.load("sketch").draw(texts, ids, guidance=3.0, steps=8, sampler="dpm"))


# case: (stage, numbers); the shipped weights draw, and image features are always of shipped weights
CASES = {
    f.__name__: (f.__name__.removeprefix("shipped_").removeprefix("large_"), f)
    for f in (
        *(features, large_features, latents, look, large_look),
        *(write, draw, shipped_draw, score, answer, bits),
        *(train_encoder, train_denoiser, train_captioner, train_similarity),
    )
}


@pytest.mark.parametrize("case", CASES)
def test_numbers_move_only_with_their_version(case, request):
    stage, function = CASES[case]
    wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
    found = function(**{name: request.getfixturevalue(name) for name in wanted})
    version, golden = STAGES[stage].version, json.loads(GOLDEN.read_text())
    if os.environ.get(WRITE):
        golden[case] = {"stage": stage, "version": version, "numbers": found}
        GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n")
    kept = golden.get(case, {"version": None, "numbers": []})
    size = max(map(abs, found))
    same = len(found) == len(kept["numbers"]) and all(
        abs(a - b) <= 1e-4 * max(abs(a), 1e-2 * size) for a, b in zip(found, kept["numbers"])
    )
    how = "run `python tests/test_golden.py --write` and commit tests/golden.json"
    assert version == kept["version"], (
        f"stage {stage} has version {version}, its numbers are of version {kept['version']}: {how}"
    )
    assert same, (
        f"the numbers of stage {stage} moved, so what was kept of it is not right: if that is "
        f"meant, raise its version in dd/study/cache.py, {how}\n{kept['numbers']}\n{found}"
    )


def test_every_stage_has_numbers():
    assert {stage for stage, _ in CASES.values()} == set(STAGES) - {"notebook"}
    assert list(json.loads(GOLDEN.read_text())) == sorted(CASES)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    os.environ[WRITE] = "1"
    GOLDEN.write_text("{}\n")
    sys.path[:0] = [str(GOLDEN.parent.parent), str(GOLDEN.parent)]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__]))
