"""Measure a pose transfer: python eval/transfer.py --checkpoint DIR --data figures [--json FILE] [--sheet FILE]."""

import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import tyro
from tqdm import tqdm

from autolink import __version__, draw
from autolink.data.figures import JOINTS
from autolink.device import pick_device
from autolink.errors import UsageError, UserError, command
from autolink.eval.clips import MOST_FRAMES, load_clips
from autolink.eval.expression import FEWEST, face_figures, row_notes, shows_faces
from autolink.eval.judge_model import Judge
from autolink.eval.lpips import load_lpips
from autolink.eval.measure import Array, BareNetwork, Evaluation, Rulers, UsersPath, measure
from autolink.eval.mediapipe import MediaPipeJudge
from autolink.eval.metrics import SSIM_WINDOW, FeatureDistance
from autolink.eval.results import Figure, Picture, Section, as_text, data_name, write_results
from autolink.eval.transfer_figures import PATHS, figures
from autolink.generation.translator import PoseTransfer
from autolink.pretrained import check_output
from autolink.run_state import versions
from autolink.video.synthetic import tags

logger = logging.getLogger(__name__)

MEDIAPIPE = "mediapipe"
"""The value of --judge that is no checkpoint."""

SHEET_COLUMNS, SHEET_SIDE = 8, 128

SHEET_ROWS = (
    "source", "driver", "driving edge map", "generated",
    "driver of another person", "its edge map", "generated", "rendered truth",
)  # fmt: skip


@dataclass(frozen=True)
class TransferConfig:
    """Measure a pose transfer on clips of people it was not trained on."""

    checkpoint: str = "figures-transfer"
    """A checkpoint folder of a pose transfer, the name of a bundled one, or hf:owner/name."""
    data: str = "figures"
    """`figures`, rendered clips with a known truth; a folder of videos; or of pictures, with whom they show in
    landmarks.csv: of every person held out for testing, the scene with the most pictures."""
    json: Path | None = None
    """Write the figures to this file as well."""
    sheet: Path | None = None
    """Write a contact sheet to this PNG."""
    protocol: Literal["users", "network"] = "users"
    """Users: whole clips through `transfer_video` with its defaults (relative motion, framing, --size). Network: the
    networks alone, frame by frame, absolute keypoints of uncropped frames at the network's own size."""
    size: int = 256
    """Side of the clips in pixels, under the users' protocol."""
    judge: str = "auto"
    """Checkpoint of the judge of joints; auto is the bundled one for figures or faces, none does without. `mediapipe`:
    how far mouth and eyes follow the driver and who it is, by published networks (docs/evaluation.md)."""
    trunk_weights: Path | None = None
    """File with torchvision's AlexNet, to report LPIPS too."""
    clips: int = 40
    """How many clips, at most."""
    frames: int = 10
    """Pairs of consecutive frames measured in each clip; with --judge mediapipe, of the first twice as many."""
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
        if self.judge == MEDIAPIPE and self.frames < FEWEST:
            raise UsageError(f"--frames must be at least {FEWEST} with --judge {MEDIAPIPE}, got {self.frames}")
        if self.judge == MEDIAPIPE and self.data == "figures":
            raise UsageError(f"--judge {MEDIAPIPE} needs --data FOLDER of videos of heads; figures have no faces")
        if not 16 <= self.size <= 1024:
            raise UsageError(f"--size is 16 to 1024 pixels, got {self.size}")
        if self.seed < 0:
            raise UsageError(f"--seed cannot be negative, got {self.seed}")
        check_output("--json", self.json, self.overwrite)
        check_output("--sheet", self.sheet, self.overwrite, (".png",))


def judge_folder(config: TransferConfig) -> str:
    """Where the judge is that --judge asks for."""
    if config.judge != "auto":
        return config.judge
    return "figures-judge" if config.data == "figures" else "faces-judge"


def load_judge(config: TransferConfig, device: torch.device) -> Judge | None:
    """The judge that --judge asks for.

    Raises:
        UserError: there is no such checkpoint, or it knows other joints than the rendered figures have.
    """
    if config.judge in ("none", MEDIAPIPE):
        return None
    judge = Judge.from_pretrained(judge_folder(config)).to(device)
    if config.data == "figures" and judge.config.joints != len(JOINTS):
        raise UserError(f"--judge {config.judge} finds {judge.config.joints} joints; the figures have {len(JOINTS)}")
    return judge


def evaluate(transfer: PoseTransfer, config: TransferConfig, device: torch.device) -> tuple[Section, draw.Image]:
    """All figures of a transfer, and the contact sheet.

    Raises:
        UserError: there is nothing to measure on.
    """
    if min(transfer.size, config.size) < SSIM_WINDOW:
        raise UserError(f"pictures of {min(transfer.size, config.size)} px are too small: SSIM needs {SSIM_WINDOW}")
    judge = load_judge(config, device)
    faces = MediaPipeJudge() if config.judge == MEDIAPIPE else None
    lpips = load_lpips("alex", config.trunk_weights, device) if config.trunk_weights else None
    size = config.size if config.protocol == "users" else transfer.size
    most = min(MOST_FRAMES, 2 * config.frames) if faces else MOST_FRAMES
    clips = list(load_clips(config.data, config.clips, config.frames, size, config.seed, most))
    if len(clips) < 2:
        raise UserError(f"{config.data} holds one clip; at least 2 are needed, so that one can drive the other")
    users = UsersPath(device)
    redraw = users if config.protocol == "users" else BareNetwork(device)
    evaluation = Evaluation(transfer, Rulers(FeatureDistance(device), lpips, judge, faces), device, redraw)
    with tqdm(total=len(clips), unit="clip", dynamic_ncols=True) as bar:
        found, columns = measure(evaluation, clips, config.data == "figures", bar.update)
    frames = sum(len(clip.frames) for clip in clips)
    made = partial(Figure, data=data_name(config.data), seed=config.seed)
    of_frames = partial(made, count=frames, samples=f"frames of {len(clips)} clips, {size} px")
    judged_by = f"{Path(judge_folder(config)).name}, own error {judge.config.own_error:.2f} %" if judge else ""
    sheet = contact_sheet(columns)
    rows = SHEET_ROWS[: len(columns[0])]
    picture = Picture("transfers", "Transfers", rows, "a clip", sheet.shape[1], sheet.shape[0])
    if users.unframed:
        logger.warning(
            "in %d of %d transfers no subject was found; the central square was redrawn", users.unframed, 2 * len(clips)
        )
    measured = [*figures(found, of_frames, judged_by, config.protocol)]
    expressions = found.expressions or {}
    if expressions:
        if not shows_faces(expressions):
            raise UserError(f"--data {config.data}: no clip shows a face; --judge {MEDIAPIPE} is for heads")
        measured = [*face_figures(expressions, made, PATHS[config.protocol], size), *measured]
    return Section(tuple(measured), pictures=(picture,), notes=tuple(row_notes(expressions))), sheet


def contact_sheet(columns: list[list[Array]]) -> Array:
    """A column a clip, rows as in `SHEET_ROWS`: (h, w, 3), RGB."""
    factor = max(1, SHEET_SIDE // len(columns[0][0]))
    chosen = columns[:SHEET_COLUMNS]
    return draw.grid([[draw.enlarged(column[row], factor) for column in chosen] for row in range(len(chosen[0]))])


def run(config: TransferConfig) -> None:
    """The command: measure, print, write."""
    device = pick_device(config.device)
    transfer = PoseTransfer.from_pretrained(config.checkpoint).to(device)
    section, sheet = evaluate(transfer, config, device)
    print("\n".join([as_text(section.figures), *section.notes]))
    if config.json:
        facts = {"checkpoint": config.checkpoint, "data": config.data, "judge": judge_folder(config)}
        write_results(config.json, section, **facts, seed=config.seed, versions=versions())
    if config.sheet:
        draw.write_picture(config.sheet, sheet, tags(f"AutoLink {__version__}, {config.checkpoint}", "pictures"))
        print(f"{config.sheet}, from the top: {', '.join(section.pictures[0].rows)}")


def main() -> None:
    """Entry point of `python eval/transfer.py`."""
    command(lambda: run(tyro.cli(TransferConfig)))


if __name__ == "__main__":
    main()
