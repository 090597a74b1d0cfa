"""python -m dd: write a picture in words, draw words, score captions, run the study.

One function a command; commands.toml is the table of commands and options. Nothing that takes time
to import (torch, pandas, numpy) is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

from .messages import nearest, one_line

ANEW = "dediffusion_anew"  # De-Diffusion's texts as the study's encoder writes them on this machine
SCORES = ("fid", "kid", "paired", "r_at_1")


def number(text: str):
    """A YAML scalar or list from the command line: 3, 0.5, [1, 2], name."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r} is no YAML value; write 3, 0.5, name or [1, 2]") from None


def write(args) -> None:
    if len(args.images) <= 8:  # one batch: no faster on more cores, much slower on busy ones
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    import numpy as np

    from .data import to_pixels
    from .encoder import Encoder
    from .reading import read_picture

    pictures = [read_picture(Path(path), 64) for path in args.images]
    texts = Encoder.load(args.encoder).write(to_pixels(np.stack(pictures)))
    for path, text in zip(args.images, texts):
        print(f"{one_line(path)}\t{text}" if len(args.images) > 1 else text)


def draw(args) -> None:
    import numpy as np
    from PIL import Image

    from .data import BadData
    from .decoder import Decoder
    from .files import whole
    from .runtime import say
    from .vocab import unread

    if not args.text.strip():
        raise BadData("the text is empty; say what to draw")
    decoder = Decoder.load(args.decoder, args.revision)
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
    for line in unread(decoder.tokenizer, [args.text], decoder.name)[1]:
        say(line)
    ids = [f"draw/{i}" for i in range(args.n)]
    how = {k: getattr(args, k) for k in ("guidance", "steps", "sampler", "seed")}
    pictures = decoder.draw([args.text] * args.n, ids, **how)
    sheet = Image.fromarray(np.concatenate(list(pictures), axis=1))  # side by side
    larger = sheet.resize((sheet.width * args.scale, sheet.height * args.scale), Image.NEAREST)
    with whole(args.out) as temporary:
        larger.save(temporary, format)
    print(args.out)


def tell(read, before=None) -> None:
    """What reading left out and decided (skipped and notes), but for what was told before."""
    from .runtime import say

    for what, lines in (("left out", "skipped"), ("note", "notes")):
        for line in getattr(read, lines)[len(getattr(before, lines, ())) :]:
            say(f"{what}: {one_line(line)}")


def pictures(args, size: int, **more):
    """The data set of --world, --images and --on-bad; each record that is left out is named."""
    from .data import load_dataset

    how = dict(images=args.images, size=size, on_bad=args.on_bad)
    dataset = load_dataset(args.world, **how, **more)
    tell(dataset)
    return dataset


def split_of(args) -> str:
    return args.split if args.world == "emoji" else "all"


def score(args) -> None:
    import pandas as pd

    from . import metrics
    from .data import load_dataset
    from .decoder import Decoder
    from .files import require_memory, write_csv
    from .runtime import say
    from .search import SearchEngine
    from .sources import SEARCH
    from .texts import read_texts, readability
    from .vocab import unread

    if not Path(args.file).exists():
        raise FileNotFoundError(f"{args.file}: no such file of captions")
    if searches := args.decoder == SEARCH:
        decoder, guidances = SearchEngine(load_dataset("emoji").subset("train")), [float("nan")]
    else:
        decoder, guidances = Decoder.load(args.decoder, args.revision), args.guidance
    split, rows = split_of(args), []
    dataset = pictures(args, decoder.size).subset(split)
    covered, texts = read_texts(args.file, dataset, args.on_bad)
    tell(covered, dataset)
    metrics.require_enough(M := len(covered), metrics.WIDTH)
    require_memory(5 * 8 * M**2, f"KID's kernels of {M:,} images", "score fewer of them")
    facts, lines = ({}, []) if searches else unread(decoder.tokenizer, texts, decoder.name)
    for line in lines:
        say(line)
    real = metrics.image_features(covered.images)
    for guidance in guidances:
        how = dict(guidance=guidance, steps=args.steps, sampler=args.sampler, seed=args.seed)
        row = {"world": dataset.name, "split": split, "source": Path(args.file).stem}
        row |= {"decoder": decoder.name, "guidance": guidance, "seed": args.seed}
        rows.append(row | drawn_scores(decoder, covered, texts, real, **how) | facts)
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    if args.world == "emoji":
        words = {k: round(v, 3) for k, v in readability(covered, texts).items()}
        print("words:", json.dumps(words))
    if args.out:
        write_csv(args.out, table)


def drawn_scores(decoder, dataset, texts: list[str], real, **drawing) -> dict:
    """Draw a text for each original and score the pictures against the originals' image features,
    `real` (M, D)."""
    from . import metrics

    pictures = decoder.draw(texts, list(dataset.frame["id"]), progress=True, **drawing)
    styles = (dataset.frame["style"].to_numpy(),) * 2 if "style" in dataset.frame else None
    return metrics.score(real, metrics.image_features(pictures), classes=styles)


def results_of(study: str, name: str = "") -> Path:
    """The folder of a study's results, or a file in it."""
    from .study import results_root

    path, root = results_root() / study / name, results_root()
    if not path.exists():
        made = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        there = f"there are results of {', '.join(made) or 'no study'}{nearest(study, made)}"
        raise FileNotFoundError(f"{path}: no such results; python -m dd run makes some, {there}")
    return path


def check(args) -> None:
    """The published texts of a study drawn and scored again, beside its table: what another
    processor, or another version of a library, moves."""
    import pandas as pd

    from . import metrics
    from .data import BadData, Dataset, load_dataset, to_pixels
    from .decoder import Decoder
    from .encoder import Encoder
    from .files import write_csv
    from .runtime import compute_dtype

    results, split = results_of(args.study, "reconstruction.csv"), args.split
    folder = results.parent
    made_with = json.loads((folder / "parameters" / "05_reconstruction.json").read_text())
    table = pd.read_csv(results)
    table = table[(table["split"] == split) & (table["decoder"] == args.decoder)]
    published = table[table["seed"] == made_with["seed"]].set_index("source")
    file = lambda source: folder / "texts" / split / f"{source}.parquet"
    can = [s for s in published.index if file(s).exists()] + [ANEW] * file("dediffusion").exists()
    if strange := [s for s in args.sources if s not in can]:
        raise BadData(
            f"--sources {strange[0]}: {folder} has no row and texts of it on {split} "
            f"through {args.decoder}; it has {', '.join(can)}{nearest(strange[0], can)}"
        )
    own = folder / "encoder" if made_with["encoder"] == "trained" else Path(made_with["encoder"])
    encoder = str(own) if (own / "config.json").exists() else "encoder"
    decoder = Decoder.load(args.decoder)
    writer = Encoder.load(encoder) if ANEW in args.sources else None
    dataset = load_dataset("emoji").subset(split)
    at, real, rows = {id: i for i, id in enumerate(dataset.frame["id"])}, None, []
    numbers = str(compute_dtype() or "float32").removeprefix("torch.")
    how = {k: made_with[k] for k in ("steps", "sampler", "seed")}
    for source in args.sources:
        known = source.removesuffix("_anew")
        told = pd.read_parquet(file(known))
        drawings, texts = [at[i] for i in told["id"]], told["text"].tolist()
        frame = dataset.frame.iloc[drawings].reset_index(drop=True)
        drawn = Dataset(dataset.name, frame, dataset.images[drawings])
        if real is None:  # a study's sources are all of the same drawings
            real = metrics.image_features(drawn.images)
        if source == ANEW:
            before, texts = texts, writer.write(to_pixels(drawn.images))
            whose = "the shipped encoder" if encoder == "encoder" else own.name
            same = sum(a == b for a, b in zip(before, texts))
            words = [(set(a.split()), set(b.split())) for a, b in zip(before, texts)]
            kept = sum(len(a & b) / len(a) for a, b in words) / len(words)
            print(
                f"{source}, written by {whose}: {same} of {len(texts)} texts are the published "
                f"ones to the letter; of a text's words {kept:.1%} are kept"
            )
        row, noises = published.loc[known], table[table["source"] == known]
        guidance = row["guidance"]
        here = drawn_scores(decoder, drawn, texts, real, guidance=float(guidance), **how)
        print(f"{source}, guidance {guidance:g}, n {here['n']}")
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
            print(line, flush=True)
            cell = dict(source=source, split=split, decoder=args.decoder, guidance=guidance)
            cell |= dict(n=here["n"], score=score, published=old, published_lo=lo, published_hi=hi)
            cell |= dict(noise_lo=low, noise_hi=high, noises=len(noises), here=new)
            rows.append(cell | {"numbers": numbers})
        if args.out:  # source by source: a kill keeps what is done
            write_csv(args.out, pd.DataFrame(rows).round(5))


def described(args, load, describe) -> None:
    """Write what `describe` says of a data set's pictures, by a model that can be loaded, to a file
    that `score` reads."""
    from .data import BadData
    from .runtime import say
    from .texts import write_texts

    if Path(args.out).suffix != ".parquet":
        raise BadData(f"--out {args.out}: captions are written as .parquet (columns id, text)")
    load(args.model, args.revision)  # before the pictures
    dataset = pictures(args, args.size).subset(split_of(args))
    texts = describe(dataset)
    if silent := sum(not text.strip() for text in texts):
        say(f"note: {silent} of {len(texts)} texts are empty; score --on-bad skip takes the others")
    write_texts(Path(args.out), dataset, texts)
    print(args.out)


def caption(args) -> None:
    from .baselines import caption as captions
    from .baselines import captioner

    how = dict(prompt=args.prompt, tokens=args.tokens, B=args.batch)
    described(args, captioner, lambda dataset: captions(dataset, args.model, args.revision, **how))


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
    how = dict(shortlist=args.shortlist, most=args.most, B=args.batch)
    describe = lambda data: interrogate_by_clip(data, args.model, bank, args.revision, **how)
    described(args, contrastive, describe)


def ask(args) -> None:
    import pandas as pd

    from . import llm
    from .files import write_csv
    from .reading import Bad, BadData, near_misses, texts_by_id
    from .runtime import say
    from .study import few_shot

    published = [args.questions, args.annotations]
    if bool(args.captions) == any(published) or any(published) != all(published):
        raise BadData("what is asked? give --questions and --annotations, or --captions alone")
    bad = Bad(args.on_bad)
    contexts = {id: text for id, (_, text) in texts_by_id(args.file, bad, empty=True).items()}

    if long := sum(llm.is_long(text) for text in contexts.values()):
        say(f"note: {long} of {len(contexts)} texts are cut after {llm.MOST}")

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
        shown = shown.sample(args.shots, random_state=args.seed).itertuples()
    tell(bad)
    if args.captions:
        head, tokens, what = few_shot.CAPTION, 20, "captions"
        examples = [
            few_shot.example(few_shot.query(contexts[e.id], "Caption"), e.captions[0])
            for e in shown
        ]
        asked = [few_shot.query(contexts[i], "Caption") for i in table["id"]]
    else:
        head, tokens, what = few_shot.VQA, 12, "questions"
        examples = [few_shot.vqa_example(contexts[e.id], e.question, e.answer) for e in shown]
        asked = [few_shot.vqa_query(contexts[q.id], q.question) for q in table.itertuples()]
    prompts = [llm.Prompt(head, tuple(examples), query) for query in asked]
    model = llm.LanguageModel.load(args.model)
    table["said"] = model.answer(prompts, tokens=tokens, B=args.batch, progress=what)
    if args.captions:
        table["cider"] = few_shot.cider(list(table["said"]), list(table["captions"]))
        print(f"CIDEr {table['cider'].mean():.1f} of {len(table)} captions")
    else:
        table["vqa"] = list(map(few_shot.vqa_accuracy, table["said"], table["answers"]))
        kinds = pd.concat([table, table.assign(kind="all")]).groupby("kind", sort=False)["vqa"]
        scores = kinds.agg(["size", "mean"]).sort_index(key=lambda k: [(x == "all", x) for x in k])
        print(scores.set_axis(["n", "VQA accuracy"], axis=1).round(4).to_string())
    if args.out:
        write_csv(args.out, table.drop(columns=["answers", "captions"], errors="ignore"))


def run(args) -> None:
    if wrong := [p for p in args.parameter if "=" not in p]:
        raise ValueError(f"-p {wrong[0]!r}: NAME=VALUE needed")
    from .study import run as run_study

    run_study(args.study, {k: number(v) for k, v in (p.split("=", 1) for p in args.parameter)})


def parameter_table() -> str:
    from .study.parameters import table

    return table()


def claims(args) -> None:
    from .report import claims as verdicts

    for c in verdicts(results_of(args.study)):
        print(f"{c['id']:4} {c['verdict']:15} {c['statement']}")
        print(f"{'':21}criterion: {c['criterion']}\n{'':21}{c.get('numbers', '')}")


def given(args, *names: str) -> dict:
    return {k: v for k, v in vars(args).items() if k in names and v is not None}


def train_decoder(args) -> None:
    from .files import alone_in
    from .make_decoders import make_decoder

    with alone_in(Path(args.out), "--out"):
        make_decoder(args.name, Path(args.out), start=args.start, **given(args, "seen", "seed"))


def train_encoder(args) -> None:
    from .decoder import Decoder
    from .files import alone_in
    from .train import train_encoder as train

    out = Path(args.out)
    with alone_in(out, "--out"):
        decoder = Decoder.load(args.decoder, args.revision)
        dataset = pictures(args, decoder.size, split="train")  # of records that name none
        probe = dataset.subset("val", 256) if "val" in set(dataset.frame["split"]) else None
        recipe = "seen tokens tau_start tau_end noise hard_from t_from least seed"
        recipe = given(args, *recipe.split())
        train(dataset.subset("train"), decoder, out, probe=probe, **recipe).save(out, half=True)
    print(out)


def bench(args) -> None:
    from .bench import run as run_bench

    run_bench(repeats=args.repeats, out=Path(args.out) if args.out else None)


def whole(low: int, high: int):
    def integer(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            bound = f"below {low}" if value < low else f"above {high}"
            raise argparse.ArgumentTypeError(f"{value} is {bound}")
        return value

    return integer


def real(low: float, high: float):
    def decimal(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            most = f" to {high}" if high < 1e9 else ""
            raise argparse.ArgumentTypeError(f"{value} is not a number from {low}{most}")
        return value

    return decimal


class Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default in (None, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, with the nearest name for what is misspelt."""

    def error(self, message: str):
        commands = [
            c for a in self._actions if isinstance(a.choices, dict) for c in a.choices.values()
        ]
        known = [o for p in (self, *commands) for a in p._actions for o in a.option_strings]
        known += [str(c) for a in self._actions for c in a.choices or ()]
        wrong = re.search(r"invalid choice: '(.*?)' |arguments: ([^\s=]+)", message)
        hint = nearest(wrong[1] or wrong[2], known) if wrong else ""
        self.exit(2, one_line(f"{self.prog}: {message}{hint}; --help tells more") + "\n")


def parser() -> argparse.ArgumentParser:
    about = "De-Diffusion: pictures to words, words to pictures, and how good the words are."
    p = Parser(prog="python -m dd", description=about)
    commands = p.add_subparsers(dest="command", required=True)
    table = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
    groups = table.pop("group")
    for name, options in table.items():
        about, action = options.pop("about"), globals()[name.replace("-", "_")]
        c = commands.add_parser(name, help=about, description=about, formatter_class=Help)
        c.set_defaults(action=action)
        for group in options.pop("use", ()):
            options |= groups[group]
        for flags, how in options.items():
            how = dict(how)
            low, high = how.pop("least", None), how.pop("most", None)
            if low is not None:
                decimal = isinstance(how.get("default"), (float, list))
                bounded, most = (real, sys.float_info.max) if decimal else (whole, 2**31 - 1)
                how["type"] = bounded(low, most if high is None else high)
            c.add_argument(*flags.split(), **how)
    plain = commands.choices["run"].format_help
    commands.choices["run"].format_help = lambda: f"{plain()}\nparameters:\n{parameter_table()}\n"
    return p


def main(argv: list[str] | None = None) -> int:
    from .files import check_writable
    from .study.parameters import BadParameter

    args = parser().parse_args(argv)
    try:
        if out := getattr(args, "out", None):  # before the work
            check_writable(out, folder=args.command.startswith("train"))
        args.action(args)
        sys.stdout.flush()  # a full disk is told of here, not at the end of the process
    except KeyboardInterrupt:
        resumes = args.command in ("run", "train-decoder", "train-encoder")
        how = "goes on where it stopped" if resumes else "begins anew"
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
        print(f"dd {args.command}: " + "\n".join(map(one_line, lines)), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a locale without the letters of a path
    code = main()
    with suppress(OSError):  # told of already
        sys.stdout.close()
    sys.exit(code)
