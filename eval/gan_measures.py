"""What the figures of `eval/gan.py` are made of: one function a figure."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.picture import squares
from autolink.device import to_network
from autolink.draw import to_image
from autolink.eval.features import Estimate, frechet, interval, kernel, monge, precision_recall
from autolink.eval.leak_measures import FOLDS, ridge
from autolink.eval.metrics import FeatureDistance
from autolink.generation.gan import Gan
from autolink.generation.projected import changed_images, draw_change
from autolink.inference import detect_all
from autolink.model import AutoLink

Pictures = NDArray[np.uint8]
"""(N, size, size, 3), RGB."""

SUBSETS = 50
"""Subsets of the kernel distance, and halves by which the Monge distance's interval is found."""

NEIGHBOURS = 3
"""The k of precision and recall."""

FEWEST = 8
"""A set of fewer pictures says nothing about a distribution."""

REPEATED_SHIFT = 0.1
"""Share of the training augmentation's largest shift, by which a picture is moved to see whether keypoints follow."""

ROUNDING = 1e-4
"""Directions in which keypoints vary so much less, relative to the one in which they do most, hold rounding errors:
where structures lie along a few principal directions, or where colour was erased."""


def generate(
    gan: Gan, keypoints: NDArray[np.float32], classes: NDArray[np.int64], seed: int, truncation: float, side: int
) -> Pictures:
    """One picture of `side` pixels a structure (N, K, 2) and class (N,), its noise by its place in the list."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(keypoints), gan.config.latent, generator=generator).to(gan.device)
    styles = gan.styles(noise, torch.from_numpy(classes).to(gan.device), truncation)
    return to_pictures(gan.generate(torch.from_numpy(keypoints).to(gan.device), styles), side)


def to_pictures(images: Tensor, side: int) -> Pictures:
    """(N, 3, size, size) in [-1, 1] -> (N, side, side, 3), resized as pictures of data are."""
    pictures = to_image(images.permute(0, 2, 3, 1).cpu().numpy())
    return pictures if side == images.shape[-1] else squares(list(pictures), side, "stretch")


def distribution(real: NDArray[np.floating], fake: NDArray[np.floating], seed: int) -> dict[str, Estimate]:
    """How far generated pictures are from real ones as a set, of features (N, D) and (M, D); empty if too few."""
    count = min(len(real), len(fake))
    if count < FEWEST:
        return {}
    distance = kernel(real, fake, seed, SUBSETS)
    precision, recall = precision_recall(real, fake, NEIGHBOURS)
    return {
        "fid": Estimate(frechet(real, fake)),
        "kid": Estimate(distance.mean, interval(distance.mean, distance.spread, distance.subset_size, count)),
        "mind": monge(real, fake, seed, SUBSETS),
        "precision": Estimate(precision),
        "recall": Estimate(recall),
    }


def realism(fake: NDArray[np.floating], real: NDArray[np.floating]) -> NDArray[np.floating]:
    """How realistic each generated picture is, (N, D) against real ones (M, D), M above NEIGHBOURS: (N,), above 0.

    Equation 3 of Kynkäänniemi et al. 2019: R = max_r |r - NN_k(r)| / |fake - r| over the half of the real pictures
    whose k-th neighbour is nearest; 1 and more lies inside of the real ones' manifold.
    """
    points, centres = torch.from_numpy(fake).float(), torch.from_numpy(real).float()
    radii = torch.cdist(centres, centres).kthvalue(NEIGHBOURS + 1).values
    dense = radii <= radii.median()
    found: NDArray[np.floating] = (radii[dense] / torch.cdist(points, centres[dense]).clamp(min=1e-12)).amax(1).numpy()
    return found


def keypoint_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean distance of the keypoints of pictures, (N, K, 2) in [-1, 1] twice -> (N,) in per cent of the side."""
    distances: NDArray[np.floating] = np.linalg.norm(first - second, axis=2)
    return np.asarray(distances.mean(1) * 50)


def another_of_the_class(classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each picture the number of another one of its class, (N,); itself where it is the only one."""
    other = np.arange(len(classes))
    for c in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == c))
        other[rows] = np.roll(rows, 1)
    return other


class StructureErrors(NamedTuple):
    """A stage one's opinion, each (N,) in per cent of the side."""

    error: NDArray[np.floating]
    """Of the keypoints on generated pictures from those on the real picture whose structure was asked for."""
    random_real: NDArray[np.floating]
    """The same of another real picture of the class in place of the generated one: what ignoring structure scores."""
    repeated: NDArray[np.floating]
    """The same of the real picture in another light and a little shifted, the shift undone: what perfection scores."""
    expected: NDArray[np.floating] | None
    """Of the keypoints expected from those asked for (`expected_errors`); None with too few pictures."""


def structure_errors(
    judge: AutoLink, real: Pictures, fake: Pictures, asked: NDArray[np.floating], classes: NDArray[np.int64], seed: int
) -> StructureErrors:
    """How well generated pictures follow the structure of real ones, (N, K, 2), in the eyes of a stage one."""
    rng = np.random.default_rng(seed)
    device = judge.edge_logits.device
    on_real, on_fake = detect_all(judge, real, device), detect_all(judge, fake, device)
    return StructureErrors(
        keypoint_distance(on_fake, on_real),
        keypoint_distance(on_real[another_of_the_class(classes, rng)], on_real),
        keypoint_distance(repeated_keypoints(judge, real, seed), on_real),
        expected_errors(asked, on_real, classes),
    )


def expected_errors(
    asked: NDArray[np.floating], found: NDArray[np.floating], classes: NDArray[np.int64]
) -> NDArray[np.floating] | None:
    """How far a judge's keypoints lie from where least squares expect them, given those asked for and the class.

    Another stage one has other keypoints, and ours say only so much of where they are: a picture that follows the
    structure, and else is another picture, cannot score much less.

    Args:
        asked: (N, K, 2), (x, y) in [-1, 1] of real pictures.
        found: (N, J, 2), the judge's on the same pictures.
        classes: (N,).

    Returns:
        (N,) in per cent of the side, each half fitted on the other; None with too few pictures for such a fit.
    """
    design = np.hstack([asked.reshape(len(asked), -1), np.eye(classes.max() + 1)[classes]]).astype(np.float64)
    if len(design) < 4 * design.shape[1]:
        return None
    wanted = found.reshape(len(found), -1).astype(np.float64)
    expected = np.empty_like(wanted)
    half = np.arange(len(design)) % 2 == 0
    for rows in (half, ~half):
        expected[rows] = design[rows] @ np.linalg.lstsq(design[~rows], wanted[~rows], rcond=ROUNDING)[0]
    return keypoint_distance(expected.reshape(found.shape), found)


@torch.no_grad()
def repeated_keypoints(judge: AutoLink, real: Pictures, seed: int, batch: int = 64) -> NDArray[np.float32]:
    """Keypoints of pictures in another light and shifted a little, in the unshifted picture: (N, K, 2)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for n in range(0, len(real), batch):
        images = to_network(torch.from_numpy(np.ascontiguousarray(real[n : n + batch])), judge.edge_logits.device)
        change = draw_change(len(images), 0.5, generator)
        shift = change.shift * 2 * REPEATED_SHIFT
        seen = changed_images(images, change._replace(shift=shift))
        to_ends = images.shape[-1] / (images.shape[-1] - 1)  # shifts are in sides, keypoints between pixel centres
        found.append(judge.keypoints(seen).cpu() + shift[:, None] * to_ends)
    return torch.cat(found).numpy()


def variety(distance: FeatureDistance, pictures: Tensor) -> float:
    """Mean distance of the pictures of one structure: (S, A, 3, H, W) in [-1, 1], A at least 2; neighbours compared."""
    return float(torch.stack([distance(one, one.roll(1, 0)).mean() for one in pictures]).mean())


class Neighbours(NamedTuple):
    """The training pictures nearest to some others."""

    rows: NDArray[np.int64]
    """(N,)."""
    distances: NDArray[np.floating]
    """(N,)."""


def nearest(features: NDArray[np.floating], training: NDArray[np.floating], itself: bool = False) -> Neighbours:
    """The nearest of the training features (M, D) to each of (N, D); `itself`: both are the same set, skip oneself."""
    apart = torch.cdist(torch.from_numpy(features).float(), torch.from_numpy(training).float())
    if itself:
        apart.fill_diagonal_(torch.inf)
    found = apart.min(1)
    return Neighbours(found.indices.numpy(), found.values.numpy())


def copying(fake: NDArray[np.floating], real: NDArray[np.floating]) -> dict[str, float]:
    """Whether generated pictures are copies of training pictures.

    The distance of a real picture to its nearest other one is the measure: a generated picture nearer to a training
    picture than all but a hundredth of the real ones are to each other is counted as a copy; about 1 % is chance.
    """
    own, found = nearest(real, real, itself=True).distances, nearest(fake, real).distances
    return {
        "median_distance_over_reals": float(np.median(found) / max(float(np.median(own)), 1e-12)),
        "copies_percent": float((found < np.quantile(own, 0.01)).mean() * 100),
    }


class RightClass(NamedTuple):
    """Whether pictures are of their class in the eyes of a linear classifier, each (N,)."""

    generated: NDArray[np.bool_]
    """By a classifier of all real pictures."""
    real: NDArray[np.bool_]
    """By one that did not see the picture."""


def right_class(
    fake: NDArray[np.floating], real: NDArray[np.floating], classes: NDArray[np.int64], seed: int
) -> RightClass:
    """Whether generated pictures are taken for the class asked for, and real ones for their own.

    The classifier is a ridge from the features, each of unit variance, to the classes; a real picture is told by one
    that was fitted on the other nine tenths.

    Args:
        fake: (N, D), features of generated pictures.
        real: (N, D), of the real pictures of whose classes they were asked for.
        classes: (N,), of both.
        seed: of the tenths.
    """
    wanted = np.eye(classes.max() + 1)[classes]
    scale = np.maximum(real.std(0), 1e-9)
    known, drawn = ((features / scale).astype(np.float64) for features in (real, fake))

    def told(rows: NDArray[np.bool_], pictures: NDArray[np.float64]) -> NDArray[np.int64]:
        mean, shares = known[rows].mean(0), wanted[rows].mean(0)
        scores = (pictures - mean) @ ridge(known[rows] - mean, wanted[rows] - shares) + shares
        found: NDArray[np.int64] = scores.argmax(1)
        return found

    fold = np.random.default_rng(seed).permutation(len(real)) % FOLDS
    on_real = np.empty_like(classes)
    for n in range(FOLDS):
        on_real[fold == n] = told(fold != n, known[fold == n])
    return RightClass(np.equal(told(np.ones(len(real), bool), drawn), classes), np.equal(on_real, classes))
