"""What each position looked at, and what each word adds, of one picture."""

import numpy as np
import pytest
import torch

from dd import metrics
from dd.encoder import FEATURES, Encoder, P, Pooler, backbone_features
from dd.explain import attention, explained, figure, looked_at


def test_attention_is_that_of_the_pooler(float32):
    """Rows are weights; a patch that nobody looks at cannot change what is written, one that is
    looked at can."""
    torch.manual_seed(0)
    pooler = Pooler(N=3, V=20, D=32, blocks=1).eval()
    patches = torch.randn(2, P, FEATURES)
    seen = attention(pooler, patches)
    assert seen.shape == (2, 1, 3, P) and torch.allclose(seen.sum(-1), torch.ones(2, 1, 3))
    assert not pooler.layers[0].cross_attention._forward_hooks
    before, least, most = pooler(patches), seen[0, 0].sum(0).argmin(), seen[0, 0].sum(0).argmax()
    moved = {}
    for at in (least, most):
        other = patches.clone()
        other[0, at] += torch.randn(FEATURES, generator=torch.Generator().manual_seed(1))
        moved[int(at)] = float((pooler(other) - before).abs()[0].sum())
    assert moved[int(least)] < moved[int(most)]


@pytest.fixture
def found(tiny_decoder, small_dataset, float32):
    centre = metrics.image_features(small_dataset.images[:8]).mean(0)
    encoder = Encoder.new(tiny_decoder, 5, D=32, blocks=2)
    how = dict(noises=2, guidance=1.0, steps=1)
    return (
        encoder,
        centre,
        explained(encoder, tiny_decoder, small_dataset.images[0], "x", centre, **how),
    )


def test_a_word_is_left_out_at_a_time(found, tiny_decoder, small_dataset):
    encoder, centre, found = found
    pixels = small_dataset.pixels(slice(0, 1))
    assert found.text == encoder.write(pixels)[0] == " ".join(found.words) and len(found.words) == 5
    without = " ".join(found.words[:2] + found.words[3:])
    draw = lambda text: tiny_decoder.draw([text], ["x"], guidance=1.0, steps=1, seed=1)
    real = metrics.image_features(small_dataset.images[:1])
    value = lambda text: float(
        metrics.paired_similarity(real, metrics.image_features(draw(text)), centre)
    )
    assert found.paired.shape == (6, 2)
    assert found.paired[0, 1] == pytest.approx(value(found.text), abs=1e-3)  # the second noise
    assert found.paired[3, 1] == pytest.approx(value(without), abs=1e-3)
    adds = found.paired[0] - found.paired[3]
    row = found.table().iloc[2]
    assert row["word"] == found.words[2] and row["adds"] == pytest.approx(adds.mean())
    seen = attention(encoder.pooler, backbone_features(pixels))[0].mean(0).numpy()
    assert np.allclose(found.attention, seen, atol=1e-5)


def test_the_figure_is_one_file_or_the_study_s_two(found, tmp_path):
    found = found[-1]
    figure(found, tmp_path / "one.png", "a $name$")
    figure(found, tmp_path / "two")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "two.pdf", "two.png"]


def test_the_patch_most_looked_at_is_the_reddest():
    weights = np.full(64, 0.001)
    weights[8 * 2 + 5] = 0.9  # third row, sixth column
    shown = looked_at(np.full((64, 64, 3), 200, np.uint8), weights).astype(int)
    red = shown[..., 0] - shown[..., 1]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert (row // 8, column // 8) == (2, 5)
