"""AutoLink: self-supervised keypoints, one graph for all images, and what can be generated from them."""

from pathlib import Path

from autolink.edge_map import edge_map, edge_pairs
from autolink.model import AutoLink, AutoLinkOutput, ModelConfig

__version__ = "0.2.0"

_clone = Path(__file__).resolve().parents[1]
if (_clone / "train_autolink.py").is_file():  # a clone: generation/, video/ and eval/ lie beside this folder
    __path__.append(str(_clone))

__all__ = ["AutoLink", "AutoLinkOutput", "ModelConfig", "edge_map", "edge_pairs"]
