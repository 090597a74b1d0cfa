"""Decoders and encoders side by side on validation drawings, by features of several kinds.

    python tools/compare_on_validation.py sketch my-decoders/finished/sketch --guidance 2 3
    python tools/compare_on_validation.py sketch --encoders encoder my-encoder --guidance 2

Each decoder draws the alt text and the name of the same drawings, and what encoders write of them,
from the same noise. A decoder's autoencoder learnt from EfficientNet-Lite0's features and the study
judges by a cousin of it, Lite2: a gain must show by features that no network gives, too. For
choosing between decoders and between encoders; test drawings are never looked at. `--split train`
shows what a decoder draws of drawings that it was trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dd import texts
from dd.data import load_dataset
from dd.decoder import Decoder
from dd.encoder import Encoder
from dd.metrics import KID, IntraClassKID, frechet, image_features, paired_similarity, retrieval
from dd.search import SearchEngine

SOURCES = {"alt text": texts.full_alt_text, "names": texts.names}


def cells(values: np.ndarray, n: int) -> np.ndarray:
    """(M, H, W, c) -> (M, n n c): means over n x n cells of a picture."""
    M, H, W, c = values.shape
    return values.reshape(M, n, H // n, n, W // n, c).mean((2, 4)).reshape(M, -1)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """uint8 (M, H, W, 3) -> (M, 192): the picture at 8 x 8 pixels."""
    return cells(images / 255, 8)


def colours(images: np.ndarray) -> np.ndarray:
    """uint8 (M, H, W, 3) -> (M, 64): how much of a picture has each of 4 x 4 x 4 colours."""
    bins = (images // 64).astype(int) @ (16, 4, 1)  # (M, H, W)
    return cells(np.eye(64, dtype=np.float32)[bins], 1)


def gradients(images: np.ndarray) -> np.ndarray:
    """uint8 (M, H, W, 3) -> (M, 128): edge strength by eight directions in 4 x 4 cells, as HOG."""
    dy, dx = np.gradient(images.mean(-1) / 255, axis=(1, 2))  # (M, H, W)
    direction = ((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
    return cells(np.eye(8)[direction] * np.hypot(dx, dy)[..., None], 4)


FEATURES = {
    "Lite2": image_features,
    "Lite1": lambda images: image_features(images, net=1),
    "8 x 8 pixels": thumbnails,
    "colours": colours,
    "gradients": gradients,
}


def scores(real: dict, images: np.ndarray, styles: np.ndarray) -> dict:
    """Pictures uint8 (M, H, W, 3) against features of their originals -> a row of scores."""
    fake = {name: torch.as_tensor(of(images)).float() for name, of in FEATURES.items()}
    x, y = real["Lite2"], fake["Lite2"]
    row = {"KID": KID(x, y).value(), "KID in a style": IntraClassKID(x, y, styles, styles).value()}
    row["R@1 %"] = 100 * float(retrieval(x, y).mean())
    row["KID, Lite1"] = KID(real["Lite1"], fake["Lite1"]).value()
    for name in FEATURES:
        row[f"paired, {name}"] = float(paired_similarity(real[name], fake[name]).mean())
        if name[:4] != "Lite":
            row[f"Frechet, {name}"] = frechet(real[name], fake[name])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoders", nargs="+", help="shipped names or pipeline folders")
    parser.add_argument("--encoders", nargs="*", default=[], help="shipped names or folders")
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.0])
    parser.add_argument("--n", type=int, default=384, help="drawings")
    parser.add_argument("--split", choices=("val", "train"), default="val", help="default: val")
    parser.add_argument("--out", type=Path, help="CSV file to write the table to as well")
    options = parser.parse_args()
    drawings = load_dataset("emoji").subset(options.split, options.n)
    real = {name: torch.as_tensor(of(drawings.images)).float() for name, of in FEATURES.items()}
    ids, styles, rows = drawings.frame["id"].tolist(), drawings.frame["style"].to_numpy(), []
    said = {source: write(drawings) for source, write in SOURCES.items()}
    for name in options.encoders:
        encoder = Encoder.load(name)
        said[name] = encoder.write(drawings.pixels())
        print(*(f"{k}: {v}" for k, v in zip(drawings.frame["name"], said[name][:8])), sep="\n")
    shown = load_dataset("emoji").subset("train")
    engine, found = SearchEngine(shown), {}
    for source, written in said.items():
        hits = shown.frame.iloc[engine.find(written, ids)]
        found[source] = {
            f"first hit's {of} right %": 100 * float((hits[of].values == drawings.frame[of]).mean())
            for of in ("concept", "style")
        }
    for name in options.decoders:
        decoder = Decoder.load(name)
        for source, written in said.items():
            for guidance in options.guidance:
                images = decoder.draw(written, ids, guidance=guidance)
                row = dict(decoder=name, source=source, guidance=guidance, **found[source])
                rows.append(row | scores(real, images, styles))
                shown = {k: rows[-1][k] for k in ("KID", "KID in a style", "paired, Lite2")}
                print(name, source, guidance, shown, flush=True)
    table = pd.DataFrame(rows).round(4)
    print(table.T.to_string())
    if options.out:
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
