"""Every source of text, one function each: a world -> one string per image. From here on only strings travel.

    texts = SOURCES["names_keywords"](world, seed=0)

De-Diffusion's own texts come from `Encoder.write`; a reader's own captions from `read_texts`. Readability is measured here, too: a
private cipher that only one decoder understands would be a failure of the method.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from .captions import alt_text, alt_text_parts, words
from .data import BadData, Dataset

LONGEST = 30  # words; what a 32-token context holds with its start and end
LENGTHS = (4, 8, 16, 24)  # words per De-Diffusion text compared, as the paper's Table 4 does


def names(dataset: Dataset, seed: int = 0) -> list[str]:
    """What people call it."""
    return [" ".join(words(n)) for n in dataset.frame["name"]]


def names_keywords(dataset: Dataset, seed: int = 0) -> list[str]:
    """The name and everything else people said, longest human text."""
    return [
        " ".join(w for t in (n, *k) for w in words(t))
        for n, k in zip(dataset.frame["name"], dataset.frame["keywords"])
    ]


def names_all(dataset: Dataset, seed: int = 0) -> list[str]:
    """All that people wrote: name, keywords, and the group they filed it under."""
    return [
        " ".join([said, *words(group)])
        for said, group in zip(names_keywords(dataset), dataset.frame["group"])
    ]


def oracle(dataset: Dataset, seed: int = 0) -> list[str]:
    """The decoder's own alt text: name, style, colours and shape measured from the pixels, keywords."""
    return [alt_text(p, LONGEST) for p in alt_text_parts(dataset)]


def empty(dataset: Dataset, seed: int = 0) -> list[str]:
    return [""] * len(dataset)


def random_words(dataset: Dataset, seed: int = 0, length: int = 16) -> list[str]:
    """Words drawn from the words of all alt texts of this world, with their frequencies: `length` of them, De-Diffusion's, about nothing."""
    bag = [w for t in oracle(dataset) for w in t.split()]
    rng = random.Random(f"{seed}/random_words")
    return [" ".join(rng.choices(bag, k=length)) for _ in range(len(dataset))]


def shuffled(texts: list[str], seed: int = 0) -> list[str]:
    """The same texts, each given to another image: nobody keeps their own position."""
    order = list(range(len(texts)))
    random.Random(f"{seed}/shuffled").shuffle(order)
    turned = dict(zip(order, order[1:] + order[:1]))  # one big cycle: no fixed point
    return [texts[turned[i]] for i in range(len(texts))]


SOURCES = {
    "names": names,
    "names_keywords": names_keywords,
    "names_all": names_all,
    "alt_text": oracle,
    "empty": empty,
    "random": random_words,
}


def blended(a: str, b: str) -> str:
    """Two texts in the length of one: the words of `a` at even places, those of `b` at odd ones."""
    x, y = a.split(), b.split()
    return " ".join(w for k in range(max(len(x), len(y))) for w in (x, y)[k % 2][k : k + 1])


def swapped(text: str, old: set[str], new: str) -> str:
    """The text with each word of `old` replaced by `new`."""
    return " ".join(new if w in old else w for w in text.split())


def unigram_bits(texts: list[str], known: list[str]) -> float:
    """Mean bits per text under a unigram model: word frequencies of the texts `known` plus one, every text ended by an end mark. One model
    for all sources makes their rates comparable; a word that `known` lacks costs as much as one seen less than once."""
    counts = Counter(w for t in known for w in [*words(t), ""])
    total = sum(counts.values()) + len(counts) + 1
    return float(
        np.mean([sum(np.log2(total / (counts[w] + 1)) for w in [*words(t), ""]) for t in texts])
    )


def write_texts(path: Path, dataset: Dataset, texts: list[str]) -> None:
    """One Parquet per source: id, text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": dataset.frame["id"], "text": texts}).to_parquet(
        path.with_suffix(".tmp"), index=False
    )
    os.replace(path.with_suffix(".tmp"), path)  # a kill leaves the old file or the new one


def read_texts(
    path: str | Path, dataset: Dataset, on_bad: str = "stop"
) -> tuple[Dataset, list[str]]:
    """Anybody's captions: .parquet, .csv or .jsonl with columns id and text -> the images they cover, and their texts in that order.

    An id the world does not have, a duplicate or an empty text: one line saying which; stop, or leave it out."""
    path = Path(path)
    readers = {
        ".parquet": pd.read_parquet,
        ".csv": lambda p: pd.read_csv(p, dtype=str, keep_default_na=False),
        ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=str),
    }
    if not path.exists():
        raise BadData(f"{path}: no such file of captions")
    if path.suffix not in readers:
        raise BadData(
            f"{path}: cannot read {path.suffix!r}; use .csv, .jsonl or .parquet with columns id and text"
        )
    table = readers[path.suffix](path)
    if missing := {"id", "text"} - set(table.columns):
        raise BadData(f"{path}: no column {sorted(missing)}; it has {list(table.columns)}")
    at, seen, rows, texts, skipped = (
        {id: i for i, id in enumerate(dataset.frame["id"])},
        set(),
        [],
        [],
        list(dataset.skipped),
    )
    for k, (id, text) in enumerate(
        zip(table["id"].astype(str), table["text"]), 2 if path.suffix == ".csv" else 1
    ):
        problem = (
            f"unknown id {id!r} (this split's look like {dataset.frame['id'].iloc[0]!r})"
            if id not in at
            else f"duplicate id {id!r}"
            if id in seen
            else f"empty text for {id!r}"
            if not isinstance(text, str) or not text.strip()
            else None
        )
        if problem:
            if on_bad == "stop":
                raise BadData(f"{path.name}, row {k}: {problem}; correct it or use --on-bad skip")
            skipped.append(f"{path.name}, row {k}: {problem}")
            continue
        seen.add(id)
        rows.append(at[id])
        texts.append(text)
    if not rows:
        raise BadData(f"{path}: no usable caption for this split")
    return Dataset(
        dataset.name, dataset.frame.iloc[rows].reset_index(drop=True), dataset.images[rows], skipped
    ), texts


def own_words(dataset: Dataset) -> list[set[str]]:
    """Every word that people or the alt text use for each drawing."""
    return [set(" ".join(sum(p.values(), [])).split()) for p in alt_text_parts(dataset)]


def readability(dataset: Dataset, texts: list[str]) -> dict[str, float]:
    """How much of a text is words people (and the alt text) use for that drawing, and how much of theirs it covers.

    precision   share of a text's distinct words that are in its drawing's name, keywords or alt text
    coverage    share of its name's words that it says; coverage_people: of its name's and keywords'
    distinct    mean distinct words per text; vocabulary: distinct words over the set; words: mean length
    """
    parts, known = alt_text_parts(dataset), own_words(dataset)
    people = [set(" ".join([*p["name"], *p["keywords"]]).split()) for p in parts]
    named = [set(words(n)) for n in dataset.frame["name"]]
    said = [words(t) for t in texts]
    share = (
        lambda a, b: float(np.mean([len(set(x) & y) / len(set(x)) for x, y in zip(a, b) if x]))
        if any(a)
        else 0.0
    )
    return {
        "words": float(np.mean([len(s) for s in said])),
        "precision": share(said, known),
        "precision_people": share(said, people),
        "coverage": share([list(n) for n in named], [set(s) for s in said]),
        "coverage_people": share([list(p) for p in people], [set(s) for s in said]),
        "distinct": float(np.mean([len(set(s)) for s in said])),
        "vocabulary": len(Counter(w for s in said for w in s)),
    }
