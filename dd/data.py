"""Datasets: images with the words people gave them. Built in, a COCO file, or a folder.

    dataset = load_dataset("emoji")             # 12,799 drawings, 1,914 concepts in nine styles
    dataset = load_dataset("outside")           # 2,522 drawings that no decoder of the study saw
    dataset = load_dataset("annotations/captions_val2014.json", images="val2014", on_bad="skip")
    dataset = load_dataset("my_pictures/")      # with a captions file or a text beside each picture

Other people's files are read by dd/reading.py and dd/records.py. Dimension letters: M images of a
dataset, B batch, H = W = image size.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from . import records
from .files import require_memory
from .messages import nearest
from .reading import Bad, BadData, inside, read_picture, shown, square

if TYPE_CHECKING:  # reading pandas takes a quarter of a second, and texts need no table
    import pandas as pd

ASSETS = Path(__file__).parent / "assets"
BUILT_IN = {name: ASSETS / name / f"{name}.parquet" for name in ("emoji", "outside")}
SIZE = 64  # pixels per side of the built-in drawings, and of what the shipped networks see and draw
IN_MEMORY = 2**30  # bytes of pictures that a data set of files holds; more stay on disk


@dataclass
class Dataset:
    """Images and people's words, row by row.

    `frame` has one row an image: id, split, name (main caption), captions (all of them), keywords,
    for the built-in ones also style and group, and for emoji concept and near."""

    name: str
    frame: pd.DataFrame
    images: np.ndarray | Pictures  # (M, H, W, 3) uint8
    skipped: list[str] = field(default_factory=list)  # one line for each record left out
    notes: list[str] = field(default_factory=list)  # what reading decided for the user
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
            rows = sorted(rows, key=lambda i: stable_hash(self.frame["id"].iloc[i]))
            rows = np.sort(np.array(rows[:n], int))
        return self.rows(rows)

    def rows(self, rows: np.ndarray | list[int]) -> Dataset:
        """These images, in this order."""
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return Dataset(self.name, frame, self.images[rows], self.skipped, self.notes)

    @property
    def styles(self) -> np.ndarray | None:
        """(M,) the style that each is drawn in; None where they are of none."""
        return self.frame["style"].to_numpy() if "style" in self.frame else None

    def pixels(self, rows=slice(None)) -> torch.Tensor:
        """float32 (B, 3, H, W) in [-1, 1], as diffusers' autoencoders take them."""
        return to_pixels(self.images[rows][:])

    def fingerprint(self) -> str:
        """Hash of the images and what people say of them, in order: stored beside every number."""
        if self._fingerprint is None:
            words = [list(self.frame["id"]), list(self.frame["name"])]
            words.append([list(k) for k in self.frame["keywords"]])
            content = hashlib.sha256(json.dumps(words).encode())
            for i in range(0, len(self), 256):
                content.update(self.images[i : i + 256].tobytes())
            self._fingerprint = content.hexdigest()[:12]
        return self._fingerprint


class Pictures:
    """The files of a data set that would fill the memory: read anew whenever they are asked for,
    and indexed by rows as the array uint8 (M, size, size, 3) that they stand for."""

    def __init__(self, files: list[Path | bytes], size: int):  # bytes: what such a file holds
        self.files, self.shape, self.dtype = files, (len(files), size, size, 3), np.dtype("uint8")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows) -> np.ndarray | Pictures:
        """One picture, a slice of them read at once, or chosen rows, which are not read yet."""
        if isinstance(rows, slice):
            with ThreadPoolExecutor() as pool:  # decoding lets other threads run
                read = pool.map(self._read, self.files[rows])
                return np.stack(list(read))
        if np.ndim(rows) == 0:
            return self._read(self.files[rows])
        return Pictures([self.files[row] for row in rows], self.shape[1])

    def _read(self, file: Path | bytes) -> np.ndarray:
        return read_picture(io.BytesIO(file) if isinstance(file, bytes) else file, self.shape[1])


def spread(M: int, n: int) -> np.ndarray:
    """n of M rows, or all, evenly spread: neighbours are alike."""
    return np.linspace(0, M - 1, min(n, M)).astype(int)


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


def load_dataset(
    source: str | Path = "emoji",
    images: str | Path | None = None,
    size: int = SIZE,
    on_bad: str = "stop",
    split: str | None = "test",
    captions: bool = True,
) -> Dataset:
    """Read a dataset.

    source   "emoji" or "outside"; a COCO captions file (.json); a table (.csv, .jsonl, .parquet);
             or a folder with one of records.CAPTION_FILES, with one in each of its folders for
             splits, or with a .txt beside each picture
    images   folder of the image files; default: the folder of the captions file
    size     pixels per side; other images are resized (shorter side) and centre-cropped,
             transparent ones laid on white
    on_bad   "stop": raise BadData at the first bad record; "skip": leave it out and say so in
             `dataset.skipped`
    split    the split that images get when the file names none; None: "test" where it names that of
             others, "all" in a data set without splits
    captions whether there must be some: without, a folder of nothing but pictures is read, too

    What takes more than IN_MEMORY is read once to see that it can be, and again when asked for.
    """
    bad = Bad(on_bad)
    if str(source) in BUILT_IN:
        return _load_built_in(str(source), size)
    path = Path(source)
    if not path.exists():
        kinds = "'emoji', 'outside', a COCO .json file, a captions file, or a folder with one"
        raise BadData(f"{path}: no such dataset; use {kinds}{nearest(source, BUILT_IN)}")
    if images and not Path(images).is_dir():
        raise BadData(f"{images}: no such folder of images")
    coco, root = path.suffix.lower() == ".json", path if path.is_dir() else path.parent
    if path.is_dir():
        found = records.of_folder(path, bad, captions)
    elif coco:
        found = records.of_coco(path, bad)
    else:
        found = records.of_table(path, bad)
    import pandas as pd

    found = list(found)
    # at most, where they are put together
    needed = 2 * min(len(found) * size**2 * 3, IN_MEMORY)
    what = f"{len(found):,} pictures of {size} x {size} pixels"
    require_memory(needed, what, "use fewer or smaller ones")
    kept, paths, pictures = _read_pictures(found, Path(images or root), size, split, bad)
    if not kept:
        raise BadData(f"{path}: no usable image; {bad.first}")
    frame = pd.DataFrame(kept)
    frame["split"] = frame["split"].fillna("test" if frame["split"].notna().any() else "all")
    _note_what_is_several(frame, path.absolute().name, bad)
    frame = frame.drop(columns=["rows", "file"])
    frame["name"] = [c[0] for c in frame["captions"]]
    frame["keywords"] = [c[1:] for c in frame["captions"]]
    name = path.stem if coco else root.resolve().name
    held = np.stack(pictures) if len(pictures) == len(paths) else Pictures(paths, size)
    return Dataset(name, frame, held, bad.skipped, bad.notes)


def _read_pictures(found, folder: Path, size: int, split: str | None, bad: Bad):
    """Records -> one row an image (several records of one image are its captions), the files, and
    the pictures as far as they fit into IN_MEMORY."""
    kept, paths, pictures = {}, [], []
    for where, id, file_name, said, own_split in found:
        with bad.at(where):
            file = os.path.normpath(unicodedata.normalize("NFC", file_name))
            row = dict(id=id, split=own_split or split, captions=said, file=file, rows=1)
            if (known := kept.get(id)) is None:
                path_of, picture = _picture(folder, file_name, size)
                kept[id] = row
                paths.append(path_of)
                if len(paths) * picture.nbytes <= IN_MEMORY:
                    pictures.append(picture)
            elif known["file"] != file:
                raise BadData(f"duplicate id {shown(id)}; give every image its own")
            elif known["split"] != row["split"]:
                both = f"{known['split']} and {row['split']}"
                raise BadData(f"{shown(id)} is of two splits, {both}; choose one")
            else:
                known["captions"] += said
                known["rows"] += 1
    return list(kept.values()), paths, pictures


def _note_what_is_several(frame, called: str, bad: Bad) -> None:
    """Notes on images with several rows, files with several ids, and more splits than one."""
    if several := (frame["rows"] > 1).sum():
        bad.notes.append(f"{called}: images with several rows, each a caption: {several}")
    if again := (frame["file"].value_counts() > 1).sum():
        bad.notes.append(f"{called}: files with several ids, each an image: {again}")
    if len(splits := frame["split"].value_counts()) > 1:
        sizes = ", ".join(f"{name} {n}" for name, n in splits.items())
        bad.notes.append(f"{called}: images by split: {sizes}")


def _load_built_in(name: str, size: int) -> Dataset:
    path = BUILT_IN[name]
    if not path.exists():
        fix = f"fetch the whole repository or run tools/build_{name}.py"
        raise BadData(f"{path}: the built-in dataset is missing; {fix}")
    import pandas as pd

    frame = pd.read_parquet(path)
    pictures = Pictures(list(frame.pop("image")), size)
    frame["keywords"] = [list(k) for k in frame["keywords"]]
    frame["captions"] = [[n, *k] for n, k in zip(frame["name"], frame["keywords"])]
    held = pictures if np.prod(pictures.shape) > IN_MEMORY else np.stack(list(pictures))
    return Dataset(name, frame, held)


def _picture(folder: Path, name: str, size: int) -> tuple[Path, np.ndarray]:
    file = inside(folder, name)
    try:
        return file, read_picture(file, size)
    except BadData as error:
        raise BadData(f"{error} or remove the row") from None


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
    return {name: np.asarray(square(sheet, SIZE)) for name, sheet in sheets.items()}
