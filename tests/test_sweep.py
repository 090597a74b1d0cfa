"""Grids of runs on Dask: two workers make the serial run's numbers, a killed one loses nothing, a
failed cell is run again alone. On notebooks of a cell each."""

import builtins
from importlib import import_module

import pytest

from dd.__main__ import main
from dd.study import BadParameter
from dd.study.sweep import read_grid

dask = pytest.importorskip("dask")
module = import_module("dd.study.run")
TWO = {"01_a": "seed", "02_b": "seed guidance"}
# Where kernels start. They are children of the worker's process, which the first one kills.
CELLS = (
    """
import json, os, signal
from pathlib import Path
import torch
own = Path(os.environ["DD_RESULTS"]) / study
with (own / "ran").open("a") as ran:
    ran.write("{name} ")
""",
    """
if seed == 1 and Path("kill").exists():
    Path("kill").unlink(), os.kill(os.getppid(), signal.SIGKILL)
if seed == 2 and Path("fail").exists():
    raise ValueError("as it was told")
torch.manual_seed(seed)
(own / "{name}.json").write_text(json.dumps(torch.randn(3).mul({by}).tolist()))
""",
)
PATCH = """
from importlib import import_module
from pathlib import Path
from dd import report
module = import_module("dd.study.run")
module.ROOT, module.NOTEBOOKS = Path({root!r}), {two!r}
module.taken = lambda name: ("study", *module.NOTEBOOKS[name].split())
report.build_report = lambda folder, names: folder / "report"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A repository of two notebooks, here and in the workers."""
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    from dd import report

    (tmp_path / "notebooks").mkdir()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name, by in (("01_a", "1"), ("02_b", "guidance")):
        first = new_code_cell("study = 'x'", metadata={"tags": ["parameters"]})
        code = "".join(CELLS) if name == "02_b" else CELLS[0] + CELLS[1].split('told")\n')[1]
        cell = new_code_cell(code.replace("{name}", name).replace("{by}", by))
        notebook = new_notebook(cells=[first, cell], metadata={"kernelspec": kernel})
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / "patch.py").write_text(PATCH.format(root=str(tmp_path), two=TWO))
    for of, name in ((module, "ROOT"), (module, "NOTEBOOKS"), (module, "taken")):
        monkeypatch.setattr(of, name, getattr(of, name))
    monkeypatch.setattr(report, "build_report", report.build_report)
    exec((tmp_path / "patch.py").read_text(), {})
    monkeypatch.chdir(tmp_path)
    grid = "study: g\ngrid: {seed: [1, 2], guidance: [2.0, 3.0]}\n"
    (tmp_path / "grid.yaml").write_text(grid)
    with dask.config.set({"distributed.worker.preload": [str(tmp_path / "patch.py")]}):
        yield tmp_path


@pytest.mark.slow
def test_two_workers_make_the_serial_runs_numbers_though_one_is_killed(here, monkeypatch, capfd):
    from distributed import LocalCluster

    serial, swept = here / "serial", here / "results"
    monkeypatch.setenv("DD_RESULTS", str(serial))
    for parameters in read_grid(here / "grid.yaml").cells.values():
        module.run_prepared(parameters)
    monkeypatch.setenv("DD_RESULTS", str(swept))
    (here / "kill").touch(), (here / "fail").touch()
    assert main(["sweep", "grid.yaml"]) == 2
    told = capfd.readouterr().err
    assert "2 of 4 cells failed" in told and "02_b stopped: ValueError: as it was told" in told
    table = (swept / "g" / "cells.csv").read_text().splitlines()
    assert table[:2] == ["cell,seed,guidance,state", "g-seed_1-guidance_2_0,1,2.0,done"]
    assert [line.split(",")[3].split(":")[0] for line in table[1:]] == ["done"] * 2 + ["failed"] * 2
    (here / "fail").unlink()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as other:
        assert main(["sweep", "grid.yaml", "--scheduler", other.scheduler_address]) == 0
    assert "4 cells, 2 of them done before" in capfd.readouterr().err
    cells = sorted(folder.name for folder in swept.iterdir() if folder.name != "g")
    assert cells == sorted(folder.name for folder in serial.iterdir()) and len(cells) == 4
    ran = {cell: (swept / cell / "ran").read_text().split() for cell in cells}
    assert all(names.count("01_a") == 1 for names in ran.values())  # what was done is not lost
    assert sum(names.count("02_b") for names in ran.values()) > 4 + 2  # the killed one, the failed
    numbers = []
    for cell in cells:
        for name in ("01_a.json", "02_b.json"):
            numbers.append((swept / cell / name).read_text())
            assert numbers[-1] == (serial / cell / name).read_text()
    assert len(set(numbers)) == 2 + 4
    assert main(["sweep", "grid.yaml"]) == 0  # nothing to do: no cluster is started
    assert "4 cells, 4 of them done before" in capfd.readouterr().err
    assert ran == {cell: (swept / cell / "ran").read_text().split() for cell in cells}


@pytest.mark.parametrize(
    "text, message",
    [
        ("study: x\ngird: {seed: [1]}", "unknown 'gird'; .* did you mean 'grid'"),
        ("grid: {seed: 1}", "a list of values for each parameter"),
        ("grid: {sede: [1]}", "unknown parameter 'sede'; did you mean 'seed'"),
        ("grid: {tokens: [8, 99]}", "tokens is 99"),
        ("notebooks: [03_encode]\ngrid: {seed: [1]}", "no notebook .* did you mean '03_encoder'"),
        ("study: x\ngrid: {judges: [[judge-a], [judge-a, ]]}", "two cells are called"),
        ("parameters: qiuck\ngrid: {seed: [1]}", "no parameter file"),
        ("notebooks: [[03_encoder]]\ngrid: {seed: [1]}", "no notebook .'03_encoder'."),
        ("grid: [", "no YAML"),
        ("grid: {}", "a list of values for each parameter"),
        ("notebooks: 03_encoder\ngrid: {seed: [1]}", "notebooks: a list of names needed"),
        ("parameters: [1]\ngrid: {seed: [1]}", "parameters: quick, full or the name of a file"),
    ],
)
def test_a_grid_is_refused_before_its_first_cell(text, message, tmp_path):
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(BadParameter, match=message):
        read_grid(tmp_path / "grid.yaml")
    assert not (tmp_path / "results").exists()


def test_without_dask_one_line_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    plain = builtins.__import__

    def without(name, *more):
        if name == "distributed":
            raise ImportError(name)
        return plain(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["sweep", "grid.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Dask is not installed, which runs the cells; pip install -e '.[sweep]'")
