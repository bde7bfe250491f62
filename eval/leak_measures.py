"""What keypoints tell besides structure: colours that a ridge finds from them, and edges that lie off the subject."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.edge_map import edge_pairs
from autolink.generation.classes import without_class_means

FOLDS = 10

FEWEST_FITTED = 2 * FOLDS
"""A fit of fewer pictures says nothing."""

PENALTIES = 10.0 ** np.arange(-5, 4)
"""Of the ridge, over the number of pictures; features have a variance of one."""

DRAWS = 1000
"""Of the bootstrap."""

MASK_SIDE = 128
"""Side in pixels at which subjects are told from their background; at 64, GrabCut takes half of the pictures whole."""

MASK_BEGIN = ((1.25, cv2.GC_PR_BGD), (0.9, cv2.GC_PR_FGD), (0.6, cv2.GC_FGD))
"""Radii, in half sides, of the discs from which GrabCut begins; corners beyond the first are background for sure."""

PER_EDGE = 33
"""Points of an edge whose place is looked up."""

Array = NDArray[np.floating]


class Explained(NamedTuple):
    """How much of something is known of pictures that took no part in the fit."""

    r2: float
    """1: all; 0: no more than the mean of the class; below 0: less."""
    interval_95: tuple[float, float]


def explained(known: Array, wanted: Array, classes: NDArray[np.int64], seed: int) -> Explained | None:
    """The share of the variance within classes that a ridge explains, cross-validated.

    In each of ten folds, means of the classes, penalty and ridge are fitted on the other nine; R2 is 1 less the
    squared error of the ridge over that of the class's mean, summed over all held-out pictures. The interval is
    a bootstrap over pictures.

    Args:
        known: (N, D), what is known of each picture.
        wanted: (N, T), in one unit.
        classes: (N,).
        seed: of folds and bootstrap.

    Returns:
        None with fewer than `FEWEST_FITTED` pictures, or where there is nothing to explain.
    """
    if len(known) < FEWEST_FITTED:
        return None
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(known)) % FOLDS
    left, total = np.empty(len(known)), np.empty(len(known))
    for n in range(FOLDS):
        test = fold == n
        x, y = (without_class_means(values.astype(np.float64), classes, ~test) for values in (known, wanted))
        x /= np.maximum(x[~test].std(0), 1e-9)
        left[test] = np.square(y[test] - x[test] @ ridge(x[~test], y[~test])).sum(1)
        total[test] = np.square(y[test]).sum(1)
    if total.sum() < 1e-9:
        return None
    drawn = rng.integers(len(known), size=(DRAWS, len(known)))
    low, high = np.percentile(1 - left[drawn].sum(1) / np.maximum(total[drawn].sum(1), 1e-12), [2.5, 97.5])
    return Explained(float(1 - left.sum() / total.sum()), (float(low), float(high)))


def ridge(x: Array, y: Array) -> Array:
    """Ridge weights (D, T) of (N, D) and (N, T), both centred, with the penalty whose left-out error is the least."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ y

    def left_out_error(penalty: float) -> float:
        """Of each picture predicted from all others, in closed form."""
        shrink = s**2 / (s**2 + penalty)
        leverage = np.square(u) @ shrink
        return float(np.square((y - (u * shrink) @ projected) / np.maximum(1 - leverage, 1e-9)[:, None]).sum())

    best = min(len(x) * PENALTIES, key=left_out_error)
    weights: Array = vt.T @ (s[:, None] / (s[:, None] ** 2 + best) * projected)
    return weights


def subject_masks(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the subject is, (N, size, size, 3) RGB -> (N, MASK_SIDE, MASK_SIDE), by GrabCut (Rother et al. 2004).

    For pictures cropped to their subject: it begins from the discs of `MASK_BEGIN`.
    """
    begin = np.full((MASK_SIDE, MASK_SIDE), cv2.GC_BGD, np.uint8)
    for radius, mark in MASK_BEGIN:
        cv2.circle(begin, (MASK_SIDE // 2, MASK_SIDE // 2), round(MASK_SIDE / 2 * radius), mark, -1)
    masks = np.empty((len(pictures), MASK_SIDE, MASK_SIDE), np.bool_)
    for n, picture in enumerate(pictures):
        cv2.setRNGSeed(0)  # its mixtures of Gaussians begin at random
        small = cv2.resize(picture, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
        mask = begin.copy()
        cv2.grabCut(small, mask, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
        masks[n] = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    return masks


def off_subject(keypoints: Array, weights: Array, masks: NDArray[np.bool_]) -> Array:
    """The share of the edges, weight times length, that lies outside of the subject or of the picture: (N,).

    Args:
        keypoints: (N, K, 2), (x, y) in [-1, 1].
        weights: (E,), not negative, in the order of `edge_pairs`.
        masks: (N, M, M), true where the subject is.
    """
    first, second = edge_pairs(keypoints.shape[1]).numpy()
    steps = (np.arange(PER_EDGE) + 0.5)[:, None] / PER_EDGE
    shares = np.empty(len(keypoints))
    for n, (points, mask) in enumerate(zip(keypoints, masks, strict=True)):
        a, b = points[first, None], points[second, None]
        places = np.rint((a + (b - a) * steps + 1) / 2 * (len(mask) - 1)).astype(int)  # (E, P, 2)
        inside = ((places >= 0) & (places < len(mask))).all(2)
        x, y = places.clip(0, len(mask) - 1).transpose(2, 0, 1)
        ink = weights * np.linalg.norm(points[first] - points[second], axis=1)
        shares[n] = (ink * (1 - (inside & mask[y, x]).mean(1))).sum() / max(ink.sum(), 1e-12)
    return shares
