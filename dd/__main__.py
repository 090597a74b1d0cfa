"""python -m dd: write a picture in words, draw words, explain both, score captions, run the study.

One function a command, of its name; what each takes stands in commands.toml. Nothing that takes
time to import (torch, pandas, numpy) is imported before a command needs it.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import nullcontext, redirect_stdout, suppress
from functools import partial
from pathlib import Path

from . import commands
from .messages import nearest, one_line, shown

ANEW = "dediffusion_anew"  # De-Diffusion's texts as the study's encoder writes them on this machine
SCORES = ("fid", "kid", "paired", "r_at_1")
MOST_ROWS = 200  # of one figure: larger ones cannot be saved
WORLDS = (".json", ".csv", ".jsonl", ".parquet")  # files that name the pictures of a data set
STEP = 256  # images, after which what is done is kept; whole batches
KEPT = ("write", "caption", "interrogate")  # commands that go on where they stopped
SHARED = (*KEPT, "draw", "score", "ask", "train-encoder")  # by several processes
DRAWN = 8  # pictures of `draw` that a process draws at a time


def number(text: str):
    """A YAML scalar or list from the command line: 3, 0.5, [1, 2], name."""
    from .study.parameters import yaml_value

    try:
        return yaml_value(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no YAML value; write 3, 0.5, name or [1, 2]") from None


def answer(args, told: str, result) -> None:
    """The result of a command: as told, or with --json the same for machines."""
    print(json.dumps(result, indent=1) if args.json else told)


def teller(args):
    """How the lines of a long command are told: with --json, whose result alone is on stdout, on
    stderr."""
    from .runtime import say

    return say if args.json else partial(print, flush=True)


def records(table) -> list[dict]:
    """The rows of a pandas table; what is not a number becomes null."""
    return json.loads(table.to_json(orient="records"))


def picture_files(paths: list[str], size: int):
    """Picture files -> uint8 (M, size, size, 3), as the encoder is shown them; what had to be
    changed of one is said."""
    import numpy as np

    from .reading import read_picture
    from .runtime import say

    pictures = []
    for path in paths:
        pictures.append(read_picture(Path(path), size, changes := []))
        if changes:
            say(f"note: {one_line(path)}: {'; '.join(changes)}")
    return np.stack(pictures)


def written(args, encoder, pictures) -> list[str]:
    """What the encoder writes of uint8 (M, H, W, 3); which one and how much is said."""
    from .data import to_pixels
    from .runtime import say, shared

    whose = "the shipped encoder" if args.encoder == "encoder" else f"encoder {args.encoder}"
    some = lambda rows: encoder.write(to_pixels(pictures[rows]))
    texts = sum(shared(some, len(pictures), STEP), [])
    counts = [len(text.split()) for text in texts]
    ends = dict.fromkeys((min(counts, default=0), max(counts, default=0)))
    say(f"written by {whose}, words a picture: {' to '.join(map(str, ends))}")
    return texts


def write(args) -> None:
    if len(args.pictures) <= 8 and not args.out:
        # one batch: no faster on more cores, much slower on busy ones
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.out:
        return write_world(args)
    from .data import BadData
    from .encoder import Encoder

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
    from .data import BadData
    from .encoder import Encoder
    from .runtime import shipped
    from .study import folder_hash

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
    from shutil import rmtree

    from .runtime import process, say
    from .study import cache
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
    from .data import BadData

    if Path(out).suffix != ".parquet":
        raise BadData(f"--out {out}: texts are written as .parquet (columns id, text)")
    return Path(out)


def how_drawn(args) -> dict:
    options = ("guidance", "steps", "sampler", "seed")
    return {k: getattr(args, k) for k in options}


def draw(args) -> None:
    import numpy as np
    from PIL import Image

    from .data import BadData
    from .decoder import Decoder, require_room
    from .files import whole
    from .reading import text_of
    from .runtime import process, say, shared
    from .vocab import unread

    if not text_of(args.text).strip():
        raise BadData("the text is empty; say what to draw")
    decoder = Decoder.load(args.decoder, args.revision, judge=True)
    side = decoder.size * args.scale
    if args.n * side**2 > Image.MAX_IMAGE_PIXELS:
        raise BadData(
            f"--n {args.n} --scale {args.scale}: a picture of {args.n * side} x {side} pixels; "
            f"image libraries refuse to open more than {Image.MAX_IMAGE_PIXELS:,}, use less"
        )
    try:  # a format has its own limits; known before the drawing
        format = Image.registered_extensions()[Path(args.out).suffix.lower()]
        Image.new("RGB", (args.n * side, side)).save(io.BytesIO(), format)
    except (KeyError, ValueError, OSError):
        size = f"{args.n * side} x {side} pixels"
        raise BadData(f"--out {args.out}: cannot hold a picture of {size}; use .png") from None
    require_room(args.n, decoder.size)  # all together: they are drawn a few at a time
    facts, lines = unread(decoder.tokenizer, [args.text], decoder.name)
    for line in lines:
        say(line)
    ids = [f"draw/{i}" for i in range(args.n)]
    some = lambda rows: decoder.draw([args.text] * len(ids[rows]), ids[rows], **how_drawn(args))
    pictures = np.concatenate(shared(some, args.n, DRAWN))
    if process():
        return
    sheet = Image.fromarray(np.concatenate(list(pictures), axis=1))  # side by side
    larger = sheet.resize((sheet.width * args.scale, sheet.height * args.scale), Image.NEAREST)
    with whole(args.out) as temporary:
        larger.save(temporary, format)
    made = {"picture": args.out, "text": args.text, "decoder": decoder.name}
    answer(args, args.out, made | facts | how_drawn(args))


def only_png(args) -> None:
    from .reading import BadData

    if Path(args.out).suffix != ".png":
        raise BadData(f"--out {args.out}: the figure is a PNG file; give a name that ends in .png")


def redraw(args) -> None:
    from .decoder import Decoder, brought
    from .encoder import Encoder
    from .figures import sheet
    from .reading import BadData, text_of
    from .runtime import say
    from .vocab import unread

    only_png(args)
    people = [text_of(text) for text in args.text or ()]
    if len(people) not in (0, len(args.images)):
        many = f"{len(people)} texts for {len(args.images)} pictures"
        raise BadData(f"--text {shown(people[0])}: {many}; give one for each, in quotation marks")
    if (most := len(args.images) + len(people)) > MOST_ROWS:
        raise BadData(f"{most} rows in one figure; at most {MOST_ROWS}, give fewer pictures")
    encoder = Encoder.load(args.encoder)
    pictures = picture_files(args.images, encoder.size)
    decoders = {name: Decoder.load(name) for name in args.decoder}
    rows = []  # picture, whose words, text
    for k, text in enumerate(written(args, encoder, pictures)):
        rows += [(k, "De-Diffusion", text)]
        rows += [(k, "people", told) for told in people[k : k + 1]]
    texts, ids = [text for *_, text in rows], [brought(k) for k, *_ in rows]
    for name, decoder in decoders.items():
        for line in unread(decoder.tokenizer, texts, name)[1]:
            say(line)
    drawn = {name: d.draw(texts, ids, **how_drawn(args)) for name, d in decoders.items()}
    names = [f"{whose}, {Path(args.images[k]).name}" for k, whose, _ in rows]
    originals = pictures[[k for k, *_ in rows]]
    sheet(originals, {"text": texts}, drawn, args.out, names=names, scale=1.5, wrap=44)
    made = [dict(image=args.images[k], words_of=whose, text=text) for k, whose, text in rows]
    plain = lambda m: (one_line(m["image"]), m["words_of"], " ".join(m["text"].split()))
    lines = ["\t".join(plain(m)) for m in made]
    answer(args, "\n".join([*lines, args.out]), {"figure": args.out, "texts": made})


def explain(args) -> None:
    from difflib import get_close_matches

    from . import metrics
    from .data import load_dataset
    from .decoder import Decoder
    from .encoder import Encoder
    from .explain import explained, figure
    from .reading import BadData
    from .runtime import say
    from .vocab import unread

    only_png(args)
    encoder, id = Encoder.load(args.encoder), args.picture
    if own := Path(id).is_file():  # before all that takes time
        image, name = picture_files([id], encoder.size)[0], Path(id).name
    decoder, emoji = Decoder.load(args.decoder, args.revision), load_dataset("emoji")
    if not own:
        at = {known: row for row, known in enumerate(emoji.frame["id"])}
        if id not in at:
            like = " or ".join(get_close_matches(id, at, 2, 0)) or next(iter(at))
            raise BadData(f"{id}: no picture file, and no drawing's id; an id is {like}")
        row = emoji.frame.iloc[at[id]]
        image, name = emoji.images[at[id]], f"{row['name']} ({id})"
        if row["split"] == "train":
            say(f"note: {id} is a training drawing: decoder and encoder have seen it")
    centre = metrics.image_features(emoji.subset("test", 256).images).mean(0)
    found = explained(encoder, decoder, image, id, centre, args.noises, **how_drawn(args))
    facts, lines = unread(decoder.tokenizer, [found.text], decoder.name)
    for line in lines:
        say(line)
    figure(found, args.out, name)
    answer(
        args,
        f"{found.table().round(3).to_string(index=False)}\n{args.out}",
        {
            "figure": args.out,
            "text": found.text,
            "paired": found.whole,
            "noises": args.noises,
            "words": records(found.table()),
            **facts,
        },
    )


def tell(read, before=None) -> None:
    """What reading left out and decided (skipped and notes), but for what was told before."""
    from .runtime import say

    for what, lines in (("left out", "skipped"), ("note", "notes")):
        for line in getattr(read, lines)[len(getattr(before, lines, ())) :]:
            say(f"{what}: {one_line(line)}")


def pictures(args, size: int, **more):
    """The data set of --world, --images, --ids and --on-bad; each record left out is named."""
    from .data import load_dataset
    from .reading import BadData, id_of, lines_of
    from .runtime import say

    how = dict(images=args.images, size=size, on_bad=args.on_bad)
    dataset = load_dataset(args.world, **how, **more)
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
    from .data import BadData
    from .runtime import say

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


def score(args) -> None:
    import pandas as pd
    import torch

    from . import metrics
    from .data import load_dataset
    from .decoder import Decoder
    from .files import check_not_read, check_writable, write_csv, write_text
    from .reading import Bad, texts_by_id
    from .runtime import process, say
    from .search import SearchEngine
    from .sources import SEARCH
    from .study import cache
    from .study.cache import fingerprint, model_hash
    from .texts import read_texts, readability
    from .vocab import unread

    if args.out:
        check_writable(told_ids := Path(args.out).with_suffix(".ids.txt"))
        check_not_read(told_ids, vars(args).values())
    # too few texts are told of before a decoder and pictures are loaded
    D, bad = metrics.width(args.features), Bad(args.on_bad)
    if (M := len(texts_by_id(args.file, bad))) <= D:
        tell(bad)
        metrics.require_enough(M, D)
    if searches := args.decoder == SEARCH:
        decoder, guidances = SearchEngine(load_dataset("emoji").subset("train")), [float("nan")]
    else:
        decoder = Decoder.load(args.decoder, args.revision, judge=True)
        guidances = args.guidance
    split, dataset = of_split(args, decoder.size, captions=False)
    covered, texts = read_texts(args.file, dataset, args.on_bad)
    tell(covered, dataset)
    metrics.require_enough(len(covered), D)
    unreadable, lines = ({}, []) if searches else unread(decoder.tokenizer, texts, decoder.name)
    for line in lines:
        say(line)
    ids = sorted(covered.frame["id"])
    which = fingerprint(ids)  # the same images, the same 12 digits
    if args.out and not process():
        write_text(told_ids, "".join(f"{id}\n" for id in ids))
    look = lambda rows: metrics.image_features(covered.images[rows], eye=args.features)
    told = "look at the originals"
    real = torch.cat(cache.kept_in_chunks(None, len(covered), STEP, look, told, "images"))
    kept, rows = None, []
    if args.keep:
        facts = dict(decoder=model_hash(args.decoder), revision=args.revision, step=STEP)
        kept = Path(args.keep), dict(images=covered, texts=texts, eye=args.features, **facts)
    for guidance in guidances:
        how = how_drawn(args) | {"guidance": guidance}
        row = {"world": dataset.name, "split": split, "source": Path(args.file).stem}
        row |= {"decoder": decoder.name, "guidance": guidance, "seed": args.seed}
        row |= {"features": args.features, "ids": which}
        folder = args.pictures and Path(args.pictures) / f"{decoder.name}-{guidance:g}-{args.seed}"
        scores = drawn_scores(decoder, covered, texts, real, args.features, kept, folder, **how)
        rows.append(row | scores | unreadable)
        if args.out and not process():  # guidance by guidance: a kill keeps what is done
            write_csv(args.out, pd.DataFrame(rows))
    table = pd.DataFrame(rows)
    told, result = table.round(3).to_string(index=False), {"scores": records(table)}
    if args.world == "emoji":
        result["words"] = {k: round(v, 3) for k, v in readability(covered, texts).items()}
        told += f"\nwords: {json.dumps(result['words'])}"
    answer(args, told, result)


def drawn_scores(
    decoder, dataset, texts, real, eye="lite2", kept=None, folder=None, **drawing
) -> dict:
    """Draw a text for each original and score the pictures against the originals' image features,
    `real` (M, D); by the first of several processes, all of which draw. Pictures are looked at and
    let go, STEP at a time.

    kept   (folder, all that pictures depend on but for `drawing`): their features are kept there,
           and read back if they are there
    folder where pictures are written to, as they are drawn; each says what it is of, so that those
           of features that were kept are drawn again where they are not there"""
    from urllib.parse import quote

    import torch
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from . import metrics
    from .files import whole
    from .runtime import process, say, shared
    from .study import cache

    ids, guidance = list(dataset.frame["id"]), drawing["guidance"]
    at = f" at guidance {guidance:g}" if guidance == guidance else ""  # search has none
    path, mark = kept and kept[0] / cache.key("draw", **kept[1], **drawing), PngInfo()
    mark.add_text("drawn", path.name if path else "")
    file = lambda id: folder / f"{quote(id, safe='')}.png"

    def pictures(rows: slice):
        drawn = decoder.draw(texts[rows], ids[rows], **drawing)
        for id, picture in zip(ids[rows] if folder else (), drawn):
            with whole(file(id)) as temporary:
                Image.fromarray(picture).save(temporary, pnginfo=mark)
        return drawn

    def there(id: str):
        with suppress(OSError), Image.open(file(id)) as picture:
            return picture.info.get("drawn") == path.name

    def lost(rows: slice) -> None:
        if not all(map(there, ids[rows])):
            say(f"note: {folder}: not all pictures of kept features are there; drawn again")
            pictures(rows)

    look = lambda rows: {"eye": metrics.image_features(pictures(rows), eye=eye)}
    chunks = cache.kept_in_chunks(path, len(ids), STEP, look, f"draw {decoder.name}{at}")
    if folder and path:
        shared(lost, len(ids), STEP)
    if process():
        return {}
    classes = None if dataset.styles is None else (dataset.styles,) * 2
    return metrics.score(real, torch.cat([c["eye"] for c in chunks]), classes=classes)


def results_of(study: str, name: str = "") -> Path:
    """The folder of a study's results, or a file in it."""
    from .study import results_root

    path, root = results_root() / study / name, results_root()
    if not (path.is_file() if name else study and path.is_dir()):
        made = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        hint = "" if study in made else nearest(study, made)
        there = f"there are results of {', '.join(made) or 'no study'}{hint}"
        raise FileNotFoundError(f"{path}: no such results; python -m dd run makes some, {there}")
    return path


def check(args) -> None:
    """The published texts of a study drawn and scored again, beside its table: what another
    processor, or another version of a library, moves."""
    import pandas as pd

    from . import metrics
    from .data import BadData, load_dataset, to_pixels
    from .decoder import Decoder
    from .encoder import Encoder
    from .files import read_csv, read_json, write_csv
    from .reading import Bad, texts_by_id
    from .runtime import numbers
    from .study.cache import model_hash

    results, split = results_of(args.study, "reconstruction.csv"), args.split
    folder = results.parent
    made_with = read_json(folder / "parameters" / "05_reconstruction.json")
    table = read_csv(results, "split", "source", "decoder", "seed", "guidance", *SCORES)
    table = table[(table["split"] == split) & (table["decoder"] == args.decoder)]
    published = table[table["seed"] == made_with["seed"]].set_index("source")
    file = lambda source: folder / "texts" / split / f"{source}.parquet"
    can = [s for s in published.index if file(s).exists()] + [ANEW] * file("dediffusion").exists()
    if strange := [s for s in args.sources if s not in can]:
        raise BadData(
            f"--sources {strange[0]}: {folder} has no row and texts of it on {split} "
            f"through {args.decoder}; it has {', '.join(can)}{nearest(strange[0], can)}"
        )
    weights = folder / "weights.json"  # of the table; studies of an earlier version have none
    drew = read_json(weights).get(args.decoder) if weights.exists() else None
    if drew and drew != model_hash(args.decoder):
        raise BadData(
            f"{weights}: the table was drawn by other weights of {args.decoder} than are here, so "
            "check would compare two decoders; check out the commit that made it"
        )
    own = folder / "encoder" if made_with["encoder"] == "trained" else Path(made_with["encoder"])
    encoder = str(own) if (own / "config.json").exists() else "encoder"
    decoder = Decoder.load(args.decoder)
    writer = Encoder.load(encoder) if ANEW in args.sources else None
    dataset = load_dataset("emoji").subset(split)
    at, real, rows = {id: i for i, id in enumerate(dataset.frame["id"])}, None, []
    line_of, anew = teller(args), {}
    how = {k: made_with[k] for k in ("steps", "sampler", "seed")}
    for source in args.sources:
        known = source.removesuffix("_anew")
        told = texts_by_id(file(known), Bad(), empty=True)
        if strange := [id for id in told if id not in at]:
            other = f"{strange[0]!r} is no {split} drawing of the emoji world, the only one checked"
            raise BadData(f"{file(known)}: {other}")
        drawn, texts = dataset.rows([at[i] for i in told]), [text for _, text in told.values()]
        if real is None:  # a study's sources are all of the same drawings
            real = metrics.image_features(drawn.images)
        if source == ANEW:
            before, texts = texts, writer.write(to_pixels(drawn.images))
            whose = "the shipped encoder" if encoder == "encoder" else own.name
            same = sum(a == b for a, b in zip(before, texts))
            words = [(set(a.split()), set(b.split())) for a, b in zip(before, texts)]
            kept = sum(len(a & b) / len(a) for a, b in words) / len(words)
            line_of(
                f"{source}, written by {whose}: {same} of {len(texts)} texts are the published "
                f"ones to the letter; of a text's words {kept:.1%} are kept"
            )
            anew = {"texts": len(texts), "same": same, "words_kept": kept}
        row, noises = published.loc[known], table[table["source"] == known]
        guidance = row["guidance"]
        here = drawn_scores(decoder, drawn, texts, real, guidance=float(guidance), **how)
        line_of(f"{source}, guidance {guidance:g}, n {here['n']}")
        for score in SCORES:
            new, old = here[score], row[score]
            lo, hi = (row.get(f"{score}_{end}", float("nan")) for end in ("lo", "hi"))
            low, high = noises[score].min(), noises[score].max()
            line = f"  {score:7} {new:9.4g} here, {old:.4g} published, moved {new - old:+.3g}"
            if len(noises) > 1:
                line += f"; {len(noises)} draws of noise span {low:.4g} to {high:.4g}"
            if not pd.isna(lo):
                line += f"; interval over drawings [{lo:.4g}, {hi:.4g}]"
                line += "" if lo <= new <= hi else ": OUTSIDE"
            line_of(line)
            cell = dict(source=source, split=split, decoder=args.decoder, guidance=guidance)
            cell |= dict(n=here["n"], score=score, published=old, published_lo=lo, published_hi=hi)
            cell |= dict(noise_lo=low, noise_hi=high, noises=len(noises), here=new)
            rows.append(cell | {"numbers": numbers()})
        if args.out:  # source by source: a kill keeps what is done
            write_csv(args.out, pd.DataFrame(rows).round(5))
    if args.json:
        answer(args, "", {"scores": records(pd.DataFrame(rows)), "written_anew": anew or None})


def described(args, load, describe, **how) -> None:
    """Write what `describe` says of a data set's pictures, by a model that can be loaded, to a file
    that `score` reads; `how`: its options, on which texts depend."""
    from .study import cache

    out, model = parquet(args.out), dict(model=args.model, revision=args.revision)
    load(args.model, args.revision)  # before the pictures
    _, dataset = of_split(args, args.size)
    work = lambda rows: describe(dataset.rows(range(len(dataset))[rows]), **model, **how)
    facts = dict(what=args.command, weights=cache.model_hash(args.model), size=args.size)
    write_shares(out, dataset, work, args.batch, **facts, **model, **how)


def caption(args) -> None:
    from .baselines import caption, captioner
    from .reading import text_of

    how = dict(prompt=text_of(args.prompt, "prompt"), tokens=args.tokens, B=args.batch)
    described(args, captioner, caption, **how)


def interrogate(args) -> None:
    from .baselines import contrastive, interrogate_by_clip, phrase_bank
    from .data import BadData, load_dataset
    from .reading import lines_of

    if args.bank:
        bank = lines_of(args.bank)
    elif args.world == "emoji":
        bank = phrase_bank(load_dataset("emoji").subset("train"))
    else:
        raise BadData(
            f"--world {args.world}: give --bank FILE, phrases to choose from, one a line; "
            "only the emoji world has its own"
        )
    bank = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in bank))))
    if not bank:
        raise BadData(f"{args.bank}: no phrases in it; write one a line")
    how = dict(bank=tuple(bank), shortlist=args.shortlist, most=args.most, B=args.batch)
    described(args, contrastive, interrogate_by_clip, **how)


def ask(args) -> None:
    import pandas as pd

    from . import llm
    from .files import write_csv
    from .reading import Bad, BadData, near_misses, texts_by_id
    from .runtime import process, say, shared
    from .study import few_shot

    published = [args.questions, args.annotations]
    if bool(args.captions) == any(published) or any(published) != all(published):
        raise BadData("what is asked? give --questions and --annotations, or --captions alone")
    bad = Bad(args.on_bad)
    if args.examples and not args.shots:
        raise BadData("--examples: none is shown with --shots 0; give --shots, too")
    if args.captions:
        few_shot.require_cider()
    contexts = {id: text for id, (_, text) in texts_by_id(args.file, bad, empty=True).items()}
    query = lambda id, field: few_shot.query(contexts[id], field, short=False)

    def with_texts(*files):
        read = few_shot.read_captions if args.captions else few_shot.read_vqa
        table = read(*files, bad)
        if table.empty:
            raise BadData(f"{files[0]}: nothing in it can be used; {bad.first}")
        lost = table["id"][~table["id"].isin(list(contexts))]
        if len(lost) == len(table):
            there, here = lost.iloc[0], next(iter(contexts))
            ids = f"ids there look like {there!r}, here like {here!r}"
            raise BadData(f"{args.file}: no text for any image of {files[0]}; {ids}")
        meant = near_misses(lost, contexts)
        pair = next(iter(meant.items()), None)
        hint = (
            f"; {pair[0]!r} is {pair[1]!r} here, ids that differ so: {len(meant)}" if pair else ""
        )
        if len(lost) and args.on_bad == "stop":
            raise BadData(
                f"{args.file}: no text for {len(lost)} of the {len(table)} entries of {files[0]}, "
                f"image {lost.iloc[0]!r} first{hint}; write it or use --on-bad skip"
            )
        if len(lost):
            say(f"left out: {len(lost)} entries of {files[0]} about images without a text{hint}")
        return table.drop(lost.index).reset_index(drop=True)

    files = [args.captions] if args.captions else published
    table, shown = with_texts(*files), ()
    if args.shots:
        if len(args.examples or ()) != len(files):
            kinds = "CAPTIONS" if args.captions else "QUESTIONS ANNOTATIONS"
            raise BadData(
                f"--shots {args.shots}: examples come from files of their own; "
                f"give --examples {kinds}, or --shots 0"
            )
        shown = with_texts(*args.examples)
        if len(shown) < args.shots:
            has = f"{args.examples[0]} has {len(shown)} examples"
            raise BadData(f"--shots {args.shots}: {has}; ask for fewer, or give a larger file")
        if known := int(shown["id"].isin(table["id"]).sum()):
            note = f"{known} of the {len(shown)} examples are about images that are asked about"
            say(f"note: {note}; give another split, or the score counts answers that were shown")
        shown = shown.sample(args.shots, random_state=args.seed).itertuples()
    tell(bad)
    if args.captions:
        head, tokens, what = few_shot.CAPTION, 20, "captions"
        told = [(query(e.id, "Caption"), e.captions[0]) for e in shown]
        asked = [query(id, "Caption") for id in table["id"]]
    else:
        head, tokens, what = few_shot.VQA, 12, "questions"
        field = few_shot.vqa_field
        told = [(query(e.id, field(e.question)), e.answer) for e in shown]
        asked = [query(q.id, field(q.question)) for q in table.itertuples()]
    examples = [few_shot.example(*one) for one in told]
    prompts = [llm.Prompt(head, tuple(examples), query) for query in asked]
    model = llm.LanguageModel.load(args.model)
    how = dict(tokens=tokens, B=args.batch, progress=what)
    table["said"] = sum(shared(lambda rows: model.answer(prompts[rows], **how), len(prompts)), [])
    if args.captions:
        table["cider"] = few_shot.cider(list(table["said"]), list(table["captions"]))
        mean, n = table["cider"].mean(), len(table)
        answer(args, f"CIDEr {mean:.1f} of {n} captions", {"n": n, "cider": mean})
    else:
        table["vqa"] = list(map(few_shot.vqa_accuracy, table["said"], table["answers"]))
        told = table[table["kind"] != "all"]  # some files tell no kind
        kinds = pd.concat([told, table.assign(kind="all")]).groupby("kind", sort=False)["vqa"]
        scores = kinds.agg(["size", "mean"]).sort_index(key=lambda k: [(x == "all", x) for x in k])
        scores = scores.set_axis(["n", "VQA accuracy"], axis=1)
        answer(args, scores.round(4).to_string(), records(scores.reset_index()))
    if args.out and not process():
        write_csv(args.out, table.drop(columns=["answers", "captions"], errors="ignore"))


def run(args) -> None:
    if wrong := [p for p in args.parameter if "=" not in p]:
        raise ValueError(f"-p {wrong[0]!r}: NAME=VALUE needed")
    from .study import run as run_study

    given = dict(p.split("=", 1) for p in args.parameter)
    if len(given) < len(args.parameter):
        raise ValueError("-p: one name is given twice; keep one")
    changed = {k: number(v) for k, v in given.items()}
    run_study(args.study, changed, tuple(args.only or ()))


def sweep(args) -> None:
    from .runtime import say
    from .study.sweep import sweep as run_cells

    print(run_cells(args.grid, args.scheduler, args.workers, say))


def parameter_table() -> str:
    from .study.parameters import table

    return f"\nparameters:\n{table()}\n"


def parser() -> commands.Parser:
    return commands.parser(run=parameter_table)


def claims(args) -> None:
    from .report import claims as verdicts

    lines, found = [], verdicts(results_of(args.study))
    for c in found:
        lines.append(f"{c['id']:4} {c['verdict']:15} {c['statement']}")
        lines.append(f"{'':21}criterion: {c['criterion']}\n{'':21}{c.get('numbers', '')}")
    answer(args, "\n".join(lines), found)


def given(args, *names: str) -> dict:
    return {k: v for k, v in vars(args).items() if k in names and v is not None}


def train_decoder(args) -> None:
    from .files import alone_in
    from .make_decoders import make_decoder

    with alone_in(Path(args.out), "--out"):
        make_decoder(args.name, Path(args.out), start=args.start, **given(args, "seen", "seed"))


def train_encoder(args) -> None:
    from .decoder import Decoder
    from .encoder import Pooler
    from .files import alone_in, read_json
    from .runtime import process
    from .train import RECIPE
    from .train import train_encoder as train

    out = Path(args.out)
    for there in (out / "model_index.json", out / "config.json"):
        if there.exists() and (kind := read_json(there).get("_class_name")) != Pooler.__name__:
            raise FileExistsError(f"--out {out}: holds another model, a {kind}; give a new folder")
    with nullcontext() if process() else alone_in(out, "--out"):  # the first one of several
        decoder = Decoder.load(args.decoder, args.revision)
        if args.gradient_checkpointing:
            decoder.denoiser.enable_gradient_checkpointing()
        dataset = pictures(args, decoder.size, split="train")  # of records that name none
        probe = dataset.subset("val", 256) if "val" in set(dataset.frame["split"]) else None
        images = dataset.subset("train")
        images = images.subset("all", round(args.data * len(images)))
        own = ("seen", "checkpoint_every", "accumulate", "train_backbone")
        options = given(args, *own, *RECIPE)
        made = train(images, decoder, out, probe=probe, **options)
        if not process():
            made.save(out, half=True)
            print(out)


def bench(args) -> None:
    from .bench import run as run_bench

    out = Path(args.out) if args.out else None
    result = run_bench(repeats=args.repeats, out=out, tell=teller(args))
    if args.json:
        answer(args, "", result)


def number_format(args):
    """Where --precision asks for float32, a context of it."""
    if getattr(args, "precision", "auto") == "auto":
        return nullcontext()
    from .runtime import plain_float32

    return plain_float32()


def main(argv: list[str] | None = None) -> int:
    from .files import check_not_read, check_writable
    from .study.parameters import BadParameter

    (args, unknown), rank = parser().parse_known_args(argv), int(os.environ.get("RANK", 0))
    if unknown:  # the command's parser knows what may have been meant
        args.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    action = globals()[args.command.replace("-", "_")]
    try:
        if args.command not in SHARED and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(f"works in one process; a launcher may start {', '.join(SHARED)}")
        training = args.command.startswith("train")
        # before the work; `write` calls its input pictures
        for place, folder in (("out", training), ("keep", True), ("pictures", True)):
            if isinstance(out := getattr(args, place, None), str):
                check_writable(out, folder)
                given = {k: v for k, v in vars(args).items() if k not in (place, "text")}
                check_not_read(out, given.values())
        # of several processes the first one tells
        with redirect_stdout(io.StringIO()) if rank else nullcontext(), number_format(args):
            action(args)
        sys.stdout.flush()  # a full disk is told of here, not at the end of the process
    except KeyboardInterrupt:
        resumes = args.command in ("run", "sweep", "train-decoder", "train-encoder", *KEPT)
        resumes = resumes or getattr(args, "keep", None)
        how = "goes on where it stopped" if resumes else "starts from the beginning"
        print(f"\ndd {args.command}: stopped; the same command {how}", file=sys.stderr)
        return 130
    # bad data, parameters, paths, a small machine
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        told, of_torch = str(error), isinstance(error, RuntimeError)
        short = re.search("out of memory|allocate|enough memory", told)
        if of_torch and not short:
            raise
        if isinstance(error, OSError) and error.strerror:
            told = f"{error.filename or 'what it writes'}: {error.strerror}"
        if (of_torch or isinstance(error, MemoryError)) and (short or not told):
            told = f"not enough memory; give it less at a time ({told[:150]})"
        # one line, no traceback; parameters have one each
        lines = told.split("\n") if isinstance(error, BadParameter) else [told]
        one = f" (process {rank})" if rank else ""
        print(f"dd {args.command}{one}: " + "\n".join(map(one_line, lines)), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.stdout = sys.stdout or open(os.devnull, "w")  # closed by whoever started the command
    sys.stdout.reconfigure(errors="backslashreplace")  # a locale without the letters of a path
    try:
        code = main()
    except KeyboardInterrupt:  # before a command has begun
        print("\ndd: stopped", file=sys.stderr)
        code = 130
    with suppress(OSError):  # told of already
        sys.stdout.close()
    sys.exit(code)
