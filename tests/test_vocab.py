"""Which tokens may be written and what survives being read back."""

import re
from pathlib import Path

import pytest
import torch

from dd.vocab import (
    RULES,
    allowed_tokens,
    reading_rates,
    round_trip,
    surviving_rule,
    to_strings,
    tokenise,
    unread,
)


def sample(tokenizer, rule, B=100, N=12):
    allowed = allowed_tokens(tokenizer, rule).nonzero().flatten()
    return allowed[torch.randint(len(allowed), (B, N), generator=torch.Generator().manual_seed(0))]


def test_alphanumeric_rule_on_sub_words(bpe_tokenizer):
    allowed, words = (
        allowed_tokens(bpe_tokenizer, "alphanumeric"),
        bpe_tokenizer.convert_ids_to_tokens(range(len(bpe_tokenizer))),
    )
    kept, dropped = ([w for w, a in zip(words, allowed) if a == keep] for keep in (True, False))
    assert all(re.fullmatch(r"[a-z0-9]+", w.removesuffix("</w>")) for w in kept)
    assert {"<|startoftext|>", "<|endoftext|>"} <= set(dropped)
    assert any(re.search(r"[!,.()\-:']", w) for w in dropped)  # there was punctuation to forbid
    assert not any(re.search(r"[^a-z0-9]", w.removesuffix("</w>")) for w in kept)


def test_word_final_is_a_subset_that_round_trips(bpe_tokenizer):
    loose, final = (allowed_tokens(bpe_tokenizer, r) for r in ("alphanumeric", "word_final"))
    assert (loose | ~final).all() and final.sum() < loose.sum()
    # a token that was never a word of its own may merge differently: these are read as one
    assert round_trip(bpe_tokenizer, sample(bpe_tokenizer, "word_final"))["exact"] == 1.0
    assert (
        round_trip(bpe_tokenizer, sample(bpe_tokenizer, "alphanumeric"))["exact"] < 0.5
    )  # sub-words glue: the measure can fail


def test_the_rule_where_none_is_asked_for_survives(bpe_tokenizer, tiny_decoder):
    for tokenizer, rule in ((bpe_tokenizer, "word_final"), (tiny_decoder.tokenizer, RULES[0])):
        assert surviving_rule(tokenizer) == rule
        assert round_trip(tokenizer, sample(tokenizer, rule))["exact"] == 1.0


def test_all_forbids_only_special_tokens(bpe_tokenizer):
    assert (~allowed_tokens(bpe_tokenizer, "all")).sum() == len(set(bpe_tokenizer.all_special_ids))
    with pytest.raises(ValueError, match="vocabulary rule"):
        allowed_tokens(bpe_tokenizer, "nouns")


def test_word_level_round_trip_is_exact(tiny_decoder):
    rates = round_trip(tiny_decoder.tokenizer, sample(tiny_decoder.tokenizer, "alphanumeric", N=30))
    assert rates == {"exact": 1.0, "truncated": 0.0}


def test_shipped_round_trip_is_exact():
    from dd.decoder import Decoder

    tokenizer = Decoder.load("sketch").tokenizer
    allowed = allowed_tokens(tokenizer)
    assert int((~allowed).sum()) == 3  # start, end, unknown
    every = allowed.nonzero().flatten()
    pad = (-len(every)) % 10
    ids = torch.cat([every, every[:pad]]).view(-1, 10)  # every word there is, ten to a text
    assert round_trip(tokenizer, ids)["exact"] == 1.0


def test_reading(tiny_decoder):
    tokenizer = tiny_decoder.tokenizer
    ids = tokenise(tokenizer, ["Red APPLE!", ""])
    assert (
        ids.shape == (2, 32)
        and ids[1, 0] == tokenizer.bos_token_id
        and (ids[1, 1:] == tokenizer.eos_token_id).all()
    )
    assert to_strings(tokenizer, ids[:1, :])[0] in ("red apple", "red <|unk|>", "red")
    rates = reading_rates(tokenizer, ["zzzyx " * 40])
    assert rates["unknown"] == 1.0 and rates["truncated"] == 1.0


def test_rates_are_shares_of_the_texts(tiny_decoder):
    tokenizer = tiny_decoder.tokenizer
    rates = reading_rates(tokenizer, ["red " * 31, "red " * 30, "red", "zzzyx red"])
    assert rates == {"tokens": 64 / 4, "truncated": 1 / 4, "unknown": 1 / 64}
    red, ids = tokenizer.convert_tokens_to_ids("red"), torch.full((2, 31), 0)
    ids[0], ids[1, 1:] = red, red  # the other begins with a token that is never written
    assert round_trip(tokenizer, ids) == {"exact": 1 / 2, "truncated": 1 / 2}


def test_the_nearest_known_word_is_named_where_one_is_near(tiny_decoder):
    said = unread(tiny_decoder.tokenizer, ["redd", "qqqqq"], "tiny")[1][0]
    assert re.search(r"alike: redd \(nearest known: red.*\), qqqqq$", said)


def test_byte_level_pieces_spell_any_word(mixture_texts):
    from dd.vocab import build_byte_tokenizer

    tokenizer = build_byte_tokenizer(mixture_texts, max_length=32, V=400)
    assert len(tokenizer) <= 400
    strange = ["red zyxwv", "größe 3", "a\tb"]
    assert to_strings(tokenizer, tokenise(tokenizer, strange)) == [
        "red zyxwv",
        "größe 3",
        "a b",
    ]  # nothing is unknown, spelling survives
    rates = reading_rates(tokenizer, strange)
    assert rates["unknown"] == 0 and rates["tokens"] > 3  # rare words cost more pieces
    pieces = lambda word: len(tokenizer(word, add_special_tokens=False).input_ids)
    common = mixture_texts[0].split()[0]
    assert pieces(common) < pieces("zyxwv")
    ids = tokenise(tokenizer, ["Red", "red"])
    assert (
        torch.equal(ids[0], ids[1]) and ids.shape == (2, 32) and ids[0, 0] == tokenizer.bos_token_id
    )


@pytest.fixture(scope="module")
def real_clip():
    """CLIP's own tokenizer, of Stable Diffusion 1 and 2: 256 bytes, each also as a word's end, then
    its merges. open_clip's package has the file; nothing of it is imported."""
    import gzip
    from importlib.util import find_spec

    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if (package := find_spec("open_clip")) is None:
        pytest.skip("pip install --no-deps open-clip-torch==3.3.0")
    file = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    signs = list(bytes_to_unicode().values())
    tokens = [*signs, *(sign + "</w>" for sign in signs), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def test_the_real_clip_vocabulary(real_clip):
    """The paper's count, and how many random texts of 75 tokens survive being read again."""
    assert real_clip("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    allowed = {rule: allowed_tokens(real_clip, rule) for rule in RULES}
    counts = {rule: int(of.sum()) for rule, of in allowed.items()}
    assert counts == {"alphanumeric": 46530, "word_final": 32885, "all": 49406}
    for rule, least, most in (("alphanumeric", 0, 0.1), ("word_final", 1, 1), ("all", 0, 0.05)):
        words = allowed[rule].nonzero().flatten()
        rng = torch.Generator().manual_seed(0)
        ids = words[torch.randint(len(words), (200, 75), generator=rng)]
        assert least <= round_trip(real_clip, ids)["exact"] <= most
    assert surviving_rule(real_clip) == "word_final"
