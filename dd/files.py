"""Files, written whole or not at all: a kill or a full disk leaves the old file or the new one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.tmp{path.suffix}")  # the suffix says how it is written


@contextmanager
def whole(path: str | Path):
    """`with whole(path) as temporary`: what is written there, a file or a folder of files, is
    renamed to `path` in the end, and removed if anything fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        if temporary.is_dir():  # file by file: what else the folder holds stays
            for file in sorted(p for p in temporary.rglob("*") if p.is_file()):
                target = path / file.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path}: not written ({error.strerror or error})") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path, folder: bool = False) -> None:
    """OSError where a file (or folder) could not be written later: asked before the work starts.
    Makes nothing."""
    path = Path(path)
    if path.exists() and path.is_dir() != folder:
        there, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
        raise OSError(f"{path} is {there}; give {wanted} to write to")
    if not folder:
        _beside(path).exists()  # OSError if the name is too long
    places = (*[path] * folder, *path.absolute().parents)
    near = next(p for p in places if p.exists())
    try:
        tempfile.TemporaryFile(dir=near).close()
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror}: {near}); give another place"
        ) from None


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, table) -> None:
    """A pandas table without its index."""
    with whole(path) as temporary:
        table.to_csv(temporary, index=False)


def read_json(path: Path) -> dict:
    """An object of JSON; ValueError with one line where the file holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete it or restore it") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: no JSON object; delete it or restore it")
    return value


@contextmanager
def alone_in(folder: Path):
    """OSError if another process is inside this block with the same folder. The lock is the
    process's own: a killed one leaves none."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "run.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(
                f"{folder}: another run is at work in this folder; wait for it, or give this one "
                "a folder of its own with -p study=NAME"
            ) from None
        yield
