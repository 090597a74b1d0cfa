"""Files, written whole or not at all: a kill or a full disk leaves the old file or the new one."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from glob import escape
from itertools import chain
from pathlib import Path

import psutil

from .messages import one_line

HEADS = ("config.json", "model_index.json")  # without which no model is read
LEAST_ROOM = 2**16  # bytes that must be free where something is to be written


def _beside(path: Path) -> Path:
    """Each process has its own, so that two may write one file; the suffix says how."""
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """What killed processes left beside a path."""
    for left in path.parent.glob(f".{escape(path.stem)}.*.tmp{escape(path.suffix)}"):
        owner = left.name.removeprefix(f".{path.stem}.").split(".")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove(left)


@contextmanager
def whole(path: str | Path):
    """`with whole(path) as temporary`: what is written there, a file or a folder of files, is
    renamed to `path` in the end, and removed if anything fails. A kill among the renames of a
    folder leaves one without its HEADS, which is read as no model, never as half of two."""
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path)
        yield temporary
        if temporary.is_dir():  # file by file: what else the folder holds stays
            files = [p.relative_to(temporary) for p in temporary.rglob("*") if p.is_file()]
            for file in files:
                if file.name in HEADS:
                    (path / file).unlink(missing_ok=True)
            for file in sorted(files, key=lambda file: (file.name in HEADS, file)):
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary / file, path / file)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path}: not written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # a folder on the way that is a file: told of already
            _remove(temporary)


def check_writable(path: str | Path, folder: bool = False) -> None:
    """OSError where a file (or folder) could not be written later, or not a word would fit: asked
    before the work starts. Makes nothing."""
    path = Path(path)
    if path.exists() and path.is_dir() != folder:
        there, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
        raise OSError(f"{path} is {there}; give {wanted} to write to")
    if path.exists() and not folder and not path.is_file():
        raise OSError(f"{path} is a device or a pipe, which would be replaced; give a file")
    near = Path()
    try:
        places = (*[path] * folder, *path.absolute().parents)  # OSError if we are in none
        near = next(p for p in places if p.exists())
        if not folder:
            _beside(near / path.name).exists()  # OSError if the name is too long
        tempfile.TemporaryFile(dir=near).close()
        disk = shutil.disk_usage(near)
        if disk.total and disk.free < LEAST_ROOM:  # some network folders say 0 of 0
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror}: {near}); give another place"
        ) from None


def check_not_read(path: str, given: Iterable) -> None:
    """OSError where writing to `path` would replace what a command was `given` to read: a path
    among its words, or in a list of them."""
    for word in chain(*(v if isinstance(v, list) else [v] for v in given)):
        if isinstance(word, str) and os.path.exists(word) and os.path.exists(path):
            if os.path.samefile(word, path):
                raise OSError(f"{path} is read, too, and would be replaced; give another place")


def write_text(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, table) -> None:
    """A pandas table without its index."""
    with whole(path) as temporary:
        table.to_csv(temporary, index=False)


def read_csv(path: str | Path, *columns: str):
    """A table of results; ValueError with one line where the file holds none, or not `columns`."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except ValueError as error:
        why = one_line(error)
        raise ValueError(f"{path}: no table of results ({why}); restore it or run anew") from None
    if missing := [name for name in columns if name not in table]:
        what = f"{', '.join(missing)} not among its columns"
        raise ValueError(f"{path}: no table of this study ({what}); restore it or run anew")
    return table


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
def alone_in(folder: Path, option: str = "-p study=NAME"):
    """OSError if another process is inside this block with the same folder; `option` gives another
    one. The lock is the process's own: a killed one leaves none. A folder in which nothing came to
    be does not stay."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "run.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(
                f"{folder}: another run is at work in this folder; wait for it, or give this one "
                f"a folder of its own with {option}"
            ) from None
        try:
            yield
        finally:
            with suppress(OSError):
                if os.listdir(folder) == ["run.lock"]:
                    shutil.rmtree(folder)


def machine_memory() -> int:
    """Bytes that the machine has left."""
    return psutil.virtual_memory().available


def require_memory(needed: float, what: str, fix: str) -> None:
    """MemoryError where `needed` bytes are more than the machine has left, before a system without
    more of it ends the process without a word."""
    left = machine_memory()
    if needed > left:
        told = f"{what} need {needed / 1e9:,.1f} GB of memory, {left / 1e9:,.1f} are free"
        raise MemoryError(f"{told}; {fix}")
