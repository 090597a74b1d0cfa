"""Other people's files, as a user gives them to a command: each case has its files and what comes
of them, the captions by id or the one line that refuses them. docs/formats.md has the rules.

The commands run in this process and stop after reading, for want of a model: what they read is
looked at, nothing is replaced."""

import gzip
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from dd import actions, baselines, data, metrics, reading
from dd.__main__ import main
from dd.reading import read_picture
from dd.study import few_shot

RED, PNG = (200, 30, 30), b"\x89PNG\r\n\x1a\n"
NFC, NFD = "caf\u00e9.png", "cafe\u0301.png"


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def bomb(width: int, height: int) -> bytes:
    """A PNG that states a size of 1-bit pixels and holds next to none."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return PNG + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def rows(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(**columns):
    """Writes a Parquet file."""
    return lambda path: pd.DataFrame(columns).to_parquet(path)


def columns_twice(path) -> None:
    values = [pa.array(["a.png"]), pa.array(["one"]), pa.array(["two"])]
    made = pa.Table.from_arrays(values, names=["file_name", "text", "text"])
    parquet.write_table(made, path)


def coco(images=((7, "a.png"), (9, "b.png")), said=((7, "one"), (9, "two"), (7, "uno"))) -> str:
    images = [{"id": i, "file_name": f} for i, f in images]
    return json.dumps(
        {"images": images, "annotations": [{"image_id": i, "caption": c} for i, c in said]}
    )


def put(folder, files: dict) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """told(*words) -> (exit code, lines of stderr, what the commands' readers gave)."""
    read = {}
    monkeypatch.chdir(tmp_path)

    def watch(module, name):
        plain = getattr(module, name)

        def watched(*args, **more):
            read[name] = plain(*args, **more)
            return read[name]

        monkeypatch.setattr(module, name, watched)

    for module, name in (
        (data, "load_dataset"),
        (actions, "read_texts"),
        (reading, "texts_by_id"),
        (few_shot, "read_vqa"),
        (few_shot, "read_captions"),
    ):
        watch(module, name)

    calls = []

    def later(name):
        """A model is asked for before pictures are read: here, where there is none, after them."""
        plain = getattr(baselines, name)

        def asked(*args):
            calls.append(name)
            return plain(*args) if len(calls) > 1 else None

        monkeypatch.setattr(baselines, name, asked)

    later("captioner"), later("contrastive")
    # `score` takes a few texts, and ends where it would look at the originals
    monkeypatch.setattr(metrics, "WIDTH", 0)
    monkeypatch.setattr(metrics, "image_features", lambda *a, **k: metrics.require_enough(0, 0))

    def told(*words):
        read.clear(), calls.clear()
        code = main([str(w) for w in words])
        lines = capsys.readouterr().err.splitlines()
        return code, [x for x in lines if not x.startswith(("device:", "numbers:"))], dict(read)

    return told


def of_world(told, *words, world="w"):
    """What a command that needs pictures reads of a folder or file -> (captions by id or the line
    that refuses it, further lines)."""
    code, lines, read = told("caption", "no/model", "--world", world, *words)
    assert code == 2 and lines
    if "load_dataset" not in read:
        return lines[-1].removeprefix("dd caption: "), lines[:-1]
    assert "no/model" in lines[-1]
    frame = read["load_dataset"].frame
    assert list(frame["name"]) == [c[0] for c in frame["captions"]]
    return dict(zip(frame["id"], frame["captions"])), lines[:-1]


def matches(found, expected, lines=(), notes=()):
    if isinstance(expected, str):
        assert isinstance(found, str) and expected in found and "\n" not in found, found
    else:
        assert found == expected
    for note in notes:
        assert sum(note in line for line in lines) == 1, (note, lines)


ONE = {"a.png": ["one"]}
TWO = {"a.png": ["one"], "b.png": ["two"]}
HEAD = "file_name,text\n"
WORLDS = {
    # captions with commas and quotes
    "comma, text last": (
        {"captions.csv": HEAD + "a.png,one\nb.png,two, three\n"},
        "captions.csv, row 3: 3 fields for 2 columns ['file_name', 'text']; put a text with ','",
    ),
    "comma, text first": (
        {"captions.csv": "text,file_name\none,a.png\ntwo, three,b.png\n"},
        "captions.csv, row 3: 3 fields for 2 columns",
    ),
    "comma, text between": (
        {"captions.csv": "id,text,file_name\n1,one, and,a.png\n"},
        "captions.csv, row 2: 4 fields for 3 columns",
    ),
    "too few fields": (
        {"captions.csv": "file_name,text,split\na.png,one\n"},
        "captions.csv, row 2: 2 fields for 3 columns",
    ),
    "quoted commas and doubled quotes": (
        {"captions.csv": HEAD + 'a.png,"one, ""two"""\n'},
        {"a.png": ['one, "two"']},
    ),
    "a quote left open": (
        {"captions.csv": HEAD + 'a.png,"one\nb.png,two\nc.png,"three"\n'},
        "captions.csv, row 2: quotes do not match",
    ),
    "a quote left open to the end": (
        {"captions.csv": HEAD + 'a.png,"one\nb.png,two\n'},
        "captions.csv, row 2: quotes do not match",
    ),
    "quotes that swallow a row": (
        {"captions.csv": HEAD + 'a.png,"one\nb.png,two\nc.png,"\n'},
        "captions.csv, row 2: lines 2 to 4 are one row and look like several; close the quote",
    ),
    "quotes that swallow a row, text between": (
        {"captions.csv": 'id,text,file_name\n1,"one,a.png\n2,two",b.png\n'},
        "captions.csv, row 2: lines 2 to 3 are one row and look like several; close the quote",
    ),
    "a caption of two lines": (
        {"captions.csv": HEAD + 'a.png,"one\nmore"\nb.png,two\n'},
        {"a.png": ["one\nmore"], "b.png": ["two"]},
        "note: captions.csv: rows that go over several lines: 1 of 2",
    ),
    "blanks after the commas": (
        {"captions.csv": 'file_name, text, split\na.png, "one, red", train\nb.png, "two",\n'},
        {"a.png": ["one, red"], "b.png": ["two"]},
        "note: w: images by split: train 1, test 1",
    ),
    "semicolons": ({"captions.csv": "file_name;text\na.png;one\nb.png;two\n"}, TWO),
    "tabs": ({"captions.csv": "file_name\ttext\na.png\tone\nb.png\ttwo\n"}, TWO),
    "one column": (
        {"captions.csv": "file_name text\na.png one\n"},
        "captions.csv, row 2: no file_name column; call one so, of ['file_name text']",
    ),
    "capitals in columns": (
        {"captions.csv": "ID,File_Name,Caption,Split\n7,a.png,one,train\n9,b.png,two,val\n"},
        {"7": ["one"], "9": ["two"]},
        "note: w: images by split: train 1, val 1",
    ),
    "capitals in columns, Parquet": (
        {"x.parquet": table(ID=[7, 9], image=["a.png", "b.png"], TEXT=["one", "two"])},
        {"7": ["one"], "9": ["two"]},
    ),
    "no such column, Parquet": (
        {"x.parquet": table(file_name=["a.png"], description=["one"])},
        "row 1: no text column; call one so, of ['file_name', 'description']",
    ),
    "two columns of a name but for capitals": (
        {"captions.csv": "file_name,text,Text\na.png,one,two\n"},
        "captions.csv, row 2: both text and Text are there; keep one",
    ),
    "two columns of a name": (
        {"captions.csv": "file_name,text,text\na.png,one,two\n"},
        "captions.csv: two columns 'text'; keep one",
    ),
    "two columns of one meaning": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": "one", "caption": "two"})},
        "captions.jsonl, row 1: both text and caption are there; keep one",
    ),
    "an empty file": ({"captions.csv": ""}, "no usable image; the file lists none"),
    "a head alone": ({"captions.csv": HEAD}, "no usable image; the file lists none"),
    # lists and objects
    "a list": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": ["one", "uno"]})},
        {"a.png": ["one", "uno"]},
    ),
    "a CSV column of JSON lists": (
        {"captions.csv": HEAD + 'a.png,"[""one"", ""uno""]"\n'},
        {"a.png": ["one", "uno"]},
    ),
    "a CSV column of Python lists": (
        {"captions.csv": HEAD + "a.png,\"['one', 'uno']\"\n"},
        "captions.csv, row 2: \"['one', 'uno']\" is not JSON; write text or a JSON list",
    ),
    "a CSV column of Python tuples": (
        {"captions.csv": HEAD + "a.png,\"('one', 'uno')\"\n"},
        "captions.csv, row 2: \"('one', 'uno')\" is not JSON; write text or a JSON list",
    ),
    "a CSV column of bytes": (
        {"captions.csv": HEAD + "a.png,b'one'\n"},
        "captions.csv, row 2: \"b'one'\" is not JSON; write text or a JSON list",
    ),
    "a CSV column of arrays": (
        {"captions.csv": HEAD + "a.png,\"[array(['one'], dtype=object)]\"\n"},
        "captions.csv, row 2: \"[array(['one'], dtype=object)]\" is not JSON",
    ),
    "a CSV column of lists of nothing": (
        {"captions.csv": HEAD + "a.png,[None]\n"},
        "captions.csv, row 2: '[None]' is not JSON",
    ),
    "letters and quotes in a caption": (
        {"captions.csv": HEAD + "a.png,b'day of one\na.png,[None]: one\n"},
        {"a.png": ["b'day of one", "[None]: one"]},
    ),
    "quotes and brackets in a caption": (
        {"captions.csv": HEAD + "a.png,('one') of two\n"},
        {"a.png": ["('one') of two"]},
    ),
    "a Parquet column of lists": (
        {"x.parquet": table(file_name=["a.png"], text=[["one", "uno"]])},
        {"a.png": ["one", "uno"]},
    ),
    "brackets in a caption": (
        {"captions.csv": HEAD + "a.png,[blurred] one\n"},
        {"a.png": ["[blurred] one"]},
    ),
    "an object": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": {"raw": "one"}})},
        "captions.jsonl, row 1: the caption is an object; write text",
    ),
    "a list of objects": (
        {"captions.csv": HEAD + 'a.png,"[{""raw"": ""one""}]"\n'},
        "captions.csv, row 2: the caption is an object; write text",
    ),
    "a number": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": 5})},
        "captions.jsonl, row 1: the caption is a number; write text",
    ),
    "null": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": None})},
        "captions.jsonl, row 1: the caption is null; write text",
    ),
    "an empty caption among others": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": ["one", " "]})},
        "captions.jsonl, row 1: empty caption",
    ),
    "a caption that cannot be seen": (
        {"captions.csv": HEAD + "a.png,\u200b\u2060\ufeff\n"},
        "captions.csv, row 2: empty caption; write one",
    ),
    "a caption of an emoji": (
        {"captions.csv": HEAD + "a.png,\U0001f34e\n"},
        {"a.png": ["\U0001f34e"]},
    ),
    # several rows of one image, ids
    "several rows of an image": (
        {"captions.csv": HEAD + "a.png,one\nb.png,two\na.png,uno\n"},
        {"a.png": ["one", "uno"], "b.png": ["two"]},
        "note: w: images with several rows, each a caption: 1",
    ),
    "several rows of an image, accents composed or not": (
        {NFC: b"", "captions.csv": HEAD + f"{NFC},one\n{NFD},uno\n"},
        {NFC: ["one", "uno"]},
        "note: w: images with several rows, each a caption: 1",
    ),
    "a file named in two ways": (
        {"captions.csv": HEAD + "a.png,one\n./a.png,uno\n"},
        {"a.png": ["one"], "./a.png": ["uno"]},
        "note: w: files with several ids, each an image: 1",
    ),
    "several ids of a file": (
        {"captions.csv": "id,file_name,text\n1,a.png,one\n2,a.png,uno\n"},
        {"1": ["one"], "2": ["uno"]},
        "note: w: files with several ids, each an image: 1",
    ),
    "an id of two files": (
        {"captions.csv": "id,file_name,text\n1,a.png,one\n1,b.png,two\n"},
        "captions.csv, row 3: duplicate id '1'",
    ),
    "an image of two splits": (
        {"captions.csv": "file_name,text,split\na.png,one,train\na.png,uno,val\n"},
        "captions.csv, row 3: 'a.png' is of two splits, train and val",
    ),
    "a split of another name": (
        {"captions.csv": "file_name,text,split\na.png,one,Training\n"},
        "captions.csv, row 2: split 'Training'; use one of train, val",
    ),
    "numbers as splits": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": "one", "split": 0})},
        "captions.jsonl, row 1: the split is a number; write text",
    ),
    "integer ids": (
        {
            "captions.jsonl": rows(
                {"id": 0, "file_name": "a.png", "text": "one"},
                {"id": " 007 ", "file_name": "b.png", "text": "two"},
                {"id": 7, "file_name": "c.png", "text": "three"},
                {"id": None, "file_name": "./a.png", "text": "four"},
            )
        },
        {"0": ["one"], "007": ["two"], "7": ["three"], "./a.png": ["four"]},
    ),
    "ids that differ by letters' case or look like paths": (
        {"captions.csv": "id,file_name,text\nA,a.png,one\na,b.png,two\n../a/b,c.png,three\n"},
        {"A": ["one"], "a": ["two"], "../a/b": ["three"]},
    ),
    "an id with decimals": (
        {"captions.jsonl": rows({"id": 7.0, "file_name": "a.png", "text": "one"})},
        "captions.jsonl, row 1: the id 7.0 is a decimal; use text or a whole number",
    ),
    # encodings
    "a byte-order mark, CSV": ({"captions.csv": "\ufeff" + HEAD + "a.png,one\n"}, ONE),
    "a byte-order mark, JSONL": (
        {"captions.jsonl": "\ufeff" + rows({"file_name": "a.png", "text": "one"})},
        ONE,
    ),
    "lines of Windows": ({"captions.csv": "file_name,text\r\na.png,one\r\nb.png,two\r\n"}, TWO),
    "Latin-1": (
        {"captions.csv": (HEAD + "a.png,caf\u00e9\n").encode("latin-1")},
        "captions.csv: line 2 is not UTF-8; save the file as UTF-8",
    ),
    "UTF-16": (
        {"captions.csv": (HEAD + "a.png,one\n").encode("utf-16")},
        "captions.csv: this is UTF-16; save the file as UTF-8",
    ),
    "UTF-16 without a mark": (
        {"captions.csv": (HEAD + "a.png,one\n").encode("utf-16-le")},
        "captions.csv: not a text file",
    ),
    "a compressed file": (
        {"captions.csv": gzip.compress((HEAD + "a.png,one\n").encode())},
        "captions.csv: not a text file",
    ),
    "binary": ({"captions.csv": b"file_name,text\na.png,\0\n"}, "captions.csv: not a text file"),
    "U+2028 in a JSON line": (
        {"captions.jsonl": '{"file_name": "a.png", "text": "one\u2028uno\x85"}\n'},
        {"a.png": ["one\u2028uno"]},
    ),
    "a lone surrogate": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": "one \ud83d"})},
        "captions.jsonl, row 1: the caption 'one \\ud83d' has half a character",
    ),
    "a composed name, decomposed on disk": (
        {NFD: b"", "captions.csv": HEAD + f"{NFC},one\n"},
        {NFC: ["one"]},
    ),
    "a decomposed name, composed on disk": (
        {NFC: b"", "captions.csv": HEAD + f"{NFD},one\n"},
        {NFC: ["one"]},
    ),
    # JSON that is none, or of another form
    "an array named .jsonl": (
        {"captions.jsonl": json.dumps([{"file_name": "a.png", "text": "one"}])},
        "captions.jsonl, row 1: a list, not an object; write one object a line",
    ),
    "an object over several lines": (
        {"captions.jsonl": json.dumps({"file_name": "a.png", "text": "one"}, indent=1)},
        "captions.jsonl, row 1: not JSON",
    ),
    "a key twice": (
        {"captions.jsonl": '{"file_name": "a.png", "text": "one", "text": "two"}\n'},
        "captions.jsonl, row 1: not JSON (key 'text' is there twice)",
    ),
    "a number of many digits": (
        {"captions.jsonl": '{"file_name": "a.png", "text": "x", "id": %s}' % ("9" * 5000)},
        "4300 digits) for integer string conversion: value has 5000 digits); write one object",
    ),
    "deep nesting": (
        {"captions.jsonl": "[" * 100_000},
        "captions.jsonl, row 1: not JSON (nested too deeply)",
    ),
    "a quote left open in the head": (
        {"captions.csv": '"file_name,text\na.png,one\n'},
        "captions.csv, row 1: quotes do not match",
    ),
    "a text longer than CSV's rows may be": (
        {"captions.csv": HEAD + "a.png," + "x" * 140_000 + "\n"},
        "captions.csv, row 2: a text of more than 131,072 characters; shorten it, or close",
    ),
    "Excel's columns without a name": (
        {"captions.csv": "file_name,text,,\r\na.png,one,,\r\n"},
        ONE,
    ),
    "words that stand for nothing elsewhere": (
        {"captions.csv": HEAD + "a.png,NaN\na.png,null\na.png,TRUE\na.png,1e5\na.png,NA\n"},
        {"a.png": ["NaN", "null", "TRUE", "1e5", "NA"]},
    ),
    "an empty line before the head": ({"captions.csv": "\n" + HEAD + "a.png,one\n"}, ONE),
    "a list as split": (
        {"captions.jsonl": rows({"file_name": "a.png", "text": "one", "split": ["val"]})},
        "captions.jsonl, row 1: the split is a list; write text",
    ),
    "an id of many lists": (
        {
            "captions.jsonl": '{"file_name": "a.png", "text": "x", "id": %s}'
            % ("[" * 900 + "]" * 900)
        },
        "captions.jsonl, row 1: the id [[",
    ),
    # names of files
    "null as file name": (
        {"captions.jsonl": rows({"file_name": None, "text": "one"})},
        "captions.jsonl, row 1: the file_name is null; write text",
    ),
    "a number as file name": (
        {"captions.jsonl": rows({"file_name": 5, "text": "one"})},
        "captions.jsonl, row 1: the file_name is a number; write text",
    ),
    "an object as file name": (
        {"captions.jsonl": rows({"image": {"path": "a.png"}, "text": "one"})},
        "captions.jsonl, row 1: the file_name is an object; write text",
    ),
    "no file name": (
        {"captions.csv": HEAD + ",one\n"},
        "captions.csv, row 2: the file_name is empty",
    ),
    "a folder as file name": (
        {"captions.csv": HEAD + ".,one\n"},
        "captions.csv, row 2: w is a folder; give a picture file or remove the row",
    ),
    "a name no disk can have": (
        {"captions.jsonl": rows({"file_name": "a\0.png", "text": "one"})},
        "captions.jsonl, row 1: 'a\\x00.png' cannot be a file's name",
    ),
    "a very long name": (
        {"captions.csv": HEAD + "a" * 5000 + ",one\n"},
        "captions.csv, row 2: 'aaaaaaaaaa",
    ),
    "a path upwards": (
        {"../secret.png": b"", "captions.csv": HEAD + "../secret.png,one\n"},
        "captions.csv, row 2: '../secret.png' leads out of w",
    ),
    "a path of Windows": (
        {"s/d.png": b"", "captions.csv": HEAD + "s\\d.png,one\n"},
        "captions.csv, row 2: no file s\\d.png in w; write / between folders",
    ),
    "a pipe, which nobody writes to": (
        {"x.png": os.mkfifo, "captions.csv": HEAD + "x.png,one\n"},
        "captions.csv, row 2: missing image w/x.png; add it or remove the row",
    ),
    "an absolute path": (
        {"captions.csv": HEAD + "/etc/passwd,one\n"},
        "captions.csv, row 2: '/etc/passwd' leads out of w",
    ),
    "a link that leads outside": (
        {"l.png": lambda p: os.symlink("/etc/passwd", p), "captions.csv": HEAD + "l.png,one\n"},
        "captions.csv, row 2: 'l.png' leads out of w",
    ),
    "a line break and colours of a terminal in a name": (
        {"captions.jsonl": rows({"file_name": "x\ny\x1b[31m.png", "text": "one"})},
        "captions.jsonl, row 1: missing image w/x\\ny\\x1b[31m.png",
    ),
    # folders
    "two captions files": (
        {"captions.csv": HEAD + "a.png,one\n", "metadata.jsonl": ""},
        "w: captions.csv and metadata.jsonl; keep one or give it by its name",
    ),
    "one of two, by its name": (
        {"x.csv": HEAD + "a.png,one\n", "metadata.jsonl": rows({"file_name": "b.png"})},
        ONE,
    ),
    "no captions file": ({}, "w: no captions.csv, captions.jsonl, metadata.csv, metadata.jsonl"),
    "Hugging Face's image folder": (
        {"metadata.csv": HEAD + "train/d.png,one\n", "train/d.png": b""},
        {"train/d.png": ["one"]},
    ),
    "Hugging Face's, a folder a split": (
        {
            "train/metadata.csv": HEAD + "d.png,one\n",
            "train/d.png": b"",
            "validation/metadata.csv": HEAD + "d.png,two\n",
            "validation/d.png": b"",
        },
        {"train/d.png": ["one"], "validation/d.png": ["two"]},
        "note: w: images by split: train 1, val 1",
    ),
    "Hugging Face's, a split without captions": (
        {
            "train/metadata.csv": HEAD + "d.png,one\n",
            "train/d.png": b"",
            "test/metadata.parquet": table(file_name=["d.png"], text=["two"]),
            "test/d.png": b"",
        },
        {"train/d.png": ["one"]},
        "note: w: folders of splits without a captions file, not read: test",
    ),
    "pictures that are not read": (
        {"a.txt": "one", "b.txt": "two", "c.txt": "three", "d.heic": b"x", "e/f.png": b""},
        TWO | {"c.png": ["three"]},
        "note: w: files and folders not read: 2, 'd.heic' first; pictures are PNG, JPEG, ",
    ),
    "a text beside each picture": (
        {"a.txt": "one\n\nuno\n", "b.txt": "\ufefftwo", "c.txt": "three", "readme.txt": "no"},
        {"a.png": ["one", "uno"], "b.png": ["two"], "c.png": ["three"]},
        "note: w: .txt files beside no picture: 1, 'readme' first",
    ),
    "files of macOS": (
        {"a.txt": "one", "b.txt": "two", "c.txt": "x", "._a.png": b"\0\5", "._a.txt": b"\xff"},
        TWO | {"c.png": ["x"]},
    ),
    "no text beside a picture": ({"a.txt": "one"}, "b.png: no b.txt beside it"),
    "two pictures of one stem": (
        {"a.txt": "one", "a.jpg": b"", "b.txt": "two", "c.txt": "three"},
        "a.jpg: a.txt is beside 2 pictures; keep one",
    ),
    # COCO
    "COCO": ({"x.json": coco()}, {"7": ["one", "uno"], "9": ["two"]}),
    "COCO, a byte-order mark": (
        {"x.json": "\ufeff" + coco()},
        {"7": ["one", "uno"], "9": ["two"]},
    ),
    "COCO, ids as text": (
        {"x.json": coco(images=(("7", "a.png"), (9, "b.png")))},
        {"7": ["one", "uno"], "9": ["two"]},
    ),
    "COCO, one image twice": (
        {"x.json": coco(images=((7, "a.png"), ("7", "a.png")))},
        "x.json, images[1]: duplicate id '7'",
    ),
    "COCO, a null caption": (
        {"x.json": coco(said=((7, "one"), (7, None), (9, "two")))},
        "x.json, annotations[1]: the caption is null; write text",
    ),
    "COCO, an image without captions": (
        {"x.json": coco(said=((7, "one"),))},
        "x.json, images[1]: empty caption for 'b.png'",
    ),
    "COCO, captions of no image": (
        {"x.json": coco(images=((7, "a.png"),))},
        {"7": ["one", "uno"]},
        "note: x.json: images with captions that are not listed: 1",
    ),
    "COCO, null as file name": (
        {"x.json": coco(images=((7, None),))},
        "x.json, images[0]: the file_name is null",
    ),
    "COCO, images as an object": (
        {"x.json": '{"annotations": [{"image_id": 1, "caption": "x"}], "images": {}}'},
        "x.json: not a COCO or VQA file; it needs a list of objects under 'images'",
    ),
    "COCO, a list": ({"x.json": '[{"a": 1}]'}, "x.json: not a COCO or VQA file"),
    "COCO, cut": ({"x.json": coco()[:-9]}, "x.json: not JSON"),
    "a Parquet column twice": (
        {"x.parquet": columns_twice},
        "x.parquet: two columns of one name among ['file_name', 'text', 'text']; keep one",
    ),
    "Parquet that is none": ({"x.parquet": b"PAR1 no PAR1"}, "x.parquet: not a usable Parquet"),
    # pictures
    "a decompression bomb": (
        {"x.png": bomb(20_000, 20_000), "captions.csv": HEAD + "x.png,one\n"},
        "captions.csv, row 2: cannot decode image w/x.png (DecompressionBombError",
    ),
    "a bomb that Pillow only warns of": (
        {"x.png": bomb(10_000, 10_000), "captions.csv": HEAD + "x.png,one\n"},
        "captions.csv, row 2: cannot decode image w/x.png (DecompressionBombWarning",
    ),
    "a picture like a thread": (
        {
            "x.png": lambda p: Image.new("1", (200_000, 1)).save(p),
            "captions.csv": HEAD + "x.png,one\n",
        },
        "captions.csv, row 2: cannot decode image w/x.png (200000 x 1 pixels are too long",
    ),
    "an exception of Pillow's own": (
        {"x.png": PNG + chunk(b"IHDR", b"\0"), "captions.csv": HEAD + "x.png,one\n"},
        "captions.csv, row 2: cannot decode image w/x.png (",
    ),
    "a format that runs another program": (
        {"x.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n", "captions.csv": HEAD + "x.eps,one\n"},
        "captions.csv, row 2: cannot decode image w/x.eps (UnidentifiedImageError",
    ),
}


def world(folder, files):
    """A folder w with pictures and `files`; -> what --world is given."""
    (folder / "w").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (9, 9), RED).save(folder / "w" / name)
    put(folder / "w", files)
    for name, content in files.items():
        if content == b"":
            form = "JPEG" if name.endswith("jpg") else "PNG"
            Image.new("RGB", (9, 9), RED).save(folder / "w" / name, form)
    named = {"x.json", "x.csv", "x.parquet"} & files.keys()
    return f"w/{named.pop()}" if named else "w"


@pytest.mark.parametrize("case", WORLDS)
def test_worlds(case, told, tmp_path):
    files, expected, *notes = WORLDS[case]
    source = world(tmp_path, files)
    found, lines = of_world(told, world=source)
    matches(found, expected, lines, notes)
    if isinstance(expected, str) and "(or use --on-bad skip)" in found:  # left out, and said so
        found, lines = of_world(told, "--on-bad", "skip", world=source)
        said = [found] if isinstance(found, str) else lines
        assert sum(expected in line for line in said) >= 1 and all("\n" not in x for x in said)


def test_a_note_names_a_bad_row_and_the_rest_is_read(told, tmp_path):
    """Quotes that swallow rows cost one row: 400 lines, 399 captions, the bad one named."""
    lines = [f"a.png,caption {k}" for k in range(400)]
    lines[100] = 'a.png,"caption 100'
    lines[104] = 'a.png,caption "104"'
    put(tmp_path, {"w/captions.csv": HEAD + "\n".join(lines)})
    Image.new("RGB", (9, 9), RED).save(tmp_path / "w" / "a.png")
    found, lines = of_world(told, "--on-bad", "skip")
    assert len(found["a.png"]) == 399 and 'caption "104"' in found["a.png"]
    left = [line for line in lines if line.startswith("left out")]
    assert len(left) == 1 and left[0].startswith("left out: captions.csv, row 102: quotes do not")


def test_notes_name_a_folder_that_is_a_dot(told, tmp_path, monkeypatch):
    world(tmp_path, {"captions.csv": HEAD + "a.png,one\na.png,uno\n"})
    monkeypatch.chdir(tmp_path / "w")
    assert "note: w: images with several rows" in of_world(told, world=".")[1][0]


@pytest.mark.parametrize(
    "ids, expected, notes",
    [
        ("", "ids.txt: no ids in it; write one a line", []),
        ("\ufeff" + NFD + "\r\n", {NFC: ["one"]}, []),
        (
            f"{NFC}\n{NFC}\n{NFD}",
            {NFC: ["one"]},
            ["ids.txt: ids that are there again, used once: 2"],
        ),
        ("caf.png", "ids.txt: 1 ids not in w, 'caf.png'; did you mean", []),
    ],
)
def test_a_file_of_ids(ids, expected, notes, told, tmp_path):
    put(tmp_path, {"ids.txt": ids})
    source = world(tmp_path, {NFC: b"", "captions.csv": HEAD + f"{NFC},one\n"})
    code, lines, read = told("caption", "no/model", "--world", source, "--ids", "ids.txt")
    assert code == 2
    matches(lines[-1], expected if isinstance(expected, str) else "no/model", lines, notes)


def test_a_folder_without_pictures_and_one_that_is_read_and_written(told, tmp_path, tiny_decoder):
    from dd.encoder import Encoder

    Encoder.new(tiny_decoder, 3, D=32, blocks=1).save(tmp_path / "encoder")
    put(tmp_path, {"w/a.heic": b"x", "t.csv": "id,text\n7,one\n", "t.ids.txt": "7\n", "T.CSV": ""})
    put(tmp_path, {"captions.csv": HEAD})
    how = ("--encoder", "encoder", "--out", "o.parquet")
    assert "or pictures alone (PNG, JPEG, " in told("write", "w", *how)[1][-1]
    assert "T.CSV: a data set; give --out FILE" in told("write", "T.CSV", *how[:2])[1][-1]
    for name in (b"a.png", b"\xff.png"):
        (tmp_path / "v").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), RED).save(tmp_path / "v" / os.fsdecode(name))
    code, lines, _ = told("write", "v", *how, "--on-bad", "skip")
    assert code == 0 and lines[0].startswith("left out: \\udcff.png: the id '\\udcff.png' has half")
    for words in (
        ("score", "t.csv", "--ids", "t.ids.txt"),  # which are written beside the table
        ("write", "t.csv", "--encoder", "encoder"),
        ("score", "./t.csv"),
        ("score", "v.csv", "--world", "."),
        ("ask", tmp_path / "t.csv", "--captions", "c.json"),
    ):
        out = "captions.csv" if "--world" in words else "t.csv"
        code, lines, _ = told(*words, "--out", out)
        assert code == 2 and " is read, too, and would be replaced" in lines[-1]
    assert (tmp_path / "t.csv").read_text() == "id,text\n7,one\n"
    assert (tmp_path / "t.ids.txt").read_text() == "7\n"


# -- texts with ids: score and ask ---------------------------------------------------------------

ids = lambda *pairs: "id,text\n" + "".join(f"{i},{t}\n" for i, t in pairs)
TEXTS = {
    "CSV": ("x.csv", ids((7, "one"), ("008", "two")), {"7": "one", "008": "two"}),
    "JSONL, ids of both kinds": (
        "x.jsonl",
        rows({"id": 7, "text": "one"}, {"id": "008", "text": "two"}),
        {"7": "one", "008": "two"},
    ),
    "JSONL, a byte-order mark and U+2028": (
        "x.jsonl",
        "\ufeff" + '{"id": "7", "text": "one\u2028uno"}\n',
        {"7": "one\u2028uno"},
    ),
    "Parquet": ("x.parquet", table(id=[7, 9], text=["one", "two"]), {"7": "one", "9": "two"}),
    "CSV, a byte-order mark": ("x.csv", "\ufeff" + ids((7, "one")), {"7": "one"}),
    "several texts of an id": (
        "x.csv",
        ids((7, "one"), (9, "two"), (7, "uno")),
        {"7": "one", "9": "two"},
        "note: x.csv: ids with several texts: 1, '7' first; the first text of each is used; "
        "left out: 1",
    ),
    "a list of texts": (
        "x.jsonl",
        rows({"id": 7, "text": ["one", "uno", "un"]}),
        {"7": "one"},
        "the first text of each is used; left out: 2",
    ),
    "a comma": (
        "x.csv",
        ids((7, "one"), (9, "two, three")),
        "x.csv, row 3: 3 fields for 2 columns",
    ),
    "a comma before the id": (
        "x.csv",
        "text,id\none, two,7\n",
        "x.csv, row 2: 3 fields for 2 columns",
    ),
    "swallowed rows": (
        "x.csv",
        'id,text\n7,"one\n9,two\n008,"\n',
        "x.csv, row 2: lines 2 to 4 are one row and look like several",
    ),
    "Python's lists": ("x.csv", "id,text\n7,\"['one', 'uno']\"\n", "is not JSON; write text or"),
    "an object": ("x.jsonl", rows({"id": 7, "text": {"a": 1}}), "row 1: the caption is an object"),
    "null": ("x.jsonl", rows({"id": 7, "text": None}), "x.jsonl, row 1: the caption is null"),
    "no id": ("x.csv", ids(("", "one")), "x.csv, row 2: no id; give every text the id"),
    "another column": ("x.csv", "id,words\n7,one\n", "x.csv, row 2: no text column"),
    "Latin-1": ("x.csv", ids((7, "caf\u00e9")).encode("latin-1"), "x.csv: line 2 is not UTF-8"),
    "UTF-16": ("x.csv", ids((7, "one")).encode("utf-16"), "x.csv: this is UTF-16; save"),
    "binary": ("x.jsonl", b"\0\1\2", "x.jsonl: not a text file"),
    "a picture": ("x.csv", PNG + b"\xff\xfe", "x.csv: line 1 is not UTF-8"),
    "another suffix": ("x.txt", "one", "x.txt: cannot read .txt; use .csv, .jsonl, .parquet"),
    "a folder": ("x.parquet", Path.mkdir, "x.parquet: a folder; give the file in it"),
    "a half-character": ("x.jsonl", rows({"id": 7, "text": "\ud83d"}), "has half a character"),
}
NAMES = {"a.png": "7", "b.png": "9", "c.png": "008"}


@pytest.fixture
def three(tmp_path):
    """A folder w of three pictures with ids 7, 9 and 008, and published files about them."""
    world(
        tmp_path,
        {
            "captions.csv": "id,file_name,text\n"
            + "".join(f"{i},{name},people's words\n" for name, i in NAMES.items())
        },
    )
    asked = [{"question_id": k, "question": "What?"} for k in range(3)]
    noted = [
        {"question_id": k, "image_id": i, "answers": [{"answer": "red"}]}
        for k, i in enumerate((7, "9", "008"))
    ]
    put(
        tmp_path,
        {
            "q.json": json.dumps({"questions": asked}),
            "a.json": (answered := json.dumps({"annotations": noted})),
        },
    )
    return answered


@pytest.mark.parametrize("case", TEXTS)
def test_texts_of_score_and_ask(case, three, told, tmp_path, tiny_folder):
    name, content, expected, *notes = TEXTS[case]
    put(tmp_path, {name: content})
    worlds = ("--world", "w", "--decoder", tiny_folder)
    asked = ("--questions", "q.json", "--annotations", "a.json", "--model", "no/model")
    if isinstance(expected, str):
        for words in (("score", name, *worlds), ("ask", name, *asked)):
            code, lines, _ = told(*words)
            assert code == 2
            matches(lines[-1], expected)
            code, lines, _ = told(*words, "--on-bad", "skip")
            assert code == 2 and any(expected in line for line in lines)
        return
    _, lines, read = told("score", name, *worlds)
    covered, said = read["read_texts"]
    matches(dict(zip(covered.frame["id"], said)), expected, lines, notes)
    _, lines, read = told("ask", name, *asked, "--on-bad", "skip")
    assert "no/model" in lines[-1]
    found = {id: text for id, (_, text) in read["texts_by_id"].items()}
    matches(found, expected, lines, notes)


@pytest.mark.parametrize(
    "given, expected",
    [
        (("007",), "x.csv, row 2: unknown id '007': the image's is '7'; ids that differ so: 1"),
        (("7.png", "9.jpg"), "unknown id '7.png': the image's is '7'; ids that differ so: 2"),
        (("COCO_val2014_000009",), "unknown id 'COCO_val2014_000009': the image's is '9'"),
        (("8",), "unknown id '8': the image's is '008'"),
        (("dog",), "unknown id 'dog' (this split's look like '7')"),
    ],
)
def test_near_misses_of_ids_are_named(given, expected, three, told, tmp_path, tiny_folder):
    put(tmp_path, {"x.csv": ids(*((i, "one") for i in given))})
    code, lines, _ = told("score", "x.csv", "--world", "w", "--decoder", tiny_folder)
    assert code == 2
    matches(lines[-1], expected)


def test_near_misses_of_ask(three, told, tmp_path):
    put(tmp_path, {"x.csv": ids(("007", "one"), (9, "two"), ("008", "three"))})
    words = ("ask", "x.csv", "--questions", "q.json", "--annotations", "a.json", "--model", "no/m")
    hint = "'7' is '007' here, ids that differ so: 1"
    matches(
        told(*words)[1][-1], f"no text for 1 of the 3 entries of q.json, image '7' first; {hint}"
    )
    assert hint in told(*words, "--on-bad", "skip")[1][0]


NOTE = {"question_id": 0, "image_id": 7, "answers": [{"answer": "red"}]}
note = lambda **more: {"a.json": json.dumps({"annotations": [NOTE | more]})}
PUBLISHED = {
    "no id": (
        {"a.json": '{"annotations": [{"answers": []}]}'},
        "[0]: 'question_id' needed",
    ),
    "no image": (
        {"a.json": json.dumps({"annotations": [{"question_id": 0, "answers": NOTE["answers"]}]})},
        "a.json, annotations[0]: 'image_id' needed; it has ['question_id', 'answers']",
    ),
    "no answers": (note(answers=[]), "a.json, annotations[0]: 'answers' is no list of answers"),
    "null answers": (note(answers=None), "a.json, annotations[0]: 'answers' is no list of answers"),
    "a null answer": (note(answers=[{"answer": None}]), "annotations[0]: the answer is null"),
    "answers of text": (note(answers=["red"]), "annotations[0]: 'answer' needed; it is no object"),
    "another image": (
        {
            "q.json": json.dumps(
                {"questions": [{"question_id": 0, "question": "What?", "image_id": 9}]}
            ),
            **note(),
        },
        "annotations[0]: question '0' is about image '7' here, 9 in q.json; the two files must",
    ),
    "a strange question": (
        note(question_id=5),
        "question '5' is not in q.json; the two files",
    ),
    "an empty list": ({"a.json": '{"annotations": []}'}, "under 'annotations', which is empty"),
    "questions as an object": (
        {"q.json": '{"questions": {"0": "What?"}}'},
        "q.json: not a COCO or VQA file; it needs a list of objects under 'questions'",
    ),
    "questions of text": (
        {"q.json": '{"questions": ["What?"]}'},
        "q.json, questions[0]: text,",
    ),
    "a question twice": (
        {
            "q.json": json.dumps(
                {"questions": [{"question_id": 0, "question": q} for q in ("Who?", "What?")]}
            )
        },
        "q.json, questions[1]: question '0' is there twice",
    ),
    "an answer twice": (
        {"a.json": json.dumps({"annotations": [NOTE, NOTE]})},
        "a.json, annotations[1]: question '0' is answered twice",
    ),
    "no JSON": ({"a.json": "{"}, "a.json: not JSON"),
    "no file": ({"a.json": lambda path: path.unlink()}, "a.json: no such file"),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_questions(case, three, told, tmp_path):
    files, expected = PUBLISHED[case]
    put(tmp_path, files | {"x.csv": ids((7, "one"), (9, "two"), ("008", "three"))})
    words = ("ask", "x.csv", "--questions", "q.json", "--annotations", "a.json", "--model", "no/m")
    code, lines, _ = told(*words)
    assert code == 2
    matches(lines[-1], expected)
    code, lines, _ = told(*words, "--on-bad", "skip")
    assert code == 2 and any(expected in line for line in lines)


def test_examples_and_captions_of_ask(three, told, tmp_path):
    put(
        tmp_path,
        {
            "x.csv": ids((7, "one"), (9, "two"), ("008", "three")),
            "c.json": coco(said=((7, "one"), (7, "uno"), (9, "two"))),
            "null.json": coco(said=((7, "one"), (9, None))),
        },
    )
    words = ("ask", "x.csv", "--model", "no/model")
    vqa = ("--questions", "q.json", "--annotations", "a.json")
    _, lines, _ = told(*words, *vqa, "--shots", 9, "--examples", "q.json", "a.json")
    matches(lines[-1], "--shots 9: q.json has 3 examples; ask for fewer, or give a larger file")
    _, lines, _ = told(*words, *vqa, "--examples", "q.json", "a.json")
    matches(lines[-1], "--examples: none is shown with --shots 0; give --shots, too")
    put(tmp_path, note())
    _, lines, _ = told(*words, *vqa)
    matches(lines[-1], "no/model", lines, ["note: a.json: questions without an answer in it"])
    put(tmp_path, {"a.json": three})
    _, lines, _ = told(*words, *vqa, "--shots", 1, "--examples", "q.json", "a.json")
    matches(lines[-1], "no/model", lines, ["3 of the 3 examples are about images that are asked"])
    _, lines, read = told(*words, "--captions", "c.json")
    assert "no/model" in lines[-1]
    found = read["read_captions"]
    assert dict(zip(found["id"], found["captions"])) == {"7": ["one", "uno"], "9": ["two"]}
    _, lines, _ = told(*words, "--captions", "null.json")
    matches(lines[-1], "null.json, annotations[1]: the caption is null; write text")
    _, lines, read = told(*words, "--captions", "null.json", "--on-bad", "skip")
    assert "no/model" in lines[-1] and list(read["read_captions"]["id"]) == ["7"]
    assert lines[-2].startswith("left out: null.json, annotations[1]")


def test_a_phrase_bank_with_a_byte_order_mark(three, told, tmp_path, monkeypatch):
    banks, plain = [], baselines.interrogate_by_clip
    noted = lambda data, bank, **how: banks.append(list(bank)) or plain(data, bank=bank, **how)
    monkeypatch.setattr(baselines, "interrogate_by_clip", noted)
    put(tmp_path, {"bank.txt": "\ufeffred\u2028 apple\r\n\r\nblue  sky\n"})
    told("interrogate", "no/clip", "--world", "w", "--bank", "bank.txt", "--out", "o.parquet")
    assert banks == [["red apple", "blue sky"]]
    put(tmp_path, {"bank.jsonl": rows("red apple")})
    _, lines, _ = told("interrogate", "no/clip", "--world", "w", "--bank", "bank.jsonl")
    matches(lines[-1], "--bank bank.jsonl: a table; save its phrases as .txt, one a line")
    code, lines, _ = told("interrogate", "no/clip", "--world", "w", "--bank", "none.txt")
    assert code == 2 and "none.txt: no such file" in lines[-1]


# -- pictures ------------------------------------------------------------------------------------


def corners(size=(24, 16)) -> Image.Image:
    """A picture that no turn and no mirror leaves as it is."""
    image = Image.new("RGB", size, "white")
    half = size[0] // 2, size[1] // 2
    image.paste(RED, (0, 0, *half))
    image.paste((20, 60, 200), (half[0], 0, size[0], half[1]))
    image.paste((30, 160, 40), (0, half[1], half[0], size[1]))
    return image


TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation: how it got there (Transpose)


@pytest.mark.parametrize("form", ["jpg", "png", "webp", "tiff", "avif"])
def test_pictures_are_turned_upright(form, told, tmp_path):
    """All eight orientations, through a data set; the upright picture comes back."""
    for value in range(1, 9):
        turned = corners().transpose(TURNS[value]) if value > 1 else corners()
        exif = Image.Exif()
        exif[0x0112] = value
        exact = {"webp": {"lossless": True}, "jpg": {"quality": 98}, "avif": {"quality": 95}}
        turned.save(tmp_path / f"{value}.{form}", exif=exif, **exact.get(form, {}))
    text = "".join(f"{v}.{form},x\n" for v in range(1, 9))
    put(tmp_path, {"captions.csv": HEAD + text})
    *_, read = told("caption", "no/model", "--world", ".", "--size", 16)
    images = read["load_dataset"].images.astype(int)
    wanted = np.asarray(corners().crop((4, 0, 20, 16))).astype(int)
    assert len(images) == 8 and np.abs(images - wanted).max(axis=(1, 2, 3)).max() < 100
    assert np.abs(images - wanted).mean() < 6


def test_write_turns_pictures_upright(capsys, whole_dataset, tmp_path):
    """The words of a drawing that lies on its side are those of the drawing."""
    upright = Image.fromarray(whole_dataset.images[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / "a.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png")
    assert main(["write", *(str(tmp_path / f"{k}.png") for k in "abc")]) == 0
    a, b, c = (line.split("\t")[1] for line in capsys.readouterr().out.splitlines())
    assert a == b != c
    put(tmp_path, {"d.png": bomb(20_000, 20_000)})
    for name in ("d.png", "e.png"):
        assert main(["write", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def grey(levels, mode=None, **how):
    """A row of grey levels as a picture file."""

    def save(path):
        image = Image.fromarray(np.array([levels] * 4, mode))
        image.save(path, **how)

    return save


def raw_tiff(levels, bits: int, inverse=False, kind=1) -> bytes:
    """An uncompressed grey TIFF of one strip."""
    data = np.array([levels] * 4, "<f4" if kind == 3 else f"<u{bits // 8}").tobytes()
    tags = [(256, 4), (257, 4), (258, bits), (259, 1), (262, 0 if inverse else 1), (273, 134)]
    tags += [(277, 1), (278, 4), (279, len(data)), (339, kind)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + data


LEVELS = [0, 0x4040, 0xC0C0, 0xFFFF]
GREY = {
    "16 bits, PNG": ("png", grey(LEVELS, np.uint16), [0, 64, 192, 255]),
    "16 bits, TIFF": ("tiff", grey(LEVELS, np.uint16), [0, 64, 192, 255]),
    "16 bits, PGM": ("pgm", grey(LEVELS, np.uint16), [0, 64, 192, 255]),
    "16 bits, 0 is white": ("tiff", raw_tiff(LEVELS, 16, True), [255, 191, 63, 0]),
    "16 bits, one level clear": (
        "png",
        grey(LEVELS, np.uint16, transparency=0x4040),
        [0, 255, 192, 255],
    ),
    "32 bits": ("tiff", raw_tiff([0, 1, 2, 2**31], 32), "grey levels of 32 bits"),
    "float": ("tiff", raw_tiff([0, 0.25, 0.75, 1], 32, kind=3), "grey levels of decimal numbers"),
    "16 bits with a sign": ("tiff", raw_tiff([0, 1, 2, 3], 16, kind=2), "levels with a sign"),
    "8 bits with a sign": ("tiff", raw_tiff([0, 1, 2, 3], 8, kind=2), "levels with a sign"),
    "8 bits": ("png", grey([0, 64, 192, 255], np.uint8), [0, 64, 192, 255]),
    "1 bit": ("png", lambda p: Image.new("1", (4, 4), 1).save(p), [255] * 4),
}


@pytest.mark.parametrize("case", GREY)
def test_grey_is_scaled_or_refused(case, told, tmp_path):
    suffix, content, expected = GREY[case]
    put(tmp_path, {f"x.{suffix}": content, "captions.csv": HEAD + f"x.{suffix},x\n"})
    _, lines, read = told("caption", "no/model", "--world", ".", "--size", 4 * 2)
    if isinstance(expected, str):
        matches(lines[-1], f"cannot decode image x.{suffix} ({expected}")
    else:
        assert read_picture(tmp_path / f"x.{suffix}", 4)[0, :, 0].tolist() == expected
        assert len(read["load_dataset"]) == 1


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), c) for c in (RED, "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "x.gif", 4)[0, 0].tolist() == list(RED)


# -- what reaches tables, pages and figures ------------------------------------------------------


def test_no_text_breaks_a_table_or_a_figure(tmp_path):
    import importlib

    from dd.figures import sheet

    tables = importlib.import_module("dd.report.tables")
    hostile = "<b>x</b> | $\\input{y}$\n# 100 % & _z_ ~ ^"
    frame = pd.DataFrame({hostile: [hostile], "n": ["1"]})
    tables.write_tables(tmp_path / "t", [(hostile, frame)], hostile)
    md, tex = ((tmp_path / f"t.{s}").read_text().splitlines() for s in ("md", "tex"))
    safe = r"&lt;b&gt;x&lt;/b&gt; \| $\input{y}$ # 100 % &amp; _z_ ~ ^"
    assert md[:5] == [f"**{safe}**", "", f"| {safe} | n |", "|---|---:|", f"| {safe} | 1 |"]
    cells = [line for line in tex if "textbackslash input" in line]
    assert len(cells) == 3 and not any(r"\input" in line for line in cells)
    assert all(line.endswith((r"\\", "}} \\\\")) for line in cells)
    assert "&lt;b&gt;" in "\n".join(tables.printed(frame, "html"))
    red = np.zeros((1, 8, 8, 3), np.uint8)
    names = dict(names=[hostile], texts={"x": [hostile]}, pictures={"x": red})
    assert sheet(red, path=tmp_path / "s", **names) == tmp_path / "s"
