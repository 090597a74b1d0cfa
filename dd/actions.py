"""The commands that take seconds to import what they need: one function each, of its name."""

import io
import json
from contextlib import nullcontext, suppress
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import baselines, data, llm, make_decoders, metrics, reading, train, writing
from . import bench as speed
from .commands import answer
from .data import to_pixels
from .decoder import Decoder, brought, require_room
from .encoder import Encoder, Pooler
from .files import (
    alone_in,
    check_not_read,
    check_writable,
    read_csv,
    read_json,
    whole,
    write_csv,
    write_text,
)
from .messages import nearest, one_line, shown
from .reading import Bad, BadData, lines_of, near_misses, text_of
from .records import captions_files
from .runtime import numbers, pinned, process, say, shared
from .search import SearchEngine
from .sources import SEARCH
from .study import cache, few_shot
from .study.cache import fingerprint, model_hash
from .study.parameters import results_of
from .texts import read_texts, readability
from .vocab import unread
from .writing import (
    of_split,
    parquet,
    picture_files,
    pictures,
    records,
    tell,
    teller,
    write_shares,
    written,
)

ANEW = "dediffusion_anew"  # De-Diffusion's texts as the study's encoder writes them on this machine
SCORES = ("fid", "kid", "paired", "r_at_1")
MOST_ROWS = 200  # of one figure: larger ones cannot be saved
DRAWN = 8  # pictures of `draw` that a process draws at a time


def how_drawn(args) -> dict:
    options = ("guidance", "steps", "sampler", "seed")
    return {k: getattr(args, k) for k in options}


def told_unread(decoder, texts: list[str], name: str = "") -> dict:
    """What of the texts a decoder does not read, as columns of a result; said, too."""
    facts, lines = unread(decoder.tokenizer, texts, name or decoder.name)
    for line in lines:
        say(line)
    return facts


def draw(args) -> None:
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
    facts = told_unread(decoder, [args.text])
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
    if Path(args.out).suffix != ".png":
        raise BadData(f"--out {args.out}: the figure is a PNG file; give a name that ends in .png")


def redraw(args) -> None:
    from .figures import sheet

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
        told_unread(decoder, texts, name)
    drawn = {name: d.draw(texts, ids, **how_drawn(args)) for name, d in decoders.items()}
    names = [f"{whose}, {Path(args.images[k]).name}" for k, whose, _ in rows]
    originals = pictures[[k for k, *_ in rows]]
    sheet(originals, {"text": texts}, drawn, args.out, names=names, scale=1.5, wrap=44)
    made = [dict(image=args.images[k], words_of=whose, text=text) for k, whose, text in rows]
    plain = lambda m: (one_line(m["image"]), m["words_of"], " ".join(m["text"].split()))
    lines = ["\t".join(plain(m)) for m in made]
    answer(args, "\n".join([*lines, args.out]), {"figure": args.out, "texts": made})


def explain(args) -> None:
    from .explain import explained, figure

    only_png(args)
    encoder, id = Encoder.load(args.encoder), args.picture
    if own := Path(id).is_file():  # before all that takes time
        image, name = picture_files([id], encoder.size)[0], Path(id).name
    decoder, emoji = Decoder.load(args.decoder, args.revision), data.load_dataset("emoji")
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
    facts = told_unread(decoder, [found.text])
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


def score(args) -> None:
    if args.out:
        check_writable(told_ids := Path(args.out).with_suffix(".ids.txt"))
        check_not_read(told_ids, vars(args).values())
        check_not_read(args.out, map(str, captions_files(Path(args.world))))
    # a decoder that cannot be meant and too few texts are told of before anything is loaded
    if not (searches := args.decoder == SEARCH):
        pinned(args.decoder, args.revision, "decoder")
    D, bad = metrics.width(args.features), Bad(args.on_bad)
    if (M := len(reading.texts_by_id(args.file, bad))) <= D:
        tell(bad)
        metrics.require_enough(M, D)
    if searches:
        decoder = SearchEngine(data.load_dataset("emoji").subset("train"))
    else:
        decoder = Decoder.load(args.decoder, args.revision, judge=True)
    guidances = [float("nan")] if searches else args.guidance
    split, dataset = of_split(args, decoder.size, captions=False)
    covered, texts = read_texts(args.file, dataset, args.on_bad)
    tell(covered, dataset)
    metrics.require_enough(len(covered), D)
    unreadable = {} if searches else told_unread(decoder, texts)
    ids = sorted(covered.frame["id"])
    if args.pictures:
        check_writable(Path(args.pictures, max(map(picture_name, ids), key=len)))
    which = fingerprint(ids)  # the same images, the same 12 digits
    if args.out and not process():
        write_text(told_ids, "".join(f"{id}\n" for id in ids))
    look = lambda rows: metrics.image_features(covered.images[rows], eye=args.features)
    told = "look at the originals"
    real = torch.cat(cache.kept_in_chunks(None, len(covered), writing.STEP, look, told, "images"))
    kept, rows = None, []
    if args.keep:
        facts = dict(decoder=model_hash(args.decoder), revision=args.revision, step=writing.STEP)
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


def picture_name(id: str) -> str:
    return f"{quote(id, safe='')}.png"


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
    ids, guidance = list(dataset.frame["id"]), drawing["guidance"]
    at = f" at guidance {guidance:g}" if guidance == guidance else ""  # search has none
    path, mark = kept and kept[0] / cache.key("draw", **kept[1], **drawing), PngInfo()
    mark.add_text("drawn", path.name if path else "")
    file = lambda id: folder / picture_name(id)

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
    chunks = cache.kept_in_chunks(path, len(ids), writing.STEP, look, f"draw {decoder.name}{at}")
    if folder and path:
        shared(lost, len(ids), writing.STEP)
    if process():
        return {}
    classes = None if dataset.styles is None else (dataset.styles,) * 2
    return metrics.score(real, torch.cat([c["eye"] for c in chunks]), classes=classes)


def check(args) -> None:
    """The published texts of a study drawn and scored again, beside its table: what another
    processor, or another version of a library, moves."""
    folder, made_with, table = published_table(args)
    own = folder / "encoder" if made_with["encoder"] == "trained" else Path(made_with["encoder"])
    encoder = str(own) if (own / "config.json").exists() else "encoder"
    decoder = Decoder.load(args.decoder)
    writer = Encoder.load(encoder) if ANEW in args.sources else None
    dataset = data.load_dataset("emoji").subset(args.split)
    real, rows, line_of, anew = None, [], teller(args), {}
    how = {k: made_with[k] for k in ("steps", "sampler", "seed")}
    for source in args.sources:
        known = source.removesuffix("_anew")
        drawn, texts = published_texts(folder, known, args.split, dataset)
        if real is None:  # a study's sources are all of the same drawings
            real = metrics.image_features(drawn.images)
        if source == ANEW:
            before, texts = texts, writer.write(to_pixels(drawn.images))
            anew = compared(before, texts)
            whose = "the shipped encoder" if encoder == "encoder" else own.name
            line_of(
                f"{source}, written by {whose}: {anew['same']} of {len(texts)} texts are the "
                "published ones to the letter; of a text's words "
                f"{anew['words_kept']:.1%} are kept"
            )
        noises = table[table["source"] == known]
        row = noises[noises["seed"] == made_with["seed"]].iloc[0]
        guidance = float(row["guidance"])
        here = drawn_scores(decoder, drawn, texts, real, guidance=guidance, **how)
        line_of(f"{source}, guidance {guidance:g}, n {here['n']}")
        for score in SCORES:
            cell = dict(source=source, split=args.split, decoder=args.decoder, guidance=guidance)
            cell |= dict(
                n=here["n"], score=score, **moved(here[score], row, noises[score], line_of)
            )
            rows.append(cell | {"numbers": numbers()})
        if args.out:  # source by source: a kill keeps what is done
            write_csv(args.out, pd.DataFrame(rows).round(5))
    if args.json:
        answer(args, "", {"scores": records(pd.DataFrame(rows)), "written_anew": anew or None})


def published_table(args) -> tuple[Path, dict, pd.DataFrame]:
    """A study's folder, its parameters, and the rows of its table that can be checked here."""
    results, split = results_of(args.study, "reconstruction.csv"), args.split
    folder = results.parent
    made_with = read_json(folder / "parameters" / "05_reconstruction.json")
    table = read_csv(results, "split", "source", "decoder", "seed", "guidance", *SCORES)
    table = table[(table["split"] == split) & (table["decoder"] == args.decoder)]
    published = table["source"][table["seed"] == made_with["seed"]]
    exists = lambda source: (folder / "texts" / split / f"{source}.parquet").exists()
    can = [s for s in published if exists(s)] + [ANEW] * exists("dediffusion")
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
    return folder, made_with, table


def published_texts(
    folder: Path, source: str, split: str, dataset
) -> tuple[data.Dataset, list[str]]:
    """The drawings of which a study has published texts, and the texts."""
    file = folder / "texts" / split / f"{source}.parquet"
    at = {id: i for i, id in enumerate(dataset.frame["id"])}
    told = reading.texts_by_id(file, Bad(), empty=True)
    if strange := [id for id in told if id not in at]:
        other = f"{strange[0]!r} is no {split} drawing of the emoji world"
        raise BadData(f"{file}: {other}, the only one checked")
    return dataset.rows([at[i] for i in told]), [text for _, text in told.values()]


def compared(before: list[str], after: list[str]) -> dict:
    """How many of M texts came out the same, and the share of a text's words that are kept."""
    words = [(set(a.split()), set(b.split())) for a, b in zip(before, after)]
    kept = sum(len(a & b) / len(a) for a, b in words) / len(words)
    return {"texts": len(after), "same": sum(map(str.__eq__, before, after)), "words_kept": kept}


def moved(new: float, row: pd.Series, noises: pd.Series, line_of) -> dict:
    """A score computed here beside the published `row`, that of one starting noise of `noises`."""
    score = noises.name
    old, lo, hi = (row.get(f"{score}{end}", float("nan")) for end in ("", "_lo", "_hi"))
    low, high = noises.min(), noises.max()
    line = f"  {score:7} {new:9.4g} here, {old:.4g} published, moved {new - old:+.3g}"
    if len(noises) > 1:
        line += f"; {len(noises)} draws of noise span {low:.4g} to {high:.4g}"
    if not pd.isna(lo):
        line += f"; interval over drawings [{lo:.4g}, {hi:.4g}]"
        line += "" if lo <= new <= hi else ": OUTSIDE"
    line_of(line)
    span = dict(noise_lo=low, noise_hi=high, noises=len(noises))
    return dict(published=old, published_lo=lo, published_hi=hi, **span, here=new)


def described(args, load, describe, **how) -> None:
    """Write what `describe` says of a data set's pictures, by a model that can be loaded, to a file
    that `score` reads; `how`: its options, on which texts depend."""
    out, model = parquet(args.out), dict(model=args.model, revision=args.revision)
    load(args.model, args.revision)  # before the pictures
    _, dataset = of_split(args, args.size)
    work = lambda rows: describe(dataset.rows(range(len(dataset))[rows]), **model, **how)
    facts = dict(what=args.command, weights=cache.model_hash(args.model), size=args.size)
    write_shares(out, dataset, work, args.batch, **facts, **model, **how)


def caption(args) -> None:
    how = dict(prompt=text_of(args.prompt, "prompt"), tokens=args.tokens, B=args.batch)
    described(args, baselines.captioner, baselines.caption, **how)


def interrogate(args) -> None:
    if args.bank:
        if Path(args.bank).suffix.lower() in writing.WORLDS:
            raise BadData(f"--bank {args.bank}: a table; save its phrases as .txt, one a line")
        bank = lines_of(args.bank)
    elif args.world == "emoji":
        bank = baselines.phrase_bank(data.load_dataset("emoji").subset("train"))
    else:
        raise BadData(
            f"--world {args.world}: give --bank FILE, phrases to choose from, one a line; "
            "only the emoji world has its own"
        )
    bank = list(dict.fromkeys(filter(None, (" ".join(line.split()) for line in bank))))
    if not bank:
        raise BadData(f"{args.bank}: no phrases in it; write one a line")
    how = dict(bank=tuple(bank), shortlist=args.shortlist, most=args.most, B=args.batch)
    described(args, baselines.contrastive, baselines.interrogate_by_clip, **how)


def ask(args) -> None:
    published = [args.questions, args.annotations]
    if bool(args.captions) == any(published) or any(published) != all(published):
        raise BadData("what is asked? give --questions and --annotations, or --captions alone")
    bad = Bad(args.on_bad)
    if args.examples and not args.shots:
        raise BadData("--examples: none is shown with --shots 0; give --shots, too")
    if args.captions:
        few_shot.require_cider()
    found = reading.texts_by_id(args.file, bad, empty=True)
    contexts = {id: text for id, (_, text) in found.items()}
    query = lambda id, field: few_shot.query(contexts[id], field, short=False)
    files = [args.captions] if args.captions else published
    table = entries(args, files, contexts, bad)
    shown = examples_of(args, files, contexts, table, bad) if args.shots else ()
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


def entries(args, files: list[str], contexts: dict[str, str], bad: Bad) -> pd.DataFrame:
    """What the files ask, or say, of images that have a text."""
    table = (few_shot.read_captions if args.captions else few_shot.read_vqa)(*files, bad)
    if table.empty:
        raise BadData(f"{files[0]}: nothing in it can be used; {bad.first}")
    lost = table["id"][~table["id"].isin(list(contexts))]
    if len(lost) == len(table):
        there, here = lost.iloc[0], next(iter(contexts))
        ids = f"ids there look like {there!r}, here like {here!r}"
        raise BadData(f"{args.file}: no text for any image of {files[0]}; {ids}")
    meant, hint = near_misses(lost, contexts), ""
    if meant:
        there, here = next(iter(meant.items()))
        hint = f"; {there!r} is {here!r} here, ids that differ so: {len(meant)}"
    if len(lost) and args.on_bad == "stop":
        raise BadData(
            f"{args.file}: no text for {len(lost)} of the {len(table)} entries of {files[0]}, "
            f"image {lost.iloc[0]!r} first{hint}; write it or use --on-bad skip"
        )
    if len(lost):
        say(f"left out: {len(lost)} entries of {files[0]} about images without a text{hint}")
    return table.drop(lost.index).reset_index(drop=True)


def examples_of(args, files: list[str], contexts, asked: pd.DataFrame, bad: Bad):
    """--shots entries of --examples, drawn by --seed."""
    if len(args.examples or ()) != len(files):
        kinds = "CAPTIONS" if args.captions else "QUESTIONS ANNOTATIONS"
        raise BadData(
            f"--shots {args.shots}: examples come from files of their own; "
            f"give --examples {kinds}, or --shots 0"
        )
    shown = entries(args, args.examples, contexts, bad)
    if len(shown) < args.shots:
        has = f"{args.examples[0]} has {len(shown)} examples"
        raise BadData(f"--shots {args.shots}: {has}; ask for fewer, or give a larger file")
    if known := int(shown["id"].isin(asked["id"]).sum()):
        note = f"{known} of the {len(shown)} examples are about images that are asked about"
        say(f"note: {note}; give another split, or the score counts answers that were shown")
    return shown.sample(args.shots, random_state=args.seed).itertuples()


def given(args, *names: str) -> dict:
    return {k: v for k, v in vars(args).items() if k in names and v is not None}


def train_decoder(args) -> None:
    out, how = Path(args.out), given(args, "seen", "seed")
    for part in make_decoders.RECIPES if args.name == "all" else [args.name]:
        try:
            with alone_in(out / part, "--out"):  # other parts may be trained beside it
                make_decoders.make_decoder(part, out, start=args.start, **how)
        finally:
            with suppress(OSError):  # a folder in which nothing came to be does not stay
                out.rmdir()


def train_encoder(args) -> None:
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
        options = given(args, *own, *train.RECIPE)
        made = train.train_encoder(images, decoder, out, probe=probe, **options)
        if not process():
            made.save(out, half=True)
            print(out)


def bench(args) -> None:
    out = Path(args.out) if args.out else None
    result = speed.run(repeats=args.repeats, out=out, tell=teller(args))
    if args.json:
        answer(args, "", result)
