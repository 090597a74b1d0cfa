"""Kill `python -m dd run quick` three times, each while another notebook computes, and compare its
table with an undisturbed run's.

    python tools/kill_study.py                                   # two studies from nothing
    python tools/kill_study.py results/quick/reconstruction.csv  # `make study` was one of them

The runs write to temporary folders; the shipped results are not touched. Exits with 1 if one byte
of reconstruction.csv differs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS = (
    ("03_encoder", 20),
    ("05_reconstruction", 40),
    ("06_judges", 30),
)  # a notebook, seconds after its start
ROOT = Path(__file__).parent.parent


def study(results: str, kill: tuple[str, float] | None = None) -> int:
    """One call of the study; with `kill`, its whole process group gets SIGKILL that many seconds
    after that notebook has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dd", "run", "quick"],
        cwd=ROOT,
        env={**os.environ, "DD_RESULTS": results},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        print("   ", line.rstrip()[:160], flush=True)
        if kill and f"{kill[0]} ..." in line:
            time.sleep(kill[1])
            os.killpg(process.pid, signal.SIGKILL)
            print(f"killed {kill[1]} s into {kill[0]}", flush=True)
            break
    process.stderr.close()
    return process.wait()


with tempfile.TemporaryDirectory() as cut, tempfile.TemporaryDirectory() as whole:
    undisturbed = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(whole) / "quick" / "reconstruction.csv"
    )
    for results, kills in (
        (cut, (*KILLS, None)),
        *(() if len(sys.argv) > 1 else ((whole, (None,)),)),
    ):
        for kill in kills:
            code = study(results, kill)
            if (code != 0) != (kill is not None):
                sys.exit(f"exit code {code} where {'a kill' if kill else 'success'} was expected")
    tables = [
        path.read_bytes() for path in (undisturbed, Path(cut) / "quick" / "reconstruction.csv")
    ]
print(
    "the same reconstruction.csv" if tables[0] == tables[1] else "reconstruction.csv differs",
    f"({len(tables[0].splitlines()) - 1} rows)",
)
sys.exit(tables[0] != tables[1])
