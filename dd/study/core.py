"""Class Study: one results folder and the parameters that fill it; what notebooks talk to.

    study = Study({"study": "mine", "n_test": 400})    # all other parameters have their defaults
    study.texts("dediffusion")                         # strings of the test split
    study.reconstruction()                             # the table, one row a source

Letters: M images, P patches, F features, D width, C and h latents.
"""

from __future__ import annotations

import os
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pandas as pd
import torch

from .. import baselines, metrics
from ..commands import RECIPE
from ..data import SIZE, Dataset, load_dataset
from ..decoder import GUIDE, Decoder
from ..encoder import Encoder, backbone_features, relax
from ..files import read_csv, read_json, write_csv, write_json
from ..runtime import ASSETS, autocast, device, weights_hash, whole_model
from ..search import SearchEngine, ideal
from ..sources import DECODERS, LENGTHS, LITE0, LITE2, SEARCH, keys
from ..texts import WRITERS as PLAIN
from ..texts import random_words, shuffled, write_texts
from ..vocab import to_strings
from . import cache
from .cache import fingerprint, folder_hash
from .parameters import MANY, PARAMETERS, BadParameter, check, results_root, taken
from .world import stepping_aside

ROW = ["world", "split", "source", "decoder", "guidance", "seed"]
SCORES = "n fid fid_lo fid_hi kid kid_lo kid_hi paired paired_lo paired_hi r_at_1".split()
WITHIN = ["kid_within", "kid_within_lo", "kid_within_hi"]  # inside a style, averaged over styles
COLUMNS = [*ROW, *SCORES, *WITHIN]
TEST, JUDGED = keys("drawn", without="chosen"), keys("judged")
SWEPT, FURTHER = keys("swept", without="chosen"), {s: keys(s) for s in ("novel", "outside")}
FLOORS = ("real", "autoencoder", "ideal_name", "ideal_style")  # and ceilings: no text is drawn


class Study:
    """One results folder and its parameters, each of which is an attribute: study.seed, ...

    takes: the names that may be used; others are refused, not read as their defaults."""

    judging = False  # whether its decoder only draws, and may be of any family

    def __init__(self, parameters: dict, takes: tuple[str, ...] = tuple(PARAMETERS)):
        everything, self.takes = check(parameters), takes
        self.parameters = {name: everything[name] for name in takes}
        self.__dict__.update(self.parameters)
        self.folder, self.subsets = results_root() / self.parameters["study"], {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._models: dict = {}
        self._looked: dict[int, torch.Tensor] = {}
        # data sets by name and size of their pictures, and subsets in another size
        self._worlds: dict = {}

    def __getattr__(self, name: str):
        if name in PARAMETERS:
            raise BadParameter(  # an AttributeError is lost inside a cached property
                f"this notebook uses the parameter {name!r} and does not take it: name it in "
                "NOTEBOOKS of dd/study/parameters.py"
            )
        raise AttributeError(f"a study has no {name!r}")

    @classmethod
    def of_notebook(cls, notebook: str, names: dict) -> Study:
        """The study of a notebook: `names` (its globals()) that are parameters, defaults for all
        others. What it takes is written to parameters/<notebook>.json before the work starts."""
        literal = lambda v: not isinstance(v, (ModuleType, FunctionType, type))
        given = {n: v for n, v in names.items() if n in PARAMETERS and literal(v)}
        if isinstance(given.get("study"), Study):  # the cell is run once more
            given["study"] = given["study"].parameters["study"]
        study = cls(given, tuple(dict.fromkeys((*taken(notebook), *given))))
        if not study.is_emoji and (shell := names.get("get_ipython")):
            shell().input_transformers_cleanup.append(stepping_aside(notebook))
        write_json(study.path(f"parameters/{notebook}.json"), study.parameters)
        return study

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, stage: str, prefix: str, **inputs) -> Path:
        """Where a result of a stage is kept: its name says all that its numbers depend on."""
        return self.path(f"{prefix}{cache.key(stage, **inputs)}")

    def kept(self, stage: str, make, name: str = "", **inputs):
        """What `make()` gives, from an earlier call if there was one with the same inputs."""
        return cache.kept(self.place(stage, f"cache/{stage}/{name}", **inputs), make)

    # -- images, decoder, encoder ----------------------------------------------------------------

    @cached_property
    def dataset(self) -> Dataset:
        """The world's; of a user's own, what names no split is for testing."""
        return self.in_size(self.size)

    @cached_property
    def size(self) -> int:
        """Pixels per side of its images: what the decoder draws, as `score` compares originals, or
        where a notebook draws nothing what the encoder sees. Shipped ones are not loaded for it."""
        if "decoder" in self.takes:
            return SIZE if self.decoder in DECODERS else self.dec.size
        return SIZE if self.is_emoji else self.enc.size

    def in_size(self, size: int, world: str = "") -> Dataset:
        """The world, or another by its name, in pictures of one size, read once."""
        if (world, size) not in self._worlds:
            beside = world or self.is_emoji or self.world_images == "beside"
            name = world or ("emoji" if self.is_emoji else self.world)
            read = load_dataset(name, None if beside else self.world_images, size)
            self._worlds[world, size] = read
        return self._worlds[world, size]

    def sized(self, images: Dataset, size: int) -> Dataset:
        """The same images in pictures of another size."""
        if images.images.shape[1] == size:
            return images
        if (which := (images.fingerprint(), size)) not in self._worlds:
            world = self.in_size(size, "outside" if images.name == "outside" else "")
            at = {id: row for row, id in enumerate(world.frame["id"])}
            self._worlds[which] = world.rows([at[id] for id in images.frame["id"]])
        return self._worlds[which]

    def shown(self, images: Dataset) -> Dataset:
        """These images as the encoder sees them, in the size that it was trained on, as `write`
        shows them, be the decoder's another."""
        return self.sized(images, self.size if self.encoder == "trained" else self.enc.size)

    @property
    def is_emoji(self) -> bool:
        """A notebook that takes no other world is of this one."""
        return self.parameters.get("world", "emoji") == "emoji"

    @property
    def eye(self) -> dict:
        """What looks at pictures, as an option of `image_features`; {} is the study's own."""
        eye = self.parameters.get("features", LITE2)
        return {} if eye == LITE2 else {"eye": eye}

    def split(self, name: str) -> str:
        """A split by its name; in a world that has no such one, that for testing."""
        there = self.is_emoji or name in set(self.dataset.frame["split"])
        return name if there else "test"

    def of_world(self, sources) -> tuple[str, ...]:
        """Those of `sources` that this world has; relaxed tokens only where the decoder's words are
        those that the encoder writes."""
        there = (s for s in sources if self.is_emoji or s not in keys("emoji"))
        return tuple(s for s in there if s != "soft" or self.same_words)

    @cached_property
    def same_words(self) -> bool:
        if self.encoder == "trained" or (self.encoder, self.decoder) == ("shipped", "sketch"):
            return True  # trained through it: no need to load both
        return self.enc.tokenizer.get_vocab() == self.dec.tokenizer.get_vocab()

    def subset(self, split: str | Dataset) -> Dataset:
        """The drawings of a split that this study uses, the same object each time; "curve" is some
        of the test drawings, "outside" are drawings of other hands. A Dataset is itself."""
        if isinstance(split, Dataset):
            return split
        if split not in self.subsets:
            of, n = ("test", "curve") if split == "curve" else (split, f"n_{split}")
            dataset = self.dataset if split != "outside" else self.in_size(self.size, split)
            of = "test" if split == "outside" else of
            self.subsets[split] = dataset.subset(of, getattr(self, n) or None)
        return self.subsets[split]

    @cached_property
    def probe(self) -> Dataset:
        """Validation drawings that trainings are watched on: a twentieth of the training drawings,
        at least 64 and at most 256. Of the test split in a world without validation."""
        n = min(256, max(64, (self.n_train or MANY) // 20))
        return self.dataset.subset(self.split("val"), n)

    @cached_property
    def dec(self) -> Decoder:
        return Decoder.load(self.decoder, judge=self.judging)

    @cached_property
    def decoder_hash(self) -> str:
        return cache.model_hash(self.decoder)

    @cached_property
    def trained_through(self) -> str:
        """What latents, texts and trainings depend on: only drawing is guided."""
        return cache.model_hash(self.decoder, without=GUIDE)

    @cached_property
    def encoder_folder(self) -> Path:
        chosen = self.encoder
        places = {"trained": self.folder / "encoder", "shipped": ASSETS / "encoder"}
        path = places.get(chosen, Path(chosen))
        if not (path / "config.json").exists():
            raise BadParameter(
                f"encoder is {chosen!r} but {path} holds none; run notebook 03_encoder first or "
                "use 'shipped'"
            )
        return path

    @cached_property
    def enc(self) -> Encoder:
        return Encoder.load(self.encoder_folder)

    def patches(self, split: str | Dataset, backbone: str | None = None) -> torch.Tensor:
        """Frozen backbone features (M, P, F), computed once; of an encoder's own `backbone`."""
        from ..train import of_images

        images = self.shown(self.subset(split))
        own = {"backbone": backbone} if backbone else {}
        make = lambda: {"patches": of_images(partial(backbone_features, **own), images)}
        which = {"backbone": cache.model_hash(backbone)} if backbone else {}  # it may have learnt
        return self.kept("features", make, images=images, **which)["patches"]

    def latents(self, split: str | Dataset) -> torch.Tensor:
        """Decoder latents z_0 (M, C, h, h), computed once."""
        from ..train import encode_all

        images = self.subset(split)
        make = lambda: {"z": encode_all(self.dec, images)}
        return self.kept("latents", make, images=images, decoder=self.trained_through)["z"]

    def real(self, split: str | Dataset) -> torch.Tensor:
        """Image features of the originals (M, D), computed once."""
        images = self.subset(split)
        told = f"look at {split if isinstance(split, str) else len(images)}"
        look = partial(metrics.image_features, images.images, progress=told, **self.eye)
        return self.kept("look", lambda: {"eye": look()}, images=images, **self.eye)["eye"]

    # -- training drawings in the place of pictures ----------------------------------------------

    @cached_property
    def engine(self) -> SearchEngine:
        """Searches all training drawings, as the decoders were trained on all: not `n_train`."""
        return SearchEngine(self.dataset.subset("train"))

    def features_of(self, rows: np.ndarray) -> torch.Tensor:
        """Image features (M, D) of the engine's drawings `rows` (M,), each looked at once."""
        missing = np.setdiff1d(rows, list(self._looked))
        if len(missing):
            features = self.real(self.engine.shown.rows(missing))
            self._looked.update(zip(missing.tolist(), features))
        return torch.stack([self._looked[row] for row in rows.tolist()])

    def hits(self, source: str, split: str) -> np.ndarray:
        """The training drawings (M,) that the search engine finds first for a source's texts."""
        ids = self.subset(split).frame["id"]
        return self.engine.find(self.texts(source, split), ids, self.seed)

    def ideal(self, source: str, split: str) -> torch.Tensor:
        """Image features (M, D) of an ideal drawer's pictures."""
        told = dict(with_style=source == "ideal_style", seed=self.seed)
        return self.features_of(ideal(self.engine, self.subset(split), **told))

    # -- trainings beside the study's own --------------------------------------------------------

    def training(self, kind: str, stage: str, **inputs) -> Path:
        """Folder of a training on the train split: other inputs, another folder."""
        images, decoder = self.subset("train"), self.trained_through
        return self.place(stage, kind, images=images, decoder=decoder, seed=self.seed, **inputs)

    @property
    def recipe(self) -> dict:
        """What notebook 3's training changes of RECIPE: only what is not its default, or the
        default's training would be another one, too."""
        asked = dict(B=self.batch, rule=self.rule, backbone=self.backbone)
        return {k: v for k, v in asked.items() if v not in (RECIPE[k], "auto", LITE0)}

    def trained_encoder(self, kind: str, N: int, seen: int) -> Encoder:
        """An encoder beside the study's own: N words, trained through this study's decoder."""
        from ..train import train_encoder

        folder = self.training(f"{kind}/", "train_encoder", tokens=N, seen=seen)
        z = self.latents("train")
        given = dict(seen=seen, tokens=N, seed=self.seed, patches=self.patches("train"), z_all=z)
        return train_encoder(self.subset("train"), self.dec, folder, **given)

    def of_length(self, N: int) -> Encoder:
        """The encoder of N words of the comparison of lengths, trained when first asked for."""
        if N not in self._models:
            self._models[N] = self.trained_encoder("lengths", N, self.lengths_seen)
        return self._models[N]

    def rival(self, source: str) -> Path:
        """Where a source keeps what it has learnt, when it is first asked for: a captioner, or the
        similarity that interrogator and hard prompts share. Its log lies one folder up."""
        captions = baselines.CAPTIONS.get(source)
        what = source if captions else "similarity"
        stage = "train_captioner" if captions else "train_similarity"
        learnt = dict(captions=captions) if captions else {}
        folder = self.training(f"rivals/{what}-", stage, seen=self.rivals_seen, **learnt)
        saved, saving = folder / "saved", folder / "saving"
        if saved.exists():
            return saved
        train = self.subset("train")
        options = dict(seen=self.rivals_seen, seed=self.seed, probe=self.probe)
        options["patches"] = self.patches("train")
        if captions:
            made = baselines.train_captioner(train, self.dec, folder, kind=source, **options)
            made.save(saving, half=True)
        else:
            made = baselines.train_similarity(train, self.dec.tokenizer, folder, **options)
            made.save_pretrained(saving, safe_serialization=True)
        os.replace(saving, saved)  # whole, or not there
        return saved

    def similarity(self) -> baselines.Similarity:
        """The image-text similarity that the interrogator and the hard prompts share."""
        return whole_model(baselines.Similarity, self.rival("pez"), "similarity").to(device())

    # -- texts -----------------------------------------------------------------------------------

    def texts(self, source: str, split: str = "test") -> list[str]:
        """The strings of one source for one split, also written to texts/<split>/<source>.parquet.
        What a network writes is kept from an earlier run; the others take no time."""
        images = self.subset(split)
        if split == "curve":  # some of the test drawings: what was written of them
            told = pd.Series(self.texts(source, "test"), index=self.subset("test").frame["id"])
            return told[images.frame["id"]].tolist()
        make = partial(WRITERS[source], self, split)
        if source in keys("kept"):
            made = self.kept("write", make, f"{split}-{source}-", **self.writing(source, images))
        else:
            made = make()
        write_texts(self.path(f"texts/{split}/{source}.parquet"), images, made)
        return made

    def writing(self, source: str, images: Dataset, N: int | None = None) -> dict:
        """All that a text depends on that a network writes."""
        if source == "dediffusion":
            weights = folder_hash(self.encoder_folder)
        elif source in OF_LENGTH:
            weights = weights_hash(self.of_length(OF_LENGTH[source]).pooler)
        else:
            weights = folder_hash(self.rival(source)) if source in keys("learnt") else ""
        facts = dict(source=source, images=images, weights=weights, decoder=self.trained_through)
        return dict(**facts, seed=self.seed, N=N or self.enc.pooler.config.N)

    # -- pictures and scores ---------------------------------------------------------------------

    def drawn(
        self, source: str, split: str, guidance: float, chunk: int = 256, noise: int = 0
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Draw a source's texts -> (image features (M, D), pictures uint8: the first chunk's, or
        in the emoji world all of the test split's first noise). `noise`: which draw of the
        starting noise.

        Each chunk is kept as it is done. Chunks are fixed, so a resumed run draws what an
        undisturbed one would have drawn."""
        images = self.subset(split)
        ids, every = list(images.frame["id"]), split == "test" and noise == 0 and self.is_emoji
        bypass = source in ("autoencoder", "soft")  # these two are no text
        texts = [""] * len(ids) if bypass else self.texts(source, split)
        inputs = self.drawing(images, texts, guidance, noise)
        inputs |= dict(chunk=chunk, pictures="all" if every else "first")
        if bypass:
            inputs["bypass"] = source
        if source == "soft":
            inputs["weights"] = folder_hash(self.encoder_folder)
        base = self.place("draw", f"cache/draw/{split}-{source}-", **inputs)

        def make(rows: slice):
            how = self.how(guidance, noise)
            pictures = self._draw_chunk(source, split, texts[rows], ids[rows], rows, how)
            tensors = {"eye": metrics.image_features(pictures, **self.eye)}
            if every or rows.start == 0:
                tensors["pictures"] = torch.from_numpy(pictures)
            return tensors

        at = "" if np.isnan(guidance) else f" at guidance {guidance:g}"
        what = f"draw {source} on {split}{at}"
        chunks = cache.kept_in_chunks(base, len(ids), chunk, make, what)
        pictures = [c["pictures"].numpy() for c in chunks if "pictures" in c]
        return torch.cat([c["eye"] for c in chunks]), np.concatenate(pictures)

    def drawing(self, images: Dataset, texts, guidance: float, noise: int = 0) -> dict:
        """All that pictures of texts depend on."""
        facts = dict(images=images, texts=texts, decoder=self.decoder_hash, **self.eye)
        return facts | self.how(guidance, noise)

    def how(self, guidance: float, noise: int = 0) -> dict:
        """The options of Decoder.draw."""
        seed = self.seed + noise
        return dict(guidance=guidance, steps=self.steps, sampler=self.sampler, seed=seed)

    def _draw_chunk(self, source, split, texts, ids, rows, how: dict) -> np.ndarray:
        if source == "autoencoder":
            return self.dec.decode(self.latents(split)[rows])
        states = None
        if source == "soft":
            patches = self.patches(split, self.enc.pooler.config.backbone)
            patches = patches[rows].to(device()).float()
            with torch.no_grad(), autocast():  # tau is where training's temperature ends
                weights = relax(self.enc.pooler(patches), tau=0.3, noise=0.0)  # (B, N, V)
                states = self.dec.soft_states(weights).float()  # (B, L, D)
        return self.dec.draw(texts, ids, states=states, **how)

    def scored(self, real: torch.Tensor, fake: torch.Tensor, **options) -> dict:
        make = lambda: metrics.score(real, fake, **options)
        return self.kept("score", make, real=real, fake=fake, **options)

    def row(self, source: str, split: str, guidance: float, noise: int = 0) -> dict:
        """One row of reconstruction.csv. `noise`: which draw of the starting noise."""
        images, real, rows, how = self.subset(split), self.real(split), (slice(None),) * 2, {}
        if source in FLOORS:
            guidance = float("nan")
        if source == "real":  # one half of the originals against the other
            order = np.random.default_rng(self.seed).permutation(len(real))
            fake, rows, how = real, np.split(order, [len(real) // 2]), {"paired": False}
            if len(rows[0]) < real.shape[1] + 1:
                return {}
        elif source.startswith("ideal_"):
            fake = self.ideal(source, split)
        else:
            fake, _ = self.drawn(source, split, guidance, noise=noise)
        how["classes"] = None if images.styles is None else tuple(images.styles[i] for i in rows)
        scores = self.scored(real[rows[0]], fake[rows[1]], **how)
        facts = dict(world=images.name, split=split, source=source, decoder=self.decoder)
        facts |= dict(guidance=guidance, seed=self.seed + noise)
        return {**facts, **scores, "ids": fingerprint(sorted(images.frame["id"]))}

    # -- the table -------------------------------------------------------------------------------

    def sweep(self) -> pd.DataFrame:
        """FID against guidance on validation drawings (train-side, never test), for the sources of
        the paper's Fig. 3 and those that `rivals` names."""
        if not self.n_val:
            return pd.DataFrame()
        sources = self.of_world((*SWEPT, *self.rivals))
        rows = [self.row(s, "val", g) for s in sources for g in self.sweep_values(s)]
        return pd.DataFrame(rows).sort_values("guidance", kind="stable")

    def sweep_values(self, source: str) -> list[float]:
        """Guidance values tried: every second for sources that the paper's Fig. 3 does not have."""
        step = 2 if source in keys("coarse") else 1
        return [float(g) for g in self.guidances[::step]]

    def best_guidance(self, sweep: pd.DataFrame) -> dict[str, float]:
        """Each source's guidance of lowest FID on the validation drawings; others take
        De-Diffusion's."""
        sources = self.of_world((*TEST, *self.rivals))
        if sweep.empty:
            return dict.fromkeys(sources, float(self.guidance))
        lowest = sweep.loc[sweep.groupby("source")["fid"].idxmin()]
        best = lowest.set_index("source")["guidance"].to_dict()
        return {s: best.get(s, best["dediffusion"]) for s in sources}

    def asked(self, sources, floors=()) -> list[tuple[str, str]]:
        """(split, source) of the rows of one decoder: these and the rivals."""
        told = [("test", s) for s in (*sources, *self.rivals)]
        for split, n in (("novel", self.n_novel), ("outside", self.n_outside)):
            told += [(split, s) for s in (*floors, *FURTHER[split], *self.rivals) if n]
        return [(split, s) for split, s in told if self.of_world([s])]

    def found(self) -> pd.DataFrame:
        """The search engine's rows, as a judge's: for each text the training drawing that is found
        first is the picture. Beside the scores in which share of the hits the concept and the
        style are the original's, with intervals."""
        rows, shown = [], self.engine.shown.frame
        for split, source in self.asked(JUDGED):
            images, hits = self.subset(split), self.hits(source, split)
            row = dict(world=images.name, split=split, source=source, decoder=SEARCH)
            row |= dict(guidance=float("nan"), seed=self.seed)
            real, fake = self.real(split), self.features_of(hits)
            row |= self.scored(real, fake, classes=(images.styles,) * 2)
            for of in ("concept", "style") if split == "test" else ():  # others have none of these
                right = shown[of].to_numpy()[hits] == images.frame[of].to_numpy()
                names = (f"right_{of}{end}" for end in ("", "_lo", "_hi"))
                row |= zip(names, metrics.mean_interval(right))
            rows.append(row)
        return pd.DataFrame(rows)

    def rows(self, sources, floors=()) -> pd.DataFrame:
        """Every row through this study's decoder: the sweep (split val), floors, sources and rivals
        at their guidance on test, then on novel concepts and on outside drawings, then the curve
        over guidance on test drawings, where nothing is chosen, and what the headline compares
        from every further starting noise."""
        swept = self.sweep()
        best, told = self.best_guidance(swept), self.asked(sources, floors)
        drawers = isinstance(self.dec, Decoder)  # other pipelines' autoencoders are not asked
        floors = [s for s in self.of_world(FLOORS) if s != "autoencoder" or drawers]
        rows = [self.row(s, "test", 0.0) for s in floors]
        rows += [self.row(s, split, best.get(s, 0.0)) for split, s in told]
        if self.curve:
            sources = [s for s in keys("curve") if s in self.of_world((*SWEPT, *self.rivals))]
            rows += [self.row(s, "curve", float(g)) for s in sources for g in self.guidances]
        again = [s for split, s in told if split == "test" and s in keys("again")]
        for noise in range(1, self.noise_seeds):
            rows += [self.row(s, "test", best[s], noise=noise) for s in again]
        table = pd.concat([swept, pd.DataFrame([r for r in rows if r])], ignore_index=True)
        return table.reindex(columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """Of reconstruction.csv; in a world of one's own with a hash of the images' ids, as `score`
        has it."""
        return COLUMNS if self.is_emoji else [*COLUMNS, "ids"]

    def first_noise(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of reconstruction.csv that tables show; the other noises are in the file."""
        return table[table["seed"] == self.seed].reset_index(drop=True)

    def guidance_of(self, split: str = "test") -> pd.Series:
        """The guidance of each row of reconstruction.csv, by (decoder, source)."""
        table = self.first_noise(read_csv(self.path("reconstruction.csv")))
        return table[table["split"] == split].set_index(["decoder", "source"])["guidance"]

    def reconstruction(self) -> pd.DataFrame:
        """The table of the study, through the decoder that the encoder was trained through; written
        to reconstruction.csv, every starting noise's rows, too. Judges' rows that are there stay if
        these rows are as they were, and go if they are not."""
        table = self.rows(TEST, ("autoencoder",))
        path, text = self.path("reconstruction.csv"), table.round(5).to_csv(index=False)
        before = read_csv(path).reindex(columns=self.columns) if path.exists() else None
        if before is None or before[before["decoder"] == self.decoder].to_csv(index=False) != text:
            write_csv(path, table.round(5))
            # notebook 6 compared these with the old rows
            for other in ("second_eye", "crossed", "kid_by_style"):
                self.path(f"{other}.csv").unlink(missing_ok=True)
        self.say_which_weights({self.decoder: self})
        return self.first_noise(table)

    def say_which_weights(self, by: dict[str, Study]) -> None:
        """weights.json: content hashes of the encoder and of the decoders that drew the table, so
        that `python -m dd check` compares with none but these."""
        path, told = self.path("weights.json"), {"encoder": folder_hash(self.encoder_folder)}
        told |= {name: study.decoder_hash for name, study in by.items()}
        write_json(path, (read_json(path) if path.exists() else {}) | told)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that this study draws, in printing order."""
        return self.of_world(s for s in keys("drawn") if s in (*TEST, *self.rivals))

    def through(self, decoder: str) -> Study:
        """The same study, folder, texts and first starting noise, drawn by another decoder: test
        and outside drawings; of the rivals those that `again` names. (Further noises move FID by a
        few points.)"""
        if decoder == self.decoder:
            return self
        if decoder not in self._models:
            rivals = [s for s in self.parameters.get("rivals", ()) if s in keys("again")]
            changed = dict(decoder=decoder, rivals=rivals, noise_seeds=1, n_novel=0)
            other = type(self)({**self.parameters, **changed}, self.takes)
            other.texts, other._worlds, other.judging = self.texts, self._worlds, True
            if other.size == self.size:  # else it has originals of its own
                other.subsets, other.dataset = self.subsets, self.dataset
                other.ideal = self.ideal
            self._models[decoder] = other
        return self._models[decoder]

    @property
    def by_each(self) -> dict[str, Study]:
        """The same study drawn by its own decoder, then by every judge."""
        return {name: self.through(name) for name in (self.decoder, *self.judges)}

    def own_rows(self) -> pd.DataFrame:
        """The rows of reconstruction.csv that this study's own decoder drew, every noise's."""
        path = self.path("reconstruction.csv")
        if not path.exists():
            raise BadParameter(f"{path} is missing; run notebook 05_reconstruction first")
        own = read_csv(path)
        own = own[own["decoder"] == self.decoder]
        n = set(own.loc[(own["split"] == "test") & (own["source"] != "real"), "n"])
        if own.empty or n != {len(self.subset("test"))} or own["seed"].min() != self.seed:
            raise BadParameter(
                f"{path} is of another study (decoder, n_test or seed); run notebook "
                "05_reconstruction with the same parameters first"
            )
        return own

    def judged(self) -> pd.DataFrame:
        """reconstruction.csv, with every judge's rows behind those of the study's own decoder, and
        the search engine's behind them."""
        own = self.own_rows()
        further = [self.through(judge).rows(JUDGED) for judge in self.judges]
        further += [self.found()] if self.is_emoji else []
        table = pd.concat([own, *further], ignore_index=True).round(5)
        write_csv(self.path("reconstruction.csv"), table)
        self.say_which_weights(self.by_each)
        return self.first_noise(table)


# Who writes the texts of each source: a function of a study and the name of a split.
def _plain(source: str, study: Study, split: str) -> list[str]:
    return PLAIN[source](study.subset(split), study.seed)


def _by_encoder(source: str, study: Study, split: str) -> list[str]:
    if source == "dediffusion":
        encoder = study.enc
    elif source in OF_LENGTH:
        encoder = study.of_length(OF_LENGTH[source])
    else:
        encoder = Encoder.load(study.rival(source))
    patches = study.patches(split, encoder.pooler.config.backbone)
    return to_strings(encoder.tokenizer, encoder.ids(patches))


def _retrieval(study: Study, split: str) -> list[str]:
    memory = study.patches("train")
    return baselines.retrieved(study.patches(split), study.subset("train"), memory)


def _random(study: Study, split: str) -> list[str]:
    length = study.enc.pooler.config.N
    return random_words(study.subset(split), study.seed, length=length)


def _interrogator(study: Study, split: str) -> list[str]:
    bank, most = baselines.phrase_bank(study.subset("train")), study.enc.pooler.config.N
    asked = study.similarity(), study.dec.tokenizer, study.patches(split)
    return baselines.interrogate(*asked, bank, most=most)


def _pez(study: Study, split: str, N: int | None = None) -> list[str]:
    N, asked = N or study.enc.pooler.config.N, (study.similarity(), study.dec.tokenizer)
    return baselines.hard_prompts(*asked, study.patches(split), N=N, seed=study.seed)


def _ph2p(study: Study, split: str, N: int | None = None) -> list[str]:
    N, z_0 = N or study.enc.pooler.config.N, study.latents(split)
    return baselines.hard_prompts_by_loss(study.dec, z_0, N=N, seed=study.seed)


OF_LENGTH = {f"dediffusion_{N}": N for N in LENGTHS}
WRITERS = {
    **{s: partial(_plain, s) for s in PLAIN},
    **{s: partial(_by_encoder, s) for s in ("dediffusion", *OF_LENGTH, *baselines.CAPTIONS)},
    "shuffled": lambda study, split: shuffled(study.texts("dediffusion", split), study.seed),
    "retrieval": _retrieval,
    "random": _random,
    "interrogator": _interrogator,
    "pez": _pez,
    "ph2p": _ph2p,
}
