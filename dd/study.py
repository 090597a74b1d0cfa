"""Running the study: the parameters' schema, the notebooks through Papermill, stages that are never computed twice.

    run("quick")            # or python -m dd run quick; results/quick/ holds tables, figures, report

Each stage writes plain files under results/<study>/, named by the fingerprint of what made them; a second run recomputes nothing,
a killed one goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from . import baselines, decoder, encoder, llm, metrics, vision, vocab
from .baselines import CAPTIONS, retrieved
from .data import Dataset, load_dataset
from .decoder import SAMPLERS, Decoder
from .encoder import Encoder, backbone_features
from .runtime import (
    ASSETS,
    compute_dtype,
    device,
    load_state,
    pinned,
    save_state,
    say,
    shipped,
    weights_hash,
    write_json,
)
from .sources import LENGTHS
from .texts import WRITERS, random_words, shuffled, write_texts

PACKAGE = Path(__file__).parent
LEARNT = (*CAPTIONS, "interrogator", "pez")  # rivals that train something first
OF_LENGTH = {
    f"dediffusion_{N}": N for N in LENGTHS
}  # their texts, which only the language model is shown
WRITTEN = {
    "dediffusion": (),
    **dict.fromkeys((*OF_LENGTH, *CAPTIONS), ()),
    "interrogator": (baselines.Similarity, baselines.phrase_bank, baselines.interrogate),
    "pez": (baselines.Similarity, baselines.hard_prompts),
    "ph2p": (baselines.hard_prompts_by_loss,),
}  # sources that take a network's time to write, kept while the code of these (and of the encoder) is as it was
RIVALS = ("names_all", "retrieval", *LEARNT, "ph2p")
ROOT = PACKAGE.parent
NOTEBOOKS = (
    "01_data",
    "02_decoder",
    "03_encoder",
    "04_texts",
    "05_reconstruction",
    "06_judges",
    "07_editing",
    "08_language",
)

CONTEXTS = (
    "dediffusion",
    *OF_LENGTH,
    "names",
    "names_keywords",
    *RIVALS,
    "alt_text",
    "shuffled",
    "empty",
)

# name: (type, low, high or choices, what it is). The one list of parameters; notebooks and YAML files may use no other names.
SCHEMA = {
    "study": (str, None, None, "name of the results folder"),
    "seed": (int, 0, 2**31, "root seed of everything random"),
    "decoder": (str, None, None, "shipped decoder, pipeline folder, or Hub id@commit"),
    "encoder": (
        str,
        None,
        None,
        "'trained' (by notebook 3 of this study), 'shipped', or a folder made by train-encoder",
    ),
    "decoder_seen": (int, 0, 10**9, "images the demonstration denoiser sees in notebook 2"),
    "autoencoder_seen": (
        int,
        0,
        10**9,
        "images a fresh autoencoder sees before that; 0 uses the decoder's own",
    ),
    "encoder_seen": (int, 128, 10**9, "images the encoder sees in notebook 3"),
    "probe_seen": (
        int,
        0,
        10**9,
        "images each rival recipe sees in notebook 3; 0 leaves the comparison out",
    ),
    "tokens": (int, 1, 75, "N, words De-Diffusion writes per image"),
    "n_test": (int, 0, 10**6, "test drawings judged; 0 means all"),
    "n_val": (
        int,
        0,
        10**6,
        "validation drawings on which guidance is chosen; 0 leaves the sweep out and uses `guidance`",
    ),
    "n_novel": (int, 0, 10**6, "drawings of never-seen concepts judged; 0 leaves the split out"),
    "guidance": (
        float,
        0.0,
        30.0,
        "classifier-free guidance when no sweep is made, and of notebook 7",
    ),
    "guidances": (list, 0.0, 30.0, "guidance values of the sweep"),
    "rivals": (
        list,
        None,
        RIVALS,
        "further sources of text that are drawn and judged, each some minutes per decoder; [] for none",
    ),
    "rivals_seen": (int, 256, 10**9, "images each rival that learns is trained on"),
    "judges": (
        list,
        None,
        str,
        "other decoders that draw the same texts (notebook 6): shipped, pipeline folders, or Hub ids@commit",
    ),
    "lengths_seen": (
        int,
        0,
        10**9,
        "images seen by each encoder of the comparison of text lengths (notebook 5); 0 leaves it out",
    ),
    "curve": (
        int,
        0,
        10**6,
        "test drawings on which FID over guidance is drawn for the sources of the paper's Fig. 3, on every decoder; 0 shows the validation drawings' alone",
    ),
    "noise_seeds": (
        int,
        1,
        100,
        "draws of the starting noise: the first makes the tables, the others say how far chance moves them",
    ),
    "eyes": (
        int,
        1,
        2,
        "networks whose distances are reported: 2 asks EfficientNet-Lite1, too (notebook 6)",
    ),
    "hard_prompts": (
        int,
        0,
        10**6,
        "validation drawings on which searches for hard prompts of 8 and 15 words are compared (notebook 5); 0 leaves it out",
    ),
    "cross_seen": (
        int,
        0,
        10**9,
        "images seen by each encoder that is trained through one of the decoders, all of them judges of all (notebook 6); 0 leaves it out",
    ),
    "sampler_check": (
        int,
        0,
        10**6,
        "validation drawings on which samplers are compared with a 50-step run; 0 leaves it out",
    ),
    "pairs": (int, 2, 10**5, "pairs of test drawings blended, and drawings edited, in notebook 7"),
    "language_models": (
        list,
        None,
        str,
        "models that answer from the texts (notebook 8): smollm2, gemma3, folders, or Hub ids@commit",
    ),
    "contexts": (list, None, tuple(CONTEXTS), "sources of text that the models are shown"),
    "further_contexts": (
        list,
        None,
        tuple(CONTEXTS),
        "those of them that the models after the first are shown; [] for all",
    ),
    "shots": (
        list,
        0,
        64,
        "examples per question and per caption; 0 stands for text-only pseudo-examples",
    ),
    "class_shots": (
        list,
        1,
        llm.MOST_SHOTS,
        "drawings of each class shown before a classification",
    ),
    "questions": (
        int,
        6,
        10**6,
        "questions about test drawings, over all seeds of examples and kinds",
    ),
    "episodes": (
        int,
        0,
        10**6,
        "classifications per number of ways, shots and split, over all seeds of examples; 0 leaves them out",
    ),
    "captions": (
        int,
        0,
        10**6,
        "test drawings captioned, over all seeds of examples; 0 leaves them out",
    ),
    "example_seeds": (
        int,
        1,
        100,
        "draws of the examples; each has its own share of the questions",
    ),
    "steps": (int, 1, 1000, "sampler steps per picture"),
    "sampler": (str, None, SAMPLERS, "diffusers sampler"),
}
# where 0 leaves something out, the smallest number that is enough of it: FID needs more images than feature dimensions, a run one batch
LEAST = {
    "n_test": metrics.WIDTH + 1,
    "n_val": metrics.WIDTH + 1,
    "n_novel": metrics.WIDTH + 1,
    "curve": metrics.WIDTH + 1,
    "sampler_check": metrics.WIDTH + 1,
    "hard_prompts": metrics.WIDTH + 1,
    "decoder_seen": 32,
    "autoencoder_seen": 32,
    "probe_seen": 128,
    "lengths_seen": 128,
    "cross_seen": 128,
}
SWEPT = ("names", "names_keywords", "dediffusion", "alt_text")
CURVE = (
    "names",
    "names_keywords",
    "names_all",
    "captioner",
    "captioner_detailed",
    "dediffusion",
)  # of the paper's Fig. 3
TEST_SOURCES = (
    "names",
    "names_keywords",
    "dediffusion",
    "alt_text",
    "soft",
    "shuffled",
    "random",
    "empty",
)
NOVEL_SOURCES = ("names", "names_keywords", "dediffusion", "alt_text")
COARSE = ("retrieval", "interrogator", "pez", "ph2p")
HARD = (
    (8, "pez"),
    (8, "ph2p"),
    (15, "pez"),
    (15, "ph2p"),
)  # words and method of the hard prompts compared
CROSSED = 1024  # test drawings on which encoders trained through each decoder are compared
JUDGED_SOURCES = ("names", "names_keywords", "dediffusion", "alt_text", "shuffled", "empty")
COLUMNS = [
    "world",
    "split",
    "source",
    "decoder",
    "guidance",
    "seed",
    "n",
    "fid",
    "fid_lo",
    "fid_hi",
    "kid",
    "kid_lo",
    "kid_hi",
    "paired",
    "paired_lo",
    "paired_hi",
    "r_at_1",
    "kid_within",
    "kid_within_lo",
    "kid_within_hi",
]  # inside a drawing style, averaged over styles


def fingerprint(*facts) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def code(*modules) -> str:
    """Fingerprint of source text and number format: what was kept is used again only while the code that made it is as it was."""
    return fingerprint(*(inspect.getsource(m) for m in modules), str(compute_dtype()))


class BadParameter(ValueError):
    """A parameter that cannot be used; one line: which, why, what would do."""


def check(parameters: dict) -> dict:
    """Refuse unknown names, wrong types and values out of range before anything is computed."""
    for name, value in parameters.items():
        if name not in SCHEMA:
            raise BadParameter(f"unknown parameter {name!r}; known: {', '.join(SCHEMA)}")
        kind, low, high, meaning = SCHEMA[name]
        good = isinstance(value, (int, float) if kind is float else kind) and not isinstance(
            value, bool
        )
        if not good:
            raise BadParameter(
                f"{name} is {value!r} ({type(value).__name__}); {kind.__name__} needed: {meaning}"
                + (
                    "; in YAML write 1.0e-4, not 1e-4"
                    if kind is float and isinstance(value, str)
                    else ""
                )
            )
        if high is str and kind is list:
            if (
                not value
                or not all(isinstance(v, str) and v for v in value)
                or len(set(value)) < len(value)
            ):
                raise BadParameter(
                    f"{name} is {value!r}; a list of one or more different names needed: {meaning}"
                )
            continue
        if kind is list and isinstance(high, tuple):
            if not all(v in high for v in value) or len(set(value)) < len(value):
                raise BadParameter(
                    f"{name} is {value!r}; a list of different names among {high} needed: {meaning}"
                )
            continue
        if kind is list and not (
            value
            and all(isinstance(v, (int, float)) and low <= v <= high for v in value)
            and len(set(value)) == len(value)
        ):
            raise BadParameter(
                f"{name} is {value!r}; a list of different numbers from {low} to {high} needed: {meaning}"
            )
        if kind is str and high and value not in high:
            raise BadParameter(f"{name} is {value!r}; one of {high} needed: {meaning}")
        if kind in (int, float) and not low <= value <= high:
            raise BadParameter(f"{name} is {value!r}; {low} to {high} needed: {meaning}")
    if "study" in parameters and not re.fullmatch(r"[A-Za-z0-9_-]+", parameters["study"]):
        raise BadParameter(
            f"study is {parameters['study']!r}; letters, digits, - and _ needed: it names a folder"
        )
    if (
        brief := sorted(set(OF_LENGTH) & set(parameters.get("contexts", ())))
    ) and not parameters.get("lengths_seen"):
        raise BadParameter(
            f"contexts has {brief[0]!r} but lengths_seen is 0; images needed: {SCHEMA['lengths_seen'][3]}"
        )
    if strange := sorted(
        set(parameters.get("further_contexts", ())) - set(parameters.get("contexts", ()))
    ):
        raise BadParameter(
            f"further_contexts has {strange[0]!r}, which is not among contexts; every model but the first is shown some of what the first is"
        )
    return parameters


def run_key(train, *facts) -> str:
    """Names the folder of a training run: other facts, or another default in the loop's signature, are another run."""
    return fingerprint(str(inspect.signature(train)), *facts)


def folder_hash(path: Path) -> str:
    """Fingerprint of a folder's models and data (not of its cards and logs): retrained weights make new results."""
    return fingerprint(
        [
            (str(p.relative_to(path)), hashlib.sha256(p.read_bytes()).hexdigest())
            for p in sorted(path.rglob("*"))
            if p.suffix in (".safetensors", ".json", ".parquet") and p.name != "recipe.json"
        ]
    )


@dataclass
class Study:
    """One results folder and the parameters that fill it; what notebooks talk to."""

    parameters: dict

    def __post_init__(self):
        self.__dict__.update(check(self.parameters))  # study.seed, study.tokens, ...
        self.folder, self._parts = results_root() / self.parameters["study"], {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def note(self, notebook: str) -> Study:
        """Write the resolved parameters beside the outputs, before the work starts."""
        write_json(self.path(f"parameters/{notebook}.json"), self.parameters)
        return self

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset("emoji")

    def subset(self, split: str) -> Dataset:
        """The drawings of a split that this study uses, the same object each time; "curve" is a part of the test drawings."""
        n = {"test": "n_test", "val": "n_val", "novel": "n_novel"}.get(split, split)
        if split not in self._parts:
            self._parts[split] = self.dataset.subset(
                "test" if split == "curve" else split, self.parameters.get(n) or None
            )
        return self._parts[split]

    @cached_property
    def dec(self) -> Decoder:
        return Decoder.load(self.parameters["decoder"])

    @cached_property
    def decoder_hash(self) -> str:
        path = shipped(self.parameters["decoder"])
        return folder_hash(path) if path.is_dir() else self.parameters["decoder"]

    @cached_property
    def encoder_folder(self) -> Path:
        chosen = self.parameters["encoder"]
        path = {"trained": self.folder / "encoder", "shipped": ASSETS / "encoder"}.get(
            chosen, Path(chosen)
        )
        if not (path / "config.json").exists():
            raise BadParameter(
                f"encoder is {chosen!r} but {path} holds none; run notebook 03_encoder first or use 'shipped'"
            )
        return path

    @cached_property
    def enc(self) -> Encoder:
        return Encoder.load(self.encoder_folder)

    def patches(self, split: str) -> torch.Tensor:
        """Frozen backbone features (M, P, F) of a split, computed once."""
        part = self.subset(split)
        return self._cached(
            f"features-{split}-{fingerprint(part.fingerprint(), code(encoder, vision))}",
            lambda: {"patches": backbone_features(part.pixels())},
        )["patches"]

    def latents(self, split: str) -> torch.Tensor:
        """Decoder latents z_0 (M, C, h, h) of a split, computed once."""
        from .train import encode_all

        part = self.subset(split)
        return self._cached(
            f"latents-{split}-{fingerprint(part.fingerprint(), self.decoder_hash, code(decoder))}",
            lambda: {"z": encode_all(self.dec, part)},
        )["z"]

    def _cached(self, name: str, make) -> dict[str, torch.Tensor]:
        path = self.path(f"cache/{name}.safetensors")
        if not path.exists():
            save_state(path, make(), {})
        return load_state(path)[0]

    # -- texts ---------------------------------------------------------------------------------------------------------------

    def texts(self, source: str, split: str = "test") -> list[str]:
        """The strings of one source for one split, also written to texts/<split>/<source>.parquet. What a network writes is kept from an earlier
        run; the others take no time."""
        part = self.subset(split)
        if split == "curve":  # some of the test drawings: what was written of them
            return pd.Series(self.texts(source, "test"), index=self.subset("test").frame["id"])[
                part.frame["id"]
            ].tolist()
        path = self.path(f"texts/{split}/{source}.parquet")
        if source in WRITTEN:
            made_by, write = self._writer(source)
            key = fingerprint(
                part.fingerprint(),
                *made_by,
                self.enc.pooler.config.N,
                code(encoder, vision, vocab, *WRITTEN[source]),
            )
            stamp = self.path(f"cache/texts-{split}-{source}.json")
            if path.exists() and stamp.exists() and json.loads(stamp.read_text()) == key:
                made = pd.read_parquet(path)["text"].tolist()
            else:
                stamp.unlink(missing_ok=True)
                made = write(split)
                write_texts(path, part, made)
                write_json(stamp, key)
        else:
            made = (
                shuffled(self.texts("dediffusion", split), self.seed)
                if source == "shuffled"
                else retrieved(self.patches(split), self.subset("train"), self.patches("train"))
                if source == "retrieval"
                else random_words(part, self.seed, length=self.enc.pooler.config.N)
                if source == "random"
                else WRITERS[source](part, self.seed)
            )
            write_texts(path, part, made)
        return made

    def _writer(self, source: str) -> tuple[tuple, Callable[[str], list[str]]]:
        """Facts that name what a network writes, and how it writes of a split."""
        N, read_out = (
            self.enc.pooler.config.N,
            lambda encoder, split: vocab.to_strings(
                encoder.tokenizer, encoder.ids(self.patches(split))
            ),
        )
        if source == "ph2p":
            return (
                self.decoder_hash,
                self.seed,
                code(decoder),
            ), lambda split: baselines.hard_prompts_by_loss(
                self.dec, self.latents(split), N=N, seed=self.seed
            )
        if source in OF_LENGTH:
            brief = self.of_length(OF_LENGTH[source])
            return (weights_hash(brief.pooler),), lambda split: read_out(brief, split)
        folder = self.encoder_folder if source == "dediffusion" else self.rival(source)
        if source in CAPTIONS or source == "dediffusion":
            return (folder_hash(folder),), lambda split: read_out(
                self.enc if source == "dediffusion" else Encoder.load(folder), split
            )
        if source == "pez":
            return (folder_hash(folder),), lambda split: baselines.hard_prompts(
                self.similarity(), self.dec.tokenizer, self.patches(split), N=N, seed=self.seed
            )
        return (folder_hash(folder),), lambda split: baselines.interrogate(
            self.similarity(),
            self.dec.tokenizer,
            self.patches(split),
            baselines.phrase_bank(self.subset("train")),
            most=N,
        )

    def of_length(self, N: int) -> Encoder:
        """The encoder of the comparison of lengths that writes N words, trained for `lengths_seen` images when it is first asked for."""
        known = self.__dict__.setdefault("_lengths", {})
        if N not in known:
            known[N] = self.encoder_through(self, "lengths", N, self.lengths_seen)
        return known[N]

    def encoder_through(self, by: Study, kind: str, N: int, seen: int) -> Encoder:
        """An encoder beside the study's own: N words, trained through the decoder of `by` and kept in a folder of `kind`/."""
        from .train import train_encoder

        folder = self.path(f"{kind}/{run_key(train_encoder, N, seen, self.seed, by.decoder_hash)}")
        return train_encoder(
            self.subset("train"),
            by.dec,
            folder,
            seen=seen,
            tokens=N,
            seed=self.seed,
            patches=self.patches("train"),
            z_all=by.latents("train"),
        )

    def rival(self, source: str) -> Path:
        """Where a rival keeps what it has learnt, on this study's train split, when it is first asked for: a captioner, or the similarity that
        the interrogator and the hard prompts share. Its log lies one folder up."""
        from .baselines import train_captioner, train_similarity

        train, probe, patches = (
            self.subset("train"),
            self.dataset.subset("val", 256),
            lambda: self.patches("train"),
        )
        what, loop = (
            (source, train_captioner) if source in CAPTIONS else ("similarity", train_similarity)
        )
        folder = self.path(
            f"rivals/{what}-{run_key(loop, CAPTIONS, self.seed, self.rivals_seen, self.decoder_hash)}"
        )
        saved, saving = folder / "saved", folder / "saving"
        if not saved.exists():
            options = dict(seen=self.rivals_seen, seed=self.seed, probe=probe, patches=patches())
            if source in CAPTIONS:
                train_captioner(train, self.dec, folder, kind=source, **options).save(
                    saving, half=True
                )
            else:
                train_similarity(train, self.dec.tokenizer, folder, **options).save_pretrained(
                    saving, safe_serialization=True
                )
            os.replace(saving, saved)  # whole, or not there
        return saved

    def similarity(self) -> baselines.Similarity:
        """The image-text similarity that the interrogator and the hard prompts share."""
        return (
            baselines.Similarity.from_pretrained(self.rival("pez"), use_safetensors=True)
            .eval()
            .requires_grad_(False)
            .to(device())
        )

    # -- pictures and scores ---------------------------------------------------------------------------------------------------

    def real(self, split: str) -> torch.Tensor:
        """What the judge's eye sees of the originals, (M, D)."""
        part = self.subset(split)
        return self._cached(
            f"real-{split}-{fingerprint(part.fingerprint(), code(metrics.image_features, vision))}",
            lambda: {"eye": metrics.image_features(part.images, progress=f"look at {split}")},
        )["eye"]

    def drawn(
        self, source: str, split: str, guidance: float, chunk: int = 256, noise: int = 0
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Draw a source's texts -> (eye features (M, D), the first chunk's pictures uint8; all pictures of the test split's first noise, which a second
        eye looks at). Chunk by chunk, each kept as it is done. `noise`: which draw of the starting noise.

        Chunks are fixed, so a resumed run draws what an undisturbed one would have drawn."""
        part, ids = self.subset(split), list(self.subset(split).frame["id"])
        if source == "autoencoder":
            texts, facts = [""] * len(ids), ["autoencoder"]
        elif source == "soft":
            texts, facts = [""] * len(ids), ["soft", folder_hash(self.encoder_folder)]
        else:
            texts = self.texts(source, split)
            facts = [texts]
        key = fingerprint(
            part.fingerprint(),
            facts,
            guidance,
            self.steps,
            self.sampler,
            self.seed + noise,
            self.decoder_hash,
            chunk,
            code(decoder, metrics.image_features, vision),
            *([noise] if noise else []),
        )  # further noises keep fewer pictures than another seed's first
        seen, kept = [], []
        missing = [
            i
            for i in range(0, len(ids), chunk)
            if not self._chunk_path(source, split, key, i).exists()
        ]
        for done, i in enumerate(missing):
            tick = time.time()
            pictures = self._draw_chunk(
                source,
                split,
                texts[i : i + chunk],
                ids[i : i + chunk],
                slice(i, i + chunk),
                guidance,
                self.seed + noise,
            )
            tensors = {"eye": metrics.image_features(pictures)}
            if i == 0 or split == "test" and noise == 0:
                tensors["pictures"] = torch.from_numpy(pictures)
            save_state(self._chunk_path(source, split, key, i), tensors, {})
            rate = len(pictures) / (time.time() - tick)
            say(
                f"draw {source} on {split} at guidance {guidance:g}: {min(i + chunk, len(ids))}/{len(ids)}, {rate:.1f} pictures/s, "
                f"{(len(missing) - done - 1) * chunk / rate / 60:.1f} min left"
            )
        for i in range(0, len(ids), chunk):
            tensors, _ = load_state(self._chunk_path(source, split, key, i))
            seen.append(tensors["eye"])
            kept += [tensors["pictures"].numpy()] if "pictures" in tensors else []
        return torch.cat(seen), np.concatenate(kept)

    def _chunk_path(self, source: str, split: str, key: str, i: int) -> Path:
        return self.path(f"cache/drawn/{split}-{source}-{key}-{i:06d}.safetensors")

    def _draw_chunk(self, source, split, texts, ids, rows, guidance, seed) -> np.ndarray:
        if source == "autoencoder":
            return self.dec.decode(self.latents(split)[rows])
        states = None
        if source == "soft":
            from .encoder import relax
            from .runtime import autocast

            patches = (
                self.patches(split)[rows].to(device()).float()
            )  # outside autocast: it may be computed here
            with torch.no_grad(), autocast():
                weights = relax(
                    self.enc.pooler(patches), tau=0.3, noise=0.0
                )  # where training's temperature ends
                states = self.dec.soft_states(weights).float()
        return self.dec.draw(
            texts,
            ids,
            guidance=guidance,
            steps=self.steps,
            sampler=self.sampler,
            seed=seed,
            states=states,
        )

    def row(self, source: str, split: str, guidance: float, noise: int = 0) -> dict:
        """One row of reconstruction.csv. `noise`: which draw of the starting noise."""
        real, styles = self.real(split), self.subset(split).frame["style"].to_numpy()
        if source == "real":
            half, order = (
                len(real) // 2,
                torch.from_numpy(np.random.default_rng(self.seed).permutation(len(real))),
            )
            if half < real.shape[1] + 1:
                return {}
            fake, guidance = real[order[half:]], float("nan")
            facts = ("real", split, self.seed, self.subset(split).fingerprint())
            scores = self._scored(
                facts,
                lambda: metrics.score(
                    real[order[:half]],
                    fake,
                    paired=False,
                    classes=(styles[order[:half]], styles[order[half:]]),
                ),
            )
        else:
            guidance = float("nan") if source == "autoencoder" else guidance
            fake, _ = self.drawn(source, split, guidance, noise=noise)
            facts = (source, split, fingerprint(fake.numpy().tobytes().hex()))
            scores = self._scored(
                facts, lambda: metrics.score(real, fake, classes=(styles, styles))
            )
        return {
            "world": self.dataset.name,
            "split": split,
            "source": source,
            "decoder": self.parameters["decoder"],
            "guidance": guidance,
            "seed": self.seed + noise,
            **scores,
        }

    def at_many(
        self, sources, guidance: dict[str, float], split: str = "test", repeats: int = 4
    ) -> pd.DataFrame:
        """FID at several n, and its value for infinitely many images: FID at finite n is biased upwards by about c / n, with a c of the generator's
        own (Chong and Forsyth 2020), so a line through FID against 1/n is read off at 0. Columns source, n (0 for infinity), fid. Empty with too few images.
        Subsets are drawn at random, `repeats` of each size; none below twice the features' width, where the bias is no longer of that form."""
        real, rng = self.real(split), np.random.default_rng(self.seed)
        sizes = [
            n
            for n in (int(len(real) * share) for share in (0.25, 0.35, 0.5, 0.7, 1.0))
            if n >= 2 * real.shape[1]
        ]
        if len(sizes) < 3:
            return pd.DataFrame(columns=["source", "n", "fid"])
        picks, rows = (
            {
                n: [
                    torch.from_numpy(rng.permutation(len(real))[:n])
                    for _ in range(repeats if n < len(real) else 1)
                ]
                for n in sizes
            },
            [],
        )
        for source in sources:
            fake = self.drawn(source, split, guidance[source])[0]
            fids = [
                float(np.mean([metrics.frechet(real[i], fake[i]) for i in picks[n]])) for n in sizes
            ]
            rows += [{"source": source, "n": n, "fid": f} for n, f in zip(sizes, fids)]
            rows.append(
                {
                    "source": source,
                    "n": 0,
                    "fid": float(np.polyfit([1 / n for n in sizes], fids, 1)[1]),
                }
            )
        return pd.DataFrame(rows)

    def recognised(self, sources, guidance: dict[str, float], examples: int = 2048) -> pd.DataFrame:
        """In how many pictures does the style of the original show? A linear reader of styles learns from train-side originals and is asked about the
        test originals, and about what was drawn of them; 95 % intervals. `taken_for`: what it says most, and of which share. Written to style_recognised.csv."""
        shown, part = self.dataset.subset("train", examples), self.subset("test")
        key = f"real-train{examples}-{fingerprint(shown.fingerprint(), code(metrics.image_features, vision))}"
        read = metrics.class_reader(
            self._cached(
                key, lambda: {"eye": metrics.image_features(shown.images, progress="look at train")}
            )["eye"],
            shown.frame["style"].to_numpy(),
        )
        rows = []
        for source in ("originals", "autoencoder", *sources):
            said = read(
                self.real("test")
                if source == "originals"
                else self.drawn(
                    source, "test", float("nan") if source == "autoencoder" else guidance[source]
                )[0]
            )
            right, most = (
                said == part.frame["style"].to_numpy(),
                pd.Series(said).value_counts(normalize=True),
            )
            half = 1.96 * right.std() / len(right) ** 0.5
            rows.append(
                {
                    "source": source,
                    "n": len(right),
                    "recognised": right.mean(),
                    "lo": right.mean() - half,
                    "hi": right.mean() + half,
                    "taken_for": most.index[0],
                    "share": most.iloc[0],
                }
            )
        table = pd.DataFrame(rows).round(5)
        write_csv(self.path("style_recognised.csv"), table)
        return table

    def _scored(self, facts, make) -> dict:
        path = self.path(f"cache/scores/{fingerprint(facts, code(metrics))}.json")
        if not path.exists():
            write_json(path, make())
        return json.loads(path.read_text())

    @property
    def drawn_rivals(self) -> tuple[str, ...]:
        return tuple(self.parameters.get("rivals", ()))

    def sweep(self) -> pd.DataFrame:
        """FID against guidance on validation drawings (train-side, never test), for the sources of the paper's Fig. 3."""
        if not self.parameters.get("n_val"):
            return pd.DataFrame()
        return pd.DataFrame(
            [
                self.row(s, "val", g)
                for s in (*SWEPT, *self.drawn_rivals)
                for g in self.sweep_values(s)
            ]
        ).sort_values("guidance", kind="stable")

    def sweep_values(self, source: str) -> list[float]:
        """Guidance values tried: all for the sources of the paper's Fig. 3, every second for the rivals that it does not have."""
        return [float(g) for g in (self.guidances[::2] if source in COARSE else self.guidances)]

    def samplers(self) -> pd.DataFrame:
        """Is the study's short sampler as good as a long run? Same texts (alt text), same noise: DDIM 50 against few-step DPM-Solver++,
        FID with interval and pictures per second, on validation drawings. Written to samplers.csv."""
        part = self.dataset.subset("val", self.sampler_check)
        texts, ids, real, rows = (
            WRITERS["alt_text"](part),
            list(part.frame["id"]),
            metrics.image_features(part.images),
            [],
        )
        for sampler, steps in (("ddim", 50), ("dpm", 20), ("dpm", 12), ("dpm", 8), ("dpm", 5)):
            path = self.path(
                f"cache/samplers/{fingerprint(part.fingerprint(), sampler, steps, self.guidance, self.seed, self.decoder_hash, code(decoder, metrics, vision))}.json"
            )
            if not path.exists():
                tick = time.time()
                pictures = self.dec.draw(
                    texts,
                    ids,
                    guidance=self.guidance,
                    steps=steps,
                    sampler=sampler,
                    seed=self.seed,
                    progress=True,
                )
                seconds = time.time() - tick
                write_json(
                    path,
                    {
                        "sampler": sampler,
                        "steps": steps,
                        "pictures_per_second": round(len(ids) / seconds, 2),
                        **metrics.score(real, metrics.image_features(pictures)),
                    },
                )
            rows.append(json.loads(path.read_text()))
        table = pd.DataFrame(rows)
        table.round(4).to_csv(self.path("samplers.csv"), index=False)
        return table

    def lengths(self, best: dict[str, float]) -> pd.DataFrame:
        """The paper's Table 4: encoders that write few or many words, each after `lengths_seen` images, drawn on the validation drawings at De-Diffusion's
        guidance; the first row is people's name. Written to lengths.csv."""
        part, rows = (
            self.subset("val"),
            [
                {
                    "source": "names",
                    "tokens": 0,
                    "seen": 0,
                    **self.row("names", "val", best["names"]),
                }
            ],
        )
        for N in LENGTHS:
            texts = self.texts(f"dediffusion_{N}", "val")
            facts = (
                "lengths",
                part.fingerprint(),
                texts,
                best["dediffusion"],
                self.steps,
                self.sampler,
                self.seed,
                self.decoder_hash,
                code(decoder, vision),
            )
            draw = lambda: self.dec.draw(
                texts,
                list(part.frame["id"]),
                guidance=best["dediffusion"],
                steps=self.steps,
                sampler=self.sampler,
                seed=self.seed,
                progress=True,
            )
            scores = self._scored(
                facts, lambda: metrics.score(self.real("val"), metrics.image_features(draw()))
            )
            rows.append(
                {
                    "source": "dediffusion",
                    "tokens": N,
                    "seen": self.lengths_seen,
                    "guidance": best["dediffusion"],
                    "seed": self.seed,
                    **scores,
                }
            )
        table = pd.DataFrame(rows)[["source", "tokens", "seen", *COLUMNS[4:17]]].round(5)
        write_csv(self.path("lengths.csv"), table)
        return table

    def best_guidance(self, sweep: pd.DataFrame) -> dict[str, float]:
        """Each source's guidance of lowest FID on the validation drawings; controls take De-Diffusion's."""
        if sweep.empty:
            return dict.fromkeys((*TEST_SOURCES, *self.drawn_rivals), float(self.guidance))
        best = (
            sweep.loc[sweep.groupby("source")["fid"].idxmin()]
            .set_index("source")["guidance"]
            .to_dict()
        )
        return {s: best.get(s, best["dediffusion"]) for s in (*TEST_SOURCES, *self.drawn_rivals)}

    def rows(self, sources, novel=()) -> pd.DataFrame:
        """Every row through this study's decoder: the sweep (split val), floors, sources and rivals at their guidance on test, then on novel concepts,
        then the curve over guidance on test drawings, where nothing is chosen, and both splits from every further starting noise."""
        swept = self.sweep()
        best = self.best_guidance(swept)
        splits = [("test", sources)] + (
            [("novel", novel)] if self.parameters.get("n_novel") else []
        )
        rows = [self.row("real", "test", 0.0), self.row("autoencoder", "test", 0.0)] + [
            self.row(s, split, best.get(s, 0.0))
            for split, told in splits
            for s in (*told, *self.drawn_rivals)
        ]
        if self.parameters.get("curve"):
            rows += [
                self.row(s, "curve", float(g))
                for s in CURVE
                if s in (*SWEPT, *self.drawn_rivals)
                for g in self.guidances
            ]
        rows += [
            self.row(s, split, best[s], noise=k)
            for k in range(1, self.parameters.get("noise_seeds", 1))
            for split, told in splits
            for s in (*told, *self.drawn_rivals)
            if s != "autoencoder"
        ]
        return pd.concat([swept, pd.DataFrame([r for r in rows if r])], ignore_index=True)[COLUMNS]

    def first_noise(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of reconstruction.csv that the tables show; the other starting noises are in the file."""
        return table[table["seed"] == self.seed].reset_index(drop=True)

    def reconstruction(self) -> pd.DataFrame:
        """The table of the study, through the decoder that the encoder was trained through; written to reconstruction.csv, every starting noise's rows, too. Judges' rows
        that are there already stay if these rows are as they were, and go if they are not."""
        table = self.rows(TEST_SOURCES, ("autoencoder", *NOVEL_SOURCES))
        path = self.path("reconstruction.csv")
        before = pd.read_csv(path) if path.exists() else None
        if before is None or before[before["decoder"] == self.parameters["decoder"]].to_csv(
            index=False
        ) != table.round(5).to_csv(index=False):
            write_csv(path, table.round(5))
            for other in (
                "second_eye",
                "crossed",
            ):  # what notebook 6 compared with the rows that were here
                self.path(f"{other}.csv").unlink(missing_ok=True)
        return self.first_noise(table)

    def through(self, decoder: str) -> Study:
        """The same study, folder, texts and starting noise, drawn by another decoder."""
        other = Study({**self.parameters, "decoder": decoder})
        other._parts, other.__dict__["world"], other.texts = (
            self._parts,
            self.dataset,
            self.texts,
        )  # the strings are this study's, whoever draws them
        return other

    def judged(self) -> pd.DataFrame:
        """reconstruction.csv with the rows of every judge behind those of the decoder trained through."""
        path = self.path("reconstruction.csv")
        if not path.exists():
            raise BadParameter(f"{path} is missing; run notebook 05_reconstruction first")
        own = pd.read_csv(path)
        own = own[own["decoder"] == self.parameters["decoder"]]
        if (
            own.empty
            or set(own.loc[(own["split"] == "test") & (own["source"] != "real"), "n"])
            != {len(self.subset("test"))}
            or own["seed"].min() != self.seed
        ):
            raise BadParameter(
                f"{path} is of another study (decoder, n_test or seed); run notebook 05_reconstruction with the same parameters first"
            )
        table = pd.concat(
            [own, *(self.through(j).rows(JUDGED_SOURCES, NOVEL_SOURCES) for j in self.judges)],
            ignore_index=True,
        ).round(5)
        write_csv(path, table)
        return self.first_noise(table)

    def second_eye(self, sources) -> pd.DataFrame:
        """The test drawings' scores once more, by another network: EfficientNet-Lite1 looks at the kept pictures of every decoder. Does the ranking depend
        on who looks? Written to second_eye.csv (columns of reconstruction.csv)."""
        part, rows = self.subset("test"), []
        look = lambda pictures: metrics.image_features(pictures, net=1)
        real, table = None, self.first_noise(pd.read_csv(self.path("reconstruction.csv")))
        for name in (self.parameters["decoder"], *self.judges):
            study = self.through(name)
            of = table[(table["decoder"] == name) & (table["split"] == "test")].set_index("source")
            for source in (s for s in sources if s in of.index):
                guidance = float(of.loc[source, "guidance"])
                first = study.drawn(source, "test", guidance)
                facts = (
                    "second eye",
                    part.fingerprint(),
                    source,
                    fingerprint(first[0].numpy().tobytes().hex()),
                    code(vision),
                )

                def scores():
                    nonlocal real
                    real = look(part.images) if real is None else real
                    say(f"second eye: {source}, drawn by {name}")
                    return metrics.score(real, look(first[1]))

                rows.append(
                    {
                        "world": self.dataset.name,
                        "split": "test",
                        "source": source,
                        "decoder": name,
                        "guidance": guidance,
                        "seed": self.seed,
                        **self._scored(facts, scores),
                    }
                )
        table = pd.DataFrame(rows)[COLUMNS[:17]].round(5)
        write_csv(self.path("second_eye.csv"), table)
        return table

    def hard_prompt_lengths(self, guidance: float) -> pd.DataFrame:
        """Hard prompts of few and more words, by the similarity (PEZ) and by the decoder's own loss, on validation drawings: seconds per image of the
        search, and what the decoder draws from them; the first row is De-Diffusion, which writes at a glance. Written to hard_prompts.csv."""
        from .train import encode_all

        part, rows = self.dataset.subset("val", self.hard_prompts), []
        real, patches, z_0 = (
            metrics.image_features(part.images),
            backbone_features(part.pixels()),
            encode_all(self.dec, part),
        )
        similarity = self.similarity()
        write = {
            "dediffusion": lambda N: vocab.to_strings(self.enc.tokenizer, self.enc.ids(patches)),
            "pez": lambda N: baselines.hard_prompts(
                similarity, self.dec.tokenizer, patches, N=N, seed=self.seed
            ),
            "ph2p": lambda N: baselines.hard_prompts_by_loss(self.dec, z_0, N=N, seed=self.seed),
        }
        made_by = {
            "dediffusion": lambda: folder_hash(self.encoder_folder),
            "pez": lambda: folder_hash(self.rival("pez")),
            "ph2p": lambda: "",
        }
        for N, method in ((self.enc.pooler.config.N, "dediffusion"), *HARD):
            facts = (
                "hard prompts",
                part.fingerprint(),
                N,
                method,
                made_by[method](),
                guidance,
                self.steps,
                self.sampler,
                self.seed,
                self.decoder_hash,
                code(decoder, encoder, vision, vocab, *WRITTEN["pez"], *WRITTEN["ph2p"]),
            )

            def scores():
                tick = time.time()
                texts = write[method](N)
                seconds = (time.time() - tick) / len(part)
                pictures = self.dec.draw(
                    texts,
                    list(part.frame["id"]),
                    guidance=guidance,
                    steps=self.steps,
                    sampler=self.sampler,
                    seed=self.seed,
                    progress=True,
                )
                return {
                    "seconds_per_image": seconds,
                    "example": texts[0],
                    **metrics.score(real, metrics.image_features(pictures)),
                }

            rows.append(
                {"method": method, "words": N, "guidance": guidance, **self._scored(facts, scores)}
            )
        table = pd.DataFrame(rows).round(5)
        write_csv(self.path("hard_prompts.csv"), table)
        return table

    def crossed(self, guidance: dict[str, float]) -> pd.DataFrame:
        """Trained through x judged by: an encoder through each decoder in turn, `cross_seen` images each, its texts of CROSSED test drawings drawn by every
        decoder at that decoder's guidance for De-Diffusion. Written to crossed.csv."""
        names, part, rows = (
            (self.parameters["decoder"], *self.judges),
            self.dataset.subset("test", CROSSED),
            [],
        )
        patches, real, ids = (
            backbone_features(part.pixels()),
            metrics.image_features(part.images),
            list(part.frame["id"]),
        )
        through = {name: self.through(name) for name in names}
        for trained, by in through.items():
            encoder = self.encoder_through(by, "crossed", self.tokens, self.cross_seen)
            texts = vocab.to_strings(encoder.tokenizer, encoder.ids(patches))
            for name, judged in through.items():
                facts = (
                    "crossed",
                    part.fingerprint(),
                    texts,
                    guidance[name],
                    self.steps,
                    self.sampler,
                    self.seed,
                    judged.decoder_hash,
                    code(decoder, vision),
                )
                draw = lambda: judged.dec.draw(
                    texts,
                    ids,
                    guidance=guidance[name],
                    steps=self.steps,
                    sampler=self.sampler,
                    seed=self.seed,
                    progress=True,
                )
                scores = self._scored(
                    facts, lambda: metrics.score(real, metrics.image_features(draw()))
                )
                rows.append(
                    {
                        "trained_through": trained,
                        "decoder": name,
                        "guidance": guidance[name],
                        "seed": self.seed,
                        "of": part.frame["name"].iloc[0],
                        "example": texts[0],
                        **scores,
                    }
                )
        table = pd.DataFrame(rows).round(5)
        write_csv(self.path("crossed.csv"), table)
        return table

    # -- a language model reads the texts --------------------------------------------------------------------------------------

    def language_model(self, name: str) -> llm.LanguageModel:
        known = self.__dict__.setdefault("_models", {})
        if name not in known:
            known[name] = llm.LanguageModel.load(name)
        return known[name]

    def answers(
        self,
        name: str,
        prompts: list[llm.Prompt],
        tokens: int = 12,
        B: int = llm.ROWS,
        what: str = "",
    ) -> list[str]:
        """What a model says to each prompt; kept, so that neither the same prompts nor an interrupted study ask twice."""
        key = fingerprint(
            name,
            folder_hash(Path(name)) if Path(name).is_dir() else "",
            tokens,
            B,
            llm.BUCKET,
            [str(p) for p in prompts],
            inspect.getsource(llm.LanguageModel),
            str(compute_dtype()),
        )
        path = self.path(f"cache/answers/{key}.json")
        if not path.exists():
            write_json(path, self.language_model(name).answer(prompts, tokens, B, progress=what))
        return json.loads(path.read_text())

    def few_shot(self) -> pd.DataFrame:
        """Questions, classifications and captions from every context by every model -> few_shot.csv and few_shot_differences.csv; each answer in few_shot_answers.parquet."""
        tasks = (self._questions, self._classifications, self._captions)
        parts = [
            part
            for name in self.language_models
            for context in self.contexts_of(name)
            for task in tasks
            for part in task(name, context)
        ]
        parts += [
            part for name in self.language_models for part in self._questions(name, llm.COMMONEST)
        ]
        return self.few_shot_scores(pd.concat(parts, ignore_index=True))

    def few_shot_scores(self, answers: pd.DataFrame) -> pd.DataFrame:
        """Every file that answers make."""
        answers.to_parquet(self.path("few_shot_answers.parquet"), index=False)
        table = llm.summary(answers)
        write_csv(self.path("few_shot.csv"), table.round(5))
        write_csv(self.path("few_shot_differences.csv"), llm.differences(answers).round(5))
        return table

    @cached_property
    def commonest(self) -> dict[str, str]:
        """What training drawings are most often, kind of question by kind."""
        return llm.commonest(self.subset("train"))

    def contexts_of(self, name: str) -> list[str]:
        """The sources of text that a model is shown."""
        return (
            self.contexts
            if name == self.language_models[0]
            else self.parameters.get("further_contexts") or self.contexts
        )

    def language_bits(self, name: str, n: int = 256) -> pd.Series:
        """Mean bits that a model needs for one text of each source, on n test drawings; also the column bits_lm of rate_quality.csv."""
        path = self.path("rate_quality.csv")
        rated = pd.read_csv(path) if path.exists() else None
        sources, costs = list(self.contexts) if rated is None else list(rated["source"]), {}
        for source in sources:
            texts = self.texts(source, "test")
            texts = texts[:: max(1, len(texts) // n)][
                :n
            ]  # evenly spread: neighbours are drawings of like things
            costs[source] = self._scored(
                (
                    "bits",
                    name,
                    folder_hash(Path(name)) if Path(name).is_dir() else "",
                    texts,
                    inspect.getsource(llm.LanguageModel),
                    str(compute_dtype()),
                ),
                lambda: {"bits": float(self.language_model(name).bits(texts).mean())},
            )["bits"]
        costs = pd.Series(costs, name="bits_lm")
        if rated is not None:
            write_csv(path, rated.assign(bits_lm=rated["source"].map(costs).round(3)))
        return costs

    def questions_of(self, k: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        """The questions that seed k of the examples answers, and that seed's examples from the train split, by kind."""
        known = self.__dict__.setdefault("_asked", {})
        if k not in known:
            shown = llm.questions(
                self.subset("train"),
                max(llm.PSEUDO, *self.shots) * len(llm.KINDS),
                f"{self.seed}/examples/{k}",
            )
            known[k] = (
                llm.questions(
                    self.subset("test"),
                    self.questions // self.example_seeds,
                    f"{self.seed}/questions/{k}",
                ),
                dict(list(shown.groupby("kind"))),
            )
        return known[k]

    def question_prompts(
        self, context: str, k: int, shots: int, pseudo: bool
    ) -> tuple[pd.DataFrame, list[llm.Prompt]]:
        """Seed k's questions, and each one's prompt with examples of its own kind."""
        asked, shown = self.questions_of(k)
        here, there = self.texts(context, "test"), self.texts(context, "train")
        examples = {
            kind: tuple(
                llm.vqa_example("" if pseudo else there[e.row], e.question, e.answer)
                for e in some.head(llm.PSEUDO if pseudo else shots).itertuples()
            )
            for kind, some in shown.items()
        }
        return asked, [
            llm.Prompt(llm.VQA, examples[q.kind], llm.vqa_query(here[q.row], q.question))
            for q in asked.itertuples()
        ]

    def _questions(self, name: str, context: str):
        settings = [
            (s, s == 0) for s in self.shots
        ]  # as in the paper, "0-shot" shows questions and answers, but no context
        for k in range(self.example_seeds):
            for shots, pseudo in settings:
                if context == llm.COMMONEST:
                    asked = self.questions_of(k)[0]
                    said = [self.commonest[kind] for kind in asked["kind"]]
                else:
                    asked, prompts = self.question_prompts(context, k, shots, pseudo)
                    said = self.answers(
                        name,
                        prompts,
                        what=f"{name}: questions from {context}, {shots} shots{', pseudo' if pseudo else ''}, examples {k}",
                    )
                cell = dict(
                    task="vqa",
                    kind=asked["kind"],
                    context=context,
                    model=name,
                    shots=shots,
                    ways=0,
                    induction=False,
                    pseudo=pseudo,
                    seed=k,
                    id=asked["id"],
                    question=asked["question"],
                    answer=asked["answer"],
                    answers=asked["answers"].map("|".join),
                    origin=asked["origin"],
                    said=said,
                )
                for metric, right, answer in (
                    ("exact", llm.exact, "answer"),
                    ("vqa", llm.vqa_accuracy, "answers"),
                ):
                    yield pd.DataFrame(
                        {
                            **cell,
                            "metric": metric,
                            "value": [
                                0.5 if s == llm.COIN and context == llm.COMMONEST else right(s, a)
                                for s, a in zip(said, asked[answer])
                            ],
                        }
                    )

    def _classifications(self, name: str, context: str):
        splits = (
            {"test": "train", "novel": "novel"}
            if self.parameters.get("n_novel")
            else {"test": "train"}
        )
        for split, support in splits.items() if self.episodes else ():
            part, here, there = (
                self.subset(split),
                self.texts(context, split),
                self.texts(context, support),
            )
            for ways in (2, 5):
                for k in range(self.example_seeds):
                    played = llm.episodes(
                        part,
                        self.subset(support),
                        ways,
                        self.parameters["episodes"] // self.example_seeds,
                        f"{self.seed}/{split}/{k}",
                    )
                    queries = [q for e in played for q in e.queries]
                    for shots in self.class_shots:
                        for induction in (True, False):
                            prompts = [
                                p
                                for e in played
                                for p in llm.class_prompts(e, shots, induction, here, there)
                            ]
                            said = self.answers(
                                name,
                                prompts,
                                B=ways,
                                what=f"{name}: {ways} ways from {context} on {split}, {shots} shots, induction {induction}, examples {k}",
                            )
                            yield pd.DataFrame(
                                dict(
                                    task="classification",
                                    kind=split,
                                    context=context,
                                    model=name,
                                    shots=shots,
                                    ways=ways,
                                    induction=induction,
                                    pseudo=False,
                                    seed=k,
                                    id=[part.frame["id"].iloc[i] for i, _ in queries],
                                    question="",
                                    answer=[a for _, a in queries],
                                    said=said,
                                    metric="exact",
                                    value=[llm.exact(s, a) for s, (_, a) in zip(said, queries)],
                                )
                            )

    def _captions(self, name: str, context: str):
        test, train = self.subset("test"), self.subset("train")
        for k in range(self.example_seeds) if self.captions else ():
            rows, shown = (
                [
                    q.row
                    for q in llm.questions(
                        w, n, f"{self.seed}/captions/{k}", kinds=("what",)
                    ).itertuples()
                ]
                for w, n in (
                    (test, self.captions // self.example_seeds),
                    (train, max(llm.PSEUDO, *self.shots)),
                )
            )
            here, there = self.texts(context, "test"), self.texts(context, "train")
            for shots in self.shots:
                pseudo = shots == 0
                examples = tuple(
                    llm.caption_example("" if pseudo else there[i], train.frame["name"].iloc[i])
                    for i in shown[: llm.PSEUDO if pseudo else shots]
                )
                said = self.answers(
                    name,
                    [llm.Prompt(llm.CAPTION, examples, llm.caption_query(here[i])) for i in rows],
                    tokens=20,
                    what=f"{name}: captions from {context}, {shots} shots, examples {k}",
                )
                people = test.frame.iloc[rows]
                yield pd.DataFrame(
                    dict(
                        task="captioning",
                        kind="caption",
                        context=context,
                        model=name,
                        shots=shots,
                        ways=0,
                        induction=False,
                        pseudo=pseudo,
                        seed=k,
                        id=people["id"].tolist(),
                        question="",
                        answer=people["name"].tolist(),
                        said=said,
                        metric="cider",
                        value=llm.cider(
                            said, [[n, *ks] for n, ks in zip(people["name"], people["keywords"])]
                        ),
                    )
                )


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Renamed into place: a kill leaves the old file or the new one."""
    table.to_csv(path.with_suffix(".tmp"), index=False)
    os.replace(path.with_suffix(".tmp"), path)


def results_root() -> Path:
    """results/ of the repository, or $DD_RESULTS, or ./results of an installed package."""
    return Path(
        os.environ.get("DD_RESULTS")
        or (ROOT / "results" if (ROOT / "notebooks").exists() else Path.cwd() / "results")
    )


def load_parameters(study: str) -> dict:
    """notebooks/params/<study>.yaml, or a path to such a file; checked."""
    import yaml

    path = (
        Path(study)
        if study.endswith((".yaml", ".yml"))
        else ROOT / "notebooks" / "params" / f"{study}.yaml"
    )
    if not path.exists():
        raise BadParameter(
            f"no parameter file {path}; there are {sorted(p.stem for p in (ROOT / 'notebooks' / 'params').glob('*.yaml'))}"
        )
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(parameters, dict):
        raise BadParameter(f"{path}: no parameters in it; one 'name: value' a line")
    if "study" not in parameters:
        raise BadParameter(f"{path}: 'study' is missing; it names the results folder")
    return check(parameters)


def check_run(parameters: dict) -> dict:
    """What a whole run needs beyond types and ranges, refused before the first notebook rather than by the last."""
    for name, least in LEAST.items():
        if 0 < parameters.get(name, 0) < least:
            raise BadParameter(
                f"{name} is {parameters[name]}; 0 or at least {least} needed: {SCHEMA[name][3]}"
            )
    decoders = [parameters.get("decoder", "sketch"), *parameters.get("judges", [])]
    try:
        for name in decoders:
            pinned(name, None, "decoder")
        for name in parameters.get("language_models", ()):
            llm.package(name) if name in llm.PACKAGES else pinned(name, None, "language model")
    except FileNotFoundError as error:
        raise BadParameter(str(error)) from None
    if shipped(decoders[0]).resolve() in [shipped(d).resolve() for d in decoders[1:]]:
        raise BadParameter(
            f"judges is {decoders[1:]}; {decoders[0]} is the decoder that the encoder was trained through, a judge must be another"
        )
    tokenizer = shipped(parameters.get("decoder", "sketch")) / "tokenizer" / "tokenizer_config.json"
    if tokenizer.exists() and parameters.get("tokens", 1) > (
        most := json.loads(tokenizer.read_text())["model_max_length"] - 2
    ):
        raise BadParameter(
            f"tokens is {parameters['tokens']}; decoder {parameters['decoder']} reads at most {most}"
        )
    return parameters


def run(study: str = "quick", overrides: dict | None = None) -> Path:
    """Run the notebooks in order through Papermill. Done notebooks are not run again; a killed run goes on where it stopped."""
    import papermill

    from .report import build_report, headline

    parameters = check_run(check({**load_parameters(study), **(overrides or {})}))
    absolute = (
        lambda name: str(Path(name).resolve()) if "/" in name and Path(name).is_dir() else name
    )  # kernels work in another folder
    parameters |= {
        name: absolute(parameters[name]) for name in ("decoder", "encoder") if name in parameters
    }
    parameters |= {
        name: [absolute(v) for v in parameters[name]]
        for name in ("judges", "language_models")
        if name in parameters
    }
    folder = results_root() / parameters["study"]
    done_path, started = folder / "run.json", time.time()
    made_by = fingerprint(
        [p.read_text() for p in sorted(PACKAGE.glob("*.py"))], folder_hash(PACKAGE / "assets")
    )
    done = json.loads(done_path.read_text()) if done_path.exists() else {}
    say(f"study {parameters['study']}: {len(NOTEBOOKS)} notebooks -> {folder}")
    for k, name in enumerate(NOTEBOOKS, 1):
        source, executed = (
            ROOT / "notebooks" / f"{name}.ipynb",
            folder / "notebooks" / f"{name}.ipynb",
        )
        known = set(papermill.inspect_notebook(str(source)))
        given = {p: v for p, v in parameters.items() if p in known}
        cells = ["".join(c["source"]) for c in json.loads(source.read_text())["cells"]]
        key = fingerprint(
            cells, given, made_by, [done.get(n, {}).get("key") for n in NOTEBOOKS[: k - 1]]
        )
        if done.get(name, {}).get("key") == key and executed.exists():
            say(
                f"[{k}/{len(NOTEBOOKS)}] {name}: done before in {done[name]['seconds']:.0f} s, nothing to compute"
            )
            continue
        left = (
            sum(EXPECTED.get(n, 60) for n in NOTEBOOKS[k - 1 :])
            if parameters["study"] == "quick"
            else None
        )
        say(
            f"[{k}/{len(NOTEBOOKS)}] {name} ..."
            + (f" about {left / 60:.0f} min left in all" if left else "")
        )
        executed.parent.mkdir(parents=True, exist_ok=True)
        tick = time.time()
        papermill.execute_notebook(
            str(source),
            str(executed),
            parameters=given,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=True,
            stderr_file=_Stderr(),
        )
        done[name] = {"key": key, "seconds": round(time.time() - tick, 1)}
        write_json(done_path, done)
    report = build_report(folder, NOTEBOOKS)
    say(f"\nstudy {parameters['study']} done in {(time.time() - started) / 60:.1f} min")
    print(headline(folder))
    print(f"\nreport   {report}\nfigures  {folder / 'figures'}\ntables   {folder / 'tables'}")
    return report


EXPECTED = {
    "01_data": 25,
    "02_decoder": 90,
    "03_encoder": 180,
    "04_texts": 20,
    "05_reconstruction": 280,
    "06_judges": 240,
    "07_editing": 60,
    "08_language": 80,
}  # seconds of `quick`, 2 cores


class _Stderr:
    """Papermill hands over the kernel's stderr: progress lines go on to the terminal."""

    def write(self, text: str) -> None:
        import sys

        sys.stderr.write(text)

    def flush(self) -> None:
        pass
