"""python -m dd: write a picture in words, draw words, score captions, run the study. Each command's --help says units and defaults."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from .llm import ROWS
from .runtime import say


def number(text: str):
    """A YAML scalar or list from the command line: 3, 0.5, [1, 2], name."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{text!r} is no YAML value; write 3, 0.5, name or [1, 2]") from None


def write(args) -> None:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from .data import BadData, square, to_pixels
    from .encoder import Encoder

    pictures = []
    for path in args.images:
        try:
            with Image.open(path) as opened:
                pictures.append(np.asarray(square(opened, 64)))
        except FileNotFoundError:
            raise BadData(f"{path}: no such image") from None
        except (UnidentifiedImageError, OSError):
            raise BadData(
                f"{path}: cannot decode this as an image; PNG, JPEG, WebP and GIF are read"
            ) from None
    for path, text in zip(
        args.images, Encoder.load(args.encoder).write(to_pixels(np.stack(pictures)))
    ):
        print(f"{path}\t{text}" if len(args.images) > 1 else text)


def draw(args) -> None:
    from PIL import Image

    from .data import BadData
    from .decoder import Decoder
    from .vocab import reading_rates

    if not args.text.strip():
        raise BadData("the text is empty; say what to draw")
    decoder = Decoder.load(args.decoder, args.revision)
    rates = reading_rates(decoder.tokenizer, [args.text])
    if rates["unknown"]:
        say(
            f"note: {rates['unknown']:.0%} of these words are unknown to {decoder.name} and say nothing to it"
        )
    if rates["truncated"]:
        say(
            f"note: longer than the {decoder.L - 2} tokens {decoder.name} reads; the rest is cut off"
        )
    pictures = decoder.draw(
        [args.text] * args.n,
        [f"draw/{i}" for i in range(args.n)],
        guidance=args.guidance,
        steps=args.steps,
        sampler=args.sampler,
        seed=args.seed,
    )
    sheet = Image.new("RGB", (pictures.shape[2] * args.n, pictures.shape[1]), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (i * pictures.shape[2], 0))
    sheet.resize((sheet.width * args.scale, sheet.height * args.scale), Image.NEAREST).save(
        args.out
    )
    print(args.out)


def score(args) -> None:
    import pandas as pd

    from . import metrics
    from .data import load_dataset
    from .decoder import Decoder
    from .texts import read_texts, readability

    if not Path(args.file).exists():
        raise FileNotFoundError(f"{args.file}: no such file of captions")
    decoder, rows = Decoder.load(args.decoder, args.revision), []
    split = args.split if args.world == "emoji" else "all"
    dataset = load_dataset(
        args.world, images=args.images, size=decoder.size, on_bad=args.on_bad
    ).subset(split)
    covered, texts = read_texts(args.file, dataset, args.on_bad)
    for line in covered.skipped:
        say(f"left out: {line}")
    metrics.require_enough(len(covered), metrics.WIDTH)
    real = metrics.image_features(covered.images)
    for guidance in args.guidance:
        rows.append(
            {
                "world": dataset.name,
                "split": split,
                "source": Path(args.file).stem,
                "decoder": decoder.name,
                "guidance": guidance,
                "seed": args.seed,
                **drawn_scores(
                    decoder,
                    covered,
                    texts,
                    real,
                    guidance=guidance,
                    steps=args.steps,
                    sampler=args.sampler,
                    seed=args.seed,
                ),
            }
        )
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    if args.world == "emoji":
        print(
            "words:", json.dumps({k: round(v, 3) for k, v in readability(covered, texts).items()})
        )
    if args.out:
        table.to_csv(args.out, index=False)


def drawn_scores(decoder, dataset, texts: list[str], real, **drawing) -> dict:
    """Draw a text for each original and score the pictures against what the judge's eye sees of the originals, `real` (M, D)."""
    from . import metrics

    pictures = decoder.draw(texts, list(dataset.frame["id"]), progress=True, **drawing)
    styles = (dataset.frame["style"].to_numpy(),) * 2 if "style" in dataset.frame else None
    return metrics.score(real, metrics.image_features(pictures), classes=styles)


ANEW = "dediffusion_anew"  # De-Diffusion's texts as the study's encoder writes them on this machine


def check(args) -> None:
    """The published texts of a study drawn and scored again, beside its table: what another processor, or another version of a library, moves."""
    import pandas as pd

    from . import metrics
    from .data import BadData, Dataset, load_dataset, to_pixels
    from .decoder import Decoder
    from .encoder import Encoder
    from .runtime import compute_dtype
    from .study import results_root

    folder = results_root() / args.study
    if not (folder / "reconstruction.csv").exists():
        raise FileNotFoundError(
            f"{folder / 'reconstruction.csv'}: no such table; python -m dd run {args.study} makes it"
        )
    made_with, table = (
        json.loads((folder / "parameters" / "05_reconstruction.json").read_text()),
        pd.read_csv(folder / "reconstruction.csv"),
    )
    table = table[(table["split"] == args.split) & (table["decoder"] == args.decoder)]
    noises, published = (
        table.groupby("source"),
        table[table["seed"] == made_with["seed"]].set_index("source"),
    )
    file = lambda source: folder / "texts" / args.split / f"{source}.parquet"
    can = [s for s in published.index if file(s).exists()] + [ANEW] * file("dediffusion").exists()
    if strange := [s for s in args.sources if s not in can]:
        raise BadData(
            f"--sources {strange[0]}: {folder} has no row and texts of it on {args.split} through {args.decoder}; it has {', '.join(can)}"
        )
    trained = (
        folder / "encoder" if made_with["encoder"] == "trained" else Path(made_with["encoder"])
    )
    encoder = str(trained) if (trained / "config.json").exists() else "encoder"
    decoder, dataset, real, rows = (
        Decoder.load(args.decoder),
        load_dataset("emoji").subset(args.split),
        None,
        [],
    )
    at = {id: i for i, id in enumerate(dataset.frame["id"])}
    for source in args.sources:
        known = source.removesuffix("_anew")
        told = pd.read_parquet(file(known))
        drawings, texts = [at[i] for i in told["id"]], told["text"].tolist()
        part = Dataset(
            dataset.name,
            dataset.frame.iloc[drawings].reset_index(drop=True),
            dataset.images[drawings],
        )
        real = (
            metrics.image_features(part.images) if real is None else real
        )  # a study's sources are all of the same drawings
        if source == ANEW:
            before, texts = texts, Encoder.load(encoder).write(to_pixels(part.images))
            kept = [
                len(set(a.split()) & set(b.split())) / len(set(a.split()))
                for a, b in zip(before, texts)
            ]
            print(
                f"{source}, written by {Path(encoder).name if encoder != 'encoder' else 'the shipped encoder'}: {sum(a == b for a, b in zip(before, texts))} of {len(texts)} texts are the published ones to the letter; "
                f"of a text's words {sum(kept) / len(kept):.1%} are kept"
            )
        row, draws = published.loc[known], noises.get_group(known)
        here = drawn_scores(
            decoder,
            part,
            texts,
            real,
            guidance=float(row["guidance"]),
            steps=made_with["steps"],
            sampler=made_with["sampler"],
            seed=made_with["seed"],
        )
        print(f"{source}, guidance {row['guidance']:g}, n {here['n']}")
        for score in ("fid", "kid", "paired", "r_at_1"):
            lo, hi = row.get(f"{score}_lo", float("nan")), row.get(f"{score}_hi", float("nan"))
            rows.append(
                {
                    "source": source,
                    "split": args.split,
                    "decoder": args.decoder,
                    "guidance": row["guidance"],
                    "n": here["n"],
                    "score": score,
                    "published": row[score],
                    "published_lo": lo,
                    "published_hi": hi,
                    "noise_lo": draws[score].min(),
                    "noise_hi": draws[score].max(),
                    "noises": len(draws),
                    "here": here[score],
                    "numbers": str(compute_dtype() or "float32").removeprefix("torch."),
                }
            )
            print(
                f"  {score:7} {here[score]:9.4g} here, {row[score]:.4g} published, moved {here[score] - row[score]:+.3g}"
                + (
                    f"; {len(draws)} draws of noise span {draws[score].min():.4g} to {draws[score].max():.4g}"
                    if len(draws) > 1
                    else ""
                )
                + (
                    ""
                    if pd.isna(lo)
                    else f"; interval over drawings [{lo:.4g}, {hi:.4g}]"
                    + ("" if lo <= here[score] <= hi else ": OUTSIDE")
                ),
                flush=True,
            )
        if args.out:  # source by source: a kill keeps what is done
            pd.DataFrame(rows).round(5).to_csv(args.out, index=False)


def described(args, describe) -> None:
    """Write what `describe` says of a world's pictures to a file that `score` reads."""
    from .data import BadData, load_dataset
    from .texts import write_texts

    if Path(args.out).suffix != ".parquet":
        raise BadData(f"--out {args.out}: captions are written as .parquet (columns id, text)")
    split = args.split if args.world == "emoji" else "all"
    dataset = load_dataset(
        args.world, images=args.images, size=args.size, on_bad=args.on_bad
    ).subset(split)
    for line in dataset.skipped:
        say(f"left out: {line}")
    write_texts(Path(args.out), dataset, describe(dataset))
    print(args.out)


def caption(args) -> None:
    from .baselines import caption as captions

    described(
        args,
        lambda dataset: captions(
            dataset, args.model, args.revision, prompt=args.prompt, tokens=args.tokens, B=args.batch
        ),
    )


def interrogate(args) -> None:
    from .baselines import interrogate_by_clip, phrase_bank
    from .data import BadData, load_dataset

    if args.bank is None and args.world != "emoji":
        raise BadData(
            f"--world {args.dataset}: give --bank FILE, phrases to choose from, one a line; only the emoji world has its own"
        )
    bank = (
        phrase_bank(load_dataset("emoji").subset("train"))
        if args.bank is None
        else [
            " ".join(line.split())
            for line in Path(args.bank).read_text(encoding="utf-8").splitlines()
        ]
    )
    if not (bank := list(dict.fromkeys(p for p in bank if p))):
        raise BadData(f"{args.bank}: no phrases in it; write one a line")
    described(
        args,
        lambda dataset: interrogate_by_clip(
            dataset,
            args.model,
            bank,
            args.revision,
            shortlist=args.shortlist,
            most=args.most,
            B=args.batch,
        ),
    )


def ask(args) -> None:
    import pandas as pd

    from . import llm
    from .data import BadData
    from .study import few_shot

    if bool(args.captions) == bool(args.questions or args.annotations) or bool(
        args.questions
    ) != bool(args.annotations):
        raise BadData("what is asked? give --questions and --annotations, or --captions alone")
    told = (
        pd.read_parquet(args.file)
        if args.file.endswith(".parquet")
        else pd.read_csv(args.file, dtype=str, keep_default_na=False)
    )
    if missing := {"id", "text"} - set(told.columns):
        raise BadData(f"{args.file}: no column {sorted(missing)}; it has {list(told.columns)}")
    if strange := [i for i, text in zip(told["id"], told["text"]) if not isinstance(text, str)]:
        raise BadData(
            f"{args.file}: the text of {strange[0]!r} is not a string; write one, or an empty one"
        )
    contexts = dict(zip(told["id"].astype(str), told["text"]))

    def with_texts(*files):
        table = few_shot.read_captions(*files) if args.captions else few_shot.read_vqa(*files)
        if not any(i in contexts for i in table["id"]):
            raise BadData(
                f"{args.file}: no text for any image of {files[0]}; ids there look like {next(iter(table['id']), None)!r}, here like {next(iter(contexts), None)!r}"
            )
        if lost := sum(i not in contexts for i in table["id"]):
            if args.on_bad == "stop":
                raise BadData(
                    f"{args.file}: no text for {lost} of the {len(table)} entries of {files[0]}, image {next(i for i in table['id'] if i not in contexts)!r} first; write it or use --on-bad skip"
                )
            say(f"left out: {lost} entries of {files[0]} about images without a text")
        return table[table["id"].isin(contexts)].reset_index(drop=True)

    files = (args.captions,) if args.captions else (args.questions, args.annotations)
    table = with_texts(*files)
    if args.shots and len(args.examples or ()) != len(files):
        raise BadData(
            f"--shots {args.shots}: examples come from files of their own; give --examples {'CAPTIONS' if args.captions else 'QUESTIONS ANNOTATIONS'}, or --shots 0"
        )
    shown = (
        with_texts(*args.examples).sample(args.shots, random_state=args.seed)
        if args.shots
        else table[:0]
    )
    if args.captions:
        examples = tuple(
            few_shot.example(few_shot.query(contexts[e.id], "Caption"), e.captions[0])
            for e in shown.itertuples()
        )
        prompts = [
            llm.Prompt(few_shot.CAPTION, examples, few_shot.query(contexts[i], "Caption"))
            for i in table["id"]
        ]
    else:
        examples = tuple(
            few_shot.vqa_example(contexts[e.id], e.question, e.answer) for e in shown.itertuples()
        )
        prompts = [
            llm.Prompt(few_shot.VQA, examples, few_shot.vqa_query(contexts[q.id], q.question))
            for q in table.itertuples()
        ]
    table["said"] = llm.LanguageModel.load(args.model).answer(
        prompts,
        tokens=20 if args.captions else 12,
        B=args.batch,
        progress="captions" if args.captions else "questions",
    )
    if args.captions:
        table["cider"] = few_shot.cider(list(table["said"]), list(table["captions"]))
        print(f"CIDEr {table['cider'].mean():.1f} of {len(table)} captions")
    else:
        table["vqa"] = [
            few_shot.vqa_accuracy(said, a) for said, a in zip(table["said"], table["answers"])
        ]
        print(
            pd.concat(
                [
                    table.groupby("kind")["vqa"].agg(["size", "mean"]),
                    pd.DataFrame(
                        {"size": [len(table)], "mean": [table["vqa"].mean()]}, index=["all"]
                    ),
                ]
            )
            .rename(columns={"size": "n", "mean": "VQA accuracy"})
            .round(4)
            .to_string()
        )
    if args.out:
        table.drop(columns=["answers", "captions"], errors="ignore").to_csv(args.out, index=False)


def run(args) -> None:
    from .study import run as run_study

    run_study(args.study, {k: number(v) for k, v in (p.split("=", 1) for p in args.parameter)})


def claims(args) -> None:
    from .report import claims as verdicts
    from .study import results_root

    if not (results_root() / args.study).is_dir():
        raise FileNotFoundError(
            f"{results_root() / args.study}: no such results; python -m dd run {args.study} makes them"
        )
    for c in verdicts(results_root() / args.study):
        print(
            f"{c['id']:4} {c['verdict']:15} {c['statement']}\n{'':21}criterion: {c['criterion']}\n{'':21}{c.get('numbers', '')}"
        )


def train_decoder(args) -> None:
    from .make_decoders import make_decoder

    changed = {
        k: v
        for k, v in vars(args).items()
        if k in ("seen", "more_seen", "autoencoder_seen", "finish_seen", "seed")
    }  # only what was given
    make_decoder(args.name, Path(getattr(args, "out", f"my-{args.name}")), **changed)


def train_encoder(args) -> None:
    from .data import load_dataset
    from .decoder import Decoder
    from .train import train_encoder as train

    decoder, out = Decoder.load(args.decoder, args.revision), Path(args.out)
    dataset = load_dataset(
        args.world, images=args.images, size=decoder.size, on_bad=args.on_bad, split="train"
    )
    for line in dataset.skipped:
        say(f"left out: {line}")
    encoder = train(
        dataset.subset("train"),
        decoder,
        out,
        seen=args.seen,
        tokens=args.tokens,
        tau_start=args.tau_start,
        tau_end=args.tau_end,
        noise=args.noise,
        hard_from=args.hard_from,
        t_from=args.t_from,
        least=args.least,
        seed=args.seed,
        probe=dataset.subset("val", 256) if "val" in set(dataset.frame["split"]) else None,
    )
    encoder.save(out, half=True)
    print(out)


def bench(args) -> None:
    from .bench import run as run_bench

    run_bench(repeats=args.repeats, out=Path(args.out) if args.out else None)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m dd",
        description="De-Diffusion: pictures to words, words to pictures, and how good the words are.",
    )
    commands = p.add_subparsers(dest="command", required=True)

    def command(name, action, help):
        c = commands.add_parser(
            name,
            help=help,
            description=help,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        c.set_defaults(action=action)
        return c

    def drawing(c, guidance=True):
        c.add_argument(
            "--decoder",
            default="sketch",
            help="shipped decoder, diffusers pipeline folder, or Hub id (with --revision)",
        )
        c.add_argument("--revision", help="commit of a Hub id; required for one")
        c.add_argument("--steps", type=whole(1), default=8, help="sampler steps per picture")
        c.add_argument(
            "--sampler", choices=("ddim", "dpm"), default="dpm", help="diffusers sampler"
        )
        c.add_argument(
            "--seed",
            type=whole(0),
            default=0,
            help="root seed; starting noise is fixed per image and seed",
        )

    def pictures(c):
        c.add_argument(
            "--world",
            default="emoji",
            help="'emoji', a COCO captions .json, or a folder with a captions file",
        )
        c.add_argument("--images", help="image folder of a COCO file")
        c.add_argument(
            "--on-bad",
            choices=("skip", "stop"),
            default="stop",
            help="what to do with a record that cannot be used",
        )

    def describing(c, batch: int):
        c.add_argument("--revision", help="commit of a Hub id; required for one")
        c.add_argument("--batch", type=whole(1), default=batch, help="images at a time")
        pictures(c)
        c.add_argument(
            "--size",
            type=whole(8),
            default=64,
            help="pixels per side that images are brought to first; emoji have 64, use 384 or more for photographs",
        )
        c.add_argument(
            "--split",
            default="test",
            choices=("train", "val", "test", "novel"),
            help="emoji split to describe",
        )
        c.add_argument(
            "--out", default="captions.parquet", help="Parquet file to write, columns id and text"
        )

    c = command("write", write, "image -> text, one line an image")
    c.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="picture files; transparent ones are laid on white, others centre-cropped to a square",
    )
    c.add_argument(
        "--encoder", default="encoder", help="shipped encoder or a folder made by train-encoder"
    )
    c = command("draw", draw, "text -> image")
    c.add_argument("text", metavar="TEXT")
    c.add_argument("--out", default="drawing.png", help="picture file to write")
    c.add_argument(
        "--n", type=whole(1), default=4, help="pictures, side by side, each from its own noise"
    )
    c.add_argument("--scale", type=whole(1), default=3, help="screen pixels per picture pixel")
    c.add_argument(
        "--guidance", type=real(0), default=3.0, help="classifier-free guidance; 1 is none"
    )
    drawing(c)
    c = command(
        "score",
        score,
        "any file of captions (id, text) -> reconstruction FID, KID, paired similarity, retrieval",
    )
    c.add_argument("file", metavar="FILE", help=".csv, .jsonl or .parquet with columns id and text")
    pictures(c)
    c.add_argument(
        "--split",
        default="test",
        choices=("train", "val", "test", "novel"),
        help="emoji split the captions are for",
    )
    c.add_argument(
        "--guidance", type=real(0), nargs="+", default=[3.0], help="one or more guidance values"
    )
    c.add_argument("--out", help="CSV file to write the table to as well")
    drawing(c)
    c = command(
        "caption",
        caption,
        "a captioner or vision-language model of transformers -> a file of captions (id, text) that `score` reads",
    )
    c.add_argument(
        "model",
        metavar="MODEL",
        help="folder or Hub id (with --revision, or id@commit) of an image-text-to-text model: BLIP, BLIP-2, Florence-2, LLaVA, ...",
    )
    c.add_argument(
        "--prompt",
        default="",
        help="what the model is asked with; not part of the caption. A chat model is asked for one detailed sentence if this is empty",
    )
    c.add_argument("--tokens", type=whole(1), default=60, help="longest caption, tokens")
    describing(c, batch=8)
    c = command(
        "interrogate",
        interrogate,
        "a CLIP of transformers and a list of phrases -> a file of captions (id, text) that `score` reads, by CLIP Interrogator's greedy chain",
    )
    c.add_argument(
        "model",
        metavar="MODEL",
        help="folder or Hub id (with --revision, or id@commit) of a CLIP or SigLIP",
    )
    c.add_argument(
        "--bank",
        help="text file of phrases, one a line (default: those of the emoji world's training drawings)",
    )
    c.add_argument(
        "--shortlist",
        type=whole(1),
        default=128,
        help="phrases tried per image: the likest by themselves",
    )
    c.add_argument("--most", type=whole(1), default=40, help="longest text, words")
    describing(c, batch=64)
    c = command(
        "ask",
        ask,
        "a language model answers VQAv2 or OK-VQA questions, or writes COCO captions, from a file of texts (id, text) -> VQA accuracy, or CIDEr",
    )
    c.add_argument(
        "file",
        metavar="FILE",
        help=".csv or .parquet with columns id (the published image_id) and text; covers the examples' images, too",
    )
    c.add_argument("--questions", help="published questions .json")
    c.add_argument("--annotations", help="published annotations .json that belong to it")
    c.add_argument(
        "--captions",
        help="instead of both: published COCO captions .json, people's captions to score against",
    )
    c.add_argument(
        "--examples",
        nargs="+",
        metavar="FILE",
        help="file or files of the same kind that examples are drawn from (another split)",
    )
    c.add_argument("--shots", type=whole(0), default=0, help="examples in every prompt")
    c.add_argument(
        "--model",
        default="smollm2",
        help="smollm2, gemma3, a folder, or a Hub id@commit of a causal language model",
    )
    c.add_argument("--batch", type=whole(1), default=ROWS, help="questions at a time")
    c.add_argument("--seed", type=whole(0), default=0, help="picks the examples")
    c.add_argument(
        "--on-bad",
        choices=("skip", "stop"),
        default="stop",
        help="what to do with questions about images without a text",
    )
    c.add_argument("--out", help="CSV file to write every answer to as well")
    c = command(
        "run",
        run,
        "run the study's notebooks; done ones are not computed again, a killed run goes on",
    )
    c.add_argument(
        "study", nargs="?", default="quick", help="quick, full, or a parameter YAML file"
    )
    c.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override one parameter (YAML value)",
    )
    c = command("claims", claims, "verdict on every claim, with its criterion and numbers")
    c.add_argument("study", nargs="?", default="full", help="which results folder")
    c = command(
        "check",
        check,
        "draw and score a study's published texts again on this machine, beside its table",
    )
    c.add_argument("study", nargs="?", default="full", help="which results folder")
    c.add_argument(
        "--sources",
        nargs="+",
        default=["names", "dediffusion", ANEW],
        metavar="SOURCE",
        help=f"rows of reconstruction.csv; {ANEW} has the encoder write its texts here first",
    )
    c.add_argument("--split", default="test", choices=("test", "novel"), help="emoji split")
    c.add_argument(
        "--decoder",
        default="sketch",
        choices=("sketch", "judge-a", "judge-b"),
        help="shipped decoder whose rows they are",
    )
    c.add_argument("--out", help="CSV file to write the table to as well")
    c = command(
        "train-decoder",
        train_decoder,
        "train a shipped decoder anew: `sketch` from nothing (autoencoder, denoiser, its second go, the autoencoder's finish), or "
        "a judge (`judge-a`, `judge-b`) on sketch's latents; resumes. What is not given is as in RECIPES of dd/train.py, which made the shipped ones",
    )
    c.add_argument(
        "--name",
        choices=("sketch", "judge-a", "judge-b"),
        default="sketch",
        help="which of the shipped decoders",
    )
    c.add_argument(
        "--out",
        default=argparse.SUPPRESS,
        help="folder for checkpoints and the pipeline (default: my-NAME)",
    )
    c.add_argument(
        "--seen",
        type=whole(1),
        default=argparse.SUPPRESS,
        help="images the denoiser sees (default: 512000; judge-a 230400, judge-b 204800)",
    )
    c.add_argument(
        "--more-seen",
        type=whole(0),
        default=argparse.SUPPRESS,
        help="images of sketch's denoiser's second go, in smaller batches (default: 307200)",
    )
    c.add_argument(
        "--autoencoder-seen",
        type=whole(1),
        default=argparse.SUPPRESS,
        help="images sketch's autoencoder sees (default: 166400)",
    )
    c.add_argument(
        "--finish-seen",
        type=whole(0),
        default=argparse.SUPPRESS,
        help="images on which its drawing half goes on alone, at the end (default: 72000)",
    )
    c.add_argument(
        "--seed",
        type=whole(0),
        default=argparse.SUPPRESS,
        help="root seed (default: 0; judge-a 1, judge-b 2)",
    )
    c = command(
        "train-encoder",
        train_encoder,
        "train a De-Diffusion encoder through a frozen decoder; resumes",
    )
    c.add_argument("--out", default="my-encoder", help="folder for checkpoints and the encoder")
    pictures(c)
    c.add_argument(
        "--decoder",
        default="sketch",
        help="shipped decoder, diffusers pipeline folder, or Hub id (with --revision)",
    )
    c.add_argument("--revision", help="commit of a Hub id; required for one")
    c.add_argument("--seen", type=whole(128), default=102_400, help="images seen in all")
    c.add_argument("--tokens", type=whole(1), default=16, help="N, words written per image")
    c.add_argument(
        "--tau-start",
        type=real(1e-3),
        default=1.0,
        help="softmax temperature at the start (paper: 2.0)",
    )
    c.add_argument("--tau-end", type=real(1e-3), default=0.3, help="and at the end (paper: 0.3)")
    c.add_argument(
        "--noise", type=real(0), default=0.0, help="scale of the Gumbel noise (paper: 1)"
    )
    c.add_argument(
        "--hard-from",
        type=real(0, 1),
        default=0.7,
        help="share of the run after which the forward pass is the argmax (paper: never, 1)",
    )
    c.add_argument(
        "--least",
        type=whole(0),
        default=30,
        help="write only words that describe at least so many training images (paper: all)",
    )
    c.add_argument(
        "--t-from",
        type=real(0, 0.99),
        default=0.5,
        help="share of the noise levels left out at the quiet end, where words do not matter; 0 uses all",
    )
    c.add_argument("--seed", type=whole(0), default=0, help="root seed")
    c = command("bench", bench, "speed as ratios against the stock way, measured in one run")
    c.add_argument(
        "--repeats",
        type=whole(1),
        default=5,
        help="repeats of each measurement; medians are printed",
    )
    c.add_argument("--out", help="JSON file to write to as well")
    return p


def whole(low: int):
    def integer(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is below {low}")
        return value

    return integer


def real(low: float, high: float = sys.float_info.max):
    def decimal(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{value} is not a number from {low}" + (f" to {high}" if high < 1e9 else "")
            )
        return value

    return decimal


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if getattr(args, "parameter", None) and (
            wrong := [p for p in args.parameter if "=" not in p]
        ):
            raise ValueError(f"-p {wrong[0]!r}: NAME=VALUE needed")
        args.action(args)
    except (ValueError, OSError) as error:  # bad data, parameters, paths: one line, no traceback
        print(f"dd {args.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
