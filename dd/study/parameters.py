"""The parameters of a study: names, types, bounds; files of parameters."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .. import baselines, llm, metrics
from ..baselines import CAPTIONS
from ..decoder import SAMPLERS
from ..texts import LENGTHS

PACKAGE = Path(__file__).parent.parent
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
