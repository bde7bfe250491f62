"""The networks of a transfer: a checkpoint on its device, chosen by what the source shows."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from autolink.checkpoints import bundled
from autolink.device import pick_precision, to_network
from autolink.generation.nested import Details, LocalTransfer
from autolink.generation.transfer_options import LARGEST
from autolink.generation.translator import PoseTransfer
from autolink.inference import detect_all
from autolink.layers import folded
from autolink.model import AutoLink
from autolink.video.clip import Clip
from autolink.video.crop import parse_crop
from autolink.video.subject import DOUBT_AT_ONCE, look, thumbnail

Image = NDArray[np.uint8]

LOOKS = 8
"""Frames, spread over a video, in which its subject is looked for."""


BUNDLED = "head only: no body model is bundled"
"""What the bundled checkpoints of real subjects know."""


@dataclass
class Networks:
    """The checkpoint on its device."""

    model: PoseTransfer
    device: torch.device
    tried: str = ""
    """Of several it was chosen from, a remark which those were."""
    amp: torch.dtype | None = field(init=False)
    _stage_one: AutoLink = field(init=False)
    _local: LocalTransfer | None = field(init=False)

    def __post_init__(self) -> None:
        self.amp = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(pick_precision())
        self.model.to(self.device).eval()
        self._stage_one = folded(self.model.stage_one)
        self._local = folded(self.model.local) if self.model.local else None

    @property
    def detector_size(self) -> int:
        """Side of the crops that `detect` wants."""
        return self.model.stage_one.config.size

    def detect(self, crops: Image) -> NDArray[np.float32]:
        """(n, size, size, 3) -> (n, K, 2), (x, y) in [-1, 1]."""
        return detect_all(self._stage_one, crops, self.device)

    def tensor(self, pictures: list[Image]) -> torch.Tensor:
        """(S, 3, H, W) in [-1, 1]."""
        return to_network(torch.from_numpy(np.stack(pictures)), self.device)

    def details(self, pictures: list[Image], points: NDArray[np.floating]) -> Details | None:
        """What the children, if any, see in pictures of one size by the parent's keypoints (n, K, 2) in pixels."""
        if not self._local:
            return None
        return self._local.look(self.tensor(pictures), torch.from_numpy(points).float().to(self.device))

    @property
    def owners(self) -> list[str]:
        """The child's name for each region, none without children."""
        return self.model.local.stage_one.owners if self.model.local else []

    @property
    def weights(self) -> NDArray[np.float32]:
        """The graph: (E,)."""
        weights: NDArray[np.float32] = self.model.stage_one.edge_weights.detach().cpu().numpy()
        return weights


def choose_checkpoint(source: Clip, crop: str, device: torch.device) -> tuple[str, Networks]:
    """The bundled checkpoint that doubts least that the source, seen in its --crop, is of its kind; and its name.

    Raises:
        VideoError, UserError: the source or a checkpoint cannot be read.
    """
    box = None if crop in ("auto", "none") else parse_crop(crop)
    known = {name: Networks(PoseTransfer.from_folder(folder), device) for name, folder in bundled("transfer").items()}

    def least_doubt(networks: Networks, pictures: list[Image]) -> float:
        if box:
            pictures = [box.take(picture, min(LARGEST, max(2, round(box.side)))) for picture in pictures]
        detector = networks.detect, networks.model.layout, networks.detector_size
        return min(look(picture, *detector).doubt for picture in pictures)

    for count in (1, LOOKS):  # the first frame may be a title
        pictures = source.spread(count)
        pictures = [picture for picture in pictures if thumbnail(picture) is not None] or pictures[:1]
        doubts = {name: least_doubt(networks, pictures) for name, networks in known.items()}
        if min(doubts.values()) < DOUBT_AT_ONCE:
            break
    best = min(doubts, key=doubts.__getitem__)
    known[best].tried = f" (tried {' and '.join(known)}; {BUNDLED})"
    return best, known[best]
