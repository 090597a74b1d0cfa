"""Side experiments of a study, each a function that writes one file.

experiments.samplers(study)      # samplers.csv
"""

import random
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import figures, metrics
from ..captions import words
from ..data import Dataset, spread
from ..files import read_csv, write_csv
from ..report import COLOURS, short
from ..runtime import say, shipped
from ..sources import LABELS, LENGTHS, SEARCH, keys
from ..texts import WRITERS as PLAIN
from ..texts import own_words, readability, unigram_bits
from ..train import train_encoder
from ..vocab import reading_rates, to_strings
from .cache import made_by
from .core import ROW, SCORES, WRITERS, Study

SAMPLERS = (("ddim", 50), ("dpm", 20), ("dpm", 12), ("dpm", 8), ("dpm", 5))  # and their steps
HARD = ((8, "pez"), (8, "ph2p"), (15, "pez"), (15, "ph2p"))  # words and search of hard prompts
CUT = 160  # test drawings whose texts are cut in two; of few drawings a third
CROSSED = 1024  # test drawings on which encoders trained through each decoder are compared


def sheet(study: Study, name: str, by: dict[str, Study], split: str = "test") -> Path:
    """Nine drawings of a split, De-Diffusion's text and people's name, and what each decoder of
    `by` draws from them, from the same noise: figures/<name>. The rows are spread evenly over the
    drawings whose pictures are kept, not chosen."""
    guidance = study.guidance_of(split)
    kinds, images = {"dediffusion": "text", "names": "name"}, study.subset(split)
    at = lambda of, s: float(guidance[of, s])
    drawn = {(of, s): by[of].drawn(s, split, at(of, s))[1] for s in kinds for of in by}
    rows = spread(min(map(len, drawn.values())), 9)
    texts = {LABELS[s]: [study.texts(s, split)[i] for i in rows] for s in kinds}
    title = lambda of, s: LABELS[s] if len(by) == 1 else f"{short(of)}\nfrom {kinds[s]}"
    pictures = {title(of, s): found[rows] for (of, s), found in drawn.items()}
    under = images.frame.get("style", images.frame["id"]).iloc[rows]
    look = {"names": under, "colours": COLOURS}
    path = study.path(f"figures/{name}")
    return figures.sheet(images.images[rows], texts, pictures, path, **look)


def written(study: Study, name: str, table: pd.DataFrame, digits: int = 5) -> pd.DataFrame:
    """A table as its file has it, after writing it."""
    write_csv(study.path(name), table.round(digits))
    return table.round(digits)


def drawn_scores(
    study: Study,
    images: Dataset,
    write: list[str] | Callable[[], list[str]],
    guidance: float,
    texts: dict | None = None,
    told: Callable[[list[str], float, float], dict] = lambda texts, writing, drawing: {},
    **how,
) -> dict:
    """Scores of pictures that are not kept themselves. `write`: texts, or a function that writes
    them, and then `texts` is what they depend on; `how`: another sampler, other steps; `told`:
    further numbers from the texts and the seconds that writing and drawing took."""
    real = study.real(images)
    how = study.how(guidance) | how
    drawing = study.drawing(images, texts or write, guidance) | how

    def make() -> dict:
        start = time.time()
        said = write() if callable(write) else write
        middle = time.time()
        pictures = study.dec.draw(said, list(images.frame["id"]), progress=True, **how)
        seconds = middle - start, time.time() - middle
        return {**told(said, *seconds), **metrics.score(real, metrics.image_features(pictures))}

    look = made_by("look", pictures=made_by("draw", **drawing))
    return study.kept("score", make, real=real, fake=look)


AHEAD = ("names", "names_keywords", "names_all", "names_style", "captioner_detailed")


def differences(study: Study, by: dict[str, Study]) -> pd.DataFrame:
    """Is De-Diffusion ahead? Its scores on test drawings minus those of each source of AHEAD that
    was drawn, by each decoder of `by`, the mean over all starting noises; the same drawings are
    resampled for both (`resamples`). Written to differences.csv, where the rows of other decoders
    that reconstruction.csv has stay."""
    images, rows, guidance = study.subset("test"), [], study.guidance_of()
    for name, drawing in by.items():
        real = drawing.real("test")  # in this decoder's size

        def drawn(source: str, name=name, drawing=drawing) -> list[torch.Tensor]:
            noises = range(drawing.noise_seeds if source in keys("again") else 1)
            at = float(guidance[name, source])
            return [drawing.drawn(source, "test", at, noise=k)[0] for k in noises]

        others = {s: drawn(s) for s in AHEAD if (name, s) in guidance}
        given = dict(real=real, ours=drawn("dediffusion"), others=others)
        how = dict(classes=images.styles, bootstraps=study.resamples, seed=study.seed)
        make = lambda given=given, how=how: metrics.differences(**given, **how)
        for row in study.kept("score", make, "differences-", **given, **how):
            rows.append(dict(decoder=name, n=len(real), **row))
    columns = ["decoder", "than", "score", "n", "difference", "lo", "hi"]
    table, path = pd.DataFrame(rows)[columns], study.path("differences.csv")
    if path.exists():
        drew = set(guidance.index.get_level_values("decoder")) - set(by)
        others = read_csv(path)
        others = others[others["decoder"].isin(drew)]
        table = pd.concat([table, others], ignore_index=True)
    return written(study, "differences.csv", table)[: len(rows)]  # of `by` alone


def samplers(study: Study) -> pd.DataFrame:
    """Is the study's short sampler as good as a long run? Same texts (alt text), same noise: DDIM
    50 against few-step DPM-Solver++, FID with interval and pictures per second, on validation
    drawings. Written to samplers.csv."""
    images, rows = study.dataset.subset("val", study.sampler_check), []
    texts = PLAIN["alt_text"](images)
    for sampler, steps in SAMPLERS:
        how = dict(sampler=sampler, steps=steps)
        told = lambda texts, _, s, how=how: {**how, "pictures_per_second": round(len(texts) / s, 2)}
        rows.append(drawn_scores(study, images, texts, study.guidance, told=told, **how))
    table = pd.DataFrame(rows)
    written(study, "samplers.csv", table, digits=4)
    return table


def lengths(study: Study, best: dict[str, float]) -> pd.DataFrame:
    """The paper's Table 4: encoders that write few or many words, each after `lengths_seen` images,
    drawn on the validation drawings at De-Diffusion's guidance; the first row is people's name.
    Written to lengths.csv."""
    names = study.row("names", "val", best["names"])
    rows, guidance = [{**names, "tokens": 0, "seen": 0}], best["dediffusion"]
    facts = dict(source="dediffusion", guidance=guidance, seed=study.seed)
    for N in LENGTHS:
        texts = study.texts(f"dediffusion_{N}", "val")
        scores = drawn_scores(study, study.subset("val"), texts, guidance)
        rows.append({**facts, "tokens": N, "seen": study.lengths_seen, **scores})
    columns = ["source", "tokens", "seen", "guidance", "seed", *SCORES]
    return written(study, "lengths.csv", pd.DataFrame(rows)[columns])


# Notebook 3 compares training recipes: the entries of commands.RECIPE that each replaces. The
# paper's differs in six; each of the six stands alone as well.
RELAXATIONS = {
    "here: no noise, hard at the end": {},
    "the paper's recipe": dict(
        tau_start=2.0, tau_end=0.3, noise=1.0, hard_from=1.0, t_from=0.0, least=0, tie=False
    ),
    "temperature from 2": dict(tau_start=2.0),
    "Gumbel noise 0.3": dict(noise=0.3),
    "Gumbel noise 1": dict(noise=1.0),
    "Gumbel noise 1, untied output": dict(noise=1.0, tie=False),
    "untied output": dict(tie=False),
    "never hard": dict(hard_from=1.0),
    "always hard": dict(hard_from=0.0),
    "all noise levels": dict(t_from=0.0),
    "Adafactor": dict(optimizer="adafactor", peak=1.0e-2),  # its steps shrink with the weights
    "Muon": dict(optimizer="muon"),
    "words of 100 drawings": dict(least=100),
    "words of 30 drawings": dict(least=30),
    "any word": dict(least=0),
    "8 words": dict(tokens=8),
    "24 words": dict(tokens=24),
    "repeated words cost": dict(repeats=0.1),
}


def relaxations(study: Study) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Training recipes at equal numbers of images seen, `training_seeds` times each, judged by the
    strings that are written of the probe drawings -> the table, written to relaxations.csv, a row a
    recipe and seed, and the log of each recipe's first training."""
    rows, logs, probe = [], {}, study.probe
    given = dict(patches=study.patches("train"), z_all=study.latents("train"), probe=probe)
    for (name, replaced), i in product(RELAXATIONS.items(), range(study.training_seeds)):
        changed = {"tokens": study.tokens, "seen": study.probe_seen, **replaced}
        again = dict(training=i) if i else {}
        folder = study.training("relaxations/", "train_encoder", **changed, **again)
        how = dict(seed=study.seed + i, **changed, **given)
        encoder = train_encoder(study.subset("train"), study.dec, folder, **how)
        texts = to_strings(encoder.tokenizer, encoder.ids(study.patches(probe)))
        said, log = readability(probe, texts), training_log(folder / "encoder.jsonl")
        last = logs.setdefault(name, log).iloc[-1] if i == 0 else log.iloc[-1]
        rows.append(
            {
                "name": name,
                "seen": int(last["seen"]),
                "probe_loss": last["probe"],
                "distinct_words": last["distinct_per_text"],
                "fitting_words": round(said["precision"], 4),
                "names_covered": round(said["coverage"], 4),
                "seed": study.seed + i,
            }
        )
    table = pd.DataFrame(rows)
    write_csv(study.path("relaxations.csv"), table)
    return table, logs


def training_log(path: Path) -> pd.DataFrame:
    """The log of a training, a row a line."""
    return pd.read_json(path, lines=True).drop_duplicates("seen", keep="last").sort_values("seen")


def decoder_logs(study: Study, demonstration: Path) -> dict[str, pd.DataFrame]:
    """Logs of notebook 2's demonstration and of the shipped decoder's two trainings, as far as they
    are there; written to decoder_training.csv."""
    first, second, shipped_folder = "shipped", "shipped, second training", shipped(study.decoder)
    paths = {"this run": demonstration / "denoiser.jsonl"}
    paths |= {first: shipped_folder / "denoiser.jsonl", second: shipped_folder / "more.jsonl"}
    logs = {name: training_log(path) for name, path in paths.items() if path.exists()}
    if second in logs:  # it counts from its own start
        logs[second]["seen"] += logs[first]["seen"].max()
    if logs:
        table = pd.concat(logs, names=["run"]).reset_index("run")
        write_csv(study.path("decoder_training.csv"), table)
    return logs


def baseline_panels(study: Study, sources) -> list[dict]:
    """How the trainings of these sources went: panels for figures.panels, one a network."""
    folders = {study.rival(source).parent: None for source in sources}  # some share a network
    colours = dict(zip(("training", "validation"), figures.COLOURS))
    panels, both = [], dict(xlabel="images seen", markers=True, colours=colours)
    for path in (path for folder in folders for path in folder.glob("*.jsonl")):
        log, kind = training_log(path), path.parent.name.rsplit("-", 1)[0]
        series, n = {"validation": (log["seen"], log["probe"])}, len(study.probe)
        ylabel = f"cross-entropy, n = {n}"
        if kind == "similarity":
            ylabel = f"own alt text found, of {n}"
        else:
            series = {"training": (log["seen"], log["loss"]), **series}
        title = LABELS.get(kind, "image-text similarity")
        panels.append(dict(series=series, title=title, ylabel=ylabel, **both))
    return panels


def hard_prompt_lengths(study: Study, guidance: float) -> pd.DataFrame:
    """Hard prompts of few and more words, by the similarity (PEZ) and by the decoder's own loss, on
    validation drawings: seconds per image of the search, and what the decoder draws from them; the
    first row is De-Diffusion, which needs no search. Written to hard_prompts.csv."""
    images, rows = study.dataset.subset("val", study.hard_prompts), []
    told = lambda texts, seconds, _: {
        "seconds_per_image": seconds / len(texts),
        "example": texts[0],
    }
    for N, method in ((study.enc.pooler.config.N, "dediffusion"), *HARD):
        more = {} if method == "dediffusion" else {"N": N}

        def write(method=method, more=more):
            return WRITERS[method](study, images, **more)

        texts = made_by("write", **study.writing(method, images, N))
        scores = drawn_scores(study, images, write, guidance, texts=texts, told=told)
        rows.append({"method": method, "words": N, "guidance": guidance, **scores})
    return written(study, "hard_prompts.csv", pd.DataFrame(rows))


def crossed(study: Study, guidance: dict[str, float]) -> pd.DataFrame:
    """Trained through x judged by: an encoder through each decoder in turn, `cross_seen` images
    each, its texts of CROSSED test drawings drawn by every decoder at that decoder's guidance for
    De-Diffusion. Written to crossed.csv."""
    images, rows = study.dataset.subset("test", CROSSED), []
    for trained, by in study.by_each.items():
        encoder = by.trained_encoder("crossed", study.tokens, study.cross_seen)
        seen = by.patches(by.sized(images, by.size))
        texts = to_strings(encoder.tokenizer, encoder.ids(seen))
        facts = dict(seed=study.seed, of=images.frame["name"].iloc[0], example=texts[0])
        for name, judged in study.by_each.items():
            row = dict(trained_through=trained, decoder=name, guidance=guidance[name], **facts)
            own = judged.sized(images, judged.size)
            rows.append({**row, **drawn_scores(judged, own, texts, guidance[name])})
    return written(study, "crossed.csv", pd.DataFrame(rows))


def second_eye(study: Study, sources) -> pd.DataFrame:
    """The test drawings' scores once more, by another network: EfficientNet-Lite1 reads the kept
    pictures of every decoder. Does the ranking depend on the network? Written to second_eye.csv
    (columns of reconstruction.csv)."""
    rows, real, used = [], {}, study.guidance_of()
    look = lambda pictures: metrics.image_features(pictures, net=1)

    def scores(source: str, name: str, pictures: np.ndarray, images: Dataset) -> dict:
        size = images.images.shape[1]
        if size not in real:
            real[size] = look(images.images)
        say(f"second network: {source}, drawn by {name}")
        return metrics.score(real[size], look(pictures))

    for name, by in study.by_each.items():
        images = by.subset("test")  # in this decoder's size
        for source in (s for s in sources if (name, s) in used):
            guidance = float(used[name, source])
            features, pictures = by.drawn(source, "test", guidance)
            facts = dict(world=study.dataset.name, split="test", source=source, decoder=name)
            kept = study.kept(
                *("score", lambda s=source, p=pictures, n=name, i=images: scores(s, n, p, i)),
                real=made_by("look", images=images, net=1),
                fake=made_by("look", pictures=features, net=1),
            )
            rows.append({**facts, "guidance": guidance, "seed": study.seed, **kept})
    return written(study, "second_eye.csv", pd.DataFrame(rows)[[*ROW, *SCORES]])


NARROW = ("names", "names_style", "dediffusion", "alt_text")


def by_style(study: Study) -> pd.DataFrame:
    """KID of the test drawings style by style, each a narrow target set, from the texts of NARROW,
    by every decoder and by the search engine. Written to kid_by_style.csv; styles of fewer than
    metrics.LEAST_IN_CLASS drawings are left out."""
    styles, guidance, rows = study.subset("test").styles, study.guidance_of(), []
    draw = lambda by, of: lambda s: by.drawn(s, "test", float(guidance[of, s]))[0]
    drawers = {name: (by, draw(by, name)) for name, by in study.by_each.items()}
    drawers[SEARCH] = study, lambda s: study.features_of(study.hits(s, "test"))
    for (name, (by, pictures)), source in product(drawers.items(), NARROW):
        if (name, source) not in guidance:  # rows of an earlier version have no such source
            continue
        facts, real = dict(decoder=name, source=source, seed=study.seed), by.real("test")
        kids = metrics.IntraClassKID(real, pictures(source), styles, styles).each(seed=study.seed)
        columns = ("style", "n", "kid", "kid_lo", "kid_hi")
        rows += [facts | dict(zip(columns, (style, *kid))) for style, kid in kids.items()]
    if not rows:
        return pd.DataFrame()
    return written(study, "kid_by_style.csv", pd.DataFrame(rows))


def rate_quality(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean length of each source's texts beside their FID: in words, and in bits under one unigram
    model of all sources' validation texts. `rows`: scores of the test drawings, indexed by source.
    Written to rate_quality.csv."""
    sources = [s for s in study.sources if s not in ("soft", "shuffled")]
    known = [text for s in sources for text in study.texts(s, study.split("val"))]
    texts = {s: study.texts(s) for s in sources}
    table = rows.loc[sources, ["fid", "fid_lo", "fid_hi"]].rename_axis("source").reset_index()
    table["words"] = [np.mean([len(words(t)) for t in texts[s]]) for s in sources]
    table["bits"] = [unigram_bits(texts[s], known) for s in sources]
    return written(study, "rate_quality.csv", table)


def networks(study: Study) -> pd.DataFrame:
    """What the decoders are made of, one column each."""
    size = lambda net: round(sum(p.numel() for p in net.parameters()) / 1e6, 1)
    made = {}
    for name, dec in ((name, by.dec) for name, by in study.by_each.items()):
        text_encoder = dec.pipeline.text_encoder
        denoiser = getattr(dec.pipeline, "unet", None) or dec.pipeline.transformer
        made[name] = {
            "tokenizer": type(dec.tokenizer.backend_tokenizer.model).__name__,
            "vocabulary": text_encoder.get_input_embeddings().num_embeddings,
            "context": dec.tokenizer.model_max_length,
            "text encoder": type(text_encoder).__name__,
            "denoiser": type(denoiser).__name__,
            "millions in it": size(denoiser),
        }
    return pd.DataFrame(made)


def readings(study: Study, sources) -> pd.DataFrame:
    """What of each source's texts reaches each decoder through its tokenizer. Written to
    judges_rates.csv."""
    texts = {s: study.texts(s) for s in sources if s != "empty"}
    rates = {}
    for name, by in study.by_each.items():
        read = {s: reading_rates(by.dec.tokenizer, told) for s, told in texts.items()}
        rates[name] = pd.DataFrame(read).T
    table = pd.concat(rates, names=["decoder", "source"]).reset_index()
    return written(study, "judges_rates.csv", table)


def cut_words(study: Study, guidance: dict[str, float]) -> pd.DataFrame:
    """De-Diffusion's texts of some test drawings in two: the words that people or the alt text use
    for the drawing, and the others; and as many words as fit, but any. Closeness of what every
    decoder draws from each. Written to judges_words.csv; `half` is half the interval's width."""
    test, rng, rows = study.subset("test"), random.Random(study.seed), []
    few = spread(len(test), min(CUT, len(test) // 3))
    images, texts = test.rows(few), study.texts("dediffusion")
    pairs = [(texts[i].split(), known) for i, known in zip(few, own_words(images))]
    fitting = [[w for w in text if w in known] for text, known in pairs]
    cuts = {
        "whole text": [text for text, _ in pairs],
        "words that fit": fitting,
        "the other words": [[w for w in text if w not in known] for text, known in pairs],
        "as many, any words": [rng.sample(t, len(fit)) for (t, _), fit in zip(pairs, fitting)],
    }
    for name, by in study.by_each.items():
        real = by.real("test")[few]
        for kind, cut in cuts.items():
            said, ids = [" ".join(text) for text in cut], list(images.frame["id"])
            drawing, how = by.drawing(images, said, guidance[name]), by.how(guidance[name])

            def make(by=by, said=said, ids=ids, how=how):
                drawn = by.dec.draw(said, ids, **how)
                return {"eye": metrics.image_features(drawn, **study.eye)}

            fake = by.kept("draw", make, "cut-", **drawing)["eye"]
            mean, half = metrics.mean_half(metrics.paired_similarity(real, fake))
            facts = dict(decoder=name, kept=kind, words=np.mean([len(text) for text in cut]))
            rows.append({**facts, "paired": mean, "half": half})
    return written(study, "judges_words.csv", pd.DataFrame(rows), digits=4)


def at_many(
    study: Study, sources, guidance: dict[str, float], split: str = "test", repeats: int = 4
) -> pd.DataFrame:
    """FID at several n, and its value for infinitely many images: FID at finite n is biased upwards
    by about c / n, with a c of the generator's own (Chong and Forsyth 2020), so a line through FID
    against 1/n is read off at 0. Columns source, n (0 for infinity), fid, written to fid_at_n.csv;
    empty, and not written, with few images. Subsets are drawn at random, `repeats` of each size;
    none below twice the features' width, where the bias is no longer of that form."""
    real, rng, rows = study.real(split), np.random.default_rng(study.seed), []
    M, D = real.shape
    sizes = [n for n in (int(M * share) for share in (0.25, 0.35, 0.5, 0.7, 1.0)) if n >= 2 * D]
    if len(sizes) < 3:
        return pd.DataFrame(columns=["source", "n", "fid"])
    some = lambda n: torch.from_numpy(rng.permutation(M)[:n])
    picks = {n: [some(n) for _ in range(repeats if n < M else 1)] for n in sizes}
    for source in sources:
        fake, _ = study.drawn(source, split, guidance[source])
        fid = lambda i, fake=fake: metrics.frechet(real[i], fake[i])
        fids = {n: float(np.mean([fid(i) for i in picks[n]])) for n in sizes}
        limit = float(np.polyfit([1 / n for n in sizes], list(fids.values()), 1)[1])
        rows += [{"source": source, "n": n, "fid": f} for n, f in {**fids, 0: limit}.items()]
    return written(study, "fid_at_n.csv", pd.DataFrame(rows), digits=3)


def recognised(
    study: Study, sources, guidance: dict[str, float], examples: int = 2048
) -> pd.DataFrame:
    """In how many pictures does the style of the original show? A linear reader of styles learns
    from train-side originals and is asked about the test originals, and about what was drawn of
    them; 95 % intervals. `taken_for`: what it says most, and of which share. Written to
    style_recognised.csv."""
    shown, styles = study.dataset.subset("train", examples), study.subset("test").frame["style"]
    read = metrics.class_reader(study.real(shown), shown.frame["style"].to_numpy())
    fixed, rows = {"autoencoder": float("nan")}, []
    for source in ("originals", "autoencoder", *sources):
        if source == "originals":
            features = study.real("test")
        else:
            features, _ = study.drawn(source, "test", {**guidance, **fixed}[source])
        said = read(features)
        right, most = said == styles.to_numpy(), pd.Series(said).value_counts(normalize=True)
        row = dict(source=source, n=len(right))
        row |= zip(("recognised", "lo", "hi"), metrics.mean_interval(right))
        rows.append({**row, "taken_for": most.index[0], "share": most.iloc[0]})
    return written(study, "style_recognised.csv", pd.DataFrame(rows))
