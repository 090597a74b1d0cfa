"""Give results that were kept before stages had versions the names that they have now.

    python tools/migrate_cache.py quick                     # files in results/quick are renamed
    python tools/migrate_cache.py quick --keep-notebooks    # executed notebooks stay, too

Only what has the same content is renamed: the names before were made of the inputs, too, and of the
source text of the code, which tools/old_keys.json has in the last form before versions. What the
old names do not say (library releases) is taken to be what is installed. Nothing is computed.
"""

import json
import os
import sys
from pathlib import Path

import pandas as pd

from dd.files import write_json
from dd.runtime import compute_dtype, load_state, say
from dd.sources import SOURCES
from dd.study import cache, core, experiments, few_shot, fingerprint, load_parameters
from dd.study.run import notebook_keys

OLD = json.loads(Path(__file__).with_name("old_keys.json").read_text())
CODE = OLD["numbers"][str(compute_dtype())]
MODEL = OLD["language_model"], str(compute_dtype())


class Missing(Exception):
    """Not kept: what depends on it cannot be renamed either."""


class Migrating(core.Study):
    renamed = 0

    def move(self, old: Path, new: Path) -> None:
        if old.exists() and not new.exists():
            os.replace(old, new)
            Migrating.renamed += 1

    def place(self, stage, prefix, **inputs):
        new = super().place(stage, prefix, **inputs)
        if stage.startswith("train_"):
            for name in self.old_runs(stage, **inputs):
                self.move(self.folder / f"{prefix}{name}", new)
        elif stage == "draw":
            for old in (self.folder / "cache" / "drawn").glob(f"*-{self.old_drawn(**inputs)}-*"):
                self.move(old, Path(f"{new}-{old.name.split('-')[-1]}"))
        elif stage == "write":
            self.old_texts(new, prefix, **inputs)
        else:
            for pattern in self.old_names(stage, **inputs):
                for old in (self.folder / "cache").glob(pattern):
                    self.move(old, kept := Path(f"{new}{old.suffix}"))
                    if stage == "bits" and "bits" in (value := json.loads(kept.read_text())):
                        write_json(kept, value["bits"])  # a number now
        return new

    def kept(self, stage, make, name="", **inputs):
        def missing():
            raise Missing(f"{stage} {name}")

        return cache.kept(self.place(stage, f"cache/{stage}/{name}", **inputs), missing)

    def _draw_chunk(self, source, split, *_):
        raise Missing(f"draw {source} on {split}")

    def trained_encoder(self, kind, N, seen):
        state = self.training(f"{kind}/", "train_encoder", tokens=N, seen=seen)
        state /= "encoder.state.safetensors"
        if not state.exists() or load_state(state)[1]["step"] < seen // 64:
            raise Missing(f"{kind}: encoder of {N} words")
        return super().trained_encoder(kind, N, seen)

    def rival(self, source):
        stage = "train_captioner" if source in OLD["captions"] else "train_similarity"
        what = source if source in OLD["captions"] else "similarity"
        learnt = dict(captions=OLD["captions"][source]) if source in OLD["captions"] else {}
        run = self.training(f"rivals/{what}-", stage, seen=self.rivals_seen, **learnt)
        if not (run / "saved").exists():
            raise Missing(f"{source} is not trained")
        return super().rival(source)

    # -- names before ------------------------------------------------------------------------------

    def old_runs(self, stage, decoder, seed, seen, images, tokens=0, **more):
        key = lambda *facts: fingerprint(OLD["signatures"][stage], *facts)
        if stage == "train_denoiser":
            yield key(seed, seen, more["autoencoder_seen"], decoder)
        elif stage == "train_encoder":
            yield key(tokens, seen, seed, decoder)  # lengths and crossed
            yield key(seed, tokens, seen, decoder)  # the study's own
            for recipe in experiments.RELAXATIONS.values():
                if {"tokens": self.tokens, **recipe} == {"tokens": tokens, **more}:
                    yield key(recipe, seen, seed, self.tokens, decoder)
        else:
            yield key(OLD["captions"], seed, seen, decoder)

    def old_drawn(
        self, images, texts, guidance, steps, sampler, seed, decoder, chunk, bypass="", **more
    ):
        said = {"": [texts], "soft": ["soft", more.get("weights")]}.get(bypass, [bypass])
        noise = [seed - self.seed] if seed != self.seed else []
        how = guidance, steps, sampler, seed, decoder, chunk
        return fingerprint(images.fingerprint(), said, *how, CODE["draw"], *noise)

    def old_texts(self, new, prefix, source, images, weights, decoder, seed, N):
        split = prefix.split("/")[-1].split("-")[0]
        stamp = self.folder / "cache" / f"texts-{split}-{source}.json"
        texts = self.folder / "texts" / split / f"{source}.parquet"
        facts = (decoder, seed, CODE["latents"]) if source == "ph2p" else (weights,)
        code = CODE.get(f"write_{source}", CODE["write"])
        made = fingerprint(images.fingerprint(), *facts, N, code)
        if stamp.exists() and texts.exists() and json.loads(stamp.read_text()) == made:
            cache.kept(new, lambda: pd.read_parquet(texts)["text"].tolist())
            stamp.unlink()
            Migrating.renamed += 1

    def old_names(self, stage, images=None, decoder="", **more):
        key = lambda *facts: fingerprint(images.fingerprint(), *facts)
        scored = lambda *facts: f"scores/{fingerprint(facts, CODE['score'])}.json"
        if stage == "features":
            yield f"features-*-{key(CODE['features'])}.safetensors"
        elif stage == "latents":
            yield f"latents-*-{key(decoder, CODE['latents'])}.safetensors"
        elif stage == "look":
            yield f"real-*-{key(CODE['look'])}.safetensors"
        elif stage == "answer":
            names = ("model", "weights", "tokens", "rows", "bucket", "prompts")
            yield f"answers/{fingerprint(*(more[name] for name in names), *MODEL)}.json"
        elif stage == "bits":
            yield scored("bits", more["model"], more["weights"], more["texts"], *MODEL)
        elif stage == "score" and not isinstance(more["fake"], dict):
            said = fingerprint(more["fake"].numpy().tobytes().hex())
            for split in ("test", "val", "novel", "curve"):
                if split == "curve" and not self.curve:
                    continue
                own = self.subset(split).fingerprint()
                if more.get("paired", True):
                    yield from (scored(source, split, said) for source in SOURCES)
                else:
                    yield scored("real", split, self.seed, own)
        elif stage == "score":
            yield from self.old_direct(scored, more["fake"]["inputs"])

    def old_direct(self, scored, look):
        """Scores of pictures that were not kept, and of the second network."""
        if look.get("net") == 1:
            said = fingerprint(look["pictures"].numpy().tobytes().hex())
            own = self.subset("test").fingerprint()
            for source in SOURCES:
                yield scored("second eye", own, source, said, CODE["second"])
            return
        given = look["pictures"]["inputs"]
        own, texts, guidance = given["images"].fingerprint(), given["texts"], given["guidance"]
        how = given["steps"], given["sampler"], given["seed"], given["decoder"]
        if isinstance(texts, dict):
            written = texts["inputs"]
            facts = own, written["N"], written["source"], written["weights"], guidance, *how
            yield scored("hard prompts", *facts, CODE["hard"])
            return
        for kind in ("lengths", "crossed"):
            yield scored(kind, own, texts, guidance, *how, CODE["drawing"])
        sampler = (given["sampler"], given["steps"], guidance, given["seed"], given["decoder"])
        yield f"samplers/{fingerprint(own, *sampler, CODE['samplers'])}.json"


def everything(study: Migrating):
    """Calls that ask for all that a study keeps, as its notebooks do."""
    yield lambda: study.training(
        *("decoder_demo/", "train_denoiser"),
        seen=study.decoder_seen,
        autoencoder_seen=study.autoencoder_seen,
    )
    yield lambda: study.training(
        "encoder_run/", "train_encoder", tokens=study.tokens, seen=study.encoder_seen
    )
    for recipe in experiments.RELAXATIONS.values() if study.probe_seen else ():
        options = {"tokens": study.tokens, "seen": study.probe_seen, **recipe}
        yield lambda options=options: study.training("relaxations/", "train_encoder", **options)
    for split in ("train", "test", *(s for s in ("val", "novel") if study.parameters[f"n_{s}"])):
        yield lambda split=split: study.patches(split)
        yield lambda split=split: study.latents(split)
        yield lambda split=split: study.real(split)
        for source in (s for s in SOURCES if "kept" in SOURCES[s].uses.split()):
            if source in ("dediffusion", *study.rivals, *study.contexts):
                yield lambda split=split, source=source: study.texts(source, split)
    yield study.reconstruction
    best = study.best_guidance(study.sweep())
    sources = [*core.TEST, *study.rivals]
    yield lambda: study.drawn("names", "test", best["names"])
    yield lambda: experiments.recognised(
        study, [s for s in sources if s not in ("random", "empty")], best
    )
    if study.sampler_check:
        yield lambda: experiments.samplers(study)
    if study.lengths_seen and study.n_val:
        yield lambda: experiments.lengths(study, best)
    if study.hard_prompts:
        yield lambda: experiments.hard_prompt_lengths(study, best["dediffusion"])
    yield study.judged
    if study.eyes > 1:
        yield lambda: experiments.second_eye(study, sources)
    if study.cross_seen:
        by = {name: study.through(name) for name in (study.decoder, *study.judges)}
        chosen = lambda: {n: s.best_guidance(s.sweep())["dediffusion"] for n, s in by.items()}
        yield lambda: experiments.crossed(study, chosen())
    yield lambda: few_shot.few_shot(study)
    for name in study.language_models:
        yield lambda name=name: few_shot.language_bits(study, name)


def main(name: str, keep_notebooks: bool) -> None:
    parameters = load_parameters(name)
    study, missing = Migrating(parameters), []
    calls = everything(study)
    while True:
        try:
            call = next(calls, None)
            if call is None:
                break
            call()
        except Missing as error:
            missing.append(str(error))
    path = study.folder / "run.json"
    if keep_notebooks and path.exists():
        done = json.loads(path.read_text())
        for notebook, key in notebook_keys(parameters).items():
            told = study.folder / "parameters" / f"{notebook}.json"
            if notebook in done and told.exists():
                done[notebook]["key"] = key
        path.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
    say(f"{study.folder}: {Migrating.renamed} results renamed")
    for line in dict.fromkeys(missing):
        say(f"  not kept: {line}")


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--keep-notebooks"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    main(arguments[0], "--keep-notebooks" in sys.argv)
