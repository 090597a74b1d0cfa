"""Other writers of texts: captioners, trained here or by others, and searches for words.

    texts = caption(dataset, "Salesforce/blip-image-captioning-base@<commit>")    # of transformers
    encoder = train_captioner(dataset, decoder, out, kind="captioner", seen=...)  # taught here
    texts = interrogate(similarity, tokenizer, patches, bank)    # CLIP Interrogator
    texts = interrogate_by_clip(dataset, "openai/clip-vit-large-patch14@<commit>", bank)
    texts = hard_prompts(similarity, tokenizer, patches, N=16)   # PEZ
    texts = hard_prompts_by_loss(decoder, z_0, N=16)             # PH2P, by the decoder's own loss
    texts = retrieved(patches, memory, memory_patches)           # the nearest drawing's name

At paper scale the similarity is a CLIP; here it is the smallest thing with CLIP's objective.
Letters: B batch, M images, P patches, F features, D width of the common space, N words, K phrases
in the bank, V vocabulary.
"""

import random
import re
from collections import Counter
from functools import lru_cache, partial

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.functional import normalize, pad

from .captions import alt_text, alt_text_phrases, caption_mixture
from .data import BadData, Dataset
from .encoder import FEATURES, Encoder, P, backbone_features
from .optimizers import adamw
from .runtime import Progress, autocast, device, generator, say, seeing
from .texts import names
from .train import made_by, training_loop
from .vocab import allowed_tokens, to_strings

ASKED = "Describe this picture in one detailed sentence."  # of chat models, if nothing else is


# the last one is kept, so that a command can ask for it before it reads pictures
loaded = lru_cache(1)(partial(seeing, reader="processor"))


def pictures_of(dataset: Dataset, B: int):
    """The dataset's pictures as PIL images, B at a time."""
    from PIL import Image

    for i in range(0, len(dataset), B):
        yield [Image.fromarray(image) for image in dataset.images[i : i + B]]


def captioner(model: str, revision: str | None = None):
    return loaded(model, "captioner", revision, "AutoModelForImageTextToText")[:2]


def contrastive(model: str, revision: str | None = None):
    processor, net, _ = loaded(model, "interrogator", revision)
    if not (hasattr(net, "get_text_features") and hasattr(net, "logit_scale")):
        raise BadData(
            f"{model}: a {type(net).__name__} puts no texts and pictures in one space; "
            "use a CLIP or SigLIP"
        )
    return processor, net


@torch.no_grad()
def caption(dataset, model: str, revision=None, *, prompt="", tokens=60, B=8) -> list[str]:
    """One caption an image by a model of transformers that takes pictures
    (AutoModelForImageTextToText), greedily: a captioner (BLIP, BLIP-2, Florence-2), or a chat model
    through its own template (LLaVA, SmolVLM, Qwen-VL); a folder or a Hub id with its commit.

    prompt   what the model is asked with, where it needs that (Florence-2:
             "<MORE_DETAILED_CAPTION>"; chat models are asked ASKED); not part of the caption"""
    processor, net = captioner(model, revision)
    # a model without an encoder continues its prompt, which must therefore end where padding does
    processor.tokenizer.padding_side = "right" if net.config.is_encoder_decoder else "left"
    question = {"type": "text", "text": prompt or ASKED}
    chat = dict(add_generation_prompt=True, tokenize=True, return_dict=True)
    texts = []
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
        try:
            with autocast():
                ids = net.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        except IndexError:  # a place beyond the last
            held = f"its context does not hold the prompt and {tokens} tokens"
            raise BadData(f"captioner {model!r}: {held}; shorten --prompt or --tokens") from None
        given = inputs.get("input_ids", ids[:, :0])
        if ids[:, : given.shape[1]].equal(given):  # such models return their prompt first
            ids = ids[:, given.shape[1] :]
        texts += [without(prompt, t) for t in processor.batch_decode(ids, skip_special_tokens=True)]
    return texts


def without(prompt: str, text: str) -> str:
    """A decoded text less the prompt it may begin with; tokenizers lower-case and re-space, so only
    letters and digits are compared."""
    letters = [c for c in prompt if c.isalnum()]
    gap = r"[\W_]*"
    begins = letters and re.match(gap + gap.join(letters) + r"(?![^\W_])", text, re.IGNORECASE)
    rest = text[begins.end() :] if begins else text
    return " ".join(rest.split()).lstrip(",.:;!?>) " if begins else "")


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
        """Bags of token ids -> sums of their vectors (B, D), of any length; no words: zeros."""
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
    for part in alt_text_phrases(dataset):
        counts.update({" ".join(part["style"]), *(p for kind in kinds for p in part[kind])} - {""})
    return [p for p, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if n >= least]


@torch.no_grad()
def interrogate(similarity, tokenizer, patches, bank, most: int = 16, B=256) -> list[str]:
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
    dataset, model: str, bank, revision=None, *, shortlist=128, most=40, B=64
) -> list[str]:
    """CLIP Interrogator with a CLIP of transformers (CLIP, SigLIP: any with get_text_features and
    get_image_features), a folder or a Hub id with its commit -> one string an image. Its text tower
    does not add up as `Similarity`'s does: the `shortlist` phrases most like the picture are tried,
    each chain, joined by commas, read anew; the best stays while it lifts the similarity and the
    text has at most `most` words."""
    bank, phrases, read = read_bank(model, tuple(bank), revision, most, B)
    processor, net = contrastive(model, revision)

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

    texts = []
    for pictures in pictures_of(dataset, B):
        pixels = processor.image_processor(pictures, return_tensors="pt").to(device())
        images = normalize(net.get_image_features(**pixels).pooler_output, dim=-1)  # (b, D)
        texts += map(chained, images)
    return texts


@lru_cache(1)
@torch.no_grad()
def read_bank(model: str, bank: tuple[str, ...], revision: str | None, most: int, B: int):
    """-> the phrases of at most `most` words, as unit vectors (K, D), and what reads texts so."""
    short = [p for p in bank if len(p.split()) <= most]
    if not short:
        raise BadData(f"each of the {len(bank)} phrases has more than {most} words; allow more")
    if len(short) < len(bank):
        longer = f"{len(bank) - len(short)} of {len(bank)} phrases"
        say(f"note: {longer} have more than {most} words and are never written")
    processor, net = contrastive(model, revision)
    # SigLIP was trained with its padding visible
    padding = "longest" if net.config.model_type == "clip" else "max_length"
    limit = net.config.text_config.max_position_embeddings
    options = dict(padding=padding, truncation=True, max_length=limit, return_tensors="pt")

    def read(texts: list[str]) -> torch.Tensor:
        """-> unit vectors (M, D)."""
        found = []
        for i in range(0, len(texts), B):
            ids = processor.tokenizer(texts[i : i + B], **options).to(device())
            found.append(net.get_text_features(**ids).pooler_output)
        return normalize(torch.cat(found), dim=-1)

    if cut := sum(len(ids) > limit for ids in processor.tokenizer(short).input_ids):
        say(f"note: {cut} of {len(short)} phrases are longer than the {limit} tokens {model} reads")
    return short, read(short), read


def search_words(loss, table, tokenizer, M, *, name, N, steps, rate, seed, B, last) -> list[str]:
    """PEZ (Wen et al. 2023): N free word vectors an image; each step projects them to the nearest
    words of `table` (V, D) that may be written, takes the gradient of the loss there, and moves the
    free ones by it. -> M strings: the words of least loss that were met, or the `last` ones.

    loss   (words (b, N, D), rows, generator of this batch) -> (b,)"""
    table, allowed = table.detach(), allowed_tokens(tokenizer)
    allowed = pad(allowed, (0, len(table) - len(allowed))).to(table.device)  # (V,)
    unit, choices = normalize(table, dim=-1), allowed.nonzero().flatten()
    texts, progress = [], Progress(f"hard prompts ({name})", M)

    def nearest(free):  # (b, N, D) -> ids (b, N)
        likeness = normalize(free.detach(), dim=-1) @ unit.T
        return likeness.masked_fill(~allowed, -2.0).argmax(-1)

    for i in range(0, M, B):
        rows, rng = slice(i, min(i + B, M)), generator(seed, f"{name}/{i}")
        drawn = torch.randint(len(choices), (rows.stop - i, N), generator=rng)
        best = choices[drawn.to(table.device)]
        least = table.new_full((len(best),), float("inf"))
        free = table[best].clone().requires_grad_(True)  # (b, N, D)
        optimizer = torch.optim.AdamW([free], lr=rate * table.std().item(), weight_decay=0.0)
        for _ in range(steps):
            near = nearest(free)
            words = table[near].requires_grad_(True)  # (b, N, D)
            losses = loss(words, rows, rng)
            (free.grad,) = torch.autograd.grad(losses.sum(), words)
            optimizer.step()
            better = losses.detach() < least
            least = torch.where(better, losses.detach(), least)
            best = torch.where(better[:, None], near, best)
        texts += to_strings(tokenizer, nearest(free) if last else best)
        progress(len(texts))
    return texts


def hard_prompts(
    similarity, tokenizer, patches, N=16, steps=100, rate=0.1, seed=0, B=256
) -> list[str]:
    """PEZ: the words most like the picture by `similarity`, the best of all steps.
    patches (M, P, F) -> M strings."""
    with torch.no_grad():  # v: (M, D)
        v = torch.cat([similarity.image(p.to(device()).float()) for p in patches.split(B)])
    loss = lambda words, rows, _: -(normalize(words.sum(1), dim=-1) * v[rows]).sum(-1)
    options = dict(N=N, steps=steps, rate=rate, seed=seed, B=B)
    table = similarity.words.weight
    return search_words(loss, table, tokenizer, len(v), name="pez", last=False, **options)


def hard_prompts_by_loss(
    decoder, z_0, N=16, steps=40, rate=0.1, t_from=0.5, seed=0, B=64
) -> list[str]:
    """After PH2P (Mahajan et al. 2024): PEZ with the decoder's own denoising loss, De-Diffusion's
    objective searched anew for every picture. Noise and its level (the noisier 1 - t_from of them,
    as in training) are drawn anew each step; the last words are kept. The paper differs: L-BFGS,
    words projected now and then, and many more steps. z_0 (M, C, h, h) -> M strings."""

    def loss(words, rows, rng):
        z = z_0[rows].to(device())
        t = torch.randint(int(t_from * decoder.T), decoder.T, (len(z),), generator=rng)
        eps = torch.randn(z.shape, generator=rng).to(z.device)
        with autocast():
            states = decoder.embedded_states(words)  # (b, L, D)
        return decoder.loss(z, states, t.to(z.device), eps)

    table = decoder.text_encoder.get_input_embeddings().weight
    options = dict(N=N, steps=steps, rate=rate, seed=seed, B=B)
    return search_words(loss, table, decoder.tokenizer, len(z_0), name="ph2p", last=True, **options)


# What each position of a captioner is for: the words of one kind, then nothing. The places are
# fixed because all words are written at once.
CAPTIONS = {
    "captioner": {"name": 6},
    "captioner_detailed": {"name": 5, "style": 3, "colours": 4, "regions": 10, "shape": 7},
}
CAPTIONER = {"width": 256, "blocks": 5, "B": 128, "peak": 5.0e-4, "seed": 0}
SIMILARITY = {"B": 256, "peak": 2.0e-3, "seed": 0}


def caption_slots(part: dict[str, list[str]], kind: str) -> list[str]:
    """What a captioner learns to write of one drawing (of `alt_text_phrases`): a word or "" for
    each position."""
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
    dataset, decoder, out, *, kind, seen, patches, probe=None, checkpoint_every=100, **changed
) -> Encoder:
    """The encoder's backbone and pooler, taught by people: cross-entropy with given words instead
    of a decoder's loss.

    kind      `captioner` learns the drawing's name, `captioner_detailed` its alt text (the stand-in
              for a modern vision-language model)
    patches   features (M, P, F) of `dataset`
    probe     held-out images whose cross-entropy is logged now and then
    All words are written at once, one a position (CAPTIONS); the end token says nothing there.
    Words are whole tokens, so the decoder's vocabulary must be of words.
    Resumes from `out/captioner.state.safetensors`."""
    recipe = made_by(CAPTIONER, changed, kind=kind, seen=seen, images=dataset.fingerprint())
    nothing, unknown = decoder.tokenizer.eos_token_id, decoder.tokenizer.unk_token_id
    known = decoder.tokenizer.get_vocab()
    slots = lambda dataset: [caption_slots(part, kind) for part in alt_text_phrases(dataset)]
    words = {w for row in slots(dataset) for w in row if w}
    ids = lambda w: decoder.tokenizer(w, add_special_tokens=False).input_ids
    pieces = sum(ids(w) not in ([known.get(w)], [unknown]) for w in words)
    if pieces > 0.1 * len(words):
        raise ValueError(
            f"{kind}: {decoder.name} has no token of their own for {pieces} of {len(words)} words; "
            "captioners trained here need a decoder with a vocabulary of words"
        )
    made = dict(D=recipe["width"], blocks=recipe["blocks"], seed=recipe["seed"])
    encoder = Encoder.new(decoder, sum(CAPTIONS[kind].values()), **made)
    encoder.pooler.allowed[nothing] = True

    id_of = {"": nothing, **known}
    ids_of = lambda words: [id_of.get(w, nothing) for w in words]
    targets = lambda dataset: torch.tensor([ids_of(row) for row in slots(dataset)])  # (M, N)

    def cross_entropy(patches, target):
        with autocast():
            logits = encoder.pooler(patches.to(device()).float())  # (B, N, V)
        return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten().to(device()))

    target = targets(dataset)
    batch_loss = lambda rows, *_: (cross_entropy(patches[rows], target[rows]), {})
    if probe is not None:
        held_out = backbone_features(probe.pixels()), targets(probe)
    run = (encoder.pooler, batch_loss, out, "captioner", recipe, len(dataset))
    probed = None if probe is None else (lambda: cross_entropy(*held_out).item())
    options = dict(weight_decay=0.05, title=kind, checkpoint_every=checkpoint_every)
    fit(*run, probe=probed, **options)
    encoder.recipe |= recipe
    return encoder


def train_similarity(
    dataset, tokenizer, out, *, seen, patches, probe=None, checkpoint_every=100, **changed
) -> Similarity:
    """CLIP's contrastive loss at the smallest size: in each batch every picture must find its own
    text, and every text its picture. Texts are drawn anew each time from the decoder's caption
    mixture. Drawings of one concept may share a text, and then neither can win.
    Resumes from `out/similarity.state.safetensors`."""
    recipe = made_by(SIMILARITY, changed, seen=seen, images=dataset.fingerprint())
    seed, own = recipe["seed"], torch.arange(recipe["B"], device=device())
    torch.manual_seed(seed)
    net, parts = Similarity(V=len(tokenizer)).to(device()), alt_text_phrases(dataset)
    bags = lambda texts: [tokenizer(t, add_special_tokens=False).input_ids for t in texts]
    cross_entropy = nn.functional.cross_entropy

    def contrastive_loss(rows, step, _):
        rng = random.Random(f"{seed}/similarity/{step}")
        of = lambda part: caption_mixture(part, rng, "similarity") or " ".join(part["name"])
        texts = [of(parts[r]) for r in rows]
        logits = net(patches[rows].to(device()).float(), bags(texts))  # (B, B)
        return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2, {}

    def found():
        """The share of held-out pictures whose own alt text is nearest."""
        nearest = net(*held_out).argmax(1).cpu()
        return float((nearest == torch.arange(len(nearest))).float().mean())

    if probe is not None:
        texts = [alt_text(p) for p in alt_text_phrases(probe)]
        held_out = backbone_features(probe.pixels()).to(device()).float(), bags(texts)
    run = (net, contrastive_loss, out, "similarity", recipe, len(dataset))
    options = dict(weight_decay=0.1, checkpoint_every=checkpoint_every)
    fit(*run, probe=None if probe is None else found, **options)
    return net
