"""Which tokens may be written, ids <-> string, and what survives the round trip.

The paper writes CLIP BPE tokens without punctuation (Section 3; "around 6 %" removed). The rule is not given; keeping the tokens
that match [a-z0-9]+ removes 5.82 % of CLIP's 49,408 and is the reading that fits. Of those, tokens that do not end a word glue to
their neighbour when the text is read back, so `word_final` is offered too and is what survives a third party's tokenizer.
"""

from __future__ import annotations

import re
from collections import Counter

import torch

RULES = ("alphanumeric", "word_final", "all")


def build_word_tokenizer(texts, max_length: int):
    """A word-level tokenizer (a `PreTrainedTokenizerFast`) over the words of `texts`, most frequent first.

    Small worlds need no sub-words: each word is one token, so reading a written text back is the identity. Words that no training
    text holds become <|unk|>. <|endoftext|> ends and pads, as in Stable Diffusion 1."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    counts = Counter(w for t in texts for w in t.split())
    listed = [
        "<|startoftext|>",
        "<|endoftext|>",
        "<|unk|>",
        *sorted(counts, key=lambda w: (-counts[w], w)),
    ]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token="<|unk|>"))
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("['’]"), ""),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[^a-z0-9]+"), "removed")
    core.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|unk|>",
    )


def build_byte_tokenizer(texts, max_length: int, V: int):
    """A byte-level BPE tokenizer (GPT-2's and CLIP's kind) of at most V pieces, learnt from `texts`: any string can be read, nothing is
    unknown, and a word rare in `texts` is spelt out of pieces that other words share."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    marks = ["<|startoftext|>", "<|endoftext|>"]
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer, core.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        decoders.ByteLevel(),
    )
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=V,
            special_tokens=marks,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(m, i) for i, m in enumerate(marks)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        bos_token=marks[0],
        eos_token=marks[1],
        pad_token=marks[1],
    )


def allowed_tokens(tokenizer, rule: str = "alphanumeric") -> torch.Tensor:
    """bool (V,): which ids may be written. Special tokens never; otherwise by rule:

    alphanumeric   the token, without its mark of a word's end or start, matches [a-z0-9]+
    word_final     the same, and the token has that mark: it does not glue to its neighbour (identical for a word-level tokenizer)
    all            anything but special tokens
    """
    if rule not in RULES:
        raise ValueError(f"vocabulary rule {rule!r}; use one of {RULES}")
    vocab = tokenizer.get_vocab()
    V = max(vocab.values()) + 1
    ends, starts = (
        any(mark(t) for t in vocab)
        for mark in (lambda t: t.endswith("</w>"), lambda t: t.startswith("Ġ"))
    )  # CLIP's marks, GPT-2's
    allowed, special = torch.zeros(V, dtype=torch.bool), set(tokenizer.all_special_ids)
    for token, i in vocab.items():
        whole = token.endswith("</w>") if ends else token.startswith("Ġ") if starts else True
        plain = re.fullmatch(r"[a-z0-9]+", token.removesuffix("</w>").removeprefix("Ġ")) is not None
        allowed[i] = i not in special and (
            rule == "all" or (plain and (whole or rule == "alphanumeric"))
        )
    return allowed


def often_seen(tokenizer, texts: list[str], least: int, V: int) -> torch.Tensor:
    """bool (V,): the ids that occur in at least `least` of these texts."""
    counts = Counter(
        i for t in texts for i in set(tokenizer(t, add_special_tokens=False).input_ids)
    )
    return torch.tensor([counts[i] >= least for i in range(V)])


def to_strings(tokenizer, ids: torch.Tensor) -> list[str]:
    """ids (B, N) -> B strings. From here on the string is the interface: whoever reads it tokenises it again."""
    return [
        " ".join(tokenizer.decode(row, skip_special_tokens=True).split()) for row in ids.tolist()
    ]


def tokenise(tokenizer, texts: list[str]) -> torch.Tensor:
    """Strings -> ids (B, model_max_length), padded and truncated exactly as a diffusers pipeline does it."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def round_trip(tokenizer, ids: torch.Tensor) -> dict[str, float]:
    """What reading back does to written ids (B, N): share of texts that return exactly, share that come back too long."""
    limit = tokenizer.model_max_length - 2
    back = [tokenizer(s, add_special_tokens=False).input_ids for s in to_strings(tokenizer, ids)]
    return {
        "exact": sum(b == r for b, r in zip(back, ids.tolist())) / len(back),
        "truncated": sum(len(b) > limit for b in back) / len(back),
    }


def reading_rates(tokenizer, texts: list[str]) -> dict[str, float]:
    """How a tokenizer takes these strings: mean tokens, share of texts cut off, share of tokens unknown to it."""
    limit, read = (
        tokenizer.model_max_length - 2,
        [tokenizer(t, add_special_tokens=False).input_ids for t in texts],
    )
    total = max(1, sum(map(len, read)))
    unknown = (
        sum(i == tokenizer.unk_token_id for r in read for i in r)
        if "unk" in str(tokenizer.unk_token).lower()
        else 0
    )
    return {
        "tokens": sum(map(len, read)) / len(read),
        "truncated": sum(len(r) > limit for r in read) / len(read),
        "unknown": unknown / total,
    }
