"""The measurements of a pose transfer as figures: names, units, how each is measured."""

from collections.abc import Callable, Iterator

from autolink.eval.measure import Appearance, Measurements
from autolink.eval.results import Figure, Metric

GROUPS = {
    "self": (
        "Same person",
        "The first frame of a clip is the source, the clip the driver; frames spread over it are compared, after "
        "rounding to 8 bits.",
    ),
    "cross": (
        "Another person's motion",
        "The source is driven by the next clip. Rendered figures are compared with the source's person rendered in the "
        "driver's motion; videos have no such truth, so that only the judge's joints are compared, with the driver's, "
        "whose build differs.",
    ),
}
"""Name of each group of figures, and what is compared with what."""

PATHS = {
    "users": "Whole clips pass through `transfer_video` with its defaults: relative motion, the subject's square found "
    "and followed, mixed precision where it is fast, put back into the frame.",
    "network": "The networks alone, frame by frame: keypoints of the uncropped frame as they are (no relative motion, "
    "no retargeting), at the network's own size.",
}
"""How the pictures are made, by protocol."""

AKD = (
    "Mean distance of the judge's joints on the generated frame from those on the real one, over the joints that the "
    "judge sees in the real one, also where it misses them in the generated one."
)
MISSING = (
    "Share of the joints seen in the real frame whose confidence in the generated one is below the judge's threshold; "
    "of the real frames, the share of all joints, those outside the picture included."
)
TRUTH = (
    "Mean distance of the judge's joints on the generated frame from the true joints; the judge's own error is the "
    "same on the real frame; arms are elbows and wrists."
)
WARPING = (
    "Mean absolute difference, [0, 1] units, of a frame from the one before it moved along the optical flow of the "
    "real frames (DIS at 256 px), where the flows forward and backward agree. Blur lowers it, too."
)
KEPT = (
    "Features at the places where the judge finds the joints (without a judge, on a grid) are a picture's signature; "
    "it is assigned to the nearest of all people, known from real frames of the first half of their clips. Real frames "
    "are those of the second half."
)
GAP = "Mean distance of the driver's true joints from the truth's: what a copy of the driver's joints would miss by."


JUDGE = "judge"
"""In `Metric.measured_by`: the judge of joints that is used."""

METRICS = (
    Metric("l1", "L1", "", 4, "lower", "Mean absolute difference, [0, 1] units."),
    Metric(
        "moving_l1", "L1 on moving pixels", "", 4, "lower",
        "Mean absolute difference, [0, 1] units, over the pixels where real frame and source differ by more than 0.1 "
        "(channel mean, [-1, 1] units), all frames summed before dividing.", headline=True,
    ),
    Metric(
        "ssim", "SSIM", "", 3, "higher",
        "Wang et al. 2004, Gaussian window of 11 pixels and sigma 1.5 at the transfer's own size, per channel.",
        headline=True,
    ),
    Metric(
        "efficientnet_lite0_distance", "Feature distance", "", 3, "lower",
        "L1 of features of stem and blocks 0, 2, 4, 10 at 128 px, each over its mean magnitude on the real frame; no "
        "LPIPS.", "efficientnet-lite0",
    ),
    Metric("lpips", "LPIPS", "", 3, "lower", "LPIPS 0.1 at the transfer's own resolution.", "AlexNet"),
    Metric("akd_percent_of_side", "AKD", "% of side", 2, "lower", AKD, JUDGE),
    Metric("akd_percent_of_inter_ocular", "AKD", "% of inter-ocular distance", 2, "lower", AKD, JUDGE, True),
    Metric(
        "mouth_percent_of_inter_ocular", "Shape of the mouth", "% of inter-ocular distance", 2, "lower",
        "Mean distance of the judge's lips on the generated frame from those on the real one, each about their own "
        "centre: whether the mouth opens and closes, not where it is.", JUDGE, True,
    ),
    Metric("mkr_percent", "Missing keypoints", "%", 2, "lower", MISSING, JUDGE),
    Metric("real_missing_percent", "Missing keypoints of the real frames", "%", 2, "", MISSING, JUDGE),
    Metric("joint_error_percent_of_side", "Joints from truth", "% of side", 2, "lower", TRUTH, JUDGE, True),
    Metric("judge_own_error_percent_of_side", "Judge's own error, joints", "% of side", 2, "", TRUTH, JUDGE),
    Metric("joint_error_arms_percent_of_side", "Arms from truth", "% of side", 2, "lower", TRUTH, JUDGE, True),
    Metric("judge_own_error_arms_percent_of_side", "Judge's own error, arms", "% of side", 2, "", TRUTH, JUDGE),
    Metric("warping_error", "Warping error", "", 4, "", WARPING),
    Metric("flicker_over_real", "Warping error over that of the real frames", "", 2, "lower", WARPING),
)  # fmt: skip
"""What is told of each group, in this order."""


def figures(found: Measurements, made: Callable[..., Figure], judged_by: str, path: str) -> Iterator[Figure]:
    """The measurements as figures, copying the source beside them.

    Args:
        found: what was measured.
        made: makes a figure of what differs from one to another.
        judged_by: which judge found the joints.
        path: how the pictures were made, one of `PATHS`.
    """
    ways = {table: (group, f"{how} {PATHS[path]}") for table, (group, how) in GROUPS.items()}
    for table, (group, how) in ways.items():
        for metric in METRICS:
            mean = found.tables[table].get(metric.key)
            if mean is None:
                continue
            copied = found.tables[f"{table}_copy"].get(metric.key)
            if copied == mean and not metric.better:  # of the real frames alone
                copied = None
            yield made(
                f"{table}.{metric.key}", metric.name, mean.value, protocol=f"{how} {metric.protocol}", group=group,
                unit=metric.unit, digits=metric.digits, better=metric.better,
                headline=metric.headline and (not found.expressions or metric.key == "moving_l1"),
                measured_by=judged_by if metric.measured_by == JUDGE else metric.measured_by,
                spread=mean.spread, spread_over="clips" if mean.spread is not None else "",
                baseline=copied.value if copied else None, baseline_name="copying the source" if copied else "",
            )  # fmt: skip
    group, how = ways["cross"]
    for key, gap in found.driver_gap.items():
        name = f"Driver's own {'arms' if key.startswith('arms') else 'joints'} from truth"
        yield made(f"cross.driver_{key}", name, gap.value, protocol=GAP, group=group, unit="% of side")
    if found.appearance:
        yield from kept_figures(found.appearance, made, judged_by, ways["cross"])


def kept_figures(
    kept: Appearance, made: Callable[..., Figure], judged_by: str, way: tuple[str, str]
) -> Iterator[Figure]:
    """Whose picture the results are taken for; `way` is their group and how they were made."""
    group, how = way
    chance = {"baseline": 100 / kept.people, "baseline_name": "chance"}
    real = {"baseline": kept.real, "baseline_name": "real frames", "headline": True}
    by = f"efficientnet-lite0 at the joints of {judged_by}" if judged_by else "efficientnet-lite0"
    for name, whose, value, better, beside in (
        ("generated", "Taken for the source's person", kept.generated, "higher", real),
        ("generated_as_driver", "Taken for the driver's person", kept.generated_as_driver, "lower", chance),
        ("copy", "The source as it stands, taken for its own person", kept.copy, "", chance),
        ("real", "Real frames, taken for their own person", kept.real, "", chance),
    ):
        yield made(
            f"appearance.{name}_percent", whose, value, protocol=f"{how} {KEPT}", group=group, unit="%", digits=1,
            better=better, measured_by=by, **beside,
        )  # fmt: skip
