"""The loop that every training uses, and the encoder's training through a frozen decoder.

    python -m dd train-encoder --out encoder        # De-Diffusion: the loss is the decoder's own
    python -m dd train-decoder --out my-sketch      # dd/make_decoders.py, by the same loop

`training_loop` is a generator: it yields its log after each step, and the caller probes, writes
lines and shows what it likes. Batches and noise are functions of (seed, step) alone and checkpoints
hold the rest, so a killed run goes on as if nothing had happened.
Letters: B batch, M images, N written tokens, V vocabulary, P patches, F features, C/h latents.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from .captions import alt_text, alt_text_phrases
from .data import Dataset
from .encoder import Encoder, features_of, relax, temperature
from .files import write_text
from .runtime import (
    Progress,
    autocast,
    check_recipe,
    compute_dtype,
    device,
    generator,
    optimizer_tensors,
    restore_optimizer,
    resume,
    save_state,
    weights_hash,
)
from .vocab import often_seen, to_strings


def batch_rows(M: int, B: int, step: int, seed: int) -> np.ndarray:
    """Row numbers of one batch: epochs without replacement, a function of (seed, step) alone."""
    if M < B:
        raise ValueError(f"{M} training images do not fill a batch of {B}: use more images")
    epoch, i = divmod(step, M // B)
    return np.random.default_rng((seed, epoch)).permutation(M)[i * B : (i + 1) * B]


def cosine_rate(step: int, steps: int, peak: float, warmup: int, floor: float = 0.01) -> float:
    """Linear warm-up, then cosine decay from `peak` to `floor * peak` (the paper: 3e-4 to 3e-6)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    angle = math.pi * (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(angle)))


def constant_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, `peak`, and linearly to zero over the last fifth."""
    return peak * min(1.0, (step + 1) / warmup if warmup else 1.0, 5 * (steps - step) / steps)


def adamw(parameters, rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters, lr=rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by five Newton-Schulz steps (Jordan et al., 2024; Liu et al., 2025
    for the size of the update), of matrices and of kernels seen as (out, in k k).

    Not torch's, which takes no kernels and multiplies in bfloat16 on every processor: where there
    is none, a step of `sketch` took minutes."""

    def __init__(self, parameters, rate: float, momentum: float = 0.95, weight_decay: float = 0.02):
        super().__init__(parameters, dict(lr=rate, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(mean, group["momentum"]).reshape(len(p), -1))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(update.shape) ** 0.5  # of an update by AdamW
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * size)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (m, n) with singular values of about 1, by Newton-Schulz iteration."""
    x = matrix.to(compute_dtype() or torch.float32)
    x = x.T if len(matrix) > matrix.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if len(matrix) > matrix.shape[1] else x).to(matrix)


class MuonAndAdamW:
    """Muon for hidden matrices and kernels, AdamW for embeddings, vectors, first and last layer."""

    def __init__(self, net: nn.Module, rate: float):
        ends = ("embed", "conv_in", "conv_out", "proj_out", "shared")
        hidden = lambda name, p: p.ndim > 1 and not any(end in name for end in ends)
        named = [(hidden(n, p), p) for n, p in net.named_parameters() if p.requires_grad]
        of = lambda kind: [p for is_hidden, p in named if is_hidden is kind]
        self.parts = (Muon(of(True), rate), adamw(of(False), rate))

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()


def descend(loss: torch.Tensor, optimizer, net: nn.Module, rate: float, accelerator=None) -> None:
    """One optimizer step at learning rate `rate`, the gradient's norm clipped to 1."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss) if accelerator else loss.backward()
    clip = accelerator.clip_grad_norm_ if accelerator else nn.utils.clip_grad_norm_
    clip(net.parameters(), 1.0)
    optimizer.step()


def made_by(table: dict, changed: dict, **facts) -> dict:
    """A recipe: the entries of a table, some of them replaced, and facts of this training."""
    if unknown := set(changed) - set(table):
        raise TypeError(f"no such option of a training: {', '.join(sorted(unknown))}")
    return {**facts, **table, **changed}


class Log:
    """Progress and JSON lines of one run. A resumed run drops the lines after its checkpoint and
    goes on with the checkpoint's `window` (the last losses) and `seconds`."""

    def __init__(self, path: Path, title: str, B: int, steps: int, step: int, window=(), seconds=0):
        self.path, self.B, self.steps, self.step = path, B, steps, step
        self.window, self.start = list(window), time.time() - seconds
        self.rate, self.progress = 0.0, Progress(title, steps * B, step * B)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text().splitlines() if path.exists() else []
        told = [(json.loads(line)["step"], line) for line in before if line.endswith("}")]  # whole
        write_text(path, "".join(line + "\n" for of, line in told if of <= step))

    def add(self, loss: float, rate: float, terms: dict) -> None:
        """A step is done: its loss, learning rate, and what else the loss function told of it."""
        self.step, self.rate = self.step + 1, rate
        self.terms = {name: float(value) for name, value in terms.items()}
        self.window = [*self.window[-49:], loss]
        shown = {"loss": float(np.mean(self.window)), **self.terms}
        note = " ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self.progress(self.step * self.B, note)

    def due(self, lines: int = 8, every: int = 100, last: bool = True) -> bool:
        """Whether to write a line now: every so many steps, and at least `lines` times in all."""
        often = max(1, min(every, self.steps // lines))
        return self.step % often == 0 or (last and self.step == self.steps)

    def line(self, **facts) -> None:
        loss, seconds = round(float(np.mean(self.window)), 5), round(time.time() - self.start, 1)
        line = {"step": self.step, "seen": self.step * self.B, **facts}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({**line, "loss": loss, "seconds": seconds}) + "\n")
        except OSError as error:  # the half of a line is dropped when the run goes on
            raise OSError(f"{self.path}: not written ({error.strerror or error})") from error


@torch.no_grad()
def copy_into(parameters: dict, tensors: dict, prefix: str = "") -> None:
    for name, parameter in parameters.items():
        parameter.copy_(tensors[prefix + name])


def training_loop(
    net: nn.Module,
    optimizer,
    batch_loss: Callable,
    out: Path,
    name: str,
    recipe: dict,
    M: int,
    *,
    warmup: int,
    average: float = 0.0,
    checkpoint_every: int = 100,
    title: str = "",
    schedule: Callable = cosine_rate,
    accelerator=None,
) -> Iterator[Log]:
    """Train `net` until recipe["seen"] of M images were seen; yields the log after each step, with
    `net` in eval mode. In the end `net` is frozen.

    batch_loss  (rows, step, generator of this step) -> (loss, {name: number} to show beside it)
    recipe      what the weights depend on: seen, B, peak, seed and more; kept with the checkpoint
    average     decay of the exponential moving average (EMA) of the weights that `net` holds in the
                end; 0: the last weights
    schedule    (step, steps, peak, warm-up) -> learning rate
    Resumes from `out/<name>.state.safetensors`, logs to `out/<name>.jsonl`."""
    B, seed, state = recipe["B"], recipe["seed"], out / f"{name}.state.safetensors"
    steps = recipe["seen"] // B
    tensors, done, told = resume(state, recipe)
    weights, buffers = dict(net.train().named_parameters()), dict(net.named_buffers())
    ema = {k: p.detach().clone() for k, p in weights.items()} if average else {}
    if tensors:
        copy_into(weights, tensors, "net/")
        copy_into(ema, tensors, "ema/")
        copy_into(buffers, tensors, "buffer/")
        restore_optimizer(optimizer, tensors)
    log = Log(out / f"{name}.jsonl", title or name, B, steps, done, **told)
    for step in range(done, steps):
        rows, rng = batch_rows(M, B, step, seed), generator(seed, f"{name}/{step}")
        loss, terms = batch_loss(rows, step, rng)
        rate = schedule(step, steps, recipe["peak"], warmup)
        descend(loss, optimizer, net, rate, accelerator)
        if average:
            now = [p.detach() for p in weights.values()]
            decay = min(average, (step + 1) / (step + 21))
            torch._foreach_lerp_(list(ema.values()), now, 1 - decay)
        log.add(loss.item(), rate, terms)
        net.eval()
        yield log
        net.train()
        if log.step % checkpoint_every == 0 or log.step == steps:
            tensors = {f"net/{k}": p for k, p in weights.items()}
            tensors |= {f"ema/{k}": p for k, p in ema.items()} | optimizer_tensors(optimizer)
            tensors |= {f"buffer/{k}": b for k, b in buffers.items()}
            told = {"window": log.window, "seconds": time.time() - log.start}
            save_state(state, tensors, {"step": log.step, "recipe": recipe, "log": told})
    if average:
        copy_into(weights, ema)
    net.eval().requires_grad_(False)


def latents_hash(vae) -> str:
    """Fingerprint of what makes latents: an autoencoder without its decoder, and their scale."""
    drawing = ("decoder", "post_quant_conv")
    nets = (net for name, net in vae.named_children() if name not in drawing)
    return f"{weights_hash(*nets)} x {vae.config.scaling_factor:.6g}"


@torch.no_grad()
def encode_all(decoder, dataset: Dataset, mirror: bool = False, B: int = 256) -> torch.Tensor:
    """Latents of a whole dataset, or of its mirror image, float32 (M, C, h, h) on the CPU."""
    batches = (dataset.pixels(slice(i, i + B)) for i in range(0, len(dataset), B))
    batches = (pixels.flip(-1) if mirror else pixels for pixels in batches)
    return torch.cat([decoder.encode(pixels).cpu() for pixels in batches])


def relaxed_loss(pooler, decoder, patches, z_0, t, eps, *, tau, noise=0.0, repeats=0.0, **more):
    """De-Diffusion's objective per image (B,), section 3 of the paper: features (B, P, F) -> logits
    -> relaxed tokens -> the frozen decoder's denoising loss of z_0 (B, C, h, h) at noise levels
    t (B,) and noise eps.

    repeats   what it costs if all positions write one word (not in the paper); `repeated`
    more      relax()'s other options"""
    with autocast():
        logits = pooler(patches)  # (B, N, V)
    weights = relax(logits, tau, noise=noise, **more)
    with autocast():
        states = decoder.soft_states(weights)  # (B, L, D)
    loss = decoder.loss(z_0, states, t, eps)
    return loss + repeats * repeated(weights) if repeats else loss


def repeated(weights: torch.Tensor) -> torch.Tensor:
    """Relaxed tokens (B, N, V) -> (B,): the share of pairs of positions that write the same word,
    from 0, all words different, to 1, one word N times."""
    N = weights.shape[1]
    pairs = weights.sum(1).pow(2).sum(-1) - weights.pow(2).sum((1, 2))
    return pairs / max(1, N * (N - 1))


# How the encoder is trained. The paper's own recipe is tau 2.0 -> 0.3, noise 1, hard_from 1,
# t_from 0, least 0, tie False (it does not say how it samples noise levels).
RECIPE = {
    "tokens": 16,  # N
    "width": 256,  # of the pooler, as are its blocks
    "blocks": 5,
    "B": 64,
    "peak": 5.0e-4,
    "tau_start": 1.0,  # the temperature schedule
    "tau_end": 0.3,
    "noise": 0.0,  # scale of the Gumbel noise
    "hard_from": 0.7,  # share of the run after which the forward pass is the argmax; 1: never
    "t_from": 0.5,  # share of noise levels left out at the quiet end, where words do not matter
    "rule": "alphanumeric",  # which tokens may be written (dd/vocab.py)
    "tie": True,  # start the output layer from the decoder's token embeddings if widths agree
    "least": 30,  # only tokens of so many images' words: the decoder hardly knows rarer ones
    "repeats": 0.0,  # weight of the cost of repeated words
    "optimizer": "adamw",  # or muon, or adafactor (the paper's)
    "seed": 0,
}


def train_encoder(
    dataset: Dataset,
    decoder,
    out: Path,
    *,
    seen: int,
    probe: Dataset | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
    z_all: torch.Tensor | None = None,
    **changed,
) -> Encoder:
    """De-Diffusion: image -> relaxed tokens -> frozen decoder -> its own denoising loss, for `seen`
    images. Only the pooler learns. `changed` replaces entries of RECIPE.

    probe           held-out images: their argmax text is shown and its loss logged now and then
    patches, z_all  features (M, P, F) and latents (M, C, h, h) of `dataset`, computed if not given
    Resumes from `out/encoder.state.safetensors`."""
    from accelerate import Accelerator

    recipe = made_by(RECIPE, changed, seen=seen, images=dataset.fingerprint())
    recipe["decoder"] = weights_hash(decoder.denoiser, decoder.text_encoder)
    recipe["latents"] = latents_hash(decoder.vae)
    r, steps = SimpleNamespace(**recipe), seen // recipe["B"]
    batch_rows(len(dataset), r.B, 0, r.seed)  # too few images, or a folder of another recipe, are
    check_recipe(out / "encoder.state.safetensors", recipe)  # refused before the work
    made = dict(D=r.width, blocks=r.blocks, rule=r.rule, seed=r.seed, tie=r.tie)
    encoder = Encoder.new(decoder, r.tokens, **made)
    if r.least:
        texts = (
            [alt_text(p, limit=10_000) for p in alt_text_phrases(dataset)]
            if "style" in dataset.frame
            else [" ".join(c) for c in dataset.frame["captions"]]
        )
        often = often_seen(decoder.tokenizer, texts, r.least, decoder.V)
        encoder.pooler.allowed &= often.to(device())
        if (words := int(encoder.pooler.allowed.sum())) < r.tokens:
            raise ValueError(
                f"only {words} words describe at least {r.least} of the {len(texts)} training "
                f"images, fewer than the {r.tokens} that an encoder writes: use a smaller least (0 "
                "allows every word of the decoder), or more images"
            )
    patches = features_of(dataset) if patches is None else patches
    z_all = encode_all(decoder, dataset) if z_all is None else z_all
    if probe is not None:
        probe_patches, probe_z = features_of(probe), encode_all(decoder, probe)
    accelerator = Accelerator(cpu=device().type == "cpu")
    pooler = accelerator.prepare(encoder.pooler)  # only what is trained
    parameters = list(encoder.pooler.parameters())
    optimizer = {
        "adamw": lambda: adamw(parameters, r.peak, weight_decay=0.01),
        "muon": lambda: MuonAndAdamW(encoder.pooler, r.peak),
        "adafactor": lambda: torch.optim.Adafactor(parameters, lr=r.peak),
    }[r.optimizer]()

    def batch_loss(rows, step, rng):
        z_0, x = z_all[rows].to(device()), patches[rows].to(device()).float()
        t = torch.randint(int(r.t_from * decoder.T), decoder.T, (r.B,), generator=rng)
        eps = torch.randn(z_0.shape, generator=rng)
        tau, hard = temperature(step, steps, r.tau_start, r.tau_end), step >= r.hard_from * steps
        relaxation = dict(tau=tau, noise=r.noise, straight_through=hard, generator=rng)
        relaxation["repeats"] = r.repeats
        noised = (z_0, t.to(device()), eps.to(device()))
        return relaxed_loss(pooler, decoder, x, *noised, **relaxation).mean(), {"tau": tau}

    def probed() -> dict:
        ids = encoder.ids(probe_patches)  # (M, N)
        texts = to_strings(decoder.tokenizer, ids)
        loss = decoder.probe_loss(probe_z, texts, list(probe.frame["id"])).mean()
        return {
            "probe": round(float(loss), 5),
            "distinct_per_text": round(float(np.mean([len(set(i)) for i in ids.tolist()])), 2),
            "distinct": len(ids.unique()),
            "text": texts[0],
            "of": probe.frame["name"].iloc[0],
        }

    options = dict(warmup=min(50, steps // 10), checkpoint_every=checkpoint_every)
    run = (encoder.pooler, optimizer, batch_loss, out, "encoder", recipe, len(dataset))
    for log in training_loop(*run, **options, accelerator=accelerator):
        if log.due():
            facts = {} if probe is None else probed()
            log.line(tau=round(log.terms["tau"], 3), **facts)
            if facts:
                shown = "probe {probe:.4f}, {distinct_per_text:.1f} distinct words a text, "
                shown += "{distinct} in all | {of}: {text}"
                log.progress.show(shown.format(**facts))
    encoder.recipe = recipe
    return encoder
