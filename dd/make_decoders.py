"""How decoders are made: one autoencoder, three denoisers on its latents, a weaker one beside each
to guide it, and an adversarial finish of the autoencoder's half that draws.

    python -m dd train-decoder --out my-decoders                # all of it, in this order
    python -m dd train-decoder --out my-decoders --name sketch  # one part; what it needs is there

Letters: B batch, M images, L context length, D width, C latent channels, T noise levels.
"""

import json
import math
import random
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .captions import (
    CAPTION_MIXTURES,
    alt_text,
    alt_text_phrases,
    caption_mixture,
    mirrored,
    sentence,
)
from .data import Dataset, load_dataset
from .decoder import GUIDE, Decoder, MiniLMPipeline
from .files import whole
from .optimizers import MuonAndAdamW, adamw, constant_rate
from .runtime import (
    autocast,
    device,
    on_every_core,
    placed,
    quiet,
    rows_at_once,
    weights_hash,
    write_json,
)
from .sources import DECODERS
from .train import encode_all, made_by, training_loop
from .vision import efficientnet, features, resize
from .vocab import build_byte_tokenizer, build_word_tokenizer, tokenise

ALIGN = 0.5  # weight of the alignment of the denoisers' middle with what a network sees

# The parts in the order in which they are made: images seen, peak learning rate, root seed.
RECIPES = {
    "autoencoder": {"seen": 200_000, "peak": 6.0e-4, "seed": 0},
    "sketch": {"seen": 1_024_000, "peak": 1.5e-3, "seed": 0, "align": ALIGN},
    "judge-a": {"seen": 512_000, "peak": 1.5e-3, "seed": 1, "align": ALIGN},
    "judge-b": {"seen": 512_000, "peak": 1.5e-3, "seed": 2, "align": ALIGN},
    "sketch-guide": {"seen": 32_000, "peak": 2.0e-3, "seed": 0},
    "judge-a-guide": {"seen": 32_000, "peak": 2.0e-3, "seed": 1},
    "judge-b-guide": {"seen": 32_000, "peak": 2.0e-3, "seed": 2},
    "finish": {"seen": 30_000, "peak": 3.0e-4, "seed": 0},
}
# What else the weights depend on; L (a text's tokens) and channels of a denoiser are sketch's.
AUTOENCODER = {"B": 32, "channels": 64, "C": 16, "peak": 6.0e-4, "seed": 0}
DENOISER = {"B": 64, "L": 32, "channels": (128, 192), "peak": 1.5e-3, "seed": 0}
FINISH = {"B": 32, "peak": 3.0e-4, "seed": 0}

MAPS = (0, 2, 4, 10)  # EfficientNet-Lite0 blocks whose maps the perceptual loss compares
PERCEPTUAL = 0.5  # weight of the perceptual loss
NOISE = 0.4  # most of the noise on the autoencoder's latents, as a share of their spread
JUDGE_B = dict(resnet_time_scale_shift="scale_shift", act_fn="gelu")  # another U-Net than sketch's
SEEN = (10, 15)  # EfficientNet-Lite0 blocks whose maps the denoisers are aligned with
BLOCKS = (3, 2, 2, 1)  # residual blocks at 8, 16, 32 and 64 pixels of the half that draws
# The finish: EfficientNet-Lite0 blocks whose maps the discriminators see, and the noise levels from
# which the denoisers predict latents, with the weight of likeness there: a quiet level's prediction
# is the drawing, a loud one's is a guess that need not be.
LOOKED_AT, LEVELS = (0, 2, 4, 10, 15), {100: 1.0, 250: 0.8, 400: 0.6, 550: 0.4}


def new_scheduler():
    """v-prediction and the cosine schedule, as in the paper's decoder family."""
    from diffusers import DDIMScheduler

    schedule = dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    steps = dict(steps_offset=1, timestep_spacing="trailing")
    return DDIMScheduler(**schedule, **steps, clip_sample=False, set_alpha_to_one=True)


def new_autoencoder(channels: int, C: int = 16):
    from diffusers import AutoencoderTiny

    encoder = dict(encoder_block_out_channels=(channels,) * 4, num_encoder_blocks=(0, 0, 1, 3))
    decoder = dict(decoder_block_out_channels=(channels,) * 4, num_decoder_blocks=BLOCKS)
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
    return stable_diffusion_shaped(vae, tokenizer, text_encoder, channels, **JUDGE_B)


def new_judge_a(vae, *, D: int = 320, layers: int = 7, **text):
    """An untrained judge-a: PixArt's diffusion transformer (2x2 patches of the latents,
    cross-attention in every block) on MiniLM's states; `text`: its tokenizer and text encoder."""
    from diffusers import PixArtTransformer2DModel

    C = vae.config.latent_channels
    latents = dict(in_channels=C, out_channels=C, sample_size=8, patch_size=2)
    heads = dict(num_attention_heads=D // 64, attention_head_dim=64)
    reads = dict(cross_attention_dim=D, caption_channels=384)
    transformer = PixArtTransformer2DModel(num_layers=layers, **latents, **heads, **reads)
    nn.init.zeros_(transformer.proj_out.weight)  # as DiT: a fresh network predicts nothing
    return MiniLMPipeline(transformer, vae, new_scheduler(), **text)


def new_guide(kind: str, of):
    """A pipeline like `of`, one of RECIPES' kind, with its text encoder and a fresh denoiser of
    half the size."""
    text = dict(tokenizer=of.tokenizer, text_encoder=of.text_encoder)
    if kind == "judge-a":
        return new_judge_a(of.vae, D=256, layers=5, **text)
    channels, unet = ((96, 128), {}) if kind == "sketch" else ((64, 96, 128), JUDGE_B)
    return stable_diffusion_shaped(of.vae, channels=channels, **text, **unet)


def train_autoencoder(
    dataset: Dataset, out: Path, *, seen: int, checkpoint_every=300, start=None, **changed
):
    """Train diffusers' AutoencoderTiny: drawings (B, 3, 64, 64) <-> latents (B, C, 8, 8) of about
    unit variance. `start`: an autoencoder that goes on learning; `changed` replaces entries of
    AUTOENCODER.

    Loss: L1 + perceptual (L1 between EfficientNet-Lite0 maps of four depths, as LPIPS has it; the
    metrics use another network) + a pull of each latent channel towards mean 0, variance 1.
    The latents get noise of up to NOISE of their spread, for no small denoiser is right to less,
    and half of them are mirrored and must give the mirrored drawing.
    Resumes from `out/autoencoder.state.safetensors`."""
    facts = dict(perceptual=PERCEPTUAL, eye=MAPS, images=dataset.fingerprint(), noise=NOISE)
    facts["start"] = start and weights_hash(start)
    recipe = made_by(AUTOENCODER, changed, seen=seen, **facts)
    torch.manual_seed(recipe["seed"])
    B, vae = recipe["B"], start or new_autoencoder(recipe["channels"], recipe["C"])
    spread = 1 / vae.config.scaling_factor  # of the latents, as the network gives them
    vae.requires_grad_(True).to(device(), memory_format=torch.channels_last)
    backbone = efficientnet(0).to(device())
    see = lambda x: features(backbone, x, upto=MAPS[-1], keep=MAPS)

    def batch_loss(rows, step, rng):
        coin = lambda: torch.rand((B, 1, 1, 1), generator=rng)
        mirror = lambda x, which: torch.where(which.to(x.device), x.flip(-1), x)
        x_0 = dataset.pixels(rows).to(device(), memory_format=torch.channels_last)  # (B, 3, 64, 64)
        x_0 = mirror(x_0, coin() < 0.5)
        mirrored, level = coin() < 0.5, NOISE * spread * coin()
        with autocast():
            z = vae.encoder(x_0)  # (B, C, 8, 8)
            noisy = z + (level * torch.randn(z.shape, generator=rng)).to(z)
            x_hat, x_0 = vae.decoder(mirror(noisy, mirrored)), mirror(x_0, mirrored)
            l1, perceptual, _ = likeness(see, x_hat.float(), x_0)
        mean, std = z.float().mean((0, 2, 3)), z.float().std((0, 2, 3))  # (C,)
        unit = (mean.pow(2) + std.clamp_min(1e-3).log().pow(2)).mean()
        loss = l1.mean() + PERCEPTUAL * perceptual.mean() + 0.05 * unit
        return loss, {"l1": l1.mean().detach(), "perceptual": perceptual.mean().detach()}

    optimizer = adamw(list(vae.parameters()), recipe["peak"], weight_decay=1e-4)
    options = dict(warmup=min(100, seen // B // 10), average=0.999)
    run = (vae, optimizer, batch_loss, out, "autoencoder", recipe, len(dataset))
    for log in training_loop(*run, **options, checkpoint_every=checkpoint_every):
        if log.due(lines=4, every=50, last=False):
            log.line(**{name: round(value, 5) for name, value in log.terms.items()})
    vae.register_to_config(scaling_factor=1.0)  # of the new latents: `scaled`
    return vae


def likeness(see, x_hat: torch.Tensor, x_0: torch.Tensor):
    """How unlike pictures x_hat (B, 3, H, W) are to x_0 -> (L1 (B,), perceptual distance (B,), and
    the maps that `see` gives of both)."""
    drawn = see(x_hat)
    with torch.no_grad():
        true = see(x_0)
    apart = lambda a, b: (a.float() - b.float()).abs().mean((1, 2, 3))
    ratios = [apart(a, b) / b.float().abs().mean() for a, b in zip(drawn, true)]
    return apart(x_hat, x_0), sum(ratios) / len(ratios), (drawn, true)


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
    checkpoint_every: int = 500,
    kind: str = "sketch",
    start=None,
    guide: bool = False,
    align: float = 0.0,
    **changed,
):
    """Train a text-conditional denoiser on cached latents; returns a diffusers pipeline that holds
    the averaged (EMA) weights. `changed` replaces entries of DENOISER.

    kind    `sketch`: a U-Net and its own text encoder, together; `judge-a`: a diffusion transformer
            on MiniLM's frozen states; `judge-b`: another U-Net with a text encoder that reads
            pieces of words
    start   a pipeline of that kind, whose denoiser goes on learning on this autoencoder's latents
    guide   `start` has a fresh denoiser that is to guide another: its text encoder must stay
    align   weight of a second task: to tell what a network sees in the drawing (Alignment)
    One noise level per image, velocity target, mean squared error; each image's text is drawn anew
    from the caption mixture each time, half the drawings are mirrored where that keeps the meaning.
    Half of the noise levels are uniform, half have a density that grows with t: a text decides what
    a picture shows while hardly anything of it is there yet. Muon and AdamW at one learning rate,
    which stays until it falls to zero over the last fifth.
    Resumes from `out/denoiser.state.safetensors`."""
    facts = dict(images=dataset.fingerprint(), autoencoder=weights_hash(vae), start=None)
    facts |= dict(kind=kind, levels="T u, T sqrt(u)", captions=CAPTION_MIXTURES[kind])
    recipe = made_by(DENOISER, changed, seen=seen, **facts)
    B, seed = recipe["B"], recipe["seed"]
    if align:
        recipe["align"] = align
    if start:
        recipe["start"] = weights_hash(start.text_encoder, Decoder(start, kind).denoiser)
        start.register_modules(vae=vae)
    torch.manual_seed(seed)
    phrases = alt_text_phrases(dataset)
    texts = [alt_text(p, limit=10_000) for p in phrases]
    rng = random.Random(f"{seed}/vocabulary")  # the words that only sentences have, "an" for one
    texts += [sentence(p, rng) for p in phrases]
    fresh = start or new_pipeline(kind, vae, texts, recipe["L"], recipe["channels"])
    decoder = Decoder(fresh, kind)
    z_all = torch.stack([encode_all(decoder, dataset, mirror) for mirror in (False, True)], 1)
    if vae.config.scaling_factor == 1.0:  # fresh from training; other latents keep their scale
        vae.register_to_config(scaling_factor=float(1 / z_all.std()))
        z_all = z_all / z_all.std()  # (M, 2, C, h, h)
    both_ways = [(p, mirrored(p)) for p in phrases]
    learn = ("text_encoder", "unet") if decoder.is_unet else ("transformer",)
    learn = learn[-1:] if guide else learn
    nets = nn.ModuleDict({name: getattr(decoder.pipeline, name) for name in learn})
    aligned = Alignment(decoder, dataset).to(device()) if align else None
    if aligned:
        nets["alignment"] = aligned

    def batch_loss(rows, step, rng):
        coins, mixture_rng = torch.rand(B, generator=rng), random.Random(f"{seed}/captions/{step}")
        flips = [bool(c < 0.5) and both_ways[r][1] is not None for c, r in zip(coins, rows)]
        texts = [caption_mixture(both_ways[r][f], mixture_rng, kind) for r, f in zip(rows, flips)]
        z_0 = z_all[rows, torch.tensor(flips).long()].to(device()).float()  # (B, C, h, h)
        u = torch.rand(B, generator=rng)
        t = (decoder.T * torch.cat([u[: B // 2], u[B // 2 :].sqrt()])).long()
        t = t.clamp_max(decoder.T - 1).to(device())
        noise = torch.randn(z_0.shape, generator=rng).to(device())
        x_t, target = decoder.add_noise(z_0, noise, t)
        with autocast():
            states = decoder.read(tokenise(decoder.tokenizer, texts))  # (B, L, D)
        loss = (decoder.predict(x_t, t, states) - target).pow(2).mean()
        if not aligned:
            return loss, {}
        unlike = aligned(rows, flips)
        return loss + align * unlike, {"velocity": loss.detach(), "unlike": unlike.detach()}

    options = dict(warmup=min(300, seen // B // 10), average=0.9998, schedule=constant_rate)
    name = "guide" if guide else "denoiser"
    options |= dict(checkpoint_every=checkpoint_every, title=f"{name} of {kind}")
    nets.requires_grad_(True)
    run = (nets, MuonAndAdamW(nets, recipe["peak"]), batch_loss, out, name, recipe, len(dataset))
    for log in training_loop(*run, **options):
        if log.due(lines=10, every=250, last=False):
            log.line(rate=log.rate, **{name: round(value, 5) for name, value in log.terms.items()})
    if aligned:
        [hook.remove() for hook in aligned.hooks]
    return decoder.pipeline


class Alignment(nn.Module):
    """Representation alignment (REPA; Yu et al., 2025): from what a denoiser holds half way, two
    convolutions that are not kept must tell what EfficientNet-Lite0 sees in the drawing without
    noise. So the text is soon read for what a thing looks like, not only for the noise it leaves.
    The autoencoder learns from the same network; the metrics use another.

    Half way: a U-Net's middle (the coarse maps of `maps_seen`) and the level above it on the way
    up (the fine ones); a transformer's middle block (the coarse ones)."""

    def __init__(self, decoder, dataset: Dataset, width: int = 512):
        super().__init__()
        net, self.held = decoder.denoiser, {}
        if decoder.is_unet:
            places, D = (net.mid_block, net.up_blocks[0]), net.config.block_out_channels[-1]
        else:
            places, D = (
                net.transformer_blocks[len(net.transformer_blocks) // 2 :][:1],
                net.inner_dim,
            )
        self.maps = maps_seen(dataset)[: len(places)]
        keep = lambda i: lambda module, given, states: self.held.update({i: states})
        self.hooks = [place.register_forward_hook(keep(i)) for i, place in enumerate(places)]
        self.conv_in = nn.ModuleList(nn.Conv2d(D, width, 1) for _ in places)
        self.conv_out = nn.ModuleList(nn.Conv2d(width, m.shape[2], 1) for m in self.maps)

    def forward(self, rows, flips: list[bool]) -> torch.Tensor:
        """One minus the cosine between what was told and what is seen, over channels, of the
        drawings `rows` (mirrored where `flips` says so) that the denoiser was last given."""
        unlike, mirrored = [], torch.tensor(flips).long()
        for i, (conv_in, conv_out) in enumerate(zip(self.conv_in, self.conv_out)):
            h = self.held[i]  # (B, D, k, k), or a transformer's tokens (B, k k, D)
            h = h if h.ndim == 4 else h.mT.unflatten(-1, (math.isqrt(h.shape[1]),) * 2)
            with autocast():
                told = conv_out(F.silu(conv_in(h))).float()  # (B, c, k, k)
            seen = self.maps[i][rows, mirrored].to(device()).float()  # (B, c, n, n)
            seen = F.adaptive_avg_pool2d(seen, told.shape[-2:])
            unlike.append(1 - F.cosine_similarity(told, seen, dim=1).mean())
        return torch.stack(unlike).mean()


@torch.no_grad()
def maps_seen(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """What EfficientNet-Lite0 sees in drawings of 128 pixels and in their mirror images, each
    channel of mean 0 and variance 1, float16: coarse maps of both blocks of SEEN, side by side,
    (M, 2, c, 4, 4), and fine ones of the first, (M, 2, c', 8, 8)."""
    net = placed(efficientnet(0), last=True)

    def see(pixels: torch.Tensor) -> torch.Tensor:
        with autocast():
            maps = features(net, resize(pixels.to(device()), 128), upto=SEEN[-1], keep=SEEN)
        coarse = torch.cat([F.adaptive_avg_pool2d(m.float(), 4) for m in maps], 1)
        return torch.cat([coarse.flatten(1), maps[0].float().flatten(1)], 1).half().cpu()

    def of_all(mirror: bool) -> torch.Tensor:
        of = lambda pixels: see(pixels.flip(-1) if mirror else pixels)
        work = lambda rows: of(dataset.pixels(rows))
        return torch.cat([*on_every_core(work, len(dataset), rows_at_once(32, 256))])

    both = of_all(False), of_all(True)
    seen = torch.stack(both, 1)  # (M, 2, c 4 4 + c' 8 8)
    fine = net._blocks[SEEN[0]]._project_conv.out_channels * 8 * 8
    coarse, fine = seen[..., :-fine].unflatten(2, (-1, 4, 4)), seen[..., -fine:]
    fine = fine.unflatten(2, (-1, 8, 8))
    for channel in (*coarse.unbind(2), *fine.unbind(2)):  # in turn: float32 copies would be large
        std, mean = torch.std_mean(channel.float())
        channel.copy_((channel.float() - mean) / (std + 1e-4))
    return coarse, fine


class Discriminators(nn.Module):
    """A projected GAN's: three convolutions with spectral norm on each of a frozen network's maps
    (Sauer et al., 2021). `scales`: what brings each map to unit spread."""

    def __init__(self, channels: list[int], scales: list[float], width: int = 64):
        super().__init__()
        sn, self.scales = nn.utils.parametrizations.spectral_norm, scales
        conv = lambda i, o, k: sn(nn.Conv2d(i, o, k, padding=k // 2))
        nets = [[conv(c, width, 1), conv(width, width, 3), conv(width, 1, 3)] for c in channels]
        slope = lambda: nn.LeakyReLU(0.2)
        self.nets = nn.ModuleList(nn.Sequential(a, slope(), b, slope(), c) for a, b, c in nets)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps [(B, c, h, w)] -> [(B, 1, h, w)], larger where a map looks like a drawing's."""
        return [net(m * s).float() for net, m, s in zip(self.nets, maps, self.scales)]


@torch.no_grad()
def one_step(decoder, z_0: torch.Tensor, texts: list[str], t: torch.Tensor, noise: torch.Tensor):
    """Latents z_0 (B, C, h, h) noised to levels t (B,) -> what the frozen denoiser, given texts,
    takes them to have been, (B, C, h, h). For a denoiser of velocities."""
    alpha_bar = decoder.alpha_bar[t].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t, _ = decoder.add_noise(z_0, noise, t)
    return a * x_t - s * decoder.predict(x_t, t, decoder.text_states(texts))


def train_finish(
    dataset: Dataset, decoders: dict, out: Path, *, seen: int, checkpoint_every=100, **changed
):
    """The adversarial finish: only the autoencoder's half that draws learns, latents and denoisers
    stay as they are. It learns to draw crisply from latents that are as wrong as the denoisers
    leave them: from true latents and from their one-step predictions. -> the autoencoder.

    Loss: L1 + perceptual + a hinge loss by discriminators on EfficientNet-Lite0's maps of the
    picture at twice its size (a projected GAN); both gradients at the picture have equal norm.
    `changed` replaces entries of FINISH.
    Resumes from `out/finish.state.safetensors`."""
    vae = next(iter(decoders.values())).vae
    facts = dict(levels=[*LEVELS], eye=LOOKED_AT, images=dataset.fingerprint())
    facts["denoisers"] = {name: weights_hash(d.denoiser) for name, d in decoders.items()}
    recipe = made_by(FINISH, changed, seen=seen, vae=weights_hash(vae), **facts)
    B, seed = recipe["B"], recipe["seed"]
    torch.manual_seed(seed)
    phrases, backbone = alt_text_phrases(dataset), efficientnet(0).to(device())
    z_all = encode_all(next(iter(decoders.values())), dataset)  # (M, C, h, h)
    levels, weights = torch.tensor([0, *LEVELS]), torch.tensor([1.0, *LEVELS.values()])
    see = lambda x: features(backbone, resize(x, 128), upto=LOOKED_AT[-1], keep=LOOKED_AT)
    with torch.no_grad():
        maps = see(dataset.pixels(slice(64)).to(device()))
    made = [m.shape[1] for m in maps], [float(1 / m.float().std()) for m in maps]
    nets = nn.ModuleDict({"draw": vae.decoder, "judge": Discriminators(*made)}).to(device())
    nets.requires_grad_(True)
    steps = seen // B

    def batch_loss(rows, step, rng):
        x_0 = dataset.pixels(rows).to(device(), memory_format=torch.channels_last)  # (B, 3, 64, 64)
        name, decoder = list(decoders.items())[step % len(decoders)]
        which = torch.randint(len(levels), (B,), generator=rng)
        z, t = z_all[rows].to(device()), levels[which].to(device())  # (B, C, h, h), (B,)
        noise = torch.randn(z.shape, generator=rng).to(z)
        of_step = random.Random(f"{seed}/captions/{step}")
        texts = [caption_mixture(phrases[r], of_step, name) for r in rows]
        predicted = one_step(decoder, z, texts, t, noise)
        z = torch.where((t == 0).view(-1, 1, 1, 1), z + 0.05 * noise, predicted)
        with autocast():
            x_hat = nets["draw"](z / vae.config.scaling_factor).float()
        x, w = x_hat.detach().requires_grad_(True), weights[which].to(device())
        with autocast():
            l1, perceptual, (drawn, true) = likeness(see, x, x_0)
            fooled = -sum(o.mean() for o in nets["judge"](drawn)) / len(drawn)
        like = ((l1 + PERCEPTUAL * perceptual) * w).mean()
        to_like, to_fool = (torch.autograd.grad(v, x, retain_graph=True)[0] for v in (like, fooled))
        strength = min(1.0, step / max(1, min(100, steps // 4)))
        gradient = to_like + strength * to_like.norm() / (to_fool.norm() + 1e-8) * to_fool
        with autocast():
            false, real = (nets["judge"]([m.detach() for m in side]) for side in (drawn, true))
        hinge = sum(F.relu(1 + f).mean() + F.relu(1 - r).mean() for f, r in zip(false, real))
        pull = (x_hat * gradient).sum()  # its gradient at the weights is the picture's
        loss = like.detach() + pull - pull.detach() + hinge / len(real)
        shown = {"like": like, "fooled": fooled, "hinge": hinge / len(real)}
        return loss, {name: v.detach() for name, v in shown.items()}

    rates = dict(lr=recipe["peak"], weight_decay=1e-4, betas=(0.5, 0.99), fused=True)
    optimizer = torch.optim.AdamW(nets.parameters(), **rates)
    options = dict(warmup=min(50, steps // 4), average=0.998, schedule=constant_rate)
    run = (nets, optimizer, batch_loss, out, "finish", recipe, len(dataset))
    for log in training_loop(*run, **options, checkpoint_every=checkpoint_every):
        if log.due(lines=4, every=50):
            log.line(**{name: round(value, 5) for name, value in log.terms.items()})
    return vae


def make_decoder(name: str, out: Path, *, start: str | None = None, **changed) -> None:
    """A part of RECIPES, in which `changed` replaces entries, from the emoji dataset's train split,
    into folders of `out`, where it finds what it needs. `start`: the autoencoder and the denoisers
    go on from the "shipped" ones, or from those that an earlier training left in a folder.

    The finish writes `out/finished`: float16 pipeline folders with their logs and recipes."""
    from diffusers import AutoencoderTiny

    quiet()
    dataset, recipe = load_dataset("emoji").subset("train"), made_by(RECIPES[name], changed)
    folder = out / name
    before = lambda part: part if start == "shipped" else needed(Path(start), part)
    if name == "autoencoder":
        go_on = Decoder.load(before("sketch")).vae if start else None
        made = train_autoencoder(dataset, folder, start=go_on, **recipe)
    elif (kind := name.removesuffix("-guide")) != name:
        earlier = start and not (out / kind / "made").is_dir()
        of = Decoder.load(before(kind) if earlier else needed(out, kind)).pipeline
        torch.manual_seed(recipe["seed"])
        fresh, learn = new_guide(kind, of), dict(kind=kind, guide=True)
        made = train_denoiser(dataset, of.vae, folder, start=fresh, **learn, **recipe)
        made = Decoder(made, kind).denoiser
    elif name in DECODERS:
        vae = AutoencoderTiny.from_pretrained(needed(out, "autoencoder"), use_safetensors=True)
        go_on = Decoder.load(before(name)).pipeline if start else None
        made = train_denoiser(dataset, vae, folder, kind=name, start=go_on, **recipe)
    else:
        guides = {kind: needed(out, f"{kind}-guide") for kind in DECODERS}  # before the hours of it
        decoders = {kind: Decoder.load(needed(out, kind)) for kind in DECODERS}
        finished = train_finish(dataset, decoders, folder, **recipe)
        for kind, decoder in decoders.items():
            decoder.pipeline.register_modules(vae=finished)
            told = {"name": kind, "captions": CAPTION_MIXTURES[kind], "start": bool(start)}
            told |= {"train_images": len(dataset), "images": dataset.fingerprint()}
            told |= {"torch": torch.__version__}
            parts = ("autoencoder", kind, f"{kind}-guide", name)
            logs = [next((out / part).glob("*.jsonl")) for part in parts]
            with whole(out / "finished" / kind) as temporary:
                guide = decoder.denoiser.from_pretrained(guides[kind], use_safetensors=True)
                guide.half().save_pretrained(temporary / GUIDE, safe_serialization=True)
                save_finished(decoder.pipeline, temporary, told, logs)
        return
    with whole(folder / "made") as temporary:
        made.save_pretrained(temporary, safe_serialization=True)


def needed(out: Path, part: str) -> Path:
    """Where a part that is made earlier stands."""
    if not (folder := out / part / "made").is_dir():
        raise FileNotFoundError(f"{folder}: not there; run `train-decoder --name {part}` first")
    return folder


def save_finished(pipeline, folder: Path, recipe: dict, logs: list[Path]) -> None:
    """A pipeline as it ships: float16, no word of where a part was loaded from, and its logs."""
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        write_json(path, {k: v for k, v in config.items() if k != "_name_or_path"})
    recipe["seen"] = {}
    for log in logs:
        (folder / log.name).write_text(text := log.read_text())
        recipe["seen"][log.stem] = json.loads(text.splitlines()[-1])["seen"]
    write_json(folder / "recipe.json", recipe)
