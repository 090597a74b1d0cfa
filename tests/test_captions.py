"""What is measured from pixels, and the texts that decoders are trained on."""

import random

import numpy as np
import pytest

from dd.captions import CAPTION_MIXTURES, alt_text, alt_text_phrases, caption_mixture, pixel_words
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
    assert abs(share(lambda p: " ".join(p["name"])) - shares["name"]) < 0.06
    assert abs(share(lambda p: "") - shares["empty"]) < 0.05
    lengths = [len(t.split()) for t in texts]
    assert 12 < max(lengths) <= 30
    assert len(alt_text(phrases[0], 5).split()) == 5


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
