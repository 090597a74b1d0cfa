"""Kill a command of `python -m dd` at random moments, let it end, and compare what it wrote with an
undisturbed run's.

    python tools/kill_command.py train-encoder --seen 12800              # 20 kills
    python tools/kill_command.py draw "red apple"
    python tools/kill_command.py run quick                               # a study: its tables
    KILLS=5 SEED=1 MOST=30 python tools/kill_command.py score texts.csv --split novel

MOST is the latest moment of a kill in seconds; without it, what an undisturbed run takes. A run
that ends before its kill is not counted, and the next one begins anew. Where results go is given by
this script, a name in a temporary folder: a file for every command but `run` and those that train.
Logs and checkpoints hold times, and are not compared. Exits with 1 if anything else differs or a
temporary file is left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS, SEED = int(os.environ.get("KILLS", 20)), int(os.environ.get("SEED", 0))
SUFFIX = {"draw": ".png", "caption": ".parquet", "interrogate": ".parquet"}
TIMES = (".jsonl", ".state.safetensors", "run.lock")


def call(words: list[str], out: Path, seconds: float | None = None) -> int:
    """Run the command; with `seconds`, SIGKILL to all of it after so many."""
    command = [sys.executable, "-m", "dd", *words, *(() if study else ("--out", str(out)))]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    quiet["env"] = os.environ | {"DD_RESULTS": str(out)}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def written(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(TIMES))
    tables = (p for p in files if not study or p.suffix == ".csv" or ".tmp" in p.name)
    return {str(p.relative_to(folder)): p.read_bytes() for p in tables}


words, rng = sys.argv[1:], random.Random(SEED)
if not words:
    sys.exit(__doc__)
study = words[0] == "run"
folder = study or words[0].startswith("train")
name = "out" + ("" if folder else SUFFIX.get(words[0], ".csv"))
with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
    start = time.time()
    if code := call(words, Path(whole) / name):
        sys.exit(f"exit code {code} where nothing was killed")
    took, expected, killed, halves = time.time() - start, written(Path(whole)), 0, 0
    most = float(os.environ.get("MOST", took))
    while killed < KILLS:
        code = call(words, Path(cut) / name, rng.uniform(0, most))
        killed += code == -signal.SIGKILL
        found = {k: v for k, v in written(Path(cut)).items() if ".tmp" not in k}
        # a study's tables grow as it goes on: half a row is what they must not have
        bad = lambda k, v: not v.endswith(b"\n") if study else v != expected.get(k)
        halves += any(bad(k, v) for k, v in found.items())
        if code == 0 and killed < KILLS:
            shutil.rmtree(Path(cut) / name) if folder else (Path(cut) / name).unlink()
    code, found = call(words, Path(cut) / name), written(Path(cut))
same = code == 0 and found == expected
print(
    f"{words[0]}, {took:.0f} s: {killed} runs killed (seed {SEED}), "
    f"half a file after {halves} of them; in the end {len(found)} files, "
    + ("the same bytes" if same else f"exit code {code}, others than {len(expected)} undisturbed")
)
sys.exit(not same or halves > 0)
