"""An executed notebook as the body of a page."""

import re
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from .page import caption, image


class _Text(IPythonRenderer):
    """Markdown whose formulas are MathML, which a browser renders by itself, and whose links to
    notebooks lead to their pages."""

    def __init__(self, pages):
        super().__init__(escape=False)
        self.pages = pages

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body, display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        name = url.removesuffix(".ipynb")
        if name == url:
            return super().link(text, url, title)
        return super().link(text, f"{name}.html", title) if name in self.pages else text


def _headings(source: str) -> list[str]:
    """The headings of a Markdown cell, as plain text."""
    return [re.sub(r"[`*]", "", found) for found in re.findall(r"^#+ +(.*\S)", source, re.M)]


def read(notebook: Path):
    """A notebook and its title, its first heading."""
    nb = nbformat.read(notebook, as_version=4)
    found = [h for c in nb.cells if c.cell_type == "markdown" for h in _headings(c.source)]
    return nb, found[0] if found else notebook.stem


def body(nb, figures: Path, pages) -> str:
    """A notebook's cells as HTML without scripts or sheets. Pictures that figures.show gave are
    links to the files in `figures`, others embedded and told by the heading above them. `pages`:
    the notebooks that have one."""
    heading = "this notebook"
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *_headings(cell.source)][-1]
        cell.outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]  # progress
        for output in (o for o in cell.outputs if "image/png" in o.get("data", {})):
            data, png = output.data, "".join(output.data.pop("image/png").split())
            stem = output.metadata.get("image/png", {}).get("figure")
            if stem and (figures / f"{stem}.png").exists():
                data["text/html"] = image(f"../figures/{stem}.png", caption(stem, figures.parent))
            else:
                data["text/html"] = image(f"data:image/png;base64,{png}", f"Picture of: {heading}")
    as_html = lambda source: MarkdownWithMath(renderer=_Text(pages)).render(source)
    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": as_html})
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    html, _ = exporter.from_notebook_node(nb)
    return re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S | re.I)
