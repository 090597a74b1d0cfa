"""What a machine forces on us: every core its own batches."""

import threading

import pytest
import torch

from dd.runtime import on_every_core


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # given back, whatever happened in between
    torch.set_num_threads(before)


def test_every_core_has_batches_of_its_own(two_threads):
    seen = []

    def work(rows):
        seen.append(
            (
                threading.current_thread() is threading.main_thread(),
                torch.get_num_threads(),
                torch.is_grad_enabled(),
            )
        )
        return list(range(11))[rows]

    assert list(on_every_core(work, 11, 4)) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10],
    ]  # in order, the last one short
    assert seen == [(False, 1, False)] * 3
    seen.clear()
    assert (
        list(on_every_core(work, 4, 4)) == [[0, 1, 2, 3]]
        and len(list(on_every_core(work, 0, 4))) == 1
    )
    assert seen == [(True, 2, False)] * 2  # a single batch has all cores
    assert torch.is_grad_enabled()


def test_an_error_in_a_batch_is_an_error(two_threads):
    def work(rows):
        if rows.start == 4:
            raise ValueError("the second")
        return rows.start

    with pytest.raises(ValueError, match="the second"):
        list(on_every_core(work, 12, 4))


def test_a_batch_inside_a_batch_stays_on_its_core(two_threads):
    assert (
        list(
            on_every_core(
                lambda rows: list(on_every_core(lambda r: torch.get_num_threads(), 5, 2)), 4, 2
            )
        )
        == [[1, 1, 1]] * 2
    )


def test_pictures_are_seen_alike_in_any_batches(two_threads, small_dataset, tiny_decoder):
    from dd.encoder import backbone_features
    from dd.metrics import image_features

    images, pixels = small_dataset.images[:20], small_dataset.pixels(slice(0, 20))
    for look in (
        lambda B: image_features(images, B=B),
        lambda B: backbone_features(pixels, B=B).float(),
        lambda B: tiny_decoder.encode(pixels, B=B),
    ):
        many, one = look(None), look(20)
        torch.testing.assert_close(many, one, atol=0.1 * float(one.std()), rtol=0.05)
    z = tiny_decoder.encode(pixels)
    assert abs(tiny_decoder.decode(z).astype(int) - tiny_decoder.decode(z, B=20)).max() <= 8
    assert (
        tiny_decoder.encode(pixels[:0]).shape == (0, *z.shape[1:])
        and len(tiny_decoder.decode(z[:0])) == 0
    )
