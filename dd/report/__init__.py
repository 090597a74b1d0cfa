"""From result files to tables, figures, verdicts and pages to read. Knows results only: no model
is loaded, nothing is computed anew, torch is never imported.

    headline(folder)                       # the table of the test drawings, and one verdict
    claims(folder)                         # every claim -> holds | does not hold | not tested
    verdicts(folder, "06_judges")          # those that a notebook shows, as a frame
    build_report(folder, notebooks)        # results/<study>/report/index.html

What a study lacks (no sweep in `quick`, a notebook not yet run) is left out, never an error.
"""

from .claims import CLAIMS, claims, verdicts
from .page import build_report
from .plots import (
    COLOURS,
    answered,
    blends,
    by_style,
    classes,
    curve,
    cut_words,
    edits,
    fid_at_n,
    lengths,
    narrow,
    picture,
    ranking,
    rate,
    readers,
    recipes,
    second_look,
    shown,
    styles,
)
from .tables import (
    ahead,
    blocks,
    crossing,
    few_shot_tables,
    guidance_summary,
    headline,
    kid_by_style,
    noises,
    read_table,
    short,
    tables,
    verdict_line,
)
