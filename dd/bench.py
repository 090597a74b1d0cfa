"""Speed as ratios against the stock way, both measured in turn in one run; medians over repeats.
Never a timed test.

    python -m dd bench

machine          GFLOP/s of the best matrix product, float32 and, if the device has it, bfloat16
encoder step     ours: plain batched-product attention, bfloat16 where the processor has it, cached
                 features, fused AdamW; stock: diffusers' default attention, float32, features and
                 latents computed again in each step
drawing          ours: the study's sampler and steps; stock: the pipeline's own call, 50 DDIM steps,
                 float32 (that both give the same FID is measured in results/full/samplers.csv)
image features,  ours: small batches, one a core; stock: large batches, all cores together
backbone, decoding
scoring          one FID of new pictures; ours: the originals' features are kept; stock:
                 torchmetrics with the same network, float32
answering        four-shot questions to the language model of notebook 8; ours: shared examples read
                 once, batches of 16; stock: one `generate` a question
share of peak    multiply-adds of a denoiser's forward and backward over the best matrix product
"""

import statistics
import time
from pathlib import Path

import torch
from torch.optim import AdamW

from . import llm, metrics
from .data import load_dataset
from .decoder import Decoder, fast_attention
from .encoder import Encoder, backbone_features
from .runtime import compute_dtype, device, plain_float32, say, write_json
from .study import few_shot
from .train import descend, relaxed_loss

LR, STEPS = 1e-5, 8


def timed(function) -> float:
    """Seconds of one call, the accelerator's queue emptied before and after."""
    wait = torch.cuda.synchronize if device().type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def in_turn(ours, stock, n: int, repeats: int, unit: str = "images") -> dict:
    """How many a second of n; the ratio is the median of the ratios pair by pair, so that a machine
    that becomes slower meanwhile hits both alike."""
    ours(), stock()  # lazy initialisation and caches
    pairs = [(timed(ours), timed(stock)) for _ in range(repeats)]
    rate = lambda seconds: round(n / statistics.median(seconds), 1)
    return {
        f"ours_{unit}_per_second": rate(a for a, _ in pairs),
        f"stock_{unit}_per_second": rate(b for _, b in pairs),
        "ratio": round(statistics.median(b / a for a, b in pairs), 2),
    }


def gflops(dtype: torch.dtype, repeats: int, size: int = 2048) -> float:
    a, b = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
    return 2 * size**3 / min(timed(lambda: a @ b) for _ in range(repeats + 1)) / 1e9


# In float32 on a CPU the stock way gets our channels-last weights, too: its ratios are then a
# little too small.
def run(
    repeats: int = 3, out: Path | None = None, tell=print, B: int = 128, images: int = 512
) -> dict:
    """Prepare everything, then measure; each row is told as soon as it is known."""
    result = {}

    def row(name: str, values: dict) -> None:
        result[name] = values
        tell(f"{name:22} " + "  ".join(f"{k} {v}" for k, v in values.items()))

    # a processor without bfloat16 would take minutes for its product
    kinds = dict.fromkeys((torch.float32, compute_dtype()))
    name = lambda kind: f"gflops_{str(kind).removeprefix('torch.')}"
    row("machine", {name(kind): round(gflops(kind, repeats)) for kind in kinds})
    decoder, dataset = Decoder.load("sketch"), load_dataset("emoji").subset("val", images)
    batch, drawn = dataset.subset("all", B), dataset.subset("all", B // 2).frame
    pixels, everything = batch.pixels().to(device()), dataset.pixels().to(device())
    patches = backbone_features(pixels).to(device()).float()
    z_0, latents = decoder.encode(pixels), decoder.encode(everything)
    rng = torch.Generator().manual_seed(0)
    t = torch.randint(0, decoder.T, (B,), generator=rng).to(device())
    eps = torch.randn(z_0.shape, generator=rng).to(device())
    pooler = Encoder.new(decoder, min(16, decoder.L - 2)).pooler.train()
    fused, plain = (AdamW(pooler.parameters(), lr=LR, fused=fused) for fused in (True, False))
    real = metrics.image_features(dataset.images)

    def step(optimizer, patches, z_0):
        loss = relaxed_loss(pooler, decoder, patches, z_0, t, eps, tau=1.0).mean()
        descend(loss, optimizer, pooler, LR)

    def step_ours():
        fast_attention(decoder.denoiser)
        step(fused, patches, z_0)

    def step_stock():
        stock_attention(decoder.denoiser)
        with plain_float32():
            features = backbone_features(pixels, B=B).to(device()).float()
            step(plain, features, decoder.encode(pixels, B=B))

    def draw_ours():
        fast_attention(decoder.denoiser)
        names, ids = list(drawn["name"]), list(drawn["id"])
        decoder.draw(names, ids, guidance=3.0, steps=STEPS, sampler="dpm")

    def draw_stock():
        stock_attention(decoder.denoiser)
        decoder.pipeline.set_progress_bar_config(disable=True)
        size = dict(height=decoder.size, width=decoder.size)
        how = dict(num_inference_steps=50, guidance_scale=3.0, output_type="np")
        decoder.pipeline(list(drawn["name"]), **how, **size)

    row("encoder step", in_turn(step_ours, step_stock, B, repeats))
    row("drawing", in_turn(draw_ours, draw_stock, len(drawn), repeats))
    for name, compute, x in (
        ("image features", metrics.image_features, dataset.images),
        ("backbone", backbone_features, everything),
        ("decoding", decoder.decode, latents),
    ):
        large = lambda: [compute(x[i : i + B], B=B) for i in range(0, images, B)]  # noqa: B023
        row(name, in_turn(lambda: compute(x), large, images, repeats))  # noqa: B023
    ours = lambda: metrics.frechet(real, metrics.image_features(dataset.images))
    row("scoring", in_turn(ours, lambda: stock_score(dataset), images, repeats))
    try:
        row("answering", answering(llm.LanguageModel.load("smollm2"), dataset, repeats))
    except FileNotFoundError as error:
        say(f"answering: left out; {error}")
    row("denoiser share of peak", share_of_peak(decoder, z_0, t, eps, repeats))
    if out:
        write_json(out, result)
    return result


def stock_attention(unet) -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet.set_attn_processor(AttnProcessor2_0())


def answering(model: llm.LanguageModel, dataset, repeats: int, n: int = 96) -> dict:
    """Questions with four examples each, answers of at most 12 tokens."""
    texts, tokenizer = list(dataset.frame["name"]), model.tokenizer
    shown = few_shot.questions(dataset, 4 * len(few_shot.KINDS), 1)
    asked = few_shot.questions(dataset, n, 0)
    prompts = few_shot.prompts_of(texts, texts, few_shot.VQA, asked, shown, 4)
    how = dict(max_new_tokens=12, do_sample=False, stop_strings=["$", "\n"], tokenizer=tokenizer)

    def one_by_one():
        for prompt in prompts:
            ids = torch.tensor([model.start + model.ids(str(prompt))], device=device())
            mask = torch.ones_like(ids)
            model.net.generate(ids, attention_mask=mask, pad_token_id=tokenizer.eos_token_id, **how)

    return in_turn(lambda: model.answer(prompts), one_by_one, len(prompts), repeats, "questions")


def stock_score(dataset) -> None:
    """torchmetrics with a custom feature network: features and all eigenvalues in every call."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    with plain_float32():
        metric = FrechetInceptionDistance(feature=_ImageFeatures())
        images = torch.from_numpy(dataset.images).permute(0, 3, 1, 2)  # (M, 3, H, W)
        metric.update(images, real=True)
        metric.update(images.flip(0), real=False)
        metric.compute()


class _ImageFeatures(torch.nn.Module):
    num_features = metrics.WIDTH

    def forward(self, images):  # (M, 3, H, W) -> (M, D)
        return metrics.image_features(images.permute(0, 2, 3, 1).numpy(), B=len(images))


def share_of_peak(decoder, z_0, t, eps, repeats: int) -> dict:
    """Multiply-adds a second of the frozen denoiser's forward and backward (to the text states),
    over those of the best matrix product."""
    from torch.utils.flop_counter import FlopCounterMode

    peak = gflops(compute_dtype(), repeats)
    fast_attention(decoder.denoiser)
    states = decoder.text_states([""] * len(z_0)).requires_grad_(True)
    forward_backward = lambda: decoder.loss(z_0, states, t, eps).mean().backward()
    with FlopCounterMode(display=False) as counter:
        forward_backward()
    took = statistics.median(timed(forward_backward) for _ in range(repeats))
    rate = counter.get_total_flops() / took / 1e9
    shares = {"share": round(rate / peak, 3), "images_per_second": round(len(z_0) / took, 1)}
    return {"gflops": round(rate), "peak_gflops": round(peak), **shares}
