"""Anything as a captions file, a picture, a file of parameters or a command line ends as a right
result or as one line, never in a traceback, and no row is lost without a word.

A few cases run with the other tests. 1,250 for each test, 11,250 in all:

    DD_FUZZ=1250 python -m pytest -q tests/test_fuzz_input.py --hypothesis-seed=0
"""

import csv
import io
import json
import os
import tempfile
import unicodedata
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dd import baselines, bench, data, decoder, encoder, llm, make_decoders, reading
from dd.__main__ import main, parser
from dd.data import load_dataset
from dd.reading import (
    SOURCE,
    Bad,
    BadData,
    blank,
    captions_of,
    id_of,
    one_line,
    read_picture,
    texts_by_id,
)
from dd.study import PARAMETERS, BadParameter, load_parameters

CASES = int(os.environ.get("DD_FUZZ", 40))
KEPT = tempfile.TemporaryDirectory()
FOLDER = Path(KEPT.name)
for k in (*"abc", *range(3)):
    Image.new("RGB", (8, 8), "red").save(FOLDER / f"{k}.png")
often = settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)

signs = st.sampled_from("ab07,;\t\"'\n[]{}\\: .\u2028\x85\u0301\U0001f600\ufeff")
texts = st.text(signs | st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
said = texts.filter(lambda text: not blank(text))
ids = st.integers(-9, 10**12).map(str) | st.text(signs).filter(lambda text: not blank(text))


def plain(text: str) -> bool:
    """Text that is no list or object, whose quoted lines do not look like rows."""
    like_rows = "\n" in text and any(sign in text for sign in ",;\t")
    return text.lstrip()[:1] not in ("[", "{") and not SOURCE.match(text) and not like_rows


def normal(id: str) -> str:
    return unicodedata.normalize("NFC", id.strip())


def write(name: str, content: str | bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def one(error: BadData) -> None:
    assert str(error) and one_line(error) == str(error) and len(str(error)) < 1000


@often
@given(
    st.lists(st.tuples(ids.filter(plain), said.filter(plain)), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_proper_csv_is_read_to_the_letter(rows, delimiter, end, mark):
    """Whatever the csv module writes is read as it was: separator, quotes, mark and line ends."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerows([("id", "text"), *rows])
    path = write("a.csv", "\ufeff" * mark + out.getvalue())
    lines = lambda text: text.replace("\r\n", "\n").replace("\r", "\n")
    expected: dict[str, str] = {}
    for id, text in rows:
        expected.setdefault(normal(lines(id)), lines(text).strip())
    bad = Bad()
    found = texts_by_id(path, bad)
    assert {id: text for id, (_, text) in found.items()} == expected
    assert any("several texts" in note for note in bad.notes) == (len(expected) < len(rows))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@often
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": values | ids, "text": values | said},
            optional={"file_name": values | st.just("a.png"), "split": values | st.just("val")},
        ),
        max_size=6,
    )
)
def test_every_row_of_jsonl_is_read_or_named(rows):
    path = write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    bad, texts = Bad("skip"), 0
    try:
        found = texts_by_id(path, bad)
    except BadData as error:
        one(error)
        found = {}
    for row in rows:
        try:
            json.dumps(row, allow_nan=False)
            id, said = id_of(row["id"]), captions_of(row["text"])
        except BadData as error:
            one(error)
            continue
        except ValueError:  # NaN and infinity are no JSON
            continue
        assert id in found and all(isinstance(t, str) and t.strip() for t in said)
        texts += 1
    assert texts + len(bad.skipped) == len(rows)
    try:
        dataset = load_dataset(path, size=8, on_bad="skip")
    except BadData as error:
        return one(error)
    assert len(dataset) + len(dataset.skipped) <= len(rows)
    assert "rows" in str(dataset.notes) or len(dataset) + len(dataset.skipped) == len(rows)


WHOLE = 'id,text,file_name\n7,"a ""red"", round thing",a.png\n9,two words,b.png\n8,"x\ny",c.png\n'
JSONL = "".join(
    json.dumps({"id": i, "text": ["one", "uno"], "file_name": f"{i}.png"}) + "\n" for i in "abc"
)
COCO = json.dumps(
    {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": [{"image_id": i % 3, "caption": f"thing {i}"} for i in range(5)],
    }
)
noise = st.binary(max_size=4) | st.sampled_from([b'"', b",", b"\n", b"\xff", b"\0", b"[", b"null"])
edits = st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 6), noise), min_size=1, max_size=4)


def damaged(content: bytes, edits) -> bytes:
    """At each place some bytes go and others come."""
    for at, gone, come in edits:
        at %= len(content) + 1
        content = content[:at] + come + content[at + gone :]
    return content


@often
@given(edits)
def test_a_damaged_csv_loses_no_row_in_silence(edits):
    """Every line is of a row that was read or of one that was named."""
    path, bad = write("b.csv", damaged(WHOLE.encode(), edits)), Bad("skip")
    try:
        used = list(reading.table(path, bad, "id", "text"))
        lines = [k for k, x in enumerate(reading.lines_of(path), 1) if x.strip()]
    except BadData as error:
        return one(error)
    starts = [int(where.rsplit(" ", 1)[1]) for where, _ in used]
    named = [int(line.split(", row ")[1].split(":")[0]) for line in bad.skipped]
    assert len({*starts, *named}) == len(starts) + len(named)
    # a line that begins no row is inside quotes: then a note counts the rows of several lines
    inside = set(lines[1:]) - {*starts, *named}
    head_is_long = min([*starts, *named, 10**6]) > lines[0] + 1
    assert not inside or head_is_long or any("several lines" in note for note in bad.notes)
    for line in bad.skipped:
        assert one_line(line) == line


@often
@given(edits, st.sampled_from([("c.json", COCO), ("c.jsonl", JSONL), ("c.csv", WHOLE)]))
def test_a_damaged_data_set_is_read_or_refused(edits, file):
    name, content = file
    path = write(name, damaged(content.encode(), edits))
    for on_bad in ("stop", "skip"):
        try:
            dataset = load_dataset(path, size=8, on_bad=on_bad)
        except BadData as error:
            one(error)
            continue
        frame = dataset.frame
        assert len(frame) == len(dataset.images) and frame["id"].is_unique
        assert all(t.strip() for captions in frame["captions"] for t in captions)
        assert on_bad == "skip" or not dataset.skipped
        assert (dataset.images[:, 4, 4] == (255, 0, 0)).all() and dataset.fingerprint()


TURNS = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how the orientation came about
MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["1", "L", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB"],
    "JPEG": ["L", "RGB", "CMYK"],
    "GIF": ["P", "L"],
    "BMP": ["1", "L", "RGB"],
    "PPM": ["1", "L", "RGB"],
}
EXACT = {"1", "L", "LA", "RGB", "RGBA", "I;16"}


@st.composite
def pictures(draw):
    """-> (bytes of a file, what it shows or None): of any mode and turn, white or in noise."""
    form = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[form]))
    turn = draw(st.sampled_from(sorted(TURNS))) if form in ("PNG", "JPEG", "WEBP", "TIFF") else 1
    n = draw(st.integers(1, 9))
    levels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (n, n), np.uint8)
    grey = Image.fromarray(levels)
    if mode == "I;16":
        stored = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "LAB":
        stored = Image.new("LAB", (n, n))
    else:
        stored = grey.convert(mode)
    shown = grey.convert("1") if mode == "1" else grey
    if TURNS[turn] is not None:
        stored = stored.transpose(TURNS[turn])
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    how = {"exif": exif} if turn > 1 else {}
    stored.save(out, form, **how, **({"lossless": True} if form == "WEBP" else {}))
    exact = mode in EXACT and form != "JPEG"
    return out.getvalue(), np.asarray(shown.convert("RGB")) if exact else None


@often
@given(pictures())
def test_a_picture_comes_back_upright(picture):
    content, shown = picture
    path = write("a.bin", content)
    try:
        seen = read_picture(path, Image.open(path).size[0])
    except BadData as error:
        one(error)
        assert shown is None and "cannot decode image" in str(error)
        return
    assert seen.dtype == np.uint8 and seen.ndim == 3
    assert shown is None or np.array_equal(seen, shown)


@often
@given(pictures(), edits)
def test_a_damaged_picture_is_read_or_refused(picture, edits):
    try:
        seen = read_picture(write("b.bin", damaged(picture[0], edits)), 8)
    except BadData as error:
        return one(error)
    assert seen.shape == (8, 8, 3) and seen.dtype == np.uint8


# -- parameters and command lines -----------------------------------------------------------------

NAMES = [*PARAMETERS, "tokns", "", "1"]
scalars = st.none() | st.booleans() | st.integers(-2, 400) | st.floats() | st.dates() | texts
scalars |= st.sampled_from(["sketch", "judge-a", "dpm", "captioner", "names", "trained", "x"])
settings_of = st.dictionaries(
    st.sampled_from(NAMES), scalars | st.lists(scalars, max_size=3) | values, max_size=4
)
PARAMETER_FILE = "study: mine  # a name\ntokens: 8\nguidances: [1, 2.5]\njudges: [judge-a]\n"


def checked(path: Path, given: dict | None = None) -> None:
    try:
        found = load_parameters(str(path))
    except BadParameter as error:
        lines = str(error).split("\n")
        assert all(line and one_line(line) == line and len(line) < 1000 for line in lines)
        return
    assert found.keys() == PARAMETERS.keys() and (given is None or found.items() >= given.items())
    assert not any(isinstance(v, bool) for x in found.values() for v in np.ravel(x).tolist())


@often
@given(settings_of, st.booleans())
def test_parameters_are_those_of_the_file_or_refused(given, named):
    given = ({"study": "x"} if named else {}) | given
    checked(write("p.yaml", yaml.safe_dump(given, allow_unicode=True)), given)


@often
@given(edits)
def test_a_damaged_file_of_parameters_is_read_or_refused(edits):
    checked(write("q.yaml", damaged(PARAMETER_FILE.encode(), edits)))


class Begun(ValueError):
    """The command line was taken and the work would begin."""


WORK = {
    decoder.Decoder: ("load",),
    encoder.Encoder: ("load",),
    llm.LanguageModel: ("load",),
    data: ("load_dataset",),
    baselines: ("captioner", "contrastive"),
    make_decoders: ("make_decoder",),
    bench: ("run",),
}
PLACES = (
    "a.png",
    "c.csv",
    "p.yaml",
    "",
    ".",
    "/proc/none/x",
    "no\n\x1b[31mfile",
    "x" * 300,
    "o.png",
)
words = st.sampled_from(PLACES) | st.integers(-1, 2**65).map(str) | st.floats().map(str) | texts
words |= st.sampled_from(
    [*NAMES, "--", "-p", "tokens=8", "tokens=[", "skip", "test", "\udcff", "@"]
)
COMMANDS = parser()._subparsers._group_actions[0].choices


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(COMMANDS)))
    flags = sorted(o for a in COMMANDS[name]._actions for o in a.option_strings)
    more = st.lists(st.tuples(st.sampled_from(flags), words), max_size=3)
    options = [word for pair in draw(more) for word in pair]
    return [name, *draw(st.lists(words, max_size=2)), *options]


@often
@given(command_lines())
def test_a_command_line_is_taken_or_refused_in_one_line(line):
    """No work is begun, nothing is written."""
    out, err = io.StringIO(), io.StringIO()
    begun = lambda *a, **k: (_ for _ in ()).throw(Begun("begun"))
    with ExitStack() as stack:
        for where, names in WORK.items():
            for name in names:
                stack.enter_context(mock.patch.object(where, name, begun))
        stack.enter_context(mock.patch("dd.study.run", begun))
        stack.enter_context(chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        for name in PLACES[:2]:
            Path(name).touch()
        [stack.enter_context(to) for to in (redirect_stdout(out), redirect_stderr(err))]
        try:
            code = main(line)
        except SystemExit as end:  # argparse's way
            code = end.code
        assert set(os.listdir()) == set(PLACES[:2])
    lines = err.getvalue().splitlines()
    lines = [x for x in lines if not x.startswith(("device:", "numbers:", "note:"))]
    assert code in (0, 2) and len(lines) == (code == 2), (line, lines)
    assert not any("\x1b" in x for x in lines)
