"""The shipped world keeps its promises; anybody's files are read, and bad records named."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dd.captions import CAPTION_MIXTURES, alt_text, alt_text_parts, caption_mixture, pixel_words
from dd.data import EMOJI, BadData, load_dataset, to_pixels, to_uint8
from dd.texts import SOURCES, read_texts, readability, write_texts

SAME = 0.05  # a bit below NEAR of tools/build_emoji.py: drawings this close are one picture


# -- leakage ----------------------------------------------------------------------------------------------------------------------


def test_counts_and_size(whole_dataset):
    counts = whole_dataset.frame["split"].value_counts()
    assert (
        counts["test"] >= 2000
        and counts["novel"] >= 500
        and counts["val"] >= 500
        and counts["train"] > 9000
    )
    assert EMOJI.stat().st_size <= 25e6
    assert whole_dataset.frame["id"].is_unique and whole_dataset.frame["style"].nunique() == 9
    assert whole_dataset.images.shape[1:] == (64, 64, 3) and whole_dataset.images.dtype == np.uint8


def test_near_duplicates_never_straddle_splits(whole_dataset):
    assert (whole_dataset.frame.groupby("near")["split"].nunique() == 1).all()


def test_novel_concepts_are_in_no_other_split(whole_dataset):
    by = whole_dataset.frame.groupby("split")["concept"].agg(set)
    assert not by["novel"] & (by["train"] | by["val"] | by["test"])
    assert by["test"] <= by["train"] and by["val"] <= by["train"]


def test_no_test_drawing_is_a_train_drawing(whole_dataset):
    """Measured again from the pixels, without the `near` column."""

    def thumbs(split, n=None):
        images = whole_dataset.subset(split, n).images
        return (
            images.reshape(len(images), 16, 4, 16, 4, 3)
            .astype(np.float32)
            .mean((2, 4))
            .reshape(len(images), -1)
            / 255
        )

    train = thumbs("train")
    norms = (train**2).sum(1)

    def nearest(x):
        return np.sqrt(
            np.maximum(((x**2).sum(1)[:, None] + norms - 2 * x @ train.T).min(1), 0) / x.shape[1]
        )

    for split in ("test", "val", "novel"):
        assert nearest(thumbs(split, 400)).min() > SAME, split
    assert nearest(train[:5]).max() < 1e-2  # the measure does find a copy


def test_parts_are_fixed_subsets(whole_dataset):
    a, b = whole_dataset.subset("test", 100), whole_dataset.subset("test", 200)
    assert set(a.frame["id"]) < set(b.frame["id"]) and len(a) == 100
    assert a.fingerprint() == whole_dataset.subset("test", 100).fingerprint() != b.fingerprint()
    row = int(np.flatnonzero(whole_dataset.frame["id"] == a.frame["id"].iloc[7])[0])
    assert np.array_equal(a.images[7], whole_dataset.images[row])
    with pytest.raises(BadData, match="no split 'tset'"):
        whole_dataset.subset("tset")


def test_pixels_round_trip(small_dataset):
    assert np.array_equal(to_uint8(to_pixels(small_dataset.images)), small_dataset.images)


# -- words ------------------------------------------------------------------------------------------------------------------------


def test_pixel_words_of_a_red_disc():
    y, x = np.mgrid[0:64, 0:64]
    image = np.full((64, 64, 3), 255, np.uint8)
    image[(y - 32) ** 2 + (x - 32) ** 2 < 400] = (220, 40, 50)
    said = pixel_words(image)
    assert said["colours"] == ["red"] and {"even", "round", "symmetric", "plain"} <= set(
        said["shape"]
    )
    assert pixel_words(np.full((64, 64, 3), 255, np.uint8))["shape"] == ["blank"]


@pytest.mark.parametrize("decoder", list(CAPTION_MIXTURES))
def test_diet_is_mixed_and_short(small_dataset, decoder):
    import random

    parts, rng = alt_text_parts(small_dataset), random.Random(0)
    texts = [caption_mixture(parts[i % len(parts)], rng, decoder) for i in range(600)]
    names = [" ".join(p["name"]) for p in parts]
    every = [alt_text(p) for p in parts]
    assert (
        abs(
            sum(t == every[i % len(parts)] for i, t in enumerate(texts)) / 600
            - CAPTION_MIXTURES[decoder]["alt"]
        )
        < 0.06
    )
    assert (
        abs(
            sum(t == names[i % len(parts)] for i, t in enumerate(texts)) / 600
            - CAPTION_MIXTURES[decoder]["name"]
        )
        < 0.06
    )
    assert 0.05 < texts.count("") / 600 < 0.15
    assert all(len(t.split()) <= 30 for t in texts if t) and any(len(t.split()) > 12 for t in texts)
    assert len(alt_text(parts[0], 5).split()) == 5


def test_every_source_gives_one_string_per_image(small_dataset):
    for name, source in SOURCES.items():
        texts = source(small_dataset, 0)
        assert len(texts) == len(small_dataset) and texts == source(small_dataset, 0), name
        assert all(isinstance(t, str) for t in texts)
    assert all(t == "" for t in SOURCES["empty"](small_dataset)) and all(
        SOURCES["names"](small_dataset)
    )


def test_bits_are_those_of_the_unigram_code():
    from dd.texts import unigram_bits

    known = [
        "a a a",
        "b",
    ]  # counts: a 3, b 1, end 2; plus one each and one for the unknown: 10 in all
    cost = lambda n: np.log2(10 / n)
    assert unigram_bits(["a"], known) == pytest.approx(cost(4) + cost(3))
    assert unigram_bits(["b c", ""], known) == pytest.approx(
        (cost(2) + cost(1) + cost(3) + cost(3)) / 2
    )
    assert unigram_bits(["b"], known) > unigram_bits(["a"], known)


def test_readability_tells_names_from_noise(small_dataset):
    own, noise = (
        readability(small_dataset, t)
        for t in (SOURCES["names"](small_dataset), ["zzz qqq"] * len(small_dataset))
    )
    assert (
        own["precision"] == own["coverage"] == 1.0
        and noise["precision"] == noise["coverage"] == 0.0
    )


# -- anybody's files --------------------------------------------------------------------------------------------------------------


def picture(path, colour=(200, 30, 30), size=(40, 20), mode="RGB"):
    Image.new(mode, size, colour).save(path)
    return path.name


@pytest.fixture
def folder(tmp_path):
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_csv_folder(folder):
    (folder / "captions.csv").write_text(
        'file_name,text,id,split\na.png,a red thing,one,\nb.png,"red, again",two,val\n'
    )
    dataset = load_dataset(folder, size=32)
    assert (
        list(dataset.frame["id"]) == ["one", "two"]
        and dataset.images.shape == (2, 32, 32, 3)
        and not dataset.skipped
    )
    assert dataset.frame["name"].tolist() == ["a red thing", "red, again"] and dataset.frame[
        "split"
    ].tolist() == ["test", "val"]
    assert SOURCES["names"](dataset) == ["a red thing", "red again"]


def test_coco_file(folder):
    data = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "caption": "One."},
            {"image_id": 9, "caption": "Two"},
            {"image_id": 7, "caption": "Uno"},
        ],
    }
    (folder / "ann").mkdir()
    (folder / "ann" / "captions.json").write_text(json.dumps(data))
    dataset = load_dataset(folder / "ann" / "captions.json", images=folder)
    assert dataset.frame["captions"].tolist() == [["One.", "Uno"], ["Two"]] and list(
        dataset.frame["id"]
    ) == ["7", "9"]
    (folder / "list.json").write_text("[1, 2]")
    with pytest.raises(BadData, match="list.json: not a COCO captions file"):
        load_dataset(folder / "list.json")


def test_transparency_is_white_and_crop_is_central(tmp_path):
    image = Image.new("RGBA", (90, 30), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (30, 0, 60, 30))
    image.save(tmp_path / "x.png")
    (tmp_path / "captions.jsonl").write_text('{"file_name": "x.png", "text": "x"}\n')
    pixel = load_dataset(tmp_path, size=30).images[0]
    assert (pixel[15, 15] == (255, 0, 0)).all() and (pixel[:, 2:-2] == (255, 0, 0)).all()
    image = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    image.save(tmp_path / "x.png")
    assert (load_dataset(tmp_path, size=30).images == 255).all()


BAD = [
    ({"file_name": "gone.png", "text": "x"}, "missing image"),
    ({"file_name": "broken.png", "text": "x"}, "cannot decode image"),
    ({"file_name": "cut.jpg", "text": "x"}, "cannot decode image"),
    ({"file_name": "c.png", "text": "  "}, "empty caption"),
    ({"file_name": "c.png", "text": "x", "id": "a.png"}, "duplicate id 'a.png'"),
]


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl", "metadata.jsonl"])
@pytest.mark.parametrize(
    "bad, message", BAD, ids=[m for _, m in BAD[:2]] + ["cut image", "empty caption", "duplicate"]
)
def test_bad_records_are_named(folder, name, bad, message):
    rows = [
        {"file_name": "a.png", "text": "red", "id": "a.png"},
        bad,
        {"file_name": "b.png", "text": "also red", "id": "b.png"},
    ]
    if name.endswith("csv"):
        pd.DataFrame(rows).fillna("").to_csv(folder / name, index=False)
    else:
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    where = f"{name}, row {3 if name.endswith('csv') else 2}: "  # as an editor counts lines
    with pytest.raises(BadData) as caught:
        load_dataset(folder)
    assert str(caught.value).startswith(where + message) and "\n" not in str(caught.value)
    dataset = load_dataset(folder, on_bad="skip")
    assert (
        list(dataset.frame["id"]) == ["a.png", "b.png"]
        and len(dataset.skipped) == 1
        and dataset.skipped[0].startswith(where + message)
    )


def test_unusable_worlds_say_why(folder):
    for source, message in (
        (folder, "no captions.csv, captions.jsonl or metadata.jsonl"),
        (folder / "none.json", "no such world"),
        (folder / "a.png", "cannot read .png"),
    ):
        with pytest.raises(BadData, match=message):
            load_dataset(source)
    (folder / "captions.csv").write_text("picture,words\na.png,x\n")
    with pytest.raises(BadData, match="row 2: no file_name column"):
        load_dataset(folder)
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n{oops\n')
    with pytest.raises(BadData, match="captions.jsonl, line 2: not JSON"):
        load_dataset(folder)
    (folder / "captions.jsonl").write_text('{"file_name": "gone.png", "text": "x"}\n')
    with pytest.raises(BadData, match="no usable image; first problem: captions.jsonl, row 1"):
        load_dataset(folder, on_bad="skip")
    with pytest.raises(BadData, match="on_bad"):
        load_dataset(folder, on_bad="ignore")


# -- anybody's captions -----------------------------------------------------------------------------------------------------------


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
        ((0, "x"), "duplicate id"),
        ((1, "  "), "empty text"),
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
    with pytest.raises(BadData, match="cannot read '.txt'"):
        read_texts(tmp_path / "t.txt", small_dataset)
    (tmp_path / "t.csv").write_text("id,caption\n1,x\n")
    with pytest.raises(BadData, match="no column"):
        read_texts(tmp_path / "t.csv", small_dataset)


def test_written_texts_are_read_back(small_dataset, tmp_path):
    texts = SOURCES["names"](small_dataset)
    write_texts(tmp_path / "t" / "names.parquet", small_dataset, texts)
    assert read_texts(tmp_path / "t" / "names.parquet", small_dataset)[1] == texts


def test_doodles_are_what_they_are_called():
    """Pictures from outside the world, in its format: white paper, the colours that were meant."""
    from dd.captions import pixel_words
    from dd.data import doodles

    pictures = doodles()
    assert len(pictures) == 6 and all(
        p.shape == (64, 64, 3) and p.dtype == np.uint8 and (p[0] > 250).all()
        for p in pictures.values()
    )
    main = {name: pixel_words(p)["colours"][0] for name, p in pictures.items()}
    assert (
        main["apple"] == "red"
        and main["blue heart"] == "blue"
        and main["face"] == "yellow"
        and main["fir"] == "green"
    )
