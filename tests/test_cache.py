"""Keys follow content, versions and number format; what is kept is whole and read back."""

import numpy as np
import pytest
import torch

from dd.study import cache
from dd.study.cache import STAGES, folder_hash, kept, key, made_by


def test_a_key_follows_everything_that_numbers_depend_on(monkeypatch, small_dataset):
    a, b = torch.zeros(3, 2), torch.zeros(3, 2)
    keys = [key("score", real=a, fake=b)]
    assert key("score", fake=b.clone(), real=a.clone()) == keys[0]  # content, not identity or order
    keys.append(key("score", real=a, fake=b + 1))
    keys.append(key("score", real=a + 1, fake=b))  # both sides of a score
    keys.append(key("score", real=a.reshape(2, 3), fake=b))
    keys.append(key("score", real=a.double(), fake=b))
    keys.append(key("look", real=a, fake=b))
    keys.append(key("score", real=a, fake=b, classes=(np.array(["x"], object),) * 2))
    keys.append(key("score", real=small_dataset, fake=b))
    changed = small_dataset.subset("train", 64)
    changed.images, changed._fingerprint = 255 - changed.images, None
    keys.append(key("score", real=changed, fake=b))
    keys.append(key("look", pictures=made_by("draw", texts=["red"])))
    keys.append(key("look", pictures=made_by("draw", texts=["blue"])))
    row = STAGES["draw"]
    monkeypatch.setitem(STAGES, "draw", row._replace(version=row.version + 1))
    keys.append(key("look", pictures=made_by("draw", texts=["red"])))  # of an input's stage, too
    assert len(set(keys)) == len(keys)


def test_a_key_follows_number_format_and_library_releases(monkeypatch):
    from dd import runtime

    facts = lambda: (key("draw", texts=[]), key("score", texts=[]))
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: True)
    draw, score = facts()
    with runtime.plain_float32():
        asked_for = facts()
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: False)
    assert asked_for == facts()
    assert draw != facts()[0] and score == facts()[1]  # scores are computed in float64 anywhere
    draw, score = facts()
    release = cache.version
    monkeypatch.setattr(cache, "version", lambda name: f"{release(name)}.post1")
    assert facts() == (draw, score)  # a patch
    monkeypatch.setattr(cache, "version", lambda name: "99.1.0")
    assert not set(facts()) & {draw, score}


def test_unknown_inputs_are_not_named_by_their_address():
    with pytest.raises((TypeError, ValueError)):
        key("draw", texts=np.array([object()]))


@pytest.mark.parametrize(
    "value", [{"a": 1.5, "b": float("inf")}, ["x", "ü"], {"z": torch.arange(6.0).view(2, 3)}]
)
def test_what_is_kept_is_read_back_and_made_once(value, tmp_path):
    calls = []
    make = lambda: calls.append(1) or value
    for _ in range(2):
        found = kept(tmp_path / "cache" / "look" / "test-0.5", make)
        same = torch.equal(found["z"], value["z"]) if "z" in value else found == value
        assert same and len(calls) == 1
    assert len(list((tmp_path / "cache" / "look").iterdir())) == 1  # nothing half written is left


def test_what_fails_is_not_kept(tmp_path):
    with pytest.raises(ZeroDivisionError):
        kept(tmp_path / "x", lambda: 1 / 0)
    assert kept(tmp_path / "x", lambda: [1]) == [1]


def test_a_folder_is_its_models_and_not_its_cards(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = folder_hash(tmp_path)
    for name in ("recipe.json", "README.md", "train.jsonl"):
        (tmp_path / name).write_text("more")
    assert folder_hash(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert folder_hash(tmp_path) != before
    before, plain = folder_hash(tmp_path), folder_hash(tmp_path, without="guide")
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "config.json").write_text("{}")
    assert folder_hash(tmp_path, without="guide") == plain == before != folder_hash(tmp_path)


def test_no_key_is_made_of_source_text():
    from pathlib import Path

    package = Path(cache.__file__).parent.parent
    assert not [p for p in package.rglob("*.py") if "getsource" in p.read_text()]


def test_a_stage_follows_the_stages_inside_it(monkeypatch):
    before = {name: cache.key(name, x=1) for name in ("draw", "write", "look", "score")}
    monkeypatch.setitem(cache.STAGES, "look", cache.STAGES["look"]._replace(version=99))
    after = {name: cache.key(name, x=1) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"draw", "look"}
