"""A run goes on where it stopped, repeats nothing, and says each thing once."""

import io
import shutil
import sys
from importlib import import_module

import pytest

from dd.study import BadParameter, run

module = import_module("dd.study.run")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A repository of two notebooks that note what they were given."""
    from dd import report

    notebooks = {"01_a": "seed", "02_b": "judges language_models"}
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(module, "taken", lambda name: ("study", *notebooks[name].split()))
    monkeypatch.setattr(report, "build_report", lambda folder, names: folder / "report")
    return tmp_path


def two_notebooks(folder, last):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    (folder / "notebooks").mkdir(exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name, cell in (("01_a", "open('ran', 'a').write(f'a{seed} ')"), ("02_b", last)):
        first = new_code_cell("study = 'x'", metadata={"tags": ["parameters"]})
        cells = [first, new_code_cell(cell)]
        notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def test_run_goes_on_after_a_failure_and_repeats_nothing(here, monkeypatch, capfd):
    (here / "p.yaml").write_text("study: two\nseed: 3\n")

    def go(**more):
        run(str(here / "p.yaml"), more)
        return (here / "ran").read_text().split()

    two_notebooks(here, "1 / 0")
    with pytest.raises(
        ValueError, match="02_b stopped: ZeroDivisionError: division by zero; .*02_b"
    ):
        go()
    last = "import sys; open('ran', 'a').write('b ')\nfor _ in 'ab': print('said', file=sys.stderr)"
    two_notebooks(here, last)
    capfd.readouterr()
    assert go() == ["a3", "b"]  # the first is not run again
    # a kernel that is told to stop can die in libzmq, which says so on its own, in C
    libzmq = lambda line: "(src/" in line and "Assertion failed" in line
    lines = capfd.readouterr().err.split("\n")
    told = [line for line in lines if line.strip() and not libzmq(line)]
    assert told[0].startswith("study two: 2 notebooks")
    assert told[-1].startswith("study two done")
    assert told[1:-1] == [  # no warnings of the kernel, nothing twice, no blank lines
        f"[1/2] 01_a: done before in {told[1].split()[5]} s, nothing to compute",
        "[2/2] 02_b ...",
        "    said",
    ]
    assert go() == ["a3", "b"]  # a second call computes nothing
    assert go(pairs=50) == ["a3", "b"]  # no notebook takes it
    assert go(judges=["judge-b"]) == ["a3", "b", "b"]
    assert go(seed=4)[3:] == ["a4", "b"]  # what comes first is an input of what follows
    row = module.STAGES["draw"]
    monkeypatch.setitem(module.STAGES, "draw", row._replace(version=row.version + 1))
    assert go(seed=4)[5:] == ["a4", "b"]


def test_a_folder_given_from_here_is_found_by_kernels_that_work_elsewhere(
    here, monkeypatch, tiny_folder, llm_folder
):
    import papermill

    given = {}
    execute = lambda _, out, parameters, **k: given.update(parameters) or open(out, "w").close()
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    two_notebooks(here, "pass")
    shutil.copytree(llm_folder, here / "here" / "lm")
    shutil.copytree(tiny_folder, here / "here" / "mine")
    lists = "language_models: [smollm2, ./lm]\njudges: [judge-a, mine]\n"
    (here / "here" / "p.yaml").write_text(f"study: one\n{lists}")
    monkeypatch.chdir(here / "here")
    run("p.yaml")
    assert given["language_models"] == ["smollm2", str(here / "here" / "lm")]
    assert given["judges"] == ["judge-a", str(here / "here" / "mine")]


@pytest.mark.parametrize(
    "parameters, message",
    [
        (dict(n_test=100), "n_test is 100; 0 or at least 353"),
        (dict(probe_seen=5), "at least 128"),
        (dict(tokens=31), "reads at most 30"),
        (dict(judges=["judge-z"]), "neither shipped"),
        (dict(judges=["sketch"]), "must be another"),
        (dict(judges=[]), "one or more"),
        (dict(judges=["judge-a", "judge-a"]), "different names"),
        (dict(judges="judge-a"), "list needed"),
        (
            dict(language_models=["smollm2", "no/where"]),
            "language model 'no/where': neither shipped",
        ),
        (dict(shots=[4, 4]), "different whole numbers"),
    ],
)
def test_what_a_run_could_not_finish_is_refused_before_it_starts(parameters, message, tmp_path):
    with pytest.raises(BadParameter, match=message):
        run("quick", parameters)
    assert not (tmp_path / "results").exists()


def test_time_left_follows_the_machine():
    names = list(module.SECONDS)
    usual = sum(module.SECONDS.values()) / 60
    assert module.minutes_left(names, {}) == pytest.approx(usual)
    slow = {name: 3 * module.SECONDS[name] for name in names[:2]}
    left = sum(module.SECONDS[name] for name in names[2:]) / 60
    assert module.minutes_left(names[2:], slow) == pytest.approx(3 * left)
    assert set(module.SECONDS) == set(module.NOTEBOOKS)


def test_one_line_moves_where_there_is_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        isatty = lambda self: True

    monkeypatch.setattr(sys, "stderr", Terminal())
    relay = module.Relay()
    relay.label = "[5/8] x"
    relay.write("draw: 1/9\n"), relay.write("draw: 9/9\n\n"), relay.say("done")
    lines = sys.stderr.getvalue().split("\r\x1b[2K")
    assert lines == ["", "[5/8] x: draw: 1/9", "[5/8] x: draw: 9/9", "done\n"]
