"""Which regions deserve a child: python -m autolink.discovery --nest PARENT --data CLIPS --out regions.png.

They are where aligned pictures still differ once the parent's motion is taken out.

The parent's similarity leaves a head in place. What then still changes from frame to frame, beyond what a shift of a
pixel or two would explain, is what the parent does not know: lips, eyes, hands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from numpy.typing import NDArray
from torch import Tensor

from autolink.data.regions import Region, cut, mean_layout, placed_pictures
from autolink.draw import write_picture
from autolink.errors import UsageError, UserError, command
from autolink.nested import NestedAutoLink
from autolink.pretrained import check_output

SEEN = 2.4
"""Side of the mean picture that is looked at, in its own [-1, 1] units."""
SIZE = 96
"""The same in pixels."""
FRAMES = 14
"""Frames of a clip, evenly spread, that are compared."""

SHIFTS = 2
"""Pixels to either side by which a parent may be wrong about where a place is."""


def residual(clips: Sequence[Tensor]) -> Tensor:
    """How much places change that a shift does not explain: clips (T, 3, S, S) on the mean picture -> (S, S).

    The mean over pairs of neighbours, each with its own mean taken out, so that a restless clip does not decide.
    """
    maps = []
    for clip in clips:
        for one, other in pairwise(clip.float()):
            change = unexplained(one[None], other[None])[0, 0]
            maps.append(change / change.mean().clamp(min=1e-6))
    return torch.stack(maps).mean(0)


def unexplained(one: Tensor, other: Tensor) -> Tensor:
    """The least difference of small neighbourhoods over all small shifts: (B, 3, S, S) twice -> (B, 1, S, S)."""
    S = one.shape[-1]
    padded = F.pad(other, (SHIFTS,) * 4, mode="replicate")
    shifted = [padded[..., y : y + S, x : x + S] for y in range(2 * SHIFTS + 1) for x in range(2 * SHIFTS + 1)]
    differences = torch.stack([_blurred((one - moved).abs().mean(1, keepdim=True), 2) for moved in shifted])
    return differences.amin(0)


def _blurred(maps: Tensor, radius: int) -> Tensor:
    padded = F.pad(maps, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def peaks(change: Tensor, side: int, count: int) -> list[tuple[int, int]]:
    """The centres (x, y), in pixels, of the squares of a side whose middles change most: (S, S); none overlaps by half.

    A middle's change is what it has beyond its square; squares that leave the picture do not count.
    """
    maps = change[None, None]
    excess = (_blurred(maps, side // 8) - _blurred(maps, side // 2))[0, 0]
    y, x = torch.meshgrid(*(torch.arange(n) for n in excess.shape), indexing="ij")
    border = torch.minimum(torch.minimum(x, y), torch.minimum(len(excess) - 1 - x, len(excess) - 1 - y))
    excess = excess.masked_fill(border < side // 4, -torch.inf)
    found: list[tuple[int, int]] = []
    while len(found) < count and excess.max() > 0:
        row, column = divmod(int(excess.argmax()), excess.shape[1])
        found.append((column, row))
        excess = excess.masked_fill(torch.maximum((x - column).abs(), (y - row).abs()) < side // 2, -torch.inf)
    return found


@dataclass(frozen=True)
class DiscoveryConfig:
    """Find the regions that change and that a parent does not know, and show them on its mean picture."""

    nest: str
    """Checkpoint of the parent."""
    data: Path
    """A folder of videos of its kind."""
    out: Path = Path("regions.png")
    """The mean picture with the regions' squares, beside how much it changes where."""
    side: float = 0.5
    """Side of a region, in units of the mean picture's [-1, 1] plane."""
    count: int = 3
    """How many to find at most."""
    overwrite: bool = False
    """Replace --out if it exists."""


def run(config: DiscoveryConfig) -> None:
    """The command: look at all clips, write the picture, and print each region as --region wants it."""
    if not 0 < config.side < SEEN or config.count < 1:
        raise UsageError(f"--side must be in (0, {SEEN}) and --count at least 1, got {config.side} and {config.count}")
    check_output("--out", config.out, config.overwrite, (".png",))
    parent, device, skipped = NestedAutoLink.from_pretrained(config.nest).parent, torch.device("cpu"), dict[str, str]()
    layout = mean_layout(placed_pictures(parent, config.data, device, {}))
    whole, clips = Region("all", ((0.0, 0.0, SEEN),), (False,)), []
    for placed in placed_pictures(parent, config.data, device, skipped):
        some = np.unique(np.linspace(0, len(placed.frames) - 1, FRAMES).astype(int))
        if len(some) > 1:
            few = type(placed)(placed.name, [placed.frames[n] for n in some], placed.points[some])
            clips.append(torch.from_numpy(cut(few, layout, whole, SIZE)[0]).permute(0, 3, 1, 2))
    if not clips:
        raise UserError(f"--data {config.data} holds no video that shows a subject which the parent knows")
    change = residual(clips)
    found = peaks(change, round(config.side / SEEN * (SIZE - 1)), config.count)
    write_picture(config.out, _shown(clips, change, found, config.side))
    for n, (x, y) in enumerate(found):
        u, v = ((value / (SIZE - 1) - 0.5) * SEEN for value in (x, y))
        print(f"--region region{n}={u:.2f},{v:.2f},{config.side:g}")
    print(f"shown in {config.out}")


def _shown(clips: list[Tensor], change: Tensor, found: list[tuple[int, int]], side: float) -> NDArray[np.uint8]:
    """The mean picture with the found squares, and the map of change, beside each other."""
    mean = torch.stack([clip.float().mean(0) for clip in clips]).mean(0).permute(1, 2, 0).numpy()
    grey = (change / change.max()).numpy()[..., None].repeat(3, 2) * 255
    larger = 5
    pictures = [cv2.resize(p, None, fx=larger, fy=larger).round().clip(0, 255).astype(np.uint8) for p in (mean, grey)]
    half = round(side / SEEN * (SIZE - 1) / 2 * larger)
    for x, y in found:
        cv2.rectangle(pictures[0], (x * larger - half, y * larger - half, 2 * half, 2 * half), (255, 255, 0), 2)
    return np.concatenate(pictures, 1)


def main() -> None:
    """Entry point of `autolink regions`."""
    command(lambda: run(tyro.cli(DiscoveryConfig)))


if __name__ == "__main__":
    main()
