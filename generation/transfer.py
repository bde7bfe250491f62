"""Video pose transfer: python generation/transfer.py --src video.mp4 --driver pose.mp4 [--out result.mp4]."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import tyro
from autolink.generation.finetune import finetuned
from autolink.generation.motion import pose_distance
from autolink.generation.networks import Networks, choose_checkpoint
from autolink.generation.redrawing import driving_poses, write_result
from autolink.generation.subjects import Driver, Source, read_driver, read_source
from autolink.generation.transfer_options import LARGEST, TransferConfig, check_files
from autolink.video import files as video
from autolink.video.motion import MotionError, write_motion

from autolink.device import pick_device, prepare_cpu
from autolink.errors import UserError, command

FAR = 0.5
"""`pose_distance` of source and driver's reference frame from which relative motion is warned of."""

FINETUNED = 200
"""Frames of the source that --finetune learns from at most."""


def run(config: TransferConfig) -> None:
    """The command: find both subjects, move one as the other, write, say what was done."""
    check_files(config)
    device = pick_device(config.device)
    prepare_cpu(device)
    name, networks = choose_checkpoint(config, device)
    source = read_source(config, networks)
    driver = read_driver(config, networks, source)
    side = config.size or min(LARGEST, max(2, round(source.crop.side)))
    announce(config, name, networks, source, driver, side)
    if config.dry_run:
        print("nothing was written")
        return
    if config.finetune:
        frames = video.spread_frames(config.src, FINETUNED)
        pictures = np.stack([source.crop.take(frame, networks.model.size) for frame in frames])
        networks.model.translator = finetuned(networks.model, pictures, config.finetune, device)
    poses = driving_poses(config, networks, source, driver)
    write_result(config, networks, source, driver, poses, side)
    if config.keypoints:
        write_motion(config.keypoints, driver.motion, {"checkpoint": name, "video": config.driver.name})
    print(f"result: {config.out}")


def announce(config: TransferConfig, name: str, networks: Networks, source: Source, driver: Driver, side: int) -> None:
    """Say what will be done, and warn of what may spoil it."""
    track = driver.motion.keypoints
    reference = driver.reference
    chosen = list(networks.model.layout.chosen)
    apart = float(pose_distance(source.keypoints[0][chosen], track[reference, chosen]))
    if driver.damage:
        print(f"warning: {driver.damage}; the {len(track)} frames that could be read are used", file=sys.stderr)
    if apart > FAR and config.motion == "relative":
        print(
            f"warning: the driver's frame {reference}, where its motion starts from, is far from the source's pose: "
            f"{apart:.2f} where {FAR} is close enough; expect distortions, or try --motion absolute or retarget",
            file=sys.stderr,
        )
    print(
        f"{len(track)} frames at {driver.motion.rate} a second, {config.motion} motion from the driver's frame "
        f"{reference} (distance to the source's pose {apart:.2f}), square of {side} px around "
        f"({source.crop.x + source.crop.side / 2:.0f}, {source.crop.y + source.crop.side / 2:.0f}) of the source; "
        f"checkpoint {name}"
    )


def main() -> None:
    """Entry point of `python generation/transfer.py`."""

    def transfer() -> None:
        try:
            run(tyro.cli(TransferConfig))
        except (video.VideoError, MotionError) as error:
            raise UserError(str(error)) from None

    command(transfer)


if __name__ == "__main__":
    main()
