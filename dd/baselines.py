"""Rivals that are not trained here, or search for words instead of learning to write them by the image-text similarity below.

    texts = caption(world, "Salesforce/blip-image-captioning-base@<commit>")      # any captioner of transformers, at paper scale
    texts = interrogate(similarity, tokenizer, patches, bank)    # CLIP Interrogator: a greedy chain of phrases from a bank
    texts = interrogate_by_clip(world, "openai/clip-vit-large-patch14@<commit>", bank)         # the same with a CLIP of transformers
    texts = hard_prompts(similarity, tokenizer, patches, N=16)   # PEZ: gradient steps on N free words of one image
    texts = hard_prompts_by_loss(decoder, z_0, N=16)             # PH2P: the same, against the decoder's own denoising loss

At paper scale the similarity is a CLIP; here it is the smallest thing with CLIP's objective (`train.train_similarity`).
Letters: B batch, P image patches, F feature channels, D width of the common space, N words, K phrases in the bank, V vocabulary.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.functional import normalize

from .captions import alt_text_phrases
from .data import Dataset
from .encoder import FEATURES, P
from .runtime import Progress, autocast, device, generator, pinned, quiet
from .texts import names
from .train import fit
from .vocab import allowed_tokens, to_strings

ASKED = (
    "Describe this picture in one detailed sentence."  # of chat models, unless something else is
)


def of_transformers(auto: str, model: str, revision: str | None, what: str):
    """(processor, frozen network) by one of transformers' Auto classes: a folder or a Hub id with its commit, safetensors only."""
    import transformers

    source, options = pinned(model, revision, what)
    quiet()
    net = getattr(transformers, auto).from_pretrained(
        source, use_safetensors=True, dtype=torch.float32, **options
    )
    return transformers.AutoProcessor.from_pretrained(source, **options), net.eval().requires_grad_(
        False
    ).to(device())


@torch.no_grad()
def caption(
    dataset: Dataset,
    model: str,
    revision: str | None = None,
    *,
    prompt: str = "",
    tokens: int = 60,
    B: int = 8,
) -> list[str]:
    """One caption an image by a model of transformers that takes pictures (AutoModelForImageTextToText): a captioner (BLIP, BLIP-2, Florence-2), or a vision-language
    model that is talked to, whose own chat template is applied (LLaVA, SmolVLM, Qwen-VL): a folder or a Hub id with its commit. Greedy.

    prompt   what the model is asked with, where it needs that (Florence-2: "<MORE_DETAILED_CAPTION>"; chat models are asked ASKED if it is empty); not part of the caption"""
    from PIL import Image

    processor, net = of_transformers("AutoModelForImageTextToText", model, revision, "captioner")
    processor.tokenizer.padding_side = (
        "right" if net.config.is_encoder_decoder else "left"
    )  # a decoder goes on where its prompt ends
    texts, progress = [], Progress("caption", len(dataset))
    for i in range(0, len(dataset), B):
        pictures = [Image.fromarray(image) for image in dataset.images[i : i + B]]
        if processor.chat_template:
            talk = [
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "image": p},
                            {"type": "text", "text": prompt or ASKED},
                        ],
                    }
                ]
                for p in pictures
            ]
            inputs = processor.apply_chat_template(
                talk,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            ).to(device())
        else:
            asked = {"text": [prompt] * len(pictures), "padding": True} if prompt else {}
            inputs = processor(images=pictures, return_tensors="pt", **asked).to(device())
        with autocast():
            ids = net.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        told = inputs.get("input_ids", ids[:, :0])
        if ids[:, : told.shape[1]].equal(told):  # what a decoder was told comes back first
            ids = ids[:, told.shape[1] :]
        texts += [without(prompt, t) for t in processor.batch_decode(ids, skip_special_tokens=True)]
        progress(len(texts))
    return texts


def without(prompt: str, text: str) -> str:
    """A decoded text less the prompt it may begin with; tokenizers lower-case and re-space, so only letters and digits are compared."""
    bare, k, n = [c for c in prompt.lower() if c.isalnum()], 0, 0
    while n < len(bare) and k < len(text) and (not text[k].isalnum() or text[k].lower() == bare[n]):
        n, k = n + text[k].isalnum(), k + 1
    whole = n == len(bare) > 0 and not text[k : k + 1].isalnum()
    return " ".join(text[k:].split()).lstrip(",.:;!?>) ") if whole else " ".join(text.split())


class Similarity(ModelMixin, ConfigMixin):
    """Pictures and bags of words in one space: cosine of the backbone's features, mapped patch by patch and averaged, with the sum of word
    vectors. Trained by CLIP's contrastive loss."""

    @register_to_config
    def __init__(self, V: int, F: int = FEATURES, D: int = 192, hidden: int = 512):
        super().__init__()
        self.norm, self.place = nn.LayerNorm(F), nn.Parameter(torch.zeros(P, hidden))
        self.read, self.look = nn.Linear(F, hidden), nn.Sequential(nn.GELU(), nn.Linear(hidden, D))
        self.words, self.log_scale = nn.Embedding(V, D), nn.Parameter(torch.tensor(2.6))
        nn.init.normal_(self.words.weight, std=D**-0.5)

    def image(self, patches: torch.Tensor) -> torch.Tensor:
        """patches (B, P, F) -> unit vectors (B, D)."""
        return normalize(self.look(self.read(self.norm(patches)) + self.place).mean(1), dim=-1)

    def text(self, ids: list[list[int]]) -> torch.Tensor:
        """Bags of token ids -> sums of their vectors (B, D), not yet of unit length. No words, no direction: zeros."""
        flat = torch.tensor(
            [i for bag in ids for i in bag], dtype=torch.long, device=self.words.weight.device
        )
        rows = torch.tensor(
            [k for k, bag in enumerate(ids) for _ in bag], dtype=torch.long, device=flat.device
        )
        return self.words.weight.new_zeros(len(ids), self.words.embedding_dim).index_add(
            0, rows, self.words(flat)
        )

    def forward(self, patches: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
        """-> logits (B, B): each picture against each text of the batch."""
        return (
            self.log_scale.exp().clamp(max=100)
            * self.image(patches)
            @ normalize(self.text(ids), dim=-1).T
        )


def phrase_bank(dataset: Dataset, least: int = 5) -> list[str]:
    """Every phrase that people or the alt text use for at least `least` drawings of `world` (the training drawings), commonest first."""
    counts = Counter(
        p
        for part in alt_text_phrases(dataset)
        for p in {
            " ".join(part["style"]),
            *(
                q
                for kind in ("name", "keywords", "colours", "regions", "shape")
                for q in part[kind]
            ),
        }
        if p
    )
    return [p for p, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if n >= least]


@torch.no_grad()
def interrogate(
    similarity: Similarity,
    tokenizer,
    patches: torch.Tensor,
    bank: list[str],
    most: int = 16,
    B: int = 256,
) -> list[str]:
    """CLIP Interrogator's way: the phrase most like the picture, then again and again the one that lifts the chain's similarity most, until
    none does or `most` words are written. patches (M, P, F) -> M strings."""
    ids = [tokenizer(p, add_special_tokens=False).input_ids for p in bank]
    phrases, sizes, texts = (
        similarity.text(ids),
        torch.tensor([len(p.split()) for p in bank], device=device()),
        [],
    )  # (K, D), (K,)
    for i in range(0, len(patches), B):
        v = similarity.image(patches[i : i + B].to(device()).float())  # (b, D)
        chain, found, length, said = (
            torch.zeros_like(v),
            torch.full((len(v),), -1.0, device=v.device),
            torch.zeros(len(v), dtype=torch.long, device=v.device),
            [[] for _ in v],
        )
        used = torch.zeros(len(v), len(bank), dtype=torch.bool, device=v.device)  # (b, K)
        while True:
            size = (
                (chain.pow(2).sum(-1)[:, None] + 2 * chain @ phrases.T + phrases.pow(2).sum(-1))
                .clamp_min(1e-9)
                .sqrt()
            )  # (b, K): length of chain + phrase
            score = ((chain * v).sum(-1)[:, None] + v @ phrases.T) / size
            best, pick = score.masked_fill(used | (length[:, None] + sizes > most), -2.0).max(
                -1
            )  # (b,)
            better = best > found
            if not better.any():
                break
            for k in better.nonzero().flatten().tolist():
                said[k].append(bank[pick[k]])
            rows = better.nonzero().flatten()
            chain[rows] += phrases[pick[rows]]
            length[rows] += sizes[pick[rows]]
            found[rows], used[rows, pick[rows]] = best[rows], True
        texts += [" ".join(s) for s in said]
    return texts


@torch.no_grad()
def interrogate_by_clip(
    dataset: Dataset,
    model: str,
    bank: list[str],
    revision: str | None = None,
    *,
    shortlist: int = 128,
    most: int = 40,
    B: int = 64,
) -> list[str]:
    """CLIP Interrogator with a CLIP of transformers (CLIP, SigLIP: any with get_text_features and get_image_features), a folder or a Hub id with its commit -> one
    string an image. Its text tower does not add up as `Similarity`'s does: the `shortlist` phrases most like the picture by themselves are tried, each
    chain, joined by commas, read anew; the best stays while it lifts the similarity and the text has at most `most` words."""
    from PIL import Image

    processor, net = of_transformers("AutoModel", model, revision, "interrogator")
    if not (
        hasattr(net, "get_text_features") and hasattr(net, "logit_scale")
    ):  # what contrastive models have
        raise ValueError(
            f"{model}: a {type(net).__name__} puts no texts and pictures in one space; use a CLIP or SigLIP"
        )
    limit = net.config.text_config.max_position_embeddings
    padding = (
        "longest" if net.config.model_type == "clip" else "max_length"
    )  # SigLIP was trained with its padding in sight

    def read(texts: list[str]) -> torch.Tensor:
        """-> unit vectors (M, D)."""
        parts = [
            net.get_text_features(
                **processor.tokenizer(
                    texts[i : i + B],
                    padding=padding,
                    truncation=True,
                    max_length=limit,
                    return_tensors="pt",
                ).to(device())
            )
            for i in range(0, len(texts), B)
        ]
        return normalize(torch.cat([p.pooler_output for p in parts]), dim=-1)

    phrases, progress, told = (
        read(bank),
        Progress("interrogate", len(dataset), unit="images"),
        [],
    )  # (K, D)
    for i in range(0, len(dataset), B):
        pictures = [Image.fromarray(image) for image in dataset.images[i : i + B]]
        seen = normalize(
            net.get_image_features(
                **processor.image_processor(pictures, return_tensors="pt").to(device())
            ).pooler_output,
            dim=-1,
        )  # (b, D)
        for v in seen:
            left, chain, found = (
                [bank[k] for k in (phrases @ v).topk(min(shortlist, len(bank))).indices.tolist()],
                [],
                -2.0,
            )
            while tried := [p for p in left if len(" ".join([*chain, p]).split()) <= most]:
                score, pick = (read([", ".join([*chain, p]) for p in tried]) @ v).max(0)
                if score <= found:
                    break
                chain.append(tried[pick])
                left.remove(tried[pick])
                found = score
            told.append(", ".join(chain))
            progress(len(told))
    return told


def hard_prompts(
    similarity: Similarity,
    tokenizer,
    patches: torch.Tensor,
    N: int = 16,
    steps: int = 100,
    rate: float = 0.1,
    seed: int = 0,
    B: int = 256,
) -> list[str]:
    """PEZ (Wen et al. 2023): N free word vectors per picture; each step projects them to the nearest words of the vocabulary, takes the gradient of
    the similarity there, and moves the free ones. The best projected words of all steps are kept. patches (M, P, F) -> M strings."""
    table = similarity.words.weight.detach()  # (V, D)
    allowed = allowed_tokens(tokenizer)
    allowed = torch.nn.functional.pad(allowed, (0, len(table) - len(allowed))).to(
        table.device
    )  # (V,)
    unit, out = normalize(table, dim=-1), []
    progress = Progress("hard prompts", len(patches))
    choices = allowed.nonzero().flatten()
    for i in range(0, len(patches), B):
        with torch.no_grad():
            v = similarity.image(patches[i : i + B].to(device()).float())  # (b, D)
        start = choices[
            torch.randint(len(choices), (len(v), N), generator=generator(seed, f"pez/{i}")).to(
                table.device
            )
        ]
        free = table[start].clone().requires_grad_(True)  # (b, N, D)
        optimizer = torch.optim.AdamW([free], lr=rate * table.std().item(), weight_decay=0.0)
        found, best = torch.full((len(v),), -2.0, device=v.device), start
        for _ in range(steps):
            with torch.no_grad():
                near = (
                    (normalize(free, dim=-1) @ unit.T).masked_fill(~allowed, -2.0).argmax(-1)
                )  # (b, N)
            words = table[near].requires_grad_(True)  # (b, N, D)
            score = (normalize(words.sum(1), dim=-1) * v).sum(-1)  # (b,)
            (free.grad,) = torch.autograd.grad(-score.sum(), words)
            optimizer.step()
            better = score.detach() > found
            found, best = (
                torch.where(better, score.detach(), found),
                torch.where(better[:, None], near, best),
            )
        out += to_strings(tokenizer, best)
        progress(len(out))
    return out


def hard_prompts_by_loss(
    decoder,
    z_0: torch.Tensor,
    N: int = 16,
    steps: int = 40,
    rate: float = 0.1,
    t_from: float = 0.5,
    seed: int = 0,
    B: int = 64,
) -> list[str]:
    """After PH2P (Mahajan et al. 2024): hard prompts of the decoder's own denoising loss, De-Diffusion's objective searched anew for every picture instead of
    learnt once. It is PEZ with that loss: each step takes the gradient at the nearest words and moves the free ones by AdamW; noise and its level (the noisier
    1 - t_from of them, as in `train_encoder`) are drawn anew each step, and the last nearest words are kept. The paper differs: L-BFGS, words projected
    now and then, and many more steps. z_0 (M, C, h, h) -> M strings."""
    table = decoder.text_encoder.get_input_embeddings().weight.detach()  # (V, D)
    allowed = allowed_tokens(decoder.tokenizer)
    allowed = torch.nn.functional.pad(allowed, (0, len(table) - len(allowed))).to(
        table.device
    )  # (V,)
    unit, choices, out = normalize(table, dim=-1), allowed.nonzero().flatten(), []
    nearest = (
        lambda free: (normalize(free, dim=-1) @ unit.T).masked_fill(~allowed, -2.0).argmax(-1)
    )  # (b, N)
    progress = Progress("hard prompts by loss", len(z_0))
    for i in range(0, len(z_0), B):
        z, rng = z_0[i : i + B].to(device()), generator(seed, f"ph2p/{i}")
        free = (
            table[choices[torch.randint(len(choices), (len(z), N), generator=rng).to(table.device)]]
            .clone()
            .requires_grad_(True)
        )  # (b, N, D)
        optimizer = torch.optim.AdamW([free], lr=rate * table.std().item(), weight_decay=0.0)
        for _ in range(steps):
            words = table[nearest(free.detach())].requires_grad_(True)  # (b, N, D)
            t = torch.randint(int(t_from * decoder.T), decoder.T, (len(z),), generator=rng).to(
                z.device
            )
            eps = torch.randn(z.shape, generator=rng).to(z.device)
            with autocast():
                states = decoder.embedded_states(words)  # (b, L, D)
            (free.grad,) = torch.autograd.grad(decoder.loss(z, states, t, eps).sum(), words)
            optimizer.step()
        out += to_strings(decoder.tokenizer, nearest(free.detach()))
        progress(len(out))
    return out


# What each position of a captioner is for: the words of one kind, then nothing. Fixed places, because all are written at once.
CAPTIONS = {
    "captioner": {"name": 6},
    "captioner_detailed": {"name": 5, "style": 3, "colours": 4, "regions": 10, "shape": 7},
}


def caption_slots(part: dict[str, list[str]], kind: str) -> list[str]:
    """What a captioner learns to write of one drawing (of `alt_text_phrases`): a word or "" for each position."""
    slots = []
    for key, places in CAPTIONS[kind].items():
        said = " ".join(part[key]).split()[:places]
        slots += said + [""] * (places - len(said))
    return slots


def retrieved(patches: torch.Tensor, memory: Dataset, memory_patches: torch.Tensor) -> list[str]:
    """The name of the training drawing that looks most alike: features (M, P, F) of both, the encoder's backbone's, mean over the patches
    and centred, cosine."""
    centre = memory_patches.float().mean((0, 1))
    here, there = (
        torch.nn.functional.normalize(p.float().mean(1) - centre) for p in (patches, memory_patches)
    )  # (M, F)
    known = names(memory)
    return [known[i] for i in (here @ there.T).argmax(1).tolist()]


def train_captioner(
    dataset: Dataset,
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
    probe: Dataset | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
):
    """The rival that people teach: the same frozen backbone and pooler, and cross-entropy with given words instead of a decoder's loss.

    kind      `captioner` learns the drawing's name, `captioner_detailed` its alt text (the stand-in for a modern vision-language model)
    probe     a held-out, train-side world whose cross-entropy is logged now and then
    All words are written at once, one a position (texts.CAPTIONS); the end token says nothing there. Words are whole tokens, so the decoder's
    vocabulary must be of words. Resumes from `out/captioner.state.safetensors`."""
    from .baselines import CAPTIONS, caption_slots
    from .captions import alt_text_phrases
    from .encoder import Encoder, backbone_features

    recipe = dict(
        kind=kind,
        seen=seen,
        width=width,
        blocks=blocks,
        B=B,
        peak=peak,
        seed=seed,
        images=dataset.fingerprint(),
    )
    nothing, known = decoder.tokenizer.eos_token_id, decoder.tokenizer.get_vocab()
    said = {w for p in alt_text_phrases(dataset) for w in caption_slots(p, kind) if w}
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
            for p in alt_text_phrases(part)
        ]
    )  # (M, N)
    encoder = Encoder.new(decoder, sum(CAPTIONS[kind].values()), D=width, blocks=blocks, seed=seed)
    encoder.pooler.allowed[nothing] = True
    patches, words_of = (
        backbone_features(dataset.pixels()) if patches is None else patches,
        targets(dataset),
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
        len(dataset),
        weight_decay=0.05,
        checkpoint_every=checkpoint_every,
        title=kind,
        probe=held_out and (lambda: cross_entropy(*held_out).item()),
    )
    encoder.recipe = recipe
    return encoder


def train_similarity(
    dataset: Dataset,
    tokenizer,
    out: Path,
    *,
    seen: int,
    B: int = 256,
    peak: float = 2.0e-3,
    seed: int = 0,
    probe: Dataset | None = None,
    checkpoint_every: int = 100,
    patches: torch.Tensor | None = None,
):
    """CLIP's contrastive loss at the smallest size: in each batch every picture must find its own text, and every text its picture. Texts are
    drawn from the decoder's diet, anew each time. Drawings of one concept may share a text, and then neither can win.
    Resumes from `out/similarity.state.safetensors`."""
    from .baselines import Similarity
    from .captions import alt_text, alt_text_phrases, caption_mixture
    from .encoder import backbone_features

    recipe = dict(seen=seen, B=B, peak=peak, seed=seed, images=dataset.fingerprint())
    torch.manual_seed(seed)
    net = Similarity(V=len(tokenizer)).to(device())
    parts, read = (
        alt_text_phrases(dataset),
        lambda texts: [tokenizer(t, add_special_tokens=False).input_ids for t in texts],
    )
    patches = backbone_features(dataset.pixels()) if patches is None else patches  # (M, P, F)

    def contrastive_loss(rows, step):
        rng = random.Random(f"{seed}/similarity/{step}")
        ids = read(caption_mixture(parts[r], rng) or " ".join(parts[r]["name"]) for r in rows)
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
            read(alt_text(p) for p in alt_text_phrases(probe)),
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
        len(dataset),
        weight_decay=0.1,
        checkpoint_every=checkpoint_every,
        probe=held_out and found,
    )
