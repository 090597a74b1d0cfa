"""Alt text and the caption mixture: what web alt text would say of a drawing, measured from its
pixels, and the texts that decoders are trained on.

Web alt text says more than a caption; a decoder trained on names alone could not draw the rest.
"""

import random
import re
from bisect import bisect_left, bisect_right

import numpy as np

from .data import BUILT_IN, Dataset

MEASURED = BUILT_IN["emoji"].with_name("measured.parquet")

STYLE_WORDS = {
    "noto": "noto soft shaded",
    "noto-v1": "blob vintage noto",
    "twemoji": "twemoji flat bold",
    "openmoji": "openmoji outlined line",
    "fluent-3d": "fluent 3d glossy",
    "fluent-flat": "fluent flat geometric",
    "emojione": "emojione clean flat",
    "emojione-v1": "emojione vintage shaded",
    "fxemoji": "firefox flat rounded",
}
COLOURS = {
    "red": (220, 40, 50),
    "orange": (245, 140, 40),
    "yellow": (255, 205, 60),
    "green": (80, 165, 70),
    "teal": (50, 180, 180),
    "blue": (50, 110, 210),
    "sky": (135, 205, 245),
    "purple": (140, 75, 180),
    "pink": (245, 130, 180),
    "brown": (125, 75, 45),
    "tan": (235, 195, 150),
    "black": (30, 30, 35),
    "gray": (130, 140, 145),
    "silver": (200, 208, 212),
    "white": (252, 252, 252),
}
REGIONS = ("top", "bottom", "left", "right", "middle")
SIZES = ("tiny", "small", "medium", "large", "huge")  # by the share of the sheet that is covered
OUTLINES = ("sparse", "angular", "round", "boxy")  # by the share of the bounding box
ORDER = ("name", "style", "colours", "regions", "shape", "keywords")  # of the phrases of alt text

# Shares of a network's training texts. empty: nothing (condition dropout, for guidance), name: the
# name, named: name and keywords, sentence: an ordinary sentence, alt: the whole alt text. The rest
# are bags of alt-text phrases; phrases: share of the bags whose phrases are shuffled, words: share
# whose words are. `similarity` is the baselines' image-text similarity, the others are decoders.
_SHARES = ("empty", "name", "named", "sentence", "alt", "phrases", "words")
CAPTION_MIXTURES = {
    name: dict(zip(_SHARES, shares))
    for name, shares in {
        "sketch": (0.1, 0.10, 0.10, 0.15, 0.12, 0.6, 0.25),
        "judge-a": (0.1, 0.15, 0.20, 0.25, 0.15, 0.3, 0.0),
        "judge-b": (0.1, 0.12, 0.15, 0.10, 0.05, 1.0, 1.0),
        "similarity": (0.1, 0.12, 0.13, 0.00, 0.12, 0.6, 0.25),
    }.items()
}


def words(text: str) -> list[str]:
    """Lower-case words and numbers: the unit in which texts are counted and compared."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("’", "").replace("'", ""))


def pixel_words(image: np.ndarray) -> dict[str, list[str]]:
    """Colour and shape words measured from one drawing, uint8 (H, W, 3) on white.

    A rule, not a model: nearest named colour per pixel, thresholds on area, extent, symmetry and
    edges. The same for every image, so the words are as true of a drawing without a name as of one
    with it. -> {"colours", "regions", "shape"}: lists of phrases."""
    H, W, _ = image.shape
    rgb, ink = image.astype(np.float32), (image < 246).any(2)
    if not ink.any():
        return {"colours": ["white"], "regions": [], "shape": ["blank"]}
    # the figure: ink, and paper that has ink on both sides in its row and in its column
    before = lambda mask, axis: np.maximum.accumulate(mask, axis)
    after = lambda mask, axis: np.flip(before(np.flip(mask, axis), axis), axis)
    rows, columns = (before(ink, axis) & after(ink, axis) for axis in (0, 1))
    figure = ink | (rows & columns)
    weight = np.array([0.8, 1.0, 0.7], np.float32)
    prototypes = np.array(list(COLOURS.values()), np.float32) * weight  # (15, 3)
    # (H, W) number of the nearest colour: |x - p|^2 is least where x.p - |p|^2 / 2 is most
    nearest = ((rgb * weight) @ prototypes.T - (prototypes**2).sum(1) / 2).argmax(-1)
    names = list(COLOURS)

    def main_colours(mask, least):
        counts = np.bincount(nearest[mask], minlength=len(names)) / max(1, mask.sum())
        return [names[i] for i in counts.argsort()[::-1] if counts[i] >= least]

    ys, xs = np.nonzero(figure)
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    height, width = y1 - y0, x1 - x0
    yy, xx = np.mgrid[0:H, 0:W]
    boxes = {
        "top": yy < y0 + height / 3,
        "bottom": yy >= y1 - height / 3,
        "left": xx < x0 + width / 3,
        "right": xx >= x1 - width / 3,
        "middle": (abs(yy - (y0 + y1) / 2) < height / 6) & (abs(xx - (x0 + x1) / 2) < width / 6),
    }
    found = {region: main_colours(figure & boxes[region], 0.0) for region in REGIONS}

    mirror = abs(rgb[:, x0:x1] - rgb[:, x0:x1][:, ::-1]).mean()
    light, grey = rgb[figure].mean(), rgb.mean(2)
    edges = sum((abs(np.diff(grey, axis=axis)) > 30).mean() for axis in (0, 1))
    inner = np.logical_and.reduce([np.roll(figure, by, axis) for axis in (0, 1) for by in (2, -2)])
    ring = figure & ~inner
    shape = [
        "tall" if height > 1.3 * width else "wide" if width > 1.3 * height else "even",
        SIZES[bisect_right((0.15, 0.3, 0.5, 0.7), figure.mean())],
        OUTLINES[bisect_left((0.5, 0.72, 0.9), figure[y0:y1, x0:x1].mean())],
        "symmetric" if mirror < 12 else "lopsided" if mirror > 45 else "balanced",
        "dark" if light < 110 else "bright" if light > 185 else "midtone",
        "plain" if edges < 0.12 else "detailed" if edges > 0.3 else "simple",
        *(["bordered"] if ring.any() and rgb[ring].mean() < 90 else []),
    ]
    regions = [f"{colours[0]} {region}" for region, colours in found.items() if colours]
    return {"colours": main_colours(figure, 0.07)[:4], "regions": regions, "shape": shape}


def measured(dataset: Dataset) -> list[dict[str, list[str]]]:
    """`pixel_words` of every image; of the built-in drawings, in whichever size they are shown,
    read from a file, which takes a hundredth of the time (tools/build_emoji.py writes it,
    tests/test_captions.py compares)."""
    if dataset.name != "emoji" or not MEASURED.exists():
        return [pixel_words(image) for image in dataset.images]
    import pandas as pd

    table = pd.read_parquet(MEASURED).set_index("id").loc[dataset.frame["id"]]
    split = lambda joined: joined.split("|") if joined else []
    return [{kind: split(row[kind]) for kind in table} for row in table.to_dict("records")]


def alt_text_phrases(dataset: Dataset) -> list[dict[str, list[str]]]:
    """What web alt text could say of each image: kinds of ORDER -> lists of phrases.

    Measured from the pixels once per dataset and kept with it."""
    if dataset._phrases is None:
        rows = dataset.frame.to_dict("records")
        dataset._phrases = [
            {
                "name": [" ".join(words(row["name"]))],
                "keywords": [" ".join(words(k)) for k in row["keywords"]],
                "style": STYLE_WORDS.get(row.get("style"), "").split(),
                **of_pixels,
            }
            for row, of_pixels in zip(rows, measured(dataset))
        ]
    return dataset._phrases


def alt_text(phrases: dict[str, list[str]], limit: int = 30) -> str:
    """The whole alt text in a fixed order, at most `limit` words: the oracle row of the tables."""
    return " ".join(" ".join(p for kind in ORDER for p in phrases[kind]).split()[:limit])


def mirrored(phrases: dict[str, list[str]]) -> dict[str, list[str]] | None:
    """The phrases of a drawing's mirror image; None if that would be another thing: flags, arrows,
    signs and what people call left or right."""
    oriented = {"left", "right", "flag", "arrow", "symbol", "sign", "letter", "button", "clock"}
    if oriented & set(" ".join([*phrases["name"], *phrases["keywords"]]).split()):
        return None
    other = {"left": "right", "right": "left"}
    swap = lambda phrase: " ".join(other.get(word, word) for word in phrase.split())
    return {**phrases, "regions": [swap(region) for region in phrases["regions"]]}


def sentence(phrases: dict[str, list[str]], rng: random.Random) -> str:
    """An ordinary sentence of a drawing, as people caption pictures: "a picture of a red apple"."""
    thing, keywords = " ".join(phrases["name"]), [k for k in phrases["keywords"] if k]
    if phrases["colours"] and rng.random() < 0.25:
        thing = f"{phrases['colours'][0]} {thing}"
    article = "an" if thing[:1] in "aeiou" else "a"
    starts = ("", "", "", "", "a picture of ", "a drawing of ", "an emoji of ", "an icon of ")
    text = f"{rng.choice(starts)}{rng.choice((article, article, 'the', ''))} {thing}"
    if keywords and rng.random() < 0.4:
        text += f" {rng.choice(('with', 'and', 'in', 'on'))} {rng.choice(keywords)}"
    if phrases["style"] and rng.random() < 0.25:
        text += f" in {' '.join(phrases['style'])} style"
    return " ".join(text.split()[:30])


def caption_mixture(phrases: dict[str, list[str]], rng: random.Random, mixture: str) -> str:
    """One training text from the phrases of one drawing and the shares of a mixture above.

    Mixed on purpose: people's captions, the full alt text and short shuffled lists of words must
    all be in distribution, because all of them will be drawn."""
    draw, shares = rng.random(), CAPTION_MIXTURES[mixture]
    if (draw := draw - shares["empty"]) < 0:
        return ""
    if (draw := draw - shares["name"]) < 0:
        return " ".join(phrases["name"])
    keywords = [k for k in phrases["keywords"] if k]
    some = lambda most: rng.sample(keywords, rng.randint(0, min(most, len(keywords))))
    if (draw := draw - shares["named"]) < 0:
        return " ".join([*phrases["name"], *some(8)])
    if (draw := draw - shares["sentence"]) < 0:
        return sentence(phrases, rng)
    if draw < shares["alt"]:
        return alt_text(phrases)
    bag = list(phrases["name"]) if rng.random() < 0.8 else []
    for kind, keep in (("style", 0.6), ("colours", 0.6), ("regions", 0.5), ("shape", 0.5)):
        bag += [p for p in phrases[kind] if rng.random() < keep]
    bag += some(4)
    if rng.random() < shares["phrases"]:
        rng.shuffle(bag)
    tokens = " ".join(bag).split()
    if rng.random() < shares["words"]:
        rng.shuffle(tokens)
    return " ".join(tokens[:30])
