"""The page on which one chooses a drawing shows the pictures and the scores of the judged table."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from dd import report
from dd.data import stable_hash
from dd.files import read_json, write_json
from dd.sources import LABELS, SEARCH, SOURCES
from dd.study import Study, explore


def tile(path, i: int, s: int, S: int) -> np.ndarray:
    """The picture of drawing i and source s of S on a sheet."""
    left, top = explore.corner(i, s, S)
    with Image.open(path) as sheet:
        return np.asarray(sheet.crop((left, top, left + explore.TILE, top + explore.TILE)))


def test_a_sheet_has_every_picture_at_its_place(tmp_path):
    """150 drawings stand in three blocks; larger pictures are made smaller."""
    colours = np.arange(150 * 3 * 3).reshape(150, 3, 3) % 251
    made = explore.sheet(colours[:, :, None, None].repeat(80, 2).repeat(80, 3).astype(np.uint8))
    made.save(tmp_path / "sheet.png")
    assert made.size == (3 * 3 * 64, 64 * 64)
    for i, s in ((0, 0), (0, 2), (63, 1), (64, 0), (149, 2)):
        assert (tile(tmp_path / "sheet.png", i, s, 3) == colours[i, s]).all()


def shown_on(page) -> dict:
    """What the page of a study holds inside it."""
    (data,) = re.findall("<script type='application/json' id=data>(.*?)</script>", page, re.S)
    return json.loads(data)


def any_drawings(self, source, split, texts, ids, rows, how) -> np.ndarray:
    """In the place of Study._draw_chunk: pictures that can be told apart, and no network runs."""
    train = self.dataset.subset("train").images
    return train[[stable_hash(f"{self.decoder} {source} {id}") % len(train) for id in ids]]


def test_what_is_explored_is_what_the_table_was_made_of(cheap_study, judge_folder, monkeypatch):
    monkeypatch.setattr(Study, "_draw_chunk", any_drawings)
    study = cheap_study("explored", judges=[str(judge_folder)])
    study.reconstruction()
    table = study.judged()
    monkeypatch.setattr(Study, "_draw_chunk", None)  # all pictures are there
    told, images = explore.gather(study), study.subset("test")
    folder, sources = study.folder / "explore", told["sources"]
    assert read_json(folder / "explore.json") == told
    assert told["id"] == list(images.frame["id"]) and told["style"] == list(images.frame["style"])
    assert told["texts"] == {s: study.texts(s) for s in sources}
    assert sources == [s for s in SOURCES if s in explore.JUDGED]
    assert told["decoders"] == [*study.by_each, SEARCH] == list(told["similarity"])

    paired = table[table["split"] == "test"].set_index(["decoder", "source"])["paired"]
    for decoder, by_source in told["similarity"].items():
        means = {s: np.mean(values) for s, values in by_source.items()}
        assert means == pytest.approx(paired[decoder][sources].to_dict(), abs=1e-3), decoder

    pictures = {name: by.drawn("alt_text", "test", 1.0)[1] for name, by in study.by_each.items()}
    pictures[SEARCH] = study.engine.shown.images[study.hits("alt_text", "test")]
    files, at = dict(zip(told["decoders"], told["sheets"][1:])), sources.index("alt_text")
    off = lambda a, b: np.abs(a.astype(int) - b).mean()
    for i in (0, 63, 64, 119):  # the last of a block of rows, the first of the next
        own = tile(folder / told["sheets"][0], i, 0, 1)
        assert off(own, images.images[i]) < off(own, images.images[i - 1]) / 2
        for name, file in files.items():
            shown, drawn = tile(folder / file, i, at, len(sources)), pictures[name]
            assert off(shown, drawn[i]) < off(shown, drawn[i - 1]) / 2, (name, i)

    report.build_report(study.folder, [])
    page = (study.folder / "report" / "explore.html").read_text()
    held = shown_on(page)
    assert [s["label"] for s in held["sources"]] == [LABELS[s] for s in sources]
    assert [d["label"] for d in held["decoders"]] == ["tiny", "judge", "search"]
    assert all((folder / name).exists() for name in held["sheets"]) and "http" not in page

    monkeypatch.setattr(explore, "DRAWINGS", 7)  # spread over the split, from first to last
    few = explore.gather(study)
    where = [told["id"].index(id) for id in few["id"]]
    assert where[0] == 0 and where[-1] == 119 and 19 <= np.diff(where).min() <= 20
    for decoder, by_source in told["similarity"].items():
        values = [by_source["names"][i] for i in where]
        assert few["similarity"][decoder]["names"] == values


def test_no_text_ends_the_script_of_the_page(tmp_path):
    said = {"texts": {"names": ["</script><b>"]}, "sources": ["names"], "decoders": ["a/pipeline"]}
    write_json(tmp_path / "explore" / "explore.json", said)
    report.build_report(tmp_path, [])
    held = shown_on((tmp_path / "report" / "explore.html").read_text())
    assert held["texts"] == said["texts"] and held["decoders"][0]["label"] == "a"


def test_a_study_without_pictures_has_no_such_page(tmp_path):
    report.build_report(tmp_path, [])
    assert not (tmp_path / "report" / "explore.html").exists()
