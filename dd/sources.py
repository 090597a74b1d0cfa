"""Every source of text, one row each: how it is called, where it is drawn, judged and asked about.

    SOURCES["pez"].label                  # "hard prompts by similarity (PEZ)"
    keys("swept")                         # sources whose guidance is swept, in printing order
    keys("drawn", without="chosen")       # drawn in every study

The order of the table is the printing order of every table and figure, and a source's colour is
its colour in every figure. A new source is one row here and one function that writes its texts.
Plain data: nothing heavy is imported.
"""

from typing import NamedTuple

LENGTHS = (4, 8, 16, 24)  # words per De-Diffusion text compared, as the paper's Table 4 does

LITE0 = "lite0"  # the encoder's backbone: dd/encoder.py
LITE2, INCEPTION = "lite2", "inception:"  # what looks at pictures: dd/metrics.py
DECODERS = ("sketch", "judge-a", "judge-b")  # shipped; encoders are trained through the first
SEARCH = "search"  # the judge that draws nothing: dd/search.py

USES = {
    "drawn": "its texts are drawn and scored on test drawings",
    "chosen": "only in studies whose parameter `rivals` names it",
    "novel": "drawn on novel concepts, too",
    "outside": "drawn on the outside set, too",
    "judged": "drawn by the judges, too (as are `rivals` that are drawn again)",
    "swept": "its guidance is chosen on validation drawings",
    "coarse": "among every second guidance only",
    "again": "drawn on test drawings from every further starting noise, too",
    "curve": "on the curve over guidance of the paper's Fig. 3",
    "context": "may be shown to the language models",
    "learnt": "trains a network of its own first",
    "kept": "takes a network's time to write, so its texts are kept",
    "name": "as a context it holds what people call the drawing",
    "group": "as a context it holds the group that people put the drawing in",
    "pixels": "as a context it holds what was measured from the pixels",
    "style": "as a context it holds the words of the drawing's style",
    "emoji": "of the emoji world alone: of styles, groups, concepts or alt text, or taught by them",
}


class Source(NamedTuple):
    key: str
    label: str
    family: str  # people, machine, ours, control, or bound (floors and ceilings)
    colour: str
    uses: str = ""  # of USES


# fmt: off
_ROWS = (
    Source("real", "originals, half against half", "bound", "#444444"),
    Source("autoencoder", "autoencoder only (floor)", "bound", "#8c8c8c"),
    Source("ideal_name", "ideal drawer, told the name (ceiling)", "bound", "#7fb7be", "emoji"),
    Source("ideal_style", "ideal drawer, told name and style (ceiling)", "bound", "#4a8f8c",
           "emoji"),
    Source("names", "people: name", "people", "#1b5e9b",
           "drawn novel outside judged swept again curve context name"),
    Source("names_keywords", "people: name and keywords", "people", "#5b9bd5",
           "drawn novel outside judged swept again curve context name"),
    Source("names_turn", "people: one caption each, in turn", "people", "#3d7a6a",
           "drawn chosen swept again curve"),
    Source("names_style", "name and the style's words (control)", "control", "#6f6fb5",
           "drawn novel judged swept again curve context name style emoji"),
    Source("names_all", "people: all they wrote", "people", "#17a2a2",
           "drawn chosen swept again curve context name group emoji"),
    Source("retrieval", "name of the nearest training drawing", "machine", "#7a6a2f",
           "drawn chosen swept coarse context emoji"),
    Source("captioner", "captioner, taught names", "machine", "#d98c1f",
           "drawn chosen swept curve context learnt kept emoji"),
    Source("captioner_detailed", "captioner, taught alt text", "machine", "#8a5aab",
           "drawn chosen swept again curve context learnt kept emoji"),
    Source("interrogator", "interrogator: chained phrases", "machine", "#b03a78",
           "drawn chosen swept coarse context learnt kept emoji"),
    Source("pez", "hard prompts by similarity (PEZ)", "machine", "#e59a8f",
           "drawn chosen swept coarse context learnt kept emoji"),
    Source("ph2p", "hard prompts by the decoder's loss (after PH2P)", "machine", "#a0522d",
           "drawn chosen swept coarse context kept"),
    Source("dediffusion", "De-Diffusion", "ours", "#c8442e",
           "drawn novel outside judged swept again curve context kept"),
    *(
        Source(f"dediffusion_{N}", f"De-Diffusion, {N} words, briefly trained", "ours", colour,
               "context kept")
        for N, colour in zip(LENGTHS, ("#f4b6a6", "#ea8f7a", "#dd6a52", "#a8321f"))
    ),
    Source("alt_text", "alt text (oracle)", "bound", "#2e8b57",
           "drawn novel outside judged swept context name pixels style emoji"),
    Source("soft", "De-Diffusion, soft tokens (ceiling)", "bound", "#a9c77e", "drawn"),
    Source("shuffled", "De-Diffusion, shuffled (control)", "control", "#9a9a9a",
           "drawn outside judged context"),
    Source("random", "random words (control)", "control", "#bdbdbd", "drawn"),
    Source("empty", "empty text (control)", "control", "#5a5a5a", "drawn judged context"),
    Source("commonest", "always the commonest answer, unread", "control", "#7f7f7f"),
)
# fmt: on
SOURCES = {row.key: row for row in _ROWS}
LABELS = {row.key: row.label for row in _ROWS}


def keys(*uses: str, without: str = "") -> tuple[str, ...]:
    """Keys of the rows with all of these uses and none of `without`, in printing order."""
    wanted, unwanted = set(uses), set(without.split())
    if unknown := (wanted | unwanted) - set(USES):
        raise ValueError(f"no such use of a source: {', '.join(sorted(unknown))}")
    held = {row.key: set(row.uses.split()) for row in _ROWS}
    return tuple(key for key, of in held.items() if wanted <= of and not unwanted & of)
