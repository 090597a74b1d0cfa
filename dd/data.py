"""Datasets: images with the words people gave them. Built in, a COCO file, or a folder.

    dataset = load_dataset("emoji")             # 12,799 drawings, 1,914 concepts in nine styles
    dataset = load_dataset("outside")           # 2,522 drawings that no decoder of the study saw
    dataset = load_dataset("annotations/captions_val2014.json", images="val2014", on_bad="skip")
    dataset = load_dataset("my_pictures/")      # captions.csv, captions.jsonl or metadata.jsonl

Knows nothing else of dd. Dimension letters: M images of a dataset, B batch, H = W = image size.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, UnidentifiedImageError

if TYPE_CHECKING:  # reading pandas takes a quarter of a second, and texts need no table
    import pandas as pd

ASSETS = Path(__file__).parent / "assets"
BUILT_IN = {name: ASSETS / name / f"{name}.parquet" for name in ("emoji", "outside")}
SPLITS = ("train", "val", "test", "novel")
CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.jsonl")  # of a folder of images


class BadData(ValueError):
    """Input that cannot be used; the message is one line: what, where, how to fix."""


@dataclass
class Dataset:
    """Images and people's words, row by row.

    `frame` has one row an image: id, split, name (main caption), captions (all of them), keywords,
    for the built-in ones also style and group, and for emoji concept and near."""

    name: str
    frame: pd.DataFrame
    images: np.ndarray  # (M, H, W, 3) uint8
    skipped: list[str] = field(default_factory=list)  # one line for each record left out
    _phrases: list | None = field(default=None, repr=False)  # kept by captions.alt_text_phrases
    _fingerprint: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.frame)

    def subset(self, split: str, n: int | None = None) -> Dataset:
        """The images of one split (or "all"); with n, n of them, by a fixed pseudo-random order."""
        splits = self.frame["split"]
        if split != "all" and split not in set(splits):
            held = sorted(set(splits))
            raise BadData(f"dataset {self.name!r} has no split {split!r}; it has {held}")
        rows = np.flatnonzero((splits == split) | (split == "all"))
        if n is not None and n < len(rows):
            rows = np.sort(sorted(rows, key=lambda i: stable_hash(self.frame["id"].iloc[i]))[:n])
        return self.rows(rows)

    def rows(self, rows: np.ndarray | list[int]) -> Dataset:
        """These images, in this order."""
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return Dataset(self.name, frame, self.images[rows], self.skipped)

    def pixels(self, rows=slice(None)) -> torch.Tensor:
        """float32 (B, 3, H, W) in [-1, 1], as diffusers' autoencoders take them."""
        return to_pixels(self.images[rows])

    def fingerprint(self) -> str:
        """Hash of the images and what people say of them, in order: stored beside every number."""
        if self._fingerprint is None:
            words = [list(self.frame["id"]), list(self.frame["name"])]
            words.append([list(k) for k in self.frame["keywords"]])
            content = json.dumps(words).encode() + self.images.tobytes()
            self._fingerprint = hashlib.sha256(content).hexdigest()[:12]
        return self._fingerprint


def stable_hash(text: str) -> int:
    """The same on every machine and run, unlike hash(): seeds per-image noise, orders subsets."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return pixels.float().div(127.5).sub(1).contiguous()


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3), by rounding."""
    levels = pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()


def square(image: Image.Image, size: int) -> Image.Image:
    """Any picture -> size x size RGB: laid on white, shorter side to `size`, centre crop."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image)
        image = canvas
    image = image.convert("RGB")
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.LANCZOS)
    return image.crop((left, top, left + size, top + size))


def load_dataset(
    source: str | Path = "emoji",
    images: str | Path | None = None,
    size: int = 64,
    on_bad: str = "stop",
    split: str = "test",
) -> Dataset:
    """Read a dataset.

    source   "emoji" or "outside"; a COCO captions file (.json); a folder with one of CAPTION_FILES,
             or that file
    images   folder of the image files; default: the folder of the captions file
    size     pixels per side; other images are resized (shorter side) and centre-cropped,
             transparent ones laid on white
    on_bad   "stop": raise BadData at the first bad record; "skip": leave it out and say so in
             `dataset.skipped`
    split    the split that images get when the file names none
    """
    if on_bad not in ("stop", "skip"):
        raise BadData(f"on_bad is {on_bad!r}; use 'skip' or 'stop'")
    if str(source) in BUILT_IN:
        return _load_built_in(str(source), size)
    path = Path(source)
    if path.is_dir():
        found = [path / name for name in CAPTION_FILES if (path / name).exists()]
        if not found:
            wanted = "captions.csv, captions.jsonl or metadata.jsonl"
            columns = "add one with columns file_name, text"
            raise BadData(f"{path}: no {wanted} in this folder; {columns}")
        path = found[0]
    if not path.exists():
        kinds = "'emoji', 'outside', a COCO .json file, or a folder with a captions file"
        raise BadData(f"{path}: no such dataset; use {kinds}")
    if path.suffix not in (".json", ".csv", ".jsonl"):
        suffix = path.suffix or "a file without suffix"
        raise BadData(f"{path}: cannot read {suffix}; use .json (COCO), .csv or .jsonl")
    import pandas as pd

    coco = path.suffix == ".json"
    records = _coco_records(path) if coco else _table_records(path)
    name, folder = path.stem if coco else path.parent.name, Path(images or path.parent)
    kept, pictures, skipped = {}, [], []
    for where, id, file_name, captions, own_split in records:
        captions = [c.strip() for c in captions if isinstance(c, str) and c.strip()]
        problem = None
        if id in kept:
            problem = f"duplicate id {id!r}; give every image its own"
        elif not captions:
            problem = f"empty caption for {file_name!r}; write one or remove the row"
        else:
            picture, problem = _open(folder / file_name, size)
        if problem and on_bad == "stop":
            raise BadData(f"{where}: {problem} (or use on_bad='skip')")
        if problem:
            skipped.append(f"{where}: {problem}")
            continue
        words = {"name": captions[0], "captions": captions, "keywords": captions[1:]}
        kept[id] = {"id": id, "split": own_split or split, **words}
        pictures.append(picture)
    if not kept:
        first = skipped[0] if skipped else "the file lists none"
        raise BadData(f"{path}: no usable image; first problem: {first}")
    return Dataset(name, pd.DataFrame(list(kept.values())), np.stack(pictures), skipped)


def _load_built_in(name: str, size: int) -> Dataset:
    path = BUILT_IN[name]
    if not path.exists():
        fix = f"fetch the whole repository or run tools/build_{name}.py"
        raise BadData(f"{path}: the built-in dataset is missing; {fix}")
    import pandas as pd

    frame = pd.read_parquet(path)
    pictures = [Image.open(io.BytesIO(b)).convert("RGB") for b in frame.pop("image")]
    frame["keywords"] = [list(k) for k in frame["keywords"]]
    frame["captions"] = [[n, *k] for n, k in zip(frame["name"], frame["keywords"])]
    return Dataset(name, frame, np.stack([np.asarray(square(p, size)) for p in pictures]))


def _open(file: Path, size: int) -> tuple[np.ndarray | None, str | None]:
    """-> (picture, None) or (None, what is wrong with the file)."""
    try:
        with Image.open(file) as opened:
            return np.asarray(square(opened, size)), None
    except FileNotFoundError:
        return None, f"missing image {file}; add it or remove the row"
    except (UnidentifiedImageError, OSError, ValueError) as error:
        kind = type(error).__name__
        return None, f"cannot decode image {file} ({kind}); replace it or remove the row"


def _coco_records(path: Path) -> list[tuple]:
    """-> [(where, id, file name, captions, None)]; `where` names file and row for messages."""
    try:
        data, captions = json.loads(path.read_text(encoding="utf-8")), {}
        for a in data["annotations"]:
            captions.setdefault(a["image_id"], []).append(a["caption"])
        return [
            (
                f"{path.name}, images[{i}]",
                str(r["id"]),
                r["file_name"],
                captions.get(r["id"], []),
                None,
            )
            for i, r in enumerate(data["images"])
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        needs = "it needs 'images' and 'annotations'"
        raise BadData(f"{path}: not a COCO captions file ({reason}); {needs}") from None


def _table_records(path: Path) -> list[tuple]:
    """The rows of a .csv or .jsonl file, as `_coco_records` gives them, with their own splits."""
    import pandas as pd

    csv = path.suffix == ".csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") if csv else []
    for i, line in enumerate([] if csv else path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (TypeError, ValueError) as error:
                raise BadData(f"{path}, line {i}: not JSON ({error}); one object a line") from None
    records = []
    for i, r in enumerate(rows, 2 if csv else 1):
        name = next((r[k] for k in ("file_name", "file", "image") if r.get(k)), None)
        text = next((r[k] for k in ("captions", "text", "caption") if r.get(k)), "")
        if name is None:
            needs = "it needs file_name and text (or captions)"
            raise BadData(f"{path}, row {i}: no file_name column; {needs}")
        captions = text if isinstance(text, list) else [text]
        where = f"{path.name}, row {i}"
        records.append((where, str(r.get("id") or name), name, captions, r.get("split") or None))
    return records


_RED, _BROWN, _GREEN, _DARK = (220, 40, 50), (125, 75, 45), (80, 165, 70), (60, 40, 20)
_HEART = (128, 220, 40, 120, 60, 60, 100, 50, 128, 85, 156, 50, 196, 60, 216, 120)
_DOODLES = (  # name, shape, corners on a sheet of 256 pixels, colour
    ("apple", "ellipse", (55, 70, 201, 220), _RED),
    ("apple", "rectangle", (122, 40, 134, 80), _BROWN),
    ("apple", "ellipse", (134, 40, 180, 62), _GREEN),
    ("blue heart", "polygon", _HEART, (50, 110, 210)),
    ("tricolour", "rectangle", (28, 70, 95, 186), (0, 60, 160)),
    ("tricolour", "rectangle", (95, 70, 162, 186), (245, 245, 245)),
    ("tricolour", "rectangle", (162, 70, 229, 186), _RED),
    ("house", "rectangle", (70, 120, 186, 220), (235, 195, 150)),
    ("house", "polygon", (50, 125, 128, 50, 206, 125), (200, 50, 40)),
    ("house", "rectangle", (112, 165, 144, 220), _BROWN),
    ("face", "ellipse", (40, 40, 216, 216), (255, 205, 60)),
    ("face", "ellipse", (85, 95, 110, 130), _DARK),
    ("face", "ellipse", (146, 95, 171, 130), _DARK),
    ("face", "chord", (85, 120, 171, 185), _DARK),
    ("fir", "polygon", (128, 30, 50, 190, 206, 190), (60, 150, 70)),
    ("fir", "rectangle", (114, 190, 142, 230), _BROWN),
)


def doodles() -> dict[str, np.ndarray]:
    """Six pictures that are of no emoji set, drawn here: name -> uint8 (64, 64, 3)."""
    sheets: dict[str, Image.Image] = {}
    for name, shape, corners, colour in _DOODLES:
        draw = ImageDraw.Draw(sheets.setdefault(name, Image.new("RGB", (256, 256), "white")))
        angles = (0, 180) if shape == "chord" else ()
        getattr(draw, shape)(corners, *angles, fill=colour)
    return {name: np.asarray(square(sheet, 64)) for name, sheet in sheets.items()}
