"""Seeded bugs: small changes to the method's code, one at a time, and whether its tests notice.

    python tools/mutants.py                      # 15 of each file, about an hour on one core
    python tools/mutants.py metrics --n 30 --seed 1

Cosmic Ray (`pip install -e ".[mutants]"`) makes the changes, in a copy of this checkout. A sample
takes places in a file at random, and one change of each: the same seed and file give the same
sample. What no test noticed is printed; docs/mutants.md says why each survived."""

import argparse
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from difflib import unified_diff
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).parent.parent
NUMBERS = "tests/test_golden.py::test_numbers_move_only_with_their_version"
TESTS = {  # of each file, those that are about it, the fast ones first
    "vocab": "tests/test_vocab.py "
    "tests/test_bad_models.py::test_what_of_a_text_is_not_read_is_said",
    "texts": "tests/test_texts.py tests/test_editing.py "
    "tests/test_bad_input.py::test_near_misses_of_ids_are_named",
    "metrics": f"tests/test_metrics.py {NUMBERS}[score] {NUMBERS}[look]",
    "encoder": f"tests/test_encoder.py {NUMBERS}[train_encoder] {NUMBERS}[features]",
    "decoder": f"tests/test_decoder.py {NUMBERS}[draw] {NUMBERS}[train_encoder] "
    "tests/test_bad_models.py::test_batches_shrink_as_latents_grow "
    "tests/test_faults.py::test_what_does_not_fit_the_memory_is_refused_before_it_is_read_or_drawn "
    "tests/test_world.py::test_a_judge_draws_by_its_own_call_and_nothing_is_trained_through_it",
    "train": f"{NUMBERS}[train_encoder] {NUMBERS}[train_denoiser] tests/test_train.py "
    "tests/test_bad_models.py::test_paths_with_spaces_quotes_and_an_emoji",
}
LIBRARIES = (  # imported once, not for each change
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.models.transformers.pixart_transformer_2d",
    "diffusers.models.autoencoders.autoencoder_tiny",
    "transformers.models.clip.modeling_clip",
    "transformers.models.bert.modeling_bert",
    "pandas",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "torchmetrics.image.fid",
    "accelerate",
)


def sample(module: Path, n: int, rng: random.Random) -> list:
    """n changes at different places. Bitwise operators are left out: nearly all are in annotations,
    and to put them in the place of others makes faults that no test could miss."""
    places = {}
    for item in _all_work_items([module], {}):
        (change,) = item.mutations
        if not re.search("_(Bit|.Shift)", change.operator_name):
            places.setdefault((change.start_pos, change.end_pos), []).append(change)
    chosen = rng.sample(sorted(places), min(n, len(places)))
    return [rng.choice(places[place]) for place in chosen]


def run(tests: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(pytest.main(["-xqm", "not slow", "-p", "no:cacheprovider", *tests.split()]))


def noticed(tests: str, seconds: float | None = None) -> bool:
    """Whether tests fail, or take longer than this, in a process of their own."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(tests,))
    process.start()
    process.join(seconds)
    if late := process.is_alive():
        process.kill()
        process.join()
    return late or process.exitcode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}")
    parser.add_argument("--n", type=int, default=15, help="changes a file")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.dont_write_bytecode = True  # a change of the same length within a second would be missed
    with tempfile.TemporaryDirectory() as copy:
        left_out = shutil.ignore_patterns(".git", ".venv", "cache", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=left_out, dirs_exist_ok=True)
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": copy, "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path.insert(0, copy)
        [import_module(name) for name in LIBRARIES]
        data = import_module("dd.data")  # imports none of the files; its pictures take seconds
        data._load_built_in = cache(data._load_built_in)
        data.load_dataset("emoji")
        for name in given.files:
            start, module, caught = time.time(), Path("dd") / f"{name}.py", 0
            if noticed(TESTS[name]):
                sys.exit(f"{name}: its tests fail without a change")
            most = 60 + 5 * (time.time() - start)
            changes = sample(module, given.n, random.Random(f"{given.seed}/{name}"))
            for change in changes:
                operator = get_operator(change.operator_name)(**change.operator_args)
                with use_mutation(module, operator, change.occurrence) as (before, after):
                    caught += (seen := noticed(TESTS[name], most))
                row, of = change.start_pos[0], change.operator_name.removeprefix("core/")
                print("noticed " if seen else "SURVIVED", f"{module}:{row}", of, flush=True)
                if not seen:
                    lines = unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm="")
                    print("\n".join([*lines][3:]))
            seconds = time.time() - start
            print(f"{name}: {caught} of {len(changes)} noticed, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
