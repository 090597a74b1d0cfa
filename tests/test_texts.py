"""Functions that write texts, files of texts, and how readable texts are."""

import random

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from dd.captions import STYLE_WORDS
from dd.data import BadData, Dataset
from dd.sources import SOURCES
from dd.texts import (
    WRITERS,
    blended,
    exchanged,
    pairs_across,
    read_texts,
    readability,
    shuffled,
    swapped,
    unigram_bits,
    word_shares,
    write_texts,
)


def test_every_source_gives_one_string_per_image(small_dataset):
    for name, source in WRITERS.items():
        texts = source(small_dataset, 0)
        assert len(texts) == len(small_dataset) and texts == source(small_dataset, 0), name
        assert all(isinstance(t, str) for t in texts)
    assert not any(WRITERS["empty"](small_dataset)) and all(WRITERS["names"](small_dataset))
    assert set(WRITERS) <= set(SOURCES)


def test_the_style_s_words_stand_behind_the_name(small_dataset):
    named, styled = (WRITERS[s](small_dataset) for s in ("names", "names_style"))
    for name, text, style in zip(named, styled, small_dataset.frame["style"]):
        assert text == f"{name} {STYLE_WORDS[style]}"
    bare = Dataset("mine", small_dataset.frame.drop(columns="style"), small_dataset.images)
    assert WRITERS["names_style"](bare) == named


def test_bits_are_those_of_the_unigram_code():
    # counts: a 3, b 1, end 2; plus one each and one for the unknown: 10 in all
    known = ["a a a", "b"]
    cost = lambda n: np.log2(10 / n)
    assert unigram_bits(["a"], known) == pytest.approx(cost(4) + cost(3))
    both = cost(2) + cost(1) + cost(3) + cost(3)
    assert unigram_bits(["b c", ""], known) == pytest.approx(both / 2)
    assert unigram_bits(["b"], known) > unigram_bits(["a"], known)


def test_readability_tells_names_from_noise(small_dataset):
    texts = WRITERS["names"](small_dataset), ["zzz qqq"] * len(small_dataset)
    own, noise = (readability(small_dataset, t) for t in texts)
    assert own["precision"] == own["coverage"] == 1.0
    assert noise["precision"] == noise["coverage"] == 0.0
    assert noise["words"] == noise["vocabulary"] == 2


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_read_texts(small_dataset, tmp_path, suffix):
    ids, path = list(small_dataset.frame["id"]), tmp_path / f"mine.{suffix}"
    table = pd.DataFrame({"id": [ids[5], ids[2]], "text": ["five", "two"]})
    {
        "csv": lambda: table.to_csv(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
        "parquet": lambda: table.to_parquet(path),
    }[suffix]()
    covered, texts = read_texts(path, small_dataset)
    assert list(covered.frame["id"]) == [ids[5], ids[2]] and texts == ["five", "two"]
    assert np.array_equal(covered.images[1], small_dataset.images[2])


@pytest.mark.parametrize(
    "row, message",
    [
        (("nobody", "x"), "unknown id 'nobody'"),
        ((1, "  "), "empty caption"),
    ],
)
def test_read_texts_names_bad_rows(small_dataset, tmp_path, row, message):
    ids, path = list(small_dataset.frame["id"]), tmp_path / "mine.csv"
    bad = (ids[row[0]] if isinstance(row[0], int) else row[0], row[1])
    pd.DataFrame([(ids[0], "good"), bad], columns=["id", "text"]).to_csv(path, index=False)
    with pytest.raises(BadData, match=f"mine.csv, row 3: {message}"):
        read_texts(path, small_dataset)
    assert read_texts(path, small_dataset, on_bad="skip")[1] == ["good"]


def test_read_texts_refuses_other_files(small_dataset, tmp_path):
    with pytest.raises(BadData, match="no such file"):
        read_texts(tmp_path / "none.csv", small_dataset)
    (tmp_path / "t.txt").write_text("x")
    with pytest.raises(BadData, match="cannot read .txt"):
        read_texts(tmp_path / "t.txt", small_dataset)
    (tmp_path / "t.csv").write_text("id,words\n1,x\n")
    with pytest.raises(BadData, match="no text column"):
        read_texts(tmp_path / "t.csv", small_dataset)


def test_written_texts_are_read_back(small_dataset, tmp_path):
    texts = WRITERS["names"](small_dataset)
    write_texts(tmp_path / "t" / "names.parquet", small_dataset, texts)
    assert read_texts(tmp_path / "t" / "names.parquet", small_dataset)[1] == texts
    assert parquet.read_schema(tmp_path / "t" / "names.parquet").names == ["id", "text"]


def test_word_shares_count_texts_and_not_words():
    shares = word_shares(["red red car", "red apple", "blue car", ""])
    assert shares == {"car": 0.5, "red": 0.5, "apple": 0.25, "blue": 0.25}
    assert list(shares) == ["car", "red", "apple", "blue"]


def test_shuffle_has_no_fixed_point_and_keeps_the_texts():
    for M in (2, 3, 10, 257):
        texts = [f"text {i}" for i in range(M)]
        turned = shuffled(texts, seed=M)
        assert sorted(turned) == sorted(texts) and all(a != b for a, b in zip(turned, texts))


def test_pairs_are_of_different_groups_and_disjoint():
    groups = list("aaaaaabbbb")
    order = random.Random(0).sample(range(10), 10)
    first, second = pairs_across(order, groups, 5)
    assert len(first) == len(second) == 5 and not set(first) & set(second)
    assert all(groups[i] != groups[j] for i, j in zip(first, second))


def test_edits_and_their_control():
    assert blended("a b c d", "x y") == "a y c" and blended("a", "x y z") == "a y"
    assert swapped("red cat red", {"red", "green"}, "blue") == "blue cat blue"
    known = ["red", "green", "blue", "cat", "dog", "tree", "sun"]
    control = exchanged("red cat sun green tree", {"red", "green"}, "blue", known, random.Random(0))
    moved = [(a, b) for a, b in zip("red cat sun green tree".split(), control.split()) if a != b]
    assert len(moved) == 2  # as many as there are words of `old`
    assert not {"red", "green", "blue"} & {w for pair in moved for w in pair}
