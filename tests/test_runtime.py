"""Batches on every core, progress, and the switch that leaves out automatic mixed precision."""

import io
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from dd import runtime
from dd.runtime import Progress, autocast, on_every_core, plain_float32, say


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # given back, whatever happened in between
    torch.set_num_threads(before)


def test_every_core_has_batches_of_its_own(two_threads):
    found = []

    def work(rows):
        main = threading.current_thread() is threading.main_thread()
        found.append((main, torch.get_num_threads(), torch.is_grad_enabled()))
        return list(range(11))[rows]

    in_order = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]  # the last one short
    assert list(on_every_core(work, 11, 4)) == in_order
    assert found == [(False, 1, False)] * 3
    found.clear()
    assert list(on_every_core(work, 4, 4)) == in_order[:1]
    assert len(list(on_every_core(work, 0, 4))) == 1
    assert found == [(True, 2, False)] * 2  # a single batch has all cores
    assert torch.is_grad_enabled()


def test_an_error_in_a_batch_is_an_error(two_threads):
    def work(rows):
        if rows.start == 4:
            raise ValueError("the second")
        return rows.start

    with pytest.raises(ValueError, match="the second"):
        list(on_every_core(work, 12, 4))


def test_a_batch_inside_a_batch_stays_on_its_core(two_threads):
    inside = lambda rows: list(on_every_core(lambda r: torch.get_num_threads(), 5, 2))
    assert list(on_every_core(inside, 4, 2)) == [[1, 1, 1]] * 2


def test_batches_do_not_change_features_latents_and_pictures(
    two_threads, small_dataset, tiny_decoder
):
    from dd.encoder import backbone_features
    from dd.metrics import image_features

    images, pixels = small_dataset.images[:10], small_dataset.pixels(slice(0, 10))
    for compute in (
        lambda B: image_features(images, B=B),
        lambda B: backbone_features(pixels, B=B).float(),
        lambda B: tiny_decoder.encode(pixels, B=B),
    ):
        many, one = compute(4), compute(10)
        torch.testing.assert_close(many, one, atol=0.1 * float(one.std()), rtol=0.05)
    z = tiny_decoder.encode(pixels)
    many, one = (tiny_decoder.decode(z, B=B).astype(int) for B in (4, 10))
    assert abs(many - one).max() <= 8
    assert tiny_decoder.encode(pixels[:0]).shape == (0, *z.shape[1:])
    assert len(tiny_decoder.decode(z[:0])) == 0


def test_plain_float32_is_everywhere_and_ends(monkeypatch):
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: True)
    assert isinstance(autocast(), torch.autocast) and runtime.numbers() == "bfloat16"
    with pytest.raises(ZeroDivisionError), plain_float32():
        with plain_float32():
            pass
        assert isinstance(autocast(), nullcontext) and runtime.numbers() == "float32"
        raise ZeroDivisionError
    assert isinstance(autocast(), torch.autocast)


@pytest.mark.parametrize("in_hardware", [True, False])
def test_a_gpu_that_only_imitates_bfloat16_computes_in_float32(in_hardware, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    supported = lambda including_emulation: including_emulation or in_hardware
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert runtime.has_bfloat16.__wrapped__() is in_hardware
    told = ("float32 (no bfloat16 arithmetic on this GPU)", "bfloat16 autocast (GPU)")[in_hardware]
    assert told in capsys.readouterr().err


def test_an_image_has_the_noise_that_the_whole_batch_has():
    new = lambda: runtime.generator(0, "test")
    rng, whole = new(), torch.rand((5, 3, 7), generator=new())
    each = runtime.streams(rng, 5, 21)
    for g, wanted in zip(each, whole):
        assert torch.equal(torch.rand((3, 7), generator=g.clone_state()), wanted)
    after = new()
    torch.rand(5 * 21, generator=after)
    assert torch.equal(torch.rand(4, generator=rng), torch.rand(4, generator=after))


@pytest.fixture
def stderr(monkeypatch):
    """A clock that is moved by hand, and a standard error that may be a terminal."""

    class Stderr(io.StringIO):
        terminal, now = False, 0.0

        def isatty(self):
            return self.terminal

        def run(self, seconds: list[float], **how):
            """A stage of steps that take these seconds -> (when, line) of what is printed."""
            lines, progress = [], Progress("draw", len(seconds), **how)
            for step, took in enumerate(seconds, 1):
                self.now += took
                self.seek(0), self.truncate()
                progress(step)
                if self.getvalue():
                    lines.append((sum(seconds[:step]), self.getvalue()))
            return lines

    fake = Stderr()
    monkeypatch.setattr(runtime, "sys", SimpleNamespace(stderr=fake))
    monkeypatch.setattr(runtime.time, "monotonic", lambda: fake.now)
    return fake


def test_a_short_stage_is_one_line_where_there_is_no_terminal(stderr):
    assert stderr.run([0.5] * 8, unit="pictures") == [(4.0, "draw: 8 pictures in 4 s, 2/s\n")]


def test_a_long_stage_is_one_line_a_minute(stderr):
    lines = stderr.run([1.0] * 200)
    assert [when for when, _ in lines] == [5, 65, 125, 185, 200]
    assert lines[1][1] == "draw: 65/200 images (32%), 1/s, 2.2 min left\n"


def test_a_terminal_has_one_line_that_moves_and_messages_replace_it(stderr):
    stderr.terminal = True
    lines = [line for _, line in stderr.run([0.1] * 5)]
    assert lines[0] == "\rdraw: 1/5 images (20%)\x1b[K"  # moved, not ended
    assert len(lines) == 3 and lines[-1] == "\rdraw: 5 images in 0 s, 10/s\x1b[K\n"
    stderr.seek(0), stderr.truncate()
    say("note")
    assert stderr.getvalue() == "\rnote\x1b[K\n"


@pytest.mark.parametrize(
    "seconds",
    [
        [30.0] + [1.0] * 400,  # warming up
        [1.0] * 200 + [2.0] * 200,  # slower later, as where answers become longer
        ([1.0] * 49 + [20.0]) * 10,  # a slow step now and then, as where a training is probed
    ],
)
def test_time_left_is_right_within_a_third(stderr, seconds):
    """At all times but before a change that nobody can know of."""
    lines = stderr.run(seconds)
    known = 300 if seconds[-1] == 2.0 else 60
    checked = 0
    for when, line in lines[:-1]:
        if "left" in line and when > known:
            number, unit = line.split(", ")[-1].split()[:2]
            said = float(number) * {"s": 1, "min": 60}[unit]
            left = sum(seconds) - when
            assert said == pytest.approx(left, rel=1 / 3, abs=20), line
            checked += 1
    assert checked >= 3
