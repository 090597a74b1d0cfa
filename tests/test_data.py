"""The shipped dataset keeps its promises; anybody's files are read, and bad records named."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dd.data import BUILT_IN, BadData, load_dataset, spread, to_pixels, to_uint8
from dd.texts import names

SAME = 0.05  # a bit below NEAR of tools/build_emoji.py: drawings this close are one picture


def test_counts_and_size(whole_dataset):
    counts = whole_dataset.frame["split"].value_counts()
    assert (
        counts["test"] >= 2000
        and counts["novel"] >= 500
        and counts["val"] >= 500
        and counts["train"] > 9000
    )
    assert BUILT_IN["emoji"].stat().st_size <= 25e6
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


def test_spread_rows_reach_from_the_first_to_the_last():
    assert spread(10, 4).tolist() == [0, 3, 6, 9] and spread(3, 9).tolist() == [0, 1, 2]


def test_subsets_are_fixed(whole_dataset):
    a, b = whole_dataset.subset("test", 100), whole_dataset.subset("test", 200)
    assert set(a.frame["id"]) < set(b.frame["id"]) and len(a) == 100
    assert a.fingerprint() == whole_dataset.subset("test", 100).fingerprint() != b.fingerprint()
    row = int(np.flatnonzero(whole_dataset.frame["id"] == a.frame["id"].iloc[7])[0])
    assert np.array_equal(a.images[7], whole_dataset.images[row])
    turned = a.rows([3, 1])
    assert turned.frame["id"].tolist() == a.frame["id"].iloc[[3, 1]].tolist()
    assert np.array_equal(turned.images, a.images[[3, 1]])
    with pytest.raises(BadData, match="no split 'tset'"):
        whole_dataset.subset("tset")


def test_pixels_round_trip(small_dataset):
    assert np.array_equal(to_uint8(to_pixels(small_dataset.images)), small_dataset.images)


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
    assert names(dataset) == ["a red thing", "red again"]


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
    with pytest.raises(
        BadData,
        match="list.json: not a COCO or VQA file; it needs a list of objects under .annotations.",
    ):
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


def test_unusable_datasets_say_why(folder):
    for source, message in (
        (folder, "no captions.csv, captions.jsonl, metadata.csv, metadata.jsonl in"),
        (folder / "none.json", "no such dataset"),
        (folder / "a.png", "cannot read .png"),
    ):
        with pytest.raises(BadData, match=message):
            load_dataset(source)
    (folder / "captions.csv").write_text("picture,words\na.png,x\n")
    with pytest.raises(BadData, match="row 2: no file_name column"):
        load_dataset(folder)
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n{oops\n')
    with pytest.raises(BadData, match="captions.jsonl, row 2: not JSON"):
        load_dataset(folder)
    (folder / "captions.jsonl").write_text('{"file_name": "gone.png", "text": "x"}\n')
    with pytest.raises(BadData, match="no usable image; first problem: captions.jsonl, row 1"):
        load_dataset(folder, on_bad="skip")
    with pytest.raises(BadData, match="on_bad"):
        load_dataset(folder, on_bad="ignore")
