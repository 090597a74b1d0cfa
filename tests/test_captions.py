"""What is measured from pixels, and the texts that decoders are trained on."""

import random

import numpy as np
import pytest

from dd.captions import (
    CAPTION_MIXTURES,
    alt_text,
    alt_text_phrases,
    caption_mixture,
    mirrored,
    pixel_words,
    sentence,
)
from dd.data import doodles


def test_pixel_words_of_a_red_disc():
    y, x = np.mgrid[0:64, 0:64]
    image = np.full((64, 64, 3), 255, np.uint8)
    image[(y - 32) ** 2 + (x - 32) ** 2 < 400] = (220, 40, 50)
    found = pixel_words(image)
    assert found["colours"] == ["red"]
    assert {"even", "round", "symmetric", "plain"} <= set(found["shape"])
    assert pixel_words(np.full((64, 64, 3), 255, np.uint8))["shape"] == ["blank"]


@pytest.mark.parametrize("decoder", list(CAPTION_MIXTURES))
def test_mixture_is_mixed_and_short(small_dataset, decoder):
    phrases, rng = alt_text_phrases(small_dataset), random.Random(0)
    drawings = [phrases[i % len(phrases)] for i in range(600)]
    texts = [caption_mixture(p, rng, decoder) for p in drawings]
    share = lambda text: np.mean([t == text(p) for t, p in zip(texts, drawings)])
    shares = CAPTION_MIXTURES[decoder]
    assert abs(share(alt_text) - shares["alt"]) < 0.06
    names = share(lambda p: " ".join(p["name"]))  # a few of the other kinds are a name, too
    assert -0.04 < names - shares["name"] < 0.09
    assert abs(share(lambda p: "") - shares["empty"]) < 0.05
    lengths = [len(t.split()) for t in texts]
    assert 12 < max(lengths) <= 30
    assert len(alt_text(phrases[0], 5).split()) == 5


def test_sentences_are_people_s_and_name_the_thing(small_dataset):
    rng, phrases = random.Random(0), alt_text_phrases(small_dataset)
    said = [sentence(p, rng) for p in phrases for _ in range(3)]
    assert all(" ".join(p["name"][0].split()[:8]) in t for p, t in zip(np.repeat(phrases, 3), said))
    first = {t.split()[0] for t in said}
    assert {"a", "the"} <= first and any(t.startswith("a picture of ") for t in said)
    assert not any(t.startswith(("a apple", "an red")) for t in said)


def test_a_mirror_image_changes_sides_and_a_flag_has_none():
    apple = {"name": ["apple"], "keywords": ["fruit"], "regions": ["red left", "blue right"]}
    assert mirrored(apple) == {**apple, "regions": ["red right", "blue left"]}
    assert mirrored({**apple, "keywords": ["left"]}) is None
    assert mirrored({**apple, "name": ["flag italy"]}) is None


def test_doodles_are_what_they_are_called():
    """Pictures from outside the dataset, in its format: white paper, the colours meant."""
    pictures = doodles()
    assert len(pictures) == 6
    for picture in pictures.values():
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        assert (picture[0] > 250).all()
    main = {name: pixel_words(p)["colours"][0] for name, p in pictures.items()}
    wanted = {"apple": "red", "blue heart": "blue", "face": "yellow", "fir": "green"}
    assert wanted.items() <= main.items()


def test_the_kept_words_are_what_the_pixels_say(whole_dataset):
    from dd.captions import measured, pixel_words

    some = whole_dataset.rows(range(0, len(whole_dataset), 97))
    assert measured(some) == [pixel_words(image) for image in some.images]
