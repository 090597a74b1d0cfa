"""The parameters of a study: names, defaults, bounds and meanings in one table; their files.

The defaults are the study `quick`; a file of parameters holds what differs. Plain data: nothing
heavy is imported.
"""

import json
import os
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..commands import GROUPS, RECIPE
from ..messages import nearest, shown
from ..sources import LENGTHS, LITE0, LITE2, keys

ROOT = Path(__file__).parent.parent.parent


class BadParameter(ValueError):
    """Parameters that cannot be used, a line each: which, why, what would do."""


class Parameter(NamedTuple):
    default: object  # of the study `quick`; its type is the parameter's
    meaning: str
    low: float | None = None
    high: float | None = None
    among: tuple[str, ...] = ()  # the names it takes; a list without bounds takes any names
    least: int = 0  # where 0 leaves something out: the smallest number that is enough for a run


LEAST_FID = 353  # images: FID needs more than the image features have dimensions
MANY, MOST = 10**6, 10**9
P = Parameter


def drawings(default: int, meaning: str, least: int = LEAST_FID) -> Parameter:
    """How many drawings, of which 0 leaves something out and fewer than `least` are too few."""
    return P(default, meaning, 0, MANY, least=least)


def seen(default: int, meaning: str, least: int = 128) -> Parameter:
    """How many images a training sees that 0 leaves out."""
    return P(default, meaning, 0, MOST, least=least)


# fmt: off
PARAMETERS = {
    "study": P("quick", "name of the results folder"),
    "seed": P(0, "root seed of everything random", 0, 2**31),
    "world": P("emoji",
        "emoji, or a data set as `score --world` takes it: COCO .json, table, folder"),
    "world_images": P("beside",
        "folder of the world's pictures; beside: that of its captions file"),
    "features": P(LITE2, "what looks at pictures for FID and KID, as `score --features` takes it"),
    "decoder": P("sketch", "shipped decoder, pipeline folder, or Hub id@commit"),
    "encoder": P("shipped", "'trained' (by notebook 3), 'shipped', or a folder of train-encoder"),
    "decoder_seen": seen(1920, "images the demonstration denoiser sees in notebook 2", 32),
    "autoencoder_seen": seen(0,
        "images a fresh autoencoder sees before that; 0: the decoder's own", 32),
    "encoder_seen": P(2560, "images the encoder sees in notebook 3", 128, MOST),
    "probe_seen": seen(0, "images each other training recipe sees in notebook 3; 0: no comparison"),
    "training_seeds": P(1, "how often each training recipe of notebook 3 is trained", 1, 20),
    "tokens": P(16, "N, words De-Diffusion writes per image", 1, 75),
    "batch": P(RECIPE["B"], "images a step of notebook 3's training", 1, MANY),
    "rule": P("auto",
        "tokens that may be written, as `train-encoder --rule`; auto: its default",
        among=("auto", *GROUPS["recipe"]["--rule"]["choices"])),
    "backbone": P(LITE0,
        "what looks at pictures in that training: lite0, or as `train-encoder --backbone`"),
    "n_test": drawings(360, "test drawings judged; 0: all"),
    "n_train": drawings(2560,
        "training drawings that encoder, baselines and examples are taken from; 0: all", 256),
    "n_val": drawings(0,
        "validation drawings on which guidance is chosen; 0: no sweep, `guidance` is used"),
    "n_novel": drawings(0, "drawings of never-seen concepts judged; 0: leaves the split out"),
    "n_outside": drawings(0,
        "drawings of the outside set judged, which no decoder saw; 0: leaves the split out"),
    "guidance": P(3.0,
        "classifier-free guidance when no sweep is made, and of notebook 7", 0.0, 30.0),
    "guidances": P([1.0, 1.5, 2.0, 3.0, 4.0, 6.0], "guidance values of the sweep", 0.0, 30.0),
    "rivals": P([],
        "further sources that are drawn and judged, each some minutes per decoder",
        among=keys("chosen")),
    "rivals_seen": P(51200, "images each further source that learns is trained on", 256, MOST),
    "judges": P(["judge-a"],
        "other decoders that draw the same texts: shipped, folders, Hub ids@commit"),
    "lengths_seen": seen(0,
        "images seen by each encoder of the comparison of lengths (notebook 5); 0: none"),
    "curve": drawings(0, "test drawings of the curve over guidance (the paper's Fig. 3); 0: none"),
    "noise_seeds": P(1,
        "draws of the starting noise by the study's own decoder: the first makes the tables",
        1, 100),
    "resamples": P(100, "resampled sets of drawings behind the interval of a difference", 2, 10**5),
    "eyes": P(1,
        "networks whose distances are reported: 2 adds EfficientNet-Lite1 (notebook 6)", 1, 2),
    "hard_prompts": drawings(0,
        "validation drawings on which searches for hard prompts are compared; 0: none"),
    "cross_seen": seen(0,
        "images seen by each encoder trained through one of the decoders; 0: none"),
    "sampler_check": drawings(0,
        "validation drawings on which samplers are compared with 50 steps; 0: none"),
    "pairs": P(32, "pairs of test drawings blended, and drawings edited, in notebook 7", 2, 10**5),
    "language_models": P(["smollm2"],
        "models that answer: smollm2, gemma3, folders, Hub ids@commit"),
    "contexts": P(["dediffusion", "names", "shuffled", "empty"],
        "sources of text that they are shown", among=keys("context")),
    "further_contexts": P([],
        "those of them that the models after the first are shown; []: all", among=keys("context")),
    "shots": P([4], "examples per question and per caption; 0: text-only pseudo-examples", 0, 64),
    "class_shots": P([1], "drawings of each class shown before a classification", 1, 5),
    "questions": P(96,
        "questions about test drawings, over all seeds of examples and kinds", 6, MANY),
    "episodes": P(24,
        "classifications per ways, shots and split, over all seeds; 0: none", 0, MANY),
    "captions": P(0, "test drawings captioned, over all seeds of examples; 0: none", 0, MANY),
    "example_seeds": P(1,
        "draws of the examples, each with its own share of the questions", 1, 100),
    "steps": P(8, "sampler steps per picture", 1, 1000),
    "sampler": P("dpm", "diffusers sampler", among=("ddim", "dpm")),
}
# fmt: on

# What each notebook takes, in the order in which they run. Its parameters cell shows some of them.
_WORLD = "world world_images features encoder"
_DRAWING = f"seed {_WORLD} decoder n_test guidance steps sampler"
NOTEBOOKS = {
    "00_digits": "seed",
    "01_data": f"seed {_WORLD}",
    "02_decoder": f"seed {_WORLD} decoder n_train decoder_seen autoencoder_seen steps sampler",
    "03_encoder": f"seed {_WORLD} decoder n_train encoder_seen probe_seen training_seeds tokens "
    "batch rule backbone",
    "04_texts": f"seed {_WORLD} n_train n_test decoder rivals rivals_seen",
    "05_metrics": f"seed {_WORLD} decoder n_test steps sampler",
    "05_reconstruction": f"{_DRAWING} n_train n_val n_novel n_outside guidances rivals "
    "rivals_seen noise_seeds resamples curve",
    "05_side_experiments": f"{_DRAWING} n_train n_val rivals rivals_seen hard_prompts lengths_seen "
    "sampler_check",
    "06_judges": f"{_DRAWING} judges n_train n_val n_novel n_outside guidances curve noise_seeds "
    "resamples eyes cross_seen tokens rivals rivals_seen",
    "07_editing": f"{_DRAWING} n_train pairs",
    "08_language": f"seed {_WORLD} decoder language_models contexts further_contexts shots "
    "class_shots questions episodes captions example_seeds n_train n_test n_novel rivals_seen "
    "lengths_seen",
}


def taken(notebook: str) -> tuple[str, ...]:
    """The parameters that a notebook takes."""
    return ("study", *NOTEBOOKS[notebook].split())


def check_notebooks(names, where: str) -> None:
    """BadParameter where `names`, from `where`, has one that is no notebook's."""
    if strange := [name for name in names if name not in [*NOTEBOOKS]]:  # a list may be named
        hint = nearest(strange[0], NOTEBOOKS) or f"; there are {', '.join(NOTEBOOKS)}"
        raise BadParameter(f"{where}: no notebook {shown(strange[0])}{hint}")


def mistake(name: str, value) -> str:
    """One line about a value that cannot be used; "" for one that can."""
    if name not in PARAMETERS:
        known = f"known: {', '.join(PARAMETERS)}"
        return f"unknown parameter {shown(name)}{nearest(name, PARAMETERS) or f'; {known}'}"
    p, told = PARAMETERS[name], f"{name} is {shown(value)}"
    kind, values, hint = type(p.default), value if isinstance(value, list) else [value], ""
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        text = kind is float and isinstance(value, str)
        hint = "; in YAML write 1.0e-4, not 1e-4" if text else ""
        return f"{told} ({type(value).__name__}); {kind.__name__} needed: {p.meaning}{hint}"
    if p.among:
        good = all(v in p.among for v in values)
        wanted = "a list of different names among" if kind is list else "one of"
        wanted += f" {p.among}"
        wrong = next((v for v in values if v not in p.among), "")
        hint = nearest(wrong, p.among)
    elif p.high is not None:
        whole = kind is list and all(isinstance(v, int) for v in p.default)
        kinds = (int,) if whole else (int, float)  # true is a number only to Python
        good = all(type(v) in kinds and p.low <= v <= p.high for v in values) and values
        numbers = "whole numbers" if whole else "numbers"
        wanted = f"a list of different {numbers} from " if kind is list else ""
        wanted += f"{p.low} to {p.high}"
    else:
        good = all(isinstance(v, str) and v for v in values) and values
        wanted = "a list of one or more different names" if kind is list else "a name"
    if good and len(set(values)) == len(values):
        return ""
    return f"{told}; {wanted} needed: {p.meaning}{hint}"


def check(parameters: dict) -> dict:
    """All parameters, defaults where none is given. Unknown names, wrong types and values out of
    range are refused before anything is computed, all at once."""
    told = [line for line in (mistake(*given) for given in parameters.items()) if line]
    if told:
        raise BadParameter("\n".join(told))
    whole = {name: p.default for name, p in PARAMETERS.items()} | parameters
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", whole["study"]):
        needed = "at most 100 letters, digits, - and _ needed: it names a folder"
        told.append(f"study is {shown(whole['study'])}; {needed}")
    brief = [f"dediffusion_{N}" for N in LENGTHS if f"dediffusion_{N}" in whole["contexts"]]
    if brief and not whole["lengths_seen"]:
        meaning = PARAMETERS["lengths_seen"].meaning
        told.append(f"contexts has {brief[0]!r} but lengths_seen is 0; images needed: {meaning}")
    if strange := [c for c in whole["further_contexts"] if c not in whole["contexts"]]:
        told.append(
            f"further_contexts has {strange[0]!r}, which is not among contexts; every model but "
            "the first is shown some of what the first is"
        )
    if told:
        raise BadParameter("\n".join(told))
    return whole


def table() -> str:
    """Every parameter, its meaning, bounds and default, for --help."""
    lines, wide = [], dict(width=98, break_on_hyphens=False, subsequent_indent=" " * 20)
    for name, p in PARAMETERS.items():
        bounds = f", {p.low:g} to {p.high:g}" if p.high is not None else ""
        bounds += f", of {', '.join(p.among)}" if p.among and name != "further_contexts" else ""
        default = json.dumps(p.default).replace('"', "")
        told = f"  {name:<17} {p.meaning}{bounds} (default {default})"
        lines += textwrap.wrap(told, **wide)
    return "\n".join(lines)


def results_root() -> Path:
    """results/ of the repository, or $DD_RESULTS, or ./results of an installed package."""
    repository = ROOT if (ROOT / "notebooks").exists() else Path.cwd()
    return Path(os.environ.get("DD_RESULTS") or repository / "results")


def results_of(study: str, name: str = "") -> Path:
    """The folder of a study's results, or a file in it."""
    path, root = results_root() / study / name, results_root()
    if not (path.is_file() if name else study and path.is_dir()):
        made = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        hint = "" if study in made else nearest(study, made)
        there = f"there are results of {', '.join(made) or 'no study'}{hint}"
        raise FileNotFoundError(f"{path}: no such results; python -m dd run makes some, {there}")
    return path


def yaml_value(text: str):
    """Plain YAML; ValueError with one line for all else, a key given twice included."""
    import yaml

    class Once(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            found = super().construct_mapping(node, deep)
            if len(found) < len(node.value):
                keys = Counter(str(key.value) for key, _ in node.value)
                raise ValueError(f"{shown(keys.most_common(1)[0][0])} is there twice")
            return found

    try:
        return yaml.load(text, Once)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def read_yaml(path: Path) -> dict:
    """A file of names and values; BadParameter with one line where it is none."""
    try:
        told = yaml_value(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadParameter(f"{path}: no YAML ({error}); one 'name: value' a line") from None
    if not isinstance(told, dict):
        raise BadParameter(f"{path}: no parameters in it; one 'name: value' a line")
    return told


def load_parameters(study: str) -> dict:
    """notebooks/params/<study>.yaml, or a path to such a file; checked, with defaults."""
    folder = ROOT / "notebooks" / "params"
    path = Path(study) if study.endswith((".yaml", ".yml")) else folder / f"{study}.yaml"
    if not path.exists():
        there = sorted(p.stem for p in folder.glob("*.yaml"))
        raise BadParameter(f"no parameter file {path}; there are {there}{nearest(study, there)}")
    parameters = read_yaml(path)
    if "study" not in parameters:
        raise BadParameter(f"{path}: 'study' is missing; it names the results folder")
    return check(parameters)
