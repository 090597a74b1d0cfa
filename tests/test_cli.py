"""The command line: help, and one-line refusals with exit code 2 and no traceback."""
import os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = ("write", "draw", "score", "run", "claims", "train-decoder", "train-encoder", "bench")


def dd(*words, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "dd", *words], cwd=cwd, capture_output=True, text=True, timeout=110,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})


def test_help_lists_every_command():
    shown = dd("--help")
    assert shown.returncode == 0 and all(c in shown.stdout for c in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command):
    import argparse
    from dd.__main__ import parser
    sub = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices[command]
    for action in sub._actions:
        assert action.help or action.dest == "text", f"{command} {action.dest}"


@pytest.mark.parametrize("words, message", [
    (("run", "quick", "-p", "tokens=abc"), "tokens is 'abc'"), (("run", "quick", "-p", "nonsense=1"), "unknown parameter 'nonsense'"),
    (("run", "quick", "-p", "tokens"), "NAME=VALUE"), (("run", "absent"), "no parameter file"), (("run", "quick", "-p", "guidance=1e-4"), "1.0e-4"),
    (("score", "missing.csv"), "no such file"), (("write", "missing.png"), "no such image"), (("draw", " "), "text is empty"),
    (("draw", "red", "--decoder", "some/where"), "revision")])
def test_wrong_input_is_one_line(words, message, capsys, monkeypatch, whole_world):
    from dd import data
    from dd.__main__ import main
    monkeypatch.setattr(data, "load_world", lambda *a, **k: whole_world)          # read once for all tests
    assert main(list(words)) == 2
    lines = [l for l in capsys.readouterr().err.strip().splitlines() if not l.startswith(("device:", "numbers:"))]
    assert len(lines) == 1 and message in lines[0], lines


def test_a_real_process_exits_with_two():
    shown = dd("run", "quick", "-p", "nonsense=1")
    assert shown.returncode == 2 and "Traceback" not in shown.stderr and "nonsense" in shown.stderr.splitlines()[-1]
    shown = dd("draw", "red", "--guidance", "abc")
    assert shown.returncode == 2 and "Traceback" not in shown.stderr
