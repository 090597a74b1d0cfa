"""The visible loops: train the frozen decoder's two halves once, then the encoder through it.

    python -m dd train-decoder --out my-sketch                    # autoencoder, then text-conditional denoiser
    python -m dd train-encoder --out encoder                      # De-Diffusion: the loss is the decoder's own

Every loop counts in images seen, logs JSON lines, writes a checkpoint that a killed run resumes from, and draws its batches from
`(seed, step)`, so that a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .data import Dataset
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


def latents_hash(vae) -> str:
    """Fingerprint of what makes the latents: an autoencoder without its half that draws, and their scale."""
    return f"{weights_hash(*(net for name, net in vae.named_children() if name not in ('decoder', 'post_quant_conv')))} x {vae.config.scaling_factor:.6g}"


@torch.no_grad()
def encode_all(decoder, dataset: Dataset, B: int = 256) -> torch.Tensor:
    """Latents of a whole world, float32 (M, C, h, h) on the CPU, computed once."""
    return torch.cat(
        [decoder.encode(dataset.pixels(slice(i, i + B))).cpu() for i in range(0, len(dataset), B)]
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
    dataset: Dataset,
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
    probe: Dataset | None = None,
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

    from .captions import alt_text, alt_text_phrases
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
        images=dataset.fingerprint(),
        decoder=weights_hash(decoder.denoiser, decoder.text_encoder),
        latents=latents_hash(decoder.vae),
    )
    accelerator = Accelerator(cpu=device().type == "cpu")
    encoder = Encoder.new(decoder, tokens, D=width, blocks=blocks, rule=rule, seed=seed, tie=tie)
    if least:
        said = (
            [alt_text(p, limit=10_000) for p in alt_text_phrases(dataset)]
            if "style" in dataset.frame
            else [" ".join(c) for c in dataset.frame["captions"]]
        )
        encoder.pooler.allowed &= often_seen(decoder.tokenizer, said, least, decoder.V).to(device())
    patches = (
        backbone_features(dataset.pixels()) if patches is None else patches
    )  # (M, P, F) float16
    z_all = encode_all(decoder, dataset) if z_all is None else z_all  # (M, C, h, h)
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
        rows = torch.from_numpy(batch_rows(len(dataset), B, step, seed))
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
