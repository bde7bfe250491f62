"""The source redrawn in the driver's motion, frame by frame."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from autolink.draw import draw_graph, to_image
from autolink.generation.motion import best_frame, carried, maximum_spanning_tree, relative, retarget
from autolink.generation.nested import Details, LocalSource
from autolink.generation.networks import Networks
from autolink.generation.subjects import Appearance, DrivingMotion, crop_at
from autolink.generation.transfer_options import LARGEST, TransferOptions
from autolink.layers import folded
from autolink.overlap import overlapped
from autolink.video.clip import Clip
from autolink.video.motion import edge_matrix, smooth

Image = NDArray[np.uint8]


def driving_poses(
    options: TransferOptions, networks: Networks, appearance: Appearance, driving: DrivingMotion
) -> NDArray[np.float64]:
    """The poses to redraw the source in: (T, K, 2), (x, y) in [-1, 1] of the source's crop.

    Relative motion starts anew at every cut. Where the driver shows no subject, the source keeps its own pose.
    """
    own = appearance.keypoints[0].astype(np.float64)
    poses = [_poses_of_shot(options, networks, own, driving, shot) for shot in driving.shots]
    return np.where(driving.empty[:, None, None], own, np.concatenate(poses))


def _poses_of_shot(
    options: TransferOptions, networks: Networks, own: NDArray[np.float64], driving: DrivingMotion, shot: slice
) -> NDArray[np.float64]:
    """The poses of one shot: (t, K, 2).

    Keypoints that do not count jump about; they are carried along by the others.
    """
    chosen = list(networks.model.layout.chosen)
    pixels = smooth(driving.motion.keypoints[shot], options.smooth)
    shown = np.flatnonzero(~driving.empty[shot])
    reference, crop = driving.reference - shot.start, driving.crop
    if not 0 <= reference < len(pixels):  # another shot's
        if not len(shown):
            return np.broadcast_to(own, pixels.shape)
        reference = int(shown[best_frame(own[chosen], pixels[shown][:, chosen])])
        crop = crop_at(driving.motion, shot.start + reference, options, networks)
    track = crop.from_pixels(pixels)
    if options.motion == "absolute":
        return own + options.pose * (track - own)
    start, followed = own[chosen], track[:, chosen]
    if options.motion == "relative":
        moved = relative(start, followed, reference, options.adapt_scale)
    else:
        linked = edge_matrix(networks.weights, len(own))[np.ix_(chosen, chosen)]
        tree = maximum_spanning_tree(linked[np.triu_indices(len(chosen), 1)], len(chosen))
        moved = retarget(start, followed, tree, reference, options.adapt_scale)
    return carried(own, start + options.pose * (moved - start), chosen)


def expressions(
    options: TransferOptions, networks: Networks, appearance: Appearance, driving: DrivingMotion
) -> Details | None:
    """What the children's regions should look like, frame by frame; None where the parent moves alone."""
    local, source, driver = networks.model.local, appearance.details, driving.details
    if not (local and source and driver):
        return None
    gains = {"mouth": options.lips, "eyes": options.eyes}
    return local.wanted(source, driver.smoothed(options.smooth), gains, options.motion != "absolute")


def side_of(options: TransferOptions, appearance: Appearance) -> int:
    """Side of the redrawn square in pixels: the one asked for, else the source's own up to `LARGEST`."""
    return options.size or min(LARGEST, max(2, round(appearance.crop.side)))


def redraw(
    networks: Networks,
    appearance: Appearance,
    poses: NDArray[np.float64],
    wanted: Details | None,
    side: int,
    batch: int,
    workers: int = 1,
) -> Iterator[Image]:
    """The source's square, `side` pixels, in each pose of (T, K, 2) and expression, `batch` of them at a time.

    So many `workers` compute a batch each at once; the pictures are the same with any number.
    """
    draw = redrawer(networks, appearance, side)

    def drawn(start: int) -> list[Image]:
        frames = slice(start, min(start + batch, len(poses)))
        return draw(poses[frames], wanted.part(frames) if wanted else None)

    for images in overlapped(drawn, range(0, len(poses), batch), workers):
        yield from images


def redrawer(
    networks: Networks, appearance: Appearance, side: int
) -> Callable[[NDArray[np.float64], Details | None], list[Image]]:
    """What redraws the source's square, `side` pixels, in some poses (B, K, 2) and expressions at once."""
    model, crop = folded(networks.model), appearance.crop
    small = networks.tensor([crop.take(p, networks.model.size) for p in appearance.pictures])
    large = networks.tensor([crop.take(p, side) for p in appearance.pictures])
    keypoints = torch.from_numpy(appearance.keypoints).float().to(networks.device)
    points = torch.from_numpy(crop.to_pixels(appearance.keypoints[:1]) - [crop.x, crop.y]).to(keypoints)
    points = points * ((side - 1) / (crop.side - 1))

    @torch.no_grad()
    def draw(poses: NDArray[np.float64], wanted: Details | None) -> list[Image]:
        driving = torch.from_numpy(poses).to(keypoints)
        with torch.autocast(networks.device.type, networks.amp, enabled=networks.amp is not None):
            result = model(small[None], keypoints[None], driving)
        images = result.on(large[None])
        if model.local and wanted and appearance.details:
            source = LocalSource(large[:1], points, appearance.details)
            images = model.local.compose(images, result, source, wanted, networks.amp)
        return [to_image(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()]

    return draw


def composed(
    options: TransferOptions, appearance: Appearance, patches: Iterator[Image], side: int, beside: Iterator[Image]
) -> Iterator[Image]:
    """The redrawn squares as they were asked for: put back into the picture, or beside source and driver."""
    picture, crop = appearance.pictures[0], appearance.crop
    shown = picture if options.paste_back else crop.take(picture, side)
    for patch in patches:
        image = crop.paste(picture, patch) if options.paste_back else patch
        yield np.concatenate([shown, _as_high(next(beside), image), image], 1) if options.side_by_side else image


def driver_frames(clip: Clip, driving: DrivingMotion) -> Iterator[Image]:
    """The driver's frames once more, or its skeleton where there is only a motion."""
    motion = driving.motion
    if not clip.is_motion:
        yield from clip.readable_frames([])
        return
    K = motion.keypoints.shape[1]
    weights = np.ones(K * (K - 1) // 2) if motion.weights is None else motion.weights
    for keypoints in motion.keypoints:
        yield draw_graph(np.zeros((motion.height, motion.width, 3), np.uint8), keypoints, weights)


def _as_high(image: Image, like: Image) -> Image:
    """An image resized to another's height, its aspect ratio kept."""
    height = like.shape[0]
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    shrinking = height < image.shape[0]
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC), np.uint8
    )
