"""Tables say what the result files say, in every form."""

import re
import shutil
from pathlib import Path

import fill_tables
import pandas as pd
import pytest
from made_results import (
    GOOD,
    answers,
    by_style,
    crossed,
    curve,
    differences,
    judged,
    searched,
    table,
)

from dd import report
from dd.report.tables import printed
from dd.sources import LABELS

ROOT = Path(__file__).parent.parent
FULL = ROOT / "results" / "full"


def test_the_full_study_has_the_tables_of_its_files(tmp_path):
    for path in FULL.glob("*.csv"):
        shutil.copy(path, tmp_path)
    report.tables(tmp_path)
    stored = {p.name: p.read_text().split() for p in (FULL / "tables").iterdir()}
    assert {p.name: p.read_text().split() for p in (tmp_path / "tables").iterdir()} == stored


def test_the_pages_show_what_the_study_found():
    """No number in the tables of README.md and results/README.md that results/full did not make,
    and every table is shown on one of them."""
    times = lambda: {p: p.stat().st_mtime_ns for p in FULL.rglob("*") if p.is_file()}
    pages, before = [(ROOT / page).read_text() for page in fill_tables.PAGES], times()
    for text in pages:
        assert fill_tables.filled(text) == text, "run `python tools/fill_tables.py`"
    assert times() == before  # a check writes nothing
    shown = {place["name"] for text in pages for place in fill_tables.PLACE.finditer(text)}
    assert shown == set(fill_tables.TABLES)
    stale = re.sub(r"(\| De-Diffusion \|[^\n]*?)\d", r"\g<1>x", pages[0], count=1)
    assert stale != pages[0] and fill_tables.filled(stale) == pages[0]


def test_tables_say_what_the_csv_says(tmp_path):
    table().to_csv(tmp_path / "reconstruction.csv", index=False)
    md, tex = (p.read_text() for p in report.tables(tmp_path))
    scores = ("60.00 [58.80, 61.20]", "6.00 [5.88, 6.12]", "3.00 [2.94, 3.06]")
    row = ("De-Diffusion", "3", *scores, "0.400 [0.392, 0.408]", "10.0", "400")
    assert f"| {' | '.join(row)} |" in md and f"{' & '.join(row)} \\\\" in tex
    assert tex.count(r"\\") >= 14 and tex.count(r"R@1 \% & n") == 1
    (_, text), *_ = report.blocks(report.read_table(tmp_path))
    page = "".join(printed(text, "html"))
    assert page.count("<tr class=best>") == 1 and all(f"<td>{cell}</td>" in page for cell in row)
    assert "as a set, FID 60.0 against 100.0 (intervals apart)" in report.headline(tmp_path)
    assert "De-Diffusion, shuffled" in report.headline(tmp_path)


def test_long_cells_are_whole_in_every_form():
    text = pd.DataFrame([{"a": "word " * 30 + "end", "b_%": "-"}])
    assert all("word end" in "".join(printed(text, form)) for form in ("md", "tex", "html"))
    assert printed(text, "tex")[0].startswith(r"a & b\_\%")


def test_tables_name_the_decoder(tmp_path):
    judged("judge-a").to_csv(tmp_path / "reconstruction.csv", index=False)
    titles = [title for title, _ in report.blocks(report.read_table(tmp_path))]
    judge = ", drawn by judge-a"
    own = ["test drawings", "novel concepts", "outside drawings"]
    assert titles == [*own, own[0] + judge, own[2] + judge]
    md = report.tables(tmp_path)[0].read_text()
    assert all(f"**{title}**" in md for title in titles)
    assert report.headline(tmp_path).count("De-Diffusion, shuffled") == 1


def test_what_search_finds_has_a_table_like_a_judge_s(tmp_path):
    rows = pd.concat([judged("judge-a"), searched()])
    rows.to_csv(tmp_path / "reconstruction.csv", index=False)
    *others, (title, text) = report.blocks(report.read_table(tmp_path))
    assert title == "test drawings, found by search"
    right = ["right concept %", "right style %"]
    assert list(text.columns.drop(right)) == list(others[0][1].columns)
    ours = text.set_index("text source").loc["De-Diffusion"]
    assert ours["guidance"] == "-" and ours["right concept %"] == "30.0 [28.0, 32.0]"


def test_narrow_sets_stand_beside_the_whole_and_one_by_one(tmp_path):
    table().to_csv(tmp_path / "reconstruction.csv", index=False)
    md = report.tables(tmp_path)[0].read_text()
    assert md.startswith("FID is of the whole mixture") and "| FID | KID in a style |" in md
    assert md.split("\n")[0].count(". ") == 1  # two sentences
    assert report.kid_by_style(tmp_path) is None
    assert not (tmp_path / "tables" / "kid_by_style.md").exists()
    by_style().to_csv(tmp_path / "kid_by_style.csv", index=False)
    text = report.kid_by_style(tmp_path).set_index(["by", "style"])
    assert text.loc[("search", "noto"), "De-Diffusion"] == "1.00 [0.90, 1.10]"
    assert text.loc[("sketch", "twemoji"), LABELS["names"]] == "3.00 [2.90, 3.10]"
    report.tables(tmp_path)
    assert "| sketch | noto | 40 |" in (tmp_path / "tables" / "kid_by_style.md").read_text()


def test_noise_moves_rows_that_were_drawn_twice(tmp_path):
    again = table(names=(110, 5.0, 0.10)).query("split == 'test'").assign(seed=1)
    pd.concat([table(), again]).to_csv(tmp_path / "reconstruction.csv", index=False)
    noises = report.noises(tmp_path).set_index("text source")
    assert len(noises) == len(GOOD) and set(noises["draws"]) == {"2"}
    assert noises.loc[LABELS["names"], "FID"] == "105.0 [100.0, 110.0]"
    table().to_csv(tmp_path / "reconstruction.csv", index=False)
    assert report.noises(tmp_path) is None


def test_the_crossing_marks_who_was_trained_through_whom(tmp_path):
    assert report.crossing(tmp_path) is None
    crossed(0.2).to_csv(tmp_path / "crossed.csv", index=False)
    square = report.crossing(tmp_path).set_index("trained through")
    assert square.loc["judge-a", "drawn by sketch"] == "0.200 [0.190, 0.210]"
    assert square.loc["sketch", "drawn by sketch"] == "0.300 [0.290, 0.310] *"


@pytest.mark.parametrize("at_three", [60.0, 95.0])
def test_the_guidance_summary_reads_the_curve(tmp_path, at_three):
    rows = pd.concat([table(), curve(at_three)])
    rows = pd.concat([rows, rows.assign(decoder="judge-a")])
    rows.to_csv(tmp_path / "reconstruction.csv", index=False)
    summary = report.guidance_summary(tmp_path).query("`drawn by` == 'judge-a'")
    summary = summary.set_index("text source")
    assert summary.loc[LABELS["names_all"], "best"] == "90.0 at 3"
    assert summary.loc[LABELS["names"], "at 1.5"] == "100.0"
    crosses = summary["De-Diffusion crosses"]
    assert crosses[LABELS["names"]] == f"{1.5 + 1.5 * 20 / (120 - at_three):.1f}"
    assert crosses[LABELS["dediffusion"]] == "-"


def test_few_shot_tables_are_the_csv(tmp_path):
    rows = answers()
    rows.loc[rows.context == "names", "leak"] = True
    rows.to_csv(tmp_path / "few_shot.csv", index=False)
    differences().to_csv(tmp_path / "few_shot_differences.csv", index=False)
    titles = " ".join(title for title, _ in report.few_shot_tables(tmp_path))
    report.tables(tmp_path)
    assert titles.count("minus") == 2 and titles.count("by kind") == 2
    assert titles.count("Captions") == titles.count("classification") == 1
    whole = (tmp_path / "tables" / "few_shot.md").read_text()
    before, shots, kinds = whole.split("minus")
    alt_text = "| alt text (oracle) | -30.0 [-32.0, -28.0]* | -30.0 [-32.0, -28.0]* |"
    empty = "| empty text (control) | +25.0 [+23.0, +27.0] | +25.0 [+23.0, +27.0] |"
    assert f"{alt_text}\n{empty}" in shots
    assert "| empty text (control) | +26.0 [+24.0, +28.0] |" in kinds
    ours = "| De-Diffusion | 50.0 [48.0, 52.0] | 60.0 [58.0, 62.0] | 60.0 [58.0, 62.0] |"
    assert "| context | pseudo-examples | 4 examples | 16 examples |" in before
    assert ours in before and "50.0 [48.0, 52.0]*" in before
    assert "60.0 [58.0, 62.0]" in (tmp_path / "tables" / "few_shot.tex").read_text()
