"""The report of a study: report/index.html shows what was found and links the other pages. Readable
from disk without a network; pictures stay in figures/ and are linked."""

import html
import json
import re
from functools import partial
from pathlib import Path
from string import Template

import pandas as pd
import yaml

from .. import published
from ..files import read_json, write_json, write_text
from ..sources import SOURCES
from .claims import claims
from .plots import answered, by_style, curve, narrow, ranking, rate, readers, second_look
from .tables import (
    FEW_SHOT_NOTES,
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
    short,
    source_table,
    tables,
    verdict_line,
    worded,
)

HERE = Path(__file__).parent
FIGURES = yaml.safe_load((HERE / "captions.yaml").read_text())  # notebook: {figure: caption}
CAPTIONS = {stem: told for figures in FIGURES.values() for stem, told in figures.items()}
PAGE, INDEX, EXPLORE = (
    Template((HERE / f"{name}.html").read_text()) for name in ("page", "index", "explore")
)
LEGEND = (
    "FID and KID: how far the pictures, as a set, are from the originals; lower is better. Paired: "
    "how similar a picture is to its own original, on average; R@1: how often that original is the "
    "nearest of all; higher is better. 95 % intervals in brackets."
)
escape = html.escape


def caption(stem: str, folder: Path) -> str:
    """What a study's figure of this name shows."""
    told = CAPTIONS.get(stem)
    return worded(told, folder) if told else f"Figure: {stem.replace('_', ' ')}"


def image(source: str, alt: str) -> str:
    """A picture; one that is a file leads to itself at full size."""
    shown = f"<img alt='{escape(alt)}' src='{escape(source)}'>"
    return shown if source.startswith("data:") else f"<a href='{escape(source)}'>{shown}</a>"


def _figure(stem: str, folder: Path) -> str:
    told = caption(stem, folder)
    shown = image(f"../figures/{stem}.png", told)
    return f"<figure>{shown}<figcaption>{escape(told)}</figcaption></figure>"


def _link(name: str, title: str, rel: str = "") -> str:
    return f"<a href='{name}.html'{rel and f' rel={rel}'}>{escape(title)}</a>"


def _finding(folder: Path) -> list[str]:
    """The headline, its picture, and the table of the test drawings."""
    table, sheet = read_table(folder), "reconstruction_sheet"
    lines = [_figure(sheet, folder)] if (folder / "figures" / f"{sheet}.png").exists() else []
    if table is None:
        return [*lines, "<p>No reconstruction table yet: notebook 05_reconstruction writes it.</p>"]
    small = [f"{LEGEND} FID and KID in {seen_by(folder)}."]
    small += [WHY_NARROW] if has_styles(table) else []
    return [
        *lines,
        f"<div><p class=headline>{escape(verdict_line(own(table)))}</p>",
        *printed(source_table(own(table), "test"), "html", classes="numbers"),
        *(f"<p class=small>{escape(text)}</p>" for text in small),
        "</div>",
    ]


def _claims(found: list[dict]) -> list[str]:
    """One line a claim, which opens."""
    rows = []
    for claim in found:
        c = {key: escape(text) for key, text in claim.items()}
        more = f"In the paper: {c['place']}. Criterion: {c['criterion']}."
        more += f"<br>Numbers: {c['numbers']}."
        told = f"<details><summary>{c['statement']}</summary>{more}</details>"
        verdict = f"<span class='{c['verdict']}'>{c['verdict']}</span>"
        rows.append({"claim": c["id"], "verdict": verdict, "statement": told})
    return printed(pd.DataFrame(rows), "html", escape=False, classes="claims")


def _tables(folder: Path) -> list[str]:
    """Every table, and the paper's own inconsistencies."""
    table = read_table(folder)
    found = {} if table is None else dict(blocks(table))
    on = lambda text: worded(text, folder)
    found |= {
        on("De-Diffusion minus other sources, on the same test drawings"): ahead(folder),
        "KID style by style, each a narrow target set": kid_by_style(folder),
        "How far the starting noise moves a row: mean and range over its draws": noises(folder),
        on("FID over guidance on test drawings, read four ways"): guidance_summary(folder),
        "Trained through x drawn by: paired similarity, * where the two are one": crossing(folder),
    }
    found |= dict(few_shot_tables(folder))
    sections = {}
    for title, text in found.items():
        if text is not None:
            head = re.sub("`(.*?)`", r"<code>\1</code>", escape(title[0].upper() + title[1:]))
            sections[head] = printed(text, "html", classes="numbers")
    known = [f"<li>{escape(i)}</li>" for i in published.INCONSISTENCIES]
    sections["The paper's own inconsistencies"] = ["<ul>", *known, "</ul>"]
    notes = f"{LEGEND} FID and KID in {seen_by(folder)}. Of language models: {FEW_SHOT_NOTES}"
    lines = ["<h1>All tables</h1>", "<ul>"]
    lines += [f"<li><a href='#s{k}'>{head}</a></li>" for k, head in enumerate(sections)]
    lines += ["</ul>", f"<p class=small>{escape(notes)}</p>"]
    for k, (head, section) in enumerate(sections.items()):
        lines += [f"<h2 id=s{k}>{head}</h2>", *section]
    return lines


def _figures(folder: Path, pages) -> list[str]:
    """Every figure with its caption, by the notebook that makes it."""
    left = {p.stem for p in (folder / "figures").glob("*.png")}
    lines, figure = ["<h1>All figures</h1>"], partial(_figure, folder=folder)
    for name, figures in FIGURES.items():
        shown = [stem for stem in figures if stem in left]
        left -= set(shown)
        head = _link(name, pages[name][0]) if name in pages else name
        lines += [f"<h2>{head}</h2>", *map(figure, shown)] if shown else []
    return [*lines, *(["<h2>Others</h2>", *map(figure, sorted(left))] if left else [])]


def _parameters(folder: Path) -> list[str]:
    """What each notebook was given."""
    lines = ["<h1>Parameters</h1>"]
    for path in sorted((folder / "parameters").glob("*.json")):
        given = {name: json.dumps(value) for name, value in sorted(read_json(path).items())}
        table = pd.DataFrame({"parameter": given.keys(), "value": given.values()})
        lines += [f"<h2><a href='../parameters/{path.name}'>{path.stem}</a></h2>"]
        lines += printed(table, "html", classes="parameters")
    return lines


def _notebooks(folder: Path, names: list[str]) -> dict[str, tuple[str, str | None]]:
    """{notebook: (title, body)} of those that have a page: if it has been run, a new one, else the
    one that is there, without body."""
    from . import notebooks  # nbconvert, which takes a second to import

    executed = {n: folder / "notebooks" / f"{n}.ipynb" for n in names}
    read = {n: notebooks.read(path) for n, path in executed.items() if path.exists()}
    there = [n for n in names if n in read or (folder / "report" / f"{n}.html").exists()]
    pages = {}
    for name in there:
        if name in read:  # a page stays when the notebook behind it has been deleted
            nb, title = read[name]
            pages[name] = title, notebooks.body(nb, folder / "figures", there)
        else:
            kept = (folder / "report" / f"{name}.html").read_text()
            heading = re.search(r"<h1[^>]*>(.*?)<", kept, re.S)
            pages[name] = html.unescape(heading[1]) if heading else name, None
    return pages


def _explored(folder: Path) -> str | None:
    """Some test drawings, what every source says of them and what every decoder draws from that:
    JSON that the page holds, for one opened from disk may read no file (the sheets of pictures are
    linked). None where notebook 6 has not written explore/."""
    path = folder / "explore" / "explore.json"
    if not path.exists():
        return None
    told = read_json(path)
    looks = [SOURCES[s] for s in told["sources"]]
    facts = [dict(key=s.key, label=s.label, family=s.family, colour=s.colour) for s in looks]
    told["sources"] = facts
    told["decoders"] = [dict(name=name, label=short(name)) for name in told["decoders"]]
    return json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")  # no text ends the script


def _write(out: Path, title: str, nav: list[str], body: str) -> None:
    """A page; its tables stand in boxes that scroll."""
    box = r"<div class=scroll role=region aria-label=table tabindex=0>\g<0></div>"
    body = re.sub(r"<table\b.*?</table>", box, body, flags=re.S)
    write_text(out, PAGE.substitute(title=escape(title), nav="\n".join(nav), body=body))


def _index(folder: Path, links: list[str]) -> str:
    write_json(folder / "claims.json", found := claims(folder))
    given = [c["verdict"] for c in found]
    told = {"holds": "hold", "does not hold": "do not", "not tested": "were not tested"}
    counts = [f"{given.count(verdict)} {word}" for verdict, word in told.items()]
    lines = {"finding": _finding(folder), "claims": _claims(found), "pages": links}
    text = {key: "\n".join(part) for key, part in lines.items()}
    text |= {"name": escape(folder.name), "all": len(found), "counts": ", ".join(counts)}
    return INDEX.substitute(text)


def build_report(folder: Path, notebooks) -> Path:
    """report/index.html, a page for each notebook, and one for all tables, all figures, and the
    parameters. Whatever exists is shown."""
    folder = Path(folder)
    out = folder / "report"
    out.mkdir(parents=True, exist_ok=True)
    tables(folder)
    for plot in (curve, rate, narrow, by_style, second_look, ranking, answered, readers):
        plot(folder)
    pages = _notebooks(folder, notebooks)  # name: (title, body)
    pages["tables"] = "All tables", "\n".join(_tables(folder))
    pages["figures"] = "All figures", "\n".join(_figures(folder, pages))
    pages["parameters"] = "Parameters", "\n".join(_parameters(folder))
    if (data := _explored(folder)) or (out / "explore.html").exists():
        pages["explore"] = "Explore the pictures", data
    title = {name: head for name, (head, _) in pages.items()}
    near = {name: head.split(":")[0] for name, head in title.items()}
    order = list(pages)
    for before, name, after in zip([None, *order], order, [*order[1:], None]):
        nav = [_link("index", f"Study {folder.name}")]
        nav += [_link(before, f"← {near[before]}", "prev")] if before else []
        nav += [_link(after, f"{near[after]} →", "next")] if after else []
        if (body := pages[name][1]) is None:  # the page that is there stays
            continue
        if name == "explore":
            held = dict(name=escape(folder.name), nav="\n".join(nav), data=body)
            write_text(out / "explore.html", EXPLORE.substitute(held))
        else:
            _write(out / f"{name}.html", f"{title[name]} · {folder.name}", nav, body)
    listed = [*notebooks, *(name for name in title if name not in notebooks)]
    link = lambda n: _link(n, title[n]) if n in title else f"{n}: not run in this study"
    nav = ["<a href='#verdicts'>Verdicts</a>", "<a href='#pages'>Pages</a>"]
    nav += [_link(name, title[name]) for name in listed if name in title and name not in notebooks]
    body = _index(folder, [f"<li>{link(name)}</li>" for name in listed])
    write_text(out / "style.css", (HERE / "style.css").read_text())
    _write(out / "index.html", f"De-Diffusion: {folder.name}", nav, body)
    return out / "index.html"
