"""Worlds: collections of images with the words people gave them. The built-in emoji world, a COCO file, or a folder.

    world = load_world("emoji")                        # 12,799 drawings, nine styles of 1,914 concepts, four splits
    world = load_world("annotations/captions_val2014.json", images="val2014", on_bad="skip")
    world = load_world("my_pictures/")                 # holds captions.csv, captions.jsonl or metadata.jsonl

Knows nothing else of dd. Dimension letters: M images in a world, B batch, H = W = image size in pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

EMOJI = Path(__file__).parent / "assets" / "emoji" / "emoji.parquet"
SPLITS = ("train", "val", "test", "novel")


class BadData(ValueError):
    """Input that cannot be used; the message is one line: what, where, how to fix."""


@dataclass
class Dataset:
    """Images and people's words. `frame` has one row an image: id, split, name (main caption), captions (all of them), and for
    emoji also concept, style, group, keywords, near. `images` is uint8 (M, H, W, 3), row by row with `frame`."""

    name: str
    frame: pd.DataFrame
    images: np.ndarray  # (M, H, W, 3) uint8
    skipped: list[str] = field(default_factory=list)  # one line for each record left out
    _alt_parts: list | None = field(default=None, repr=False)
    _fingerprint: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.frame)

    def subset(self, split: str, n: int | None = None) -> Dataset:
        """The images of one split (or "all"); with n, the first n in a fixed pseudo-random order."""
        if split != "all" and split not in set(self.frame["split"]):
            raise BadData(
                f"world {self.name!r} has no split {split!r}; it has {sorted(set(self.frame['split']))}"
            )
        rows = (
            np.arange(len(self.frame))
            if split == "all"
            else np.flatnonzero(self.frame["split"] == split)
        )
        if n is not None and n < len(rows):
            rows = np.sort(sorted(rows, key=lambda i: stable_hash(self.frame["id"].iloc[i]))[:n])
        return Dataset(
            self.name, self.frame.iloc[rows].reset_index(drop=True), self.images[rows], self.skipped
        )

    def pixels(self, rows=slice(None)) -> torch.Tensor:
        """float32 (B, 3, H, W) in [-1, 1], as diffusers' autoencoders take them."""
        return to_pixels(self.images[rows])

    def fingerprint(self) -> str:
        """Hash of the images and what people say of them, in order: recorded beside every number."""
        if self._fingerprint is None:
            said = json.dumps(
                [
                    list(self.frame["id"]),
                    list(self.frame["name"]),
                    [list(k) for k in self.frame["keywords"]],
                ]
            )
            self._fingerprint = hashlib.sha256(said.encode() + self.images.tobytes()).hexdigest()[
                :12
            ]
        return self._fingerprint


def stable_hash(text: str) -> int:
    """The same on every machine and run, unlike hash(): seeds per-image noise and orders subsets."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    return (
        torch.from_numpy(np.ascontiguousarray(images))
        .permute(0, 3, 1, 2)
        .float()
        .div(127.5)
        .sub(1)
        .contiguous()
    )


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3), by rounding: real and generated images pass the same door."""
    return (
        pixels.float()
        .add(1)
        .mul(127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .cpu()
        .numpy()
    )


def load_dataset(
    source: str | Path = "emoji",
    images: str | Path | None = None,
    size: int = 64,
    on_bad: str = "stop",
    split: str = "test",
) -> Dataset:
    """Read a world.

    source   "emoji"; a COCO captions file (.json); a folder with captions.csv, captions.jsonl or metadata.jsonl (or that file)
    images   folder of the image files of a COCO file; default: the folder of the annotation file
    size     pixels per side; other images are resized (shorter side) and centre-cropped, transparent ones laid on white
    on_bad   "stop": raise BadData at the first bad record; "skip": leave it out and say so in `world.skipped`
    split    the split that images of a COCO file or folder get when the file names none
    """
    if on_bad not in ("stop", "skip"):
        raise BadData(f"on_bad is {on_bad!r}; use 'skip' or 'stop'")
    if str(source) == "emoji":
        return _load_emoji(size)
    path = Path(source)
    if path.is_dir():
        found = [
            path / n
            for n in ("captions.csv", "captions.jsonl", "metadata.jsonl")
            if (path / n).exists()
        ]
        if not found:
            raise BadData(
                f"{path}: no captions.csv, captions.jsonl or metadata.jsonl in this folder; add one with columns file_name, text"
            )
        path = found[0]
    if not path.exists():
        raise BadData(
            f"{path}: no such world; use 'emoji', a COCO .json file, or a folder with a captions file"
        )
    if path.suffix not in (".json", ".csv", ".jsonl"):
        raise BadData(
            f"{path}: cannot read {path.suffix or 'a file without suffix'}; use .json (COCO), .csv or .jsonl"
        )
    return _collect(
        path, *_records(path, Path(images) if images else path.parent), size, on_bad, split
    )


def _load_emoji(size: int) -> Dataset:
    if not EMOJI.exists():
        raise BadData(
            f"{EMOJI}: the built-in world is missing; fetch the whole repository or run tools/build_emoji.py"
        )
    import pandas as pd

    frame = pd.read_parquet(EMOJI)
    pictures = [Image.open(io.BytesIO(b)).convert("RGB") for b in frame.pop("image")]
    frame["keywords"] = [list(k) for k in frame["keywords"]]
    frame["captions"] = [
        [name, *keywords] for name, keywords in zip(frame["name"], frame["keywords"])
    ]
    return Dataset("emoji", frame, np.stack([np.asarray(square(p, size)) for p in pictures]))


def square(image: Image.Image, size: int) -> Image.Image:
    """Any picture -> size x size RGB: transparency on white, shorter side to `size`, centre crop, antialiased."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image)
        image = canvas
    image = image.convert("RGB")
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    image = image.resize(
        (max(size, round(image.width * scale)), max(size, round(image.height * scale))),
        Image.LANCZOS,
    )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _records(path: Path, folder: Path):
    """-> (world name, folder, [(where, id, file name, captions, split)]); `where` names file and row for messages."""
    if path.suffix == ".json":
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            captions: dict = {}
            for a in data["annotations"]:
                captions.setdefault(a["image_id"], []).append(a["caption"])
            rows = [
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
            raise BadData(
                f"{path}: not a COCO captions file ({type(error).__name__}: {error}); it needs 'images' and 'annotations'"
            ) from None
        return path.stem, folder, rows
    if path.suffix == ".csv":
        import pandas as pd

        table = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    else:
        table = []
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    table.append(dict(json.loads(line)))
                except (json.JSONDecodeError, TypeError, ValueError) as error:
                    raise BadData(
                        f"{path}, line {i}: not JSON ({error}); one object a line"
                    ) from None
    rows = []
    for i, r in enumerate(table, 2 if path.suffix == ".csv" else 1):
        name = next((r[k] for k in ("file_name", "file", "image") if r.get(k)), None)
        text = next((r[k] for k in ("captions", "text", "caption") if r.get(k)), "")
        if name is None:
            raise BadData(
                f"{path}, row {i}: no file_name column; it needs file_name and text (or captions)"
            )
        rows.append(
            (
                f"{path.name}, row {i}",
                str(r.get("id") or name),
                name,
                text if isinstance(text, list) else [text],
                r.get("split") or None,
            )
        )
    return path.parent.name, folder, rows


def _collect(
    path: Path, name: str, folder: Path, rows: list, size: int, on_bad: str, split: str
) -> Dataset:
    import pandas as pd

    kept, images, seen, skipped = [], [], set(), []
    for where, id, file_name, captions, own_split in rows:
        captions = [c.strip() for c in captions if isinstance(c, str) and c.strip()]
        problem, picture = None, None
        if id in seen:
            problem = f"duplicate id {id!r}; give every image its own"
        elif not captions:
            problem = f"empty caption for {file_name!r}; write one or remove the row"
        else:
            try:
                with Image.open(folder / file_name) as opened:
                    picture = square(opened, size)
            except FileNotFoundError:
                problem = f"missing image {folder / file_name}; add it or remove the row"
            except (UnidentifiedImageError, OSError, ValueError) as error:
                problem = f"cannot decode image {folder / file_name} ({type(error).__name__}); replace it or remove the row"
        if problem:
            if on_bad == "stop":
                raise BadData(f"{where}: {problem} (or use on_bad='skip')")
            skipped.append(f"{where}: {problem}")
            continue
        seen.add(id)
        kept.append(
            dict(
                id=id,
                split=own_split or split,
                name=captions[0],
                captions=captions,
                keywords=captions[1:],
            )
        )
        images.append(np.asarray(picture))
    if not kept:
        raise BadData(
            f"{path}: no usable image; first problem: {skipped[0] if skipped else 'the file lists none'}"
        )
    return Dataset(name, pd.DataFrame(kept), np.stack(images), skipped)


def doodles() -> dict[str, np.ndarray]:
    """Six pictures that are of no emoji set, drawn here from circles and polygons: name -> uint8 (64, 64, 3)."""
    from PIL import ImageDraw

    shapes = {
        "apple": [
            ("ellipse", (55, 70, 201, 220), (220, 40, 50)),
            ("rectangle", (122, 40, 134, 80), (125, 75, 45)),
            ("ellipse", (134, 40, 180, 62), (80, 165, 70)),
        ],
        "blue heart": [
            (
                "polygon",
                (128, 220, 40, 120, 60, 60, 100, 50, 128, 85, 156, 50, 196, 60, 216, 120),
                (50, 110, 210),
            )
        ],
        "tricolour": [
            ("rectangle", (28 + 67 * i, 70, 95 + 67 * i, 186), c)
            for i, c in enumerate([(0, 60, 160), (245, 245, 245), (220, 40, 50)])
        ],
        "house": [
            ("rectangle", (70, 120, 186, 220), (235, 195, 150)),
            ("polygon", (50, 125, 128, 50, 206, 125), (200, 50, 40)),
            ("rectangle", (112, 165, 144, 220), (125, 75, 45)),
        ],
        "face": [
            ("ellipse", (40, 40, 216, 216), (255, 205, 60)),
            ("ellipse", (85, 95, 110, 130), (60, 40, 20)),
            ("ellipse", (146, 95, 171, 130), (60, 40, 20)),
            ("chord", (85, 120, 171, 185), (60, 40, 20)),
        ],
        "fir": [
            ("polygon", (128, 30, 50, 190, 206, 190), (60, 150, 70)),
            ("rectangle", (114, 190, 142, 230), (125, 75, 45)),
        ],
    }
    out = {}
    for name, parts in shapes.items():
        picture = Image.new("RGB", (256, 256), "white")
        for kind, corners, colour in parts:
            getattr(ImageDraw.Draw(picture), kind)(
                corners, *((0, 180) if kind == "chord" else ()), fill=colour
            )
        out[name] = np.asarray(square(picture, 64))
    return out


# ---------------------------------------------------------------------------------------------------------------------------
# Alt text: the decoder's diet. Web alt text says more than a caption; a decoder fed only names could not draw the rest.
