"""Execute the committed notebooks in place, each on a fresh kernel with its own (quick) defaults:
make notebooks. Some of them: python tools/execute_notebooks.py 01 05_metrics solutions/01

Nothing is stored that changes from run to run without meaning: no cell timings, no progress lines
of cells that are not compared."""

import sys
from pathlib import Path

import nbclient
import nbformat

from dd.study import NOTEBOOKS

FOLDER = Path(__file__).parent.parent / "notebooks"

# not the playground, which keeps no outputs
for name in (*NOTEBOOKS, *(f"solutions/{name}" for name in NOTEBOOKS)):
    if sys.argv[1:] and not name.startswith(tuple(sys.argv[1:])):
        continue
    path = FOLDER / f"{name}.ipynb"
    print(name, file=sys.stderr, flush=True)
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    for cell in notebook.cells:
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for i in range(
            len(cell.get("outputs", [])) - 1, 0, -1
        ):  # one stream may arrive in pieces, cut at random
            a, b = cell.outputs[i - 1 : i + 1]
            if a.output_type == b.output_type == "stream" and a.name == b.name:
                a.text += cell.outputs.pop(i).text
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
