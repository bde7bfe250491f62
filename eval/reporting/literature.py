"""Published figures, and which of ours may stand beside them."""

from collections.abc import Iterable

from autolink.eval.reporting.content import Checkpoint, PublishedFigure

AUTOLINK = "AutoLink, He et al. 2022"
PRIOR = "Pose Prior Learner, 2026"
STABLE = "StableKeypoints (with a diffusion model)"

FIGURES = (
    PublishedFigure("celeba-wild", AUTOLINK, 4, 6.11),
    PublishedFigure("celeba-wild", AUTOLINK, 8, 5.24),
    PublishedFigure("celeba-aligned", AUTOLINK, 10, 3.54),
    PublishedFigure("cub-aligned", AUTOLINK, 10, 3.51),
    PublishedFigure("cub-001", AUTOLINK, 4, 20.2),
    PublishedFigure("cub-002", AUTOLINK, 4, 19.2),
    PublishedFigure("cub-003", AUTOLINK, 4, 18.5),
    PublishedFigure("cub-all", AUTOLINK, 4, 11.3),
    PublishedFigure("human36m", AUTOLINK, 16, 2.76),
    PublishedFigure("taichi", AUTOLINK, 10, 316.10),
    PublishedFigure("deepfashion", AUTOLINK, 16, 66.0),
    PublishedFigure("cub-aligned", PRIOR, None, 3.19),
    PublishedFigure("cub-001", PRIOR, None, 19.3),
    PublishedFigure("cub-002", PRIOR, None, 18.6),
    PublishedFigure("cub-003", PRIOR, None, 17.3),
    PublishedFigure("cub-all", PRIOR, None, 10.5),
    PublishedFigure("human36m", PRIOR, None, 1.92, 2.23),
    PublishedFigure("taichi", PRIOR, None, 293.35, 298.60),
    PublishedFigure("taichi", STABLE, None, 234.89),
    PublishedFigure("deepfashion", STABLE, None, 70.0),
    PublishedFigure("human36m", STABLE, None, 4.45),
)


def beside(checkpoints: Iterable[Checkpoint]) -> tuple[PublishedFigure, ...]:
    """Published figures of the sets on which ours were measured by the same protocol, with ours in front of them."""
    ours = [
        PublishedFigure(f.data, f"{c.name} (ours)", c.model.get("keypoints"), f.value, ours=True)
        for c in checkpoints
        for f in c.measured.figures
        if f.key == "published_error"
    ]
    measured = {row.data for row in ours}
    rows = ours + [figure for figure in FIGURES if figure.data in measured]
    return tuple(sorted(rows, key=lambda row: (row.data, not row.ours)))
