"""From result files to verdicts: a flipped comparison or a lost column must not pass."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_results import answers, crossed, curve, gaps, judged, searched, table, verdicts

from dd import report

ROOT = Path(__file__).parent.parent
FULL = ROOT / "results" / "full"


def numbered(*numbers) -> set[str]:
    return {f"C{i}" for i in numbers}


def those(found: dict[str, str], verdict: str) -> set[str]:
    return {c for c, v in found.items() if v == verdict}


def test_the_full_study_says_what_its_claims_file_says(tmp_path):
    for path in FULL.glob("*.csv"):
        shutil.copy(path, tmp_path)
    stored, shown = json.loads((FULL / "claims.json").read_text()), report.verdicts(tmp_path)
    assert report.claims(tmp_path) == stored and len(shown) == len(stored)
    assert stored == json.loads((tmp_path / "claims.json").read_text())
    readme = (ROOT / "results" / "README.md").read_text()
    for c in stored:
        assert f"| {c['id']} | {c['statement']} | **{c['verdict']}** |" in readme, c["id"]


WITHDRAWN = (24, 38, 41, 43)  # results/README.md says why
LANGUAGE = numbered(13, 23, *range(25, 29), 42, *range(44, 47))


def test_a_notebook_shows_its_own_claims(tmp_path):
    notebooks = {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(c["notebooks"] and set(c["notebooks"]) <= notebooks for c in report.CLAIMS)
    table().to_csv(tmp_path / "reconstruction.csv", index=False)
    assert list(report.verdicts(tmp_path)["id"]) == [
        f"C{i}" for i in range(1, 58) if i not in WITHDRAWN
    ]
    shown = report.verdicts(tmp_path, "08_language")
    assert set(shown["id"]) == LANGUAGE
    assert set(shown["verdict"]) == {"not tested"} and all(shown["numbers"])


def test_results_as_the_paper_has_them(tmp_path):
    found = verdicts(tmp_path, table())
    held = numbered(*range(1, 12), 19, 21, 22, 29, 31, 32, 49, 51, 52)
    assert those(found, "holds") == held and those(found, "not tested") == set(found) - held


@pytest.mark.parametrize(
    "claim, changed",
    [
        ("C1", dict(dediffusion=(99, 3.0, 0.4))),
        ("C2", dict(dediffusion=(89, 3.0, 0.4))),
        ("C3", dict(dediffusion=(60, 4.45, 0.4))),
        ("C4", dict(dediffusion=(60, 3.0, 0.1))),
        ("C5", dict(shuffled=(90, 3.0, 0.01))),
        ("C5", dict(shuffled=(60, 3.0, 0.2))),
        ("C6", dict(alt_text=(99, 3.5, 0.3))),
        ("C6", dict(alt_text=(70, 3.5, 0.1))),
        ("C7", dict(autoencoder=(17, 0.1, 0.9))),
        ("C10", dict(dediffusion=(120, 3.0, 0.4))),
        ("C19", dict(captioner_detailed=(61, 4.0, 0.28))),
        ("C21", dict(captioner_detailed=(105, 4.0, 0.4))),
        ("C22", dict(names_all=(61, 4.8, 0.13))),
        ("C29", dict(names=(100, 5.0, 0.1, 6.1))),
        ("C29", dict(names_keywords=(90, 4.5, 0.12, 6.1))),
        ("C31", dict(shuffled=(61, 3.0, 0.01, 6.0))),
        ("C32", dict(captioner_detailed=(105, 4.0, 0.28, 6.1))),
        ("C49", dict(names_style=(92, 4.6, 0.12, 6.1))),
        ("C51", dict(names=(61, 5.0, 0.1))),
        ("C51", dict(names_keywords=(61, 4.5, 0.12))),
        ("C52", dict(names=(100, 5.0, 0.4))),
        ("C52", dict(shuffled=(61, 3.0, 0.4))),
    ],
)
def test_each_claim_can_fail(tmp_path, claim, changed):
    assert verdicts(tmp_path, table(**changed))[claim] == "does not hold"


@pytest.mark.parametrize(
    "fids, people, verdict",
    [
        ((90, 80, 70, 60), 75, "holds"),
        ((90, 80, 70, 71), 75, "does not hold"),
        ((90, 80, 70, 60), 65, "does not hold"),
    ],
)
def test_the_lengths_decide_a_claim(tmp_path, fids, people, verdict):
    rows = [("names", 0, people), *(("dediffusion", n, f) for n, f in zip((4, 8, 16, 24), fids))]
    lengths = pd.DataFrame(rows, columns=["source", "tokens", "fid"])
    lengths.to_csv(tmp_path / "lengths.csv", index=False)
    assert verdicts(tmp_path, table())["C14"] == verdict


@pytest.mark.parametrize(
    "again, verdict",
    [
        (dict(), "holds"),
        (dict(names=(55, 5.0, 0.10)), "does not hold"),
        (dict(names=(100, 5.0, 0.50)), "does not hold"),
        (dict(names_all=(61, 4.8, 0.13)), "holds"),  # nearer, and on the same side
        (dict(shuffled=(59, 3.0, 0.01)), "holds"),  # not people's
    ],
)
def test_other_noise_and_another_network_must_keep_the_order(tmp_path, again, verdict):
    more = table(**again)
    more = more[more["split"] == "test"].assign(seed=1)
    found = verdicts(tmp_path, pd.concat([table(), more], ignore_index=True))
    assert found["C33"] == verdict and found["C34"] == "not tested"
    assert found["C1"] == "holds"  # the first noise makes the tables
    second = more.drop(columns=[c for c in more if c.startswith("kid_within")]).assign(seed=0)
    second.to_csv(tmp_path / "second_eye.csv", index=False)
    found = verdicts(tmp_path, table())
    assert found["C34"] == verdict and found["C33"] == "not tested"


@pytest.mark.parametrize("away, verdict", [(0.2, "holds"), (0.31, "does not hold")])
def test_every_decoder_must_prefer_its_own_encoder(tmp_path, away, verdict):
    crossed(away).to_csv(tmp_path / "crossed.csv", index=False)
    assert verdicts(tmp_path, table())["C35"] == verdict


def test_machines_that_search_are_baselines(tmp_path):
    machines = {s: (100, 5.0, 0.2) for s in ("retrieval", "interrogator", "pez")}
    found = verdicts(tmp_path, table(**machines))
    assert found["C36"] == "holds" and found["C37"] == "not tested"
    for s in machines:
        found = verdicts(tmp_path, table(**{**machines, s: (100, 5.0, 0.4)}))
        assert found["C36"] == "does not hold"


@pytest.mark.parametrize(
    "changed, fails",
    [
        (dict(), set()),
        (dict(names_all=("fid", -1.0)), {"C54"}),  # the interval reaches zero
        (dict(names=("kid_within", -1.0)), {"C54"}),
        (dict(names_keywords=("paired", 0.01)), {"C54"}),
        (dict(captioner_detailed=("fid", 9.0)), {"C56"}),
        (dict(names_style=("paired", -0.2)), {"C57"}),
    ],
)
def test_the_differences_decide_four_claims(tmp_path, changed, fails):
    own = gaps(**changed)
    own.to_csv(tmp_path / "differences.csv", index=False)
    claims = numbered(*range(54, 58))
    found = {c: v for c, v in verdicts(tmp_path, table()).items() if c in claims}
    assert those(found, "does not hold") == fails and found.pop("C55") == "not tested"
    assert those(found, "holds") == set(found) - fails
    pd.concat([own, gaps(**changed).assign(decoder="judge-a")]).to_csv(
        tmp_path / "differences.csv", index=False
    )
    verdict = "does not hold" if "C54" in fails else "holds"
    assert verdicts(tmp_path, table())["C55"] == verdict
    pd.concat([gaps(), own.assign(decoder="judge-a")]).to_csv(
        tmp_path / "differences.csv", index=False
    )
    found = verdicts(tmp_path, table())
    assert found["C54"] == "holds" and found["C55"] == verdict


def test_the_sweep_decides_three_claims(tmp_path):
    rows = table()
    ours = (rows["split"] == "val") & (rows["source"] == "dediffusion")
    rows.loc[ours & (rows["guidance"] == 6.0), "fid"] = 130
    found = verdicts(tmp_path, rows)
    assert found["C8"] == found["C11"] == "does not hold" and found["C9"] == "holds"
    rows.loc[ours & (rows["guidance"] == 1.5), "fid"] = 70
    assert verdicts(tmp_path, rows)["C9"] == "does not hold"
    found = verdicts(tmp_path, rows[rows["split"] != "val"])
    assert {found[c] for c in ("C8", "C9", "C11")} == {"not tested"}


@pytest.mark.parametrize("at_three, verdict", [(60.0, "holds"), (95.0, "does not hold")])
def test_the_curve_on_test_drawings_decides_two_claims(tmp_path, at_three, verdict):
    once = pd.concat([table(), curve(at_three)], ignore_index=True)  # names_all has 90 there
    found = verdicts(tmp_path, once)
    assert found["C39"] == verdict and found["C40"] == "not tested" and found["C1"] == "holds"
    both = pd.concat([once, once.assign(decoder="judge-a")], ignore_index=True)
    assert verdicts(tmp_path, both)["C40"] == verdict


def test_another_decoder_is_the_third_party(tmp_path):
    found = verdicts(tmp_path, judged("judge-a", "judge-b"))
    assert those(found, "holds") == numbered(
        *range(1, 13), *range(15, 23), *range(29, 33), 49, *range(51, 54)
    )


@pytest.mark.parametrize(
    "found, fails",
    [
        (dict(), set()),
        (dict(names=(100, 5.0, 0.1, 6.1)), {"C47"}),
        (dict(shuffled=(61, 3.0, 0.01, 6.1)), {"C47"}),
        (dict(concept=0.21), {"C48"}),
        (dict(names_style=(92, 4.6, 0.12, 6.1)), {"C50"}),
        (dict(dediffusion=(900, 3.0, 0.4)), set()),  # worst by FID, which no claim of search asks
    ],
)
def test_what_search_finds_decides_its_own_claims_and_no_judge_s(tmp_path, found, fails):
    rows = pd.concat([table(), searched(**found)], ignore_index=True)
    told = verdicts(tmp_path, rows)
    searches = numbered(47, 48, 50)
    assert {c for c in searches if told[c] == "does not hold"} == fails
    assert {c for c in searches if told[c] == "holds"} == searches - fails
    assert {told[c] for c in numbered(12, *range(15, 19), 20, 30)} == {"not tested"}
    alone = verdicts(tmp_path, table())
    assert {alone[c] for c in searches} == {"not tested"}
    assert {c: v for c, v in alone.items() if c not in searches} == {
        c: v for c, v in told.items() if c not in searches
    }


@pytest.mark.parametrize(
    "source, score, value, fails",
    [
        ("dediffusion", "fid", 95, {"C15"}),
        ("dediffusion", "fid", 200, {"C12", "C15", "C20"}),
        ("captioner_detailed", "fid", 61, {"C20"}),
        ("dediffusion", "kid", 9, {"C15"}),
        ("dediffusion", "kid_within", 9, {"C30"}),
        ("dediffusion", "paired", 0.11, {"C16"}),
        ("empty", "fid", 60, {"C17"}),
        ("empty", "paired", 0.4, {"C17"}),
        ("shuffled", "paired", 0.2, {"C18"}),
        ("shuffled", "paired", 0.41, {"C18"}),
        ("dediffusion", "paired", -0.2, {"C16", "C18"}),
    ],
)
def test_one_judge_that_disagrees_is_enough(tmp_path, source, score, value, fails):
    rows = judged("judge-a", "judge-b")
    at = (rows.decoder == "judge-b") & (rows.split == "test") & (rows.source == source)
    rows.loc[at, score] = value
    rows.loc[at, [f"{score}_lo", f"{score}_hi"]] = [value - 1e-3, value + 1e-3]
    found = verdicts(tmp_path, rows)
    assert those(found, "does not hold") == fails
    if "C17" in fails:  # a judge that cannot judge is heard on nothing else
        assert {found[c] for c in numbered(12, 15, 16, 18, 20, 30)} == {"not tested"}
    # a judge's rows say nothing of the decoder trained through
    assert {found[c] for c in numbered(*range(1, 12))} == {"holds"}


def test_one_judge_of_the_outside_drawings_is_enough(tmp_path):
    rows = judged("judge-a", "judge-b")
    at = (rows.decoder == "judge-b") & (rows.split == "outside") & (rows.source == "names")
    rows.loc[at, "fid_lo"] = 1.0
    found = verdicts(tmp_path, rows)
    assert found["C53"] == "does not hold" and found["C51"] == "holds"


def test_a_judge_without_a_row_is_no_verdict(tmp_path):
    rows = judged("judge-a")
    found = verdicts(tmp_path, rows[(rows.decoder == "sketch") | (rows.source != "names_keywords")])
    assert found["C12"] == "holds" and found["C15"] == found["C16"] == "not tested"
    rows = judged(
        "judge-a", "judge-b"
    )  # one disagrees, the other lacks a row: refuted all the same
    rows = rows[(rows.decoder != "judge-b") | (rows.source != "names_keywords")]
    at = (rows.decoder == "judge-a") & (rows.source == "dediffusion")
    rows.loc[at, [c for c in rows if c.startswith("kid")]] = 19
    assert verdicts(tmp_path, rows)["C15"] == "does not hold"


def test_missing_rows_are_not_a_verdict(tmp_path):
    rows = table()
    found = verdicts(tmp_path, rows[rows.source != "dediffusion"])
    assert {found[c] for c in numbered(*range(1, 6))} == {"not tested"}
    assert report.claims(tmp_path)[0]["numbers"] == "no row for dediffusion on test"
    found = verdicts(tmp_path, rows.drop(columns=[c for c in rows if c.startswith("kid_within")]))
    assert {found[c] for c in ("C29", "C31", "C32")} == {"not tested"} and found["C1"] == "holds"


def language(folder, rows):
    rows.to_csv(folder / "few_shot.csv", index=False)
    return {c: v for c, v in verdicts(folder, table()).items() if c in LANGUAGE}


def test_language_claims_hold_as_the_paper_has_them(tmp_path):
    found = language(tmp_path, answers())
    assert those(found, "not tested") == {"C44", "C45"}
    assert those(found, "holds") == LANGUAGE - {"C44", "C45"}


@pytest.mark.parametrize(
    "changed, fails",
    [
        (dict(empty=0.59), {"C13", "C27"}),
        (dict(names=0.59), {"C23"}),
        (dict(shuffled=0.59), {"C25"}),
        (dict(empty=0.7), {"C13", "C27", "C28"}),
        (dict(alt_text=0.33), {"C42"}),
        (dict(commonest=0.59), {"C46"}),
    ],
)
def test_each_language_claim_can_fail(tmp_path, changed, fails):
    assert those(language(tmp_path, answers(**changed)), "does not hold") == fails


def test_shots_and_induction_can_fail(tmp_path):
    rows, score = answers(), ["score", "lo", "hi"]
    ours = rows.context == "dediffusion"
    rows.loc[ours & (rows.shots == 16), score] = [0.5, 0.48, 0.52]
    assert language(tmp_path, rows)["C26"] == "does not hold"
    rows = answers()
    rows.loc[ours & rows.induction & (rows.ways == 5), score] = [0.61, 0.59, 0.63]
    assert language(tmp_path, rows)["C27"] == "does not hold"


@pytest.mark.parametrize(
    "second, found",  # C44: the order is kept; C45: the captioner's text answers more
    [
        (dict(captioner_detailed=0.7), ("holds", "holds")),
        (dict(captioner_detailed=0.61), ("holds", "does not hold")),
        # below names, which the first puts below it
        (dict(captioner_detailed=0.7, dediffusion=0.49), ("does not hold", "holds")),
    ],
)
def test_two_readers_are_compared(tmp_path, second, found):
    more = answers(**second).assign(model="n")
    told = language(tmp_path, pd.concat([answers(captioner_detailed=0.7), more]))
    assert (told["C44"], told["C45"]) == found


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("reconstruction", b"", "reconstruction.csv: no table of results (No columns to parse"),
        ("reconstruction", b"\xff\xfe\x00\x81", "reconstruction.csv: no table of results ("),
        ("reconstruction", b"split,fid\ntest,3\n", "no table of this study (source, decoder, seed"),
        ("few_shot", b"a,b\n1,2\n", "few_shot: a table without 'seed', which C"),
    ],
)
def test_a_table_of_something_else_is_refused_by_name(
    name, content, message, refused, tmp_path, monkeypatch
):
    """By `claims` and, where it reads it, `check`: one line, no traceback."""
    monkeypatch.setenv("DD_RESULTS", str(tmp_path))
    (tmp_path / "mine" / "parameters").mkdir(parents=True)
    (tmp_path / "mine" / "parameters" / "05_reconstruction.json").write_text('{"seed": 0}')
    (tmp_path / "mine" / f"{name}.csv").write_bytes(content)
    assert message in refused("claims", "mine")
    assert name == "few_shot" or message in refused("check", "mine")
