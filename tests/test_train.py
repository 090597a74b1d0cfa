"""The loops: who learns, who does not, and a killed run that ends like an undisturbed one."""

import json

import numpy as np
import pytest
import torch
from conftest import Killed, assert_same, killed_after, tiny_vae

from dd.baselines import train_captioner, train_similarity
from dd.decoder import Decoder
from dd.encoder import Encoder, relax, tower
from dd.make_decoders import (
    RECIPES,
    one_step,
    train_autoencoder,
    train_denoiser,
    train_finish,
)
from dd.optimizers import MuonAndAdamW, constant_rate, cosine_rate, orthogonal
from dd.runtime import generator, kept_bytes, weights_hash
from dd.sources import DECODERS
from dd.train import (
    batch_rows,
    latents_hash,
    relaxed_loss,
    repeated,
    train_encoder,
)


def snapshot(module):
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def parts_of(decoder):
    return {name: snapshot(getattr(decoder, name)) for name in ("text_encoder", "denoiser", "vae")}


@pytest.fixture
def go(small_dataset, tiny_decoder, small_patches, small_latents):
    def go(out, **options):
        return train_encoder(
            small_dataset,
            tiny_decoder,
            out,
            **{
                **dict(
                    seen=6 * 8,
                    tokens=4,
                    width=32,
                    blocks=1,
                    B=8,
                    checkpoint_every=2,
                    peak=5e-3,
                    patches=small_patches,
                    z_all=small_latents,
                ),
                **options,
            },
        )

    return go


def test_only_the_pooler_learns(go, tiny_decoder, tmp_path):
    before, alpha = parts_of(tiny_decoder), tiny_decoder.alpha_bar.clone()
    start = go(tmp_path / "none", seen=0).pooler.state_dict()
    trained = go(tmp_path / "some", noise=1.0).pooler.state_dict()
    moved = [k for k in start if not torch.equal(start[k], trained[k])]
    parts = {k.split(".")[0] for k in start} - {"allowed"}
    assert (
        len(parts) >= 5 and {k.split(".")[0] for k in moved} == parts
    )  # the gradient reaches every part
    for name, state in parts_of(tiny_decoder).items():
        assert_same(state, before[name])  # parameters and buffers, bit for bit
        assert all(
            p.grad is None and not p.requires_grad for p in getattr(tiny_decoder, name).parameters()
        )
    assert torch.equal(tiny_decoder.alpha_bar, alpha)


def test_gradient_reaches_the_logits_and_differs_across_words(
    tiny_decoder, small_patches, small_latents, float32
):
    encoder = Encoder.new(tiny_decoder, 4, D=32, blocks=1)
    logits = encoder.pooler(small_patches[:4].float())
    logits.retain_grad()
    states = tiny_decoder.soft_states(relax(logits, 2.0, generator=generator(0, "test")))
    tiny_decoder.loss(
        small_latents[:4],
        states,
        torch.full((4,), 500),
        torch.randn(small_latents[:4].shape, generator=generator(0, "eps")),
    ).mean().backward()
    allowed = encoder.pooler.allowed
    per_word = logits.grad[..., allowed]
    assert (
        (per_word.abs().sum(-1) > 0).all()
        and (per_word.min(-1).values < 0).all()
        and (per_word.max(-1).values > 0).all()
    )
    assert logits.grad[..., ~allowed].abs().max() == 0
    rows = encoder.pooler.to_logits.weight.grad[allowed]
    assert len(rows.unique(dim=0)) > allowed.sum() // 2
    assert all(
        p.grad is not None and p.grad.abs().max() > 0
        for n, p in encoder.pooler.named_parameters()
        if "in_proj_bias" not in n
    )


def test_log_says_images_seen_the_last_temperature_and_a_text(
    go, small_dataset, tmp_path, monkeypatch
):
    numbered = lambda _, ids: [f"text {k}" for k in range(len(ids))]
    monkeypatch.setattr("dd.train.to_strings", numbered)
    go(tmp_path, tau_start=2.0, tau_end=0.3, probe=small_dataset.rows(range(2)))
    line = json.loads((tmp_path / "encoder.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 6 and line["seen"] == 48 and 0 < line["loss"] < 10
    assert line["tau"] == pytest.approx(2.0 * (0.3 / 2.0) ** (5 / 6), abs=1e-3)
    assert (line["text"], line["of"]) == ("text 0", small_dataset.frame["name"][0])


def test_a_loss_of_nan_and_a_strange_log_end_a_training(go, tmp_path):
    with pytest.raises(ValueError, match="the loss is nan at step .; use a smaller peak"):
        go(tmp_path / "wild", peak=1e30)
    assert not (tmp_path / "wild" / "config.json").exists()
    for told in (b"\xff\xfe}\n", b"none}\n", b"{}\n"):
        (tmp_path / "encoder.jsonl").write_bytes(told)
        with pytest.raises(ValueError, match="encoder.jsonl: no log of a training .*; delete it"):
            go(tmp_path)


def test_denoiser_goes_on_from_what_it_was(small_dataset, tmp_path):
    """On the same latents: the same vocabulary and scale, and its first step starts from the
    weights that were there."""
    dataset = small_dataset.subset("all", 16)
    first = train_denoiser(dataset, tiny_vae().eval(), tmp_path, seen=4, B=4, channels=TWO_A_GROUP)
    before = {k: v.clone() for k, v in first.unet.state_dict().items()}
    scale, words = first.vae.config.scaling_factor, first.tokenizer.get_vocab()
    go = lambda out, **o: train_denoiser(dataset, first.vae, out, seen=4, B=2, start=first, **o)
    kept = go(tmp_path / "still", peak=0.0)
    assert_same(kept.unet.state_dict(), before)
    after = go(tmp_path / "more")
    assert not_learnt(before, after.unet.state_dict()) == []
    assert after.vae.config.scaling_factor == scale and after.tokenizer.get_vocab() == words
    with pytest.raises(ValueError, match="start"):  # its checkpoint began from other weights
        go(tmp_path / "more")


def test_muon_turns_matrices_and_adamw_the_rest():
    """A hidden kernel is moved by a matrix whose singular values are all alike, much as by torch's
    Muon when flattened; first, last and embedding layers are AdamW's."""

    torch.manual_seed(0)
    net = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(5, 6),
            "conv_in": torch.nn.Conv2d(3, 6, 3),
            "hidden": torch.nn.Conv2d(6, 8, 3),
        }
    )
    before, optimizer = snapshot(net), MuonAndAdamW(net, 0.1)
    assert [p.shape for p in optimizer.parts[0].param_groups[0]["params"]] == [(8, 6, 3, 3)]
    torchs = torch.nn.Parameter(before["hidden.weight"].flatten(1).clone())
    options = dict(lr=0.1, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    x = torch.randn(2, 3, 8, 8)
    loss = net["hidden"](net["conv_in"](x)).pow(2).mean() + net["embedding"].weight.pow(2).sum()
    loss.backward()
    optimizer.step()
    moved = {k: v - before[k] for k, v in net.state_dict().items()}
    values = torch.linalg.svdvals(moved["hidden.weight"].flatten(1))
    assert values.min() > 0.5 * values.max() > 0
    torchs.grad = net["hidden"].weight.grad.flatten(1)
    torch.optim.Muon([torchs], **options).step()  # in bfloat16
    apart = torchs.detach() - before["hidden.weight"].flatten(1)
    apart = apart - moved["hidden.weight"].flatten(1)
    assert apart.norm() < 0.1 * moved["hidden.weight"].norm()
    first = moved["conv_in.weight"].abs()  # AdamW's first step: the rate, whatever the gradient
    assert torch.allclose(first, torch.full_like(first, 0.1), rtol=1e-3)


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonal_by_the_gram_matrix_is_newton_schulz(shape):
    """The five steps as they are published, on the matrix itself; about so in bfloat16."""
    from dd.runtime import plain_float32

    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -4, shape[1])  # ill-conditioned
    x = matrix / matrix.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    assert (orthogonal(matrix) - x).norm() < 0.05 * x.norm()
    with plain_float32():
        assert (orthogonal(matrix) - x).norm() < 1e-3 * x.norm()


def test_judge_learns_without_its_text_encoder(small_dataset, tmp_path):
    from dd.decoder import minilm

    dataset, before = small_dataset.subset("all", 16), minilm()[1].state_dict()
    pipeline = train_denoiser(dataset, tiny_vae().eval(), tmp_path, seen=3 * 4, B=4, kind="judge-a")
    assert_same(pipeline.text_encoder.state_dict(), before)
    assert pipeline.transformer.proj_out.weight.abs().sum() > 0  # it starts from zeros
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["denoiser.jsonl"]


# With one channel to each of the 32 groups, the normalisation behind it takes the time embedding
# out again: no gradient reaches that matrix, and only bfloat16's rounding ever turned it.
TWO_A_GROUP = (64, 96)


def not_learnt(before: dict, after: dict) -> list[str]:
    """The weight matrices that no gradient has reached: weight decay alone shortens their rows and
    turns none of them."""
    turn = lambda a, b: float(
        (
            1
            - torch.nn.functional.cosine_similarity(
                a.double().flatten(1), b.double().flatten(1), dim=1
            )
        ).max()
    )
    return [
        k
        for k, v in after.items()
        if v.ndim > 1 and v.is_floating_point() and turn(before[k], v) < 4e-7
    ]  # storing in float16 turns less


@pytest.mark.parametrize(
    "kind", ["sketch", *(pytest.param(k, marks=pytest.mark.slow) for k in ("judge-a", "judge-b"))]
)
def test_a_denoiser_learns_what_a_network_sees(kind, small_dataset, tmp_path):
    """The second task's error falls, its weights and its hook are not kept, and without it training
    is another one."""
    few, sizes = small_dataset.subset("all", 16), dict(seen=20 * 4, B=4, kind=kind)
    sizes |= {"channels": TWO_A_GROUP} if kind == "sketch" else {}
    train = lambda name, **more: train_denoiser(few, tiny_vae(), tmp_path / name, **sizes, **more)
    plain, aligned = (train(str(align), align=align) for align in (0.0, 0.5))
    read = lambda name: (tmp_path / name / "denoiser.jsonl").read_text().splitlines()
    logs = [[json.loads(line) for line in read(name)] for name in ("0.0", "0.5")]
    unlike = [line["unlike"] for line in logs[1]]
    assert "unlike" not in logs[0][0] and sum(unlike[-3:]) < sum(unlike[:3])
    net, other = (p.unet if kind != "judge-a" else p.transformer for p in (plain, aligned))
    assert net.state_dict().keys() == other.state_dict().keys()
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters()))
    assert not any(m._forward_hooks for m in other.modules())


def test_what_a_network_sees_is_of_the_drawing_or_its_mirror(small_dataset, tiny_decoder):
    from dd.make_decoders import Alignment

    aligned = Alignment(tiny_decoder, small_dataset)
    assert [m.shape[1:] for m in aligned.maps] == [(2, 432, 4, 4), (2, 112, 8, 8)]
    for i, maps in enumerate(aligned.maps):
        std, mean = torch.std_mean(maps.float(), (0, 1, 3, 4))
        assert mean.abs().max() < 0.01 and (std - 1).abs().max() < 0.05
        true = maps[[5, 6], [0, 1]].float()  # of the fifth, and of the sixth's mirror image
        aligned.conv_out[i].forward = lambda _, true=true: true
        aligned.held[i] = torch.zeros(2, aligned.conv_in[i].in_channels, *true.shape[-2:])
    assert aligned([5, 6], [False, True]) < 1e-3  # told to the last number
    assert aligned([6, 5], [True, False]) > 0.1 and aligned([5, 6], [True, False]) > 0.05


@pytest.mark.parametrize("kind", ["sketch", "judge-b"])
def test_text_encoder_and_denoiser_learn_in_every_matrix(small_dataset, tmp_path, kind):
    """A step that leaves the cross-attention out (as a compiled one once did) still lowers the
    loss, and the decoder ignores texts."""
    from dd.make_decoders import new_judge_b, new_sketch

    pipeline = train_denoiser(
        small_dataset.subset("all", 16),
        tiny_vae().eval(),
        tmp_path,
        seen=2 * 4,
        B=4,
        kind=kind,
        **({"channels": TWO_A_GROUP} if kind == "sketch" else {}),
    )
    vae = tiny_vae()
    torch.manual_seed(0)
    fresh = (
        new_sketch(pipeline.tokenizer, vae, channels=TWO_A_GROUP)
        if kind == "sketch"
        else new_judge_b(pipeline.tokenizer, vae)
    )  # before the first step
    assert (
        type(pipeline.text_encoder).__name__
        == {"sketch": "CLIPTextModel", "judge-b": "T5EncoderModel"}[kind]
    )
    for part in ("unet", "text_encoder"):
        before, after = getattr(fresh, part).state_dict(), getattr(pipeline, part).state_dict()
        assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
        assert not_learnt(before, after) == []
    assert not_learnt(before, before) == [
        k for k, v in before.items() if v.ndim > 1
    ]  # the check can fail


@pytest.mark.parametrize("name", DECODERS)
def test_shipped_decoders_have_learnt_to_listen(name):
    """No matrix between the text and the picture is what it began as: sketch once shipped with all
    of them untrained."""
    from dd.decoder import Decoder
    from dd.make_decoders import new_judge_a, new_judge_b, new_sketch

    shipped = Decoder.load(name)
    torch.manual_seed(RECIPES[name]["seed"])
    fresh = (
        new_judge_a(shipped.vae)
        if name == "judge-a"
        else {"sketch": new_sketch, "judge-b": new_judge_b}[name](shipped.tokenizer, shipped.vae)
    )
    for part in ("transformer",) if name == "judge-a" else ("unet", "text_encoder"):
        assert (
            not_learnt(
                dict(getattr(fresh, part).named_parameters()),
                {k: v.cpu() for k, v in getattr(shipped.pipeline, part).named_parameters()},
            )
            == []
        )


@pytest.mark.parametrize("kind", ["captioner", "captioner_detailed"])
def test_captioner_learns_what_it_is_shown(
    small_dataset, small_patches, tiny_decoder, tmp_path, kind
):
    """Taught long enough on a few drawings it writes their words, before that it does not."""
    from dd.baselines import caption_slots
    from dd.captions import alt_text_phrases
    from dd.vocab import to_strings

    few = small_dataset.subset("all", 16)
    rows = [list(small_dataset.frame["id"]).index(i) for i in few.frame["id"]]
    go = lambda seen, out: train_captioner(
        few,
        tiny_decoder,
        out,
        kind=kind,
        seen=seen,
        B=16,
        width=64,
        blocks=2,
        peak=3e-3,
        patches=small_patches[rows],
    )
    taught = [" ".join(w for w in caption_slots(p, kind) if w) for p in alt_text_phrases(few)]
    right = lambda encoder: sum(
        a == b
        for a, b in zip(to_strings(encoder.tokenizer, encoder.ids(small_patches[rows])), taught)
    )
    assert right(go(16, tmp_path / "short")) < 4
    assert right(go(150 * 16, tmp_path / "long")) >= 12


def test_captioner_refuses_a_vocabulary_of_pieces(
    small_dataset, small_patches, sd_decoder, tmp_path
):
    with pytest.raises(ValueError, match="need a decoder with a vocabulary of words"):
        train_captioner(
            small_dataset,
            sd_decoder,
            tmp_path / "none",
            kind="captioner",
            seen=8,
            B=8,
            patches=small_patches,
        )
    assert not (tmp_path / "none").exists()


@pytest.fixture
def trainings(go, small_dataset, small_patches, tiny_decoder, tiny_folder, clip_folder):
    """name -> a training of a few steps into a folder -> everything it made, {name: tensor}."""
    few, every = small_dataset.subset("all", 16), dict(checkpoint_every=2)
    taught = dict(patches=small_patches, **every)

    def denoiser(out, **options):
        options |= dict(seen=6 * 4, B=4, channels=(32, 64), **every)
        made = train_denoiser(few, tiny_vae().eval(), out, **options)
        assert made.vae.config.scaling_factor != 1.0
        nets = {n: getattr(made, n).state_dict() for n in ("unet", "text_encoder", "vae")}
        tensors = {f"{n}/{k}": v for n, state in nets.items() for k, v in state.items()}
        scale = torch.tensor(made.vae.config.scaling_factor)
        vocabulary = {f"word/{w}": torch.tensor(i) for w, i in made.tokenizer.get_vocab().items()}
        return tensors | vocabulary | {"scale": scale}

    def autoencoder(out, **options):
        options |= dict(seen=4 * 4, B=4, channels=8, **every)
        return train_autoencoder(small_dataset, out, **options).state_dict()

    def captioner(out):
        options = dict(kind="captioner", seen=6 * 8, B=8, width=32, blocks=1, **taught)
        return train_captioner(small_dataset, tiny_decoder, out, **options).pooler.state_dict()

    def similarity(out):
        options = dict(seen=6 * 16, B=16, **taught)
        return train_similarity(small_dataset, tiny_decoder.tokenizer, out, **options).state_dict()

    def finish(out):
        options = dict(seen=6 * 4, B=4, **every)
        decoder = Decoder.load(tiny_folder)  # its own, for the autoencoder learns
        return train_finish(few, {"sketch": decoder}, out, **options).state_dict()

    encoder = lambda out, **options: go(out, **options).pooler.state_dict()

    def whole_encoder(out):
        made = go(out, backbone=str(clip_folder), train_backbone=True)
        return made.pooler.state_dict() | made.tower.state_dict()

    return {
        "encoder": lambda out: encoder(out, noise=0.0, hard_from=0.5),
        "encoder, muon": lambda out: encoder(out, optimizer="muon", repeats=0.1),
        "encoder, sampled": lambda out: encoder(out, noise=1.0, tau_start=2.0, hard_from=1.0),
        "encoder, backbone": whole_encoder,
        "denoiser": denoiser,
        "autoencoder": autoencoder,
        "finish": finish,
        "captioner": captioner,
        "similarity": similarity,
    }


NAMES = (
    "encoder",
    "encoder, muon",
    "encoder, sampled",
    "encoder, backbone",
    "denoiser",
    "autoencoder",
    "finish",
    "captioner",
    "similarity",
)


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_is_the_same(trainings, name, tmp_path, monkeypatch):
    """Weights to the bit, and a log that reads like an undisturbed one's."""
    train, stage = trainings[name], name.split(",")[0]
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            train(tmp_path / "cut")
    assert (tmp_path / "cut" / f"{stage}.state.safetensors").exists()
    torch.manual_seed(12345)  # another process has another global state
    assert_same(train(tmp_path / "cut"), whole)
    lines = [(tmp_path / out / f"{stage}.jsonl").read_text() for out in ("whole", "cut")]
    said = [[{**json.loads(i), "seconds": 0} for i in text.splitlines()] for text in lines]
    assert said[0] == said[1] and len(said[0]) >= 4


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_a_backbone_may_learn_too(go, kind, small_dataset, tmp_path, request, float32):
    """The loss reaches all of it that patch tokens come from; it is saved with the encoder and is
    its own: the frozen one is as it was."""
    name = str(request.getfixturevalue(f"{kind}_folder"))
    pixels, options = small_dataset.pixels(slice(0, 8)), dict(backbone=name, noise=1.0)
    frozen = tower(name)(pixels)
    made = go(tmp_path / "e", **options, train_backbone=True, probe=small_dataset.subset("all", 8))
    before, after = (net.state_dict() for net in (tower(name), made.tower))
    still = {k for k in before if torch.equal(before[k], after[k])}
    # k's bias moves no softmax; the others are after the tokens, or for masked ones
    allowed = ("k_proj.bias", "key.bias", "post_layernorm.weight", "post_layernorm.bias")
    assert all(k.endswith((*allowed, "mask_token", "position_ids")) for k in still), still
    assert torch.equal(tower(name)(pixels), frozen)
    assert (made.tower(pixels) - frozen).abs().max() > 0.01
    made.save(tmp_path / "e")
    again = Encoder.load(tmp_path / "e")
    assert torch.equal(again.features(pixels), made.features(pixels))
    assert again.write(pixels) == made.write(pixels)
    with pytest.raises(ValueError, match="train_backbone True, now None"):
        go(tmp_path / "e", **options)
    with pytest.raises(ValueError, match="the default backbone stays frozen"):
        go(tmp_path / "other", train_backbone=True)


def test_finish_changes_how_latents_are_drawn_and_never_the_latents(
    small_dataset, tiny_folder, tmp_path
):
    """Denoisers and encoders made for these latents stay valid."""
    decoder = Decoder.load(tiny_folder)
    before = latents_hash(decoder.vae), weights_hash(decoder.vae.decoder)
    finished = train_finish(small_dataset, {"sketch": decoder}, tmp_path, seen=4 * 8, B=8)
    assert latents_hash(finished) == before[0] and weights_hash(finished.decoder) != before[1]
    line = json.loads((tmp_path / "finish.jsonl").read_text().splitlines()[-1])
    assert line["like"] > 0 and 0 < line["hinge"] < 4


def test_one_step_prediction_at_hardly_any_noise_is_the_latent(tiny_decoder, small_latents):
    z_0, noise = small_latents[:4], torch.randn(4, 16, 8, 8)
    at = lambda t: one_step(tiny_decoder, z_0, ["red"] * 4, torch.full((4,), t), noise)
    assert (at(0) - z_0).pow(2).mean() < 0.01 < (at(900) - z_0).pow(2).mean()


def test_repeated_words_are_counted_in_pairs():
    """Of three positions two that write the same word are one pair of three."""
    one_hot = torch.nn.functional.one_hot
    some = torch.stack([one_hot(torch.tensor(i), 5) for i in ([0, 1, 2], [0, 0, 2], [3, 3, 3])])
    assert repeated(some.float()).tolist() == pytest.approx([0, 1 / 3, 1])
    even = torch.full((1, 3, 5), 0.2)  # two such positions agree one time in five
    assert repeated(even).item() == pytest.approx(0.2)


def test_the_cost_of_repeats_and_other_optimizers_change_what_is_learnt(go, tmp_path):
    options = {
        "adamw": {},
        "repeats": dict(repeats=5.0),
        "muon": dict(optimizer="muon"),
        "adafactor": dict(optimizer="adafactor"),
    }
    made = {n: snapshot(go(tmp_path / n, **o).pooler) for n, o in options.items()}
    for name in list(made)[1:]:
        assert any(not torch.equal(v, made["adamw"][k]) for k, v in made[name].items()), name
    losses = {}
    for name in ("adamw", "repeats"):
        lines = (tmp_path / name / "encoder.jsonl").read_text().splitlines()
        losses[name] = json.loads(lines[0])["loss"]
    assert losses["repeats"] > losses["adamw"]


@pytest.mark.parametrize(
    "options",
    [dict(noise=1.0), dict(noise=0.5, straight_through=True, repeats=0.3), dict(repeats=0.3)],
    ids=["noise", "all", "none"],
)
def test_pieces_of_a_batch_give_the_gradient_of_the_whole(
    sd_decoder, small_patches, float32, monkeypatch, options
):
    """Against the formula written out; and no (B, N, V) is held until the backward pass."""
    pooler, kept = Encoder.new(sd_decoder, 4, D=32, blocks=1).pooler, []
    B, N, V = 5, 4, sd_decoder.V
    z_0, eps = torch.randn(2, B, 4, 8, 8, generator=generator(0, "test"))
    given, how = (z_0, torch.arange(B) * 200), dict(straight_through=False) | options
    repeats = how.pop("repeats", 0.0)
    noise = dict(noise=how.pop("noise", 0.0), generator=generator(0, "noise"))

    def written_out():
        weights = relax(pooler(small_patches[:B].float()), 0.7, **noise, **how)
        states = sd_decoder.soft_states(weights)
        return sd_decoder.loss(z_0, states, given[1], eps) + repeats * repeated(weights)

    def loss():
        noise["generator"] = generator(0, "noise")
        how_all = how | noise | {"repeats": repeats, "tau": 0.7}
        return relaxed_loss(pooler, sd_decoder, small_patches[:B].float(), *given, eps, **how_all)

    def gradients(compute):
        pooler.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            losses = compute()
        losses.mean().backward()
        held = [x for x in kept if x.shape[-1:] == (V,) and V < x.numel() <= B * N * V]
        kept.clear()
        return losses.detach(), {k: p.grad.clone() for k, p in pooler.named_parameters()}, held

    wanted, wanted_gradient, held = gradients(written_out)
    assert held
    for images in (1, 2, B):
        monkeypatch.setattr("dd.encoder.ROOM", (images * N * V,) * 2)
        found, gradient, held = gradients(loss)
        torch.testing.assert_close(found, wanted)
        for name, g in gradient.items():
            torch.testing.assert_close(g, wanted_gradient[name], rtol=1e-4, atol=1e-6, msg=name)
        assert bool(held) == (images == B)


def test_gradient_checkpointing_holds_less_and_changes_nothing(sd_folder, float32):
    """In a frozen network in eval mode, which some libraries leave out of it."""
    decoder, (z_0, eps) = Decoder.load(sd_folder), torch.randn(2, 2, 4, 8, 8)
    states = decoder.text_states(["red", "blue"]).requires_grad_()

    def gradient():
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x) or x, lambda x: x):
            loss = decoder.loss(z_0, states, torch.tensor([300, 800]), eps).mean()
        return torch.autograd.grad(loss, states)[0], sum(x.numel() for x in held)

    (plain, much), _ = gradient(), decoder.denoiser.enable_gradient_checkpointing()
    again, less = gradient()
    assert less < 0.7 * much
    torch.testing.assert_close(again, plain)


def test_parts_of_a_batch_give_the_numbers_of_the_whole(go, tmp_path, float32):
    losses = {}
    for parts in (1, 2, 8):
        go(tmp_path / str(parts), accumulate=parts, noise=1.0)
        log = (tmp_path / str(parts) / "encoder.jsonl").read_text().splitlines()
        losses[parts] = [json.loads(line)["loss"] for line in log]
    assert len(set(losses[1])) > 3
    assert losses[2] == losses[8] == pytest.approx(losses[1], abs=2e-5)


def test_what_fits_at_once_is_said_before_the_first_step(go, tmp_path, monkeypatch, capsys):
    x = torch.randn(3, 5, requires_grad=True)
    assert kept_bytes(lambda: x.exp().exp()) == 2 * 4 * 3 * 5  # each keeps what it gives
    monkeypatch.setattr("dd.train.kept_bytes", lambda losses: 5e9 + 1e9 * len(losses()))
    monkeypatch.setattr("dd.train.free_memory", lambda: 4e9)
    for parts, fits in ((1, False), (4, True)):
        go(tmp_path / str(parts), accumulate=parts)
        said = capsys.readouterr().err
        assert f"keeps 1,000 MB of an image at once, here of {8 // parts}; 4.0 GB are" in said
        assert "enough for about 3" in said and ("use --accumulate 4, or" in said) != fits


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(accumulate=3), "8 images a step: 1 processes x 3 parts x 2 images leave some out"),
        (dict(seen=7), "7 images seen are less than one batch of 8"),
        (dict(width=30), "width is 30; four heads share it: use a multiple of 4"),
        (dict(B=65, seen=65), "64 training images do not fill a batch of 65"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(go, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        go(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_pieces_of_words_are_written_so_that_they_survive(
    small_dataset, sd_decoder, small_patches, tmp_path, capsys
):
    """CLIP's tokenizer class: the rule where none is named is one whose texts come back as they
    were; another can be had, and what it loses is said before the training."""
    how = dict(seen=8, B=8, tokens=6, width=32, blocks=1, least=0, patches=small_patches)
    how["z_all"] = torch.randn(64, 4, 8, 8, generator=generator(0, "test"))
    go = lambda name, **more: train_encoder(
        small_dataset, sd_decoder, tmp_path / name, **how, **more
    )
    assert go("default").recipe["rule"] == "word_final"
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("round trip")]
    assert said == [
        "round trip: of 64 texts of training images by rule word_final 100.0% are read back as "
        "written, 0.0% too long"
    ]
    go("pieces", rule="alphanumeric")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("round trip")]
    assert len(said) == 2 and "1000 random texts by rule alphanumeric" in said[0]
    assert float(said[0].split("% are read back")[0].split()[-1]) < 50


def test_an_unknown_option_is_refused(go, tmp_path):
    with pytest.raises(TypeError, match="no such option of a training: temperature"):
        go(tmp_path, temperature=1.0)


def test_another_recipe_does_not_go_on_from_this_checkpoint(go, tmp_path):
    go(tmp_path)
    before = (tmp_path / "encoder.state.safetensors").read_bytes()
    with pytest.raises(
        ValueError,
        match=r"encoder.state.safetensors holds a run with tau_end 0.3, now 0.5: use another --out",
    ):
        go(tmp_path, tau_end=0.5)
    assert (tmp_path / "encoder.state.safetensors").read_bytes() == before


def test_words_hardly_met_are_not_written(go, small_dataset, small_patches, tiny_decoder, tmp_path):
    from dd.captions import alt_text_phrases

    least = 20
    texts = [
        set(" ".join(w for phrases in p.values() for w in phrases).split())
        for p in alt_text_phrases(small_dataset)
    ]
    often = {w for t in texts for w in t if sum(w in u for u in texts) >= least}
    encoder = go(tmp_path, least=least)
    ids = encoder.pooler.allowed.nonzero().flatten().tolist()
    assert set(tiny_decoder.tokenizer.convert_ids_to_tokens(ids)) == often and 5 < len(often) < 100
    assert encoder.pooler.allowed[encoder.ids(small_patches)].all()


def test_batches_are_epochs_and_a_function_of_seed_and_step():
    M, B = 50, 8
    epoch = np.concatenate([batch_rows(M, B, s, 0) for s in range(M // B)])
    assert len(set(epoch)) == len(epoch) == 48
    assert np.array_equal(batch_rows(M, B, 13, 0), batch_rows(M, B, 13, 0))
    assert not np.array_equal(batch_rows(M, B, 0, 0), batch_rows(M, B, 0, 1))
    assert not np.array_equal(batch_rows(M, B, 0, 0), batch_rows(M, B, M // B, 0))


def test_rate_warms_up_and_falls_to_a_hundredth():
    assert cosine_rate(0, 1000, 3e-4, 10) == pytest.approx(3e-5)
    assert cosine_rate(10, 1000, 3e-4, 10) == pytest.approx(3e-4)
    assert cosine_rate(1000, 1000, 3e-4, 10) == pytest.approx(3e-6)


def test_constant_rate_falls_to_zero_over_the_last_fifth():
    rates = [constant_rate(step, 1000, 1.0, 10) for step in (0, 9, 500, 799, 800, 900, 999)]
    assert rates == pytest.approx([0.1, 1, 1, 1, 1, 0.5, 0.005])


def test_generators_of_two_purposes_are_independent():
    a, b, c = (torch.rand(4, generator=generator(0, p)) for p in ("gumbel", "noise", "gumbel"))
    assert torch.equal(a, c) and not torch.equal(a, b)
