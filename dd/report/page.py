"""The page of a study, report/index.html, and one page a notebook; readable from disk without a
network. Pictures stay in figures/ and are linked."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from string import Template

import pandas as pd

from .. import published
from ..files import write_text
from .claims import claims
from .plots import answered, by_style, curve, narrow, ranking, rate, readers, second_look
from .tables import (
    WHY_NARROW,
    ahead,
    blocks,
    crossing,
    few_shot_tables,
    guidance_summary,
    has_styles,
    kid_by_style,
    noises,
    own,
    printed,
    read_table,
    seen_by,
    tables,
    verdict_line,
)

KEY_FIGURES = {
    "reconstruction_sheet": "Original, text, and what the decoder draws from the text.",
    "fid_guidance": "FID against guidance, ours and the paper's.",
    "kid_within": "Distance of whole sets, and inside one drawing style.",
    "kid_by_style": "Each style a narrow target set: the distance, text by text.",
    "judges_sheet": "One text, two decoders: only the first was ever asked what it likes to read.",
    "judges_paired": "Closeness to the own original, by decoder.",
    "texts_examples": "One drawing, in people's, De-Diffusion's and the alt text's words.",
    "rate_quality": "Words spent against distance left.",
    "texts_words": "The words used most, by the encoder and by people.",
}
PAGE = Template((Path(__file__).parent / "page.html").read_text())
escape = html.escape


def _table(title: str, table: pd.DataFrame, level: int = 3) -> list[str]:
    return [f"<h{level}>{escape(title)}</h{level}>", *printed(table, "html")]


def _figure(path: Path, caption: str = "") -> str:
    name = escape(caption or path.stem.replace("_", " "))
    image = f"<img alt='{name}' src='../figures/{escape(path.name)}' loading=lazy>"
    return f"<figure>{image}<figcaption>{name}</figcaption></figure>"


def page(notebook: Path, out: Path) -> str:
    """One executed notebook as a page beside style.css; its title is returned. Pictures that are
    files in ../figures are linked, others embedded; no script or sheet from elsewhere."""
    import nbformat
    from nbconvert import HTMLExporter

    nb = nbformat.read(notebook, as_version=4)
    files = {p.read_bytes(): p.name for p in (out.parent.parent / "figures").glob("*.png")}
    for cell in (c for c in nb.cells if c.cell_type == "code"):
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]  # progress
        for data in (o.data for o in cell.outputs if "image/png" in o.get("data", {})):
            if name := files.get(base64.b64decode(data["image/png"])):
                del data["image/png"]
                data["text/html"] = f"<img alt='{Path(name).stem}' src='../figures/{name}'>"
    body, _ = HTMLExporter(template_name="lab", embed_images=True).from_notebook_node(nb)
    away = lambda found: "" if "http" in found[0] else found[0]
    body = re.sub(r"<script\b[^>]*>.*?</script>|<link\b[^>]*>", away, body, flags=re.S | re.I)
    head, body = body.split("</head>", 1)
    style = re.compile(r"<style\b[^>]*>(.*?)</style>", re.S)
    write_text(out.parent / "style.css", "\n".join(style.findall(head)))
    sheet = "<link rel=stylesheet href=style.css></head>"
    write_text(out, style.sub("", head) + sheet + body)
    text = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    title = re.search(r"^# (.*)", text, re.M)
    return title[1].strip() if title else notebook.stem


def _results(folder: Path) -> list[str]:
    """The headline and the tables."""
    table = read_table(folder)
    if table is None:
        lines = ["<p>No reconstruction table yet: notebook 05_reconstruction writes it.</p>"]
    else:
        lines = [f"<p><strong>{escape(verdict_line(own(table)))}</strong></p>"]
        if has_styles(table):
            lines.append(f"<p>{escape(WHY_NARROW)}</p>")
        for title, text in blocks(table):
            lines += _table(title[0].upper() + title[1:], text, level=2)
        sizes = f"95 % intervals in brackets. FID and KID in {seen_by(folder)}."
        lines.append(f"<p class=small>{escape(sizes)}</p>")
    more = {
        "De-Diffusion minus other sources, on the same test drawings": ahead(folder),
        "KID style by style, each a narrow target set": kid_by_style(folder),
        "How far the starting noise moves a row: mean and range over its draws": noises(folder),
        "FID over guidance on test drawings, read four ways": guidance_summary(folder),
        "Trained through x drawn by: paired similarity, * where the two are one": crossing(folder),
    }
    for title, text in (*more.items(), *few_shot_tables(folder)):
        lines += _table(title, text) if text is not None else []
    return lines


def _claims(folder: Path) -> list[str]:
    rows = []
    for claim in claims(folder):
        c = {key: escape(text) for key, text in claim.items()}
        small = f"<span class=small>{c['place']}. Criterion: {c['criterion']}.</span>"
        told = {"": c["id"], "claim": f"{c['statement']}<br>{small}"}
        told["verdict"] = f"<span class='{c['verdict']}'>{c['verdict']}</span>"
        rows.append(told | {"numbers": f"<span class=small>{c['numbers']}</span>"})
    return printed(pd.DataFrame(rows), "html", escape=False, classes="claims")


def _figures(folder: Path) -> list[str]:
    found = {p.stem: p for p in sorted((folder / "figures").glob("*.png"))}
    lines = ["<h2>Figures</h2>"] if found else []
    lines += [_figure(found.pop(k), caption) for k, caption in KEY_FIGURES.items() if k in found]
    if found:
        rest = map(_figure, found.values())
        lines += ["<details><summary>All other figures</summary>", *rest, "</details>"]
    return lines


def _link(folder: Path, name: str) -> str:
    """A notebook's page, made anew if the notebook has been run, as a line of the list."""
    executed, shown = folder / "notebooks" / f"{name}.ipynb", folder / "report" / f"{name}.html"
    title = None
    if executed.exists():
        title = page(executed, shown)
    elif shown.exists():  # a page stays when the notebook behind it has been deleted
        heading = re.search(r"<h1[^>]*>(.*?)<", shown.read_text(), re.S)
        title = heading and html.unescape(heading[1])
    link = f"<a href='{name}.html'>{escape(title)}</a>" if title else ""
    return f"<li>{link or f'{name}: not run in this study'}</li>"


def _parameters(path: Path) -> str:
    given = json.dumps(json.loads(path.read_text()), sort_keys=True)
    return f"<p><a href='../parameters/{path.name}'>{path.stem}</a></p><pre>{escape(given)}</pre>"


def build_report(folder: Path, notebooks) -> Path:
    """report/index.html: tables, verdicts, figures, the notebooks as pages, the parameters.
    Whatever exists is shown."""
    folder = Path(folder)
    index = folder / "report" / "index.html"
    index.parent.mkdir(parents=True, exist_ok=True)
    tables(folder)
    for plot in (curve, rate, narrow, by_style, second_look, ranking, answered, readers):
        plot(folder)
    lines = {
        "name": [escape(folder.name)],
        "results": _results(folder),
        "claims": _claims(folder),
        "figures": _figures(folder),
        "notebooks": [_link(folder, name) for name in notebooks],
        "parameters": map(_parameters, sorted((folder / "parameters").glob("*.json"))),
        "inconsistencies": [f"<li>{escape(i)}</li>" for i in published.INCONSISTENCIES],
    }
    write_text(index, PAGE.substitute({key: "\n".join(text) for key, text in lines.items()}))
    return index
