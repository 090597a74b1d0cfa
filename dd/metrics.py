"""Pictures against originals: reconstruction FID and KID, paired similarity, retrieval, each with n and an interval.

    eye = eye_features(images)                                   # (M, D) float32, EfficientNet-Lite2: not the encoder's backbone
    score(real, fake)                                            # {"fid": ..., "fid_lo": ..., ..., "r_at_1": ...}

FID cannot see a shuffled pairing, so the paired scores stand beside it. FID is biased at finite n, and the bias depends on the
generator: n is reported with every number, and KID (unbiased) beside it. Letters: M images, D feature width.
"""

from __future__ import annotations

import numpy as np
import torch

from .data import to_pixels
from .runtime import Progress, autocast, device, on_every_core, placed, rows_at_once
from .vision import efficientnet, features, resize

WIDTH = 352  # D, numbers it gives for an image
BOOTSTRAPS = 50
LEAST_WITHIN = 20  # images of a class below which it has no distance of its own


def image_features(
    images: np.ndarray, B: int | None = None, progress: str = "", size: int = 128, net: int = 2
) -> torch.Tensor:
    """uint8 (M, H, W, 3) -> float32 (M, 352): the mean over space of the last block of EfficientNet-Lite2 (Lite`net`; Lite1: 320 numbers), seen at `size` pixels.

    The block before the 1280-wide head: with 352 numbers an image, two thousand images give a covariance one can trust."""
    net, tick = placed(efficientnet(net)), Progress(progress, len(images)) if progress else None

    def some(rows):
        with autocast():
            maps = features(net, resize(to_pixels(images[rows]).to(device()), size))
        return maps.float().mean((2, 3)).cpu()

    return torch.cat(list(on_every_core(some, len(images), B or rows_at_once(8, 128), tick)))


def require_enough(M: int, D: int) -> None:
    """Fewer images than feature dimensions leave the covariance singular and FID meaningless: refused."""
    if M <= D:
        raise ValueError(
            f"FID needs more images than its {D} feature dimensions; got {M}: use more images"
        )


def frechet(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Frechet distance of two Gaussian fits (Heusel et al. 2017) in float64: |mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)).

    Symmetric form tr((S^(1/2) S' S^(1/2))^(1/2)), so that a hundred bootstraps are affordable; equal to torchmetrics' (tests/test_judge.py)."""
    require_enough(min(len(real), len(fake)), real.shape[1])
    (m1, s1), (m2, s2) = ((x.double().mean(0), torch.cov(x.double().T)) for x in (real, fake))
    values, vectors = torch.linalg.eigh(s1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T  # (D, D)
    cross = torch.linalg.eigvalsh(root @ s2 @ root).clamp_min(0).sqrt().sum()
    return float((m1 - m2).pow(2).sum() + s1.trace() + s2.trace() - 2 * cross)


class Kernel:
    """KID (Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / D + 1)^3, over all images at once. The
    features are not normalised, so its size is that of the features; torchmetrics' value (tests/test_judge.py).

    own: whether an original is compared with its own picture, row by row, as in KID's usual form. Few images and a picture near its original make
    that a bonus of their likeness over the number of images, where sets are compared and not pairs: left out inside classes.

    The three kernel matrices are kept, so that a bootstrap is only a re-weighting of them."""

    def __init__(self, real: torch.Tensor, fake: torch.Tensor, own: bool = True):
        x, y = real.double(), fake.double()
        self.xx, self.yy, self.xy = (
            (a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))
        )
        self.own = own
        for matrix in (self.xx, self.yy, *(() if own else (self.xy,))):
            matrix.fill_diagonal_(0)

    def value(self, u: torch.Tensor | None = None, v: torch.Tensor | None = None) -> float:
        """u, v (M,): how often each image counts; pairs of one image with itself never count."""
        u = torch.ones(len(self.xx), dtype=torch.float64) if u is None else u.double()
        v = torch.ones(len(self.yy), dtype=torch.float64) if v is None else v.double()
        pairs = [(w.sum() ** 2 - (w**2).sum()) for w in (u, v)]
        cross = u.sum() * v.sum() - (0 if self.own else u @ v)
        return float(
            u @ self.xx @ u / pairs[0] + v @ self.yy @ v / pairs[1] - 2 * (u @ self.xy @ v) / cross
        )


def paired_similarity(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """(M,) cosine between each picture and its own original, after subtracting the originals' mean (else everything is alike)."""
    centre = real.mean(0)
    return torch.nn.functional.cosine_similarity(real - centre, fake - centre)


def retrieval(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """(M,) 1 where a picture's nearest original (centred cosine) is its own. Chance is 1/M."""
    centre = real.mean(0)
    a, b = (torch.nn.functional.normalize(x - centre) for x in (fake, real))
    return ((a @ b.T).argmax(1) == torch.arange(len(a))).float()  # (M, M) similarities


class Within:
    """KID inside each class, averaged over classes (intra-class, as Miyato and Koyama 2018 did with FID; KID because a class has fewer images than FID needs).

    A decoder trained on these very drawings gives a plausible set whatever the text says, so the distance of whole sets hardly depends on it. Inside a class
    a text has to say which class its drawing is of: what a narrow test set asks of a decoder that knows the wide world."""

    def __init__(
        self,
        real: torch.Tensor,
        fake: torch.Tensor,
        of_real: np.ndarray,
        of_fake: np.ndarray,
        paired: bool = True,
    ):
        self.parts = []
        for name in sorted(set(of_real) & set(of_fake)):
            i, j = (
                torch.from_numpy(np.flatnonzero(np.asarray(of) == name))
                for of in (of_real, of_fake)
            )
            if min(len(i), len(j)) >= LEAST_WITHIN:
                self.parts.append((i, j, Kernel(real[i], fake[j], own=not paired)))

    def value(self, u: torch.Tensor | None = None, v: torch.Tensor | None = None) -> float:
        """u, v (M,): how often each image counts. nan if no class is large enough."""
        return (
            float(
                np.mean(
                    [
                        k.value(None if u is None else u[i], None if v is None else v[j])
                        for i, j, k in self.parts
                    ]
                )
            )
            if self.parts
            else float("nan")
        )


def score(
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    paired: bool = True,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
    classes: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """Every score of one set of pictures, real and fake (M, D) in the same order, with 95 % intervals.

    classes: which class each original, and the original of each picture, is of (here: the drawing style); None: no KID inside classes.

    Intervals are the estimate +- 1.96 bootstrap standard deviations over images (originals and pictures resampled together): a
    bootstrap sample repeats images, which shifts FID itself upwards, so percentiles would not cover the estimate."""
    rng, M = np.random.default_rng(seed), len(fake)
    same = len(real) == len(fake)
    kernel, fids, kids, insides = Kernel(real, fake), [], [], []
    within = Within(real, fake, *classes, paired=paired) if classes else None
    for _ in range(bootstraps):
        j = torch.from_numpy(rng.integers(0, M, M))
        i = j if same and paired else torch.from_numpy(rng.integers(0, len(real), len(real)))
        fids.append(frechet(real[i], fake[j]))
        counts = torch.bincount(i, minlength=len(real)), torch.bincount(j, minlength=M)
        kids.append(kernel.value(*counts))
        insides += [within.value(*counts)] if within else []
    out = {"n": M}
    for name, value, draws in (
        ("fid", frechet(real, fake), fids),
        ("kid", kernel.value(), kids),
        *((("kid_within", within.value(), insides),) if within else ()),
    ):
        half = 1.96 * float(np.std(draws)) if draws else float("nan")
        out |= {name: value, f"{name}_lo": value - half, f"{name}_hi": value + half}
    if paired:
        similar, hits = paired_similarity(real, fake), retrieval(real, fake)
        half = 1.96 * float(similar.std()) / M**0.5
        out |= {
            "paired": float(similar.mean()),
            "paired_lo": float(similar.mean()) - half,
            "paired_hi": float(similar.mean()) + half,
            "r_at_1": float(hits.mean()),
        }
    else:
        out |= dict.fromkeys(("paired", "paired_lo", "paired_hi", "r_at_1"), float("nan"))
    return out


def class_reader(x: torch.Tensor, of: np.ndarray, shrinkage: float = 0.1):
    """Linear discriminant analysis of originals' features x (M, D) by their classes `of` (M,) -> a function from features (m, D) to class names (m,).
    The covariance is drawn towards a multiple of the identity by `shrinkage`; every class counts the same."""
    x, names = x.double(), np.unique(of)
    means = torch.stack([x[torch.from_numpy(of == name)].mean(0) for name in names])  # (K, D)
    inner = torch.cov((x - means[torch.from_numpy(np.searchsorted(names, of))]).T)  # (D, D)
    inner = (1 - shrinkage) * inner + shrinkage * inner.trace() / len(inner) * torch.eye(
        len(inner), dtype=torch.float64
    )
    weights = torch.linalg.solve(inner, means.T)  # (D, K)
    return lambda features: names[
        (features.double() @ weights - (means.T * weights).sum(0) / 2).argmax(1).numpy()
    ]


def difference(
    real: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, float]:
    """FID(a) - FID(b) of two sets of pictures of the same originals, with the interval of the paired difference: sharper than
    comparing two intervals, because the same images are resampled for both."""
    rng, M, draws = np.random.default_rng(seed), len(real), []
    for _ in range(bootstraps):
        i = torch.from_numpy(rng.integers(0, M, M))
        draws.append(frechet(real[i], a[i]) - frechet(real[i], b[i]))
    value, half = frechet(real, a) - frechet(real, b), 1.96 * float(np.std(draws))
    return {"difference": value, "lo": value - half, "hi": value + half}
