"""Video pose transfer: python generation/transfer.py --src video.mp4 --driver pose.mp4 [--out result.mp4]."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import tyro

from autolink.checkpoints import bundled
from autolink.device import pick_device, prepare_cpu
from autolink.errors import command
from autolink.generation.networks import BUNDLED
from autolink.generation.transfer_options import TransferConfig, check_files
from autolink.generation.transfer_video import VideoTransfer
from autolink.progress import bar
from autolink.video.clip import Clip
from autolink.video.motion import write_motion

PART = 0.6
"""Share of the source's shorter side below which a redrawn square is announced as a part only."""


def run(config: TransferConfig) -> None:
    """The command: find both subjects, move one as the other, write, say what was done."""
    check_files(config)
    prepare_cpu(pick_device(config.device))
    if config.show:
        from autolink.generation.live import run_live

        run_live(config)
        return
    source, driver = Clip.of(config.src), Clip.of(config.driver)
    models = " or ".join(bundled("transfer")) if config.checkpoint == "auto" else config.checkpoint
    print(f"looking for the subjects of {config.src} and {config.driver}, checkpoint {models}", flush=True)
    transfer = VideoTransfer(source, driver, config.checkpoint, config, bar)
    announce(transfer)
    if config.dry_run:
        print("nothing was written")
        return
    sound = {"driver": driver, "source": source, "none": None}[config.audio]
    transfer.write(config.out, sound.path if sound and not sound.is_motion else None)
    if config.keypoints:
        origin = {"checkpoint": transfer.checkpoint, "video": config.driver.name}
        write_motion(config.keypoints, transfer.driving.template, origin)
    print(f"result: {config.out}")


def announce(transfer: VideoTransfer) -> None:
    """Say what will be done, and warn of what may spoil it."""
    for warning in transfer.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    crop, driving = transfer.appearance.crop, transfer.driving
    height, width = transfer.appearance.pictures[0].shape[:2]
    if crop.side < PART * min(width, height):
        known = BUNDLED if transfer.checkpoint in bundled("transfer") else "only what the checkpoint knows"
        print(f"note: {known}; of the source, {width}x{height}, a square of {crop.side:.0f} px is redrawn")
        print("      --paste-back keeps the rest of the picture")
    print(
        f"{len(transfer)} frames at {transfer.rate} a second, {transfer.options.motion} motion from the driver's "
        f"frame {driving.reference} (distance to the source's pose {transfer.apart:.2f}), square of {transfer.side} px "
        f"(--size changes that) around ({crop.x + crop.side / 2:.0f}, {crop.y + crop.side / 2:.0f}) of the source; "
        f"checkpoint {transfer.checkpoint}"
    )


def main() -> None:
    """Entry point of `autolink transfer` and `python generation/transfer.py`."""
    command(lambda: run(tyro.cli(TransferConfig)))


if __name__ == "__main__":
    main()
