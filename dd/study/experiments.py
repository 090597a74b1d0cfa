"""Side experiments of a study."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import torch

from .. import baselines, decoder, encoder, metrics, vision, vocab
from ..encoder import backbone_features
from ..runtime import say, write_json
from ..texts import LENGTHS, SOURCES
from .cache import code, fingerprint, folder_hash, write_csv
from .parameters import WRITTEN

HARD = (
    (8, "pez"),
    (8, "ph2p"),
    (15, "pez"),
    (15, "ph2p"),
)  # words and method of the hard prompts compared
CROSSED = 1024  # test drawings on which encoders trained through each decoder are compared
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


class Experiments:
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

    def samplers(self) -> pd.DataFrame:
        """Is the study's short sampler as good as a long run? Same texts (alt text), same noise: DDIM 50 against few-step DPM-Solver++,
        FID with interval and pictures per second, on validation drawings. Written to samplers.csv."""
        part = self.dataset.subset("val", self.sampler_check)
        texts, ids, real, rows = (
            SOURCES["alt_text"](part),
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
        from ..train import encode_all

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
