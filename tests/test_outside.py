"""The outside dataset is what its card, NOTICE and builder say, and holds no emoji drawing."""

import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pytest

from dd.data import BUILT_IN, load_dataset
from dd.texts import full_alt_text, names, names_all

ROOT, FILE = Path(__file__).parent.parent, BUILT_IN["outside"]
CARD = FILE.with_name("README.md").read_text(encoding="utf-8")
SAME = 0.05  # a bit below NEAR of tools/build_emoji.py: drawings this close are one picture


@pytest.fixture(scope="module")
def outside():
    return load_dataset("outside")


@pytest.fixture
def builder(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import build_outside

    return build_outside


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|\n ").split("|")]


def test_the_file_is_the_card_s(outside):
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() in CARD
    sets = [cells(r) for r in CARD.split("## Sets")[1].split("## Columns")[0].splitlines()[3:] if r]
    said = {row[0]: int(row[4].replace(",", "")) for row in sets}
    assert said == outside.frame["style"].value_counts().to_dict()
    kept = cells(next(r for r in CARD.splitlines() if r.startswith("| kept")))[1:]
    assert [int(n.replace(",", "")) for n in kept] == list(said.values())
    assert f"{sum(said.values()):,} coloured drawings" in CARD


def test_size(outside):
    assert FILE.stat().st_size <= 6e6 and len(outside) >= 1000
    assert outside.images.shape[1:] == (64, 64, 3) and outside.images.dtype == np.uint8
    assert outside.frame["id"].is_unique and set(outside.frame["split"]) == {"test"}
    assert len(outside.subset("test")) == len(outside.subset("all")) == len(outside)
    coloured = (np.ptp(outside.images, axis=3) > 48).sum((1, 2))
    corners = outside.images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert coloured.min() >= 40 and (corners == 255).all((1, 2)).mean() > 0.95  # on white


def test_it_is_read_in_two_seconds():
    start = time.process_time()  # of this process: not of what runs beside it
    load_dataset("outside", size=64)
    assert time.process_time() - start < 4  # twice that, for slow machines


def test_every_set_has_a_licence_and_the_builder_s_version(outside, builder):
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    repository, release = builder.MULBERRY.removeprefix("https://"), builder.RELEASE
    pins = {"mulberry": ("CC BY-SA 4.0", f"{repository} {release}")}
    for package, version in builder.PACKAGES.items():
        style = package.split("/")[1].removeprefix("streamline-").removesuffix("-color")
        style = "streamline-emojis" if style == "emojis" else style
        pins[style] = ("CC BY 4.0", f"{package} {version}")
    assert set(pins) == set(outside.frame["style"])
    for style, (licence, pin) in pins.items():
        assert re.search(rf"^  {style} .*{licence} +{re.escape(pin)}$", notice, re.M), style
        (row,) = [cells(r) for r in CARD.splitlines() if r.startswith(f"| {style} |")]
        assert row[3] == licence and pin.split()[-1] in row[2]


def test_no_drawing_is_an_emoji_drawing(outside, whole_dataset, builder):
    known = builder.thumbnails(whole_dataset.images)
    some = outside.subset("test", 300).images
    assert builder.nearest(builder.thumbnails(some), known).min() > SAME
    moved = np.clip(whole_dataset.images[:3].astype(int) + 3, 0, 255).astype(np.uint8)
    assert builder.nearest(builder.thumbnails(moved), known).max() < SAME  # a copy is found
    thumbs = builder.thumbnails(some)
    assert min(builder.nearest(thumbs[i : i + 1], thumbs[:i])[0] for i in range(1, 300)) > SAME


def test_words_are_readable(outside):
    for name in names(outside):
        assert re.fullmatch(r"[a-z][a-z0-9'& -]*", name) and not name.endswith(("_", "-")), name
    assert not outside.frame.duplicated(["style", "name"]).any()
    assert (outside.frame["group"].str.len() > 0).all()
    tags = outside.frame["keywords"].map(len)
    assert tags[outside.frame["style"] == "mulberry"].gt(0).mean() > 0.5
    few = outside.subset("test", 5)
    assert all(a.startswith(b) for a, b in zip(names_all(few), names(few)))
    assert all(set(n.split()) <= set(t.split()) for n, t in zip(names(few), full_alt_text(few)))


def test_file_names_become_names(builder, tmp_path):
    (tmp_path / "mulberry/EN").mkdir(parents=True)
    table = tmp_path / "mulberry/scripts/data/symbol-info-en.csv"
    table.parent.mkdir(parents=True)
    said = {"oyster_2": "oyster", "kick_ball_1_,_to": "to kick ball", "baker_1a": "baker"}
    said |= {"hat_-_ladies": "hat ladies", "milk_2_litre": "milk 2 litre", "t-shirt": "t-shirt"}
    lines = ["symbol,category,tags", *(f'"{symbol}",Thing,one two' for symbol in said)]
    table.write_text("\n".join(lines), encoding="utf-8")
    for symbol in said:
        (tmp_path / f"mulberry/EN/{symbol}.svg").write_text("<svg/>")
    rows = list(builder.mulberry(tmp_path))
    assert {row[0]: row[1] for row in rows} == said
    assert all(row[2:] == (["one", "two"], "Thing", "<svg/>") for row in rows)
