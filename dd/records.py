"""What other people's files say of pictures, one record each: a COCO file, a table, or a folder.

    for record in of_folder(Path("my_pictures"), bad): ...    # Record(where, id, file_name, ...)

A bad record is told to `bad` and left out or refused (dd/reading.py); no picture is opened here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .reading import (
    PICTURES,
    Bad,
    BadData,
    captions_of,
    coco_captions,
    got,
    id_of,
    inside,
    json_list,
    lines_of,
    shown,
    table,
    text_of,
)

SPLITS = ("train", "val", "test", "novel")
# of a folder of images, or of its folders for splits
CAPTION_FILES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
SPLIT_NAMES = {s: s for s in SPLITS} | dict.fromkeys(("validation", "valid", "dev"), "val")


class Record(NamedTuple):
    """What a file says of one picture; `where` names file and row for messages."""

    where: str
    id: str
    file_name: str
    captions: list[str]
    split: str | None = None


def of_coco(path: Path, bad: Bad) -> Iterator[Record]:
    captions, seen = coco_captions(path, bad), set()
    for where, image in json_list(path, "images", bad):
        with bad.at(where):
            id, name = id_of(got(image, "id")), text_of(got(image, "file_name"), "file_name")
            if id in seen:
                raise BadData(f"duplicate id {shown(id)}; give every image its own")
            seen.add(id)
            if id not in captions:
                raise BadData(f"empty caption for {shown(name)}; write one or remove the image")
            yield Record(where, id, name, captions[id])
    if strange := captions.keys() - seen:
        bad.notes.append(f"{path.name}: images with captions that are not listed: {len(strange)}")


def of_table(path: Path, bad: Bad, folder: str = "") -> Iterator[Record]:
    """`folder`: what stands before every file name; the first one may name the split."""
    for where, row in table(path, bad, "file_name", "text"):
        with bad.at(where):
            name = folder + text_of(row["file_name"], "file_name")
            split = row.get("split")
            split = "" if split is None else text_of(split, "split")
            if split and split not in SPLIT_NAMES:
                known = ", ".join(SPLIT_NAMES)
                raise BadData(f"split {shown(split)}; use one of {known}, or leave it empty")
            split = SPLIT_NAMES.get(split or name.split("/")[0])
            id = id_of(row.get("id"), default=name)
            yield Record(where, id, name, captions_of(row["text"]), split)


def of_folder(folder: Path, bad: Bad, needed: bool = True) -> Iterator[Record]:
    """Of the captions file of a folder, or of one in each folder that is named as a split, or of
    the .txt files beside the pictures, whose lines are captions; of pictures alone where none are
    `needed`."""
    found = [name.relative_to(folder) for name in captions_files(folder) if name.is_file()]
    within = [name.parent for name in found]
    if len(set(within)) < len(found) or (Path() in within and len(found) > 1):
        raise BadData(f"{folder}: {' and '.join(map(str, found))}; keep one or give it by its name")
    for name in found:
        yield from of_table(folder / name, bad, f"{name.parent}/" * (len(name.parts) > 1))
    unread = [s for s in SPLIT_NAMES if (folder / s).is_dir() and Path(s) not in within]
    if within and Path() not in within and unread:
        which = f"folders of splits without a captions file, not read: {', '.join(unread)}"
        bad.notes.append(f"{folder.absolute().name}: {which}")
    if not found:
        yield from of_text_files(folder, bad, needed)


def captions_files(folder: Path) -> list[Path]:
    """Where a folder, or one of its folders for splits, may have its captions file."""
    return [folder / s / name for s in ("", *SPLIT_NAMES) for name in CAPTION_FILES]


def of_text_files(folder: Path, bad: Bad, needed: bool = True) -> Iterator[Record]:
    """Of the .txt file beside each picture; of pictures alone where there is none."""
    # hidden files are the system's (._a.png of macOS)
    there = sorted(f for f in folder.iterdir() if f.name[0] != ".")
    files = [f for f in there if f.is_file()]
    kinds = {suffix for suffix, form in Image.registered_extensions().items() if form in PICTURES}
    pictures = [f for f in files if f.suffix.lower() in kinds]
    texts, stems = {f.stem for f in files if f.suffix == ".txt"}, Counter(f.stem for f in pictures)
    alone = not texts & stems.keys()
    if alone and (needed or not pictures):
        columns = "add one with columns file_name, text, or a .txt beside each picture"
        columns += "" if needed else f"; or pictures alone ({', '.join(PICTURES)}): it has none"
        raise BadData(f"{folder}: no {', '.join(CAPTION_FILES)} in this folder; {columns}")
    for file in pictures:
        with bad.at(file.name):
            captions = [""] if alone else beside(file, texts, stems)
            yield Record(file.name, id_of(file.name), file.name, captions)
    if others := [f.name for f in there if f not in pictures and (alone or f.suffix != ".txt")]:
        which = f"{len(others)}, {shown(others[0])} first; pictures are {', '.join(PICTURES)}"
        bad.notes.append(f"{folder.absolute().name}: files and folders not read: {which}")
    if not alone and (strange := sorted(texts - stems.keys())):
        which = f"{len(strange)}, {shown(strange[0])} first"
        bad.notes.append(f"{folder.absolute().name}: .txt files beside no picture: {which}")


def beside(picture: Path, texts: set[str], stems: Counter) -> list[str]:
    """The captions in the .txt file of a picture's stem, a line each."""
    if stems[picture.stem] > 1:
        raise BadData(f"{picture.stem}.txt is beside {stems[picture.stem]} pictures; keep one")
    if picture.stem not in texts:
        raise BadData(f"no {picture.stem}.txt beside it; write one or remove the picture")
    lines = lines_of(inside(picture.parent, f"{picture.stem}.txt"))
    return captions_of([line for line in lines if line.strip()])
