"""What a kept result depends on: one table of stage versions, one key, one way of keeping.

    key("look", images=dataset)                       # 12 digits, the name of a result
    kept(folder / key("look", images=dataset), make)  # read back, or made and kept

A key is made of the stage, its version, the number format, the releases of the libraries that
compute it, and the content of its inputs; never of source text. Who changes what a stage computes
raises its version here; tests/test_golden.py fails where that was forgotten.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_ALL = "torch diffusers transformers"


class Stage(NamedTuple):
    version: int
    libraries: str = _ALL  # whose releases (major.minor) may move its numbers
    number_format: bool = True  # whether it computes in the number format of the machine
    uses: str = ""  # stages that run inside it, or whose results it does not take by content


STAGES = {
    "features": Stage(1, "torch"),  # the backbone's maps, which the encoder reads
    "latents": Stage(1, "torch diffusers"),  # what the decoder's autoencoder stores
    "look": Stage(2, "torch"),  # image features, which the metrics compare
    "write": Stage(1, uses="features latents"),  # texts of a network or a search
    "draw": Stage(2, uses="features latents look"),  # pictures of texts, and their image features
    "score": Stage(1, "torch", number_format=False),  # FID, KID, paired scores, intervals
    "answer": Stage(1, "torch transformers"),  # of a language model to prompts
    "bits": Stage(1, "torch transformers"),  # that a language model needs for texts
    "train_denoiser": Stage(3),  # and the autoencoder before it
    "train_encoder": Stage(2, uses="features latents"),
    "train_captioner": Stage(1, uses="features"),
    "train_similarity": Stage(1, uses="features"),
    "notebook": Stage(1, "", number_format=False),
}


def content(value):
    """What an input is, in JSON: arrays and data sets by a hash of their content."""
    if hasattr(value, "fingerprint"):  # a Dataset
        return value.fingerprint()
    import numpy as np

    array = np.ascontiguousarray(value)
    if array.dtype.kind in "OU":
        return array.tolist()
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()


def fingerprint(*facts) -> str:
    text = json.dumps(facts, sort_keys=True, default=content)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def made_by(stage: str, **inputs) -> dict:
    """All that a result of a stage depends on. It may be an input of the next stage's."""
    row, facts = STAGES[stage], {"stage": stage, "version": STAGES[stage].version}
    if row.number_format:
        from ..runtime import numbers

        # by the names that the first versions of the stages gave the two
        facts["numbers"] = {"bfloat16": "torch.bfloat16", "float32": "None"}[numbers()]
    if row.uses:
        facts["uses"] = {name: STAGES[name].version for name in row.uses.split()}
    releases = {name: version(name).split(".")[:2] for name in row.libraries.split()}
    return {**facts, "libraries": releases, "inputs": inputs}


def key(stage: str, **inputs) -> str:
    return fingerprint(made_by(stage, **inputs))


def kept(path: Path, make: Callable):
    """What `make()` gives, tensors by name or anything of JSON, kept as `path` and a suffix.

    Renamed into place, so a kill leaves all of it or nothing; read back if it is there."""
    from ..files import write_json
    from ..runtime import load_state, save_state

    tensors, plain = Path(f"{path}.safetensors"), Path(f"{path}.json")
    if not is_kept(path):
        made = make()
        if isinstance(made, dict) and all(hasattr(v, "numpy") for v in made.values()):
            save_state(tensors, made, {})
        else:
            write_json(plain, made)
    return load_state(tensors)[0] if tensors.exists() else json.loads(plain.read_text())


def is_kept(path: Path) -> bool:
    return Path(f"{path}.safetensors").exists() or Path(f"{path}.json").exists()


def kept_in_chunks(
    base: Path | None, M: int, size: int, make: Callable, what: str, unit: str = "pictures"
) -> list:
    """make(rows) of M pictures, `size` at a time, a share of them by each process; each chunk kept
    as it is done, so that a stopped run goes on; None: not kept."""
    from ..runtime import Progress, processes, shared

    path = lambda i: Path(f"{base}-{i:06d}")
    there = (min(size, M - i) for i in range(0, M, size) if base and is_kept(path(i)))
    meter = Progress(what, M, sum(there), unit)

    def one(rows: slice):
        if base and is_kept(path(rows.start)):
            return kept(path(rows.start), make)
        made = kept(path(rows.start), partial(make, rows)) if base else make(rows)
        meter(min(rows.start + processes() * size, M))  # about: so far are the others, too
        return made

    return shared(one, M, size)


@cache
def _file_hash(path: Path, changed: int) -> str:
    """`changed`: when, so that a file that is written anew is read anew."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder_hash(path: Path, without: str = "") -> str:
    """Hash of a folder's models and data, without its cards and logs: new weights, new results.
    `without`: a part of it that does not matter."""
    return fingerprint(
        [
            (str(p.relative_to(path)), _file_hash(p, p.stat().st_mtime_ns))
            for p in sorted(path.rglob("*"))
            if p.suffix in (".safetensors", ".json", ".parquet") and p.name != "recipe.json"
            if p.relative_to(path).parts[0] != without
        ]
    )


def model_hash(name: str, without: str = "") -> str:
    """What a model's results depend on: its folder's content, or the id@commit of a hub."""
    from ..runtime import shipped

    path = shipped(name)
    return folder_hash(path, without) if path.is_dir() else name
