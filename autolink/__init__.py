"""AutoLink: self-supervised keypoints, one graph for all images, and what can be generated from them."""

from autolink.edge_map import edge_map, edge_pairs
from autolink.model import AutoLink, AutoLinkOutput, ModelConfig

__all__ = ["AutoLink", "AutoLinkOutput", "ModelConfig", "edge_map", "edge_pairs"]
