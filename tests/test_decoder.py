"""The frozen decoder: relaxed one-hot = input_ids, the gradient's truth, noise fixed per image,
drawing."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dd.decoder import Decoder
from dd.vocab import allowed_tokens, to_strings, tokenise


def some_ids(decoder, B: int, N: int) -> torch.Tensor:
    allowed = allowed_tokens(decoder.tokenizer, "word_final").nonzero().flatten()
    return allowed[torch.randint(len(allowed), (B, N), generator=torch.Generator().manual_seed(N))]


@pytest.mark.parametrize("N", [1, 5, "full"])
def test_one_hot_equals_input_ids(decoder, N, float32):
    N = decoder.L - 2 if N == "full" else N
    ids = some_ids(decoder, 3, N)
    texts = to_strings(decoder.tokenizer, ids)
    assert torch.equal(
        tokenise(decoder.tokenizer, texts)[:, 1 : 1 + N], ids
    )  # else the comparison below would be of other texts
    expected = decoder.text_states(texts)
    got = decoder.soft_states(F.one_hot(ids, decoder.V).float())
    assert got.shape == expected.shape == (3, decoder.L, expected.shape[-1])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # texts do differ in their states


def test_one_hot_equals_input_ids_where_padding_is_another_token(sd_decoder, sd_folder, float32):
    """Stable Diffusion 2 pads with `!`, not with the end token: the end must still follow the last
    word."""
    import copy

    other = copy.copy(sd_decoder)
    other.tokenizer = type(sd_decoder.tokenizer).from_pretrained(
        sd_folder / "tokenizer", pad_token="!"
    )
    ids = some_ids(other, 3, 5)
    read = tokenise(other.tokenizer, to_strings(other.tokenizer, ids))
    assert other.tokenizer.pad_token_id == 0 and torch.equal(read[:, 1:6], ids)
    assert (read[:, 6] == other.tokenizer.eos_token_id).all() and (read[:, 7:] == 0).all()
    torch.testing.assert_close(
        other.soft_states(F.one_hot(ids, other.V).float()),
        other.text_states(to_strings(other.tokenizer, ids)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_text_encoder_with_a_layer_less_is_clip_skip(sd_decoder, sd_folder, tmp_path, float32):
    """The states before the last layer, normed as the last ones are; one-hot equals input_ids."""
    import shutil

    from transformers import CLIPTextModel

    shutil.copytree(sd_folder, tmp_path / "less")
    where = dict(subfolder="text_encoder", num_hidden_layers=1)
    CLIPTextModel.from_pretrained(sd_folder, **where).save_pretrained(
        tmp_path / "less/text_encoder"
    )
    less, ids = Decoder.load(tmp_path / "less"), some_ids(sd_decoder, 3, 5)
    read = tokenise(less.tokenizer, texts := to_strings(less.tokenizer, ids))
    said = sd_decoder.text_encoder(read, output_hidden_states=True)
    skipped = sd_decoder.text_encoder.final_layer_norm(said.hidden_states[-2])
    assert not torch.allclose(skipped, said[0], atol=1e-2)
    for states in (less.text_states(texts), less.soft_states(F.one_hot(ids, less.V).float())):
        torch.testing.assert_close(states, skipped, atol=1e-5, rtol=1e-5)


def test_too_many_tokens_are_refused(decoder):
    with pytest.raises(ValueError, match="do not fit"):
        decoder.soft_states(torch.zeros(1, decoder.L - 1, decoder.V))


def loss_of(decoder, weights):
    rng = torch.Generator().manual_seed(1)
    z_0, noise = (
        torch.randn(len(weights), decoder.C, decoder.h, decoder.h, generator=rng) for _ in range(2)
    )
    return decoder.loss(
        z_0, decoder.soft_states(weights), torch.full((len(weights),), decoder.T // 2), noise
    ).sum()


def test_gradient_says_which_other_token_would_be_better(decoder, float32):
    """The gradient differs across vocabulary entries and is the loss's own slope (finite
    differences), entry by entry."""
    weights = torch.softmax(
        torch.randn(2, 4, decoder.V, generator=torch.Generator().manual_seed(0)), -1
    ).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss_of(decoder, weights), weights)  # (B, N, V)
    assert gradient.isfinite().all()
    for slots in gradient.flatten(0, 1):
        assert slots.std() > 1e-3 * slots.abs().mean() > 0
        assert slots.unique().numel() > decoder.V // 2
    b, n = 1, 2
    best, worst = int(gradient[b, n].argmin()), int(gradient[b, n].argmax())
    step = torch.zeros_like(weights)
    step[b, n, best], step[b, n, worst] = 0.01, -0.01
    with torch.no_grad():
        slope = (loss_of(decoder, weights + step) - loss_of(decoder, weights - step)) / 2
    predicted = (gradient * step).sum()
    assert predicted < -2e-5
    torch.testing.assert_close(slope, predicted, rtol=0.1, atol=1e-6)


def test_loss_is_the_schedulers_own(decoder):
    """Our noising and target agree with the library's, for epsilon and for v."""
    from diffusers import DDIMScheduler

    reference = DDIMScheduler.from_config(decoder.scheduler.config)
    rng = torch.Generator().manual_seed(2)
    z_0, noise = (torch.randn(4, decoder.C, decoder.h, decoder.h, generator=rng) for _ in range(2))
    t = torch.tensor([0, 10, 500, decoder.T - 1])
    x_t, target = decoder.add_noise(z_0, noise, t)
    torch.testing.assert_close(x_t, reference.add_noise(z_0, noise, t), atol=1e-5, rtol=1e-5)
    v = decoder.scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(
        target, reference.get_velocity(z_0, noise, t) if v else noise, atol=1e-5, rtol=1e-5
    )


def test_a_t5_reader_works_in_the_stock_pipeline(spelling_decoder, float32):
    """judge-b's folder is a plain StableDiffusionPipeline: the library's own call reads with its
    T5."""
    go = lambda text: spelling_decoder.pipeline(
        text,
        num_inference_steps=2,
        guidance_scale=3.0,
        latents=spelling_decoder.start_noise(["a"]),
        output_type="np",
    ).images
    assert go("red apple").shape == (1, spelling_decoder.size, spelling_decoder.size, 3)
    assert not np.array_equal(go("red apple"), go("blue sky"))


def test_start_noise_depends_on_image_and_seed_alone(decoder):
    a = decoder.start_noise(["x", "y"])
    assert torch.equal(a, decoder.start_noise(["y", "x"]).flip(0))
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a, decoder.start_noise(["x", "y"], seed=1))
    assert abs(float(a.mean())) < 0.3 and 0.7 < float(a.std()) < 1.3


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_drawing_is_deterministic_and_order_independent(decoder, sampler, float32):
    texts, ids = ["red apple", "blue sky", ""], ["a", "b", "c"]
    draw = lambda t, i, **k: decoder.draw(t, i, guidance=2.0, steps=2, sampler=sampler, **k)
    once = draw(texts, ids)
    assert once.dtype == np.uint8 and once.shape == (3, decoder.size, decoder.size, 3)
    assert np.array_equal(once, draw(texts, ids))
    turned = draw(texts[::-1], ids[::-1])[::-1]
    assert (
        abs(once.astype(int) - turned).max() <= 1
    )  # another place in the batch may round a pixel differently
    assert abs(once.astype(int) - draw(texts, ids, B=1)).max() <= 1
    assert not np.array_equal(once[0], draw(["red apple"], ["z"])[0])  # other image, other noise
    assert not np.array_equal(once, draw(texts, ids, seed=1))


def test_same_noise_for_every_source(decoder, monkeypatch, float32):
    """Whatever the text, the sampler starts one image from one noise: seen in what the U-Net is
    first given."""
    given = []
    handle = decoder.denoiser.register_forward_pre_hook(
        lambda module, args: given.append(args[0].clone())
    )
    try:
        for text in ("red apple", "", "blue blue blue"):
            decoder.draw([text], ["one image"], guidance=1, steps=1)
    finally:
        handle.remove()
    assert len(given) == 3 and all(torch.equal(given[0], g) for g in given)


def test_guidance_one_needs_no_empty_half(decoder, float32):
    sizes = []
    handle = decoder.denoiser.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    try:
        decoder.draw(["red"], ["a"], guidance=1, steps=1)
        decoder.draw(["red"], ["a"], guidance=2, steps=1)
    finally:
        handle.remove()
    assert sizes == [1, 2]


def test_stable_diffusion_is_driven_unchanged(sd_decoder, sd_folder):
    """Drawing as the library's own pipeline does it, from the same start noise, gives the same
    picture."""
    from diffusers import DDIMScheduler

    from dd.runtime import plain_float32

    with plain_float32():
        pipeline = sd_decoder.pipeline
        ours = sd_decoder.draw(["red apple"], ["a"], guidance=3.0, steps=4, sampler="ddim")
        pipeline.set_progress_bar_config(disable=True)
        kept, pipeline.scheduler = (
            pipeline.scheduler,
            DDIMScheduler.from_config(sd_decoder.scheduler.config, timestep_spacing="trailing"),
        )
        try:
            stock = pipeline(
                "red apple",
                num_inference_steps=4,
                guidance_scale=3.0,
                latents=sd_decoder.start_noise(["a"]),
                output_type="np",
            ).images
        finally:
            pipeline.scheduler = kept
    assert abs(ours.astype(float) - stock * 255).max() <= 1.5


def test_judge_folder_holds_all_but_minilm_and_draws_by_itself(judge_folder, judge_decoder):
    from dd.decoder import MiniLMPipeline

    assert {p.name for p in judge_folder.iterdir()} == {
        "transformer",
        "vae",
        "scheduler",
        "model_index.json",
    }
    pipeline = MiniLMPipeline.from_pretrained(judge_folder)
    with torch.no_grad():
        pictures = pipeline(["red apple", "blue sky"], steps=2)
    assert pictures.shape == (2, 64, 64, 3) and pictures.dtype == np.uint8
    assert not any(p.requires_grad for p in pipeline.text_encoder.parameters())
    ids = tokenise(judge_decoder.tokenizer, ["red apple"])
    assert judge_decoder.tokenizer.convert_ids_to_tokens(ids[0, :5].tolist()) == [
        "[CLS]",
        "red",
        "apple",
        "[SEP]",
        "[PAD]",
    ]
    states = judge_decoder.text_states(["red apple"])
    assert (states[0, 4:] == 0).all() and (
        states[0, :4].abs().sum(-1) > 0
    ).all()  # padding says nothing
    torch.testing.assert_close(
        states[:, :4], judge_decoder.text_encoder(ids[:, :4].to(states.device))[0]
    )  # and is not listened to


def test_a_judge_says_what_it_cannot_read(judge_decoder):
    from dd.vocab import reading_rates

    assert reading_rates(judge_decoder.tokenizer, ["red \u2603", "red apple"]) == {
        "tokens": 2.0,
        "truncated": 0.0,
        "unknown": 0.25,
    }
    assert reading_rates(judge_decoder.tokenizer, ["red " * 60])["truncated"] == 1.0


def test_unknown_decoder_and_sampler(tiny_decoder):
    with pytest.raises(FileNotFoundError, match="needs its revision"):
        Decoder.load("somebody/some-model")
    with pytest.raises(ValueError, match="sampler"):
        tiny_decoder.draw(["a"], ["a"], sampler="euler")
    with pytest.raises(ValueError, match="1 texts for 2 ids"):
        tiny_decoder.draw(["a"], ["a", "b"])


def test_texts_in_probe_loss_matter_and_pairs_share_noise(
    tiny_decoder, small_dataset, small_latents
):
    ids = list(small_dataset.frame["id"])[:6]
    a = tiny_decoder.probe_loss(small_latents[:6], ["red apple"] * 6, ids)
    assert np.array_equal(a, tiny_decoder.probe_loss(small_latents[:6], ["red apple"] * 6, ids))
    assert not np.array_equal(
        a, tiny_decoder.probe_loss(small_latents[:6], ["blue round"] * 6, ids)
    )


def test_the_probe_is_the_mean_loss_at_four_noise_levels(tiny_decoder, float32):
    texts, ids = ["red apple", "blue"], ["a", "b"]
    z_0 = torch.randn(2, tiny_decoder.C, tiny_decoder.h, tiny_decoder.h)
    states, noise = tiny_decoder.text_states(texts), tiny_decoder.start_noise(ids, seed=1)
    levels = [torch.tensor([t, t]) for t in (125, 375, 625, 875)]
    with torch.no_grad():
        each = torch.stack([tiny_decoder.loss(z_0, states, t, noise) for t in levels])
    found = tiny_decoder.probe_loss(z_0, texts, ids)
    torch.testing.assert_close(torch.from_numpy(found), each.mean(0), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="session")
def guided_folder(tiny_folder, tmp_path_factory):
    """The tiny decoder with an untrained guide beside its parts."""
    import shutil

    from dd.make_decoders import new_guide

    folder = tmp_path_factory.mktemp("decoders") / "guided"
    shutil.copytree(tiny_folder, folder)
    torch.manual_seed(5)
    guide = new_guide("sketch", Decoder.load(tiny_folder).pipeline).unet
    guide.save_pretrained(folder / "guide", safe_serialization=True)
    return folder


def test_guidance_leads_away_from_a_weaker_self(guided_folder, tiny_decoder):
    """The empty prediction of classifier-free guidance is the guide's (Karras et al., 2024); the
    loss and so what is trained through the decoder know nothing of it."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    decoder, texts = Decoder.load(guided_folder), ["red apple", "blue sky"]
    states, t = decoder.text_states(texts), torch.tensor(999)
    x_t, empty = decoder.start_noise(texts), decoder.text_states([""]).expand_as(states)
    text, own = decoder.predict(x_t, t, states), decoder.predict(x_t, t, empty)
    weaker = decoder.predict(x_t, t, empty, decoder.guide)
    assert (weaker - own).abs().max() > 0.1
    for dec, without in ((decoder, weaker), (tiny_decoder, own)):
        for guidance in (1.0, 3.0):
            scheduler, predicted = dec._sampler("dpm", 1), without + guidance * (text - without)
            if dec.guide and guidance != 1:
                predicted = rescale_noise_cfg(predicted, text, guidance_rescale=0.7)
            z_0 = scheduler.step(predicted, scheduler.timesteps[0], x_t, return_dict=False)[0]
            drawn = dec.draw(texts, texts, guidance=guidance, steps=1)
            assert abs(drawn.astype(int) - dec.decode(z_0)).max() <= 1
    z_0, noise = torch.randn(2, 2, 16, 8, 8)
    loss = lambda dec: dec.loss(z_0, states, t.expand(2), noise)
    assert torch.equal(loss(decoder), loss(tiny_decoder))


def test_a_text_that_is_ignored_is_ignored_by_the_guide_too(guided_folder):
    decoder = Decoder.load(guided_folder)
    red, blue = (decoder.draw([text], ["x"], guidance=0.0) for text in ("red apple", "blue sky"))
    assert (red == blue).all()


def test_a_folder_with_a_guide_is_still_a_pipeline_of_the_library(guided_folder):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(guided_folder)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline("red apple", num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)


def test_a_broken_guide_is_refused(guided_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    from dd.data import BadData

    folder = shutil.copytree(guided_folder, tmp_path / "guided")
    file = folder / "guide" / "diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "conv_out.bias"}, file)
    with pytest.raises(BadData, match="its part guide has no weights for conv_out.bias"):
        Decoder.load(folder)


@pytest.mark.parametrize("kind", ["sketch", "judge-a", "judge-b"])
def test_guides_are_smaller_and_learn_alone(kind, small_dataset, tmp_path):
    from conftest import assert_same, tiny_vae

    from dd.make_decoders import new_guide, new_pipeline, train_denoiser

    few = small_dataset.subset("all", 16)
    of = new_pipeline(kind, tiny_vae().eval(), ["a red apple", "the blue sky"] * 50)
    texts = {k: v.clone() for k, v in of.text_encoder.state_dict().items()}
    fresh, size = new_guide(kind, of), lambda net: sum(p.numel() for p in net.parameters())
    of_both = [Decoder(pipeline, kind).denoiser for pipeline in (of, fresh)]
    assert size(of_both[1]) < 0.6 * size(of_both[0])
    before = {k: v.clone() for k, v in of_both[1].state_dict().items()}
    sizes = dict(seen=2 * 4, B=4, kind=kind, start=fresh, guide=True)
    made = train_denoiser(few, of.vae, tmp_path, **sizes)
    assert_same(made.text_encoder.state_dict(), texts)
    after = Decoder(made, kind).denoiser.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert (tmp_path / "guide.state.safetensors").exists()
