"""What a pose transfer achieves, clip by clip: pictures, joints, flicker and whether the person is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data.figures import JOINTS
from autolink.device import to_network
from autolink.errors import UserError
from autolink.eval.clips import Clip, driver_of, figure
from autolink.eval.expression import Expressions, Row
from autolink.eval.judge_model import Judge
from autolink.eval.mediapipe import FaceJudge
from autolink.eval.metrics import (
    FeatureDistance,
    l1,
    nearest_identity,
    optical_flow,
    ssim,
    warping_error,
)  # fmt: skip
from autolink.generation.moving import moving, moving_l1
from autolink.generation.transfer_video import transfer_video
from autolink.generation.translator import PoseTransfer
from autolink.regression import LEFT_EYE, MOUTH, RIGHT_EYE

ARMS = [n for n, name in enumerate(JOINTS) if "elbow" in name or "wrist" in name]

Array = NDArray[Any]


class Mean(NamedTuple):
    """Of all frames."""

    value: float
    spread: float | None = None
    """Standard deviation of the clips' means."""


@dataclass
class Table:
    """Measurements frame by frame, one array (frames,) a clip, with NaN where there is nothing to measure."""

    rows: dict[str, list[Array]] = field(default_factory=dict)
    weights: dict[str, list[Array]] = field(default_factory=dict)
    """How much a frame counts where frames do not count alike; not negative."""

    def add(self, values: dict[str, Array], weights: dict[str, Array] | None = None) -> None:
        """One clip more."""
        for name, value in values.items():
            self.rows.setdefault(name, []).append(np.asarray(value, np.float64))
        for name, value in (weights or {}).items():
            self.weights.setdefault(name, []).append(np.asarray(value, np.float64))

    def summary(self) -> dict[str, Mean]:
        """The mean of everything that was measured on some frame, and what depends on two of them."""
        means: dict[str, Mean] = {}
        for name, clips in self.rows.items():
            weights = self.weights.get(name, [np.ones_like(clip) for clip in clips])
            mean = _weighted_mean(np.concatenate(clips), np.concatenate(weights))
            if not np.isnan(mean):
                parts = [_weighted_mean(*pair) for pair in zip(clips, weights, strict=True)]
                means[name] = Mean(mean, float(np.nanstd(parts)))
        real = means.get("warping_error_of_real")
        if real and real.value:
            means["flicker_over_real"] = Mean(means["warping_error"].value / real.value)
        return means


def _weighted_mean(values: Array, weights: Array) -> float:
    """Of what is there; NaN if that is nothing."""
    weights = np.where(np.isnan(values), 0.0, weights)
    return float((np.nan_to_num(values) * weights).sum() / weights.sum()) if weights.any() else float("nan")


@dataclass(frozen=True)
class Rulers:
    """Everything that measures."""

    features: FeatureDistance
    lpips: Callable[[Tensor, Tensor], Tensor] | None
    judge: Judge | None
    faces: FaceJudge | None = None
    """Measures expression, identity and flicker; of the other figures only the errors of the pixels are left."""

    def pictures(self, images: Tensor, real: Tensor, sources: Tensor) -> dict[str, Array]:
        """Distances of the pictures: (N, 3, H, W) in [-1, 1] each; arrays of (N,)."""
        found = {"l1": l1(images, real), "moving_l1": moving_l1(images, real, sources)}
        if not self.faces:
            found |= {"ssim": ssim(images, real), "efficientnet_lite0_distance": self.features(images, real)}
        if self.lpips:
            found["lpips"] = self.lpips(images, real)
        return {name: value.cpu().numpy() for name, value in found.items()}

    def joints(self, images: Tensor, real: Tensor, truth: Array | None) -> dict[str, Array]:
        """Distances of the joints in per cent of the side; truth (N, J, 2) in [-1, 1] where it is known."""
        if self.judge is None:
            return {}
        found, wanted = self.judge.find(images), self.judge.find(real)
        seen = (~self.judge.missing(wanted.confidence)).cpu().numpy()
        lost = self.judge.missing(found.confidence).cpu().numpy()
        here, there = found.joints.cpu().numpy(), wanted.joints.cpu().numpy()
        values = {
            "akd_percent_of_side": _masked_mean(_distance(here, there), seen),
            "mkr_percent": _masked_mean(lost * 100.0, seen),
            "real_missing_percent": _masked_mean(~seen * 100.0, np.ones_like(seen)),
        }
        if there.shape[1] == 68:
            eyes = np.linalg.norm(there[:, LEFT_EYE].mean(1) - there[:, RIGHT_EYE].mean(1), axis=1) / 2 * 100
            values["akd_percent_of_inter_ocular"] = values["akd_percent_of_side"] / eyes * 100
            lips = (points[:, MOUTH] - points[:, MOUTH].mean(1, keepdims=True) for points in (here, there))
            values["mouth_percent_of_inter_ocular"] = _masked_mean(_distance(*lips), seen[:, MOUTH]) / eyes * 100
        if truth is not None:
            inside: Array = np.asarray((np.abs(truth) <= 1).all(2))
            for name, points in (("joint_error", here), ("judge_own_error", there)):
                distance = _distance(points, truth)
                values[f"{name}_percent_of_side"] = _masked_mean(distance, inside)
                values[f"{name}_arms_percent_of_side"] = _masked_mean(distance[:, ARMS], inside[:, ARMS])
        return values

    def signatures(self, images: Tensor) -> Array:
        """What a person looks like: features where the judge finds the joints (or on a grid), (N, D)."""
        if self.judge:
            places = self.judge.joints(images)
        else:
            axis = torch.linspace(-0.8, 0.8, 5, device=images.device)
            places = torch.cartesian_prod(axis, axis).expand(len(images), -1, -1)
        return self.features.at(images, places).flatten(1).cpu().numpy()


def _distance(a: Array, b: Array) -> Array:
    """(N, J, 2) in [-1, 1] twice -> (N, J) in per cent of the side."""
    distance: Array = np.linalg.norm(a - b, axis=2)
    return distance / 2 * 100


def _masked_mean(values: Array, mask: Array) -> Array:
    """Mean over the joints that count, NaN where none does: (N, J) twice -> (N,)."""
    count = mask.sum(1)
    return np.where(count, (values * mask).sum(1) / np.maximum(count, 1), np.nan)


def flicker(images: Array, real: Array) -> dict[str, Array]:
    """Warping errors of pairs of frames along the flow of the real ones: (T, 2, H, W, 3) 8-bit twice -> (T,) each."""
    flows = [optical_flow(first, second) for first, second in real]
    return {
        name: np.array([warping_error(a, b, *flow) for (a, b), flow in zip(pairs, flows, strict=True)])
        for name, pairs in (("warping_error", images), ("warping_error_of_real", real))
    }


Redraw = Callable[[PoseTransfer, Array, Clip], Array]
"""Redraws a source (H, W, 3) in a driver's motion: the driver's measured frames (T, 2, H, W, 3), 8-bit."""


class UsersPath:
    """Transfer as users get it: the whole driver through `transfer_video`, put back into the frame."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.unframed = 0
        """Transfers in which the subject was not found and the central square was taken."""

    def __call__(self, transfer: PoseTransfer, source: Array, driver: Clip) -> Array:
        """As `Redraw`."""
        options: dict[str, Any] = {"paste_back": True, "device": self.device.type}
        try:
            video = transfer_video(source, driver.whole, transfer, **options)
        except UserError:
            self.unframed += 1
            video = transfer_video(source, driver.whole, transfer, **options, crop="none")
        return np.stack(list(video))[driver.pairs]


class BareNetwork:
    """The networks alone, frame by frame: absolute keypoints of uncropped frames, at the network's own size."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @torch.no_grad()
    def __call__(self, transfer: PoseTransfer, source: Array, driver: Clip) -> Array:
        """As `Redraw`."""
        frames = driver.frames.reshape(-1, *source.shape)
        keypoints = transfer.stage_one.keypoints(to_network(torch.from_numpy(frames), self.device))
        sources = to_network(torch.from_numpy(np.array(source[None])), self.device)[:, None]
        images = transfer.transfer(sources.expand(len(frames), -1, -1, -1, -1), keypoints)
        return draw.to_image(images.permute(0, 2, 3, 1).cpu().numpy()).reshape(driver.frames.shape)


class Appearance(NamedTuple):
    """How often the nearest of all people is whose, in per cent of the pictures."""

    people: int
    generated: float
    """Generated pictures, the source's person."""
    generated_as_driver: float
    """Generated pictures, the driver's person."""
    copy: float
    """The source as it stands, its own person."""
    real: float
    """Real frames, their own person."""


@dataclass(frozen=True)
class Measurements:
    """Everything that is measured of a transfer."""

    tables: dict[str, dict[str, Mean]]
    """self, self_copy, cross and cross_copy; what is measured, by name."""
    driver_gap: dict[str, Mean]
    """Distance of the driver's true joints from those of the truth; empty where there is no truth."""
    appearance: Appearance | None
    """None where a judge of faces tells who it is."""
    expressions: dict[str, list[Row]] | None = None
    """A row a clip in self and cross; None without a judge of faces."""


class Evaluation:
    """The measurements of a transfer, clip by clip."""

    def __init__(self, transfer: PoseTransfer, rulers: Rulers, device: torch.device, redraw: Redraw) -> None:
        self.transfer, self.rulers, self.device, self.redraw = transfer, rulers, device, redraw
        self.tables = {name: Table() for name in ("self", "self_copy", "cross", "cross_copy")}
        self.driver_gap = Table()
        self.expressions = Expressions(rulers.faces) if rulers.faces else None
        self.signatures: dict[str, list[Array]] = {"references": [], "generated": [], "copy": [], "real": []}
        self.people: list[str] = []
        self.drivers: list[str] = []

    def _network(self, images: Array) -> Tensor:
        return to_network(torch.from_numpy(np.array(images, order="C")), self.device)

    def generate(self, clip: Clip, driver: Clip) -> tuple[Array, Array]:
        """A clip's first frame in the driver's motion, (T, 2, H, W, 3) 8-bit; and an edge map of it, (H, W, 3)."""
        images = self.redraw(self.transfer, clip.source, driver)
        with torch.no_grad():
            keypoints = self.transfer.stage_one.keypoints(self._network(driver.frames[-1, 1][None]))
            edges = self.transfer.stage_one.draw(keypoints, len(clip.source))[0, 0].cpu().numpy()
        return images, draw.edge_map_image(edges)

    def compare(self, table: str, images: Array, real: Array, source: Array, joints: Array | None) -> None:
        """Measure pairs of frames (T, 2, H, W, 3), the first of each by itself; beside them the source as it stands."""
        still = np.broadcast_to(source, real.shape)
        wanted, sources = self._network(real[:, 0]), self._network(still[:, 0])
        truth = None if joints is None else joints[:, 0]
        count = moving(wanted, sources).sum((1, 2)).cpu().numpy()
        for name, shown in ((table, images), (f"{table}_copy", still)):
            first = self._network(shown[:, 0])
            values = self.rulers.pictures(first, wanted, sources) | self.rulers.joints(first, wanted, truth)
            values |= {} if self.rulers.faces else flicker(shown, real)
            self.tables[name].add(values, {"moving_l1": count})

    def reconstruct(self, clip: Clip) -> list[Array]:
        """A clip's first frame driven by its other frames; pictures for the sheet."""
        images, edges = self.generate(clip, clip)
        self.compare("self", images, clip.frames, clip.source, clip.joints)
        sheet = [clip.source, clip.frames[-1, 1], edges, images[-1, 1]]
        if self.expressions:
            self.expressions.add("self", clip, clip, images)
            return sheet
        self.people.append(clip.shows)
        half = len(clip.frames) // 2
        real = self.rulers.signatures(self._network(clip.frames[:, 0]))
        self.signatures["references"].append(real[:half])
        self.signatures["real"].append(real[half:])
        return sheet

    def cross(self, clip: Clip, driver: Clip, truth: Clip | None) -> list[Array]:
        """A clip's first frame driven by another person; pictures for the sheet."""
        images, edges = self.generate(clip, driver)
        shown = [driver.frames[-1, 1], edges, images[-1, 1]]
        if self.expressions:
            self.expressions.add("cross", clip, driver, images)
        if truth is not None:
            self.compare("cross", images, truth.frames, clip.source, truth.joints)
            shown.append(truth.frames[-1, 1])
        else:
            drivers = self._network(driver.frames[:, 0])
            for name, there in (("cross", images[:, 0]), ("cross_copy", clip.source[None].repeat(len(images), 0))):
                self.tables[name].add(self.rulers.joints(self._network(there), drivers, None))
        if truth is not None and truth.joints is not None and driver.joints is not None:
            gap = _distance(driver.joints[:, 0], truth.joints[:, 0])
            self.driver_gap.add({"percent_of_side": gap.mean(1), "arms_percent_of_side": gap[:, ARMS].mean(1)})
        if self.expressions:
            return shown
        self.drivers.append(driver.shows)
        self.signatures["generated"].append(self.rulers.signatures(self._network(images[:, 0])))
        self.signatures["copy"].append(self.rulers.signatures(self._network(clip.source[None])))
        return shown

    def appearance(self) -> Appearance:
        """How often the nearest of all people is the source's, and how often the driver's."""
        references = self.signatures["references"]
        shortest = min(map(len, references))  # short videos have fewer frames
        stacked = np.stack([r[:shortest] for r in references])

        def share(name: str, wanted: list[str]) -> float:
            found = [nearest_identity(signatures, stacked) for signatures in self.signatures[name]]
            hits = [[self.people[n] == person for n in f] for f, person in zip(found, wanted, strict=True)]
            return float(np.concatenate(hits).mean() * 100)

        return Appearance(
            len(set(self.people)), share("generated", self.people), share("generated", self.drivers),
            share("copy", self.people), share("real", self.people),
        )  # fmt: skip


def measure(
    evaluation: Evaluation, clips: list[Clip], figures: bool, show: Callable[[], object]
) -> tuple[Measurements, list[list[Array]]]:
    """All measurements of a transfer, and a column of pictures a clip; each is driven by `driver_of`."""
    sheet = []
    for n, clip in enumerate(clips):
        driver = driver_of(n, clips)
        truth = figure(clip.seed, len(clip.frames), len(clip.source), driver.seed) if figures else None
        sheet.append(evaluation.reconstruct(clip) + evaluation.cross(clip, driver, truth))
        show()
    tables = {name: table.summary() for name, table in evaluation.tables.items()}
    gap = evaluation.driver_gap.summary()
    if evaluation.expressions:
        return Measurements(tables, gap, None, evaluation.expressions.rows), sheet
    return Measurements(tables, gap, evaluation.appearance()), sheet
