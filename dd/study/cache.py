"""Keys of kept results, and files that are never half written."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from functools import cache
from pathlib import Path

import pandas as pd

from ..runtime import compute_dtype


def fingerprint(*facts) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def code(*modules) -> str:
    """Fingerprint of source text and number format: what was kept is used again only while the code that made it is as it was."""
    return fingerprint(*(inspect.getsource(m) for m in modules), str(compute_dtype()))


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


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Renamed into place: a kill leaves the old file or the new one."""
    table.to_csv(path.with_suffix(".tmp"), index=False)
    os.replace(path.with_suffix(".tmp"), path)
