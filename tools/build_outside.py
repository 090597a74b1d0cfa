"""Build the outside dataset: drawings of three sets that no decoder of the study saw -> one file.

    pip install -e ".[build]"
    python tools/build_outside.py [--sources FOLDER] [--out FOLDER]

Needs npm and git. Gets PACKAGES (npm) and Mulberry's release from GitHub into the folder of
sources (default build/outside) unless they are there, and refuses other versions, because only the
same versions give the same bytes. Drawings are rendered as those of emoji.parquet are
(tools/build_emoji.py): 64x64 on white, 64 levels a channel, lossless WebP.

Left out, in this order, each rule counted and printed:
    subject      categories and names that are no picture of a thing: flags, maps, letters, numbers,
                 arrows, signs of computers, abstract words; brands and characters of films; nudity
    written      drawings with text set in a font, which looks different on every machine
    colourless   fewer than COLOURED pixels whose channels differ by more than SPREAD
    same name    of drawings that one set gives the same name, all but the first
    emoji        drawings closer than NEAR to any of emoji.parquet (build_emoji.py's measure)
    each other   the same among the drawings of this file: all but the first

Words are the people's own. name: the file's name as words, without the number of a variant
("oyster_2", "baker_1a"); an inverted one is turned back ("brush teeth , to" -> "to brush teeth").
keywords: the tags people gave it. group: the category they put it in."""

import argparse
import csv
import hashlib
import io
import json
import pathlib
import re
import subprocess

import numpy as np
import pandas as pd
from build_emoji import NEAR, icon_svg, on_white, render, thumbnails
from PIL import Image

PACKAGES = {  # npm, version
    "@iconify-json/streamline-emojis": "1.2.4",
    "@iconify-json/streamline-kameleon-color": "1.2.2",
}
MULBERRY = "https://github.com/mulberrysymbols/mulberry-symbols"
RELEASE, COMMIT = "v3.6.1", "9cbab9f400c5de44e2bc58839cca07294aadb086"
SPREAD, COLOURED = 48, 40  # grey levels of 255; pixels of 4,096

# Categories (the beginning of their names) and names that are no picture of a thing.
NO_THING = {
    "mulberry": """Alphabet|Number|Country |Art Colour|Communication |Computer Icon|Descriptive|
        Question|Work and School (Subjects|Timetable)""",
    "streamline-emojis": "Flags|Symbols",
    "kameleon": "ComputerCoding",
}
NOT_NAMED = {
    "mulberry": """football_kit_.*|iPhone|iPod|Wii.*|playstation|walkman|channel_bbc_1|lego|marmite|
        tippex|post-it|pot_noodle|(para_)?olympic_.*|underground_sign|recycle_logo|download_,_to|
        forward_wind|rewind|verbs_collective|penis|vagina|(fe)?male_body|chest_female""",
    "streamline-emojis": "[0-9]+|family-.*",  # families: 50 that differ in a head
    "kameleon": """.*-duo|captain-shield|pokeball|r2d2|spongebob|wall-e|wii-remote|vespa|peace|
        yin-yang|.*-file(-.*)?|.*cloud.*|crosshair|filter|play|pointer|power|settings-.*|start|
        conversion|smartphone-(forbiden|rotate|qrcode)""",
}


def get(folder: pathlib.Path) -> None:
    """Download what is not in the folder yet; refuse another version than the one named here."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    if not all((folder / "node_modules" / name).exists() for name in PACKAGES):
        npm = ["npm", "install", "--ignore-scripts", "--no-save", "--prefix", str(folder)]
        subprocess.run([*npm, *wanted], check=True)
    if not (folder / "mulberry").exists():
        clone = ["git", "clone", "--depth", "1", "--branch", RELEASE, MULBERRY]
        subprocess.run([*clone, str(folder / "mulberry")], check=True)
    head = ["git", "-C", str(folder / "mulberry"), "rev-parse", "HEAD"]
    found = {"mulberry": subprocess.run(head, check=True, capture_output=True, text=True).stdout}
    for name in PACKAGES:
        package = json.loads((folder / "node_modules" / name / "package.json").read_text())
        found[name] = package["version"]
    for name, version in {"mulberry": COMMIT, **PACKAGES}.items():
        if found[name].strip() != version:
            raise SystemExit(
                f"{folder}: {name} is {found[name].strip()}, {version} is needed for the same "
                "bytes; remove it there and run again"
            )


def mulberry(folder: pathlib.Path):
    """Yield (file name, name, keywords, category, SVG)."""
    table = folder / "mulberry/scripts/data/symbol-info-en.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: row["symbol"]):
            words = row["symbol"].replace("_-_", "_").replace("_", " ").split(" , ")
            name = " ".join(without_number(part) for part in reversed(words))
            svg = (folder / f"mulberry/EN/{row['symbol']}.svg").read_text(encoding="utf-8")
            yield row["symbol"], name, row["tags"].split(), row["category"], svg


def iconify(folder: pathlib.Path, package: str):
    """The same of an Iconify set, which gives no tags."""
    folder = folder / "node_modules/@iconify-json" / package
    data, about = (json.loads((folder / f).read_text()) for f in ("icons.json", "metadata.json"))
    category = {name: key for key, names in about["categories"].items() for name in names}
    for name in sorted(data["icons"]):
        group = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", category.get(name, ""))
        yield name, without_number(name.replace("-", " ")), [], group, icon_svg(data, name)


def without_number(words: str) -> str:
    """'baker 1a' -> 'baker': the number tells variants of one thing apart, people do not say it."""
    return re.sub(r"( \d+[a-z]?)+$", "", words)


def nearest(thumbs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root-mean-square distance (M,) of each of thumbs (M, 768) to the nearest of others."""
    norms = (others**2).sum(1)
    squares = [((t**2).sum() + norms - 2 * others @ t).min() for t in thumbs]
    return np.sqrt(np.maximum(squares, 0) / thumbs.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    assets = pathlib.Path("dd/assets")
    parser.add_argument("--sources", type=pathlib.Path, default=pathlib.Path("build/outside"))
    parser.add_argument("--out", type=pathlib.Path, default=assets / "outside")
    args = parser.parse_args()
    get(args.sources)
    sets = {
        "mulberry": mulberry(args.sources),
        "streamline-emojis": iconify(args.sources, "streamline-emojis"),
        "kameleon": iconify(args.sources, "streamline-kameleon-color"),
    }
    emoji = pd.read_parquet(assets / "emoji/emoji.parquet", columns=["image"])["image"]
    opened = (Image.open(io.BytesIO(b)).convert("RGB") for b in emoji)
    known = thumbnails(np.stack([np.asarray(image) for image in opened]))

    records, thumbs, left = [], np.zeros((0, 768), np.float32), []
    for style, drawings in sets.items():
        no_thing, not_named = (re.sub(r"\s", "", of[style]) for of in (NO_THING, NOT_NAMED))
        names = set()
        for file, name, keywords, group, svg in drawings:
            reason = None
            if re.match(no_thing, re.sub(r"\s", "", group)) or re.fullmatch(not_named, file):
                reason = "subject"
            elif "<text" in svg:
                reason = "written"
            else:
                image = on_white(render(svg))
                array = np.asarray(image)
                thumb = thumbnails(array[None])
                if (np.ptp(array, axis=2) > SPREAD).sum() < COLOURED:
                    reason = "colourless"
                elif name in names:
                    reason = "same name"
                elif nearest(thumb, known)[0] < NEAR:
                    reason = "emoji"
                elif len(thumbs) and nearest(thumb, thumbs)[0] < NEAR:
                    reason = "each other"
            left.append((style, reason or "kept"))
            if reason:
                continue
            names.add(name)
            thumbs = np.concatenate([thumbs, thumb])
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", lossless=True, quality=75, method=4)
            row = dict(id=f"{style}/{file}", style=style, group=group, name=name)
            row |= dict(keywords=keywords, split="test", image=buffer.getvalue())
            records.append(row)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "outside.parquet"
    pd.DataFrame(records).to_parquet(path, index=False, compression="zstd")
    counts = pd.DataFrame(left, columns=["set", "drawings"])
    print(counts.groupby(["set", "drawings"]).size().unstack(fill_value=0).to_string())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{len(records)} drawings, {path.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
