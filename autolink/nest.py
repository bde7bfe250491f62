"""Training a child: `train_autolink.py --nest PARENT --region NAME=x,y,side`."""

from pathlib import Path

import torch

from autolink.config import TrainConfig
from autolink.data.images import ImageSet
from autolink.data.regions import Region, RegionCrops, region_crops, region_images
from autolink.device import to_network
from autolink.errors import UserError
from autolink.model import AutoLink
from autolink.nested import Child, NestedAutoLink

KNOWN = 4000
"""Crops at most from which it is learned how a child's keypoints usually lie."""


class Nest:
    """The parent of a run with --nest, and what its child learns from."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.region = Region.parse(config.region)
        self.nested = NestedAutoLink.from_pretrained(config.nest)
        if config.root or not Path(config.data).exists():
            raise UserError(f"--nest needs --data to be a folder or a zip of pictures or videos, got {config.data}")
        self.crops: RegionCrops | None = None

    def images(self) -> ImageSet:
        """The region in all pictures and clips of --data."""
        device = torch.device("cpu")
        self.crops = region_crops(self.nested, Path(self.config.data), self.region, self.config.model.size, device)
        return region_images(self.crops)

    def save_child(self) -> None:
        """Write parent and children, the trained one among them, into the run's folder `nested`, if it is finished."""
        model = self.config.run_folder / "model"
        if self.config.dry_run or not self.crops or not (model / "config.json").exists():
            return
        child = made_child(AutoLink.from_pretrained(model), self.crops, self.region, self.nested.parent)
        children = dict(self.nested.named()) | {self.region.name: child}
        folder = self.config.run_folder / "nested"
        NestedAutoLink(self.nested.parent, children).save_pretrained(folder)
        print(f"parent and children in {folder}")


@torch.no_grad()
def made_child(model: AutoLink, crops: RegionCrops, region: Region, parent: AutoLink) -> Child:
    """A trained model as a child of a parent, with how its keypoints lie in the crops that it learned from."""
    pictures = region_images(crops).images
    some = pictures[:: max(1, len(pictures) // KNOWN)]
    found = [model.keypoints(to_network(torch.from_numpy(part), torch.device("cpu"))) for part in
             (some[n : n + 64] for n in range(0, len(some), 64))]  # fmt: skip
    return Child.of(model, torch.cat(found), region.places, region.mirrored, crops.layout, parent)
