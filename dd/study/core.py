"""Class Study: one results folder and the parameters that fill it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import baselines, decoder, encoder, metrics, vision, vocab
from ..baselines import CAPTIONS, retrieved
from ..data import Dataset, load_dataset
from ..decoder import Decoder
from ..encoder import Encoder, backbone_features
from ..runtime import (
    ASSETS,
    device,
    load_state,
    save_state,
    say,
    shipped,
    weights_hash,
    write_json,
)
from ..texts import SOURCES, random_words, shuffled, write_texts
from .cache import code, fingerprint, folder_hash, run_key, write_csv
from .experiments import Experiments
from .few_shot import FewShot
from .parameters import OF_LENGTH, WRITTEN, BadParameter, check, results_root

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


@dataclass
class Study(Experiments, FewShot):
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
        from ..train import encode_all

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
                else SOURCES[source](part, self.seed)
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
        from ..train import train_encoder

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
        from ..baselines import train_captioner, train_similarity

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
            from ..encoder import relax
            from ..runtime import autocast

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
