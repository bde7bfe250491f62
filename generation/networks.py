"""The networks of a transfer: a checkpoint on its device, chosen by what the source shows."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from autolink.generation.transfer_options import LARGEST, TransferConfig
from autolink.generation.translator import PoseTransfer
from autolink.video.crop import parse_crop
from autolink.video.files import spread_frames
from autolink.video.subject import DOUBT_AT_ONCE, look
from numpy.typing import NDArray

from autolink.device import pick_precision, to_network
from autolink.train import detect_all

Image = NDArray[np.uint8]

LOOKS = 8
"""Frames, spread over a video, in which its subject is looked for."""

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


@dataclass
class Networks:
    """The checkpoint on its device."""

    model: PoseTransfer
    device: torch.device
    amp: torch.dtype | None = field(init=False)

    def __post_init__(self) -> None:
        precision = pick_precision()
        self.amp = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.model.to(self.device).eval()

    @property
    def detector_size(self) -> int:
        """Side of the crops that `detect` wants."""
        return self.model.stage_one.config.size

    def detect(self, crops: Image) -> NDArray:
        """(n, size, size, 3) -> (n, K, 2), (x, y) in [-1, 1]."""
        return detect_all(self.model.stage_one, crops, self.device)

    def tensor(self, pictures: list[Image]) -> torch.Tensor:
        """(S, 3, H, W) in [-1, 1]."""
        return to_network(torch.from_numpy(np.stack(pictures)), self.device)

    @property
    def weights(self) -> NDArray:
        """The graph: (E,)."""
        return self.model.stage_one.edge_weights.detach().cpu().numpy()


def choose_checkpoint(config: TransferConfig, device: torch.device) -> tuple[str, Networks]:
    """The checkpoint asked for, or the bundled one that doubts least that the source is of its kind; and its name.

    Raises:
        VideoError, UserError: the source or the checkpoint cannot be read.
    """
    if config.checkpoint != "auto":
        return config.checkpoint, Networks(PoseTransfer.from_pretrained(config.checkpoint), device)
    crop = None if config.crop in ("auto", "none") else parse_crop(config.crop)
    bundled = {folder.name: PoseTransfer.from_pretrained(folder) for folder in sorted(CHECKPOINTS.glob("*-transfer"))}
    known = {name: Networks(model, device) for name, model in bundled.items()}

    def least_doubt(networks: Networks, pictures: list[Image]) -> float:
        if crop:
            pictures = [crop.take(picture, min(LARGEST, max(2, round(crop.side)))) for picture in pictures]
        detector = networks.detect, networks.model.layout, networks.detector_size
        return min(look(picture, *detector).doubt for picture in pictures)

    for count in (1, LOOKS):  # the first frame may be a title
        pictures = spread_frames(config.src, count)
        doubts = {name: least_doubt(networks, pictures) for name, networks in known.items()}
        if min(doubts.values()) < DOUBT_AT_ONCE:
            break
    best = min(doubts, key=doubts.__getitem__)
    return best, known[best]
