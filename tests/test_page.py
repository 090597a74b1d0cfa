"""The report of a study: small, readable without a network, no link leads nowhere, and made without
torch."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from made_results import answers, table
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from dd import report
from dd.files import write_json
from dd.report.page import CAPTIONS, FIGURES

ROOT = Path(__file__).parent.parent
NAMES = ("01_data", "02_decoder", "03_encoder", "04_texts")
RUN = ("01_data", "03_encoder", "04_texts")
TEXT = r"""# 1 · Data & more: what?

A formula, $x_t = \sqrt{\bar\alpha_t}\,x$, and `code of $5 and $6`; then the
[decoder](02_decoder.ipynb), the [encoder](03_encoder.ipynb) and [more](https://example.org).

$$\tau(s) = \tau_0\,(\tau_S / \tau_0)^{s/S}$$

## What *is* `in` it"""


def picture(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "png")
    return out.getvalue()


def shown(png: bytes, **metadata):
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": "<picture>"}
    return new_output("display_data", data=data, metadata={"image/png": metadata})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Results with executed notebooks; each shows a table, a figure and another picture."""
    folder = tmp_path_factory.mktemp("results") / "quick"
    for name in ("figures", "notebooks", "parameters", "report"):
        (folder / name).mkdir(parents=True)
    table().to_csv(folder / "reconstruction.csv", index=False)
    answers().to_csv(folder / "few_shot.csv", index=False)
    (folder / "parameters" / "01_data.json").write_text('{"seed": 0}')
    for name in ("data_styles", "reconstruction_sheet", "of_mine"):
        (folder / "figures" / f"{name}.png").write_bytes(picture("red"))
    (folder / "figures" / "data_styles.png").write_bytes(picture("green"))
    progress = new_output("stream", name="stderr", text="half of it done")
    frame = new_output("display_data", data={"text/html": pd.DataFrame({"a": [1]})._repr_html_()})
    outputs = [
        progress,
        frame,
        shown(picture("green"), figure="data_styles"),
        shown(picture("blue")),
    ]
    for name in RUN:
        cells = [new_markdown_cell(TEXT), new_code_cell("1 + 1", outputs=outputs)]
        nbformat.write(new_notebook(cells=cells), folder / "notebooks" / f"{name}.ipynb")
    said = {"texts": {"names": ["a cat"]}, "sources": ["names"], "decoders": ["sketch"]}
    write_json(folder / "explore" / "explore.json", said)
    report.build_report(folder, NAMES)
    return folder


class Page(HTMLParser):
    """What a page links, loads and says outside code."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.inside, self.ids, self.rels = path, [], set(), {}
        self.links, self.loaded, self.alts, self.text, self.title = [], [], [], "", ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if tag == "a":
            self.links.append(attrs["href"])
            self.rels[attrs.get("rel")] = attrs["href"]
        else:
            self.loaded += [attrs[key] for key in ("src", "href") if key in attrs]
        if tag == "img":
            self.alts.append(attrs.get("alt") or "")
        if tag in ("title", "script", "style", "pre", "code"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if self.inside == ["title"]:
            self.title += data
        elif not self.inside:
            self.text += data


def lost(folder: Path) -> list[str]:
    """What is wrong with a report's pages, a line each."""
    pages = {p.name: Page(p) for p in (folder / "report").glob("*.html")}
    found = []
    for name, page in pages.items():
        for address in (*page.links, *page.loaded):
            if address.startswith("data:") or (address in page.links and "://" in address):
                continue
            file, _, mark = address.partition("#")
            target = (page.path.parent / unquote(file)).resolve() if file else page.path
            there = target.is_relative_to(folder.resolve()) and target.is_file()
            marked = not mark or (there and {mark, unquote(mark)} & pages[target.name].ids)
            found += [f"{name}: {address}"] * (not there or not marked)
        found += [f"{name}: alt text {a!r}" for a in page.alts if len(a.split()) < 2 or "_" in a]
        found += [f"{name}: raw TeX {t}" for t in re.findall(r"\$[^$]+\$|\\\w+", page.text)]
        found += [f"{name}: no title"] * (not page.title.strip())
        alone = name != "index.html" and not {"prev", "next"} & set(page.rels)
        found += [f"{name}: no previous and no next page"] * alone
    return found


def test_no_link_of_a_report_leads_nowhere(study):
    assert len(list((study / "report").glob("*.html"))) == 4 + len(RUN) + 1 and not lost(study)


def test_the_crawl_finds_what_is_wrong(tmp_path):
    (tmp_path / "report").mkdir()
    page = "<a href=no.html></a><a href='#no'></a><img src='https://x.org/a.png' alt=word>$x$"
    (tmp_path / "report" / "a.html").write_text(page + "<a href='https://x.org'></a>")
    assert len(lost(tmp_path)) == 7


def test_the_index_shows_what_was_found_and_links_the_rest(study):
    index = (study / "report" / "index.html").read_text()
    assert "60.00 [58.80, 61.20]" in index and index.count("<tr class=best>") == 1
    assert "paired similarity 0.400 against 0.100" in index
    assert "src='../figures/reconstruction_sheet.png'" in index
    assert index.count("<details>") == 1 + len(report.CLAIMS) and index.count("'holds'") > 10
    assert "<li><a href='01_data.html'>1 · Data &amp; more: what?</a></li>" in index
    assert "<li>02_decoder: not run in this study</li>" in index
    pages = ("tables", "figures", "parameters", "explore")
    assert all(f"<li><a href='{name}.html'>" in index for name in pages)
    assert "base64" not in index


def test_all_tables_figures_and_parameters_have_a_page(study):
    tables, figures, parameters = (
        (study / "report" / f"{name}.html").read_text()
        for name in ("tables", "figures", "parameters")
    )
    assert "60.0 [58.0, 62.0]" in tables and "Novel concepts" in tables
    assert "all but <code>what is it</code>" in tables and "inconsistencies" in tables
    assert figures.count("<figure>") == len(list((study / "figures").glob("*.png"))) > 4
    assert f"<figcaption>{CAPTIONS['data_styles']}</figcaption>" in figures
    assert "<h2>Others</h2>" in figures and "Figure: of mine" in figures
    assert "<td>seed</td>\n      <td>0</td>" in parameters


def test_pages_follow_one_another(study):
    order = [*RUN, "tables", "figures", "parameters", "explore"]
    for before, name, after in zip([None, *order], order, [*order[1:], None]):
        page = Page(study / "report" / f"{name}.html")
        assert page.links[0] == "index.html"
        assert page.rels.get("prev") == (before and f"{before}.html")
        assert page.rels.get("next") == (after and f"{after}.html")
    assert Page(study / "report" / "01_data.html").title == "1 · Data & more: what? · quick"


def test_a_notebook_page_links_figures_and_embeds_the_rest(study):
    page = (study / "report" / "01_data.html").read_text()
    assert page.count('src="../figures/data_styles.png"') == 1
    assert page.count("data:image/png;base64") == 1
    assert base64.b64encode(picture("blue")).decode() in page
    alts = Page(study / "report" / "01_data.html").alts
    assert alts == [CAPTIONS["data_styles"], "Picture of: What is in it"]
    assert "half of it done" not in page and "<style" not in page and len(page) < 12_000


def test_a_notebook_page_has_formulas_and_links_without_a_notebook(study):
    page = (study / "report" / "01_data.html").read_text()
    assert page.count("<math") == 2 and "<msqrt>" in page and 'display="block"' in page
    assert "<code>code of $5 and $6</code>" in page  # no formula
    assert '<a href="03_encoder.html">encoder</a>' in page and "the\ndecoder, the" in page
    assert '<a href="https://example.org">more</a>' in page


def test_tables_scroll(study):
    for path in (study / "report").glob("*.html"):
        text = path.read_text()
        assert text.count("<table") == len(re.findall("<div class=scroll [^>]*><table", text))


def test_a_folder_without_results_has_a_page(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "01_data.html").write_text("<h1 id=x>Data &amp; more<a>#</a></h1>")
    index = report.build_report(tmp_path, NAMES).read_text()
    assert "No reconstruction table yet" in index and index.count("class='not tested'") == len(
        report.CLAIMS
    )
    assert "<a href='01_data.html'>Data &amp; more</a>" in index  # a page outlives its notebook
    assert "02_decoder: not run in this study" in index and "explore" not in index


def test_every_figure_has_a_caption():
    rows = [line.split("|") for line in (ROOT / "docs" / "files.md").read_text().splitlines()]
    made = {r[1].split("`")[1]: r[3] for r in rows if len(r) > 3 and "`" in r[1]}
    for name, files in made.items():
        assert set(re.findall(r"`(?:figures/)?([a-z][\w-]+)`", files)) == set(FIGURES[name]), name
    shipped = (ROOT / "results" / "full" / "figures").glob("*.png")
    assert {p.stem for p in shipped} <= set(CAPTIONS)
    assert all(len(told.split()) > 2 for told in CAPTIONS.values())


def test_the_report_needs_no_torch():
    heavy = ("torch", "diffusers", "transformers")
    code = f"import sys, dd.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
