"""Judges that draw nothing: the picture is a training drawing that is chosen by the text. What a
decoder adds of its own hides what a text says; these show it.

    engine = SearchEngine(load_dataset("emoji").subset("train"))
    pictures = engine.draw(["red apple"], ids)       # called like Decoder.draw
    rows = engine.find(["red apple"], ids)           # the training drawings that those are
    rows = ideal(engine, images, with_style=False)   # a perfect decoder that is told the name

Letters: M texts, K training drawings.
"""

from collections.abc import Sequence

import numpy as np

from .captions import alt_text, alt_text_phrases, words
from .data import Dataset, stable_hash
from .sources import SEARCH


class SearchEngine:
    """BM25 (Robertson and Zaragoza 2009, in Lucene's form, k1 = 1.2, b = 0.75) over the whole alt
    text of each training drawing."""

    def __init__(self, shown: Dataset):
        import bm25s

        self.name, self.shown, self.size = SEARCH, shown, shown.images.shape[1]
        self._index = bm25s.BM25(k1=1.2, b=0.75, method="lucene", backend="numpy")
        said = [words(alt_text(p, limit=10_000)) for p in alt_text_phrases(shown)]
        self._index.index(said, show_progress=False)

    def find(
        self,
        texts: Sequence[str],
        ids: Sequence[str],
        seed: int = 0,
        among: Sequence[np.ndarray] | None = None,
    ) -> np.ndarray:
        """-> rows (M,) of `shown`: the first hit for each text; `among`: the rows that may be found
        for each.

        A word said twice counts twice, an unknown one not at all. One of equally good hits is taken
        at random, by the image's id and the seed as starting noise is; for a text of no known word,
        the empty one too, that is one of all drawings."""
        every, found = np.arange(len(self.shown)), []
        for k, (text, id) in enumerate(zip(texts, ids, strict=True)):
            said, rows = words(text), every if among is None else among[k]
            scores = self._index.get_scores(said)[rows] if said else np.zeros(len(rows))
            best = rows[scores >= scores.max() * (1 - 1e-6)]  # sums of float32 are not exact
            found.append(np.random.default_rng([seed, stable_hash(id)]).choice(best))
        return np.array(found)

    def draw(self, texts, ids, *, seed: int = 0, **drawing) -> np.ndarray:
        """uint8 (M, H, W, 3): the first hits. Guidance, sampler and steps (`drawing`) change
        nothing."""
        return self.shown.images[self.find(texts, ids, seed)]


def ideal(engine: SearchEngine, images: Dataset, with_style: bool, seed: int = 0) -> np.ndarray:
    """-> rows (M,) of the training drawings that an ideal drawer gives for each of `images`: told
    the name, any drawing of the concept, at random; told name and style, the concept's in that
    style. A set draws a concept once, and a drawing that is judged is not among those of training:
    so the first gives other styles only, never the right one by luck, and the second gives the
    drawing of the style that is found first for the name."""
    of_concept, of_style = (engine.shown.frame.groupby(c).indices for c in ("concept", "style"))
    frame, among = images.frame, []
    for concept, style in zip(frame["concept"], frame["style"]):
        rows = of_concept[concept]
        if with_style:
            both = np.intersect1d(rows, of_style[style])
            rows = both if len(both) else of_style[style]
        among.append(rows)
    texts = frame["name"] if with_style else [""] * len(frame)
    return engine.find(texts, frame["id"], seed, among)
