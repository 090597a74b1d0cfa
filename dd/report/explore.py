"""The page of a study on which one chooses a test drawing and sees what every source says of it and
what every decoder draws from that."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template

from ..files import read_json, write_text
from ..sources import SOURCES
from .tables import short

PAGE = Template((Path(__file__).parent / "explore.html").read_text())


def explored(folder: Path) -> str | None:
    """What the page shows, as JSON; None where notebook 6 has not written explore/."""
    path = folder / "explore" / "explore.json"
    if not path.exists():
        return None
    told = read_json(path)
    looks = [SOURCES[s] for s in told["sources"]]
    facts = [dict(key=s.key, label=s.label, family=s.family, colour=s.colour) for s in looks]
    told["sources"] = facts
    told["decoders"] = [dict(name=name, label=short(name)) for name in told["decoders"]]
    return json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")  # no text ends the script


def write_explored(folder: Path, nav: list[str], data: str) -> None:
    """report/explore.html with these links on top. What it shows is inside it, for a page that is
    opened from disk may read no file; the sheets of pictures are linked."""
    text = PAGE.substitute(name=html.escape(folder.name), nav="\n".join(nav), data=data)
    write_text(folder / "report" / "explore.html", text)
