"""How the shipped decoders were made: the autoencoder, the denoisers, and the judges.

python -m dd train-decoder --out my-sketch                    # autoencoder, then text-conditional denoiser
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from torch import nn

from .captions import CAPTION_MIXTURES, alt_text, alt_text_phrases, caption_mixture
from .data import Dataset, load_dataset
from .decoder import Decoder, MiniLMPipeline
from .runtime import (
    Progress,
    autocast,
    device,
    generator,
    optimizer_tensors,
    restore_optimizer,
    resume,
    save_state,
    weights_hash,
    write_json,
)
from .train import Log, batch_rows, cosine_rate, descend, encode_all
from .vision import efficientnet, features, resize
from .vocab import build_byte_tokenizer, build_word_tokenizer, tokenise


def new_scheduler():
    """v-prediction and the cosine schedule, as in the paper's decoder family."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def stable_diffusion_shaped(vae, tokenizer, text_encoder, channels: tuple[int, ...], **unet):
    """An untrained pipeline for 64-pixel drawings: U-Net on (C, 8, 8) latents, one level per entry of `channels`.

    Cross-attention only below 8x8: there it cost a third of a step. `unet`: more of UNet2DConditionModel's options."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    below = len(channels) - 1
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * below),
        up_block_types=(*["CrossAttnUpBlock2D"] * below, "UpBlock2D"),
        cross_attention_dim=text_encoder.config.hidden_size,
        attention_head_dim=max(1, channels[1] // 64),  # diffusers reads this as the number of heads
        norm_num_groups=32,
        **unet,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def new_sketch(
    tokenizer, vae, *, channels: tuple[int, ...] = (128, 192), D: int = 256, layers: int = 2
):
    """An untrained sketch: Stable Diffusion's make, a CLIP text transformer over whole words and a U-Net of two levels."""
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=D,
            intermediate_size=4 * D,
            num_hidden_layers=layers,
            num_attention_heads=D // 64,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return stable_diffusion_shaped(vae, tokenizer, text_encoder, channels)


def new_judge_b(
    tokenizer, vae, *, channels: tuple[int, ...] = (96, 128, 160), D: int = 192, layers: int = 4
):
    """An untrained judge-b: a T5 text encoder (reads both ways, relative positions) over byte-level pieces of words, and a U-Net of three
    levels whose time steps scale as well as shift."""
    from transformers import T5Config, T5EncoderModel

    text_encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=D,
            d_kv=48,
            d_ff=3 * D,
            num_layers=layers,
            num_heads=D // 48,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return stable_diffusion_shaped(
        vae, tokenizer, text_encoder, channels, resnet_time_scale_shift="scale_shift", act_fn="gelu"
    )


def new_judge_a(vae, *, D: int = 320, layers: int = 7):
    """An untrained judge-a: PixArt's diffusion transformer (2x2 patches of the latents, cross-attention in every block) on MiniLM's states."""
    from diffusers import PixArtTransformer2DModel

    C = vae.config.latent_channels
    transformer = PixArtTransformer2DModel(
        num_attention_heads=D // 64,
        attention_head_dim=64,
        in_channels=C,
        out_channels=C,
        num_layers=layers,
        cross_attention_dim=D,
        sample_size=8,
        patch_size=2,
        caption_channels=384,
    )
    nn.init.zeros_(transformer.proj_out.weight)  # as DiT: a fresh network predicts nothing
    return MiniLMPipeline(transformer, vae, new_scheduler())


EYE_MAPS = (
    0,
    2,
    4,
    7,
)  # EfficientNet-Lite0 blocks compared by the autoencoder's perceptual loss (strides 2 to 16)


LAST_MAPS = (2, 4, 10, 15)  # and by its finish: deeper ones, of pictures seen at twice their size


MORE_BATCH = 64  # of the denoiser's second go


LAST_BLOCKS = (
    3,
    2,
    2,
    1,
)  # residual blocks of the half that draws, after the finish, at 8, 16, 32 and 64 pixels


# The study's decoders: images seen by each half, learning rates (the finish starts from trained weights), root seed. `more`: the denoiser's second go, in
# batches half as large: after a few thousand steps more steps help more than larger ones.
RECIPES = {
    "sketch": {
        "seen": 512_000,
        "more_seen": 307_200,
        "autoencoder_seen": 166_400,
        "finish_seen": 72_000,
        "peak": 1.0e-3,
        "more_peak": 6.0e-4,
        "finish_peak": 6.0e-4,
        "seed": 0,
    },
    "judge-a": {"seen": 230_400, "peak": 6.0e-4, "seed": 1},
    "judge-b": {"seen": 204_800, "peak": 1.0e-3, "seed": 2},
}


def train_autoencoder(
    dataset: Dataset,
    out: Path,
    *,
    seen: int,
    B: int = 32,
    channels: int = 64,
    C: int = 16,
    peak: float = 1.2e-3,
    perceptual: float = 0.5,
    seed: int = 0,
    checkpoint_every: int = 300,
    vae=None,
):
    """Train diffusers' AutoencoderTiny on 64-pixel drawings: (B, 3, 64, 64) <-> latents (B, C, 8, 8) of about unit variance.

    Loss: L1 + perceptual (L1 between EfficientNet-Lite0 maps of four depths, as LPIPS has it; the judge looks with another
    network) + a pull of each latent channel
    towards mean 0, variance 1; a little noise on the latents makes the half that draws forgiving of what a denoiser gets wrong.
    `seen` is in images. Resumes from `out/autoencoder.state.safetensors`.

    `vae` given: its finish. Only the half that draws goes on learning (`deepen` it first), from a wider look (deeper maps, pictures at twice their size);
    the latents stay as they are, and with them every denoiser and encoder made for them. Resumes from `out/finish.state.safetensors`."""
    from diffusers import AutoencoderTiny

    stage, maps = ("autoencoder", EYE_MAPS) if vae is None else ("finish", LAST_MAPS)
    recipe = dict(
        seen=seen,
        B=B,
        channels=channels,
        C=C,
        peak=peak,
        perceptual=perceptual,
        seed=seed,
        eye=maps,
        images=dataset.fingerprint(),
        vae=vae and weights_hash(vae),
    )
    torch.manual_seed(seed)
    if vae is None:
        vae = AutoencoderTiny(
            in_channels=3,
            out_channels=3,
            latent_channels=C,
            encoder_block_out_channels=(channels,) * 4,
            decoder_block_out_channels=(channels,) * 4,
            num_encoder_blocks=(0, 0, 1, 3),
            num_decoder_blocks=(3, 2, 0, 0),
            scaling_factor=1.0,
        )
        learns = vae
    else:
        learns = vae.decoder.requires_grad_(True)
    vae.to(device(), memory_format=torch.channels_last)
    eye = efficientnet(0).to(device())
    optimizer = torch.optim.AdamW(
        learns.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4, fused=True
    )
    ema = {k: v.detach().clone() for k, v in vae.state_dict().items()}
    state, steps = out / f"{stage}.state.safetensors", seen // B
    tensors, step, told = resume(state, recipe)
    if tensors:
        vae.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net/")})
        ema = {k[4:]: v.to(device()) for k, v in tensors.items() if k.startswith("ema/")}
        restore_optimizer(optimizer, tensors)
    progress, log = Progress(stage, steps * B, step * B), Log(out / f"{stage}.jsonl", step, **told)
    look_at = lambda x: features(
        eye, x if stage == "autoencoder" else resize(x, 2 * x.shape[-1]), upto=maps[-1], keep=maps
    )
    while step < steps:
        rng = generator(seed, f"{stage}/{step}")
        x_0 = dataset.pixels(batch_rows(len(dataset), B, step, seed)).to(
            device(), memory_format=torch.channels_last
        )  # (B, 3, 64, 64)
        if torch.rand((), generator=rng) < 0.5:
            x_0 = x_0.flip(-1)
        with autocast():
            z = vae.encoder(x_0)  # (B, C, 8, 8)
            noisy = z + 0.05 * torch.randn(z.shape, generator=rng).to(z)
            x_hat = vae.decoder(noisy)  # (B, 3, 64, 64)
            seen_maps = look_at(x_hat)
            with torch.no_grad():
                true_maps = look_at(x_0)
        l1 = (x_hat.float() - x_0).abs().mean()
        look = sum(
            (a.float() - b.float()).abs().mean() / b.float().abs().mean()
            for a, b in zip(seen_maps, true_maps)
        ) / len(maps)
        mean, std = z.float().mean((0, 2, 3)), z.float().std((0, 2, 3))  # (C,)
        loss = (
            l1 + perceptual * look + 0.02 * (mean.pow(2) + std.clamp_min(1e-3).log().pow(2)).mean()
        )
        rate = cosine_rate(step, steps, peak, warmup=100)
        descend(loss, optimizer, learns, rate)
        step += 1
        decay = min(0.999, step / (step + 20))
        for name, value in vae.state_dict().items():
            ema[name].lerp_(value, 1 - decay)
        progress(
            step * B,
            f"loss {log.add(loss.item()):.4f} L1 {l1.item():.4f} perceptual {look.item():.3f}",
        )
        if step % max(1, min(50, steps // 4)) == 0:
            log.line(
                step=step, seen=step * B, l1=round(l1.item(), 5), perceptual=round(look.item(), 5)
            )
        if step % checkpoint_every == 0 or step == steps:
            save_state(
                state,
                {
                    **{f"net/{k}": v for k, v in vae.state_dict().items()},
                    **{f"ema/{k}": v for k, v in ema.items()},
                    **optimizer_tensors(optimizer),
                },
                {"step": step, "recipe": recipe, "log": log.facts()},
            )
    vae.load_state_dict(ema)
    return vae.eval().requires_grad_(False)


def deepen(vae, blocks: tuple[int, ...] = LAST_BLOCKS, seed: int = 0):
    """A copy of an AutoencoderTiny whose half that draws has `blocks` residual blocks a stage, the latents unchanged. Trained layers are kept, new
    blocks begin by adding nothing. The first training goes without blocks where pictures are large, which is cheap, and leaves edges to linear layers."""
    from diffusers import AutoencoderTiny
    from diffusers.models.autoencoders.vae import AutoencoderTinyBlock

    torch.manual_seed(seed)
    kept = {
        k: v for k, v in vae.config.items() if not k.startswith("_") and k != "block_out_channels"
    }  # not where it was loaded from, nor what it derives itself
    deeper = AutoencoderTiny.from_config({**kept, "num_decoder_blocks": tuple(blocks)})
    deeper.encoder.load_state_dict(vae.encoder.state_dict())

    def stages(net):
        """(residual blocks, other convolutions) between one doubling of the size and the next"""
        found = [([], [])]
        for layer in net.decoder.layers:
            if isinstance(layer, nn.Upsample):
                found.append(([], []))
            elif isinstance(layer, (AutoencoderTinyBlock, nn.Conv2d)):
                found[-1][isinstance(layer, nn.Conv2d)].append(layer)
        return found

    for (old, convs), (new, new_convs) in zip(stages(vae), stages(deeper)):
        for a, b in zip((*old, *convs), (*new[: len(old)], *new_convs)):
            b.load_state_dict(a.state_dict())
        for block in new[len(old) :]:
            nn.init.zeros_(block.conv[-1].weight)
            nn.init.zeros_(block.conv[-1].bias)
    return deeper


def train_denoiser(
    dataset: Dataset,
    vae,
    out: Path,
    *,
    seen: int,
    B: int = 128,
    peak: float = 1.0e-3,
    seed: int = 0,
    L: int = 32,
    channels: tuple[int, int] = (128, 192),
    checkpoint_every: int = 250,
    kind: str = "sketch",
    start=None,
):
    """Train a text-conditional denoiser on cached latents; returns a diffusers pipeline holding the averaged (EMA) weights.

    kind `sketch`: a U-Net and its own text encoder, together; `judge-a`: a diffusion transformer on MiniLM's frozen states; `judge-b`: another
    U-Net with a text encoder that reads pieces of words. `L` and `channels` are sketch's.
    One noise level per image, velocity target, mean squared error; the text of each image is drawn anew from the diet each time.
    Noise levels are drawn with a density that grows with t (t = T sqrt(u)): a text decides what a picture shows while hardly anything of
    it is there yet, and a uniform draw spends most of a short run on levels where the text is not needed. `seen` in images. Resumes from `out/denoiser.state.safetensors`.

    `start` given, a pipeline of that kind: its denoiser goes on learning under a schedule of its own. Resumes from `out/more.state.safetensors`."""

    stage = "denoiser" if start is None else "more"
    recipe = dict(
        seen=seen,
        B=B,
        peak=peak,
        seed=seed,
        L=L,
        channels=channels,
        images=dataset.fingerprint(),
        autoencoder=weights_hash(vae),
        levels="T sqrt(u)",
        kind=kind,
        caption_mixture=CAPTION_MIXTURES[kind],
        start=start and weights_hash(start.text_encoder, Decoder(start, kind).denoiser),
    )
    torch.manual_seed(seed)
    parts = alt_text_phrases(dataset)
    said = (alt_text(p, limit=10_000) for p in parts)
    learn = (
        ("transformer",) if kind == "judge-a" else ("text_encoder", "unet")
    )  # MiniLM stays as it was trained
    pipeline = (
        start
        if start is not None
        else new_sketch(build_word_tokenizer(said, max_length=L), vae, channels=channels)
        if kind == "sketch"
        else new_judge_b(build_byte_tokenizer(said, max_length=56, V=2048), vae)
        if kind == "judge-b"
        else new_judge_a(vae)
    )
    decoder = Decoder(pipeline, kind)
    z_all = encode_all(decoder, dataset)  # (M, C, h, h)
    if (
        vae.config.scaling_factor == 1.0
    ):  # an autoencoder fresh from training; another's latents keep their scale
        vae.register_to_config(scaling_factor=float(1 / z_all.std()))
        z_all = z_all / z_all.std()
    nets = (
        nn.ModuleDict({name: getattr(pipeline, name) for name in learn})
        .requires_grad_(True)
        .train()
    )
    decays = [p for p in nets.parameters() if p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decays, "weight_decay": 0.02},
            {"params": [p for p in nets.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=peak,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = {k: v.detach().clone() for k, v in nets.named_parameters()}
    state, steps = out / f"{stage}.state.safetensors", seen // B
    tensors, step, told = resume(state, recipe)
    if tensors:
        nets.load_state_dict(
            {k[4:]: v for k, v in tensors.items() if k.startswith("net/")}, strict=False
        )
        ema = {
            k: tensors[f"ema/{k}"].to(device()) for k in ema
        }  # in the parameters' order, not the file's
        restore_optimizer(optimizer, tensors)
    progress, log = (
        Progress(
            f"{stage} of {kind}" if start is None else f"second go of {kind}", steps * B, step * B
        ),
        Log(out / f"{stage}.jsonl", step, **told),
    )
    while step < steps:
        rng, words_rng = (
            generator(seed, f"{stage}/{step}"),
            random.Random(f"{seed}/{'diet' if start is None else stage}/{step}"),
        )
        rows = batch_rows(len(dataset), B, step, seed)
        z_0 = z_all[torch.from_numpy(rows)].to(device()).float()  # (B, C, h, h)
        ids = tokenise(
            decoder.tokenizer, [caption_mixture(parts[r], words_rng, kind) for r in rows]
        )  # (B, L)
        t = (
            (decoder.T * torch.rand(B, generator=rng).sqrt())
            .long()
            .clamp_max(decoder.T - 1)
            .to(device())
        )
        noise = torch.randn(z_0.shape, generator=rng).to(device())
        x_t, target = decoder.add_noise(z_0, noise, t)
        with autocast():
            states = decoder.read(ids)  # (B, L, D)
        loss = (decoder.predict(x_t, t, states) - target).pow(2).mean()
        rate = cosine_rate(step, steps, peak, warmup=min(300, steps // 10))
        descend(loss, optimizer, nets, rate)
        step += 1
        decay = min(0.999, step / (step + 20))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in nets.parameters()], 1 - decay)
        progress(step * B, f"v-loss {log.add(loss.item()):.4f}")
        if step % max(1, min(100, steps // 10)) == 0:  # short runs log ten times, too
            log.line(step=step, seen=step * B, rate=rate)
        if step % checkpoint_every == 0 or step == steps:
            save_state(
                state,
                {
                    **{f"net/{k}": v for k, v in nets.named_parameters()},
                    **{f"ema/{k}": v for k, v in ema.items()},
                    **optimizer_tensors(optimizer),
                },
                {"step": step, "recipe": recipe, "log": log.facts()},
            )
    nets.load_state_dict(ema, strict=False)
    nets.eval().requires_grad_(False)
    return pipeline


def make_decoder(name: str, out: Path, **changed) -> None:
    """A shipped decoder by RECIPES[name], in which `changed` replaces entries: trained on the emoji world's train split and saved as a
    float16 pipeline folder with its logs and what made it.

    `sketch` from nothing: autoencoder, denoiser, its second go, the autoencoder's finish. The judges look at the same latents: the shipped `sketch`'s
    autoencoder, everything else their own."""

    dataset, recipe = load_dataset("emoji").subset("train"), {**RECIPES[name], **changed}
    if unknown := set(changed) - set(RECIPES[name]):
        raise ValueError(
            f"{name} has no {', '.join(sorted(unknown))}: it looks at sketch's latents"
        )
    seed = recipe["seed"]
    vae = (
        train_autoencoder(dataset, out, seen=recipe["autoencoder_seen"], seed=seed)
        if name == "sketch"
        else Decoder.load("sketch").vae
    )
    pipeline = train_denoiser(
        dataset, vae, out, seen=recipe["seen"], seed=seed, kind=name, peak=recipe["peak"]
    )
    if recipe.get("more_seen"):
        pipeline = train_denoiser(
            dataset,
            vae,
            out,
            seen=recipe["more_seen"],
            B=MORE_BATCH,
            seed=seed,
            kind=name,
            peak=recipe["more_peak"],
            start=pipeline,
        )
    if recipe.get("finish_seen"):
        pipeline.register_modules(
            vae=train_autoencoder(
                dataset,
                out,
                seen=recipe["finish_seen"],
                peak=recipe["finish_peak"],
                seed=seed,
                vae=deepen(pipeline.vae, seed=seed),
            )
        )
    pipeline.to(torch.float16).save_pretrained(out / "pipeline", safe_serialization=True)
    for path in (out / "pipeline").rglob(
        "config.json"
    ):  # where a part was loaded from is nobody's business
        write_json(
            path, {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        )
    write_json(
        out / "pipeline" / "recipe.json",
        {
            **recipe,
            "name": name,
            "diet": CAPTION_MIXTURES[name],
            "train_images": len(dataset),
            "images": dataset.fingerprint(),
            "torch": torch.__version__,
        },
    )
    for log in out.glob("*.jsonl"):
        (out / "pipeline" / log.name).write_text(log.read_text())
