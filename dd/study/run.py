"""Running a study: the notebooks in order through Papermill."""

import json
import logging
import os
import shutil
import sys
import time
from functools import cache, partial
from pathlib import Path

from ..files import alone_in, check_writable, read_json, whole, write_json
from ..sources import INCEPTION, LITE0, LITE2, keys
from .cache import STAGES, folder_hash, key
from .parameters import (
    LEAST_FID,
    NOTEBOOKS,
    PARAMETERS,
    ROOT,
    BadParameter,
    check,
    check_notebooks,
    load_parameters,
    results_root,
    taken,
)
from .world import for_world

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


def unreadable(load, *given) -> list[str]:
    """What is wrong with a model or a data set, by loading it: a line, or none."""
    from ..reading import OR_SKIP

    try:
        load(*given)
    except (ValueError, OSError) as error:
        return [str(error).removesuffix(OR_SKIP)]  # `run` has no such option
    return []


def load_decoder(name: str, judge: bool = False) -> None:
    from ..decoder import Decoder  # takes seconds to import; the shipped ones are not tried

    Decoder.load(name, judge=judge)


def load_encoder(name: str) -> None:
    from ..encoder import Encoder

    Encoder.load(Path(name)).size  # noqa: B018, asked whether it is known


def load_backbone(name: str) -> None:
    from ..encoder import tower

    tower(name)


@cache  # the cells of a sweep have one world
def load_world(world: str, images: str, least: int) -> None:
    """BadData where it cannot be read or has fewer than `least` images for testing."""
    from ..data import BadData, load_dataset

    tested = load_dataset(world, None if images == "beside" else images).subset("test")
    if len(tested) < least:
        told = f"{len(tested)} images for testing; FID by these features needs {least}"
        raise BadData(f"world {world!r} has {told}")


def check_run(parameters: dict, only: tuple[str, ...] = ()) -> dict:
    """What a run, whole or of `only` some notebooks, needs beyond types and ranges, refused before
    the first notebook rather than by the last; all mistakes at once."""
    from .. import llm, metrics
    from ..runtime import shipped
    from .few_shot import require_cider

    parameters, told, for_fid = check(parameters), [], LEAST_FID
    own_world = parameters["world"] != "emoji"
    told += wrong_world(parameters) if own_world else []
    try:
        for_fid = metrics.width(parameters["features"]) + 1
        metrics.other_eye.cache_clear()  # each notebook's kernel loads its own
    except (ValueError, OSError) as error:
        told.append(str(error))
    for name, p in PARAMETERS.items():
        least = for_fid if p.least == LEAST_FID else p.least
        if 0 < least and 0 < parameters[name] < least:
            needed = f"0 or at least {least} needed: {p.meaning}"
            told.append(f"{name} is {parameters[name]}; {needed}")
    used = {name for notebook in only or NOTEBOOKS for name in taken(notebook)}
    models = lambda kind: parameters[kind] if kind in used else []
    own, judges = parameters["decoder"], models("judges")
    if parameters["encoder"] not in ("trained", "shipped"):
        told += unreadable(load_encoder, parameters["encoder"])
    known_good = [p.parent.name for p in ASSETS.glob("*/model_index.json")]  # these can be read
    wrong = {
        n: unreadable(partial(load_decoder, judge=n != own), n)
        for n in (own, *judges)
        if n not in known_good
    }
    told += [line for lines in wrong.values() for line in lines]
    if "backbone" in used and (backbone := parameters["backbone"]) != LITE0:
        told += unreadable(load_backbone, backbone)
    for name in ("encoder_seen", "n_train"):
        if "batch" in used and 0 < parameters[name] < parameters["batch"]:
            short = f"batch is {parameters['batch']}, more than {name}, {parameters[name]}"
            told.append(f"{short}; use a smaller batch or more images")
    for name in models("language_models"):
        load = llm.package_file if name in llm.PACKAGES else llm.LanguageModel.load
        told += unreadable(load, name)
    if "captions" in used and parameters["captions"]:
        told += unreadable(require_cider)
    if shipped(own).resolve() in [shipped(judge).resolve() for judge in judges]:
        wanted = f"{own} is the study's own decoder, a judge must be another"
        told.append(f"judges is {judges}; {wanted}")
    tokenizer, most = shipped(own) / "tokenizer" / "tokenizer_config.json", 75
    if tokenizer.exists() and not wrong.get(own):
        most = read_json(tokenizer).get("model_max_length", 77) - 2
    if parameters["tokens"] > most:
        told.append(f"tokens is {parameters['tokens']}; decoder {own} reads at most {most}")
    if own_world and "world" in used and not told:  # last: it takes time
        least = for_fid if set(JUDGING) & set(only or NOTEBOOKS) else 1
        given = (parameters[name] for name in ("world", "world_images"))
        told += unreadable(load_world, *given, least)
    if told:
        raise BadParameter("\n".join(told))
    return parameters


def wrong_world(parameters: dict) -> list[str]:
    """What a world of one's own lacks, or cannot have, a line each."""
    world, images, told = parameters["world"], parameters["world_images"], []
    if not Path(world).exists():
        told.append(f"world is {world!r}; no such data set: {PARAMETERS['world'].meaning}")
    if images != "beside" and not Path(images).is_dir():
        meaning = PARAMETERS["world_images"].meaning
        told.append(f"world_images is {images!r}; no such folder: {meaning}")
    if (own := parameters["encoder"]) in ("trained", "shipped"):
        needed = "a folder made by train-encoder is needed in another"
        told.append(f"encoder is {own!r}, of the emoji world; {needed}")
    emoji = [s for s in parameters["rivals"] if s in keys("emoji")]
    emoji += [n for n in EMOJI if parameters[n] != PARAMETERS[n].default]
    if emoji:
        told.append(f"{', '.join(emoji)}: of the emoji world alone; leave out with world {world!r}")
    return told


JUDGING = ("05_metrics", "05_reconstruction", "06_judges")  # by FID, in every world
EMOJI = (
    *("n_novel", "n_outside", "probe_seen", "lengths_seen", "cross_seen", "hard_prompts"),
    *("sampler_check", "eyes", "batch", "rule", "backbone"),
)


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
    made, code = {}, {"stages": {name: stage.version for name, stage in STAGES.items()}}
    code["assets"] = folder_hash(ASSETS)
    for name in NOTEBOOKS:
        source = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
        cells = ["".join(cell["source"]) for cell in source["cells"]]
        given = {p: parameters[p] for p in taken(name)}
        facts = dict(cells=cells, parameters=given, before=list(made.values()))
        made[name] = key("notebook", **facts, **code)
    return made


def own_kernel() -> None:
    """Notebooks run in this interpreter, whatever else calls itself python3."""
    ours = str(Path(sys.prefix) / "share" / "jupyter")
    paths = [ours, *os.environ.get("JUPYTER_PATH", "").split(os.pathsep)]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))


def prepared(parameters: dict, only: tuple[str, ...] = ()) -> dict:
    """Checked parameters of a run, without what depends on the folder that we are in: kernels and
    other machines work in another one."""
    from ..llm import PACKAGES
    from ..runtime import shipped

    parameters = check_run(parameters, only)
    named = ("trained", "shipped", "emoji", "beside", LITE0, LITE2, *PACKAGES)
    is_path = lambda name: name not in named and shipped(name) == Path(name)
    resolved = lambda n: str(Path(n).resolve()) if is_path(n) and Path(n).exists() else n
    for name in ("decoder", "encoder", "world", "world_images", "features", "backbone"):
        prefix = INCEPTION if parameters[name].startswith(INCEPTION) else ""
        parameters[name] = prefix + resolved(parameters[name].removeprefix(prefix))
    for name in ("judges", "language_models"):
        parameters[name] = [resolved(v) for v in parameters[name]]
    return parameters


def run(study: str = "quick", overrides: dict | None = None, only: tuple[str, ...] = ()) -> Path:
    """Run the notebooks in order through Papermill, all or `only` some. Done ones are not run
    again; a killed run goes on where it stopped. OSError if another run is at work in the same
    results folder."""
    check_notebooks(only, "--only")
    parameters = prepared({**load_parameters(study), **(overrides or {})}, only)
    return run_prepared(parameters, only)


def run_prepared(parameters: dict, only: tuple[str, ...] = ()) -> Path:
    """`run` with parameters that are checked; `only`: the notebooks that are run, all if none."""
    from ..report import build_report, headline

    # a parameters cell shows some of what its notebook takes; their names are checked already
    logging.getLogger("papermill").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars, in kernels
    root, relay, started = results_root().absolute(), Relay(), time.time()
    os.environ["DD_RESULTS"], folder = str(root), root / parameters["study"]
    check_writable(folder, folder=True)
    own_kernel()
    with alone_in(folder):
        run_notebooks(folder, parameters, relay, only)
        report = build_report(folder, list(NOTEBOOKS))
    relay.say(f"\nstudy {parameters['study']} done in {(time.time() - started) / 60:.1f} min")
    print(headline(folder))
    print(f"\nreport   {report}\nfigures  {folder / 'figures'}\ntables   {folder / 'tables'}")
    return report


def execute(name: str, out: Path, parameters: dict, relay: Relay):
    """Run one notebook, write it with its outputs to `out` -> the error of a cell that failed, or
    None."""
    import papermill

    notebook = for_world(ROOT / "notebooks" / f"{name}.ipynb", out, parameters)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(out),
            parameters={p: parameters[p] for p in taken(name)},
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=False,  # stderr_file has it already
            stderr_file=relay,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except papermill.PapermillExecutionError as error:
        return error


def done_before(folder: Path) -> dict:
    """What is known of the notebooks that are done in a folder of results: key and seconds."""
    path = folder / "run.json"
    told = read_json(path) if path.exists() else {}
    return {n: told[n] for n in told if (folder / "notebooks" / f"{n}.ipynb").exists()}


def run_notebooks(folder: Path, parameters: dict, relay: Relay, only: tuple[str, ...] = ()) -> None:
    """Those that are not done. ValueError, one line, where a cell fails or its process dies."""
    done, spent = done_before(folder), {}
    names = [name for name in NOTEBOOKS if name in (only or NOTEBOOKS)]
    relay.say(f"study {parameters['study']}: {len(names)} notebooks -> {folder}")
    made_by = notebook_keys(parameters)
    for k, name in enumerate(names):
        made, executed = made_by[name], folder / "notebooks" / f"{name}.ipynb"
        relay.label = f"[{k + 1}/{len(names)}] {name}"
        if done.get(name, {}).get("key") == made:
            seconds = done[name]["seconds"]
            relay.say(f"{relay.label}: done before in {seconds:.0f} s, nothing to compute")
            continue
        left = minutes_left(names[k:], spent) if parameters["study"] == "quick" else 0
        relay.say(f"{relay.label} ..." + (f" about {left:.0f} min left in all" if left else ""))
        executed.parent.mkdir(parents=True, exist_ok=True)
        tick = time.time()
        try:
            with whole(executed) as temporary:
                failed = execute(name, temporary, parameters, relay)
        except RuntimeError as error:  # of its kernel
            why = "its process died, as where memory is short"
            if "respond" in str(error):  # jupyter_client's word where it never answered
                why = "its process never answered (is 127.0.0.1 reachable? the machine too busy?)"
            told = f"notebook {name}: {why}; the same command goes on where it stopped"
            raise ValueError(told) from error
        if failed:
            why = " ".join(f"{failed.ename}: {failed.evalue}".split())
            raise ValueError(f"notebook {name} stopped: {why}; {executed} shows where") from failed
        spent[name] = time.time() - tick
        done[name] = {"key": made, "seconds": round(spent[name], 1)}
        write_json(folder / "run.json", done)
        if relay.moving:
            relay.say(f"{relay.label}: done in {spent[name]:.0f} s")
