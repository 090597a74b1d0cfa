"""Scores on cases with known answers, and against torchmetrics."""

import numpy as np
import pandas as pd
import pytest
import torch

from dd import metrics
from dd.texts import shuffled

D = 16


def some(M=200, seed=0, D=D):
    rng = torch.Generator().manual_seed(seed)
    return (
        torch.randn(M, D, generator=rng)
        @ torch.randn(D, D, generator=torch.Generator().manual_seed(99))
        / D**0.5
    )


class Identity(torch.nn.Module):
    """Features in, features out: torchmetrics then computes its own distance of ours."""

    num_features = D

    def forward(self, x):
        return x.float()


def test_fid_of_a_set_with_itself_is_zero():
    x = some()
    assert abs(metrics.frechet(x, x)) < 1e-6
    assert abs(metrics.frechet(x, x[torch.randperm(len(x))])) < 1e-6  # order does not matter


def test_fid_grows_under_noise():
    x, noise = some(), some(seed=5)
    values = [metrics.frechet(x, x + k * noise) for k in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values) and values[1] > 1e-3
    y = some(seed=7)
    assert metrics.frechet(x, y) == pytest.approx(metrics.frechet(y, x), rel=1e-6)


def test_fid_counts_images_as_if_they_were_repeated():
    """As a bootstrap does; also where few different images leave the covariance singular."""
    x, y = some(60), some(60, 1) + 0.3
    for few in (60, 12):
        i = torch.randint(0, few, (60,), generator=torch.Generator().manual_seed(few))
        counts = torch.bincount(i, minlength=60)
        repeated = metrics.frechet(x[i], y[i])
        assert metrics.frechet(x, y, counts, counts) == pytest.approx(repeated, rel=1e-9)
        (m, s), (n, t) = ((z[i].double().mean(0).numpy(), np.cov(z[i].T.double())) for z in (x, y))
        roots = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
        assert repeated == pytest.approx(((m - n) ** 2).sum() + np.trace(s + t) - 2 * roots, 1e-5)


def test_fid_of_two_shifted_clouds_is_the_shift_squared():
    x = some()
    assert metrics.frechet(x, x + 3.0) == pytest.approx(9.0 * D, rel=1e-6)


def test_fid_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = some(), some(seed=1) * 1.3 + 0.2
    metric = FrechetInceptionDistance(feature=Identity(), normalize=False)
    metric.set_dtype(torch.float64)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert metrics.frechet(x, y) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_kid_equals_torchmetrics_on_the_full_set():
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = some(), some(seed=1) * 1.3 + 0.2
    metric = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=len(x))
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert metrics.KID(x, y).value() == pytest.approx(float(metric.compute()[0]), rel=1e-3)


def test_kid_is_unbiased_at_zero():
    """Two samples of one distribution: positive and negative values, mean near nought."""
    values = [metrics.KID(some(60, 2 * s), some(60, 2 * s + 1)).value() for s in range(40)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / 40**0.5


def test_kid_weights_are_a_bootstrap_without_self_pairs():
    x, y = some(40), some(40, 1) + 0.3
    counts = torch.ones(40)
    assert metrics.KID(x, y).value(counts, counts) == pytest.approx(metrics.KID(x, y).value())
    drop = torch.cat([torch.ones(30), torch.zeros(10)])
    assert metrics.KID(x, y).value(drop, drop) == pytest.approx(metrics.KID(x[:30], y[:30]).value())


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="more images"):
        metrics.frechet(some(D), some(D))
    with pytest.raises(ValueError, match="more images"):
        metrics.frechet(some(100), some(D))
    with pytest.raises(ValueError, match="352"):
        metrics.require_enough(352, 352)


def test_paired_scores_see_a_shuffle_that_fid_cannot():
    real = some(300)
    fake = real + 0.3 * some(300, 3)
    turn = torch.tensor(shuffled(list(range(300))))
    own, other = (
        metrics.score(real, fake, bootstraps=5),
        metrics.score(real, fake[turn], bootstraps=5),
    )
    assert other["fid"] == pytest.approx(own["fid"], rel=1e-6) and other["kid"] == pytest.approx(
        own["kid"], rel=1e-6
    )
    assert own["paired"] > 0.8 and own["r_at_1"] > 0.8
    assert abs(other["paired"]) < 0.15 and other["r_at_1"] < 0.03


def test_kid_within_sees_classes_dealt_to_others():
    """Pictures of the right classes in the wrong places: near as a set, far inside a class."""
    of = np.repeat(["a", "b", "c"], 100)
    real, fake = (
        some(300, s) + torch.repeat_interleave(torch.arange(3.0), 100)[:, None] for s in (0, 1)
    )
    turn = np.roll(np.arange(300), 100)
    right, wrong = (
        metrics.score(real, f, bootstraps=10, classes=(of, of)) for f in (fake, fake[turn])
    )
    assert wrong["kid"] == pytest.approx(right["kid"], rel=1e-6)
    assert right["kid_within_hi"] < wrong["kid_within_lo"]
    each = [metrics.KID(real[of == c], fake[of == c], own=False).value() for c in "abc"]
    assert right["kid_within"] == pytest.approx(np.mean(each))


def test_each_class_has_its_own_kid_and_interval():
    of, far = np.repeat(["a", "b"], 50), torch.tensor([0.0, 2.0]).repeat_interleave(50)[:, None]
    real, fake = some(100), some(100, 1) + far
    kid = metrics.IntraClassKID(real, fake, of, of)
    each = kid.each(bootstraps=20)
    assert list(each) == ["a", "b"] and each["a"][0] == 50 and each["a"][3] < each["b"][2]
    assert np.mean([k for _, k, _, _ in each.values()]) == pytest.approx(kid.value())
    assert all(low < k < high for _, k, low, high in each.values())


def test_class_reader_reads_what_it_was_taught():
    of = np.array(["b", "a", "c"] * 100)
    far = torch.tensor([{"a": 0.0, "b": 1.0, "c": 2.0}[c] for c in of])[:, None]
    read = metrics.class_reader(some(300) + far, of)
    assert (read(some(300, 5) + far) == of).mean() > 0.9
    assert 0.2 < (read(some(300, 5)) == of).mean() < 0.5 and set(read(some(3))) <= set(
        "abc"
    )  # no class to see: chance


def test_likeness_of_pairs_is_no_likeness_of_sets():
    """Copies lie at 0 from their originals as a set; compared with themselves, too, far below."""
    values = {
        own: [metrics.KID(x, x, own=own).value() for x in (some(60, s) for s in range(20))]
        for own in (True, False)
    }
    assert max(np.abs(values[False])) < 1e-9 and max(values[True]) < -0.1
    x, y, keep = some(40), some(40, 1), torch.cat([torch.ones(30), torch.zeros(10)])
    assert metrics.KID(x, y, own=False).value(keep, keep) == pytest.approx(
        metrics.KID(x[:30], y[:30], own=False).value()
    )


def test_a_class_of_few_images_has_no_distance_of_its_own():
    of = np.array(["a"] * 290 + ["b"] * 10)
    real, fake = some(300), some(300, 1)
    assert metrics.IntraClassKID(real, fake, of, of).value() == pytest.approx(
        metrics.KID(real[:290], fake[:290], own=False).value()
    )
    assert np.isnan(
        metrics.score(real, fake, bootstraps=2, classes=(of[::-1], np.arange(300).astype(str)))[
            "kid_within"
        ]
    )
    assert "kid_within" not in metrics.score(real, fake, bootstraps=2)


def test_score_reports_n_and_intervals_around_the_estimate():
    real = some()
    out = metrics.score(real, real + 0.5 * some(seed=2), bootstraps=10)
    assert out["n"] == len(real)
    for name in ("fid", "kid", "paired"):
        assert out[f"{name}_lo"] < out[name] < out[f"{name}_hi"]
    assert out == metrics.score(real, real + 0.5 * some(seed=2), bootstraps=10)


def test_mean_interval_covers_the_mean():
    values = np.random.default_rng(0).normal(2, 1, (400, 50))
    bounds = np.array([metrics.mean_interval(v) for v in values])
    assert 0.9 < ((bounds[:, 1] < 2) & (2 < bounds[:, 2])).mean() < 0.98
    mean, low, high = metrics.mean_interval(torch.tensor([1.0, 2.0, 3.0]))
    assert mean == 2 and high - mean == mean - low == pytest.approx(1.96 / 3**0.5)


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_disturbed_pictures_are_further_the_more_they_are_disturbed(small_dataset, kind):
    images = small_dataset.images[:4]
    far = lambda strength: np.abs(metrics.disturbed(images, kind, strength) - images.astype(float))
    assert far(0).max() == 0 < far(1).mean() < far(4).mean() < far(16).mean()
    assert metrics.disturbed(images, kind, 2).dtype == np.uint8
    with pytest.raises(ValueError, match="no such disturbance"):
        metrics.disturbed(images, "dust", 2)


def test_differences_are_sharper_than_two_intervals_and_average_over_noises():
    real, classes = some(), np.arange(len(some())) % 2
    a, b = real + 0.5 * some(seed=2), real + 0.6 * some(seed=2)
    rows = metrics.differences(real, [a], {"b": [b]}, classes=classes, bootstraps=20)
    found = pd.DataFrame(rows).set_index("score")
    assert list(found.index) == ["fid", "kid_within", "paired"] and set(found["than"]) == {"b"}
    ours, other = (metrics.score(real, x, classes=(classes, classes)) for x in (a, b))
    for score, row in found.iterrows():
        assert row["lo"] < row["difference"] < row["hi"]
        assert row["difference"] == pytest.approx(ours[score] - other[score], rel=1e-4)
        width = [of[f"{score}_hi"] - of[f"{score}_lo"] for of in (ours, other)]
        assert row["hi"] - row["lo"] < np.hypot(*width)
    assert found.loc["fid", "hi"] < 0 < found.loc["paired", "lo"]
    twice = metrics.differences(real, [a, b], {"b": [b]}, bootstraps=2)
    assert [row["score"] for row in twice] == ["fid", "paired"]  # no classes, no KID inside them
    assert twice[0]["difference"] == pytest.approx(found.loc["fid", "difference"] / 2)


def test_image_features_of_single_pictures(small_dataset):
    features = metrics.image_features(small_dataset.images[:6])
    assert features.shape == (6, 352) and features.dtype == torch.float32
    torch.testing.assert_close(
        features[2:3], metrics.image_features(small_dataset.images[2:3]), atol=0.05, rtol=0.05
    )
    assert torch.cdist(features, features).add(torch.eye(6) * 1e9).min() > 0.1


def test_inception_is_given_pictures_as_torchmetrics_takes_them(tmp_path, monkeypatch):
    """Its file of weights has 95 MB: a network in its place gives each channel's mean."""
    from torchmetrics.image import fid

    class Channels(torch.nn.Module):
        def forward(self, x):
            assert x.dtype == torch.uint8 and x.shape[1:] == (3, 6, 8) and x.is_contiguous()
            return x.float().mean((2, 3))

    class Stub:
        def __init__(self, feature, feature_extractor_weights_path):
            assert feature == 2048 and feature_extractor_weights_path == str(weights)
            self.inception = Channels()

    weights = tmp_path / "weights.pth"
    weights.touch()
    monkeypatch.setattr(fid, "FrechetInceptionDistance", Stub)
    images = np.zeros((2, 6, 8, 3), np.uint8) + np.uint8([10, 20, 30])
    seen = metrics.image_features(images, eye=f"inception:{weights}")
    assert seen.tolist() == [[10, 20, 30]] * 2
