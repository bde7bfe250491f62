"""AutoLink: self-supervised keypoints, one graph for all images, and what can be generated from them.

from autolink import AutoLink, Gan, PoseTransfer, draw, transfer_video

keypoints = AutoLink.from_pretrained("faces").detect("photo.jpg", pixels=True)  # (K, 2)
for frame in transfer_video("photo.jpg", "driver.mp4"):  # (H, W, 3), 8-bit RGB
    ...
cats = Gan.from_pretrained("pets-gan").sample(8, appearances=7, seed=0)  # (8, 7, H, W, 3)
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

_clone = Path(__file__).resolve().parents[1]
if (_clone / "train_autolink.py").is_file():  # a clone: generation/, video/ and eval/ lie beside this folder
    __path__.append(str(_clone))

if TYPE_CHECKING:
    from autolink import draw
    from autolink.generation.gan import Gan
    from autolink.generation.transfer_video import VideoTransfer, transfer_video
    from autolink.generation.translator import PoseTransfer
    from autolink.model import AutoLink, AutoLinkOutput, ModelConfig

_HOMES = {
    "AutoLink": "autolink.model",
    "AutoLinkOutput": "autolink.model",
    "Gan": "autolink.generation.gan",
    "ModelConfig": "autolink.model",
    "PoseTransfer": "autolink.generation.translator",
    "VideoTransfer": "autolink.generation.transfer_video",
    "transfer_video": "autolink.generation.transfer_video",
}

__all__ = [
    "AutoLink", "AutoLinkOutput", "Gan", "ModelConfig", "PoseTransfer", "VideoTransfer", "draw", "transfer_video",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that no command waits for what it does not use."""
    if name == "draw":
        return import_module("autolink.draw")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'autolink' has no attribute {name!r}")
