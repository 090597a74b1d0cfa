"""Pictures against originals: FID, KID, paired similarity, retrieval, each with n and an interval.

    x = image_features(images)      # (M, D) float32, EfficientNet-Lite2: not the encoder's backbone
    x = image_features(images, eye="inception:weights.pth")    # Inception-v3's 2,048
    score(real, fake)               # {"n": ..., "fid": ..., "fid_lo": ..., ..., "r_at_1": ...}

FID does not change when texts are shuffled among images; the paired scores do. FID is biased at
finite n, by an amount that depends on the generator: n is reported with every number, and KID,
which is unbiased, beside it. Letters: M images, D feature width, K classes.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from .data import BadData, to_pixels
from .runtime import (
    Progress,
    autocast,
    device,
    on_every_core,
    placed,
    reading,
    rows_at_once,
    seeing,
)
from .sources import INCEPTION, LITE2
from .vision import efficientnet, features, resize

WIDTH = 352  # D, features of an image
BOOTSTRAPS = 50
BLOCK = 5000  # images compared with each other at once by KID: three matrices of 200 MB
LEAST_IN_CLASS = 20  # images of a class below which it has no KID of its own
Z = 1.96  # standard deviations either side of an estimate in a 95 % interval


def image_features(
    images: np.ndarray,
    B: int | None = None,
    progress: str = "",
    net: int = 2,
    eye: str = LITE2,
) -> Tensor:
    """uint8 (M, H, W, 3) -> float32 (M, 352): EfficientNet-Lite`net`'s last block, its mean over
    space, from pictures resized to 128 pixels. (Lite1 gives 320 features.) By another `eye` (M, D)
    as that one sees them.

    The block before the 1280-wide head: 352 features of two thousand images give a covariance one
    can trust."""
    tick = Progress(progress, len(images)) if progress else None
    if eye == LITE2:
        look = partial(_by_lite, placed(efficientnet(net), last=True))
    else:
        look = other_eye(eye)
    some = lambda rows: look(images[rows]).float().cpu()
    return torch.cat(list(on_every_core(some, len(images), B or rows_at_once(8, 128), tick)))


def _by_lite(net, images: np.ndarray) -> Tensor:
    with autocast():
        maps = features(net, resize(to_pixels(images).to(device()), 128))
    return maps.float().mean((2, 3))


@cache
def other_eye(name: str) -> Callable:
    """Another network to compare pictures by -> a function of images uint8 (B, H, W, 3) that gives
    features (B, D), in float32.

    name   "inception:<weights>": Inception-v3 as torchmetrics has it (torch-fidelity's network and
           file of weights), its 2,048 features of pictures resized to 299 pixels, antialiased; else
           a network of transformers that sees (CLIP and SigLIP: what they compare with texts;
           DINOv2: the pooled token), by folder or Hub id@commit, with its own preprocessing"""
    if name.startswith(INCEPTION):
        weights, whose = Path(name.removeprefix(INCEPTION)), f"features {name!r}"
        if not weights.is_file():
            raise BadData(f"{whose}: no such file of weights; give the one of torch-fidelity")
        from torchmetrics.image.fid import FrechetInceptionDistance

        with reading(whose, fix="pip install torch-fidelity==0.4.0, and give its file of weights"):
            made = dict(feature=2048, feature_extractor_weights_path=str(weights))
            net = FrechetInceptionDistance(**made).inception.to(device())
        channels_first = lambda images: torch.from_numpy(images).permute(0, 3, 1, 2)
        return lambda images: net(channels_first(images).contiguous().to(device()))

    processor, net, whose = seeing(name, "features")

    def look(images: np.ndarray) -> Tensor:
        given = processor([Image.fromarray(image) for image in images], return_tensors="pt")
        pixels = given["pixel_values"].to(device())
        seen = getattr(net, "get_image_features", net)(pixel_values=pixels)
        return seen.pooler_output

    with reading(whose, "gives no features of pictures", "use Inception, CLIP, SigLIP or DINOv2"):
        look(np.zeros((1, 64, 64, 3), np.uint8))
    return look


def width(eye: str = LITE2) -> int:
    """D, the number of an eye's features."""
    return WIDTH if eye == LITE2 else other_eye(eye)(np.zeros((1, 64, 64, 3), np.uint8)).shape[1]


def require_enough(M: int, D: int) -> None:
    """Fewer images than features leave the covariance singular and FID meaningless: refused."""
    if M <= D:
        raise ValueError(
            f"FID needs more images than its {D} feature dimensions; got {M}: use more images"
        )


def gaussian(x: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A Gaussian fit of features x (M, D), in float64: mean (D,) and R (at most D, D) with
    covariance R' R. counts (M,): how often each image counts."""
    w = torch.ones(len(x), dtype=torch.float64) if counts is None else counts.double()
    x, w = x[w > 0].double(), w[w > 0]
    mean = w @ x / w.sum()
    centred = (x - mean) * (w / (w.sum() - 1)).sqrt()[:, None]
    return mean, torch.linalg.qr(centred, mode="r").R


def distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """Fréchet distance of two Gaussians, |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)).

    With S = R' R and S' = Q' Q that trace is the sum of the singular values of R Q': a fraction of
    the time of matrix roots, which bootstraps need, and exact where a covariance is singular."""
    (mean_a, R), (mean_b, Q) = a, b
    gap = (mean_a - mean_b).pow(2).sum() + R.pow(2).sum() + Q.pow(2).sum()
    return float(gap - 2 * torch.linalg.svdvals(R @ Q.T).sum())


def frechet(real: Tensor, fake: Tensor, u: Tensor | None = None, v: Tensor | None = None) -> float:
    """FID (Heusel et al. 2017), the Fréchet distance of two Gaussian fits to features (M, D).
    u, v (M,): how often each image counts."""
    require_enough(min(len(real), len(fake)), real.shape[1])
    return distance(gaussian(real, u), gaussian(fake, v))


class KID:
    """KID (Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / D + 1)^3, over all
    images at once. Features are not normalised, as in torchmetrics.

    own: whether an original is compared with its own picture, as in KID's usual form. With few
    images that pair counts for much and makes the value smaller: left out inside classes.

    The three kernel matrices are kept, so that a bootstrap is only a re-weighting of them."""

    def __init__(self, real: Tensor, fake: Tensor, own: bool = True):
        x, y, self.own = real.double(), fake.double(), own
        kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
        self.xx, self.yy, self.xy = kernel(x, x), kernel(y, y), kernel(x, y)
        for matrix in (self.xx, self.yy) if own else (self.xx, self.yy, self.xy):
            matrix.fill_diagonal_(0)

    def value(self, u: Tensor | None = None, v: Tensor | None = None) -> float:
        """u, v (M,): how often each image counts; pairs of one image with itself never count."""
        u = torch.ones(len(self.xx), dtype=torch.float64) if u is None else u.double()
        v = torch.ones(len(self.yy), dtype=torch.float64) if v is None else v.double()
        pairs = lambda w: w.sum() ** 2 - (w**2).sum()
        inside = u @ self.xx @ u / pairs(u) + v @ self.yy @ v / pairs(v)
        cross = u.sum() * v.sum() - (0 if self.own else u @ v)
        return float(inside - 2 * (u @ self.xy @ v) / cross)


class IntraClassKID:
    """KID inside each class, averaged over classes, as Miyato and Koyama (2018) did with FID; KID
    because a class has fewer images than FID needs.

    A decoder trained on such drawings gives a plausible set whatever the text says, so the distance
    of whole sets hardly depends on it; inside a class it depends on what texts say of the class."""

    def __init__(self, real, fake, of_real, of_fake, paired: bool = True):
        """real, fake (M, D); of_real, of_fake (M,): the class of each original and picture."""
        self.classes = {}  # class: (rows of real, rows of fake, KID)
        for name in sorted(set(of_real) & set(of_fake)):
            i, j = (np.flatnonzero(np.asarray(of) == name) for of in (of_real, of_fake))
            if min(len(i), len(j)) >= LEAST_IN_CLASS:
                self.classes[name] = i, j, KID(real[i], fake[j], own=not paired)

    def value(self, u: Tensor | None = None, v: Tensor | None = None) -> float:
        """u, v (M,): how often each image counts. nan if no class is large enough."""
        of = lambda weights, rows: None if weights is None else weights[rows]
        values = [kid.value(of(u, i), of(v, j)) for i, j, kid in self.classes.values()]
        return float(np.mean(values)) if values else float("nan")

    def each(self, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> dict[str, tuple]:
        """Class -> (originals, KID, low, high) of pictures in their originals' order."""
        rng, found = np.random.default_rng(seed), {}
        for name, (i, _, kid) in self.classes.items():
            n = len(i)
            draws = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(bootstraps)]
            draws = [kid.value(w, w) for w in map(torch.from_numpy, draws)]
            found[name] = n, *bootstrap_interval(kid.value(), draws)
        return found


def paired_similarity(real: Tensor, fake: Tensor, centre: Tensor | None = None) -> Tensor:
    """(M,) cosine between each picture and its own original, after subtracting `centre` (default:
    the originals' mean), without which all pictures are alike."""
    centre = real.mean(0) if centre is None else centre
    return cosine_similarity(real - centre, fake - centre)


def retrieval(real: Tensor, fake: Tensor) -> Tensor:
    """(M,) 1 where a picture's nearest original (centred cosine) is its own. Chance is 1/M."""
    centre = real.mean(0)
    a, b = (normalize(x - centre) for x in (fake, real))
    nearest = [(some @ b.T).argmax(1) for some in a.split(BLOCK)]  # (BLOCK, M) similarities
    return (torch.cat(nearest) == torch.arange(len(a))).float()


def mean_half(values) -> tuple[float, float]:
    """(mean, half): the mean of values (M,), and half of its 95 % interval. The standard deviation
    is of their own kind: divided by M for numpy arrays, by M - 1 for tensors and pandas."""
    return float(values.mean()), Z * float(values.std()) / max(1, len(values)) ** 0.5


def mean_interval(values) -> tuple[float, float, float]:
    """(mean, low, high): the same by the ends of the interval."""
    mean, half = mean_half(values)
    return mean, mean - half, mean + half


def bootstrap_interval(value: float, draws: list[float]) -> tuple[float, float, float]:
    """(value, low, high): an estimate +- 1.96 standard deviations of its bootstrap draws. A draw
    repeats images, which shifts FID itself upwards, so percentiles would not cover the estimate."""
    margin = Z * float(np.std(draws)) if len(draws) else float("nan")
    return value, value - margin, value + margin


def score(
    real: Tensor,
    fake: Tensor,
    *,
    paired: bool = True,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
    classes: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """Every score of one set of pictures, real and fake (M, D) in the same order, with 95 %
    intervals: bootstraps over images, originals and pictures resampled together.

    classes: the class (here: the drawing style) of each original, and of each picture's original;
    None: no KID inside classes."""
    rng, (R, M) = np.random.default_rng(seed), (len(real), len(fake))
    scores = {"kid": KID(real, fake)}
    if (parts := -(-max(R, M) // BLOCK)) > 1:  # the mean over random parts is unbiased, too
        at = np.random.default_rng(seed).permutation(max(R, M)) % parts
        scores = {"kid": IntraClassKID(real, fake, at[:R], at[:M], paired=False)}
    if classes:
        scores["kid_within"] = IntraClassKID(real, fake, *classes, paired=paired)
    draws: dict[str, list[float]] = {"fid": [], **{name: [] for name in scores}}
    for _ in range(bootstraps):
        j = torch.from_numpy(rng.integers(0, M, M))
        i = j if R == M and paired else torch.from_numpy(rng.integers(0, R, R))
        counts = torch.bincount(i, minlength=R), torch.bincount(j, minlength=M)
        draws["fid"].append(frechet(real, fake, *counts))
        for name, of in scores.items():
            draws[name].append(of.value(*counts))
    nan, out = float("nan"), {"n": M}
    intervals = {"fid": bootstrap_interval(frechet(real, fake), draws["fid"])}
    intervals |= {name: bootstrap_interval(of.value(), draws[name]) for name, of in scores.items()}
    similarity = mean_interval(paired_similarity(real, fake)) if paired else (nan, nan, nan)
    for name, interval in (intervals | {"paired": similarity}).items():
        out |= zip((name, f"{name}_lo", f"{name}_hi"), interval)
    return out | {"r_at_1": float(retrieval(real, fake).mean()) if paired else nan}


def differences(
    real: Tensor,
    ours: list[Tensor],
    others: dict[str, list[Tensor]],
    *,
    classes: np.ndarray | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> list[dict]:
    """Scores of `ours` minus those of each of `others`, pictures of the same originals; each a list
    of features (M, D), one a starting noise, over which scores are averaged. Below zero `ours` is
    ahead by FID and KID inside classes, above zero by paired similarity.

    The intervals are sharper than two intervals compared: the same images are resampled for all.

    classes (M,): the class of each original; None leaves KID inside classes out."""
    rng, M, drawn = np.random.default_rng(seed), len(real), {"ours": ours, **others}
    require_enough(M, real.shape[1])
    within = lambda x: IntraClassKID(real, x, classes, classes)
    kids = {s: [] if classes is None else [within(x) for x in xs] for s, xs in drawn.items()}
    resampled = (torch.from_numpy(rng.integers(0, M, M)) for _ in range(bootstraps))
    scores: dict[str, list] = {name: [] for name in drawn}  # (FID, KID) of all, then resampled
    for w in (torch.ones(M), *(torch.bincount(i, minlength=M) for i in resampled)):
        originals = gaussian(real, w)
        for name, xs in drawn.items():
            fid = np.mean([distance(originals, gaussian(x, w)) for x in xs])
            kid = np.mean([k.value(w, w) for k in kids[name]]) if kids[name] else float("nan")
            scores[name].append((fid, kid))
    near = lambda xs: torch.stack([paired_similarity(real, x) for x in xs]).mean(0)  # (M,)
    rows, our_scores, our_paired = [], np.array(scores["ours"]), near(ours)
    for name, xs in others.items():
        gaps = our_scores - np.array(scores[name])  # (1 + bootstraps, 2)
        found = {
            "fid": bootstrap_interval(gaps[0, 0], gaps[1:, 0]),
            "kid_within": bootstrap_interval(gaps[0, 1], gaps[1:, 1]),
            "paired": mean_interval(our_paired - near(xs)),
        }
        for score, (value, lo, hi) in found.items():
            if not np.isnan(value):
                rows.append(dict(than=name, score=score, difference=value, lo=lo, hi=hi))
    return rows


def class_reader(x: Tensor, of: np.ndarray, shrinkage: float = 0.1):
    """Linear discriminant analysis of originals' features x (M, D) by their classes `of` (M,)
    -> a function from features (m, D) to class names (m,).

    The covariance is drawn towards a multiple of the identity by `shrinkage`; every class counts
    the same."""
    x, names = x.double(), np.unique(of)
    means = torch.stack([x[torch.from_numpy(of == name)].mean(0) for name in names])  # (K, D)
    inner = torch.cov((x - means[torch.from_numpy(np.searchsorted(names, of))]).T)  # (D, D)
    identity = torch.eye(len(inner), dtype=torch.float64)
    inner = (1 - shrinkage) * inner + shrinkage * inner.trace() / len(inner) * identity
    weights = torch.linalg.solve(inner, means.T)  # (D, K)
    offsets = (means.T * weights).sum(0) / 2  # (K,)
    return lambda features: names[(features.double() @ weights - offsets).argmax(1).numpy()]


def disturbed(images: np.ndarray, kind: str, strength: float, seed: int = 0) -> np.ndarray:
    """uint8 (M, H, W, 3), made worse: "noise" of `strength` grey levels (standard deviation), or
    "blur" of `strength` pixels. A score that can be trusted grows worse with `strength`."""
    if kind == "blur":
        blur = ImageFilter.GaussianBlur(strength)
        return np.stack([np.asarray(Image.fromarray(i).filter(blur)) for i in images])
    if kind != "noise":
        raise ValueError(f"no such disturbance: {kind!r}; use 'noise' or 'blur'")
    rng = np.random.default_rng(seed)  # image by image: eight times as large as numbers
    worse = lambda image: np.rint(image + strength * rng.normal(size=image.shape))
    return np.stack([np.clip(worse(image), 0, 255).astype(np.uint8) for image in images])
