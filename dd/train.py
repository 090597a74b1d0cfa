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
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .captions import alt_text, alt_text_phrases
from .commands import RECIPE
from .data import Dataset
from .encoder import Encoder, relax, temperature
from .files import write_text
from .optimizers import MuonAndAdamW, adamw, cosine_rate
from .runtime import (
    Progress,
    autocast,
    check_recipe,
    device,
    free_memory,
    generator,
    kept_bytes,
    optimizer_tensors,
    process,
    restore_optimizer,
    resume,
    save_state,
    say,
    streams,
    weights_hash,
)
from .vocab import often_seen, round_trip, surviving_rule, to_strings


def batch_rows(M: int, B: int, step: int, seed: int) -> np.ndarray:
    """Row numbers of one batch: epochs without replacement, a function of (seed, step) alone."""
    if M < B:
        more = "use more images, or a smaller batch"
        raise ValueError(f"{M} training images do not fill a batch of {B}: {more}")
    epoch, i = divmod(step, M // B)
    return np.random.default_rng((seed, epoch)).permutation(M)[i * B : (i + 1) * B]


def gradient(losses: Iterable[torch.Tensor], net: nn.Module, accelerator=None) -> float:
    """Into `net`, that of the sum of the losses, which are computed one after another, and of all
    processes -> the sum."""
    net.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device())
    for loss in losses:
        loss.backward()
        total += loss.detach()
    if accelerator and accelerator.num_processes > 1:
        for p in (p for p in net.parameters() if p.grad is not None):
            p.grad = accelerator.reduce(p.grad)
        total = accelerator.reduce(total)
    return total.item()


def update(optimizer, net: nn.Module, rate: float) -> None:
    """One optimizer step at learning rate `rate`, the gradient's norm clipped to 1."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()


def descend(loss: torch.Tensor, optimizer, net: nn.Module, rate: float) -> None:
    gradient([loss], net)
    update(optimizer, net, rate)


def made_by(table: dict, changed: dict, **facts) -> dict:
    """A recipe: the entries of a table, some of them replaced, and facts of this training."""
    if unknown := set(changed) - set(table):
        raise TypeError(f"no such option of a training: {', '.join(sorted(unknown))}")
    return {**facts, **table, **changed}


class Log:
    """Progress and JSON lines of one run, by the first of its processes. A resumed run drops the
    lines after its checkpoint and goes on with the checkpoint's `window` (the last losses) and
    `seconds`."""

    def __init__(self, path: Path, title: str, B: int, steps: int, step: int, window=(), seconds=0):
        self.path, self.B, self.steps, self.step = path, B, steps, step
        self.window, self.start = list(window), time.time() - seconds
        self.rate, self.progress = 0.0, Progress(title, steps * B, step * B)
        if process():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            before = path.read_text().splitlines() if path.exists() else []
            whole = [line for line in before if line.endswith("}")]
            kept = [line + "\n" for line in whole if json.loads(line)["step"] <= step]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no log of a training ({error}); delete it") from None
        if before:
            write_text(path, "".join(kept))

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
        return not process() and (self.step % often == 0 or (last and self.step == self.steps))

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

    batch_loss  (rows, step, generator of this step) -> (loss, {name: number} to show beside it);
                for a batch in parts an iterator of their losses, whose sum is the batch's
    recipe      what the weights depend on: seen, B, peak, seed and more; kept with the checkpoint
    average     decay of the exponential moving average (EMA) of the weights that `net` holds in the
                end; 0: the last weights
    schedule    (step, steps, peak, warm-up) -> learning rate
    accelerator of several processes, whose losses are parts of the batch's
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
        losses = [loss] if isinstance(loss, torch.Tensor) else loss
        total = gradient(losses, net, accelerator)
        if not math.isfinite(total):  # before the weights are lost, too
            raise ValueError(f"{name}: the loss is {total} at step {step}; use a smaller peak")
        update(optimizer, net, rate)
        if average:
            now = [p.detach() for p in weights.values()]
            decay = min(average, (step + 1) / (step + 21))
            torch._foreach_lerp_(list(ema.values()), now, 1 - decay)
        log.add(total, rate, terms)
        net.eval()
        yield log
        net.train()
        if not process() and (log.step % checkpoint_every == 0 or log.step == steps):
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
def encode_all(decoder, dataset: Dataset, mirror: bool = False) -> torch.Tensor:
    """Latents of a whole dataset, or of its mirror image, float32 (M, C, h, h) on the CPU."""
    encode = lambda pixels: decoder.encode(pixels.flip(-1) if mirror else pixels)
    return of_images(encode, dataset)


def of_images(compute: Callable, dataset: Dataset, accelerator=None) -> torch.Tensor:
    """compute(pixels) of all images (M, ...), 256 at a time, on the CPU; with several processes on
    that of each, which computes a share of them."""
    n, first = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    M, B = len(dataset), 256 * n
    parts = (slice(i + first, i + B, n) for i in range(0, M, B) if i + first < M)
    mine = torch.cat([compute(dataset.pixels(rows)).cpu() for rows in parts])
    if n == 1:
        return mine
    shares = accelerator.gather(accelerator.pad_across_processes(mine.to(device())))
    return shares.unflatten(0, (n, -1)).transpose(0, 1).flatten(0, 1)[:M].cpu()


def relaxed_loss(pooler, decoder, patches, z_0, t, eps, **relaxation):
    """De-Diffusion's objective per image (B,), section 3 of the paper: features (B, P, F) -> logits
    -> relaxed tokens -> the frozen decoder's denoising loss of z_0 (B, C, h, h) at noise levels
    t (B,) and noise eps. `relaxation`: options of relaxed_words and relax."""
    with autocast():
        read = pooler.states(patches)  # (B, N, D)
    table = decoder.text_encoder.get_input_embeddings().weight  # (V, D)
    words, cost = relaxed_words(pooler, read, table, **relaxation)
    with autocast():
        states = decoder.embedded_states(words)  # (B, L, D)
    return decoder.loss(z_0, states, t, eps) + cost


def relaxed_words(pooler, read, table, *, noise=0.0, generator=None, repeats=0.0, **more):
    """What the queries have read (B, N, D) -> mixtures of the rows of a table of word vectors
    (V, D), by their relaxed tokens: (B, N, D), and what the tokens cost beside the loss (B,).

    repeats    what it costs if all positions write one word (not in the paper); `repeated`
    generator  of the noise, or one for each image; `more`: relax()'s other options

    Logits and tokens (B, N, V) are 15 MB an image and copy at 75 CLIP tokens. Where a batch has
    more images than `at_once`, they are computed piece by piece, once more in the backward pass,
    and never kept."""
    (B, N), n = read.shape[:2], pooler.at_once()
    if not noise:
        generator = None
    elif not isinstance(generator, list):
        generator = streams(generator or torch.default_generator, B, N * len(table))

    def piece(read, generator):
        with autocast():  # not around all pieces: their gradients are summed in float32
            logits = pooler.logits(read)
        weights = relax(logits, noise=noise, generator=generator, **more)
        with autocast():
            words = (weights.flatten(0, 1) @ table).view(*read.shape[:2], -1)
        return words, repeats * repeated(weights) if repeats else weights.new_zeros(len(read))

    if n >= B:
        return piece(read, generator)
    kept = dict(use_reentrant=False, preserve_rng_state=False)
    parts = [slice(i, i + n) for i in range(0, B, n)]
    done = [checkpoint(piece, read[i], generator and generator[i], **kept) for i in parts]
    return tuple(map(torch.cat, zip(*done)))


def repeated(weights: torch.Tensor) -> torch.Tensor:
    """Relaxed tokens (B, N, V) -> (B,): the share of pairs of positions that write the same word,
    from 0, all words different, to 1, one word N times."""
    N = weights.shape[1]
    pairs = weights.sum(1).pow(2).sum(-1) - weights.pow(2).sum((1, 2))
    return pairs / max(1, N * (N - 1))


def train_encoder(
    dataset: Dataset,
    decoder,
    out: Path,
    *,
    seen: int,
    probe: Dataset | None = None,
    checkpoint_every: int = 100,
    accumulate: int = 1,
    train_backbone: bool = False,
    patches: torch.Tensor | None = None,
    z_all: torch.Tensor | None = None,
    **changed,
) -> Encoder:
    """De-Diffusion: image -> relaxed tokens -> frozen decoder -> its own denoising loss, for `seen`
    images. Only the pooler learns, with `train_backbone` its tower, too. `changed` replaces entries
    of RECIPE.

    probe           held-out images: their argmax text is shown and its loss logged now and then
    accumulate      parts that each process computes its share of a batch in, one after another
    patches, z_all  features (M, P, F) and latents (M, C, h, h) of `dataset`, computed if not given:
                    once, or where the images themselves stay on disk each time they are needed
    Resumes from `out/encoder.state.safetensors`, with any number of processes and parts: what is
    random in a step is drawn for its whole batch, and each takes the images that are its own."""
    from accelerate import Accelerator

    recipe = made_by(RECIPE, changed, seen=seen, images=dataset.fingerprint())
    recipe["rule"] = recipe["rule"] or surviving_rule(decoder.tokenizer)
    recipe["decoder"] = weights_hash(decoder.denoiser, decoder.text_encoder)
    recipe["latents"] = latents_hash(decoder.vae)
    if train_backbone:  # not told where it is not so: older checkpoints have no such entry
        recipe["train_backbone"] = True
        if not recipe["backbone"]:
            raise ValueError("the default backbone stays frozen; give one that is to learn")
    r, steps = SimpleNamespace(**recipe), seen // recipe["B"]
    if 0 < seen < r.B:
        raise ValueError(f"{seen} images seen are less than one batch of {r.B}: use more of them")
    batch_rows(len(dataset), r.B, 0, r.seed)  # too few images, or a folder of another recipe, are
    check_recipe(out / "encoder.state.safetensors", recipe)  # refused before the work
    accelerator = Accelerator(cpu=device().type == "cpu")
    n, size = accelerator.num_processes, r.B // (accelerator.num_processes * accumulate)
    shared = f"{r.B} images a step: {n} processes x {accumulate} parts x {size} images"
    if r.B % (n * accumulate):
        raise ValueError(f"{shared} leave some out: use a batch that {n * accumulate} divides")
    if size < r.B:
        say(shared)
    made = dict(
        D=r.width, blocks=r.blocks, rule=r.rule, seed=r.seed, tie=r.tie, backbone=r.backbone
    )
    encoder = Encoder.new(decoder, r.tokens, **made, train_backbone=train_backbone)
    net = encoder.pooler
    if train_backbone:
        net = nn.ModuleDict({"pooler": net, "backbone": encoder.tower})
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

    def say_round_trip(ids: torch.Tensor, what: str, unless: float = -1.0) -> None:
        back = round_trip(decoder.tokenizer, ids)
        kept = f"{back['exact']:.1%} are read back as written, {back['truncated']:.1%} too long"
        if back["exact"] != unless:
            say(f"round trip: of {len(ids)} {what} by rule {r.rule} {kept}")

    words = encoder.pooler.allowed.nonzero().flatten().cpu()
    some = torch.randint(len(words), (1000, r.tokens), generator=generator(r.seed, "round trip"))
    say_round_trip(words[some], "random texts", unless=1.0)
    fits = patches is not None or isinstance(dataset.images, np.ndarray)
    if held := fits and not train_backbone:
        patches = of_images(encoder.features, dataset, accelerator) if patches is None else patches
        z_all = of_images(decoder.encode, dataset, accelerator) if z_all is None else z_all
    shape = z_all.shape[1:] if held else (decoder.C, decoder.h, decoder.h)

    def looked_at(rows) -> tuple[torch.Tensor, torch.Tensor]:
        if held:
            return patches[rows], z_all[rows]
        pixels = dataset.pixels(rows)
        if not train_backbone:
            return encoder.features(pixels), decoder.encode(pixels)
        with autocast():
            return encoder.tower(pixels.to(device())), decoder.encode(pixels)

    if probe is not None and not process():
        probe_patches, probe_z = of_images(encoder.features, probe), encode_all(decoder, probe)
    parameters = list(net.parameters())
    optimizer = {
        "adamw": lambda: adamw(parameters, r.peak, weight_decay=0.01),
        "muon": lambda: MuonAndAdamW(net, r.peak),
        "adafactor": lambda: torch.optim.Adafactor(parameters, lr=r.peak),
    }[r.optimizer]()

    def losses(rows, t: torch.Tensor, eps: torch.Tensor, **how) -> torch.Tensor:
        patches_of, z_0 = looked_at(rows)
        given = (x.to(device()) for x in (patches_of.float(), z_0, t, eps))
        return relaxed_loss(encoder.pooler, decoder, *given, **how)

    def batch_loss(rows, step, rng):
        t = torch.randint(int(r.t_from * decoder.T), decoder.T, (r.B,), generator=rng)
        eps = torch.randn((r.B, *shape), generator=rng)
        noises = streams(rng, r.B, r.tokens * decoder.V) if r.noise else []
        tau, hard = temperature(step, steps, r.tau_start, r.tau_end), step >= r.hard_from * steps
        relaxation = dict(tau=tau, noise=r.noise, straight_through=hard, repeats=r.repeats)

        def part(i):
            own = slice(i, i + size)
            how = relaxation | {"generator": noises[own]}
            return losses(rows[own], t[own], eps[own], **how).sum() / r.B

        if not process():
            say_room()
        first = accelerator.process_index * size
        return map(part, range(first, r.B, n * size)), {"tau": tau}

    @cache
    def say_room() -> None:
        """Once, before the first step that is made, not where a finished training is read: what an
        image more takes, counted, and how many fit at once by that."""

        def keeps(n: int) -> int:
            t, eps = torch.zeros(n, dtype=torch.long), torch.zeros(n, *shape)
            noise = dict(tau=1.0, noise=r.noise, generator=generator(0, "room"))
            return kept_bytes(lambda: losses(slice(n), t, eps, **noise))

        parts = min(size, decoder.loss_parts())  # images whose activations are there together
        each, free = keeps(1) if parts == 1 else keeps(2) - keeps(1), free_memory()
        fits = int(0.8 * free / each)
        told = f"memory: a step keeps {each / 1e6:,.0f} MB of an image at once, here of {parts}"
        say(f"{told}; {free / 1e9:,.1f} GB are free, enough for about {fits}")
        if parts > fits:
            fix = "use a larger --accumulate, or --gradient-checkpointing"
            if more := [
                k for k in range(1, r.B // n + 1) if r.B // n % k == 0 and r.B // n // k <= fits
            ]:
                fix = f"use --accumulate {more[0]}, or --gradient-checkpointing"
            say(f"note: that is too little; {fix}")

    def probed() -> dict:
        now = of_images(encoder.features, probe) if train_backbone else probe_patches
        ids = encoder.ids(now)  # (M, N)
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
    run = (net, optimizer, batch_loss, out, "encoder", recipe, len(dataset))
    for log in training_loop(*run, **options, accelerator=accelerator):
        if log.due():
            facts = {} if probe is None else probed()
            log.line(tau=round(log.terms["tau"], 3), **facts)
            if facts:
                shown = "probe {probe:.4f}, {distinct_per_text:.1f} distinct words a text, "
                shown += "{distinct} in all | {of}: {text}"
                log.progress.show(shown.format(**facts))
    if not process():
        first = dataset.rows(range(min(1000, len(dataset))))
        some = patches[:1000] if held else of_images(encoder.features, first)
        say_round_trip(encoder.ids(some), "texts of training images")
    encoder.recipe = recipe | {"size": dataset.images.shape[1]}  # of the pictures it looks at
    return encoder
