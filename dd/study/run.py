"""Running a study: the notebooks in order through Papermill."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

from .cache import STAGES, folder_hash, key
from .parameters import (
    NOTEBOOKS,
    PARAMETERS,
    ROOT,
    BadParameter,
    check,
    load_parameters,
    results_root,
    taken,
)

ASSETS = Path(__file__).parent.parent / "assets"
SECONDS = {  # of `quick` on two cores
    "00_digits": 75,
    "01_data": 12,
    "02_decoder": 28,
    "03_encoder": 45,
    "04_texts": 12,
    "05_metrics": 18,
    "05_reconstruction": 83,
    "05_side_experiments": 12,
    "06_judges": 96,
    "07_editing": 21,
    "08_language": 100,
}


def check_run(parameters: dict) -> dict:
    """What a whole run needs beyond types and ranges, refused before the first notebook rather than
    by the last; all mistakes at once."""
    from .. import llm
    from ..runtime import pinned, shipped

    parameters, told = check(parameters), []
    for name, p in PARAMETERS.items():
        if 0 < p.least and 0 < parameters[name] < p.least:
            needed = f"0 or at least {p.least} needed: {p.meaning}"
            told.append(f"{name} is {parameters[name]}; {needed}")
    own, judges = parameters["decoder"], parameters["judges"]
    for name, what in [
        *((name, "decoder") for name in (own, *judges)),
        *((name, "language model") for name in parameters["language_models"]),
    ]:
        try:
            known = what == "language model" and name in llm.PACKAGES
            llm.package(name) if known else pinned(name, None, what)
        except FileNotFoundError as error:
            told.append(str(error))
    if shipped(own).resolve() in [shipped(judge).resolve() for judge in judges]:
        told.append(
            f"judges is {judges}; {own} is the decoder that the encoder was trained through, a "
            "judge must be another"
        )
    tokenizer, most = shipped(own) / "tokenizer" / "tokenizer_config.json", 75
    if tokenizer.exists():
        most = json.loads(tokenizer.read_text())["model_max_length"] - 2
    if parameters["tokens"] > most:
        told.append(f"tokens is {parameters['tokens']}; decoder {own} reads at most {most}")
    if told:
        raise BadParameter("\n".join(told))
    return parameters


class Relay:
    """What a notebook's kernel says on stderr, shown once: a line that moves where there is a
    terminal, else a line each."""

    def __init__(self):
        self.label, self.told, self.moving = "", set(), sys.stderr.isatty()

    def write(self, text: str) -> None:
        for line in text.replace("\r", "\n").split("\n"):
            line = line.strip()
            if line and line not in self.told:
                self.told.add(line)
                self.show(line)

    def show(self, line: str) -> None:
        if self.moving:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[2K{f'{self.label}: {line}'[:width]}")
        else:
            sys.stderr.write(f"    {line}\n")
        sys.stderr.flush()

    def say(self, line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}\n" if self.moving else f"{line}\n")
        sys.stderr.flush()

    def flush(self) -> None:
        pass


def minutes_left(names: list[str], done: dict) -> float:
    """That the notebooks `names` take: as in `quick`, at the speed of those in `done`."""
    known = [n for n in done if n in SECONDS]
    spent, usual = sum(done[n] for n in known), sum(SECONDS[n] for n in known)
    speed = spent / usual if usual else 1.0
    return speed * sum(SECONDS.get(n, 60) for n in names) / 60


def notebook_keys(parameters: dict) -> dict[str, str]:
    """What each notebook's outputs depend on: its cells, the parameters that it takes, versions of
    the stages, what is shipped, and the notebooks before it."""
    keys, code = {}, {"stages": {name: stage.version for name, stage in STAGES.items()}}
    code["assets"] = folder_hash(ASSETS)
    for name in NOTEBOOKS:
        source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
        cells = ["".join(cell["source"]) for cell in source["cells"]]
        given = {p: parameters[p] for p in taken(name)}
        facts = dict(cells=cells, parameters=given, before=list(keys.values()))
        keys[name] = key("notebook", **facts, **code)
    return keys


def run(study: str = "quick", overrides: dict | None = None) -> Path:
    """Run the notebooks in order through Papermill. Done notebooks are not run again; a killed run
    goes on where it stopped."""
    import papermill

    from ..files import write_json
    from ..report import build_report, headline

    # a parameters cell shows some of what its notebook takes; their names are checked already
    logging.getLogger("papermill").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars, in kernels

    parameters = check_run({**load_parameters(study), **(overrides or {})})
    # kernels work in another folder than the one that a folder was named in
    is_folder = lambda name: "/" in name and Path(name).is_dir()
    whole = lambda name: str(Path(name).resolve()) if is_folder(name) else name
    for name in ("decoder", "encoder"):
        parameters[name] = whole(parameters[name])
    for name in ("judges", "language_models"):
        parameters[name] = [whole(v) for v in parameters[name]]
    folder = results_root() / parameters["study"]
    done_path, started, relay = folder / "run.json", time.time(), Relay()
    done = json.loads(done_path.read_text()) if done_path.exists() else {}
    names, spent = list(NOTEBOOKS), {}
    relay.say(f"study {parameters['study']}: {len(names)} notebooks -> {folder}")
    for k, (name, made) in enumerate(notebook_keys(parameters).items()):
        executed = folder / "notebooks" / f"{name}.ipynb"
        relay.label = f"[{k + 1}/{len(names)}] {name}"
        if done.get(name, {}).get("key") == made and executed.exists():
            seconds = done[name]["seconds"]
            relay.say(f"{relay.label}: done before in {seconds:.0f} s, nothing to compute")
            continue
        left = minutes_left(names[k:], spent) if parameters["study"] == "quick" else 0
        relay.say(f"{relay.label} ..." + (f" about {left:.0f} min left in all" if left else ""))
        executed.parent.mkdir(parents=True, exist_ok=True)
        tick = time.time()
        papermill.execute_notebook(
            str(ROOT / "notebooks" / f"{name}.ipynb"),
            str(executed),
            parameters={p: parameters[p] for p in taken(name)},
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=False,  # stderr_file has it already
            stderr_file=relay,
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        spent[name] = time.time() - tick
        done[name] = {"key": made, "seconds": round(spent[name], 1)}
        write_json(done_path, done)
        if relay.moving:
            relay.say(f"{relay.label}: done in {spent[name]:.0f} s")
    report = build_report(folder, names)
    relay.say(f"\nstudy {parameters['study']} done in {(time.time() - started) / 60:.1f} min")
    print(headline(folder))
    print(f"\nreport   {report}\nfigures  {folder / 'figures'}\ntables   {folder / 'tables'}")
    return report
