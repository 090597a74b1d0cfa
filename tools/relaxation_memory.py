"""Peak memory and processor time of the relaxation at the paper's size (75 tokens of 49,408, width
1024), forward and backward: all images of a batch at once, and piece by piece as training does it.

    python tools/relaxation_memory.py 2 8

A line a batch and way: memory above weights and table, each measured in a process of its own."""

import os
import resource
import subprocess
import sys
import time

import torch

from dd import encoder
from dd.runtime import device, generator
from dd.train import relaxed_words

N, V, D = 75, 49_408, 1024
FREED = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}  # glibc gives back what is freed


def peak() -> int:
    """The most memory so far, in bytes."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(B: int, way: str) -> None:
    if way == "at once":
        encoder.ROOM = (B * N * V,) * 2
    pooler = encoder.Pooler(N=N, V=V, D=D, blocks=0).to(device())
    table, read = (torch.randn(rows, D, device=device()) for rows in (V, B * N))
    read = read.view(B, N, D).requires_grad_()
    before, how = peak(), dict(tau=1.0, noise=1.0, generator=generator(0, "noise"))
    began = time.process_time()
    relaxed_words(pooler, read, table, **how)[0].square().mean().backward()
    seconds = time.process_time() - began
    gradients = sum(p.numel() * 4 for p in pooler.to_logits.parameters())
    used = peak() - before - gradients
    copies = used / (B * N * V * 4)
    print(
        f"B {B:3} {way:10} {used / 1e6:6.0f} MB, {copies:.1f} copies of (B, N, V), {seconds:.0f} s"
    )


if __name__ == "__main__":
    if sys.argv[2:] and not sys.argv[2].isdigit():
        measure(int(sys.argv[1]), sys.argv[2])
    else:
        for B in sys.argv[1:] or ["2", "8"]:
            for way in ("at once", "in pieces"):
                subprocess.run([sys.executable, __file__, B, way], check=True, env=FREED)
