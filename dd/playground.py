"""A page to play on: a picture, its words, and what a decoder draws from them.

    Playground().page    # the last line of a notebook's cell

`make play` serves notebooks/playground.ipynb, which is this, as a page of its own. A change costs
at most one writing and one drawing; every model is loaded once, a decoder when it is first chosen.
"""

import io
from contextlib import redirect_stderr
from html import escape

import ipywidgets as widgets
import numpy as np
from ipycanvas import Canvas
from PIL import Image, ImageDraw

from .messages import one_line
from .reading import BadData, read_picture
from .sources import DECODERS

SIDE = 256  # pixels of a picture on the page
PEN = 14  # and of a stroke's width
NOTHING = ("nothing", -1)  # to mix with
WRAP = {"flex_flow": "row wrap"}  # side by side where there is room


def png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) -> a PNG file, enlarged without smoothing."""
    larger = Image.fromarray(picture).resize((SIDE, SIDE), Image.NEAREST)
    larger.save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


class Playground:
    """The parts of the page are attributes; `page` is all of them, laid out.

    n: test drawings to choose from; encoder, decoders, steps: as `python -m dd redraw` has them"""

    def __init__(self, n=60, encoder="encoder", decoders=DECODERS, steps=8):
        from .data import load_dataset
        from .encoder import Encoder

        drawings = load_dataset("emoji").subset("test", n)
        self.pictures = list(drawings.images)  # uint8 (H, W, 3) each; one's own come after
        rows = zip(drawings.frame["name"], drawings.frame["style"])
        self.choices = sorted((f"{name} ({style})", k) for k, (name, style) in enumerate(rows))
        self.texts, self.decoders = {}, {}  # by number of the picture, by name
        self.steps, self.seed, self.drawn_from, self.notes = steps, 0, None, []
        self.sketches = 0  # drawn here and taken

        self.picture = widgets.Dropdown(options=self.choices, description="picture")
        self.other = widgets.Dropdown(options=[NOTHING, *self.choices], description="mix with")
        self.upload = widgets.FileUpload(accept="image/*", description="upload", icon="")
        self.words = widgets.Textarea(continuous_update=False, rows=4, description="words")
        self.words.layout.width = "auto"  # all of the page's
        self.decoder = widgets.Dropdown(options=decoders, description="decoder")
        self.guidance = widgets.FloatSlider(3, min=0, max=10, step=0.5, description="guidance")
        self.guidance.continuous_update = False  # draw when the slider is released
        names = ("draw", "its own words", "another noise")
        self.draw, self.again, self.noise = (widgets.Button(description=n) for n in names)
        self.draw.button_style = "primary"
        self.message = widgets.HTML()
        self.canvas, self.pen = Canvas(width=SIDE, height=SIDE), None
        self._blank()
        self.canvas.layout = {"border": "1px solid #999999"}
        self.colour = widgets.ColorPicker(value="#d62828", description="colour")
        self.wipe, self.taken = (widgets.Button(description=n) for n in ("wipe", "take it"))
        pens = widgets.VBox([self.colour, self.taken, self.wipe])
        own = widgets.HBox([self.canvas, pens], layout=WRAP)
        self.own = widgets.Accordion([own], titles=["draw a picture"])
        size = {"width": f"{SIDE}px", "max_width": "40vw"}  # two fit on a telephone
        self.shown = [widgets.Image(layout=size) for _ in range(3)]
        titles = map(widgets.Label, ("original", "mixed with it", "drawn from the words"))
        boxes = [widgets.VBox(pair) for pair in zip(titles, self.shown)]
        self.mixed = boxes[1]
        self.page = widgets.VBox(
            [
                widgets.HBox([self.picture, self.upload, self.other], layout=WRAP),
                widgets.HBox(boxes, layout=WRAP),
                self.words,
                widgets.HBox([self.draw, self.again, self.noise], layout=WRAP),
                widgets.HBox([self.decoder, self.guidance], layout=WRAP),
                self.message,
                self.own,
            ]
        )
        self.upload.observe(self._uploaded, "value")
        for part in (self.picture, self.other):
            part.observe(self._write, "value")
        for part in (self.words, self.decoder, self.guidance):
            part.observe(self._draw, "value")
        self.draw.on_click(self._draw)
        self.again.on_click(self._write)
        self.noise.on_click(self._another)
        self.wipe.on_click(self._wiped)
        self.taken.on_click(self._sketched)
        self.canvas.on_mouse_down(self._down)
        self.canvas.on_mouse_move(self._move)
        self.canvas.on_mouse_up(self._up)
        self.canvas.on_mouse_out(self._up)
        self.canvas.on_touch_start(lambda points: self._down(*points[0]))  # the first finger
        self.canvas.on_touch_move(lambda points: self._move(*points[0]))
        self.canvas.on_touch_end(self._up)
        with redirect_stderr(io.StringIO()):  # what is said of the machine is for a terminal
            self.encoder = Encoder.load(encoder)
            self._write()

    def _say(self, *lines: str) -> None:
        told = "<br>".join(escape(one_line(line)) for line in lines)
        self.message.value = f'<div role="status" style="line-height: 1.4">{told}</div>'

    def _blank(self) -> None:
        """Tells the page's canvas nothing: what is told before a page is open is lost, and with the
        first command which canvas is meant."""
        self.sketch, self.empty = Image.new("RGB", (SIDE, SIDE), "white"), True

    def _wiped(self, _) -> None:
        self.canvas.clear()
        self._blank()

    def _down(self, x: float, y: float) -> None:
        self.canvas.line_width, self.canvas.line_cap = PEN, "round"
        self.pen = x, y
        self._move(x, y)  # a click is a dot

    def _move(self, x: float, y: float) -> None:
        """A stroke, on the page and, as the browser would send it late, in a picture of our own."""
        if self.pen:
            self.canvas.stroke_style = colour = self.colour.value
            self.canvas.stroke_line(*self.pen, x, y)
            draw, half = ImageDraw.Draw(self.sketch), PEN / 2
            draw.line((*self.pen, x, y), colour, PEN)
            draw.ellipse((x - half, y - half, x + half, y + half), colour)
            self.pen, self.empty = (x, y), False

    def _up(self, *_) -> None:
        self.pen = None

    def _sketched(self, _) -> None:
        """What is drawn on the canvas becomes the chosen picture."""
        if self.empty:
            return self._say("nothing is drawn yet; press the mouse button and move")
        self.sketches += 1
        self._take(f"my drawing {self.sketches}", png(np.asarray(self.sketch)))

    def _uploaded(self, _) -> None:
        """The uploaded file becomes the chosen picture."""
        if self.upload.value:
            (file,), self.upload.value = self.upload.value, ()  # so that it can be uploaded again
            self._take(file["name"], file["content"])

    def _take(self, name: str, content: bytes) -> None:
        """A file's content becomes one of the pictures, and the chosen one."""
        stream = io.BytesIO(content)
        stream.name = name  # for messages
        try:
            self.pictures.append(read_picture(stream, len(self.pictures[0])))
        except BadData as error:
            return self._say(f"{error}; choose another file")
        self.choices.insert(0, (name, len(self.pictures) - 1))
        self.other.unobserve(self._write, "value")  # its choices grow, what is chosen stays
        kept, self.other.options = self.other.value, [NOTHING, *self.choices]
        self.other.value = kept
        self.other.observe(self._write, "value")
        self.picture.options = self.choices  # chooses the first, which writes its words

    def _write(self, *_) -> None:
        """The words of what is chosen; a drawing of them if they are others than before."""
        from .data import to_pixels
        from .texts import blended

        chosen = [k for k in (self.picture.value, self.other.value) if k >= 0]
        for place, k in zip(self.shown, chosen):
            place.value = png(self.pictures[k])
            if k not in self.texts:  # each by itself: its words are the same beside any other
                (self.texts[k],) = self.encoder.write(to_pixels(self.pictures[k][None]))
        self.mixed.layout.display = "none" if len(chosen) == 1 else None
        first, last = self.texts[chosen[0]], self.texts[chosen[-1]]
        self.words.value = blended(first, last)  # one text with itself is itself
        self._draw()

    def _another(self, _) -> None:
        self.seed += 1
        self._draw()

    def _draw(self, *_) -> None:
        """Draws unless it has: before a click on the button, the text box tells of its words."""
        from .decoder import Decoder, brought
        from .vocab import unread

        text, name, guidance = self.words.value, self.decoder.value, self.guidance.value
        if self.drawn_from != (asked := (text, name, guidance, self.seed)):
            self._say("drawing ...")
            try:
                if name not in self.decoders:
                    self.decoders[name] = Decoder.load(name)
                decoder = self.decoders[name]
                how = dict(guidance=guidance, steps=self.steps, seed=self.seed)
                self.shown[2].value = png(decoder.draw([text], [brought(0)], **how)[0])
            except (OSError, ValueError) as error:
                return self._say(f"not drawn: {error}")
            self.drawn_from, self.notes = asked, unread(decoder.tokenizer, [text], decoder.name)[1]
        self._say(*self.notes)
