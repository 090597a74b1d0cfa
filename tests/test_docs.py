"""docs/*.md: links, files, figures, headings of notebooks and names of dd that they mention are
there; every exercise has a hint, a time and a solution."""

import importlib
import json
import re
from pathlib import Path

import pytest

from dd.study import NOTEBOOKS

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


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
    asked, solved = [], []
    for number, path in numbered().items():
        text = notebook(path, "markdown")[-1].split("## Exercises")[1]
        asked += [f"{number}.{k}" for k in re.findall(r"^(\d+)\. ", text, re.M)]
        cells = json.loads((path.parent / "solutions" / path.name).read_text())["cells"]
        assert "".join(cells[1]["source"]) == f"%%capture\n%run ../{path.name}"
        kinds = [re.sub(r"-[a-z]$", "", c["id"]) + f" {c['cell_type']}" for c in cells]
        for cell, kind in zip(cells, kinds):
            if found := re.match(r"## (\S+) ", "".join(cell["source"])):
                solved.append(found[1])
                assert kind.replace("markdown", "code") in kinds, found[1]
    text = (ROOT / "docs" / "solutions.md").read_text()
    rows = re.findall(r"^\| (\w+\.\d+) \| \S.+ \| (?:\d+ min|open) \|$", text, re.M)
    assert asked and asked == rows == solved


def test_launch_files_are_accelerates_own():
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((ROOT / "docs" / "launch").glob("*.yaml"))
    read = {file.stem: load_config_from_file(str(file)) for file in files}
    sizes = {name: (made.num_machines, made.num_processes) for name, made in read.items()}
    assert sizes == {"1_gpu": (1, 1), "2x8_gpus": (2, 16), "8_gpus": (1, 8)}
    assert all(
        (made.distributed_type == "MULTI_GPU") == (made.num_processes > 1) for made in read.values()
    )
