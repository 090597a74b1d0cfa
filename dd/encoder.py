"""The encoder: frozen backbone -> attentional pooler -> logits over the decoder's vocabulary
-> relaxed tokens -> (argmax) a string.

    encoder = Encoder.load("encoder")                        # shipped
    texts = encoder.write(pixels)                            # (B, 3, H, W) in [-1, 1] -> B strings

Letters: B batch, M images, P image patches, F feature channels, N written tokens (= queries),
D pooler width, V vocabulary. As in the paper: tau the Gumbel-softmax temperature, s of S steps.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from .data import BadData
from .files import read_json, whole
from .messages import nearest
from .runtime import (
    autocast,
    check_weights,
    device,
    on_every_core,
    placed,
    reading,
    rows_at_once,
    save_tensors,
    seeing,
    shipped,
    write_json,
)
from .vision import efficientnet, features, resize
from .vocab import allowed_tokens, to_strings

SIZE, P = 128, 64  # backbone input in pixels; 8 x 8 patches
BLOCKS = (2, 4, 10)  # EfficientNet-Lite0 blocks whose maps are kept (strides 4, 8, 16)
FEATURES = 24 + 40 + 112 + 3  # F: their channels, and the mean colour of the patch
OWN = "backbone"  # the folder of one that has learnt, in an encoder's
# Numbers of (B, N, V) held at one time, on a CPU and on a GPU: two images of 75 CLIP tokens, or the
# whole batch of a study of drawings.
ROOM = 2**23, 2**25


def backbone_features(
    pixels: torch.Tensor, B: int | None = None, backbone: str | Tower | None = None
) -> torch.Tensor:
    """pixels (M, 3, H, W) in [-1, 1] -> features (M, P, F) float16, on the CPU: of a tower, or one
    by its name, else ImageNet's of EfficientNet-Lite0."""
    net = tower(backbone) if isinstance(backbone, str) else backbone or placed(efficientnet(0))

    def some(rows):
        x = pixels[rows].to(device())
        with autocast():
            if backbone:
                return net(x).half().cpu()
            maps = [*features(net, resize(x, SIZE), upto=10, keep=BLOCKS), x]
        maps = [F.adaptive_avg_pool2d(m.float(), 8) for m in maps]  # each (B, f, 8, 8)
        return torch.cat(maps, 1).flatten(2).transpose(1, 2).half().cpu()  # (B, P, F)

    return torch.cat(list(on_every_core(some, len(pixels), B or rows_at_once(8, 128))))


class Tower(nn.Module):
    """What sees in a CLIP, SigLIP or DINOv2 of transformers, by folder or Hub id@commit, frozen
    until it is told to learn: pixels (B, 3, H, W) in [-1, 1], brought to its own size and
    normalisation -> its last patch tokens before any pooling, (B, P, F)."""

    def __init__(self, name: str):
        super().__init__()
        self.processor, net, whose = seeing(name, "backbone")
        self.net, how = getattr(net, "vision_model", net), self.processor
        with reading(f"{whose}: its image processor"):
            self.mean, self.std = (
                torch.tensor(x).view(3, 1, 1) for x in (how.image_mean, how.image_std)
            )
            sides = dict(how.crop_size if getattr(how, "do_center_crop", False) else how.size)
            self.size = sides.get("height") or sides["shortest_edge"]
        with reading(whose, "gives no patch tokens", "use a CLIP, SigLIP or DINOv2"):
            self.P = (self.size // self.net.config.patch_size) ** 2
            self(torch.zeros(1, 3, self.size, self.size, device=device()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        given = resize(pixels, self.size) / 2 + 0.5
        given = (given - self.mean.to(pixels)) / self.std.to(pixels)
        return self.net(pixel_values=given).last_hidden_state[:, -self.P :]

    def save(self, folder: Path) -> None:
        self.net.save_pretrained(folder)
        self.processor.save_pretrained(folder)


tower = cache(Tower)  # one that stays frozen, for all who ask


def temperature(s: int, S: int, start: float = 2.0, end: float = 0.3) -> float:
    """tau(s) = start * (end / start)^(s / S): exponential over the whole run, however long."""
    return start * (end / start) ** (s / S)


def relax(
    logits: torch.Tensor,
    tau: float,
    *,
    noise: float = 1.0,
    straight_through: bool = False,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> torch.Tensor:
    """Gumbel-softmax: logits (B, N, V) -> weights (B, N, V), rows summing to 1, differentiable.

    noise             scale of the Gumbel noise: 1 is the paper's sample, 0 a plain softmax
    straight_through  forward the one-hot argmax, backward the soft weights (not in the paper)
    generator         of the noise; or one for each image, left as it is: a second call draws the
                      same
    """
    logits = logits.float()
    if noise > 0:
        if isinstance(generator, list):
            shape, each = logits.shape[1:], (g.clone_state() for g in generator)
            uniform = torch.stack([torch.rand(shape, generator=g, device=g.device) for g in each])
        else:
            uniform = torch.rand(logits.shape, generator=generator)
        uniform = uniform.clamp_(1e-9, 1 - 1e-7).to(logits.device)
        logits = logits - noise * torch.log(-torch.log(uniform))
    soft = torch.softmax(logits / tau, -1)
    if not straight_through:
        return soft
    hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return hard + soft - soft.detach()


class PoolerBlock(nn.Module):
    """Self-attention over the queries, cross-attention to the image, MLP; pre-norm (the paper does
    not say where norms are)."""

    def __init__(self, D: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(3))
        self.self_attention = nn.MultiheadAttention(D, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(D, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, q: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](q)  # (B, N, D); image (B, P, D)
        q = q + self.self_attention(y, y, y, need_weights=False)[0]
        q = q + self.cross_attention(self.norms[1](q), image, image, need_weights=False)[0]
        return q + self.mlp(self.norms[2](q))


class Pooler(nn.Module):
    """N learned queries read the image, one per text position; a linear layer gives logits over
    the decoder's own vocabulary. Its folder is laid out as diffusers lays out a model's; diffusers
    itself is not asked, because importing it takes longer than writing a text."""

    WEIGHTS = "diffusion_pytorch_model.safetensors"

    def __init__(
        self,
        N: int,
        V: int,
        F: int = FEATURES,
        D: int = 256,
        blocks: int = 5,
        heads: int = 4,
        P: int = P,
        backbone: str | None = None,
    ):
        super().__init__()
        made = dict(N=N, V=V, F=F, D=D, blocks=blocks, heads=heads, P=P, backbone=backbone)
        self.config = SimpleNamespace(**made)
        self.read = nn.Sequential(nn.LayerNorm(F), nn.Linear(F, D), nn.LayerNorm(D))
        self.place = nn.Parameter(torch.randn(P, D) * 0.5)
        self.queries = nn.Parameter(torch.randn(N, D))  # smaller ones would all write one word
        self.layers = nn.ModuleList(PoolerBlock(D, heads) for _ in range(blocks))
        self.norm, self.to_logits = nn.LayerNorm(D), nn.Linear(D, V)
        self.register_buffer("allowed", torch.ones(V, dtype=torch.bool))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """patches (B, P, F) -> logits (B, N, V)."""
        return self.logits(self.states(patches))

    def states(self, patches: torch.Tensor) -> torch.Tensor:
        """patches (B, P, F) -> what the queries have read, (B, N, D)."""
        image = self.read(patches) + self.place  # (B, P, D)
        q = self.queries.expand(len(patches), -1, -1)  # (B, N, D)
        for block in self.layers:
            q = block(q, image)
        return self.norm(q)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, N, V); forbidden tokens too low for any noise."""
        return self.to_logits(states).float().masked_fill(~self.allowed, -1e4)

    def at_once(self) -> int:
        """Images whose logits are held at one time."""
        return max(1, rows_at_once(*ROOM) // (self.config.N * self.config.V))

    @classmethod
    def load(cls, folder: Path) -> Pooler:
        config = json.loads((folder / "config.json").read_text())
        pooler = cls(**{k: v for k, v in config.items() if not k.startswith("_")})
        pooler.load_state_dict(load_file(folder / cls.WEIGHTS))
        return pooler

    def save(self, folder: Path) -> None:
        write_json(folder / "config.json", {"_class_name": "Pooler", **vars(self.config)})
        save_tensors(folder / self.WEIGHTS, self.state_dict(), {"format": "pt"})


class Encoder:
    """Backbone + pooler + the decoder's tokenizer: pictures in, strings out. The tokenizer is that
    of the library `tokenizers`: transformers takes longer to import than a text to write."""

    def __init__(self, pooler: Pooler, tokenizer: Tokenizer, name: str = "encoder"):
        self.pooler, self.tokenizer = pooler.to(device()), tokenizer
        self.name, self.recipe = name, {}
        self.tower: Tower | None = None  # a backbone that learns with the pooler

    @property
    def size(self) -> int:
        """Pixels per side of the pictures that it was trained on, which are those that its decoder
        draws: its backbone sees them brought to a size of its own, from these and not from smaller
        ones. BadData if its recipe tells none."""
        size = self.recipe.get("size")
        if type(size) is not int or size < 1:
            told = "its recipe.json names no size of pictures, train it anew"
            raise BadData(f"encoder {self.name!r}: {told}")
        return size

    @classmethod
    def new(
        cls,
        decoder,
        N: int = 15,
        *,
        D=256,
        blocks=5,
        rule="alphanumeric",
        seed=0,
        tie=False,
        backbone=None,
        train_backbone=False,
    ) -> Encoder:
        """An untrained encoder for a decoder's vocabulary."""
        if not 1 <= N <= decoder.L - 2:
            raise ValueError(f"tokens is {N}; the decoder's context holds 1 to {decoder.L - 2}")
        if D % 4:
            raise ValueError(f"width is {D}; four heads share it: use a multiple of 4")
        seen, own = {}, None
        if backbone:
            backbone = str(Path(backbone).resolve()) if Path(backbone).exists() else backbone
            own = Tower(backbone).requires_grad_() if train_backbone else None
            shape = backbone_features(torch.zeros(1, 3, 8, 8), backbone=own or backbone).shape
            seen = dict(P=shape[1], F=shape[2], backbone=backbone)
        torch.manual_seed(seed)
        pooler = Pooler(N=N, V=decoder.V, D=D, blocks=blocks, **seen)
        allowed = allowed_tokens(decoder.tokenizer, rule)
        if not allowed.any():
            raise ValueError(f"rule {rule} allows no token of decoder {decoder.name}; use all")
        pooler.allowed[:] = F.pad(allowed, (0, decoder.V - len(allowed)))
        if tie and (table := decoder.text_encoder.get_input_embeddings().weight).shape[1] == D:
            # words alike to the decoder begin alike, at the scale of a fresh layer
            pooler.to_logits.weight.data.copy_(F.normalize(table.detach().cpu().float()) * 0.6)
        made = cls(pooler, decoder.tokenizer.backend_tokenizer)
        made.recipe["size"], made.tower = decoder.size, own
        return made

    @classmethod
    def load(cls, name: str | Path = "encoder") -> Encoder:
        path, whose = shipped(name), f"encoder {str(name)!r}"
        config = path / "config.json"
        if not config.exists() or read_json(config).get("_class_name") != Pooler.__name__:
            raise FileNotFoundError(
                f"{whose}: neither shipped nor a folder made by save(); "
                f"see python -m dd train-encoder --help{nearest(name, ['encoder'])}"
            )
        with reading(f"{whose}: its tokenizer"):
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        with reading(f"{whose}: its pooler"):
            pooler = Pooler.load(path)
        check_weights(pooler, f"{whose}: its pooler", path)
        n, V = tokenizer.get_vocab_size(), pooler.config.V
        if not pooler.allowed.nonzero().max() < n <= V:  # a decoder may have more than are words
            problem = f"its tokenizer has {n} tokens, its pooler {V}"
            raise BadData(f"{whose}: {problem}; they must belong together")
        if (path / OWN).is_dir():  # what it was before it learnt does not matter
            pooler.config.backbone = str((path / OWN).resolve())
        made, recipe = cls(pooler.eval().requires_grad_(False), tokenizer, path.name), "recipe.json"
        made.recipe = read_json(path / recipe) if (path / recipe).exists() else {}
        return made

    def save(self, path: Path, half: bool = False) -> None:
        """Safetensors, config, tokenizer, and the recipe of a trained one; a backbone that has
        learnt in a folder of its own. `half`: the pooler in float16."""
        pooler = copy.deepcopy(self.pooler).cpu()
        with whole(path) as folder:
            (pooler.half() if half else pooler).save(folder)
            self.tokenizer.save(str(folder / "tokenizer.json"))
            if self.tower:
                self.tower.save(folder / OWN)
            write_json(folder / "recipe.json", self.recipe)

    @torch.no_grad()
    def ids(self, patches: torch.Tensor, B: int = 256) -> torch.Tensor:
        """Cached features (M, P, F) -> the argmax ids (M, N), at most B images at a time."""
        out, B = [], min(B, self.pooler.at_once())
        for i in range(0, len(patches), B):
            with autocast():
                out.append(self.pooler(patches[i : i + B].to(device()).float()).argmax(-1).cpu())
        return torch.cat(out)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (M, 3, H, W) in [-1, 1] -> (M, P, F) float16, by its own backbone."""
        return backbone_features(pixels, backbone=self.tower or self.pooler.config.backbone)

    def write(self, pixels: torch.Tensor) -> list[str]:
        """pixels (B, 3, H, W) in [-1, 1] -> B strings."""
        return to_strings(self.tokenizer, self.ids(self.features(pixels)))
