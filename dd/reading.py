"""Other people's files: captions as .csv, .jsonl, .parquet or COCO's .json, and pictures.

Everything that a user brings is read here, by the rules of docs/formats.md. A file ends as a right
result or as `BadData`, never as another exception; what is left out is in `Bad.skipped`, what was
decided for the user in `Bad.notes`. Knows nothing else of dd but messages.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .messages import one_line, shown

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # Pillow has more readers
TABLES = (".csv", ".jsonl", ".parquet")
COLUMNS = {  # of a table, and the other names that each may have
    "id": ("id",),
    "file_name": ("file_name", "file", "image"),
    "text": ("text", "captions", "caption"),
    "split": ("split",),
}
KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a decimal"}
KINDS |= {str: "text", list: "a list", dict: "an object", bytes: "bytes"}
# a list, an object, a tuple, bytes or arrays, printed by Python, too
SOURCE = re.compile(
    r"""\s*([\[{]\s*['"]|\(['"].*['"],?\)\s*$|\[(None|nan|array\().*\]\s*$|b(['"]).*\3\s*$)"""
)
INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")  # kinds of characters: white space, zero width, marks
OR_SKIP = " (or use --on-bad skip)"  # at the end of what is told of a bad record
MOST_SIZE = 2**31  # bytes that the texts of a Parquet file may unpack to


class BadData(ValueError):
    """Input that cannot be used; the message is one line: what, where, how to fix."""

    def __init__(self, message):
        super().__init__(one_line(message))


class Bad:
    """What becomes of bad records: the first one ends the reading ("stop"), or each is left out
    ("skip") and has a line in `skipped`. `notes`: lines on what was decided for the user."""

    def __init__(self, on_bad: str = "stop"):
        if on_bad not in ("stop", "skip"):
            raise BadData(f"on_bad is {on_bad!r}; use 'skip' or 'stop'")
        self.on_bad, self.skipped, self.notes = on_bad, [], []

    @contextmanager
    def at(self, where: str):
        """Around the reading of one record; `where` names its file and row."""
        try:
            yield
        except BadData as error:
            if self.on_bad == "stop":
                raise BadData(f"{where}: {error}{OR_SKIP}") from None
            self.skipped.append(one_line(f"{where}: {error}"))

    @property
    def first(self) -> str:
        return f"first problem: {self.skipped[0]}" if self.skipped else "the file lists none"


# -- files ---------------------------------------------------------------------------------------


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark; lines end with a line feed."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadData(f"{path}: this is UTF-16; save the file as UTF-8")
    if b"\0" in data:
        raise BadData(f"{path}: not a text file, it has bytes of value 0; save it as UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadData(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: str | Path) -> list[str]:
    """Its lines. (`str.splitlines` would also cut at U+2028 and the like, inside a caption.)"""
    return read_text(path).split("\n")


def parsed(text: str):
    """JSON as its standard has it; ValueError for all else, a key given twice included."""

    def once(pairs: list[tuple]) -> dict:
        if len(found := dict(pairs)) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"key {shown(twice)} is there twice")
        return found

    def constant(name: str):
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:  # of too many digits it goes on with advice about Python
        raise ValueError(str(error).split(";")[0]) from None


def json_list(path: str | Path, key: str, bad: Bad) -> Iterator[tuple[str, dict]]:
    """The objects of the list `key` of a published .json file: (where, object)."""
    text, needs = read_text(path), f"it needs a list of objects under {key!r}"
    try:
        whole = parsed(text)
    except ValueError as error:
        raise BadData(f"{path}: not JSON ({error}); {needs}") from None
    entries = whole.get(key) if isinstance(whole, dict) else None
    if not isinstance(entries, list) or not entries:
        keys = f", with keys {shown(list(whole))}" if isinstance(whole, dict) else ""
        there = "which is empty" if entries == [] else f"this is {kind(whole)}{keys}"
        raise BadData(f"{path}: not a COCO or VQA file; {needs}, {there}")
    for i, entry in enumerate(entries):
        where = f"{Path(path).name}, {key}[{i}]"
        with bad.at(where):
            if not isinstance(entry, dict):
                raise BadData(f"{kind(entry)}, where an object is needed")
            yield where, entry


def coco_captions(path: str | Path, bad: Bad) -> dict[str, list[str]]:
    """The captions of a COCO file by the id of their image."""
    captions: dict[str, list[str]] = {}
    for where, entry in json_list(path, "annotations", bad):
        with bad.at(where):
            id, said = id_of(got(entry, "image_id")), captions_of(got(entry, "caption"))
            captions.setdefault(id, []).extend(said)
    return captions


# -- tables --------------------------------------------------------------------------------------


def table(path: str | Path, bad: Bad, *needed: str) -> Iterator[tuple[str, dict]]:
    """The rows of a file of TABLES: (where, values by the names of COLUMNS). `needed` columns are
    there. Rows are numbered as an editor numbers lines, those of Parquet from 1."""
    path = Path(path)
    if path.suffix.lower() not in TABLES:
        suffix = path.suffix or "a file without suffix"
        raise BadData(f"{path}: cannot read {suffix}; use {', '.join(TABLES)}")
    reader = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[path.suffix.lower()]
    for where, row in reader(path, bad):
        with bad.at(where):
            found = {}
            for name, names in COLUMNS.items():
                there = [n for n in row if column(n) in names]
                if len(there) > 1:
                    raise BadData(f"both {' and '.join(there)} are there; keep one")
                if there:
                    found[name] = row[there[0]]
                elif name in needed:
                    raise BadData(f"no {name} column; call one so, of {shown(list(row))}")
            yield where, found


def column(name: str) -> str:
    """A column's name without capitals and white space, which make no other column."""
    return name.strip().casefold()


def _csv(path: Path, bad: Bad) -> Iterator[tuple[str, dict]]:
    """Commas, or semicolons or tabs if the first line has more of these. Every row must have as
    many fields as the first, and quotes must match; blanks before a field are no part of it. A row
    with an open quote costs that row only: reading goes on with the next line."""
    lines = lines_of(path)
    head = next((k for k, line in enumerate(lines) if line.strip()), 0)
    delimiter = max(",;\t", key=lines[head].count)

    def fields_at(i: int) -> tuple[list[str], int]:
        """The fields of the row that begins with line i, and the line after it."""
        rest = (lines[k] + "\n" for k in range(i, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
        try:
            return next(reader), i + reader.line_num
        except csv.Error as error:
            if "limit" in str(error):
                most = f"a text of more than {csv.field_size_limit():,} characters"
                raise BadData(f"{most}; shorten it, or close its quote") from None
            raise BadData(f"quotes do not match ({error}); close or double them") from None

    try:
        header, i = fields_at(head)
    except BadData as error:
        raise BadData(f"{path}, row {head + 1}: {error}") from None
    header, rows, long = [name.strip() for name in header], 0, 0
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise BadData(f"{path}: two columns {shown(twice[0])}; keep one")
    while i < len(lines):
        start, i = i, i + 1
        if not lines[start].strip():
            continue
        with bad.at(where := f"{path.name}, row {start + 1}"):
            fields, after = fields_at(start)
            like_rows = [line.count(delimiter) + 1 >= len(header) for line in lines[start:after]]
            if sum(like_rows) > 1:
                several = f"lines {start + 1} to {after} are one row and look like several"
                raise BadData(f"{several}; close the quote, or take out the line breaks")
            if len(fields) != len(header):
                have = f"{len(fields)} fields for {len(header)} columns {shown(header)}"
                raise BadData(f'{have}; put a text with {delimiter!r} in it between "')
            i, rows, long = after, rows + 1, long + (after > start + 1)
            yield where, dict(zip(header, fields))
    if long:
        bad.notes.append(f"{path.name}: rows that go over several lines: {long} of {rows}")


def _jsonl(path: Path, bad: Bad) -> Iterator[tuple[str, dict]]:
    for i, line in enumerate(lines_of(path), 1):
        if line.strip():
            with bad.at(where := f"{path.name}, row {i}"):
                try:
                    row = parsed(line)
                except ValueError as error:
                    raise BadData(f"not JSON ({error}); write one object a line") from None
                if not isinstance(row, dict):
                    raise BadData(f"{kind(row)}, not an object; write one object a line")
                yield where, row


def _parquet(path: Path, bad: Bad) -> Iterator[tuple[str, dict]]:
    """Known columns only, columns of text as their distinct values, one value at a time, no more
    than MOST_SIZE in all: a small file may unpack to any size."""
    from pyarrow.parquet import ParquetFile

    def limited(size: int) -> None:
        if size > MOST_SIZE:
            raise BadData(f"{path}: {size / 1e9:,.1f} GB or more of texts; split it")

    if not path.is_file():
        what = "a folder; give the file in it" if path.is_dir() else "no such file"
        raise BadData(f"{path}: {what}")
    known, row, size = sum(COLUMNS.values(), ()), 0, 0
    try:
        schema = ParquetFile(path).schema
        leaves = [schema.column(i) for i in range(len(schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        file = ParquetFile(path, read_dictionary=texts)
        there = file.schema_arrow.names
        names = [name for name in there if column(name) in known]
        if len(set(names)) < len(names):
            raise BadData(f"{path}: two columns of one name among {shown(names)}; keep one")
        if not names:
            yield f"{path.name}, row 1", dict.fromkeys(there)
            return
        used = [i for i, leaf in enumerate(leaves) if leaf.path.split(".")[0] in names]
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        limited(sum(g.column(i).total_uncompressed_size for g in groups for i in used))
        for batch in file.iter_batches(1024, columns=names):
            for values in zip(*batch.columns):
                row, values = row + 1, [value.as_py() for value in values]
                lists = (v if isinstance(v, list) else [v] for v in values)
                size += 50 + sum(len(t) for t in chain(*lists) if isinstance(t, str))
                limited(size)
                yield f"{path.name}, row {row}", dict.fromkeys(there) | dict(zip(names, values))
    except BadData:
        raise
    except Exception as error:  # pyarrow's own kinds, most of them no ValueError
        raise BadData(
            f"{path}: not a usable Parquet file ({reason(error)}); write it anew"
        ) from None


# -- values --------------------------------------------------------------------------------------


def kind(value) -> str:
    return KINDS.get(type(value), f"of type {type(value).__name__}")


def reason(error: Exception) -> str:
    said = " ".join(str(error).split())[:120]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def got(entry: dict, key: str):
    """The value of a key that must be there."""
    if not isinstance(entry, dict) or key not in entry:
        has = f"has {shown(list(entry))}" if isinstance(entry, dict) else "is no object"
        raise BadData(f"{key!r} needed; it {has}")
    return entry[key]


def text_of(value, what: str = "text") -> str:
    """A string of whole characters."""
    if not isinstance(value, str):
        raise BadData(f"the {what} is {kind(value)}; write text")
    if re.search("[\ud800-\udfff]", value):
        raise BadData(
            f"the {what} {shown(value)} has half a character (a lone surrogate); remove it"
        )
    return value


def blank(text: str) -> bool:
    """Whether nothing of it can be seen."""
    return all(unicodedata.category(c) in INVISIBLE for c in text)


def id_of(value, default: str | None = None) -> str:
    """The one rule for ids: text or a whole number; without white space around it, in Unicode's
    composed form (NFC), compared letter by letter: 7 is '7', and '007' is another id."""
    if value is None or (isinstance(value, str) and blank(value)):
        if default is None:
            raise BadData("no id; give every text the id of its image")
        value = default
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadData(f"the id {shown(value)} is {kind(value)}; use text or a whole number")
    return unicodedata.normalize("NFC", text_of(str(value), "id").strip())


def near(id: str) -> str:
    """What two ids share that were meant to be the same: 7, 007, 007.png, COCO_val2014_007."""
    stem = re.sub(r"\.[a-z0-9]{1,4}$", "", id.casefold())
    return re.sub(r"^(.*_)?0*(?=\d+$)", "", stem)


def near_misses(ids, known) -> dict[str, str]:
    """The ids that are not known but were meant to be -> the known id of each."""
    like = {near(id): id for id in known}
    return {id: like[near(id)] for id in ids if id not in known and near(id) in like}


def captions_of(value, empty: bool = False) -> list[str]:
    """Text, or a list of texts, or text that is a JSON list of them, as table cells hold it. With
    `empty`, a text may say nothing."""
    if isinstance(value, str) and (value.lstrip()[:1] in ("[", "{", "(") or SOURCE.match(value)):
        try:
            value = parsed(value)
        except ValueError:  # "[blurred] a cat" is text
            if SOURCE.match(value):
                raise BadData(f"{shown(value)} is not JSON; write text or a JSON list") from None
    texts = [text_of(t, "caption") for t in (value if isinstance(value, list) else [value])]
    if not texts or (not empty and any(map(blank, texts))):
        raise BadData("empty caption; write one or remove the row")
    return [t if empty else t.strip() for t in texts]


def texts_by_id(path: str | Path, bad: Bad, empty: bool = False) -> dict[str, tuple[str, str]]:
    """A table of captions with ids -> id: (where, text). Of several texts of one image the first is
    used, and a note says so."""
    found: dict[str, tuple[str, str]] = {}
    more: dict[str, int] = {}
    for where, row in table(path, bad, "id", "text"):
        with bad.at(where):
            id, texts = id_of(row["id"]), captions_of(row["text"], empty)
            if (extra := len(texts) - (id not in found)) > 0:
                more[id] = more.get(id, 0) + extra
            found.setdefault(id, (where, texts[0]))
    if not found:
        raise BadData(f"{path}: no usable text; {bad.first}")
    if more:
        which = f"{len(more)}, {shown(next(iter(more)))} first"
        left = f"the first text of each is used; left out: {sum(more.values())}"
        bad.notes.append(one_line(f"{Path(path).name}: ids with several texts: {which}; {left}"))
    return found


# -- pictures ------------------------------------------------------------------------------------


def square(image: Image.Image, size: int, changes: list | None = None) -> Image.Image:
    """Any picture -> size x size RGB: laid on white, shorter side to `size`, centre crop.
    changes: a list that gets what of this had to be done."""
    changes = [] if changes is None else changes
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        changes += ["transparent, laid on white"] * (image.getextrema()[3][0] < 255)
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image)
        image = canvas
    image = image.convert("RGB")
    if image.width != image.height:
        changes.append(f"{image.width} x {image.height} pixels, cut to the square in its middle")
    if image.size == (size, size):
        return image
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise BadData(f"{image.width} x {image.height} pixels are too long and narrow")
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.LANCZOS)
    return image.crop((left, top, left + size, top + size))


def eight_bits(image: Image.Image, tags: dict, format: str | None) -> Image.Image:
    """Grey of more than 8 bits by the range that the file states; others as they are.
    tags: those of a TIFF file."""
    if 2 in tags.get(339, ()):  # SampleFormat; Pillow reads such levels of 8 bits as unsigned
        raise BadData("levels with a sign have no stated range; save it without")
    stated = image.mode.startswith("I;16") or (image.mode == "I" and format == "PPM")
    if not stated and image.mode in ("I", "F"):
        what = "decimal numbers" if image.mode == "F" else "32 bits"
        raise BadData(f"grey levels of {what} have no stated range; save it with 8 or 16 bits")
    if not stated:
        return image
    values, most = np.asarray(image), 2 ** tags.get(258, (16,))[0] - 1
    levels = np.round(np.arange(1 << 16) * (255 / most)).clip(0, 255).astype(np.uint8)
    grey = Image.fromarray((255 - levels if tags.get(262) == 0 else levels)[values])  # 0: inverse
    if (clear := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.uint8(255) * (values != clear)))
    return grey


def read_picture(source, size: int, changes: list | None = None) -> np.ndarray:
    """A picture file (a path, or a stream of its bytes) -> uint8 (size, size, 3), turned upright as
    its EXIF orientation says; of an animation the first picture; `changes` as in `square`. BadData
    for whatever is wrong, with the `name` of a stream that has one."""
    if isinstance(source, Path) and not source.is_file():
        folder = f"{source} is a folder; give a picture file"
        raise BadData(folder if source.is_dir() else f"missing image {source}; add it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=PICTURES) as opened:
                tags, format = getattr(opened, "tag_v2", {}), opened.format
                upright = ImageOps.exif_transpose(opened)
                return np.asarray(square(eight_bits(upright, tags, format), size, changes))
    except Exception as error:  # Pillow's decoders raise nearly every kind
        name = source if isinstance(source, Path) else getattr(source, "name", "in a table")
        why = error if isinstance(error, BadData) else reason(error)
        why = str(why).replace(f" {source!r}", "")  # Pillow names a stream by its place in memory
        raise BadData(f"cannot decode image {name} ({why}); save it anew as PNG") from None


def inside(folder: Path, name: str) -> Path:
    """The file in `folder` that a row names, whether the disk has its accents composed or not.
    BadData for what leads out of the folder, by a link, too."""
    if not name.strip():
        raise BadData("the file_name is empty; name a picture file")
    forms = dict.fromkeys([name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD"))])
    files = [folder / form for form in forms]
    try:
        file = next((f for f in files if f.exists()), files[0])
        there, within = file.exists(), file.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # names that no disk can have
        raise BadData(f"{shown(name)} cannot be a file's name ({reason(error)})") from None
    if not within:
        raise BadData(f"{shown(name)} leads out of {folder}; put the file into it")
    if "\\" in name and not there:
        raise BadData(f"no file {name} in {folder}; write / between folders")
    return file
