"""Choices a machine forces on us (device, number format, threads), each made once and said once; seeds; progress; checkpoints.

One root seed, one generator per purpose: `generator(seed, "gumbel")` and `generator(seed, "noise")` never disturb each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .data import stable_hash
from .files import write_json as write_json

ASSETS = Path(__file__).parent / "assets"


def shipped(name: str | Path) -> Path:
    """A shipped model by its bare name ("sketch"); anything with a slash, and a Path, is the user's own folder."""
    return (
        ASSETS / name
        if isinstance(name, str) and "/" not in name and (ASSETS / name).is_dir()
        else Path(name)
    )


def pinned(name: str | Path, revision: str | None, what: str) -> tuple[str, dict]:
    """Where a model comes from -> (source, options of `from_pretrained`): shipped by name, a folder, or a Hub id with its commit (also id@commit)."""
    if revision is None and "@" in str(name) and not Path(name).exists():
        name, revision = str(name).split("@", 1)
    path = shipped(name)
    if path.is_dir():
        return str(path), {"local_files_only": True}
    if not revision:
        raise FileNotFoundError(
            f"{what} {name!r}: neither shipped, nor a folder of one; a Hub id needs its revision, too: id@commit"
        )
    return str(name), {"revision": revision}


def say(message: str) -> None:
    """Progress goes to stderr: it is seen in a terminal and never compared by notebook tests."""
    print(message, file=sys.stderr, flush=True)


def quiet() -> None:
    """Loading a model is not news: no progress bars, no notices about classes that are as they should be."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@cache
def device() -> torch.device:
    chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    say(
        f"device: {chosen} ({torch.cuda.get_device_name() if chosen.type == 'cuda' else f'{torch.get_num_threads()} threads; no GPU found'})"
    )
    return chosen


@cache
def compute_dtype() -> torch.dtype | None:
    """bfloat16 where the processor multiplies it in hardware, else None (stay in float32)."""
    if device().type == "cuda":
        choice, why = torch.bfloat16, "GPU"
    else:
        flags = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
        fast = [f for f in ("amx_bf16", "avx512_bf16") if f in flags]
        choice, why = (
            (torch.bfloat16, f"this processor has {fast[0]}")
            if fast
            else (None, "no bfloat16 arithmetic on this processor")
        )
    say(f"numbers: {'bfloat16 autocast' if choice else 'float32'} ({why})")
    return choice


def autocast():
    return torch.autocast(device().type, compute_dtype()) if compute_dtype() else nullcontext()


def placed(net: torch.nn.Module) -> torch.nn.Module:
    """On the device; where a CPU computes in float32, with channels last, in which drawing is a sixth faster and looking up to a third."""
    net.to(device())
    return (
        net.to(memory_format=torch.channels_last)
        if device().type == "cpu" and not compute_dtype()
        else net
    )


def on_every_core(work: Callable, M: int, B: int, tick: Callable | None = None) -> Iterator:
    """work(rows) for the slices of M rows by B, in order; `tick` is told how many rows are done. On a CPU every core does batches of its own: few enough rows for its cache, they go
    up to three times as fast as all cores together on one batch that leaves it. A single batch has all cores."""

    @torch.no_grad()  # in the thread that works: each has a switch of its own
    def one(i: int):
        return work(slice(i, i + B))

    def told(batches):
        for start, batch in zip(starts, batches):
            if tick:
                tick(min(start + B, M))
            yield batch

    cores, starts = (
        torch.get_num_threads() if device().type == "cpu" else 1,
        range(0, max(M, 1), B),
    )  # nothing is one empty batch
    if cores == 1 or len(starts) < 2:
        yield from told(map(one, starts))
        return
    compute_dtype()  # said once, not by every thread
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from told(pool.map(one, starts))
    finally:
        torch.set_num_threads(cores)  # some of it is one number for all threads


def rows_at_once(cpu: int, gpu: int) -> int:
    return cpu if device().type == "cpu" else gpu


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose; every other purpose has its own stream."""
    return torch.Generator().manual_seed(stable_hash(f"{seed}/{purpose}"))


class Progress:
    """How far, how fast, how long is left; a line every `every` seconds."""

    def __init__(
        self, what: str, total: int, done: int = 0, unit: str = "images", every: float = 20.0
    ):
        self.what, self.total, self.first, self.unit, self.every = what, total, done, unit, every
        self.start = self.last = time.time()

    def __call__(self, done: int, note: str = "") -> None:
        now = time.time()
        if now - self.last < self.every and done < self.total:
            return
        rate = (done - self.first) / max(1e-9, now - self.start)
        left = (self.total - done) / max(1e-9, rate)
        self.last = now
        self.show(
            f"{done:,}/{self.total:,} {self.unit} ({100 * done / self.total:.0f} %), {rate:.0f}/s, {left / 60:.1f} min left {note}"
        )

    def show(self, text: str) -> None:
        say(f"{self.what}: {text}")


def save_state(path: Path, tensors: dict, facts: dict) -> None:
    """A resumable checkpoint without pickle: tensors as safetensors, the rest as JSON in its header. Renamed into place, so a kill
    leaves the old checkpoint or the new one, never half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(
        {k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()},
        temporary,
        metadata={"facts": json.dumps(facts)},
    )
    temporary.chmod(0o644)
    os.replace(temporary, path)


def resume(path: Path, recipe: dict) -> tuple[dict, int, dict]:
    """-> (tensors, steps done, where its log was) of a checkpoint, or ({}, 0, {}) where there is none. A checkpoint made by another
    recipe is refused: going on from it would give weights that neither recipe describes."""
    if not path.exists():
        return {}, 0, {}
    tensors, facts = load_state(path)
    made, wanted = facts.get("recipe", {}), json.loads(json.dumps(recipe))
    if other := [f"{k} {made.get(k)!r}, now {v!r}" for k, v in wanted.items() if made.get(k) != v]:
        raise ValueError(
            f"{path} holds a run with {'; '.join(other)}: use another --out, or delete it to begin anew"
        )
    return tensors, facts["step"], facts["log"]


def weights_hash(*nets: torch.nn.Module) -> str:
    """Fingerprint of networks by the sum and size of each of their tensors: retrained weights are other weights."""
    sums = [
        f"{k} {tuple(v.shape)} {v.double().sum().item():.12g} {v.double().abs().sum().item():.12g}"
        for net in nets
        for k, v in net.state_dict().items()
    ]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:12]


def load_state(path: Path) -> tuple[dict, dict]:
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
    return load_file(path), facts


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict:
    return {
        f"optimizer/{i}/{k}": torch.as_tensor(v)
        for i, s in optimizer.state_dict()["state"].items()
        for k, v in s.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict) -> None:
    state: dict = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, i, name = key.split("/")
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    for (
        p,
        moments,
    ) in optimizer.state.items():  # fused Adam walks memory: moments must lie as their weights do
        for name, value in moments.items():
            if value.shape == p.shape:
                moments[name] = torch.empty_like(p).copy_(value)
