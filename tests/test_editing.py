"""Blends and edits: which texts are drawn, from which noise, and what the scores compare."""

import numpy as np
import pytest
import torch

from dd.study import editing


@pytest.fixture
def drawing(cheap_study, monkeypatch):
    """A study whose decoder notes what it is asked for and draws what `of` says."""
    study = cheap_study("editing", pairs=6)
    names = study.subset("test").frame["name"]
    study.texts = lambda source, split="test": [f"blue bold face {n.lower()}" for n in names]
    calls = []

    def made(of):
        def draw(texts, ids, states=None, **how):
            calls.append((texts, ids, states))
            return np.stack([of(text, id) for text, id in zip(texts, ids)])

        monkeypatch.setattr(study.dec, "draw", draw)
        return study, calls

    return made


def test_blends_are_compared_with_both_parents(drawing):
    """A decoder that always draws the first parent: similarity 1 to it, less to all others."""
    images = {}
    study, calls = drawing(lambda text, id: images["/".join(id.split("/")[1:3])])
    test, texts = study.subset("test"), study.texts("dediffusion")
    images |= dict(zip(test.frame["id"], test.images))
    first, second, stranger = editing.pairs(study)
    groups = test.frame["group"].tolist()
    assert all(groups[i] != groups[j] for i, j in zip(first, second)) and len(first) == 6
    table, pictures = editing.blends(study, first, second, stranger)
    means = table.pivot(index="picture from", columns="similarity to", values="mean")
    assert np.allclose(means["first"], 1) and (means.drop(columns="first") < 0.9).all(axis=None)
    assert np.allclose(means["lower of both"], means["second"]) and len(pictures) == 4
    assert len({tuple(ids) for _, ids, _ in calls}) == 1  # the same noise
    assert calls[0][0] == [texts[i] for i in first] and calls[3][0] == [texts[i] for i in second]
    a, b = texts[first[0]].split(), texts[second[0]].split()
    assert calls[1][0][0].split()[:4] == ["blue", "bold", "face", b[3]] and a[:3] == b[:3]
    ends = [study.dec.text_states([texts[rows[0]]])[0] for rows in (first, second)]
    assert torch.allclose(calls[2][2][0], sum(ends) / 2, atol=1e-2)
    assert study.path("blending.csv").read_text() == table.to_csv(index=False)


def test_edits_are_measured_in_the_pictures(drawing):
    """A decoder that draws red for the word and white for all others: the edit is told from its
    control, which never holds the new word."""
    colour = {True: (220, 40, 50), False: (255, 255, 255)}

    def square(text, id):
        picture = np.full((64, 64, 3), 255, np.uint8)
        picture[16:48, 16:48] = colour["red" in text.split()]
        return picture

    study, calls = drawing(square)
    table, shown = editing.edits(study)
    asked = table.set_index(["edit", "text"])["asked for"]["colour -> red"]
    assert asked.to_dict() == {"as written": 0, "edited": 1, "control": 0}
    assert list(shown) == list(editing.EDITS) and set(table["n"]) == {6}
    for (edit, (old, new)), (rows, texts, pictures) in zip(editing.EDITS.items(), shown.values()):
        for own, edited, control in zip(*texts.values()):
            words = own.split()
            assert edited.split() == [new if w in old else w for w in words], edit
            moved = [w for w, v in zip(words, control.split()) if w != v]
            assert len(moved) == sum(w in old for w in words) and not old & set(moved)
            assert new not in control.split()
        assert len(rows) == 6 and all(len(p) == 6 for p in pictures.values())
    assert all(calls[k][1] == calls[k + 1][1] for k in (0, 1, 3, 4, 6, 7))  # the same noise
    assert study.path("editing.csv").read_text() == table.to_csv(index=False)
