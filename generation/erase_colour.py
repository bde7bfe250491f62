"""Make a stage one whose keypoints tell no colour: python generation/erase_colour.py --checkpoint DIR --data FOLDER.

A detector may place keypoints a little differently on dark and on light fur, and a generator would learn to read that.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from autolink.data import check_data, load_data
from autolink.data.images import Pictures
from autolink.device import prepare_cpu
from autolink.errors import UserError, command
from autolink.generation.classes import class_names, classes_of, held_out_pictures, without_class_means
from autolink.inference import detect_all
from autolink.model import BATCH, AutoLink
from autolink.pretrained import check_output_folder
from autolink.relight import centre_colours

FEWEST = 10
"""Pictures for each coordinate of a keypoint, at least: fewer fit by chance."""

MOST = 20_000
"""Pictures at most, evenly chosen: more would tell nothing new."""

FLOOR = 1e-3
"""Added to the variance of every direction, relative to their mean: of directions that nothing varies in, nothing is
known."""

VARIED = 0.95
"""Share of the variance of colours whose principal directions are erased. Erasing the rest, in which fur hardly varies,
would take as much from the keypoints for next to no colour: a third of what they told of where dogs' noses are."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class EraseConfig:
    """Make a copy of a stage one whose keypoints tell no colour, by a linear map, of the pictures that they are of."""

    checkpoint: str
    """A checkpoint folder of a stage one, the name of a bundled one, or hf:owner/name."""
    data: str
    """A folder or zip of pictures of its kind, a class in each subfolder; those held out by name take no part."""
    out: Path
    """Folder for the copy."""
    root: Path | None = None
    """Where the published set that --data names is unpacked; see docs/data-sets.md."""
    overwrite: bool = False
    """Replace the checkpoint in --out."""


def erasing_projection(values: Array, concept: Array) -> Array:
    """The projection P for which x - x P correlates with nothing in the concept and changes x the least.

    Least-squares concept erasure (Belrose et al., NeurIPS 2023): with C the covariance of the values and D theirs with
    the concept, P projects obliquely, in the metric of C, onto the span of D.

    Args:
        values: (N, D), centred.
        concept: (N, Z), centred.

    Returns:
        (D, D), of rank Z at most.
    """
    covariance = values.T @ values / len(values)
    covariance += FLOOR * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    spread, axes = np.linalg.eigh(covariance)
    root, whitening = axes * np.sqrt(spread) @ axes.T, axes / np.sqrt(spread) @ axes.T
    basis, strength, _ = np.linalg.svd(whitening @ (values.T @ concept), full_matrices=False)
    basis = basis[:, strength > 1e-9 * strength.max()]
    projection: Array = whitening @ basis @ basis.T @ root
    return projection


def varied_directions(colours: Array) -> Array:
    """Colours along the directions that hold all but little of their variance: (N, 3), centred -> (N, 1 to 3)."""
    shapes, lengths, _ = np.linalg.svd(colours, full_matrices=False)
    variance = np.square(lengths)
    of_stronger = variance.cumsum() - variance
    varied: Array = (shapes * lengths)[:, of_stronger <= VARIED * variance.sum()]
    return varied


def erase_colour(model: AutoLink, pictures: Pictures, classes: NDArray[np.int64]) -> tuple[AutoLink, float]:
    """A copy of a stage one without what its keypoints tell, linearly and in any class, of `centre_colours`.

    Of the colours, the principal directions that hold `VARIED` of their variance: on fur, how light and how yellow.

    Args:
        model: a stage one; what was erased from it before is erased anew.
        pictures: (N, size, size, 3), RGB, the size being the model's or more.
        classes: (N,).

    Returns:
        The copy, and how far keypoints moved on average, in per cent of the side.
    """
    copy = AutoLink(replace(model.config, colour_erased=True))
    copy.load_state_dict(model.state_dict(), strict=False)
    copy.detector.erased.zero_()
    keypoints = detect_all(copy.eval(), pictures, torch.device("cpu")).reshape(len(pictures), -1).astype(np.float64)
    colours = np.concatenate([centre_colours(pictures[n : n + BATCH]) for n in range(0, len(pictures), BATCH)])
    every = np.ones(len(classes), bool)
    known, colours = (without_class_means(v, classes, every) for v in (keypoints, colours.astype(np.float64)))
    colours = varied_directions(colours)
    of_each_class = np.hstack([colours * (classes == number)[:, None] for number in np.unique(classes)])
    projection = erasing_projection(known, of_each_class)
    copy.detector.erased.copy_(torch.from_numpy(projection))
    copy.detector.erased_mean.copy_(torch.from_numpy(keypoints.mean(0)))
    away = (keypoints - keypoints.mean(0)) @ projection
    return copy, float(np.linalg.norm(away.reshape(len(pictures), -1, 2), axis=2).mean() * 50)


def run(config: EraseConfig) -> None:
    """The command: read, fit, write, say how far keypoints moved.

    Raises:
        UserError: the checkpoint or the data cannot be read, or there are too few pictures.
    """
    check_output_folder(config.out, config.overwrite)
    prepare_cpu(torch.device("cpu"))
    model = AutoLink.from_pretrained(config.checkpoint)
    check_data(config.data, config.root)
    data = load_data(config.data, model.config.size, model.config.fit, root=config.root)
    rows, fewest = np.flatnonzero(~held_out_pictures(data)), FEWEST * 2 * model.config.keypoints
    if len(rows) < fewest:
        raise UserError(
            f"--data {config.data}: {len(rows)} pictures that are not held out; {model.config.keypoints} keypoints "
            f"need at least {fewest}, so that what is erased is no chance"
        )
    known, rows = len(rows), rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(int)]
    classes = classes_of(data.names, class_names(data.names))[rows]
    pictures = data.images[rows]
    copy, moved = erase_colour(model, pictures, classes)
    copy.save_pretrained(config.out)
    print(
        f"{config.out}: fitted on {len(rows)} of {known} pictures ({len(data) - known} held out); keypoints moved by "
        f"{moved:.1f} % of the side on average. See what they still tell: autolink eval leak --checkpoint {config.out} "
        f"--data {config.data}"
    )


def main() -> None:
    """Entry point of `python generation/erase_colour.py`."""
    command(lambda: run(tyro.cli(EraseConfig)))


if __name__ == "__main__":
    main()
