"""The encoder: temperature, relaxation, forbidden tokens, text that depends on the image, the
string as interface."""

import math

import numpy as np
import pytest
import torch

from dd.data import BadData, to_pixels
from dd.encoder import Encoder, backbone_features, relax, temperature
from dd.vocab import allowed_tokens, to_strings


@pytest.mark.parametrize("S", [1, 7, 1000, 500_000])
def test_temperature_is_exponential_over_the_whole_run(S):
    assert temperature(0, S) == 2.0
    assert temperature(S, S) == pytest.approx(0.3)
    assert temperature(S / 2, S) == pytest.approx(math.sqrt(2.0 * 0.3))
    logs = [math.log(temperature(S * k / 10, S)) for k in range(11)]
    assert np.allclose(np.diff(logs), np.diff(logs)[0]) and np.diff(logs)[0] < 0


def test_relax_is_a_distribution_and_sharpens():
    logits = torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0))
    soft, sharp = (relax(logits, tau, noise=0.0) for tau in (2.0, 0.3))
    for w in (soft, sharp, relax(logits, 1.0, generator=torch.Generator().manual_seed(1))):
        torch.testing.assert_close(w.sum(-1), torch.ones(4, 3))
    assert (sharp.amax(-1) > soft.amax(-1)).all()
    a, b = (relax(logits, 1.0, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert not torch.equal(a, b) and torch.equal(
        a, relax(logits, 1.0, generator=torch.Generator().manual_seed(1))
    )


def test_gumbel_noise_samples_the_softmax():
    """argmax of noised logits is distributed as softmax(logits): the Gumbel-max identity."""
    logits = torch.tensor([2.0, 1.0, 0.0]).expand(20_000, 1, 3)
    drawn = (
        relax(logits, 1.0, generator=torch.Generator().manual_seed(0))
        .argmax(-1)
        .flatten()
        .bincount(minlength=3)
        / 20_000
    )
    torch.testing.assert_close(
        drawn, torch.softmax(torch.tensor([2.0, 1.0, 0.0]), 0), atol=0.015, rtol=0
    )


def test_straight_through_is_hard_forward_and_soft_backward():
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    hard, soft = (relax(logits, 0.5, noise=0.0, straight_through=h) for h in (True, False))
    assert torch.allclose(hard.amax(-1), torch.ones(2, 3)) and torch.allclose(
        hard.sum(-1), torch.ones(2, 3)
    )
    gradients = [torch.autograd.grad((w * weight).sum(), logits)[0] for w in (hard, soft)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("rule", ["alphanumeric", "word_final"])
def test_forbidden_tokens_are_never_written(decoder, small_patches, rule):
    encoder = Encoder.new(decoder, 5, D=32, blocks=1, rule=rule)
    allowed = allowed_tokens(decoder.tokenizer, rule)
    assert not allowed.all() and allowed.any()
    with torch.no_grad():  # however much the weights want the forbidden ones
        encoder.pooler.to_logits.bias[~encoder.pooler.allowed] = 1e6
        logits = encoder.pooler(small_patches[:8].float())
    ids = encoder.ids(small_patches)
    assert allowed[ids].all()
    weights = relax(logits, 2.0, generator=torch.Generator().manual_seed(0))
    assert weights[..., ~encoder.pooler.allowed].max() == 0  # nor seen by the decoder in training


def test_text_depends_on_the_image(tiny_decoder, small_patches):
    encoder = Encoder.new(tiny_decoder, 8, D=64, blocks=2)
    with torch.no_grad():
        logits = encoder.pooler(small_patches[:16].float())  # (B, N, V)
    between = (logits - logits.mean(0)).std()
    assert between > 0.01 * logits[..., encoder.pooler.allowed].std()
    assert torch.equal(
        encoder.ids(small_patches[:16]), encoder.ids(small_patches[:16].flip(0)).flip(0)
    )
    positions = logits[:, :, encoder.pooler.allowed]
    assert (
        positions[:, 0] - positions[:, 1]
    ).abs().max() > 0.1  # alike queries would write one word everywhere


def test_pooler_can_tell_pictures_apart(tiny_decoder, small_patches):
    """Taught a different word for each of sixteen pictures it writes them: impossible for a pooler
    that ignores the image."""
    encoder = Encoder.new(tiny_decoder, 2, D=64, blocks=2)
    words = encoder.pooler.allowed.nonzero().flatten()[:16]
    optimizer = torch.optim.AdamW(encoder.pooler.parameters(), lr=2e-3)
    for _ in range(60):
        logits = encoder.pooler(small_patches[:16].float())  # (B, N, V)
        loss = torch.nn.functional.cross_entropy(logits[:, 0], words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (encoder.ids(small_patches[:16])[:, 0] == words).float().mean() > 0.9


def test_shipped_encoder_reads_the_image(whole_dataset):
    dataset = whole_dataset.subset("test", 64)
    texts = Encoder.load("encoder").write(dataset.pixels())
    assert len(set(texts)) > 56
    blank, other = Encoder.load("encoder").write(torch.ones(1, 3, 64, 64)), texts[0]
    assert blank[0] != other


def test_save_and_load_write_the_same(tiny_decoder, small_dataset, tmp_path):
    encoder = Encoder.new(tiny_decoder, 6, D=64, blocks=1)
    encoder.save(tmp_path / "e")
    again = Encoder.load(tmp_path / "e")
    pixels = small_dataset.pixels(slice(0, 8))
    assert encoder.write(pixels) == again.write(pixels)
    assert not list((tmp_path / "e").glob("*.bin"))
    with pytest.raises(FileNotFoundError):
        Encoder.load(tmp_path / "nothing")


def test_the_string_is_what_is_read_again(tiny_decoder, small_patches):
    """A decoder is given strings: a written text, read back, gives the written ids (word-level
    vocabulary)."""
    encoder = Encoder.new(tiny_decoder, 10, D=64, blocks=1)
    ids = encoder.ids(small_patches)
    texts = to_strings(encoder.tokenizer, ids)
    assert all(isinstance(t, str) and t for t in texts)
    assert [
        tiny_decoder.tokenizer(t, add_special_tokens=False).input_ids for t in texts
    ] == ids.tolist()


def test_backbone_features_are_per_image(small_dataset, small_patches, float32):
    assert small_patches.shape[1:] == (64, 179) and small_patches.isfinite().all()
    torch.testing.assert_close(
        backbone_features(small_dataset.pixels(slice(3, 4)))[0].float(),
        small_patches[3].float(),
        atol=0.1,
        rtol=0.05,
    )


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_towers_of_transformers_give_their_patch_tokens(
    kind, clip_folder, tiny_decoder, tmp_path, float32
):
    """Those of the library's own preprocessing, in the tower's own size and normalisation, however
    large the pictures are; an encoder with one is saved and loaded with it."""
    import transformers as t

    folder, small = (
        tmp_path / kind,
        dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=24),
    )
    torch.manual_seed(0)
    if kind == "siglip":
        sizes = dict(**small, image_size=32, patch_size=8, intermediate_size=32)
        t.SiglipVisionModel(t.SiglipVisionConfig(**sizes)).save_pretrained(folder)
        t.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    elif kind == "dinov2":  # was trained on larger ones than it is shown
        t.Dinov2Model(t.Dinov2Config(image_size=64, patch_size=8, **small)).save_pretrained(folder)
        sides = dict(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
        t.BitImageProcessorPil(**sides).save_pretrained(folder)
    else:
        folder = clip_folder
    tiles = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    images = tiles.repeat(8, 1).repeat(8, 2)
    processor = t.AutoImageProcessor.from_pretrained(folder)
    net = t.AutoModel.from_pretrained(folder).eval()
    net = getattr(net, "vision_model", net)
    given = processor(list(images), return_tensors="pt", do_resize=False)["pixel_values"]
    with torch.no_grad():
        expected = net(pixel_values=given).last_hidden_state[:, -16:]
    got = backbone_features(to_pixels(images), backbone=str(folder))
    assert got.shape == (3, 16, net.config.hidden_size)
    torch.testing.assert_close(got.float(), expected, atol=3e-3, rtol=3e-3)
    larger = to_pixels(images.repeat(4, 1).repeat(4, 2))
    close = backbone_features(larger, backbone=str(folder)).float()
    assert torch.nn.functional.cosine_similarity(close, expected, -1).mean() > 0.9
    made = Encoder.new(tiny_decoder, 3, D=32, blocks=1, backbone=str(folder))
    made.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    assert again.write(larger) == made.write(larger)
    assert (again.pooler.config.P, again.pooler.config.F) == got.shape[1:]


def test_a_backbone_that_gives_no_patch_tokens_is_one_line(tiny_folder, tiny_decoder):
    with pytest.raises(BadData, match="backbone .*: its image processor cannot be read"):
        Encoder.new(tiny_decoder, 3, backbone=str(tiny_folder))


def test_tokens_must_fit(tiny_decoder):
    with pytest.raises(ValueError, match="holds 1 to 30"):
        Encoder.new(tiny_decoder, 31)


def test_texts_may_fill_the_decoder_s_context_and_no_more(tiny_decoder):
    most = tiny_decoder.L - 2
    assert Encoder.new(tiny_decoder, most, D=32, blocks=1).pooler.config.N == most
    for N in (0, most + 1):
        with pytest.raises(ValueError, match=f"tokens is {N}; .* holds 1 to {most}"):
            Encoder.new(tiny_decoder, N, D=32, blocks=1)
