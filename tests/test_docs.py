"""docs/*.md: links, files, figures, headings of notebooks and names of dd that they mention are
there; every exercise has a hint, a time and a solution; solutions compile, use names that their
notebook has, and call dd as its signatures are."""

import ast
import builtins
import importlib
import inspect
import json
import re
import typing
from functools import cached_property
from pathlib import Path

import pytest

import dd
from dd.decoder import Decoder
from dd.study import NOTEBOOKS, Study

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
INSTANCES = {"study": Study, "dec": Decoder}  # what these names are in every notebook


def notebook(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == kind]


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.M)


def numbered() -> dict[str, Path]:
    """The study's notebooks by the number in their title: "5a" and so on."""
    paths = [ROOT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS]
    return {headings(notebook(p, "markdown")[0])[0].split()[0]: p for p in paths}


# -- what is mentioned is there --------------------------------------------------------------------


def lost_mentions(text: str, folder: Path) -> list[str]:
    """What a page mentions and is not there, a line each."""
    lost = []
    for link, mark in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = folder / link
        if not target.exists():
            lost.append(f"link {link}")
        elif mark and target.is_file():
            slug = lambda head: re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")
            lost += [f"#{mark}"] * (mark not in map(slug, headings(target.read_text())))
    for name, head in re.findall(r"\(\.\./notebooks/(\w+)\.ipynb\): \"([^\"]+)\"", text):
        path = ROOT / "notebooks" / f"{name}.ipynb"
        known = headings("\n".join(notebook(path, "markdown"))) if path.exists() else []
        lost += [f"{name}: {head}"] * (head not in known)
    written = "".join(p.read_text() for p in (ROOT / "notebooks").glob("*.ipynb"))
    for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", text)):
        if re.fullmatch(r"(dd|docs|notebooks|tests|tools|results)/[\w./-]+", code):
            lost += [f"file {code}"] * (not (ROOT / code).exists())
        elif re.fullmatch(r"figures/[\w-]+", code):
            lost += [f"figure {code}"] * (not re.search(rf"{code.split('/')[1]}\b", written))
        elif re.fullmatch(r"dd(\.\w+)+", code):
            module, *rest = code.split(".")[1:]
            at = importlib.import_module(f"dd.{module}")
            for name in rest:
                at = getattr(at, name, None)
            lost += [f"name {code}"] * (at is None)
    return lost


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.stem)
def test_what_is_mentioned_is_there(path):
    assert not lost_mentions(path.read_text(), path.parent)


def test_slides_are_shipped():
    names = re.findall(r"`figures/([\w-]+)`", (ROOT / "docs" / "teaching.md").read_text())
    shipped = {p.name for p in (ROOT / "results" / "full" / "figures").iterdir()}
    assert names and {f"{n}{end}" for n in names for end in (".png", ".pdf")} <= shipped


@pytest.mark.parametrize(
    "text",
    [
        "[a](nowhere.md)",
        "[a](formats.md#no-such-heading)",
        '[a](../notebooks/00_digits.ipynb): "No such heading"',
        "`dd/nothing.py`",
        "`figures/digits_nothing`",
        "`dd.encoder.relaxed_too_much`",
    ],
)
def test_what_is_not_there_is_found(text):
    assert len(lost_mentions(text, ROOT / "docs")) == 1


# -- exercises and solutions -----------------------------------------------------------------------


def test_every_exercise_has_hint_time_and_solution():
    asked = []
    for number, path in numbered().items():
        text = notebook(path, "markdown")[-1].split("## Exercises")[1]
        asked += [f"{number}.{k}" for k in re.findall(r"^(\d+)\. ", text, re.M)]
    text = (ROOT / "docs" / "solutions.md").read_text()
    rows = re.findall(
        r"^\| (\w+\.\d+) \| (\S.+) \| (\d+ min|open) \| (\S.*) \| (\S.*) \|$", text, re.M
    )
    assert asked and asked == [row[0] for row in rows]
    assert asked == re.findall(r"^### (\w+\.\d+) ", text, re.M)


def names_of(tree: ast.AST) -> tuple[set[str], dict[str, object]]:
    """-> (names that code binds, {imported name: what it is, None if it is not of dd})."""
    bound, imported = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        for a in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            source, thing = getattr(node, "module", None), None
            if source is None and a.name.split(".")[0] == "dd":
                importlib.import_module(a.name)
                thing = dd
            elif source and source.split(".")[0] == "dd":
                thing = getattr(importlib.import_module(source), a.name, None)
                thing = thing or importlib.import_module(f"{source}.{a.name}")
            imported[a.asname or a.name.split(".")[0]] = thing
    return bound, imported


def meant(node: ast.expr, known: dict):
    """The thing of dd that an expression names, None if it names another; AttributeError if dd has
    nothing of that name."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    base = meant(node.value, known) if isinstance(node, ast.Attribute) else None
    if base is None:
        return None
    of_class = inspect.getattr_static(type(base), node.attr, None)
    if isinstance(of_class, (property, cached_property)):  # not computed: what it would return
        made = typing.get_type_hints(getattr(of_class, "func", None) or of_class.fget).get("return")
        return object.__new__(made) if inspect.isclass(made) else None
    if isinstance(base, (Study, Decoder)) and f"self.{node.attr}" in inspect.getsource(type(base)):
        return of_class and getattr(base, node.attr)  # an attribute of the instance is not known
    return getattr(base, node.attr)


def misused(code: str, taught: list[str] = ()) -> list[str]:
    """What is wrong with a block after the cells `taught`: names that nobody bound, things that dd
    does not have, arguments that they do not take."""
    bound, imported = set(dir(builtins)) | {"display"}, {}
    for cell in [*taught, code]:
        more, things = names_of(ast.parse(cell))
        bound, imported = bound | more | set(things), {**imported, **things}
        imported = {n: thing for n, thing in imported.items() if n not in more}
    known = {**imported, **{n: object.__new__(kind) for n, kind in INSTANCES.items()}}
    wrong = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name) and node.id not in bound:
            wrong.append(f"line {node.lineno}: {node.id} is not bound")
        if not isinstance(node, ast.Call):
            continue
        try:
            called = meant(node.func, known)
            if inspect.isfunction(called) or inspect.ismethod(called):
                more = {k.arg: None for k in node.keywords if k.arg}
                whole = len(more) == len(node.keywords)
                if not any(isinstance(a, ast.Starred) for a in node.args):
                    signature = inspect.signature(called)
                    (signature.bind if whole else signature.bind_partial)(*node.args, **more)
        except (AttributeError, TypeError) as error:
            wrong.append(f"line {node.lineno}: {ast.unparse(node.func)}: {error}")
    return wrong


def test_solutions_use_what_there_is():
    text, cells = (ROOT / "docs" / "solutions.md").read_text(), []
    sections = re.split(r"^## (\w+) · .+$", text, flags=re.M)
    assert set(sections[1::2]) == set(numbered())
    for number, section in zip(["", *sections[1::2]], sections[::2]):
        path, checked = numbered().get(number), []
        cells = notebook(path, "code") if path else []
        for block in BLOCK.findall(section):
            assert not misused(block, [*cells, *checked]), (number, block)
            checked.append(block)
        assert checked


@pytest.mark.parametrize(
    "code, problem",
    [
        ("print(nobody_bound_this)", "not bound"),
        ("from dd import metrics\nmetrics.no_such()", "no_such"),
        ("from dd.metrics import frechet\nfrechet()", "missing"),
        ("from dd.metrics import disturbed\ndisturbed(1, 2, 3, sed=4)", "sed"),
        ("study.no_such('test')", "no_such"),
        ("study.row('names')", "missing"),
        ("study.dec.draw(['a'], ['b'], guidence=3.0)", "guidence"),
        ("dec.start_noise()", "missing"),
    ],
)
def test_misuse_is_found(code, problem):
    (wrong,) = misused(code, ["study, dec = 1, 2"])
    assert problem in wrong


def test_launch_files_are_accelerates_own():
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((ROOT / "docs" / "launch").glob("*.yaml"))
    read = {file.stem: load_config_from_file(str(file)) for file in files}
    sizes = {name: (made.num_machines, made.num_processes) for name, made in read.items()}
    assert sizes == {"1_gpu": (1, 1), "2x8_gpus": (2, 16), "8_gpus": (1, 8)}
    assert all(
        (made.distributed_type == "MULTI_GPU") == (made.num_processes > 1) for made in read.values()
    )
