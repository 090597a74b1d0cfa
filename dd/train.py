"""The visible loops: train the frozen decoder's two halves once, then the encoder through it.

    python -m dd train-decoder --out my-sketch                    # autoencoder, then text-conditional denoiser
    python -m dd train-encoder --out encoder                      # De-Diffusion: the loss is the decoder's own

Every loop counts in images seen, logs JSON lines, writes a checkpoint that a killed run resumes from, and draws its batches from
`(seed, step)`, so that a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .data import World
from .encoder import relax
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
)
from .vision import efficientnet, features, resize

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


def batch_rows(M: int, B: int, step: int, seed: int) -> np.ndarray:
    """Row numbers of one training batch: epoch by epoch without replacement, a function of (seed, step) alone."""
    if M < B:
        raise ValueError(
            f"{M} training images do not fill a batch of {B}: use more images or a smaller batch"
        )
    per_epoch = M // B
    epoch, i = divmod(step, per_epoch)
    return np.random.default_rng((seed, epoch)).permutation(M)[i * B : (i + 1) * B]


def cosine_rate(step: int, steps: int, peak: float, warmup: int, floor: float = 0.01) -> float:
    """Linear warm-up, then cosine decay from `peak` to `floor * peak` (the paper: 3e-4 to 3e-6)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (
        floor
        + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    )


def descend(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    net: nn.Module,
    rate: float,
    *,
    backward=torch.Tensor.backward,
    clip=nn.utils.clip_grad_norm_,
) -> None:
    """One optimizer step at learning rate `rate`, the gradient's norm clipped to 1. accelerate brings its own `backward` and `clip`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    backward(loss)
    clip(net.parameters(), 1.0)
    optimizer.step()


class Log:
    """JSON lines of one run. A resumed run takes back what was logged after its checkpoint, and goes on with the checkpoint's window
    (the last losses) and seconds, so that its log reads like an undisturbed one's."""

    def __init__(self, path: Path, step: int, window=(), seconds: float = 0.0):
        self.path, self.window, self.start = path, list(window), time.time() - seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text().splitlines() if path.exists() else []
        path.write_text("".join(line + "\n" for line in before if json.loads(line)["step"] <= step))

    def add(self, loss: float) -> float:
        """-> the mean of the last 50 losses"""
        self.window = [*self.window[-49:], loss]
        return float(np.mean(self.window))

    def line(self, **facts) -> None:
        with self.path.open("a") as file:
            file.write(
                json.dumps(
                    {
                        **facts,
                        "loss": round(float(np.mean(self.window)), 5),
                        "seconds": round(time.time() - self.start, 1),
                    }
                )
                + "\n"
            )

    def facts(self) -> dict:
        return {"window": self.window, "seconds": time.time() - self.start}


def train_autoencoder(
    world: World,
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
        images=world.fingerprint(),
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
        x_0 = world.pixels(batch_rows(len(world), B, step, seed)).to(
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
    world: World,
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
    from .data import DIETS, alt_text, alt_text_parts, diet
    from .decoder import Decoder, new_judge_a, new_judge_b, new_sketch
    from .vocab import build_byte_tokenizer, build_word_tokenizer, tokenise

    stage = "denoiser" if start is None else "more"
    recipe = dict(
        seen=seen,
        B=B,
        peak=peak,
        seed=seed,
        L=L,
        channels=channels,
        images=world.fingerprint(),
        autoencoder=weights_hash(vae),
        levels="T sqrt(u)",
        kind=kind,
        diet=DIETS[kind],
        start=start and weights_hash(start.text_encoder, Decoder(start, kind).denoiser),
    )
    torch.manual_seed(seed)
    parts = alt_text_parts(world)
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
    z_all = encode_all(decoder, world)  # (M, C, h, h)
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
        rows = batch_rows(len(world), B, step, seed)
        z_0 = z_all[torch.from_numpy(rows)].to(device()).float()  # (B, C, h, h)
        ids = tokenise(decoder.tokenizer, [diet(parts[r], words_rng, kind) for r in rows])  # (B, L)
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
    from .data import DIETS, load_world
    from .decoder import Decoder
    from .runtime import write_json

    world, recipe = load_world("emoji").part("train"), {**RECIPES[name], **changed}
    if unknown := set(changed) - set(RECIPES[name]):
        raise ValueError(
            f"{name} has no {', '.join(sorted(unknown))}: it looks at sketch's latents"
        )
    seed = recipe["seed"]
    vae = (
        train_autoencoder(world, out, seen=recipe["autoencoder_seen"], seed=seed)
        if name == "sketch"
        else Decoder.load("sketch").vae
    )
    pipeline = train_denoiser(
        world, vae, out, seen=recipe["seen"], seed=seed, kind=name, peak=recipe["peak"]
    )
    if recipe.get("more_seen"):
        pipeline = train_denoiser(
            world,
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
                world,
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
            "diet": DIETS[name],
            "train_images": len(world),
            "images": world.fingerprint(),
            "torch": torch.__version__,
        },
    )
    for log in out.glob("*.jsonl"):
        (out / "pipeline" / log.name).write_text(log.read_text())


def latents_hash(vae) -> str:
    """Fingerprint of what makes the latents: an autoencoder without its half that draws, and their scale."""
    return f"{weights_hash(*(net for name, net in vae.named_children() if name not in ('decoder', 'post_quant_conv')))} x {vae.config.scaling_factor:.6g}"


@torch.no_grad()
def encode_all(decoder, world: World, B: int = 256) -> torch.Tensor:
    """Latents of a whole world, float32 (M, C, h, h) on the CPU, computed once."""
    return torch.cat(
        [decoder.encode(world.pixels(slice(i, i + B))).cpu() for i in range(0, len(world), B)]
    )


def relaxed_loss(
    pooler,
    decoder,
    patches: torch.Tensor,
    z_0: torch.Tensor,
    t: torch.Tensor,
    eps: torch.Tensor,
    *,
    tau: float,
    noise: float = 0.0,
    straight_through: bool = False,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """De-Diffusion's objective per image (B,): features (B, P, F) -> logits -> relaxed tokens -> the frozen decoder's denoising loss of z_0
    (B, C, h, h) at noise levels t (B,) and noise eps. Section 3 of the paper."""
    with autocast():
        logits = pooler(patches)  # (B, N, V)
    weights = relax(
        logits, tau, noise=noise, straight_through=straight_through, generator=generator
    )
    with autocast():
        states = decoder.soft_states(weights)  # (B, L, D)
    return decoder.loss(z_0, states, t, eps)


def train_encoder(
    world: World,
    decoder,
    out: Path,
    *,
    seen: int,
    tokens: int = 16,
    width: int = 256,
    blocks: int = 5,
    B: int = 64,
    peak: float = 5.0e-4,
    tau_start: float = 1.0,
    tau_end: float = 0.3,
    noise: float = 0.0,
    hard_from: float = 0.7,
    t_from: float = 0.5,
    rule: str = "alphanumeric",
    least: int = 30,
    tie: bool = True,
    seed: int = 0,
    probe: World | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
    z_all: torch.Tensor | None = None,
):
    """De-Diffusion training: image -> relaxed tokens -> frozen decoder -> its own denoising loss. Only the pooler learns.

    seen         images seen in all; tokens: N; tau_start, tau_end: the temperature schedule; noise: Gumbel noise scale
    hard_from    share of the run after which the forward pass is the argmax (straight-through); 1.0 = never, as in the paper
    rule         which tokens may be written (dd/vocab.py); least: and only those that occur in the words of at least so many of `world`'s
                 images: a word the decoder has hardly met is an arbitrary vector to it, and a code word to everybody else
    tie          start the output layer from the decoder's token embeddings (where the widths agree): alike words begin alike
    t_from       share of the noise levels left out at the quiet end, where the decoder sees the picture and ignores the words; 0 uses
                 all (the paper does not say how it samples them)
    probe        a held-out, train-side world: its argmax text is printed and its denoising loss logged now and then
    patches, z_all   cached features (M, P, F) and latents (M, C, h, h) of `world`, computed here if not given
    The paper's recipe is tau 2.0 -> 0.3, noise 1, hard_from 1, t_from 0, least 0, tie False. Resumes from `out/encoder.state.safetensors`."""
    from accelerate import Accelerator

    from .data import alt_text, alt_text_parts
    from .encoder import Encoder, backbone_features, temperature
    from .vocab import often_seen, to_strings

    recipe = dict(
        seen=seen,
        tokens=tokens,
        width=width,
        blocks=blocks,
        B=B,
        peak=peak,
        tau_start=tau_start,
        tau_end=tau_end,
        noise=noise,
        hard_from=hard_from,
        t_from=t_from,
        rule=rule,
        tie=tie,
        least=least,
        seed=seed,
        images=world.fingerprint(),
        decoder=weights_hash(decoder.denoiser, decoder.text_encoder),
        latents=latents_hash(decoder.vae),
    )
    accelerator = Accelerator(cpu=device().type == "cpu")
    encoder = Encoder.new(decoder, tokens, D=width, blocks=blocks, rule=rule, seed=seed, tie=tie)
    if least:
        said = (
            [alt_text(p, limit=10_000) for p in alt_text_parts(world)]
            if "style" in world.frame
            else [" ".join(c) for c in world.frame["captions"]]
        )
        encoder.pooler.allowed &= often_seen(decoder.tokenizer, said, least, decoder.V).to(device())
    patches = backbone_features(world.pixels()) if patches is None else patches  # (M, P, F) float16
    z_all = encode_all(decoder, world) if z_all is None else z_all  # (M, C, h, h)
    if probe is not None:
        probe_patches, probe_z = backbone_features(probe.pixels()), encode_all(decoder, probe)
    optimizer = torch.optim.AdamW(
        encoder.pooler.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    pooler, optimizer = accelerator.prepare(
        encoder.pooler.train(), optimizer
    )  # only what is trained
    state, steps = out / "encoder.state.safetensors", seen // B
    tensors, step, told = resume(state, recipe)
    if tensors:
        accelerator.unwrap_model(pooler).load_state_dict(
            {k[4:]: v for k, v in tensors.items() if k.startswith("net/")}
        )
        restore_optimizer(optimizer.optimizer, tensors)
    progress, log = (
        Progress("encoder", steps * B, step * B),
        Log(out / "encoder.jsonl", step, **told),
    )
    while step < steps:
        rng = generator(seed, f"encoder/{step}")
        rows = torch.from_numpy(batch_rows(len(world), B, step, seed))
        z_0, seen_patches = z_all[rows].to(device()), patches[rows].to(device()).float()
        t = torch.randint(int(t_from * decoder.T), decoder.T, (B,), generator=rng).to(
            device()
        )  # one noise level per image
        eps = torch.randn(z_0.shape, generator=rng).to(device())
        tau = temperature(step, steps, tau_start, tau_end)
        loss = relaxed_loss(
            pooler,
            decoder,
            seen_patches,
            z_0,
            t,
            eps,
            tau=tau,
            noise=noise,
            straight_through=step >= hard_from * steps,
            generator=rng,
        ).mean()
        rate = cosine_rate(step, steps, peak, warmup=min(50, steps // 10))
        descend(
            loss,
            optimizer,
            pooler,
            rate,
            backward=accelerator.backward,
            clip=accelerator.clip_grad_norm_,
        )
        step += 1
        progress(step * B, f"loss {log.add(loss.item()):.4f} tau {tau:.2f}")
        if (
            step % max(1, min(100, steps // 8)) == 0 or step == steps
        ):  # short runs log eight times, too
            facts = dict(step=step, seen=step * B, tau=round(tau, 3))
            if probe is not None:
                pooler.eval()
                ids = encoder.ids(probe_patches)
                pooler.train()
                texts = to_strings(decoder.tokenizer, ids)
                facts |= dict(
                    probe=round(
                        float(decoder.probe_loss(probe_z, texts, list(probe.frame["id"])).mean()), 5
                    ),
                    distinct_per_text=round(
                        float(np.mean([len(set(row)) for row in ids.tolist()])), 2
                    ),
                    distinct=len(set(ids.flatten().tolist())),
                    text=texts[0],
                    of=probe.frame["name"].iloc[0],
                )
                progress.show(
                    f"probe {facts['probe']:.4f}, {facts['distinct_per_text']:.1f} distinct words a text, {facts['distinct']} in all | "
                    f"{facts['of']}: {facts['text']}"
                )
            log.line(**facts)
        if step % checkpoint_every == 0 or step == steps:
            save_state(
                state,
                {
                    **{
                        f"net/{k}": v
                        for k, v in accelerator.unwrap_model(pooler).state_dict().items()
                    },
                    **optimizer_tensors(optimizer.optimizer),
                },
                {"step": step, "recipe": recipe, "log": log.facts()},
            )
    encoder.pooler, encoder.recipe = (
        accelerator.unwrap_model(pooler).eval().requires_grad_(False),
        recipe,
    )
    return encoder


def fit(
    net: nn.Module,
    batch_loss,
    out: Path,
    name: str,
    recipe: dict,
    M: int,
    *,
    weight_decay: float,
    checkpoint_every: int,
    title: str = "",
    probe=None,
) -> nn.Module:
    """The loop that rivals learn by: `batch_loss(rows, step)` of the rows that come next, one step of AdamW, until `recipe["seen"]` of the M images.

    probe   a held-out number, logged now and then; called without gradients, `net` in eval mode; None: none
    Logs to `out/<name>.jsonl`, resumes from `out/<name>.state.safetensors`; `title` is what progress calls it. -> `net`, frozen."""
    B, peak, seed = recipe["B"], recipe["peak"], recipe["seed"]
    optimizer = torch.optim.AdamW(
        net.train().parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    state, steps = out / f"{name}.state.safetensors", recipe["seen"] // B
    tensors, step, told = resume(state, recipe)
    if tensors:
        net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net/")})
        restore_optimizer(optimizer, tensors)
    progress, log = (
        Progress(title or name, steps * B, step * B),
        Log(out / f"{name}.jsonl", step, **told),
    )
    while step < steps:
        loss = batch_loss(batch_rows(M, B, step, seed), step)
        descend(loss, optimizer, net, cosine_rate(step, steps, peak, warmup=min(50, steps // 10)))
        step += 1
        progress(step * B, f"loss {log.add(loss.item()):.3f}")
        if (
            step % max(1, min(100, steps // 8)) == 0 or step == steps
        ):  # short runs log eight times, too
            facts = dict(step=step, seen=step * B)
            if probe is not None:
                net.eval()
                with torch.no_grad():
                    facts |= dict(probe=round(probe(), 4))
                net.train()
            log.line(**facts)
        if step % checkpoint_every == 0 or step == steps:
            save_state(
                state,
                {
                    **{f"net/{k}": v for k, v in net.state_dict().items()},
                    **optimizer_tensors(optimizer),
                },
                {"step": step, "recipe": recipe, "log": log.facts()},
            )
    return net.eval().requires_grad_(False)


def train_captioner(
    world: World,
    decoder,
    out: Path,
    *,
    kind: str,
    seen: int,
    width: int = 256,
    blocks: int = 5,
    B: int = 128,
    peak: float = 5.0e-4,
    seed: int = 0,
    probe: World | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
):
    """The rival that people teach: the same frozen backbone and pooler, and cross-entropy with given words instead of a decoder's loss.

    kind      `captioner` learns the drawing's name, `captioner_detailed` its alt text (the stand-in for a modern vision-language model)
    probe     a held-out, train-side world whose cross-entropy is logged now and then
    All words are written at once, one a position (texts.CAPTIONS); the end token says nothing there. Words are whole tokens, so the decoder's
    vocabulary must be of words. Resumes from `out/captioner.state.safetensors`."""
    from .data import alt_text_parts
    from .encoder import Encoder, backbone_features
    from .texts import CAPTIONS, caption_slots

    recipe = dict(
        kind=kind,
        seen=seen,
        width=width,
        blocks=blocks,
        B=B,
        peak=peak,
        seed=seed,
        images=world.fingerprint(),
    )
    nothing, known = decoder.tokenizer.eos_token_id, decoder.tokenizer.get_vocab()
    said = {w for p in alt_text_parts(world) for w in caption_slots(p, kind) if w}
    whole = lambda w: decoder.tokenizer(w, add_special_tokens=False).input_ids in (
        [known.get(w)],
        [decoder.tokenizer.unk_token_id],
    )
    if (pieces := sum(not whole(w) for w in said)) > 0.1 * len(said):
        raise ValueError(
            f"{kind}: {decoder.name} has no token of their own for {pieces} of {len(said)} words; captioners trained here need a decoder with a vocabulary of words"
        )
    targets = lambda part: torch.tensor(
        [
            [known.get(w, nothing) if w else nothing for w in caption_slots(p, kind)]
            for p in alt_text_parts(part)
        ]
    )  # (M, N)
    encoder = Encoder.new(decoder, sum(CAPTIONS[kind].values()), D=width, blocks=blocks, seed=seed)
    encoder.pooler.allowed[nothing] = True
    patches, words_of = (
        backbone_features(world.pixels()) if patches is None else patches,
        targets(world),
    )  # (M, P, F), (M, N)

    def cross_entropy(seen_patches, said):
        with autocast():
            logits = encoder.pooler(seen_patches.to(device()).float())  # (B, N, V)
        return nn.functional.cross_entropy(logits.flatten(0, 1), said.flatten().to(device()))

    held_out = None if probe is None else (backbone_features(probe.pixels()), targets(probe))
    fit(
        encoder.pooler,
        lambda rows, step: cross_entropy(
            patches[torch.from_numpy(rows)], words_of[torch.from_numpy(rows)]
        ),
        out,
        "captioner",
        recipe,
        len(world),
        weight_decay=0.05,
        checkpoint_every=checkpoint_every,
        title=kind,
        probe=held_out and (lambda: cross_entropy(*held_out).item()),
    )
    encoder.recipe = recipe
    return encoder


def train_similarity(
    world: World,
    tokenizer,
    out: Path,
    *,
    seen: int,
    B: int = 256,
    peak: float = 2.0e-3,
    seed: int = 0,
    probe: World | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
):
    """CLIP's contrastive loss at the smallest size: in each batch every picture must find its own text, and every text its picture. Texts are
    drawn from the decoder's diet, anew each time. Drawings of one concept may share a text, and then neither can win.
    Resumes from `out/similarity.state.safetensors`."""
    from .data import alt_text, alt_text_parts, diet
    from .encoder import backbone_features
    from .rivals import Similarity

    recipe = dict(seen=seen, B=B, peak=peak, seed=seed, images=world.fingerprint())
    torch.manual_seed(seed)
    net = Similarity(V=len(tokenizer)).to(device())
    parts, read = (
        alt_text_parts(world),
        lambda texts: [tokenizer(t, add_special_tokens=False).input_ids for t in texts],
    )
    patches = backbone_features(world.pixels()) if patches is None else patches  # (M, P, F)

    def contrastive_loss(rows, step):
        rng = random.Random(f"{seed}/similarity/{step}")
        ids = read(diet(parts[r], rng) or " ".join(parts[r]["name"]) for r in rows)
        logits, own = (
            net(patches[torch.from_numpy(rows)].to(device()).float(), ids),
            torch.arange(B, device=device()),
        )  # (B, B)
        return (
            nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)
        ) / 2

    held_out = (
        None
        if probe is None
        else (
            backbone_features(probe.pixels()).to(device()).float(),
            read(alt_text(p) for p in alt_text_parts(probe)),
        )
    )

    def found():
        """The share of held-out pictures whose own alt text is nearest."""
        nearest = net(*held_out).argmax(1).cpu()
        return float((nearest == torch.arange(len(nearest))).float().mean())

    return fit(
        net,
        contrastive_loss,
        out,
        "similarity",
        recipe,
        len(world),
        weight_decay=0.1,
        checkpoint_every=checkpoint_every,
        probe=held_out and found,
    )
