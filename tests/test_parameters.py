"""Parameters are refused before work starts, all mistakes at once; files hold what differs."""

import subprocess
import sys

import pytest

from dd.study import PARAMETERS, BadParameter, Study, check, check_run, load_parameters
from dd.study.parameters import LEAST_FID, NOTEBOOKS, table, taken


@pytest.mark.parametrize(
    "parameters, message",
    [
        (dict(nonsense=1), "unknown parameter 'nonsense'"),
        (dict(tokens="abc"), "int needed"),
        (dict(tokens=0), "1 to 75"),
        (dict(tokens=76), "1 to 75"),
        (dict(tokens=3.0), "int needed"),
        (dict(tokens=True), "int needed"),
        (dict(guidance="1e-4"), "in YAML write 1.0e-4"),
        (dict(guidance=-1.0), "0.0 to 30.0"),
        (dict(guidance=float("nan")), "0.0 to 30.0"),
        (dict(guidances=[]), "list of different numbers"),
        (dict(guidances=[1, "2"]), "list of different numbers"),
        (dict(guidances=[1, 1]), "list of different numbers"),
        (dict(guidances=[True]), "list of different numbers"),
        (dict(shots=[1.5]), "list of different whole numbers"),
        (dict(guidances=3.0), "list needed"),
        (dict(rivals=["blip"]), "among"),
        (dict(rivals=["captioner", "captioner"]), "different names"),
        (dict(rivals="captioner"), "list needed"),
        (dict(judges=[]), "one or more different names"),
        (dict(sampler="euler"), "one of"),
        (dict(batch=0), "1 to"),
        (dict(rule="some"), "one of ('auto', 'alphanumeric', 'word_final', 'all')"),
        (dict(study="../up"), "names a folder"),
        (dict(seed=-1), "0 to"),
        (dict(contexts=["names", "dediffusion_8"]), "but lengths_seen is 0"),
        (dict(contexts=["names"], further_contexts=["pez"]), "'pez', which is not among contexts"),
    ],
)
def test_bad_parameters_are_refused(parameters, message, tmp_path, monkeypatch):
    monkeypatch.setenv("DD_RESULTS", str(tmp_path))
    with pytest.raises(BadParameter) as caught:
        Study({"study": "x", **parameters})
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())  # nothing was made yet


def test_all_mistakes_are_told_at_once_a_line_each():
    with pytest.raises(BadParameter) as caught:
        check(dict(tokens=0, steps="8", nonsense=1, seed=3))
    lines = str(caught.value).split("\n")
    assert [line.split()[0] for line in lines] == ["tokens", "steps", "unknown"]
    with pytest.raises(BadParameter) as caught:
        check_run(dict(n_test=100, tokens=31, judges=["judge-z", "sketch"]))
    assert len(str(caught.value).split("\n")) == 4


def test_a_training_that_cannot_be_is_refused_before_the_first_notebook():
    with pytest.raises(BadParameter) as caught:
        check_run(dict(batch=2048, encoder_seen=1024, n_train=1024, backbone="nowhere"))
    lines = str(caught.value).split("\n")
    assert [line.split(";")[0] for line in lines[1:]] == [
        f"batch is 2048, more than {name}, 1024" for name in ("encoder_seen", "n_train")
    ]
    assert lines[0].startswith("backbone 'nowhere': neither shipped, nor a folder of one")
    check_run(dict(batch=2048, n_train=512, encoder_seen=512), only=("01_data",))


def test_good_parameters_are_kept_and_the_others_have_defaults():
    given = dict(study="mine-2", guidance=3, guidances=[1, 2.5], sampler="ddim", rivals=[])
    whole = check(given)
    assert {name: whole[name] for name in given} == given
    defaults = {name: p.default for name, p in PARAMETERS.items()}
    assert {**whole, **defaults} == check(defaults) == check({}) == defaults
    assert {type(p.default) for p in PARAMETERS.values()} == {int, float, str, list}


def test_bounds_are_those_of_the_code_that_uses_them():
    from dd import decoder, metrics

    assert PARAMETERS["sampler"].among == decoder.SAMPLERS
    assert LEAST_FID == metrics.WIDTH + 1


def test_yaml_exponent_without_point_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_text("study: x\nguidance: 1e-4\n")
    with pytest.raises(BadParameter, match="1.0e-4"):
        load_parameters(str(tmp_path / "p.yaml"))
    with pytest.raises(BadParameter, match="no parameter file"):
        load_parameters("absent")
    (tmp_path / "p.yaml").write_text("guidance: 1.0\n")
    with pytest.raises(BadParameter, match="'study' is missing"):
        load_parameters(str(tmp_path / "p.yaml"))


def test_quick_is_the_defaults_and_full_names_only_what_differs():
    import yaml

    from dd.study.parameters import ROOT

    assert load_parameters("quick") == check({})
    given = yaml.safe_load((ROOT / "notebooks" / "params" / "full.yaml").read_text())
    assert not [name for name, value in given.items() if value == PARAMETERS[name].default]
    assert load_parameters("full")["n_val"] == 384


def test_every_parameter_is_taken_by_a_notebook_and_listed_for_help():
    assert set(PARAMETERS) == {p for name in NOTEBOOKS for p in taken(name)}
    listed = [line.split()[0] for line in table().split("\n") if line[2] != " "]
    assert listed == list(PARAMETERS) and max(map(len, table().split("\n"))) < 100


def test_parameters_need_no_heavy_import():
    code = "import sys, dd.study; dd.study.load_parameters('full'); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"torch", "pandas", "numpy", "transformers", "papermill"} & set(loaded)
