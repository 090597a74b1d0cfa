"""Choices a machine forces on us (device, number format, threads), each made and reported once;
seeds; progress; checkpoints.

One root seed and one generator for each purpose: `generator(seed, "gumbel")` and
`generator(seed, "noise")` never disturb each other.
"""

import hashlib
import json
import os
import re
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .data import BadData, stable_hash
from .files import machine_memory, whole
from .files import write_json as write_json
from .messages import nearest
from .vocab import require_words

ASSETS = Path(__file__).parent / "assets"
AGAIN = "fetch it again or save it as safetensors"


def shipped(name: str | Path) -> Path:
    """A shipped model by its bare name ("sketch"); a Path, or a name with a slash, is a folder."""
    known = isinstance(name, str) and "/" not in name and (ASSETS / name).is_dir()
    return ASSETS / name if known else Path(name)


def pinned(name: str | Path, revision: str | None, what: str) -> tuple[str, dict]:
    """Where a model comes from -> (source, options of `from_pretrained`): shipped by name, a
    folder, or a Hub id with its commit (also id@commit)."""
    if revision is None and "@" in str(name) and not Path(name).exists():
        name, revision = str(name).split("@", 1)
    path = shipped(name)
    if path.is_dir():
        return str(path), {"local_files_only": True}
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):  # a branch or a tag moves
        found = "a file" if path.exists() else "neither shipped, nor a folder of one"
        raise FileNotFoundError(
            f"{what} {str(name)!r}: {found}; "
            "a Hub id needs its revision, too, the 40 digits of a commit: id@commit"
            + nearest(name, [p.parent.name for p in ASSETS.glob("*/model_index.json")])
        )
    return str(name), {"revision": revision}


@contextmanager
def reading(whose: str, what: str = "cannot be read", fix: str = AGAIN):
    """What goes wrong inside while a model is read becomes one line, BadData: transformers,
    diffusers, safetensors and tokenizers each have errors of their own, some of them long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadData:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # its first sentence: then comes advice to those who write programs
        why = re.split(r"\. (?=[A-Z])", " ".join(lines[:2]))[0][:300] or type(error).__name__
        raise BadData(f"{whose} {what}: {why.rstrip('.')}; {fix}") from error


def whole_model(kind, source: str, whose: str, **options):
    """`kind.from_pretrained` of diffusers or transformers -> a frozen network in eval mode.
    Safetensors (or GGUF) and no code of the folder's own; BadData where weights are missing, left
    over or not finite, for which the libraries put random ones, or none, without an error."""
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    if kind.__module__.startswith("transformers"):  # else its error does not say which
        options["ignore_mismatched_sizes"] = True
    if Path(source, options.get("subfolder", ""), "adapter_config.json").exists():
        raise BadData(f"{whose}: an adapter, which is not read; merge it into its model, save that")
    with reading(whose):
        net, told = kind.from_pretrained(source, output_loading_info=True, **options)
        sizes = [f"{name}, {here}, not {there}" for name, here, there in told["mismatched_keys"]]
        if sizes:
            raise ValueError(f"weights of another size: {min(sizes)}")
    folder = Path(source, options.get("subfolder", ""))
    check_weights(net, whose, folder, told["missing_keys"], told["unexpected_keys"])
    return net.eval().requires_grad_(False)


def seeing(name: str, what: str, revision=None, auto="AutoModel", reader="image processor"):
    """A frozen network of transformers that sees, by one of its Auto classes and by folder or Hub
    id with its commit, in float32 on the device -> (its `reader`, the network, what messages call
    it)."""
    import transformers

    source, options = pinned(name, revision, what)
    quiet()
    whose, options = f"{what} {name!r}", options | {"trust_remote_code": False}
    with reading(f"{whose}: its {reader}"):
        kind = getattr(transformers, "Auto" + reader.title().replace(" ", ""))
        processor = kind.from_pretrained(source, **options)
        if words := getattr(processor, "tokenizer", None):
            require_words(words)
    made = getattr(transformers, auto)
    net = whole_model(made, source, whose, dtype=torch.float32, **options)
    return processor, net.to(device()), whose


def stored_whole(folder: Path, names: set[str]) -> Iterator[str]:
    """Those of `names` that a folder's safetensors hold as anything but decimal numbers, which the
    libraries would take for weights without a word."""
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for name in names.intersection(opened.keys()):
                if not opened.get_slice(name).get_dtype().startswith(("F", "BF")):
                    yield name


def check_weights(
    net: torch.nn.Module, whose: str, folder: Path, missing=(), unexpected=()
) -> None:
    """BadData where a network's weights are not all there, decimal numbers (in its `folder`) and
    finite."""
    weights = {name for name, _ in net.named_parameters()}
    bad = [k for k, v in net.state_dict().items() if not v.is_meta and not v.isfinite().all()]
    for names, problem in (
        (missing, "has no weights for"),
        (unexpected, f"has weights that a {type(net).__name__} does not take:"),
        (stored_whole(folder, weights), "has no decimal numbers in"),
        (bad, "has NaN or infinity in"),
    ):
        if names := sorted(names):
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BadData(f"{whose} {problem} {names[0]}{more}; {AGAIN}")


def process() -> int:
    """This process's number among those that `accelerate launch` or torchrun started; else 0."""
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def shared(work: Callable, M: int, unit: int = 0) -> list:
    """work(rows) for the slices of M rows by `unit`, in order: each by one of the processes, and
    told to all. A slice is computed as a single process would compute it, so nothing depends on
    their number. unit 0: each process has one slice, for work that does not mind where it is
    cut."""
    n = processes()
    unit = unit or -(-M // n) or 1
    rows = (slice(i, min(i + unit, M)) for i in range(process() * unit, M, n * unit))
    mine = [(some.start, work(some)) for some in rows]
    if n > 1:
        from accelerate import PartialState
        from accelerate.utils import gather_object

        # one may be at work on its slice, or on the scores, while the others wait
        PartialState(cpu=device().type == "cpu", timeout=timedelta(days=1))
        mine = gather_object(mine)
    return [made for _, made in sorted(mine, key=lambda pair: pair[0])]


def say(message: str, end: str = "\n") -> None:
    """Progress goes to stderr: it is seen in a terminal and never compared by notebook tests. In a
    terminal it replaces the line that `Progress` moves. Of several processes the first one says."""
    if process():
        return
    start, rest = ("\r", "\x1b[K") if sys.stderr.isatty() else ("", "")
    print(f"{start}{message}{rest}", end=end, file=sys.stderr, flush=True)


def quiet() -> None:
    """No progress bars and no notices while models are loaded, by the libraries imported so far."""
    for library in filter(None, map(sys.modules.get, ("diffusers", "transformers"))):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


@cache
def device() -> torch.device:
    if gpu := torch.cuda.is_available():  # of several processes of a machine each has its own
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    cores = f"{torch.get_num_threads()} threads; no GPU found"
    found = torch.cuda.get_device_name() if gpu else cores
    chosen = torch.device("cuda" if gpu else "cpu")
    say(f"device: {chosen} ({found})")
    return chosen


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies it in hardware; said once."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text() if cpu.exists() else ""
    fast = [f"this processor has {f}" for f in ("amx_bf16", "avx512_bf16") if f in flags]
    if gpu := device().type == "cuda":  # one before Ampere (T4, V100) only imitates it, slowly
        fast = ["GPU"] * torch.cuda.is_bf16_supported(including_emulation=False)
    why = fast[0] if fast else f"no bfloat16 arithmetic on this {'GPU' if gpu else 'processor'}"
    say(f"numbers: {'bfloat16 autocast' if fast else 'float32'} ({why})")
    return bool(fast)


_plain = False


def compute_dtype() -> torch.dtype:
    """In which products are computed here and now: bfloat16 or float32."""
    return torch.bfloat16 if not _plain and has_bfloat16() else torch.float32


def autocast():
    use = compute_dtype()
    return nullcontext() if use == torch.float32 else torch.autocast(device().type, use)


def numbers() -> str:
    """The name of that format."""
    return str(compute_dtype()).removeprefix("torch.")


@contextmanager
def plain_float32():
    """Inside, products are computed in float32 everywhere: what a comparison needs."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def placed(net: torch.nn.Module, last: bool = False) -> torch.nn.Module:
    """On the device; on a CPU with channels last, in which convolutions are a tenth to a third
    faster. In bfloat16 that holds for the networks that say so (`last`); denoisers get slower."""
    net.to(device())
    last = device().type == "cpu" and (last or compute_dtype() == torch.float32)
    return net.to(memory_format=torch.channels_last) if last else net


def on_every_core(work: Callable, M: int, B: int, tick: Callable | None = None) -> Iterator:
    """work(rows) for the slices of M rows by B, in order; `tick` is told how many rows are done.

    On a CPU every core does batches of its own: small enough for its cache, they go up to three
    times as fast as one large batch on all cores. A single batch has all cores."""

    @torch.no_grad()  # in the thread that works: each has a switch of its own
    def one(i: int):
        return work(slice(i, i + B))

    def told(batches):
        for start, batch in zip(starts, batches):
            if tick:
                tick(min(start + B, M))
            yield batch

    cores = torch.get_num_threads() if device().type == "cpu" else 1
    starts = range(0, max(M, 1), B)  # nothing is one empty batch
    if cores == 1 or len(starts) < 2:
        yield from told(map(one, starts))
        return
    has_bfloat16()  # said once, not by every thread
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from told(pool.map(one, starts))
    finally:
        torch.set_num_threads(cores)  # some of it is one number for all threads


def free_memory() -> int:
    """Bytes that a computation on the device may still take."""
    if device().type == "cpu":
        return machine_memory()
    held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + held


def kept_bytes(compute: Callable) -> int:
    """Bytes of all that autograd keeps of compute() for the backward pass, weights included; what
    a checkpoint computes once more is not kept."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()  # held, or its memory would be given to another tensor
    del result
    return sum(kept.values())


def rows_at_once(cpu: int, gpu: int) -> int:
    return cpu if device().type == "cpu" else gpu


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose; every other purpose has its own stream."""
    return torch.Generator().manual_seed(stable_hash(f"{seed}/{purpose}"))


def streams(rng: torch.Generator, B: int, count: int) -> list[torch.Generator]:
    """A generator for each of B images, so that an image's `count` numbers are the same whichever
    part of a batch, or which process, draws them. On a CPU those that `rng` would have drawn for
    all in a row; on a GPU from its own generator, for an image's numbers cost less there."""
    if device().type != "cpu":
        seeds = torch.randint(2**62, (B,), generator=rng).tolist()
        return [torch.Generator(device()).manual_seed(seed) for seed in seeds]
    each = []
    for _ in range(B):
        each.append(rng.clone_state())
        torch.rand(count, generator=rng)  # where the next image's begin
    return each


class Progress:
    """How far, how fast, how long is left. One line that moves where stderr is a terminal; else a
    line at the end, and where it takes longer one after five seconds and one every minute."""

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "images"):
        self.what, self.total, self.unit, self.first = what, total, unit, done
        self.start = time.monotonic()
        self.marks = deque([(done, self.start)])  # the later half of what is done
        self.moving = sys.stderr.isatty()
        self.due = self.start + (0 if self.moving else 5)

    def __call__(self, done: int, note: str = "") -> None:
        now, ended = time.monotonic(), done >= self.total
        self.marks.append((done, now))
        # the speed of the later half: warming up and what was slower before do not count
        while len(self.marks) > 2 and self.marks[1][0] <= (self.first + done) / 2:
            self.marks.popleft()
        if now < self.due and not ended:
            return
        self.due = now + (0.2 if self.moving else 60)
        before, then = (self.first, self.start) if ended else self.marks[0]
        rate = (done - before) / max(1e-9, now - then)
        speed = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
        if ended:
            text = f"{self.total:,} {self.unit} in {duration(now - self.start)}, {speed}"
        else:
            text = f"{done:,}/{self.total:,} {self.unit} ({done / self.total:.0%})"
            if then > self.start:  # the first batch is past
                text += f", {speed}, {duration((self.total - done) / max(1e-9, rate))} left"
        self.show(f"{text} {note}".rstrip(), end="" if self.moving and not ended else "\n")

    def show(self, text: str, end: str = "\n") -> None:
        say(f"{self.what}: {text}", end)


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def save_tensors(path: Path, tensors: dict, metadata: dict[str, str]) -> None:
    """Safetensors, whole or not at all."""
    tensors = {k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}
    with whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None
        temporary.chmod(0o644)


def save_state(path: Path, tensors: dict, facts: dict) -> None:
    """A resumable checkpoint without pickle: tensors as safetensors, the rest as JSON in its
    header."""
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


@contextmanager
def _whole_tensors(path: Path):
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadData(f"{path}: not a whole file of tensors ({error}); delete it") from None


def load_facts(path: Path) -> dict:
    """Those of a checkpoint, from its header alone."""
    with _whole_tensors(path), safe_open(path, "pt") as opened:
        return json.loads(opened.metadata()["facts"])


def load_state(path: Path) -> tuple[dict, dict]:
    with _whole_tensors(path):
        return load_file(path), load_facts(path)


def check_recipe(path: Path, recipe: dict) -> dict:
    """The facts of a checkpoint, {} where there is none. One made by another recipe is refused:
    neither recipe would describe the weights."""
    if not path.exists():
        return {}
    facts, wanted = load_facts(path), json.loads(json.dumps(recipe))
    made = facts.get("recipe", {})
    both = [(k, made.get(k), wanted.get(k)) for k in {**wanted, **made}]
    other = [f"{k} {then!r}, now {now!r}" for k, then, now in both if then != now]
    if other:
        raise ValueError(
            f"{path} holds a run with {'; '.join(other)}: "
            "use another --out, or delete it to begin anew"
        )
    return facts


def resume(path: Path, recipe: dict) -> tuple[dict, int, dict]:
    """-> (tensors, steps done, where its log was) of a checkpoint, ({}, 0, {}) without one."""
    facts = check_recipe(path, recipe)
    return (load_state(path)[0], facts["step"], facts["log"]) if facts else ({}, 0, {})


def weights_hash(*nets: torch.nn.Module) -> str:
    """Fingerprint of networks by the sum and size of each of their tensors."""
    sums = [
        f"{k} {tuple(v.shape)} {v.double().sum().item():.12g} {v.double().abs().sum().item():.12g}"
        for net in nets
        for k, v in net.state_dict().items()
    ]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:12]


def optimizer_tensors(optimizer) -> dict:
    """The state of an optimizer, or of one that has `parts`, by number of part and parameter."""
    return {
        f"optimizer/{part}/{i}/{name}": torch.as_tensor(value)
        for part, one in enumerate(getattr(optimizer, "parts", [optimizer]))
        for i, moments in one.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimizer(optimizer, tensors: dict) -> None:
    for part, one in enumerate(getattr(optimizer, "parts", [optimizer])):
        state, start = {}, f"optimizer/{part}/"
        for key in (k for k in tensors if k.startswith(start)):
            i, name = key.removeprefix(start).split("/")
            state.setdefault(int(i), {})[name] = tensors[key]
        one.load_state_dict({"state": state, "param_groups": one.state_dict()["param_groups"]})
        for p, moments in one.state.items():
            for name, value in moments.items():
                if value.shape == p.shape:  # fused Adam walks memory: as the weights lie there
                    moments[name] = torch.empty_like(p).copy_(value)
