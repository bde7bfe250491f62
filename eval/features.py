"""Sets of pictures as a feature network sees them, and how far apart two sets are.

extractor = load_extractor("efficientnet-lite0", device)
real, fake = features_of(real_images, extractor), features_of(fake_images, extractor)
frechet(real, fake), kernel(real, fake, seed=0), precision_recall(real, fake)
"""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.draw import to_image
from autolink.errors import UserError
from autolink.eval.feature_networks import Extractor, Features, load_extractor

__all__ = [
    "Estimate", "Extractor", "Features", "Kernel", "count_warnings", "features_of", "frechet", "interval", "kernel",
    "load_extractor", "mean_and_covariance", "monge", "precision_recall", "prepared_features",
]  # fmt: skip

Item = TypeVar("Item")

BATCH = 32

ROWS = 1024
"""Rows of a distance matrix held at a time."""


def features_of(
    images: Iterable[NDArray[np.uint8] | Tensor], extractor: Extractor, batch: int = BATCH
) -> NDArray[np.float32]:
    """Features of pictures, one after another in memory that does not grow with the pictures.

    Args:
        images: RGB pictures (H, W, 3), 8-bit, of any sizes, or batches of tensors (B, 3, H, W) in [-1, 1], which are
            rounded to 8 bits as if they had been saved.
        extractor: from `load_extractor`.
        batch: how many pictures the network sees at a time.

    Returns:
        (N, dimensions), float32, in the order of the pictures.
    """
    pictures = chain.from_iterable(_eight_bit(image) for image in images)
    return prepared_features(pictures, lambda picture: picture, extractor, batch)


def _eight_bit(image: NDArray[np.uint8] | Tensor) -> Iterable[NDArray[np.uint8]]:
    return to_image(image.detach().permute(0, 2, 3, 1).cpu().numpy()) if isinstance(image, Tensor) else [image]


def prepared_features(
    items: Iterable[Item], read: Callable[[Item], NDArray[np.uint8] | None], extractor: Extractor, batch: int = BATCH
) -> NDArray[np.float32]:
    """As `features_of`, of what `read` makes of the items, in threads; None is left out."""
    from cleanfid.resize import make_resizer

    resize = make_resizer("PIL", False, "bicubic", (extractor.size, extractor.size))

    def prepare(item: Item) -> NDArray[np.float32] | None:
        picture = read(item)
        return None if picture is None else resize(picture)

    found = [np.empty((0, extractor.dimensions), np.float32)]
    for pictures in _one_batch_ahead(items, prepare, batch):
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(extractor.device)
        with torch.inference_mode():
            found.append(extractor.network(pixels).float().cpu().numpy())
    return np.concatenate(found)


def _one_batch_ahead(
    items: Iterable[Item], prepare: Callable[[Item], NDArray[np.float32] | None], batch: int
) -> Iterator[list[NDArray[np.float32]]]:
    """Prepared while the network works on the batch before, and no further."""
    remaining = iter(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def begin() -> list[Future[NDArray[np.float32] | None]]:
            return [pool.submit(prepare, item) for item in islice(remaining, batch)]

        ahead = begin()
        while ahead:
            now, ahead = ahead, begin()
            ready = [future.result() for future in now]
            if pictures := [picture for picture in ready if picture is not None]:
                yield pictures


def mean_and_covariance(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, D) -> (D,) and (D, D), in float64 without a float64 copy of the features; N must be 2 at least."""
    mean = features.mean(0, dtype=np.float64)
    scatter = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), ROWS):
        centred = features[start : start + ROWS] - mean
        scatter += centred.T @ centred
    return mean, scatter / (len(features) - 1)


def frechet(real: NDArray[np.floating], fake: NDArray[np.floating]) -> float:
    """Fréchet distance of Gaussians fitted to both sets (Heusel et al. 2017), by clean-fid: (N, D), (M, D) -> >= 0.

    Raises:
        UserError: there are so few pictures that the product of the covariances has no real root.
    """
    from cleanfid.fid import frechet_distance

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints
        warnings.simplefilter("ignore")  # and asks SciPy in a way that goes out of use
        try:
            distance = frechet_distance(*mean_and_covariance(real), *mean_and_covariance(fake))
        except ValueError as error:
            counts = f"{len(real)} and {len(fake)} pictures in {real.shape[1]} feature dimensions"
            raise UserError(f"no Fréchet distance from {counts} ({error}); give more pictures") from None
    return max(0.0, float(distance))


class Kernel(NamedTuple):
    """A kernel distance."""

    mean: float
    spread: float
    """Standard deviation over the subsets, which share pictures: no confidence interval."""
    subset_size: int


def kernel(
    real: NDArray[np.floating], fake: NDArray[np.floating], seed: int, subsets: int = 100, subset_size: int = 1000
) -> Kernel:
    """Squared MMD with a cubic kernel (Bińkowski et al. 2018), unbiased, by clean-fid: (N, D), (M, D), 4 at least each.

    A subset has no more than half of the smaller set, or all subsets would be the same.
    """
    from cleanfid.fid import kernel_distance

    size = min(subset_size, len(real) // 2, len(fake) // 2)
    state = np.random.get_state()  # noqa: NPY002  clean-fid draws from NumPy's global generator
    np.random.seed(seed)  # noqa: NPY002
    try:
        values = [kernel_distance(real, fake, num_subsets=1, max_subset_size=size) for _ in range(subsets)]
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return Kernel(float(np.mean(values)), float(np.std(values)), size)


class Estimate(NamedTuple):
    """A measured number and how sure it is."""

    value: float
    interval_95: tuple[float, float] | None = None


def interval(value: float, spread: float, subset_size: int, count: int) -> tuple[float, float]:
    """95 % interval of what was measured of all `count` pictures by its standard deviation over random subsets.

    The delete-d jackknife (Shao and Wu 1989): subsets are drawn without replacement, so that of half of the pictures
    each they vary as much as the whole does.
    """
    error = spread * math.sqrt(subset_size / (count - subset_size))
    return value - 1.96 * error, value + 1.96 * error


def monge(
    real: NDArray[np.floating], fake: NDArray[np.floating], seed: int, subsets: int = 50, projections: int = 1000
) -> Estimate:
    """Monge Inception Distance (Berthet et al. 2026, arXiv:2605.06797): (N, D), (M, D), 2 at least each, -> >= 0.

    MIND = 3 D / (n P) sum_p |sort(X u_p) - sort(Y u_p)|^2 over P random directions u_p of length 1: the sliced
    Wasserstein distance, squared and scaled. Of the larger set, as many as the smaller has are drawn.
    """
    rng = np.random.default_rng(seed)
    count, D = min(len(real), len(fake)), real.shape[1]
    directions = torch.randn(projections, D, generator=torch.Generator().manual_seed(seed))
    directions = directions / directions.norm(dim=1, keepdim=True)
    centre = real.mean(0, dtype=np.float64)  # for the precision of 32 bits

    def projected(side: NDArray[np.floating]) -> tuple[Tensor, Tensor]:
        rows = np.sort(rng.permutation(len(side))[:count])
        sorted_ = (directions @ torch.from_numpy(side[rows] - centre).float().T).sort(1)
        return sorted_.values, sorted_.indices  # (P, n)

    sides = [projected(side) for side in (real, fake)]

    def half(values: Tensor, indices: Tensor) -> Tensor:
        """What is left of the sorted projections of half of the pictures."""
        kept = torch.zeros(count, dtype=torch.bool)
        kept[torch.from_numpy(rng.permutation(count)[: count // 2])] = True
        return values[kept[indices]].view(projections, -1)

    def distance(x: Tensor, y: Tensor) -> float:
        return float(3 * D * (x - y).square().mean())

    value = distance(sides[0][0], sides[1][0])
    halves = [distance(half(*sides[0]), half(*sides[1])) for _ in range(subsets)]
    return Estimate(value, interval(value, float(np.std(halves)), count // 2, count))


def precision_recall(real: NDArray[np.floating], fake: NDArray[np.floating], k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): (N, D), (M, D), each more than k, -> two shares.

    A set covers the balls around its pictures that reach to their k-th neighbours. Precision is the share of fakes
    that the real set covers, recall the share of real pictures that the fakes cover.
    """
    centre = real.mean(0, dtype=np.float64)
    a, b = torch.from_numpy(real - centre), torch.from_numpy(fake - centre)
    return _covered(b, a, k), _covered(a, b, k)


def _covered(points: Tensor, manifold: Tensor, k: int) -> float:
    radii = torch.cat([torch.cdist(rows, manifold).kthvalue(k + 1).values for rows in manifold.split(ROWS)])
    inside = [(torch.cdist(rows, manifold) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean().item()


def count_warnings(real: int, fake: int, extractor: Extractor) -> list[str]:
    """What cannot be trusted because there are too few pictures, a sentence each."""
    fewest, found = min(real, fake), []
    counts, fid, kid = f"{real} real and {fake} fake pictures", extractor.figure("FID"), extractor.figure("KID")
    if fewest <= extractor.dimensions:
        found.append(
            f"{counts}: no more than the {extractor.dimensions} feature dimensions on one side, so the covariances are "
            f"singular and {fid} mostly measures how few there are"
        )
    if fewest < 2000:
        found.append(
            f"{counts}: fewer than 2,000, so {fid} comes out too high; compare it only at equal counts, "
            f"and read {kid}, which has no such bias, with its spread"
        )
    return found
