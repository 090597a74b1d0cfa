"""A grid of runs on Dask: every cell is a run of the same notebooks in a results folder of its own.

study: lengths               # cells are lengths-tokens_8-seed_0, ...; the table lengths/cells.csv
parameters: quick            # what they have in common, as `run` takes it
notebooks: [03_encoder]      # those that are run; all if none are named
grid: {tokens: [8, 16], seed: [0, 1, 2]}
"""

import os
import re
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ..files import write_csv
from ..messages import nearest, one_line
from .parameters import BadParameter, check_notebooks, load_parameters, read_yaml, results_root
from .run import done_before, notebook_keys, prepared, run_prepared

KEYS = ("study", "parameters", "notebooks", "grid")


class Grid(NamedTuple):
    study: str
    cells: dict[str, dict]  # parameters by the name of the cell's own study
    only: tuple[str, ...]  # notebooks; none: all
    varied: tuple[str, ...]  # parameters


def read_grid(path: Path) -> Grid:
    """All cells are checked before the first one runs."""
    if not path.exists():
        raise BadParameter(f"{path}: no such grid; README.md has one")
    told = read_yaml(path)
    if strange := [name for name in told if name not in KEYS]:
        hint = nearest(strange[0], KEYS)
        raise BadParameter(f"{path}: unknown {strange[0]!r}; a grid has {', '.join(KEYS)}{hint}")
    grid, only = told.get("grid"), told.get("notebooks") or []
    common = told.get("parameters", "quick")
    lists = isinstance(grid, dict) and [*grid.values()]
    if not lists or not all(isinstance(v, list) and v for v in lists):
        raise BadParameter(f"{path}: grid: a list of values for each parameter needed")
    if not isinstance(only, list):
        raise BadParameter(f"{path}: notebooks: a list of names needed, as [03_encoder]")
    if not isinstance(common, str):
        raise BadParameter(f"{path}: parameters: quick, full or the name of a file needed")
    only = tuple(only)
    check_notebooks(only, str(path))
    common, study = load_parameters(common), str(told.get("study", path.stem))
    plain, cells = lambda value: re.sub("[^A-Za-z0-9]+", "_", str(value)).strip("_"), {}
    for values in product(*grid.values()):
        given = dict(zip(grid, values))
        name = "-".join([study, *(f"{k}_{plain(v)}" for k, v in given.items())])
        if name in cells:
            raise BadParameter(f"{path}: two cells are called {name}; leave one out")
        cells[name] = prepared({**common, **given, "study": name}, only)
    return Grid(study, cells, only, tuple(grid))


def run_cell(parameters: dict, only: tuple[str, ...], root: str) -> None:
    """In a process of a worker. What the run says is in log.txt of its folder."""
    os.environ["DD_RESULTS"], folder = root, Path(root) / parameters["study"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        run_prepared(parameters, only)


def is_done(parameters: dict, only: tuple[str, ...]) -> bool:
    done, keys = done_before(results_root() / parameters["study"]), notebook_keys(parameters)
    return all(done.get(name, {}).get("key") == keys[name] for name in only or keys)


def sweep(file: str, scheduler: str | None = None, workers: int = 2, say=print) -> Path:
    """Run the cells that are not done on a Dask cluster: that of a scheduler's address, or a local
    one of so many processes -> a table of all cells. Dask gives the cell of a worker that died to
    another one, where it goes on. ValueError where cells have failed, after all others are done."""
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError:
        missing = "Dask is not installed, which runs the cells; pip install -e '.[sweep]'"
        raise ValueError(missing) from None
    import pandas as pd

    grid, root = read_grid(Path(file)), results_root().absolute()
    state = {n: "done" if is_done(given, grid.only) else "" for n, given in grid.cells.items()}
    todo, out = [n for n in state if not state[n]], root / grid.study / "cells.csv"
    say(f"{len(state)} cells, {len(state) - len(todo)} of them done before")

    def tell() -> None:
        cells = ({k: given[k] for k in grid.varied} for given in grid.cells.values())
        rows = ({"cell": n, **cell, "state": state[n]} for n, cell in zip(state, cells))
        write_csv(out, pd.DataFrame(rows))

    local = dict(n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None)
    with ExitStack() as opened:
        if todo:
            cluster = scheduler or opened.enter_context(LocalCluster(**local))
            client = opened.enter_context(Client(cluster))
            how = dict(only=grid.only, root=str(root), retries=1)
            given = {client.submit(run_cell, grid.cells[n], key=n, **how): n for n in todo}
            for future in as_completed(given):
                name, error = given[future], future.exception()
                state[name] = f"failed: {one_line(error)}" if error else "done"
                say(f"{name}: {state[name]}")
                tell()
    tell()
    if failed := [n for n in state if state[n] != "done"]:
        told = f"{len(failed)} of {len(state)} cells failed; {root / failed[0] / 'log.txt'}"
        raise ValueError(f"{told} shows where, the same command runs them again and no other")
    return out
