"""Why a picture's text says what it says, and what each of its words is worth: for one picture.

    found = explained(encoder, decoder, image, id, centre)
    figure(found, study.path("figures/texts_explained"), "carrot (twemoji/1f955)")

Attention says where a position looked, not why it wrote its word; what a word is worth is measured
by leaving it out. Letters: N written tokens, P image patches, K starting noises.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from . import figures, metrics
from .data import to_pixels
from .encoder import Pooler
from .runtime import device
from .sources import LITE2
from .vocab import to_strings

ACROSS = 8  # positions side by side


class Explained(NamedTuple):
    image: np.ndarray  # uint8 (H, W, 3)
    text: str
    words: list[str]  # N
    attention: np.ndarray  # (N, P), rows sum to 1
    drawn: np.ndarray  # uint8 (N + 1, H, W, 3): from the text, then from it without each word
    paired: np.ndarray  # (N + 1, K): their paired similarity to the picture, from each noise
    decoder: str

    @property
    def whole(self) -> float:
        """Paired similarity of the text's drawing, mean over noises."""
        return float(self.paired[0].mean())

    def table(self) -> pd.DataFrame:
        """A row a position: its word, the paired similarity that it adds (with it minus without
        it; mean over starting noises), and half of that mean's 95 % interval."""
        adds = map(metrics.mean_half, torch.from_numpy(self.paired[0] - self.paired[1:]))
        table = pd.DataFrame(adds, columns=["adds", "half"])
        table.insert(0, "word", self.words)
        table.insert(0, "position", range(1, len(table) + 1))
        return table


@torch.no_grad()
def attention(pooler: Pooler, patches: torch.Tensor) -> torch.Tensor:
    """patches (B, P, F) -> (B, blocks, N, P): each block's cross-attention from positions to
    patches, mean over its heads; rows sum to 1."""
    maps = []
    look = lambda net, args, _: maps.append(net.forward(*args, need_weights=True)[1])
    hooks = [block.cross_attention.register_forward_hook(look) for block in pooler.layers]
    try:
        pooler(patches.to(device()).float())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps, 1).float().cpu()


def explained(
    encoder,
    decoder,
    image: np.ndarray,
    id: str,
    centre: torch.Tensor,
    noises=8,
    *,
    eye=LITE2,
    **drawing,
) -> Explained:
    """image uint8 (H, W, 3) -> its text, where each position looked (mean over blocks), and the
    drawings with and without each word. id: of the starting noise; centre (D,): the mean image
    features, by `eye`, that paired similarity subtracts; drawing: options of Decoder.draw."""
    patches, seed = encoder.features(to_pixels(image[None])), drawing.pop("seed", 0)
    ids, tokenizer = encoder.ids(patches), encoder.tokenizer  # (1, N)
    N = ids.shape[1]
    without = torch.stack([torch.cat([ids[0, :k], ids[0, k + 1 :]]) for k in range(N)])
    texts = to_strings(tokenizer, ids) + to_strings(tokenizer, without)
    real, pictures, paired = metrics.image_features(image[None], eye=eye), [], []
    for noise in range(seed, seed + noises):
        pictures.append(decoder.draw(texts, [id] * len(texts), seed=noise, **drawing))
        features = metrics.image_features(pictures[-1], eye=eye)
        paired.append(metrics.paired_similarity(real, features, centre).numpy())
    seen = attention(encoder.pooler, patches).mean(1)[0].numpy()
    words, paired = to_strings(tokenizer, ids[0, :, None]), np.stack(paired, 1)
    return Explained(image, texts[0], words, seen, pictures[0], paired, decoder.name)


def figure(found: Explained, path: str | Path, name: str = "") -> Path:
    """Original, text and drawing, and the drawing without the word that matters most, for good or
    ill; for each position what it looked at, what is drawn without its word, and the paired
    similarity that the word adds. `path` as in figures.save."""
    table, N = found.table(), len(found.words)
    bands, best = -(-N // ACROSS), int(table["adds"].abs().argmax())
    heights = [1.25, *[1, 1] * bands, 1.3]
    with figures.style():
        made = Figure(figsize=(ACROSS * 0.95, sum(heights) * 1.02), layout="constrained")
        grid = made.add_gridspec(len(heights), ACROSS, height_ratios=heights)

        def cell(row: int, column: int, picture, title: str = "", below: str = ""):
            axis = made.add_subplot(grid[row, column])
            figures.bare(axis)
            axis.set_xlabel(below, fontsize=6.5)
            axis.set_title(figures.fill(title, 16), fontsize=6.5, pad=2)
            axis.imshow(picture)
            return axis

        least = f"without {found.words[best]!r}"
        cell(0, 0, found.image, "original")
        like = [f"similarity {found.paired[k].mean():.3f}" for k in (0, best + 1)]
        cell(0, 1, found.drawn[0], f"from the text, {found.decoder}", like[0])
        cell(0, 2, found.drawn[best + 1], least, like[1])
        told = made.add_subplot(grid[0, 3:])
        told.axis("off")
        text = figures.fill(name, 60) + "\n\n" + figures.fill(found.text, 52)
        told.text(0.02, 0.5, text, fontsize=7.5, va="center", transform=told.transAxes)
        for k, (word, adds, half) in enumerate(zip(found.words, table["adds"], table["half"])):
            band, column = 1 + 2 * (k // ACROSS), k % ACROSS
            seen = looked_at(found.image, found.attention[k])
            looked = cell(band, column, seen, f"{k + 1} {word}")
            left = cell(band + 1, column, found.drawn[k + 1], "", f"{adds:+.3f} ± {half:.3f}")
            if not column:
                looked.set_ylabel("looked at", fontsize=6.5)
                left.set_ylabel("without it;\nit adds", fontsize=6.5)
        bars = made.add_subplot(grid[-1, :])
        colours = [figures.COLOURS[k == best] for k in range(N)]
        error = {"elinewidth": 0.8, "ecolor": "#333333", "capsize": 2}
        bars.bar(range(N), table["adds"], yerr=table["half"], color=colours, error_kw=error)
        labels = [f"{k} {word}" for k, word in enumerate(found.words, 1)]
        bars.set_xticks(range(N), labels, rotation=45, ha="right")
        bars.set_ylabel("paired similarity\nthat the word adds")
        bars.axhline(0, color="#333333", linewidth=0.6)
        return figures.save(made, path)


def looked_at(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), attention (P,) over a square of patches -> the picture in pale grey, red
    where it was looked at; the reddest patch is the one that was looked at most."""
    H, W, side = *image.shape[:2], int(len(weights) ** 0.5)
    square = Image.fromarray((weights / weights.max()).reshape(side, side).astype(np.float32))
    red = np.asarray(square.resize((W, H), Image.BILINEAR))[..., None]  # (H, W, 1)
    pale = 120 + 0.5 * image.mean(-1, keepdims=True)
    return (pale * (1 - 0.75 * red) + np.array([200, 30, 20]) * 0.75 * red).astype(np.uint8)
