"""A notebook in another world than emoji: of its cells that are tagged `emoji` a line says that
they are left out, whoever runs it."""

from pathlib import Path

from ..files import read_json
from .parameters import ROOT, taken

LEFT_OUT = "*Left out: of the emoji world alone.*"
ELSEWHERE = """> **This run is of another world.** The sentences below were written about the emoji
> world and its decoder `sketch`. Here the images are those of `{world}` and the decoder is
> `{decoder}`: where they say *drawing*, read *image*; what they say was found, was found there.
> The outputs are of this run."""


def of_emoji(cell: dict) -> bool:
    return "emoji" in cell["metadata"].get("tags", ())


def for_world(notebook: Path, executed: Path, parameters: dict) -> Path:
    """A notebook in another world than emoji, written where it will be executed: below its title
    whose sentences these are; where cells are tagged `emoji`, a line that says what is left out."""
    if parameters["world"] == "emoji":
        return notebook
    import nbformat

    nb, kept = nbformat.read(notebook, as_version=4), []
    for cell in nb.cells:
        if not of_emoji(cell):
            kept.append(cell)
        elif kept[-1].source != LEFT_OUT:
            kept.append(nbformat.v4.new_markdown_cell(LEFT_OUT))
    if "world" in taken(notebook.stem):
        names = {name: Path(parameters[name]).name for name in ("world", "decoder")}
        kept.insert(1, nbformat.v4.new_markdown_cell(ELSEWHERE.format(**names)))
    nb.cells = kept
    nbformat.write(nb, executed)
    return executed


def stepping_aside(notebook: str):
    """The lines of a cell -> the same; of a cell that `for_world` leaves out, one that says so: for
    who runs the notebook as it is."""
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    cells = read_json(path)["cells"] if path.exists() else []
    emoji = {"".join(cell["source"]).strip() for cell in cells if of_emoji(cell)}
    told = f"print({LEFT_OUT.strip('*')!r})\n"
    return lambda lines: [told] if "".join(lines).strip() in emoji else lines
