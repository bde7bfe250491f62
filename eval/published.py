"""A checkpoint on a published data set, measured by that set's own protocol."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.data.landmarks import Annotation
from autolink.data.published import PUBLISHED, Protocol
from autolink.errors import UserError
from autolink.eval import protocols
from autolink.eval.results import Better, Figure


class AuthorsTest(NamedTuple):
    """The test of a data set's authors."""

    error: Callable[..., float]
    unit: str
    protocol: str
    better: Better = "lower"
    scale: float = 100.0
    """Brings the function's value to what papers print."""
    visibility: bool = False
    """Whether the function asks which landmarks are visible."""


TESTS: dict[Protocol, AuthorsTest] = {
    "celeba": AuthorsTest(
        protocols.celeba,
        "% of the inter-ocular distance",
        "Fit without bias on MAFL train, mean over points and images of MAFL test.",
    ),
    "cub": AuthorsTest(
        protocols.cub,
        "% of the picture's side",
        "Fit without bias for each part where it is visible, mean over the visible parts of the test images.",
        visibility=True,
    ),
    "human36m": AuthorsTest(
        protocols.human36m,
        "% of the picture's side",
        "Fit without bias on S1, 5, 6, 7, 8, 9, outliers dropped, mean over S11; annotations are swapped to the nearer "
        "side, so left and right count as the same.",
    ),
    "taichi": AuthorsTest(
        protocols.taichi,
        "summed over 18 joints and 2 coordinates, picture side 255",
        "Fit with bias for each coordinate of each joint where it is visible, sum of the mean absolute errors.",
        scale=1.0,
        visibility=True,
    ),
    "deepfashion": AuthorsTest(
        protocols.deepfashion,
        "% of points nearer than 6 at picture side 255 (PCK)",
        "Fit without bias on the train part, share of points of the test part.",
        "higher",
    ),
}


def measure(name: str, keypoints: NDArray[np.floating], annotation: Annotation) -> tuple[Figure, ...]:
    """The published figure of a set, as in the paper's tables.

    Args:
        name: one of `PUBLISHED`, with landmarks.
        keypoints: (N, K, 2), (x, y) in [-1, 1].
        annotation: the same N pictures, all annotated.

    Raises:
        UserError: there are too few pictures for a fit.
    """
    published = PUBLISHED[name]
    authors = TESTS[published.protocol]
    test = annotation.test
    needed = 2 * keypoints.shape[1] + 1
    if (~test).sum() < needed or not test.any():
        raise UserError(
            f"{name} has {(~test).sum()} annotated pictures to fit on and {test.sum()} to test on; "
            f"at least {needed} and 1 are needed"
        )
    landmarks = (annotation.landmarks.astype(np.float64) + 1) / 2 * published.scale
    visible = np.isfinite(landmarks.sum(2))

    def error(points: NDArray[np.floating], **options: Any) -> float:
        values = [points[~test], points[test], landmarks[~test], landmarks[test]]
        if authors.visibility:
            values += [visible[~test], visible[test]]
        return authors.error(*values, **options) * authors.scale

    figure = partial(
        Figure, data=name, count=int(test.sum()), samples=f"test pictures, fitted on {(~test).sum():,}",
        protocol=authors.protocol, unit=authors.unit, better=authors.better,
        group=f"Protocol of {published.protocol}", baseline=error(np.zeros_like(keypoints)), baseline_name="mean pose",
    )  # fmt: skip
    found = [figure("published_error", "Error", error(keypoints), headline=True)]
    if published.protocol == "human36m":
        mended = error(keypoints, pairs="mended")
        found.append(figure("published_error_with_mended_pairs", "Error with the mended list of pairs", mended))
    return tuple(found)
