"""A checkpoint on a published data set, measured by that set's own protocol."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolink.data import Annotation
from autolink.data.published import PUBLISHED, Protocol
from autolink.errors import UserError
from autolink.eval import protocols

PROTOCOLS: dict[Protocol, tuple[Callable[..., float], str, str]] = {
    "celeba": (
        protocols.celeba,
        "% of the inter-ocular distance",
        "fit without bias on MAFL train, mean over points and images of MAFL test",
    ),
    "cub": (
        protocols.cub,
        "% of the picture's side",
        "fit without bias for each part where it is visible, mean over the visible parts of the test images",
    ),
    "human36m": (
        protocols.human36m,
        "% of the picture's side",
        "fit without bias on S1, 5, 6, 7, 8, 9, outliers dropped, mean over S11; annotations are swapped to the nearer "
        "side, so left and right count as the same",
    ),
    "taichi": (
        protocols.taichi,
        "summed over 18 joints and 2 coordinates, picture side 255",
        "fit with bias for each coordinate of each joint where it is visible, sum of the mean absolute errors",
    ),
    "deepfashion": (
        protocols.deepfashion,
        "% of points nearer than 6 at picture side 255 (PCK, more is better)",
        "fit without bias on the train part, share of points of the test part",
    ),
}
"""Function, unit and description of each protocol."""


def measure(name: str, keypoints: NDArray, annotation: Annotation) -> dict[str, Any]:
    """The published figure of a set, as in the paper's tables, ready for JSON.

    Args:
        name: one of `PUBLISHED`, with landmarks.
        keypoints: (N, K, 2), (x, y) in [-1, 1].
        annotation: the same N pictures, all annotated.

    Raises:
        UserError: there are too few pictures for a fit.
    """
    published = PUBLISHED[name]
    function, unit, text = PROTOCOLS[published.protocol]
    test = annotation.test
    needed = 2 * keypoints.shape[1] + 1
    if (~test).sum() < needed or not test.any():
        raise UserError(
            f"{name} has {(~test).sum()} annotated pictures to fit on and {test.sum()} to test on; "
            f"at least {needed} and 1 are needed"
        )
    landmarks = (annotation.landmarks.astype(np.float64) + 1) / 2 * published.scale
    visible = np.isfinite(landmarks.sum(2))

    def error(points: NDArray, **options: Any) -> float:
        values = [points[~test], points[test], landmarks[~test], landmarks[test]]
        if published.protocol in ("cub", "taichi"):
            values += [visible[~test], visible[test]]
        return function(*values, **options) * (1 if published.protocol == "taichi" else 100)

    result: dict[str, Any] = {
        "error": error(keypoints),
        "mean_pose_error": error(np.zeros_like(keypoints)),
        "unit": unit,
        "protocol_name": published.protocol,
        "protocol": text,
        "images": int(test.sum()),
        "train_images": int((~test).sum()),
    }
    if published.protocol == "human36m":
        result["error_with_mended_pairs"] = error(keypoints, pairs="mended")
    return result
