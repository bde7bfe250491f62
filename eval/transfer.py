"""Measure a pose transfer: python eval/transfer.py --checkpoint DIR --data figures [--json FILE] [--sheet FILE]."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro
from tqdm import tqdm

from autolink import draw
from autolink.data.figures import JOINTS
from autolink.device import pick_device
from autolink.errors import UsageError, UserError, command
from autolink.eval.clips import load_clips
from autolink.eval.judge_model import Judge
from autolink.eval.lpips import load_lpips
from autolink.eval.measure import Array, Evaluation, Rulers, measure
from autolink.eval.metrics import SSIM_WINDOW, FeatureDistance
from autolink.generation.translator import PoseTransfer
from autolink.pretrained import check_output, write_text
from autolink.run_state import versions

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"

SHEET_COLUMNS, SHEET_SIDE = 8, 128

SHEET_ROWS = (
    "source", "driver", "driving edge map", "generated",
    "driver of another person", "its edge map", "generated", "rendered truth",
)  # fmt: skip


@dataclass(frozen=True)
class TransferConfig:
    """Measure a pose transfer on clips of people it was not trained on."""

    checkpoint: str
    """A checkpoint folder of a pose transfer."""
    data: str = "figures"
    """`figures`, rendered clips with a known truth; a folder of videos; or of pictures, with whom they show in
    landmarks.csv: of every person kept for testing, the scene with the most pictures."""
    json: Path | None = None
    """Write the figures to this file as well."""
    sheet: Path | None = None
    """Write a contact sheet to this PNG."""
    judge: str = "auto"
    """Checkpoint of the judge of joints; auto is the bundled one for figures or faces, none does without."""
    trunk_weights: Path | None = None
    """File with torchvision's AlexNet, to report LPIPS too."""
    clips: int = 40
    """How many clips, at most."""
    frames: int = 10
    """Pairs of consecutive frames measured in each clip."""
    seed: int = 0
    """Which rendered people; another seed, others."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    overwrite: bool = False
    """Replace the files given by --json and --sheet."""

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise UsageError(f"--clips must be at least 2, so that one can drive the other, got {self.clips}")
        if self.frames < 2:
            raise UsageError(f"--frames must be at least 2, got {self.frames}")
        if self.seed < 0:
            raise UsageError(f"--seed cannot be negative, got {self.seed}")
        check_output("--json", self.json, self.overwrite)
        check_output("--sheet", self.sheet, self.overwrite, (".png",))


PROTOCOL = {
    "self": "The first frame of a clip is the source; frames spread over the clip drive, each by its own keypoints as "
    "stage one finds them. Pictures are compared after rounding to 8 bits.",
    "self_copy": "The source as it stands, measured in the same way: what doing nothing scores.",
    "cross": "The source is driven by the keypoints of the next clip's person, as they are (no relative motion, no "
    "retargeting). Rendered figures: compared with the source's person rendered in the driver's motion. Videos have no "
    "such truth: only the judge's joints are compared, with the driver's, whose build differs.",
    "cross_copy": "The source as it stands, measured in the same way.",
    "cross_driver_joints_from_truth": "How far the driver's true joints lie from the truth's, whose build and camera "
    "are the source's: copying the driver's joints exactly would miss by this much.",
    "l1": "mean absolute difference, [0, 1] units",
    "moving_l1": "mean absolute difference, [0, 1] units, over the pixels where real frame and source differ by more "
    "than 0.1 (channel mean, [-1, 1] units), all frames summed before dividing",
    "ssim": "Wang et al. 2004, Gaussian window of 11 pixels and sigma 1.5 at the transfer's own size, per channel",
    "efficientnet_lite0_distance": "L1 of features of stem and blocks 0, 2, 4, 10 at 128 px, each over its mean "
    "magnitude on the real frame; no LPIPS",
    "lpips": "LPIPS 0.1, AlexNet, at the transfer's own resolution",
    "akd": "mean distance of the judge's joints on the generated frame from those on the real one, over the joints "
    "that the judge sees in the real one, also where it misses them in the generated one",
    "mouth": "mean distance of the judge's lips on the generated frame from those on the real one, each about "
    "their own centre: whether the mouth opens and closes, not where it is",
    "mkr": "share of the joints seen in the real frame whose confidence in the generated one is below the judge's "
    "threshold; real_missing is the share of all joints missing in the real frame, those outside the picture included",
    "joint_error": "mean distance of the judge's joints on the generated frame from the true joints; judge_own_error "
    "is the same on the real frame; arms are elbows and wrists",
    "warping_error": "mean absolute difference, [0, 1] units, of a frame from the one before it moved along the "
    "optical flow of the real frames (DIS at 256 px), where the flows forward and backward agree; flicker_over_real "
    "divides by the same of the real frames. Blur lowers it, too: read it beside moving_l1",
    "appearance": "each picture gets a signature, features at the places where the judge finds the joints (without a "
    "judge, on a grid); it is assigned to the nearest of all people, known from real frames of the first half of their "
    "clips. The share assigned to the source's person, for cross-identity pictures (generated), for the source frame "
    "(copy) and for real frames of the second half (real); and the share assigned to the driver's person",
}

LINES = (
    ("l1", "L1", 4, "lower"),
    ("moving_l1", "L1 on moving pixels", 4, "lower"),
    ("ssim", "SSIM", 3, "higher"),
    ("efficientnet_lite0_distance", "efficientnet-lite0 distance", 3, "lower"),
    ("lpips", "LPIPS (AlexNet)", 3, "lower"),
    ("akd_percent_of_side", "AKD, % of side", 2, "lower"),
    ("akd_percent_of_inter_ocular", "AKD, % of inter-ocular", 2, "lower"),
    ("mouth_percent_of_inter_ocular", "shape of the mouth, % of inter-ocular", 2, "lower"),
    ("mkr_percent", "missing keypoints, %", 2, "lower"),
    ("real_missing_percent", "  of the real frames, %", 2, ""),
    ("joint_error_percent_of_side", "joints from truth, % of side", 2, "lower"),
    ("judge_own_error_percent_of_side", "  judge's own error", 2, ""),
    ("joint_error_over_judges_own", "  ratio", 2, "lower"),
    ("joint_error_arms_percent_of_side", "arms from truth, % of side", 2, "lower"),
    ("judge_own_error_arms_percent_of_side", "  judge's own error", 2, ""),
    ("arm_error_over_judges_own", "  ratio", 2, "lower"),
    ("warping_error", "warping error", 4, ""),
    ("flicker_over_real", "  over real frames'", 2, "lower"),
)
"""Key, name, digits and what is better, in the order of the printed table."""


def judge_folder(config: TransferConfig) -> str:
    """Where the judge is that --judge asks for."""
    if config.judge != "auto":
        return config.judge
    return str(CHECKPOINTS / ("figures-judge" if config.data == "figures" else "faces-judge"))


def load_judge(config: TransferConfig, device: torch.device) -> Judge | None:
    """The judge that --judge asks for.

    Raises:
        UserError: there is no such checkpoint, or it knows other joints than the rendered figures have.
    """
    if config.judge == "none":
        return None
    judge = Judge.from_pretrained(judge_folder(config)).to(device)
    if config.data == "figures" and judge.config.joints != len(JOINTS):
        raise UserError(f"--judge {config.judge} finds {judge.config.joints} joints; the figures have {len(JOINTS)}")
    return judge


def evaluate(transfer: PoseTransfer, config: TransferConfig, device: torch.device) -> tuple[dict[str, Any], Array]:
    """All figures of a transfer, ready for JSON, and the contact sheet.

    Raises:
        UserError: there is nothing to measure on.
    """
    if transfer.size < SSIM_WINDOW:
        raise UserError(f"{config.checkpoint} makes pictures of {transfer.size} px; SSIM needs {SSIM_WINDOW} at least")
    judge = load_judge(config, device)
    lpips = load_lpips("alex", config.trunk_weights, device) if config.trunk_weights else None
    clips = list(load_clips(config.data, config.clips, config.frames, transfer.size, config.seed))
    if len(clips) < 2:
        raise UserError(f"{config.data} holds one clip; at least 2 are needed, so that one can drive the other")
    evaluation = Evaluation(transfer, Rulers(FeatureDistance(device), lpips, judge), device)
    with tqdm(total=len(clips), unit="clip", dynamic_ncols=True) as bar:
        found, columns = measure(evaluation, clips, config.data == "figures", bar.update)
    result = found | {
        "protocol": PROTOCOL,
        "clips": len(clips),
        "clip_names": [clip.name for clip in clips],
        "frames_measured": sum(len(clip.frames) for clip in clips),
        "size_pixels": transfer.size,
        "judge": _judge_facts(Path(judge_folder(config)).name, judge),
        "checkpoint": config.checkpoint,
        "data": config.data,
        "seed": config.seed,
        "versions": versions(),
    }
    return result, contact_sheet(columns)


def _judge_facts(name: str, judge: Judge | None) -> dict[str, Any] | None:
    """Which judge, and what it is known to be worth."""
    if judge is None:
        return None
    known = judge.config
    return {
        "checkpoint": name,
        "joints": known.joints,
        "own_error_percent": known.own_error,
        "own_error_unit": known.own_error_unit,
        "missing_below_confidence": known.missing_below,
    }


def contact_sheet(columns: list[list[Array]]) -> Array:
    """A column a clip, rows as in `SHEET_ROWS`: (h, w, 3), RGB."""
    factor = max(1, SHEET_SIDE // len(columns[0][0]))
    chosen = columns[:SHEET_COLUMNS]
    return draw.grid([[draw.enlarged(column[row], factor) for column in chosen] for row in range(len(chosen[0]))])


def print_table(result: dict[str, Any]) -> None:
    """The figures, copying beside them."""
    names = ("self", "self_copy", "cross", "cross_copy")
    print(f"{'':31}{'self':>9}{'copy':>9}{'cross':>9}{'copy':>9}")
    for key, label, digits, better in LINES:
        cells = [result[name].get(key) for name in names]
        if any(cell is not None for cell in cells):
            shown = "".join(f"{'' if cell is None else f'{cell:.{digits}f}':>9}" for cell in cells)
            print(f"{label:31}{shown}  {better}".rstrip())
    kept = result["appearance"]
    print(
        f"person kept, of {kept['people']}: {kept['generated_percent']:.0f} % "
        f"(taken for the driver {kept['generated_as_driver_percent']:.0f} %, real frames {kept['real_percent']:.0f} %, "
        f"copy {kept['copy_percent']:.0f} %, chance {kept['chance_percent']:.0f} %)"
    )
    gap = result.get("cross_driver_joints_from_truth")
    if gap:
        print(f"driver's own joints from the cross truth: {gap['percent_of_side']:.2f} % of side")
    print(f"{result['clips']} clips, {result['frames_measured']} frames, {result['size_pixels']} px, {result['data']}")


def run(config: TransferConfig) -> None:
    """The command: measure, print, write."""
    device = pick_device(config.device)
    transfer = PoseTransfer.from_pretrained(config.checkpoint).to(device)
    result, sheet = evaluate(transfer, config, device)
    print_table(result)
    if config.json:
        write_text(config.json, json.dumps(result, indent=2) + "\n")
    if config.sheet:
        draw.write_picture(config.sheet, sheet)
        print(f"{config.sheet}, from the top: {', '.join(SHEET_ROWS)}")


def main() -> None:
    """Entry point of `python eval/transfer.py`."""
    command(lambda: run(tyro.cli(TransferConfig)))


if __name__ == "__main__":
    main()
