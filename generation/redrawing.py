"""The source redrawn in the driver's motion and written, frame by frame."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from autolink.generation.motion import carried, maximum_spanning_tree, relative, retarget
from autolink.generation.networks import Networks
from autolink.generation.subjects import Driver, Source, whole_frames
from autolink.generation.transfer_options import TransferConfig
from autolink.video.motion import edge_matrix, smooth
from autolink.video.writer import VideoWriter
from numpy.typing import NDArray
from tqdm import tqdm

from autolink.draw import draw_graph, to_image

Image = NDArray[np.uint8]


def driving_poses(config: TransferConfig, networks: Networks, source: Source, driver: Driver) -> NDArray:
    """The poses to redraw the source in: (T, K, 2), (x, y) in [-1, 1] of the source's crop.

    Keypoints that do not count jump about; they are carried along by the others.
    """
    track = driver.crop.from_pixels(smooth(driver.motion.keypoints, config.smooth))
    if config.motion == "absolute":
        return track
    own = source.keypoints[0].astype(np.float64)
    chosen = list(networks.model.layout.chosen)
    start, followed = own[chosen], track[:, chosen]
    if config.motion == "relative":
        moved = relative(start, followed, driver.reference, config.adapt_scale)
    else:
        linked = edge_matrix(networks.weights, len(own))[np.ix_(chosen, chosen)]
        tree = maximum_spanning_tree(linked[np.triu_indices(len(chosen), 1)], len(chosen))
        moved = retarget(start, followed, tree, driver.reference, config.adapt_scale)
    return carried(own, moved, chosen)


@torch.no_grad()
def redraw(networks: Networks, source: Source, poses: NDArray, side: int, batch: int) -> Iterator[Image]:
    """The source's square, `side` pixels, in each pose of (T, K, 2), `batch` of them at a time."""
    small = networks.tensor([source.crop.take(p, networks.model.size) for p in source.pictures])
    large = networks.tensor([source.crop.take(p, side) for p in source.pictures])
    keypoints = torch.from_numpy(source.keypoints).float().to(networks.device)
    for driving in torch.from_numpy(poses).float().to(networks.device).split(batch):
        B = len(driving)
        with torch.autocast(networks.device.type, networks.amp, enabled=networks.amp is not None):
            result = networks.model(small.expand(B, *small.shape), keypoints.expand(B, *keypoints.shape), driving)
        for n in range(B):
            one = type(result)(*(part[n : n + 1] for part in result))
            yield to_image(one.on(large[None])[0].permute(1, 2, 0).cpu().numpy())


def write_result(
    config: TransferConfig, networks: Networks, source: Source, driver: Driver, poses: NDArray, side: int
) -> None:
    """Redraw and write frame by frame."""
    sound = {"driver": config.driver, "source": config.src, "none": None}[config.audio]
    if sound is not None and sound.suffix.lower() == ".json":
        sound = None
    picture = source.pictures[0]
    shown = picture if config.paste_back else source.crop.take(picture, side)
    beside = driver_frames(config, driver) if config.side_by_side else None
    bar = tqdm(total=len(poses), unit="frame", desc="redrawing")
    with VideoWriter(config.out, driver.motion.rate, sound) as writer:
        for patch in redraw(networks, source, poses, side, config.batch):
            image = source.crop.paste(picture, patch) if config.paste_back else patch
            if beside is not None:
                image = np.concatenate([shown, _as_high(next(beside), image), image], 1)
            writer.write(image)
            bar.update()
    bar.close()


def driver_frames(config: TransferConfig, driver: Driver) -> Iterator[Image]:
    """The driver's frames once more, or its skeleton where there is only a motion."""
    motion = driver.motion
    if config.driver.suffix.lower() != ".json":
        yield from whole_frames(config.driver, [])
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
