"""Speed as ratios against the stock way, both measured in this run, in turn; medians over repeats. Never a timed test.

python -m dd bench

encoder step   ours: plain batched-product attention, bfloat16 where the processor has it, cached features, fused AdamW
               stock: diffusers' default attention, float32, features and latents recomputed each step
drawing        ours: the study's sampler and steps; stock: the pipeline's own call, 50 DDIM steps, float32 (pictures per second
               at equal FID: the equivalence is measured in notebook 05: results/full/samplers.csv)
scoring        one FID of new pictures; ours: the originals' features are kept; stock: torchmetrics with the same eye, float32
answering      four-shot questions to the language model of notebook 8; ours: shared heads, batches of 16; stock: one `generate` a question
share of peak  multiply-adds of a denoiser forward + backward over the best matrix product of the same run
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from . import llm, metrics, train
from .data import load_dataset
from .decoder import Decoder, fast_attention
from .encoder import Encoder, backbone_features
from .runtime import compute_dtype, device, say, write_json
from .study import few_shot
from .train import descend, relaxed_loss


def timed(function) -> float:
    """Seconds of one call, the accelerator's queue emptied before and after."""
    wait = torch.cuda.synchronize if device().type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def in_turn(ours, stock, repeats: int) -> tuple[float, float, float]:
    """Medians of both, and the median of the ratios pair by pair: machine drift hits both alike."""
    ours(), stock()  # warm-up: lazy initialisation and caches
    pairs = [(timed(ours), timed(stock)) for _ in range(repeats)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def stock_attention(unet) -> None:
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet.set_attn_processor(AttnProcessor2_0())


# In float32 on a CPU the stock way gets our channels-last weights, too: its ratios are a little too small there.
def run(
    repeats: int = 5,
    out: Path | None = None,
    decoder_name: str = "sketch",
    B: int = 128,
    images: int = 512,
) -> dict:
    """Everything is prepared first; what is timed is a step, a batch of drawings, a score. B images a batch, as in training."""
    decoder, dataset = Decoder.load(decoder_name), load_dataset("emoji").subset("val", images)
    batch = dataset.subset("all", B)
    pixels, ids, names = (
        batch.pixels().to(device()),
        list(batch.frame["id"]),
        list(batch.frame["name"]),
    )
    patches, z_0 = backbone_features(pixels).to(device()).float(), decoder.encode(pixels)
    pooler = Encoder.new(decoder, min(16, decoder.L - 2)).pooler.train()
    rng = torch.Generator().manual_seed(0)
    t, eps = (
        torch.randint(0, decoder.T, (B,), generator=rng).to(device()),
        torch.randn(z_0.shape, generator=rng).to(device()),
    )
    ours_optimizer, stock_optimizer = (
        torch.optim.AdamW(pooler.parameters(), lr=1e-5, fused=fused) for fused in (True, False)
    )

    def step_ours():
        fast_attention(decoder.denoiser)
        descend(
            relaxed_loss(pooler, decoder, patches, z_0, t, eps, tau=1.0).mean(),
            ours_optimizer,
            pooler,
            1e-5,
        )

    def step_stock():
        stock_attention(decoder.denoiser)
        with plain_float32():
            z, seen = (
                decoder.encode(pixels, B=B),
                backbone_features(pixels, B=B).to(device()).float(),
            )
            descend(
                relaxed_loss(pooler, decoder, seen, z, t, eps, tau=1.0).mean(),
                stock_optimizer,
                pooler,
                1e-5,
            )

    def draw_ours():
        fast_attention(decoder.denoiser)
        decoder.draw(names, ids, guidance=3.0, steps=8, sampler="dpm")

    def draw_stock():
        stock_attention(decoder.denoiser)
        decoder.pipeline.set_progress_bar_config(disable=True)
        decoder.pipeline(
            names,
            num_inference_steps=50,
            guidance_scale=3.0,
            output_type="np",
            height=decoder.size,
            width=decoder.size,
        )

    everything = dataset.pixels().to(device())
    latents = decoder.encode(everything)
    large = lambda look, x: [
        look(x[i : i + B], B=B) for i in range(0, images, B)
    ]  # all cores together on one large batch after another
    real, result = metrics.image_features(dataset.images), {}
    for name, ours, stock, unit in (
        ("encoder step", step_ours, step_stock, B),
        ("drawing", draw_ours, draw_stock, B),
        (
            "eye",
            lambda: metrics.image_features(dataset.images),
            lambda: large(metrics.image_features, dataset.images),
            images,
        ),
        (
            "backbone",
            lambda: backbone_features(everything),
            lambda: large(backbone_features, everything),
            images,
        ),
        (
            "decoding",
            lambda: decoder.decode(latents),
            lambda: large(decoder.decode, latents),
            images,
        ),
        (
            "scoring",
            lambda: metrics.frechet(real, metrics.image_features(dataset.images)),
            lambda: stock_score(dataset),
            images,
        ),
    ):
        a, b, ratio = in_turn(ours, stock, repeats)
        result[name] = {
            "ours_images_per_second": round(unit / a, 1),
            "stock_images_per_second": round(unit / b, 1),
            "ratio": round(ratio, 2),
        }
        say(f"{name}: {unit / a:.1f} images/s against {unit / b:.1f}, ratio {ratio:.2f}")
    try:
        result["answering"] = answering(llm.LanguageModel.load("smollm2"), dataset, repeats)
    except FileNotFoundError as error:
        say(f"answering: left out; {error}")
    result["denoiser share of peak"] = share_of_peak(decoder, z_0, t, eps, repeats)
    for name, row in result.items():
        print(f"{name:24} " + "  ".join(f"{k} {v}" for k, v in row.items()))
    if out:
        write_json(out, result)
    return result


def answering(model: llm.LanguageModel, dataset, repeats: int, n: int = 96) -> dict:
    """Questions per second, four examples each, 12 tokens at most: heads read once and batches, against one `generate` a question."""
    asked, texts = few_shot.questions(dataset, n, 0), list(dataset.frame["name"])
    shown = {
        kind: tuple(
            few_shot.vqa_example(texts[e.row], e.question, e.answer)
            for e in some.head(4).itertuples()
        )
        for kind, some in few_shot.questions(dataset, 4 * len(few_shot.KINDS), 1).groupby("kind")
    }
    prompts = [
        llm.Prompt(few_shot.VQA, shown[q.kind], few_shot.vqa_query(texts[q.row], q.question))
        for q in asked.itertuples()
    ]

    def one_by_one():
        for prompt in prompts:
            ids = torch.tensor([model.start + model.ids(str(prompt))], device=device())
            model.net.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                stop_strings=["$", "\n"],
                tokenizer=model.tokenizer,
                pad_token_id=model.tokenizer.eos_token_id,
            )

    a, b, ratio = in_turn(lambda: model.answer(prompts), one_by_one, repeats)
    say(
        f"answering: {len(prompts) / a:.1f} questions/s against {len(prompts) / b:.1f}, ratio {ratio:.2f}"
    )
    return {
        "ours_questions_per_second": round(len(prompts) / a, 1),
        "stock_questions_per_second": round(len(prompts) / b, 1),
        "ratio": round(ratio, 2),
    }


def stock_score(dataset) -> None:
    """What torchmetrics does with a custom feature network: features and a full eigenvalue problem anew at every call."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    with plain_float32():
        metric = FrechetInceptionDistance(feature=_Eye())
        images = torch.from_numpy(dataset.images).permute(0, 3, 1, 2)
        metric.update(images, real=True)
        metric.update(images.flip(0), real=False)
        metric.compute()


class _Eye(torch.nn.Module):
    num_features = metrics.WIDTH

    def forward(self, images):
        return metrics.image_features(images.permute(0, 2, 3, 1).numpy(), B=len(images))


@contextmanager
def plain_float32():
    """Inside, autocast() does nothing anywhere in dd: the stock way."""
    from . import baselines, decoder, encoder, make_decoders

    places = (decoder, encoder, metrics, train, make_decoders, baselines)
    before = [m.autocast for m in places]
    try:
        for module in places:
            module.autocast = nullcontext
        yield
    finally:
        for module, original in zip(places, before):
            module.autocast = original


def share_of_peak(decoder, z_0, t, eps, repeats: int) -> dict:
    """Multiply-adds of the frozen denoiser's forward and backward (to the text states) per second, over the best matrix product's."""
    from torch.utils.flop_counter import FlopCounterMode

    dtype = compute_dtype() or torch.float32
    a, b = (torch.randn(2048, 2048, dtype=dtype, device=device()) for _ in range(2))
    peak = 2 * 2048**3 / min(timed(lambda: a @ b) for _ in range(repeats + 1))
    fast_attention(decoder.denoiser)
    states = decoder.text_states([""] * len(z_0)).requires_grad_(True)

    def forward_backward():
        decoder.loss(z_0, states, t, eps).mean().backward()

    with FlopCounterMode(display=False) as counter:
        forward_backward()
    took = statistics.median(timed(forward_backward) for _ in range(repeats))
    rate = counter.get_total_flops() / took
    return {
        "gflops": round(rate / 1e9),
        "peak_gflops": round(peak / 1e9),
        "share": round(rate / peak, 3),
        "images_per_second": round(len(z_0) / took, 1),
    }
