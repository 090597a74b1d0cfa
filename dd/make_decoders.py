"""How the shipped decoders were made: the autoencoder, the denoisers, and the judges.

    python -m dd train-decoder --out my-sketch      # autoencoder, then text-conditional denoiser

Letters: B batch, M images, L context length, D width, C latent channels, T noise levels.
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
from .runtime import autocast, device, weights_hash, write_json
from .train import adamw, encode_all, training_loop
from .vision import efficientnet, features, resize
from .vocab import build_byte_tokenizer, build_word_tokenizer, tokenise

# The study's decoders: images seen by each stage, learning rates, root seed. `more`: the denoiser
# goes on in smaller batches, for after a few thousand steps more steps help more than larger ones.
# `finish`: the autoencoder's decoder goes on, deeper.
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
MORE_BATCH = 64
FINISH_BLOCKS = (3, 2, 2, 1)  # residual blocks at 8, 16, 32 and 64 pixels after the finish

# EfficientNet-Lite0 blocks whose maps the perceptual loss compares (strides 2 to 16); the finish
# compares deeper ones, of pictures at twice their size.
LOOK_MAPS, FINISH_MAPS = (0, 2, 4, 7), (2, 4, 10, 15)
PERCEPTUAL = 0.5  # weight of the perceptual loss


def new_scheduler():
    """v-prediction and the cosine schedule, as in the paper's decoder family."""
    from diffusers import DDIMScheduler

    schedule = dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    steps = dict(steps_offset=1, timestep_spacing="trailing")
    return DDIMScheduler(**schedule, **steps, clip_sample=False, set_alpha_to_one=True)


def new_autoencoder(channels: int, C: int = 16):
    from diffusers import AutoencoderTiny

    encoder = dict(encoder_block_out_channels=(channels,) * 4, num_encoder_blocks=(0, 0, 1, 3))
    decoder = dict(decoder_block_out_channels=(channels,) * 4, num_decoder_blocks=(3, 2, 0, 0))
    return AutoencoderTiny(3, 3, **encoder, **decoder, latent_channels=C, scaling_factor=1.0)


def stable_diffusion_shaped(vae, tokenizer, text_encoder, channels: tuple[int, ...], **unet):
    """An untrained pipeline for 64-pixel drawings: a U-Net on (C, 8, 8) latents, one level per
    entry of `channels`. Cross-attention only below 8x8: there it cost a third of a step."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    below, C = len(channels) - 1, vae.config.latent_channels
    denoiser = UNet2DConditionModel(
        sample_size=8,
        in_channels=C,
        out_channels=C,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * below),
        up_block_types=(*["CrossAttnUpBlock2D"] * below, "UpBlock2D"),
        cross_attention_dim=text_encoder.config.hidden_size,
        attention_head_dim=max(1, channels[1] // 64),  # diffusers reads this as the number of heads
        norm_num_groups=32,
        **unet,
    )
    nets = dict(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=denoiser)
    nothing = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    return StableDiffusionPipeline(**nets, scheduler=new_scheduler(), **nothing)


def new_sketch(tokenizer, vae, *, channels=(128, 192), D: int = 256, layers: int = 2):
    """An untrained sketch, Stable Diffusion's make: a CLIP text transformer over whole words and a
    U-Net of two levels."""
    from transformers import CLIPTextConfig, CLIPTextModel

    size = dict(hidden_size=D, intermediate_size=4 * D, num_attention_heads=D // 64)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **size,
    )
    return stable_diffusion_shaped(vae, tokenizer, CLIPTextModel(config), channels)


def new_judge_b(tokenizer, vae, *, channels=(96, 128, 160), D: int = 192, layers: int = 4):
    """An untrained judge-b: a T5 text encoder (reads both ways, relative positions) over byte-level
    pieces of words, and a U-Net of three levels whose time steps scale as well as shift."""
    from transformers import T5Config, T5EncoderModel

    size = dict(d_model=D, d_kv=48, d_ff=3 * D, num_layers=layers, num_heads=D // 48)
    ends = dict(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    gates = dict(dropout_rate=0.0, feed_forward_proj="gated-gelu")
    text_encoder = T5EncoderModel(T5Config(vocab_size=len(tokenizer), **size, **ends, **gates))
    unet = dict(resnet_time_scale_shift="scale_shift", act_fn="gelu")
    return stable_diffusion_shaped(vae, tokenizer, text_encoder, channels, **unet)


def new_judge_a(vae, *, D: int = 320, layers: int = 7):
    """An untrained judge-a: PixArt's diffusion transformer (2x2 patches of the latents,
    cross-attention in every block) on MiniLM's states."""
    from diffusers import PixArtTransformer2DModel

    C = vae.config.latent_channels
    latents = dict(in_channels=C, out_channels=C, sample_size=8, patch_size=2)
    heads = dict(num_attention_heads=D // 64, attention_head_dim=64)
    text = dict(cross_attention_dim=D, caption_channels=384)
    transformer = PixArtTransformer2DModel(num_layers=layers, **latents, **heads, **text)
    nn.init.zeros_(transformer.proj_out.weight)  # as DiT: a fresh network predicts nothing
    return MiniLMPipeline(transformer, vae, new_scheduler())


def train_autoencoder(
    dataset: Dataset,
    out: Path,
    *,
    seen: int,
    B: int = 32,
    channels: int = 64,
    C: int = 16,
    peak: float = 1.2e-3,
    seed: int = 0,
    checkpoint_every: int = 300,
    vae=None,
):
    """Train diffusers' AutoencoderTiny: drawings (B, 3, 64, 64) <-> latents (B, C, 8, 8) of about
    unit variance.

    Loss: L1 + perceptual (L1 between EfficientNet-Lite0 maps of four depths, as LPIPS has it; the
    metrics use another network) + a pull of each latent channel towards mean 0, variance 1. Some
    noise on the latents makes the decoder forgiving of a denoiser's errors.

    `vae` given: its finish. Only its decoder goes on learning (`deepen` it first), from deeper maps
    of pictures at twice their size; the latents stay as they are, and with them every denoiser and
    encoder made for them.
    Resumes from `out/autoencoder.state.safetensors`, the finish from `finish.state.safetensors`."""
    stage, maps = ("autoencoder", LOOK_MAPS) if vae is None else ("finish", FINISH_MAPS)
    recipe = dict(seen=seen, B=B, channels=channels, C=C, peak=peak, perceptual=PERCEPTUAL)
    recipe |= dict(seed=seed, eye=maps, images=dataset.fingerprint(), vae=vae and weights_hash(vae))
    torch.manual_seed(seed)
    vae = vae or new_autoencoder(channels, C)
    vae.encoder.requires_grad_(stage == "autoencoder")
    vae.decoder.requires_grad_(True)
    vae.to(device(), memory_format=torch.channels_last)
    backbone = efficientnet(0).to(device())

    def look(x):
        x = x if stage == "autoencoder" else resize(x, 2 * x.shape[-1])
        return features(backbone, x, upto=maps[-1], keep=maps)

    def batch_loss(rows, step, rng):
        x_0 = dataset.pixels(rows).to(device(), memory_format=torch.channels_last)  # (B, 3, 64, 64)
        if torch.rand((), generator=rng) < 0.5:
            x_0 = x_0.flip(-1)
        with autocast():
            z = vae.encoder(x_0)  # (B, C, 8, 8)
            noisy = z + 0.05 * torch.randn(z.shape, generator=rng).to(z)
            x_hat = vae.decoder(noisy)  # (B, 3, 64, 64)
            drawn = [m.float() for m in look(x_hat)]
            with torch.no_grad():
                true = [m.float() for m in look(x_0)]
        l1 = (x_hat.float() - x_0).abs().mean()
        ratios = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(drawn, true)]
        perceptual = sum(ratios) / len(maps)
        mean, std = z.float().mean((0, 2, 3)), z.float().std((0, 2, 3))  # (C,)
        spread = (mean.pow(2) + std.clamp_min(1e-3).log().pow(2)).mean()
        loss = l1 + PERCEPTUAL * perceptual + 0.02 * spread
        return loss, {"l1": l1.detach(), "perceptual": perceptual.detach()}

    optimizer = adamw([p for p in vae.parameters() if p.requires_grad], peak, weight_decay=1e-4)
    options = dict(warmup=100, average=True, checkpoint_every=checkpoint_every)
    run = (vae, optimizer, batch_loss, out, stage, recipe, len(dataset))
    for log in training_loop(*run, **options):
        if log.due(lines=4, every=50, last=False):
            log.line(**{name: round(value, 5) for name, value in log.terms.items()})
    return vae


def deepen(vae, blocks: tuple[int, ...] = FINISH_BLOCKS, seed: int = 0):
    """A copy of an AutoencoderTiny whose decoder has `blocks` residual blocks a stage, the latents
    unchanged. Trained layers are kept, new blocks begin by adding nothing. The first training goes
    without blocks where pictures are large, which is cheap, and leaves edges to linear layers."""
    from diffusers import AutoencoderTiny
    from diffusers.models.autoencoders.vae import AutoencoderTinyBlock

    torch.manual_seed(seed)
    derived = lambda k: k.startswith("_") or k == "block_out_channels"
    config = {k: v for k, v in vae.config.items() if not derived(k)}
    deeper = AutoencoderTiny.from_config({**config, "num_decoder_blocks": tuple(blocks)})
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


def new_pipeline(kind: str, vae, texts, L: int = 32, channels: tuple[int, ...] = (128, 192)):
    """An untrained pipeline of RECIPES' kind, its vocabulary learnt from `texts`."""
    if kind == "judge-a":
        return new_judge_a(vae)
    if kind == "judge-b":
        return new_judge_b(build_byte_tokenizer(texts, max_length=56, V=2048), vae)
    return new_sketch(build_word_tokenizer(texts, max_length=L), vae, channels=channels)


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
    """Train a text-conditional denoiser on cached latents; returns a diffusers pipeline that holds
    the averaged (EMA) weights.

    kind    `sketch`: a U-Net and its own text encoder, together; `judge-a`: a diffusion transformer
            on MiniLM's frozen states; `judge-b`: another U-Net with a text encoder that reads
            pieces of words. `L` and `channels` are sketch's
    start   a pipeline of that kind, whose denoiser goes on learning by a schedule of its own
    One noise level per image, velocity target, mean squared error; each image's text is drawn anew
    from the caption mixture each time. The density of noise levels grows with t (t = T sqrt(u)): a
    text decides what a picture shows while hardly anything of it is there yet.
    Resumes from `out/denoiser.state.safetensors`, with `start` from `more.state.safetensors`."""
    stage, stream = ("more", "more") if start else ("denoiser", "diet")
    recipe = dict(seen=seen, B=B, peak=peak, seed=seed, L=L, channels=channels)
    recipe |= dict(images=dataset.fingerprint(), autoencoder=weights_hash(vae), levels="T sqrt(u)")
    recipe |= {"kind": kind, "diet": CAPTION_MIXTURES[kind], "start": None}  # names of old files
    if start:
        recipe["start"] = weights_hash(start.text_encoder, Decoder(start, kind).denoiser)
    torch.manual_seed(seed)
    parts = alt_text_phrases(dataset)
    texts = (alt_text(p, limit=10_000) for p in parts)
    pipeline = start or new_pipeline(kind, vae, texts, L, channels)
    decoder = Decoder(pipeline, kind)
    z_all = encode_all(decoder, dataset)  # (M, C, h, h)
    if vae.config.scaling_factor == 1.0:  # fresh from training; other latents keep their scale
        vae.register_to_config(scaling_factor=float(1 / z_all.std()))
        z_all = z_all / z_all.std()
    learn = ("transformer",) if kind == "judge-a" else ("text_encoder", "unet")
    nets = nn.ModuleDict({name: getattr(pipeline, name) for name in learn}).requires_grad_(True)
    decays, others = (
        [p for p in nets.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False)
    )
    groups = [{"params": decays, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]

    def batch_loss(rows, step, rng):
        mixture_rng = random.Random(f"{seed}/{stream}/{step}")
        texts = [caption_mixture(parts[r], mixture_rng, kind) for r in rows]
        z_0 = z_all[rows].to(device()).float()  # (B, C, h, h)
        t = (decoder.T * torch.rand(B, generator=rng).sqrt()).long().clamp_max(decoder.T - 1)
        t, noise = t.to(device()), torch.randn(z_0.shape, generator=rng).to(device())
        x_t, target = decoder.add_noise(z_0, noise, t)
        with autocast():
            states = decoder.read(tokenise(decoder.tokenizer, texts))  # (B, L, D)
        return (decoder.predict(x_t, t, states) - target).pow(2).mean(), {}

    warmup, title = min(300, seen // B // 10), f"{stage} of {kind}"
    options = dict(warmup=warmup, average=True, checkpoint_every=checkpoint_every, title=title)
    run = (nets, adamw(groups, peak), batch_loss, out, stage, recipe, len(dataset))
    for log in training_loop(*run, **options):
        if log.due(lines=10, last=False):
            log.line(rate=log.rate)
    return pipeline


def make_decoder(name: str, out: Path, **changed) -> None:
    """A shipped decoder by RECIPES[name], in which `changed` replaces entries: trained on the emoji
    dataset's train split and saved as a float16 pipeline folder with its logs and its recipe.

    `sketch` from nothing: autoencoder, denoiser, more of it, the autoencoder's finish. The judges
    use the latents of the shipped `sketch`'s autoencoder, everything else is their own."""
    if unknown := set(changed) - set(RECIPES[name]):
        raise ValueError(
            f"{name} has no {', '.join(sorted(unknown))}: it looks at sketch's latents"
        )
    dataset, recipe = load_dataset("emoji").subset("train"), {**RECIPES[name], **changed}
    of = lambda stage: {k: recipe.get(stage + k) for k in ("seen", "peak")} | {
        "seed": recipe["seed"]
    }
    if name == "sketch":
        first = dict(seen=recipe["autoencoder_seen"], seed=recipe["seed"])
        vae = train_autoencoder(dataset, out, **first)
    else:
        vae = Decoder.load("sketch").vae
    pipeline = train_denoiser(dataset, vae, out, kind=name, **of(""))
    if recipe.get("more_seen"):
        more = dict(B=MORE_BATCH, kind=name, start=pipeline, **of("more_"))
        pipeline = train_denoiser(dataset, vae, out, **more)
    if recipe.get("finish_seen"):
        deeper = deepen(pipeline.vae, seed=recipe["seed"])
        vae = train_autoencoder(dataset, out, vae=deeper, **of("finish_"))
        pipeline.register_modules(vae=vae)
    folder = out / "pipeline"
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("config.json"):  # nobody needs to know where a model was loaded from
        config = json.loads(path.read_text())
        write_json(path, {k: v for k, v in config.items() if k != "_name_or_path"})
    recipe |= {"name": name, "diet": CAPTION_MIXTURES[name], "train_images": len(dataset)}
    recipe |= {"images": dataset.fingerprint(), "torch": torch.__version__}
    write_json(folder / "recipe.json", recipe)
    for log in out.glob("*.jsonl"):
        (folder / log.name).write_text(log.read_text())
