"""The networks of a transfer: a checkpoint on its device, chosen by what the source shows."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.config import RunConfig
from autolink.loop import pick_precision, to_network
from autolink.train import detect_all
from generation.transfer_options import LARGEST, TransferConfig
from generation.translator import PoseTransfer
from video.crop import parse_crop
from video.files import spread_frames
from video.subject import look

Image = NDArray[np.uint8]

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


@dataclass
class Networks:
    """The checkpoint on its device."""

    model: PoseTransfer
    device: torch.device
    amp: torch.dtype | None = field(init=False)

    def __post_init__(self) -> None:
        precision = pick_precision(RunConfig())
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
    picture = spread_frames(config.src, 1)[0]
    if config.crop not in ("auto", "none"):
        crop = parse_crop(config.crop)
        picture = crop.take(picture, min(LARGEST, max(2, round(crop.side))))
    bundled = {folder.name: PoseTransfer.from_pretrained(folder) for folder in sorted(CHECKPOINTS.glob("*-transfer"))}
    known = {name: Networks(model, device) for name, model in bundled.items()}

    def doubt(name: str) -> float:
        networks = known[name]
        return look(picture, networks.detect, networks.model.layout, networks.detector_size).doubt

    best = min(known, key=doubt)
    return best, known[best]
