"""Other writers of texts: captioners, trained here or by others, and searches for words.

    texts = caption(dataset, "Salesforce/blip-image-captioning-base@<commit>")    # of transformers
    encoder = train_captioner(dataset, decoder, out, kind="captioner", seen=...)  # taught here
    texts = interrogate(similarity, tokenizer, patches, bank)    # CLIP Interrogator
    texts = interrogate_by_clip(dataset, "openai/clip-vit-large-patch14@<commit>", bank)
    texts = hard_prompts(similarity, tokenizer, patches, N=16)   # PEZ
    texts = hard_prompts_by_loss(decoder, z_0, N=16)             # PH2P, by the decoder's own loss
    texts = retrieved(patches, memory, memory_patches)           # the nearest training drawing's name

At paper scale the similarity is a CLIP; here it is the smallest thing with CLIP's objective.
Letters: B batch, M images, P patches, F features, D width of the common space, N words, K phrases
in the bank, V vocabulary.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.functional import normalize, pad

from .captions import alt_text, alt_text_parts, caption_mixture
from .data import Dataset
from .encoder import FEATURES, Encoder, P, backbone_features
from .runtime import Progress, autocast, device, generator, pinned, quiet
from .texts import names
from .train import adamw, training_loop
from .vocab import allowed_tokens, to_strings

ASKED = "Describe this picture in one detailed sentence."  # of chat models, if nothing else is


def of_transformers(auto: str, model: str, revision: str | None, what: str):
    """(processor, frozen network) by one of transformers' Auto classes: a folder or a Hub id with
    its commit, safetensors only."""
    import transformers

    source, options = pinned(model, revision, what)
    quiet()
    auto_class = getattr(transformers, auto)
    net = auto_class.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **options)
    processor = transformers.AutoProcessor.from_pretrained(source, **options)
    return processor, net.eval().requires_grad_(False).to(device())


def pictures_of(dataset: Dataset, B: int):
    """The dataset's pictures as PIL images, B at a time."""
    from PIL import Image

    for i in range(0, len(dataset), B):
        yield [Image.fromarray(image) for image in dataset.images[i : i + B]]


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
    """One caption an image by a model of transformers that takes pictures
    (AutoModelForImageTextToText), greedily: a captioner (BLIP, BLIP-2, Florence-2), or a chat model
    through its own template (LLaVA, SmolVLM, Qwen-VL); a folder or a Hub id with its commit.

    prompt   what the model is asked with, where it needs that (Florence-2:
             "<MORE_DETAILED_CAPTION>"; chat models are asked ASKED); not part of the caption"""
    processor, net = of_transformers("AutoModelForImageTextToText", model, revision, "captioner")
    # a model without an encoder continues its prompt, which must therefore end where padding does
    processor.tokenizer.padding_side = "right" if net.config.is_encoder_decoder else "left"
    question = {"type": "text", "text": prompt or ASKED}
    chat = dict(add_generation_prompt=True, tokenize=True, return_dict=True)
    texts, progress = [], Progress("caption", len(dataset))
    for pictures in pictures_of(dataset, B):
        if processor.chat_template:
            contents = [[{"type": "image", "image": p}, question] for p in pictures]
            talk = [[{"role": "user", "content": content}] for content in contents]
            padding = dict(return_tensors="pt", processor_kwargs={"padding": True})
            inputs = processor.apply_chat_template(talk, **chat, **padding)
        else:
            asked = {"text": [prompt] * len(pictures), "padding": True} if prompt else {}
            inputs = processor(images=pictures, return_tensors="pt", **asked)
        inputs = inputs.to(device())
        with autocast():
            ids = net.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        given = inputs.get("input_ids", ids[:, :0])
        if ids[:, : given.shape[1]].equal(given):  # such models return their prompt first
            ids = ids[:, given.shape[1] :]
        texts += [without(prompt, t) for t in processor.batch_decode(ids, skip_special_tokens=True)]
        progress(len(texts))
    return texts


def without(prompt: str, text: str) -> str:
    """A decoded text less the prompt it may begin with; tokenizers lower-case and re-space, so only
    letters and digits are compared."""
    bare, k, n = [c for c in prompt.lower() if c.isalnum()], 0, 0
    while n < len(bare) and k < len(text) and (not text[k].isalnum() or text[k].lower() == bare[n]):
        n, k = n + text[k].isalnum(), k + 1
    whole = n == len(bare) > 0 and not text[k : k + 1].isalnum()
    return " ".join(text[k:].split()).lstrip(",.:;!?>) ") if whole else " ".join(text.split())


class Similarity(ModelMixin, ConfigMixin):
    """Pictures and bags of words in one space: cosine of the backbone's features, mapped patch by
    patch and averaged, with the sum of word vectors. Trained by CLIP's contrastive loss."""

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

    def text(self, bags: list[list[int]]) -> torch.Tensor:
        """Bags of token ids -> sums of their vectors (B, D), not of unit length; no words: zeros."""
        weight = self.words.weight
        flat = [(k, i) for k, bag in enumerate(bags) for i in bag]
        rows, ids = torch.tensor(flat, dtype=torch.long, device=weight.device).reshape(-1, 2).T
        return weight.new_zeros(len(bags), weight.shape[1]).index_add(0, rows, self.words(ids))

    def forward(self, patches: torch.Tensor, bags: list[list[int]]) -> torch.Tensor:
        """-> logits (B, B): each picture against each text of the batch."""
        scale, texts = self.log_scale.exp().clamp(max=100), normalize(self.text(bags), dim=-1)
        return scale * self.image(patches) @ texts.T


def phrase_bank(dataset: Dataset, least: int = 5) -> list[str]:
    """Every phrase that people or the alt text use for at least `least` of these (training)
    drawings, commonest first."""
    kinds, counts = ("name", "keywords", "colours", "regions", "shape"), Counter()
    for part in alt_text_parts(dataset):
        counts.update({" ".join(part["style"]), *(p for kind in kinds for p in part[kind])} - {""})
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
    """CLIP Interrogator: the phrase most like the picture, then again and again the one that lifts
    the chain's similarity most, until none does or `most` words are written.
    patches (M, P, F) -> M strings."""
    phrases = similarity.text([tokenizer(p, add_special_tokens=False).input_ids for p in bank])
    sizes, texts = torch.tensor([len(p.split()) for p in bank], device=device()), []  # (K,)
    for i in range(0, len(patches), B):
        v = similarity.image(patches[i : i + B].to(device()).float())  # (b, D)
        chain, found, length = (
            torch.zeros_like(v),
            v.new_full((len(v),), -1.0),
            sizes.new_zeros(len(v)),
        )
        used = torch.zeros(len(v), len(bank), dtype=torch.bool, device=v.device)  # (b, K)
        said = [[] for _ in v]
        while True:
            squares = chain.pow(2).sum(-1)[:, None] + 2 * chain @ phrases.T + phrases.pow(2).sum(-1)
            size = squares.clamp_min(1e-9).sqrt()  # (b, K): length of chain + phrase
            score = ((chain * v).sum(-1)[:, None] + v @ phrases.T) / size
            barred = used | (length[:, None] + sizes > most)
            best, pick = score.masked_fill(barred, -2.0).max(-1)  # (b,)
            rows = (best > found).nonzero().flatten()
            if not len(rows):
                break
            for k in rows.tolist():
                said[k].append(bank[pick[k]])
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
    """CLIP Interrogator with a CLIP of transformers (CLIP, SigLIP: any with get_text_features and
    get_image_features), a folder or a Hub id with its commit -> one string an image. Its text tower
    does not add up as `Similarity`'s does: the `shortlist` phrases most like the picture are tried,
    each chain, joined by commas, read anew; the best stays while it lifts the similarity and the
    text has at most `most` words."""
    processor, net = of_transformers("AutoModel", model, revision, "interrogator")
    if not (hasattr(net, "get_text_features") and hasattr(net, "logit_scale")):  # not contrastive
        raise ValueError(
            f"{model}: a {type(net).__name__} puts no texts and pictures in one space; "
            "use a CLIP or SigLIP"
        )
    # SigLIP was trained with its padding visible
    padding = "longest" if net.config.model_type == "clip" else "max_length"
    options = dict(max_length=net.config.text_config.max_position_embeddings, return_tensors="pt")

    def read(texts: list[str]) -> torch.Tensor:
        """-> unit vectors (M, D)."""
        batches = (texts[i : i + B] for i in range(0, len(texts), B))
        tokenised = (
            processor.tokenizer(batch, padding=padding, truncation=True, **options)
            for batch in batches
        )
        found = [net.get_text_features(**ids.to(device())).pooler_output for ids in tokenised]
        return normalize(torch.cat(found), dim=-1)

    def chained(v: torch.Tensor) -> str:
        """The greedy chain for one picture, v (D,)."""
        nearest = (phrases @ v).topk(min(shortlist, len(bank))).indices.tolist()
        left, chain, found = [bank[k] for k in nearest], [], -2.0
        while tried := [p for p in left if len(" ".join([*chain, p]).split()) <= most]:
            score, pick = (read([", ".join([*chain, p]) for p in tried]) @ v).max(0)
            if score <= found:
                break
            chain.append(tried[pick])
            left.remove(tried[pick])
            found = score
        return ", ".join(chain)

    phrases, texts = read(bank), []  # (K, D)
    progress = Progress("interrogate", len(dataset), unit="images")
    for pictures in pictures_of(dataset, B):
        pixels = processor.image_processor(pictures, return_tensors="pt").to(device())
        images = normalize(net.get_image_features(**pixels).pooler_output, dim=-1)  # (b, D)
        for v in images:
            texts.append(chained(v))
            progress(len(texts))
    return texts


class WordSearch:
    """PEZ (Wen et al. 2023): N free word vectors an image; each step projects them to the nearest
    words that may be written, takes the gradient of a loss there, and moves the free ones by it."""

    def __init__(self, table: torch.Tensor, tokenizer, N: int, steps: int, rate: float):
        self.table, self.N, self.steps = table.detach(), N, steps  # (V, D)
        allowed = allowed_tokens(tokenizer)
        self.allowed = pad(allowed, (0, len(table) - len(allowed))).to(table.device)  # (V,)
        self.unit, self.rate = normalize(self.table, dim=-1), rate * self.table.std().item()

    def nearest(self, free: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> ids (B, N)"""
        likeness = normalize(free.detach(), dim=-1) @ self.unit.T
        return likeness.masked_fill(~self.allowed, -2.0).argmax(-1)

    def __call__(self, loss, M: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Search for M images, loss: words (M, N, D) -> (M,). -> the ids of least loss that were
        met, and the last ones, both (M, N)."""
        choices = self.allowed.nonzero().flatten()
        drawn = torch.randint(len(choices), (M, self.N), generator=rng)
        best = choices[drawn.to(choices.device)]
        free = self.table[best].clone().requires_grad_(True)  # (M, N, D)
        optimizer = torch.optim.AdamW([free], lr=self.rate, weight_decay=0.0)
        least = self.table.new_full((M,), float("inf"))
        for _ in range(self.steps):
            near = self.nearest(free)
            words = self.table[near].requires_grad_(True)  # (M, N, D)
            losses = loss(words)
            (free.grad,) = torch.autograd.grad(losses.sum(), words)
            optimizer.step()
            better = losses.detach() < least
            least = torch.where(better, losses.detach(), least)
            best = torch.where(better[:, None], near, best)
        return best, self.nearest(free)


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
    """PEZ: the words most like the picture by `similarity`, the best of all steps.
    patches (M, P, F) -> M strings."""
    search = WordSearch(similarity.words.weight, tokenizer, N, steps, rate)
    texts, progress = [], Progress("hard prompts", len(patches))
    for i in range(0, len(patches), B):
        with torch.no_grad():
            v = similarity.image(patches[i : i + B].to(device()).float())  # (b, D)
        loss = lambda words: -(normalize(words.sum(1), dim=-1) * v).sum(-1)  # noqa: B023
        texts += to_strings(tokenizer, search(loss, len(v), generator(seed, f"pez/{i}"))[0])
        progress(len(texts))
    return texts


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
    """After PH2P (Mahajan et al. 2024): hard prompts of the decoder's own denoising loss,
    De-Diffusion's objective searched anew for every picture. It is PEZ with that loss; noise and
    its level (the noisier 1 - t_from of them, as in training) are drawn anew each step, and the
    last nearest words are kept. The paper differs: L-BFGS, words projected now and then, and many
    more steps. z_0 (M, C, h, h) -> M strings."""
    table = decoder.text_encoder.get_input_embeddings().weight
    search = WordSearch(table, decoder.tokenizer, N, steps, rate)
    texts, progress = [], Progress("hard prompts by loss", len(z_0))

    def loss(words, z, rng):
        t = torch.randint(int(t_from * decoder.T), decoder.T, (len(z),), generator=rng)
        eps = torch.randn(z.shape, generator=rng).to(z.device)
        with autocast():
            states = decoder.embedded_states(words)  # (b, L, D)
        return decoder.loss(z, states, t.to(z.device), eps)

    for i in range(0, len(z_0), B):
        z, rng = z_0[i : i + B].to(device()), generator(seed, f"ph2p/{i}")
        texts += to_strings(decoder.tokenizer, search(partial(loss, z=z, rng=rng), len(z), rng)[1])
        progress(len(texts))
    return texts


# What each position of a captioner is for: the words of one kind, then nothing. The places are
# fixed because all words are written at once.
CAPTIONS = {
    "captioner": {"name": 6},
    "captioner_detailed": {"name": 5, "style": 3, "colours": 4, "regions": 10, "shape": 7},
}


def caption_slots(part: dict[str, list[str]], kind: str) -> list[str]:
    """What a captioner learns to write of one drawing (of `alt_text_parts`): a word or "" for each
    position."""
    slots = []
    for key, places in CAPTIONS[kind].items():
        words = " ".join(part[key]).split()[:places]
        slots += words + [""] * (places - len(words))
    return slots


def retrieved(patches: torch.Tensor, memory: Dataset, memory_patches: torch.Tensor) -> list[str]:
    """The name of the training drawing that looks most alike: the encoder's features (M, P, F) of
    both, mean over the patches and centred, cosine."""
    centre, known = memory_patches.float().mean((0, 1)), names(memory)
    here, there = (normalize(p.float().mean(1) - centre) for p in (patches, memory_patches))
    return [known[i] for i in (here @ there.T).argmax(1).tolist()]


def fit(net, batch_loss, out, name, recipe, M, probe, weight_decay, title="", **options) -> None:
    """The loop with what both trainings below share; `probe` (or None) gives a held-out number."""
    optimizer = adamw(net.parameters(), recipe["peak"], weight_decay)
    options |= dict(warmup=min(50, recipe["seen"] // recipe["B"] // 10), title=title)
    for log in training_loop(net, optimizer, batch_loss, out, name, recipe, M, **options):
        if log.due():
            with torch.no_grad():
                log.line(**({} if probe is None else {"probe": round(probe(), 4)}))


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
) -> Encoder:
    """The encoder's backbone and pooler, taught by people: cross-entropy with given words instead
    of a decoder's loss.

    kind      `captioner` learns the drawing's name, `captioner_detailed` its alt text (the stand-in
              for a modern vision-language model)
    probe     held-out images whose cross-entropy is logged now and then
    All words are written at once, one a position (CAPTIONS); the end token says nothing there.
    Words are whole tokens, so the decoder's vocabulary must be of words.
    Resumes from `out/captioner.state.safetensors`."""
    recipe = dict(kind=kind, seen=seen, width=width, blocks=blocks, B=B, peak=peak, seed=seed)
    recipe["images"] = dataset.fingerprint()
    nothing, unknown = decoder.tokenizer.eos_token_id, decoder.tokenizer.unk_token_id
    known = decoder.tokenizer.get_vocab()
    slots = lambda dataset: [caption_slots(part, kind) for part in alt_text_parts(dataset)]
    words = {w for row in slots(dataset) for w in row if w}
    ids = lambda w: decoder.tokenizer(w, add_special_tokens=False).input_ids
    pieces = sum(ids(w) not in ([known.get(w)], [unknown]) for w in words)
    if pieces > 0.1 * len(words):
        raise ValueError(
            f"{kind}: {decoder.name} has no token of their own for {pieces} of {len(words)} words; "
            "captioners trained here need a decoder with a vocabulary of words"
        )
    encoder = Encoder.new(decoder, sum(CAPTIONS[kind].values()), D=width, blocks=blocks, seed=seed)
    encoder.pooler.allowed[nothing] = True

    def targets(dataset):  # (M, N)
        id_of = {"": nothing, **known}
        return torch.tensor([[id_of.get(w, nothing) for w in row] for row in slots(dataset)])

    def cross_entropy(patches, target):
        with autocast():
            logits = encoder.pooler(patches.to(device()).float())  # (B, N, V)
        return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten().to(device()))

    patches = backbone_features(dataset.pixels()) if patches is None else patches  # (M, P, F)
    target = targets(dataset)
    held_out = None if probe is None else (backbone_features(probe.pixels()), targets(probe))
    fit(
        *(encoder.pooler, lambda rows, *_: (cross_entropy(patches[rows], target[rows]), {})),
        *(out, "captioner", recipe, len(dataset)),
        probe=held_out and (lambda: cross_entropy(*held_out).item()),
        weight_decay=0.05,
        title=kind,
        checkpoint_every=checkpoint_every,
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
) -> Similarity:
    """CLIP's contrastive loss at the smallest size: in each batch every picture must find its own
    text, and every text its picture. Texts are drawn anew each time from the decoder's caption
    mixture. Drawings of one concept may share a text, and then neither can win.
    Resumes from `out/similarity.state.safetensors`."""
    recipe = dict(seen=seen, B=B, peak=peak, seed=seed, images=dataset.fingerprint())
    torch.manual_seed(seed)
    net, parts = Similarity(V=len(tokenizer)).to(device()), alt_text_parts(dataset)
    bags = lambda texts: [tokenizer(t, add_special_tokens=False).input_ids for t in texts]
    patches = backbone_features(dataset.pixels()) if patches is None else patches  # (M, P, F)
    own, cross_entropy = torch.arange(B, device=device()), nn.functional.cross_entropy

    def contrastive_loss(rows, step, _):
        rng = random.Random(f"{seed}/similarity/{step}")
        texts = [caption_mixture(parts[r], rng) or " ".join(parts[r]["name"]) for r in rows]
        logits = net(patches[rows].to(device()).float(), bags(texts))  # (B, B)
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2, {}

    if probe is not None:
        probe_patches = backbone_features(probe.pixels()).to(device()).float()
        probe_bags = bags(alt_text(p) for p in alt_text_parts(probe))

    def found():
        """The share of held-out pictures whose own alt text is nearest."""
        nearest = net(probe_patches, probe_bags).argmax(1).cpu()
        return float((nearest == torch.arange(len(nearest))).float().mean())

    run = (net, contrastive_loss, out, "similarity", recipe, len(dataset))
    found = None if probe is None else found
    fit(*run, probe=found, weight_decay=0.1, checkpoint_every=checkpoint_every)
    return net
