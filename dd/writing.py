"""Pictures in words: the command `write`, and what commands share: the data set that is asked for,
texts that are kept as they are written, and how a result is told."""

import json
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np

from . import data
from .commands import answer
from .data import to_pixels
from .encoder import Encoder
from .messages import nearest, one_line
from .reading import BadData, id_of, lines_of, read_picture
from .runtime import process, say, shared, shipped
from .study import cache, folder_hash

WORLDS = (".json", ".csv", ".jsonl", ".parquet")  # files that name the pictures of a data set
STEP = 256  # images, after which what is done is kept; whole batches


def teller(args):
    """How the lines of a long command are told: with --json, whose result alone is on stdout, on
    stderr."""
    return say if args.json else partial(print, flush=True)


def records(table) -> list[dict]:
    """The rows of a pandas table; what is not a number becomes null."""
    return json.loads(table.to_json(orient="records"))


def picture_files(paths: list[str], size: int):
    """Picture files -> uint8 (M, size, size, 3), as the encoder is shown them; what had to be
    changed of one is said."""
    pictures = []
    for path in paths:
        pictures.append(read_picture(Path(path), size, changes := []))
        if changes:
            say(f"note: {one_line(path)}: {'; '.join(changes)}")
    return np.stack(pictures)


def written(args, encoder, pictures) -> list[str]:
    """What the encoder writes of uint8 (M, H, W, 3); which one and how much is said."""
    whose = "the shipped encoder" if args.encoder == "encoder" else f"encoder {args.encoder}"
    some = lambda rows: encoder.write(to_pixels(pictures[rows]))
    texts = sum(shared(some, len(pictures), STEP), [])
    counts = [len(text.split()) for text in texts]
    ends = dict.fromkeys((min(counts, default=0), max(counts, default=0)))
    say(f"written by {whose}, words a picture: {' to '.join(map(str, ends))}")
    return texts


def write(args) -> None:
    if args.out:
        return write_world(args)
    encoder = Encoder.load(args.encoder)
    try:
        pictures = picture_files(args.pictures, encoder.size)
    except BadData as error:
        worlds = [p for p in args.pictures if Path(p).is_dir() or Path(p).suffix.lower() in WORLDS]
        raise BadData(f"{worlds[0]}: a data set; give --out FILE" if worlds else error) from None
    texts = written(args, encoder, pictures)
    several = len(texts) > 1
    lines = [f"{one_line(path)}\t{t}" if several else t for path, t in zip(args.pictures, texts)]
    made = [{"image": path, "text": text} for path, text in zip(args.pictures, texts)]
    answer(args, "\n".join(lines), made)


def write_world(args) -> None:
    """The texts of a data set in a file that `score` reads."""
    encoder, out = Encoder.load(args.encoder), parquet(args.out)
    if len(args.pictures) > 1:
        raise BadData(f"{args.pictures[1]}: --out takes the texts of one data set; give one")
    args.world = args.pictures[0]
    dataset = of_split(args, encoder.size, captions=False)[1].subset("all", args.n or None)
    facts = dict(weights=folder_hash(shipped(args.encoder)), size=encoder.size)
    write_shares(out, dataset, lambda rows: encoder.write(dataset.pixels(rows)), STEP, **facts)


def write_shares(out: Path, dataset, work, unit: int, **facts) -> None:
    """work(rows) -> texts, of all of a data set to a file. They are kept slice by slice in a folder
    beside it, which the same command goes on from; `facts`: all that they depend on."""
    from .texts import write_texts

    part = out.with_suffix(".part")
    place = part / cache.key("write", images=dataset, unit=unit, **facts)
    texts = sum(cache.kept_in_chunks(place, len(dataset), unit, work, "write", "images"), [])
    if process():
        return
    write_texts(out, dataset, texts)
    rmtree(part)
    if silent := sum(not text.strip() for text in texts):
        say(f"note: {silent} of {len(texts)} texts are empty; score --on-bad skip takes the others")
    print(out)


def parquet(out: str) -> Path:
    if Path(out).suffix != ".parquet":
        raise BadData(f"--out {out}: texts are written as .parquet (columns id, text)")
    return Path(out)


def tell(read, before=None) -> None:
    """What reading left out and decided (skipped and notes), but for what was told before."""
    for what, lines in (("left out", "skipped"), ("note", "notes")):
        for line in getattr(read, lines)[len(getattr(before, lines, ())) :]:
            say(f"{what}: {one_line(line)}")


def pictures(args, size: int, **more):
    """The data set of --world, --images, --ids and --on-bad; each record left out is named."""
    how = dict(images=args.images, size=size, on_bad=args.on_bad)
    dataset = data.load_dataset(args.world, **how, **more)
    tell(dataset)
    if args.ids:
        at = {id: row for row, id in enumerate(dataset.frame["id"])}
        given = [id_of(line) for line in lines_of(args.ids) if line.strip()]
        if not (wanted := dict.fromkeys(given)):
            raise BadData(f"{args.ids}: no ids in it; write one a line")
        if again := len(given) - len(wanted):
            say(f"note: {args.ids}: ids that are there again, used once: {again}")
        if lost := [id for id in wanted if id not in at]:
            hint = nearest(lost[0], at) or f"; its ids look like {next(iter(at))!r}"
            raise BadData(f"{args.ids}: {len(lost)} ids not in {args.world}, {lost[0]!r}{hint}")
        dataset = dataset.rows([at[id] for id in wanted])
    return dataset


def of_split(args, size: int, **more):
    """-> (split, the images of `pictures` that are of it): that of --split; else, in a world with
    splits, the test split, which is told, unless --ids names the images; all in one without."""
    dataset = pictures(args, size, split=None, **more)
    there = sorted(set(dataset.frame["split"]))
    if args.world == "outside" or there == ["all"]:
        if args.split:
            problem = f"{args.world} names no splits; leave --split out, all its images are used"
            raise BadData(f"--split {args.split}: {problem}")
        return "all", dataset
    tested = "test" if "test" in there and not args.ids else "all"
    split = args.split or (there[0] if len(there) == 1 else tested)
    some = dataset.subset(split)
    if not args.split and len(there) > 1:  # there is a choice
        named = f"split {split}: {len(some)} of {len(dataset)} images"
        say(f"note: {one_line(args.world)}: {named}; --split takes one of {', '.join(there)}")
    return split, some
