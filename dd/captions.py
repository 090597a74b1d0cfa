"""Alt text and the caption mixture: what web alt text would say of a drawing, measured from its pixels, and what decoders are trained on.

Web alt text says more than a caption; a decoder fed only names could not draw the rest.
"""

from __future__ import annotations

import random
import re

import numpy as np

from .data import Dataset

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


def words(text: str) -> list[str]:
    """Lower-case words and numbers: the unit in which texts are counted and compared."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("’", "").replace("'", ""))


def pixel_words(image: np.ndarray) -> dict[str, list[str]]:
    """Colour and shape words measured from one drawing, uint8 (H, W, 3) on white: {"colours", "regions", "shape"}.

    A rule, not a model: nearest named colour per pixel, thresholds on area, extent, symmetry and edges. The same for every image,
    so the words are as true of a drawing nobody has named as of one that people have."""
    H, W, _ = image.shape
    rgb = image.astype(np.float32)
    ink = (image < 246).any(2)
    if not ink.any():
        return {"colours": ["white"], "regions": [], "shape": ["blank"]}
    # the figure: ink, and paper that has ink on both sides in its row and in its column
    spans = [
        np.maximum.accumulate(ink, axis)
        & np.flip(np.maximum.accumulate(np.flip(ink, axis), axis), axis)
        for axis in (0, 1)
    ]
    figure = ink | (spans[0] & spans[1])
    weight = np.array([0.8, 1.0, 0.7], np.float32)
    prototypes = np.array(list(COLOURS.values()), np.float32) * weight  # (15, 3)
    nearest = ((rgb * weight) @ prototypes.T - (prototypes**2).sum(1) / 2).argmax(
        -1
    )  # (H, W) colour number: |x - p|^2 is least where x.p - |p|^2 / 2 is most
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
    regions = [
        f"{found[0]} {region}"
        for region in REGIONS
        if (found := main_colours(figure & boxes[region], 0.0))
    ]

    filled, area = figure[y0:y1, x0:x1].mean(), figure.mean()
    shape = ["tall" if height > 1.3 * width else "wide" if width > 1.3 * height else "even"]
    shape.append(
        "tiny"
        if area < 0.15
        else "small"
        if area < 0.3
        else "medium"
        if area < 0.5
        else "large"
        if area < 0.7
        else "huge"
    )
    shape.append(
        "boxy"
        if filled > 0.9
        else "round"
        if filled > 0.72
        else "angular"
        if filled > 0.5
        else "sparse"
    )
    mirror = abs(rgb[:, x0:x1] - rgb[:, x0:x1][:, ::-1]).mean()
    shape.append("symmetric" if mirror < 12 else "lopsided" if mirror > 45 else "balanced")
    light = rgb[figure].mean()
    shape.append("dark" if light < 110 else "bright" if light > 185 else "midtone")
    edges = (abs(np.diff(rgb.mean(2), axis=0)) > 30).mean() + (
        abs(np.diff(rgb.mean(2), axis=1)) > 30
    ).mean()
    shape.append("plain" if edges < 0.12 else "detailed" if edges > 0.3 else "simple")
    ring = figure & ~(
        np.roll(figure, 2, 0)
        & np.roll(figure, -2, 0)
        & np.roll(figure, 2, 1)
        & np.roll(figure, -2, 1)
    )
    if ring.any() and rgb[ring].mean() < 90:
        shape.append("bordered")
    return {"colours": main_colours(figure, 0.07)[:4], "regions": regions, "shape": shape}


def alt_text_parts(dataset: Dataset) -> list[dict[str, list[str]]]:
    """What web alt text could say of each image: {"name", "keywords", "style", "colours", "regions", "shape"}, lists of phrases.
    Measured from the pixels once per world and kept with it."""
    if dataset._alt_parts is not None:
        return dataset._alt_parts
    parts = []
    for row, image in zip(dataset.frame.to_dict("records"), dataset.images):
        style = STYLE_WORDS.get(row.get("style"), "").split()
        parts.append(
            {
                "name": [" ".join(words(row["name"]))],
                "keywords": [" ".join(words(k)) for k in row["keywords"]],
                "style": style,
                **pixel_words(image),
            }
        )
    dataset._alt_parts = parts
    return parts


def alt_text(part: dict[str, list[str]], limit: int = 30) -> str:
    """The whole alt text in a fixed order, at most `limit` words: the oracle row of the tables."""
    phrases = [
        *part["name"],
        *part["style"],
        *part["colours"],
        *part["regions"],
        *part["shape"],
        *part["keywords"],
    ]
    return " ".join(" ".join(phrases).split()[:limit])


# Shares of a decoder's training texts: nothing (condition dropout, for guidance), the name, name + keywords, the whole alt text; the
# rest are bags of alt-text phrases, of which a share has its phrases shuffled, and of those bags a share every word.
CAPTION_MIXTURES = {
    "sketch": {
        "empty": 0.10,
        "name": 0.12,
        "named": 0.13,
        "alt": 0.12,
        "phrases": 0.6,
        "words": 0.25,
    },
    "judge-a": {
        "empty": 0.10,
        "name": 0.20,
        "named": 0.30,
        "alt": 0.15,
        "phrases": 0.3,
        "words": 0.0,
    },  # people's words first
    "judge-b": {
        "empty": 0.10,
        "name": 0.15,
        "named": 0.20,
        "alt": 0.05,
        "phrases": 1.0,
        "words": 1.0,
    },
}  # tags: loose words in any order


def caption_mixture(part: dict[str, list[str]], rng: random.Random, decoder: str = "sketch") -> str:
    """One training text for a decoder: nothing, a name, name + keywords, or a bag of alt-text phrases, often shuffled.

    Mixed on purpose: people's captions, the full alt text and short shuffled lists of words must all be in distribution, because
    all of them will be drawn."""
    draw, shares = rng.random(), CAPTION_MIXTURES[decoder]
    if (draw := draw - shares["empty"]) < 0:
        return ""
    if (draw := draw - shares["name"]) < 0:
        return " ".join(part["name"])
    keywords = [k for k in part["keywords"] if k]
    if (draw := draw - shares["named"]) < 0:
        return " ".join(
            [*part["name"], *rng.sample(keywords, rng.randint(0, min(8, len(keywords))))]
        )
    if draw < shares["alt"]:
        return alt_text(part)
    phrases = [*(part["name"] if rng.random() < 0.8 else [])]
    for kind, keep in (("style", 0.6), ("colours", 0.6), ("regions", 0.5), ("shape", 0.5)):
        phrases += [p for p in part[kind] if rng.random() < keep]
    phrases += rng.sample(keywords, rng.randint(0, min(4, len(keywords))))
    if rng.random() < shares["phrases"]:
        rng.shuffle(phrases)
    tokens = " ".join(phrases).split()
    if rng.random() < shares["words"]:
        rng.shuffle(tokens)
    return " ".join(tokens[:30])
