"""Some test drawings with every source's text and every decoder's picture of it, for the page
report/explore.html.

    explore.gather(study)        # explore/explore.json and one sheet of pictures a decoder

A sheet holds TILE x TILE pictures, a row a drawing and a column a source; after ROWS rows it goes
on beside them, for browsers take no picture of any height. Letters: M drawings, S sources.
"""

import numpy as np
import torch
from PIL import Image

from .. import metrics
from ..data import spread
from ..files import whole, write_json
from ..sources import SEARCH, SOURCES
from .core import JUDGED, Study

DRAWINGS, TILE, ROWS = 192, 64, 64
ORIGINALS, DRAWN = 80, 50  # quality of WebP: 12 sources and four who draw take below 5 MB


def corner(i: int, s: int, S: int) -> tuple[int, int]:
    """Where the picture of drawing i and source s of S stands on a sheet: its left, its top."""
    return (i // ROWS * S + s) * TILE, i % ROWS * TILE


def sheet(pictures: np.ndarray) -> Image.Image:
    """uint8 (M, S, H, W, 3) -> a sheet."""
    M, S = pictures.shape[:2]
    made = Image.new("RGB", (-(-M // ROWS) * S * TILE, min(M, ROWS) * TILE), "white")
    for i, s in np.ndindex(M, S):
        tile = Image.fromarray(pictures[i, s]).resize((TILE, TILE))
        made.paste(tile, corner(i, s, S))
    return made


def gather(study: Study) -> dict:
    """What explore.json holds, after writing it and the sheets: nothing is drawn that the judged
    table has not. Drawings are spread over the test split; pictures are of the first noise."""
    images, real = study.subset("test"), study.real("test")
    rows = spread(len(images), DRAWINGS)
    guidance, wanted = study.guidance_of(), (*JUDGED, *study.rivals)
    by_all = lambda source: all((name, source) in guidance for name in study.by_each)
    sources = [s for s in SOURCES if s in wanted and by_all(s)]  # judges do not draw every rival

    def pictures(name: str, source: str) -> tuple[torch.Tensor, np.ndarray]:
        """Image features of all test drawings' pictures, and the chosen pictures."""
        if name == SEARCH:
            hits = study.hits(source, "test")
            return study.features_of(hits), study.engine.shown.images[hits[rows]]
        at = float(guidance[name, source])
        features, drawn = study.by_each[name].drawn(source, "test", at)
        return features, drawn[rows]

    frame, decoders = images.frame.iloc[rows], [*study.by_each, SEARCH]
    told = {name: frame[name].tolist() for name in ("id", "name", "style")}
    texts = {s: study.texts(s) for s in sources}
    told["texts"] = {s: [texts[s][i] for i in rows] for s in sources}
    told |= dict(tile=TILE, rows=ROWS, sources=sources, decoders=decoders, similarity={})
    told["sheets"] = ["originals.webp", *(f"{k}.webp" for k in range(1, 1 + len(decoders)))]
    with whole(study.path("explore")) as temporary:
        temporary.mkdir()
        sheet(images.images[rows][:, None]).save(temporary / told["sheets"][0], quality=ORIGINALS)
        for name, file in zip(decoders, told["sheets"][1:]):
            columns, similarity = [], told["similarity"].setdefault(name, {})
            for source in sources:
                features, shown = pictures(name, source)
                near = metrics.paired_similarity(real, features)[rows]
                similarity[source] = [round(float(value), 3) for value in near]
                columns.append(shown)
            sheet(np.stack(columns, 1)).save(temporary / file, quality=DRAWN)
        write_json(temporary / "explore.json", told)
    return told
