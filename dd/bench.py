"""Speed as ratios against the stock way, both measured in this run, in turn; medians over repeats. Never a timed test.

    python -m dd bench

    encoder step   ours: plain batched-product attention, bfloat16 where the processor has it, cached features
                   stock: diffusers' default attention, float32, features recomputed each step
    drawing        ours: the study's sampler and steps; stock: the pipeline's own call, 50 DDIM steps, float32 (pictures per second
                   at equal FID: the equivalence is measured in notebook 02 and in results/full/samplers.csv)
    scoring        ours: one FID with its bootstrap intervals from cached features; stock: torchmetrics on the images, each time
    share of peak  multiply-adds of a denoiser forward + backward over the best matrix product of the same run
"""
from __future__ import annotations

import statistics, sys, time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from . import judge
from .data import load_world
from .decoder import Decoder, fast_attention
from .encoder import Encoder, backbone_features, relax
from .runtime import autocast, device, half, say, write_json


def seconds(function, repeats: int) -> list[float]:
    function()                                               # warm-up: lazy initialisation and caches
    out = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        out.append(time.perf_counter() - start)
    return out


def in_turn(ours, stock, repeats: int) -> tuple[float, float, float]:
    """Medians of both, and the median of the ratios pair by pair: machine drift hits both alike."""
    ours(), stock()
    pairs = [(seconds_once(ours), seconds_once(stock)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), statistics.median(b / a for a, b in pairs)


def seconds_once(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def stock_attention(unet) -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0
    unet.set_attn_processor(AttnProcessor2_0())


def run(repeats: int = 5, out: Path | None = None, decoder_name: str = "sketch", B: int = 64) -> dict:
    world, decoder = load_world("emoji").part("val", 512), Decoder.load(decoder_name)
    pixels, ids = world.pixels(), list(world.frame["id"])
    patches, z_all = backbone_features(pixels), torch.cat([decoder.encode(pixels[i:i + B]).cpu() for i in range(0, len(pixels), B)])
    encoder = Encoder.new(decoder, min(16, decoder.L - 2))
    t = torch.randint(0, decoder.T, (B,), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(z_all[:B].shape, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(encoder.pooler.parameters(), lr=1e-4)

    def step(features):
        with autocast():
            logits = encoder.pooler(features.float())
        with autocast():
            states = decoder.soft_states(relax(logits, 1.0, noise=0.0))
        decoder.loss(z_all[:B], states, t, noise).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def step_ours():
        fast_attention(decoder.unet)
        step(patches[:B])

    def step_stock():
        stock_attention(decoder.unet)
        with plain_float32():
            decoder.encode(pixels[:B])
            step(backbone_features(pixels[:B]))

    words = list(world.frame["name"][:B])

    def draw_ours():
        fast_attention(decoder.unet)
        decoder.draw(words, ids[:B], guidance=3.0, steps=8, sampler="dpm")

    def draw_stock():
        stock_attention(decoder.unet)
        decoder.pipeline.set_progress_bar_config(disable=True)
        decoder.pipeline(words, num_inference_steps=50, guidance_scale=3.0, output_type="np", height=64, width=64)

    real = judge.eye_features(world.images)
    fake = real.flip(0)

    result = {}
    for name, ours, stock, unit in (("encoder step", step_ours, step_stock, B), ("drawing", draw_ours, draw_stock, B)):
        a, b, ratio = in_turn(ours, stock, repeats)
        result[name] = {"ours_per_second": round(unit / a, 1), "stock_per_second": round(unit / b, 1), "ratio": round(ratio, 2)}
        say(f"{name}: {unit / a:.1f}/s against {unit / b:.1f}/s, ratio {ratio:.2f}")
    a, b, ratio = in_turn(lambda: judge.frechet(real, fake), lambda: stock_score(world), repeats)
    result["scoring"] = {"ours_seconds": round(a, 4), "stock_seconds": round(b, 3), "ratio": round(ratio, 1)}
    result["denoiser share of peak"] = share_of_peak(decoder, z_all, t, noise, B, repeats)
    fast_attention(decoder.unet)
    for name, row in result.items():
        print(f"{name:24} " + "  ".join(f"{k} {v}" for k, v in row.items()))
    if out:
        write_json(out, result)
    return result


def stock_score(world) -> None:
    """What torchmetrics does with a custom feature network: features and a full eigenvalue problem anew at every call."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    with plain_float32():
        metric = FrechetInceptionDistance(feature=_Eye())
        images = torch.from_numpy(world.images).permute(0, 3, 1, 2)
        metric.update(images, real=True)
        metric.update(images.flip(0), real=False)
        metric.compute()


class _Eye(torch.nn.Module):
    num_features = 352

    def forward(self, images):
        return judge.eye_features(images.permute(0, 2, 3, 1).numpy())


@contextmanager
def plain_float32():
    """Inside, autocast() does nothing anywhere in dd: the stock way."""
    from . import decoder, encoder
    places = (decoder, encoder, judge, sys.modules[__name__])
    before = [m.autocast for m in places]
    try:
        for module in places:
            module.autocast = nullcontext
        yield
    finally:
        for module, original in zip(places, before):
            module.autocast = original


def share_of_peak(decoder, z_all, t, noise, B: int, repeats: int) -> dict:
    from torch.utils.flop_counter import FlopCounterMode
    dtype = half() or torch.float32
    a, b = (torch.randn(2048, 2048, dtype=dtype, device=device()) for _ in range(2))
    peak = 2 * 2048 ** 3 / min(seconds(lambda: a @ b, repeats))
    fast_attention(decoder.unet)
    states = decoder.text_states([""] * B).requires_grad_(True)

    def forward_backward():
        decoder.loss(z_all[:B], states, t, noise).mean().backward()

    with FlopCounterMode(display=False) as counter:
        forward_backward()
    took = statistics.median(seconds(forward_backward, repeats))
    rate = counter.get_total_flops() / took
    return {"gflops": round(rate / 1e9), "peak_gflops": round(peak / 1e9), "share": round(rate / peak, 3), "images_per_second": round(B / took, 1)}
