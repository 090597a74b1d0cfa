"""Sources of text that need no network: functions that give one string per image.

    texts = WRITERS["names_keywords"](dataset, seed=0)

De-Diffusion's own texts come from `Encoder.write`, anybody's own captions from `read_texts`.
Readability is measured here, too: texts that only one decoder understands would be a failure of
the method.
"""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from .captions import STYLE_WORDS, alt_text, alt_text_phrases, words
from .data import Dataset
from .files import whole
from .reading import Bad, BadData, near_misses, shown, texts_by_id

LONGEST = 30  # words; what a 32-token context holds with its start and end


def names(dataset: Dataset, seed: int = 0) -> list[str]:
    """What people call it."""
    return [" ".join(words(n)) for n in dataset.frame["name"]]


def names_keywords(dataset: Dataset, seed: int = 0) -> list[str]:
    """The name and everything else people said, longest human text."""
    rows = zip(dataset.frame["name"], dataset.frame["keywords"])
    return [" ".join(w for t in (n, *k) for w in words(t)) for n, k in rows]


def names_turn(dataset: Dataset, seed: int = 0) -> list[str]:
    """One caption an image, its own in turn: number k, counted round, of the k-th image."""
    return [" ".join(words(c[k % len(c)])) for k, c in enumerate(dataset.frame["captions"])]


def names_style(dataset: Dataset, seed: int = 0) -> list[str]:
    """The name and the words of the drawing's style: what those alone bring."""
    styles = dataset.frame.get("style", [""] * len(dataset))
    return [f"{n} {STYLE_WORDS.get(s, '')}".strip() for n, s in zip(names(dataset), styles)]


def names_all(dataset: Dataset, seed: int = 0) -> list[str]:
    """All that people wrote: name, keywords, and the group they filed it under."""
    rows = zip(names_keywords(dataset), dataset.frame["group"])
    return [" ".join([text, *words(group)]) for text, group in rows]


def full_alt_text(dataset: Dataset, seed: int = 0) -> list[str]:
    """Alt text: name, style, colours and shape measured from the pixels, keywords."""
    return [alt_text(p, LONGEST) for p in alt_text_phrases(dataset)]


def empty(dataset: Dataset, seed: int = 0) -> list[str]:
    return [""] * len(dataset)


def random_words(dataset: Dataset, seed: int = 0, length: int = 16) -> list[str]:
    """`length` words (as many as De-Diffusion writes) drawn from those of all alt texts, or of all
    captions where drawings have no styles."""
    said = full_alt_text if "style" in dataset.frame else names_keywords
    bag = [w for t in said(dataset) for w in t.split()]
    rng = random.Random(f"{seed}/random_words")
    return [" ".join(rng.choices(bag, k=length)) for _ in range(len(dataset))]


WRITERS = {  # keys of sources.SOURCES
    "names": names,
    "names_keywords": names_keywords,
    "names_turn": names_turn,
    "names_style": names_style,
    "names_all": names_all,
    "alt_text": full_alt_text,
    "empty": empty,
    "random": random_words,
}


def shuffled(texts: list[str], seed: int = 0) -> list[str]:
    """The same texts, each given to another image: none keeps its own position."""
    order = list(range(len(texts)))
    random.Random(f"{seed}/shuffled").shuffle(order)
    turned = dict(zip(order, order[1:] + order[:1]))  # one big cycle: no fixed point
    return [texts[turned[i]] for i in range(len(texts))]


def pairs_across(order: list[int], groups: list[str], n: int) -> tuple[list[int], list[int]]:
    """-> (first, second): n pairs of rows, taken in `order`, of different groups; no row of `first`
    is in `second`."""
    first, rest = order[:n], order[n:]
    other = lambda k, i: next(j for j in rest[k:] + rest if groups[j] != groups[i])
    return first, [other(k, i) for k, i in enumerate(first)]


def blended(a: str, b: str) -> str:
    """Two texts in the length of one: words of `a` at even places, those of `b` at odd ones."""
    x, y = a.split(), b.split()
    return " ".join(w for k in range(max(len(x), len(y))) for w in (x, y)[k % 2][k : k + 1])


def swapped(text: str, old: set[str], new: str) -> str:
    """The text with each word of `old` replaced by `new`."""
    return " ".join(new if w in old else w for w in text.split())


def exchanged(text: str, old: set[str], new: str, known: list[str], rng: random.Random) -> str:
    """The control of `swapped`: as many of the other words, replaced by random ones of `known`."""
    tokens = text.split()
    others = [k for k, w in enumerate(tokens) if w not in old]
    for k in rng.sample(others, min(len(others), len(tokens) - len(others))):
        tokens[k] = rng.choice([w for w in known if w not in old | {new, tokens[k]}])
    return " ".join(tokens)


def word_shares(texts: list[str]) -> dict[str, float]:
    """In which share of the texts each word is, the commonest first."""
    counts = Counter(w for t in texts for w in set(t.split()))
    return {w: n / len(texts) for w, n in sorted(counts.items(), key=lambda p: (-p[1], p[0]))}


def unigram_bits(texts: list[str], known: list[str]) -> float:
    """Mean bits per text under a unigram model: word frequencies of the texts `known` plus one,
    every text ended by an end mark. One model for all sources makes their rates comparable; a word
    that `known` lacks costs as much as one that occurs less than once."""
    counts = Counter(w for t in known for w in [*words(t), ""])
    total = sum(counts.values()) + len(counts) + 1
    bits = lambda text: sum(np.log2(total / (counts[w] + 1)) for w in [*words(text), ""])
    return float(np.mean([bits(t) for t in texts]))


def write_texts(path: Path, dataset: Dataset, texts: list[str]) -> None:
    """One Parquet per source: id, text."""
    table = pd.DataFrame({"id": dataset.frame["id"], "text": texts})
    with whole(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_texts(
    path: str | Path, dataset: Dataset, on_bad: str = "stop"
) -> tuple[Dataset, list[str]]:
    """Anybody's captions -> the images they cover, and their texts in that order.

    path     .parquet, .csv or .jsonl with columns id and text; of several texts of an image the
             first is used, and the notes of the data set say so
    on_bad   at an id that the dataset does not have, or an empty text: "stop" with one line that
             says which, or "skip" it"""
    bad, at = Bad(on_bad), {id: i for i, id in enumerate(dataset.frame["id"])}
    told, found = texts_by_id(path, bad), {}
    meant = near_misses(told, at)
    for id, (where, text) in told.items():
        with bad.at(where):
            if id in meant:
                theirs = f"the image's is {shown(meant[id])}; ids that differ so: {len(meant)}"
                raise BadData(f"unknown id {shown(id)}: {theirs}")
            if id not in at:
                split = f"this split's look like {shown(next(iter(at)))}"
                raise BadData(f"unknown id {shown(id)} ({split}); correct it")
            found[id] = text
    if not found:
        raise BadData(f"{path}: no usable caption for this split; {bad.first}")
    covered = dataset.rows([at[id] for id in found])
    covered.skipped = [*dataset.skipped, *bad.skipped]
    covered.notes = [*dataset.notes, *bad.notes]
    return covered, list(found.values())


def own_words(dataset: Dataset) -> list[set[str]]:
    """Every word that people or the alt text use for each drawing; in another world people's."""
    if "style" not in dataset.frame:
        return [set(words(" ".join(captions))) for captions in dataset.frame["captions"]]
    return [set(" ".join(sum(p.values(), [])).split()) for p in alt_text_phrases(dataset)]


def readability(dataset: Dataset, texts: list[str]) -> dict[str, float]:
    """How much of a text is words that people (and the alt text) use for that drawing, and how much
    of theirs it covers.

    precision   share of a text's distinct words that are in its drawing's name, keywords or alt
                text; precision_people: in its name or keywords
    coverage    share of its name's words that it says; coverage_people: of its name's and keywords'
    distinct    mean distinct words per text; vocabulary: distinct words over the set; words: length
    """
    people = [set(t.split()) for t in names_keywords(dataset)]
    named = [set(t.split()) for t in names(dataset)]
    lengths, texts = [len(words(t)) for t in texts], [set(words(t)) for t in texts]

    def share(of: list[set[str]], among: list[set[str]]) -> float:
        shares = [len(x & y) / len(x) for x, y in zip(of, among) if x]
        return float(np.mean(shares)) if shares else 0.0

    return {
        "words": float(np.mean(lengths)),
        "precision": share(texts, own_words(dataset)),
        "precision_people": share(texts, people),
        "coverage": share(named, texts),
        "coverage_people": share(people, texts),
        "distinct": float(np.mean([len(t) for t in texts])),
        "vocabulary": len(set().union(*texts)),
    }
