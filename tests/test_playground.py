"""The page to play on, without a browser (tests/test_browser.py has one): what is chosen, changed
and uploaded, and what it costs."""

import io
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from dd import data, runtime
from dd.decoder import Decoder
from dd.encoder import Encoder
from dd.playground import Playground
from dd.reading import BadData


@pytest.fixture
def calls(monkeypatch):
    """How often models were loaded, words written and pictures drawn."""
    counts = dict(load=0, write=0, draw=0)

    def counted(kind, name):
        plain = getattr(kind, name)

        def call(*a, **k):
            counts[name] += 1
            return plain(*a, **k)

        monkeypatch.setattr(kind, name, call)

    for kind, name in ((Encoder, "write"), (Decoder, "draw"), (Decoder, "load")):
        counted(kind, name)
    return counts


@pytest.fixture
def play(tiny_folder, judge_folder, whole_dataset, monkeypatch, calls):
    """The page with the shipped encoder and two untrained decoders, one step a picture."""
    monkeypatch.setattr(data, "load_dataset", lambda *a, **k: whole_dataset)
    return Playground(6, decoders=(str(tiny_folder), str(judge_folder)), steps=1)


def drawn(play) -> bytes:
    return bytes(play.shown[2].value)


def uploaded(play, name: str, content: bytes) -> None:
    """What the page sends when a file is chosen there."""
    when = datetime(2026, 1, 1)
    told = dict(name=name, type="image/png", size=len(content), content=memoryview(content))
    play.upload.value = (told | {"last_modified": when},)


def file_of(colour: str, size=(90, 60)) -> bytes:
    Image.new("RGB", size, colour).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


def test_it_opens_with_a_picture_its_words_and_a_drawing(play, calls):
    assert calls == dict(load=1, write=1, draw=1)
    assert len(play.words.value.split()) == 16 and "nothing" == play.other.label
    original = Image.open(io.BytesIO(play.shown[0].value))
    assert original.size == (256, 256)
    small = np.asarray(original)[2::4, 2::4]
    assert (small == play.pictures[play.picture.value]).all()
    assert drawn(play)[:4] == b"\x89PNG" and play.mixed.layout.display == "none"


def test_another_drawing_has_other_words(play, calls):
    words, before, original = play.words.value, drawn(play), bytes(play.shown[0].value)
    play.picture.index = 1
    assert play.words.value != words
    assert drawn(play) != before and bytes(play.shown[0].value) != original
    assert calls == dict(load=1, write=2, draw=2)


@pytest.mark.parametrize("change", ["words", "guidance", "noise"])
def test_a_change_draws_once_and_what_is_drawn_follows(play, calls, change):
    before, own = drawn(play), play.words.value
    if change == "words":
        play.words.value = own.split(" ", 1)[1]
        play.draw.click()  # after the text box has told of its words: nothing is left to draw
    elif change == "guidance":
        play.guidance.value = 8
    else:
        play.noise.click()
    assert drawn(play) != before
    assert calls == dict(load=1, write=1, draw=2)
    if change == "words":
        play.again.click()
        assert play.words.value == own and drawn(play) == before
        assert calls["write"] == 1


def test_a_decoder_is_loaded_once_when_it_is_first_chosen(play, calls):
    one, other = play.decoder.options
    first = drawn(play)
    play.decoder.value = other
    assert calls["load"] == 2 and drawn(play) != first
    play.decoder.value = one
    assert calls["load"] == 2 and drawn(play) == first


def test_two_pictures_words_in_turn(play):
    own = play.words.value.split()
    play.other.index = 3  # "nothing" is the first
    mixed = play.words.value.split()
    assert mixed[::2] == own[::2] and mixed[1::2] != own[1::2]
    assert len(mixed) == 16 and play.mixed.layout.display is None
    play.other.index = 0
    assert play.words.value.split() == own and play.mixed.layout.display == "none"


def test_unknown_words_are_named_with_the_nearest_known(play):
    play.words.value = "red aple"
    assert "tiny does not know 1 of 2 words" in play.message.value
    assert "aple (nearest known: " in play.message.value
    play.words.value = "red"
    assert "does not know" not in play.message.value


def test_an_uploaded_picture_is_chosen_and_may_be_mixed(play, calls):
    play.other.index = 3
    second, count = bytes(play.shown[1].value), dict(calls)
    uploaded(play, "mine.png", file_of("red"))
    assert (play.picture.label, play.picture.index) == ("mine.png", 0)
    assert (Image.open(io.BytesIO(play.shown[0].value)).getpixel((9, 9))) == (255, 0, 0)
    assert play.other.index == 4 and bytes(play.shown[1].value) == second
    assert calls == count | dict(write=count["write"] + 1, draw=count["draw"] + 1)
    uploaded(play, "mine.png", file_of("blue"))  # another file of that name
    assert (Image.open(io.BytesIO(play.shown[0].value)).getpixel((9, 9))) == (0, 0, 255)
    play.other.index = 2  # the red one
    assert play.other.label == "mine.png"
    assert (Image.open(io.BytesIO(play.shown[1].value)).getpixel((9, 9))) == (255, 0, 0)


def test_a_drawing_made_here_is_taken(play, calls):
    words, before = play.words.value, dict(calls)
    play.taken.click()
    assert "nothing is drawn yet" in play.message.value and play.picture.label != "my drawing 1"
    strokes = []
    play.canvas.stroke_line = lambda *line: strokes.append((*line, play.canvas.stroke_style))
    play.colour.value = "#0000ff"
    for kind, x, y in (
        *(("mouse_move", 5, 5), ("mouse_down", 9, 9), ("mouse_move", 20, 9)),
        *(("mouse_up", 20, 9), ("mouse_move", 40, 40)),
    ):
        play.canvas._handle_frontend_event(play.canvas, dict(event=kind, x=x, y=y), [])
    assert strokes == [(9, 9, 9, 9, "#0000ff"), (9, 9, 20, 9, "#0000ff")]
    play.taken.click()
    assert (play.picture.label, play.picture.index) == ("my drawing 1", 0)
    shown = Image.open(io.BytesIO(play.shown[0].value))
    red, green, blue = shown.getpixel((14, 9))  # made small and large again
    assert max(red, green) < 30 and blue > 220 and shown.getpixel((40, 40)) == (255, 255, 255)
    assert play.words.value != words and calls["draw"] == before["draw"] + 1
    play.wipe.click()
    play.taken.click()
    assert "nothing is drawn yet" in play.message.value and play.picture.label == "my drawing 1"


def test_a_broken_upload_is_told_in_one_line_and_changes_nothing(play, calls):
    before, words = drawn(play), play.words.value
    for _ in range(2):  # the same file again: told again
        play.message.value = ""
        uploaded(play, "bro\nken<b>.png", b"no picture")
        told = play.message.value
        assert "cannot decode image bro\\nken&lt;b&gt;.png (Unidentified" in told
        assert "choose another file" in told and "<br>" not in told and " at 0x" not in told
    assert (drawn(play), play.words.value) == (before, words) and play.upload.value == ()
    assert calls["draw"] == 1
    uploaded(play, "mine.png", file_of("red"))
    assert "cannot decode" not in play.message.value


def test_a_decoder_that_cannot_draw_is_told_and_tried_again(play, monkeypatch):
    def broken(*a, **k):
        raise BadData("decoder x: no weights; fetch it again")

    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "load", broken)
        play.decoder.index = 1
        assert "not drawn: decoder x: no weights" in play.message.value
    before = drawn(play)
    play.draw.click()
    assert drawn(play) != before and "not drawn" not in play.message.value


def test_nothing_is_printed_into_the_page(play, capsys):
    runtime.device.cache_clear()  # which would be told of again
    Playground(6, decoders=play.decoder.options, steps=1)
    assert capsys.readouterr() == ("", "")
