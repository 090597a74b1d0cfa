"""Optimizers and learning rates of every training: AdamW, and Muon for matrices and kernels."""

import math

import torch
from torch import nn

from .runtime import compute_dtype


def cosine_rate(step: int, steps: int, peak: float, warmup: int, floor: float = 0.01) -> float:
    """Linear warm-up, then cosine decay from `peak` to `floor * peak` (the paper: 3e-4 to 3e-6)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    angle = math.pi * (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(angle)))


def constant_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, `peak`, and linearly to zero over the last fifth."""
    return peak * min(1.0, (step + 1) / warmup if warmup else 1.0, 5 * (steps - step) / steps)


def adamw(parameters, rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    how = dict(betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
    return torch.optim.AdamW(parameters, lr=rate, **how)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by five Newton-Schulz steps (Jordan et al., 2024; Liu et al., 2025
    for the size of the update), of matrices and of kernels seen as (out, in k k).

    Not torch's, which takes no kernels and multiplies in bfloat16 on every processor: where there
    is none, a step of `sketch` took minutes."""

    def __init__(self, parameters, rate: float, momentum: float = 0.95, weight_decay: float = 0.02):
        super().__init__(parameters, dict(lr=rate, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(mean, group["momentum"]).reshape(len(p), -1))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(update.shape) ** 0.5  # of an update by AdamW
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * size)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (m, n) with singular values of about 1, by Newton-Schulz iteration.

    In float32 on its Gram matrix (m, m), a quarter of the products for a kernel; bfloat16 is too
    coarse for that."""
    x = matrix.to(compute_dtype())
    x = x.T if len(matrix) > matrix.shape[1] else x
    x = x / (x.norm() + 1e-7)
    factor = lambda square: -4.7750 * square + 2.0315 * square @ square
    if x.dtype == torch.float32:
        gram, one = x @ x.T, torch.eye(len(x), device=x.device)
        whole = one
        for _ in range(5):  # all are functions of one matrix, so they commute
            step = 3.4445 * one + factor(gram)
            gram, whole = step @ (step @ gram), step @ whole
        x = whole @ x
    else:
        for _ in range(5):
            x = 3.4445 * x + factor(x @ x.T) @ x
    return (x.T if len(matrix) > matrix.shape[1] else x).to(matrix)


class MuonAndAdamW:
    """Muon for hidden matrices and kernels, AdamW for embeddings, vectors, first and last layer."""

    def __init__(self, net: nn.Module, rate: float):
        ends = ("embed", "conv_in", "conv_out", "proj_out", "shared")
        hidden = lambda name, p: p.ndim > 1 and not any(end in name for end in ends)
        named = [(hidden(n, p), p) for n, p in net.named_parameters() if p.requires_grad]
        of = lambda kind: [p for is_hidden, p in named if is_hidden is kind]
        self.parts = (Muon(of(True), rate), adamw(of(False), rate))

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()
