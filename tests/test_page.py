"""The page of a study: small, readable without a network, and made without torch."""

import base64
import io
import re
import subprocess
import sys

import nbformat
import pytest
from made_results import answers, table
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from dd import report

NAMES = ("01_data", "02_decoder")


def picture(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "png")
    return out.getvalue()


def shown(png: bytes):
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": "<picture>"}
    return new_output("display_data", data=data)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Results with one executed notebook, which shows a figure and another picture."""
    folder = tmp_path_factory.mktemp("results") / "quick"
    for name in ("figures", "notebooks", "parameters"):
        (folder / name).mkdir(parents=True)
    table().to_csv(folder / "reconstruction.csv", index=False)
    answers().to_csv(folder / "few_shot.csv", index=False)
    (folder / "parameters" / "01_data.json").write_text('{"seed": 0}')
    (folder / "figures" / "data_styles.png").write_bytes(picture("red"))
    progress = new_output("stream", name="stderr", text="half of it done")
    outputs = [progress, shown(picture("red")), shown(picture("blue"))]
    cells = [new_markdown_cell("# Data & more\n\nText."), new_code_cell("1 + 1", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "01_data.ipynb")
    report.build_report(folder, NAMES)
    return folder


def test_the_index_holds_tables_verdicts_figures_and_links(study):
    index = (study / "report" / "index.html").read_text()
    assert "60.0 [58.0, 62.0]" in index and "60.00 [58.80, 61.20]" in index
    assert index.count("class='holds'") > 10 and index.count("<tr class=best>") > 1
    assert "<a href='01_data.html'>Data &amp; more</a>" in index
    assert "02_decoder: not run in this study" in index and "{&quot;seed&quot;: 0}" in index
    links = re.findall(r"(?:src|href)='([^']*)'", index)
    assert "../figures/kid_within.png" in links and "../figures/data_styles.png" in links
    assert all((study / "report" / link).exists() for link in links)
    assert "base64" not in index


def test_a_notebook_page_links_figures_and_embeds_the_rest(study):
    page = (study / "report" / "01_data.html").read_text()
    assert page.count('src="../figures/data_styles.png"') == 1
    assert page.count("data:image/png;base64") == 1
    assert base64.b64encode(picture("blue")).decode() in page
    assert "half of it done" not in page
    assert not re.search(r"<(?:script|link|img)[^>]*https?:", page) and len(page) < 50_000
    assert (
        re.search("href=.?style.css", page)
        and (study / "report" / "style.css").stat().st_size > 100_000
    )


def test_a_folder_without_results_has_a_page(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "01_data.html").write_text("<h1 id=x>Data &amp; more<a>#</a></h1>")
    index = report.build_report(tmp_path, NAMES).read_text()
    assert "No reconstruction table yet" in index and index.count("class='not tested'") == len(
        report.CLAIMS
    )
    assert "<a href='01_data.html'>Data &amp; more</a>" in index  # a page outlives its notebook
    assert "02_decoder: not run in this study" in index


def test_the_report_needs_no_torch():
    heavy = ("torch", "diffusers", "transformers")
    code = f"import sys, dd.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
