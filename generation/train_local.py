"""Train what redraws a child's region: generation/train_local.py --child DIR --region mouth --data CLIPS.

Child and translator learn together from pairs of frames: a child that only rebuilt masked pictures knows where the lips
are, one that must tell a frame from another of the same person knows how far they are apart.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

if __package__ in (None, ""):  # run as a file: import from the clone, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from autolink.data.regions import Region, region_crops
from autolink.errors import UsageError, UserError, command
from autolink.generation.nested import LocalTransfer
from autolink.generation.pairs import Pairs, Views, draw_pairs, named_scenes
from autolink.generation.train_transfer import SHAPE, TransferTrainer, with_keypoints
from autolink.generation.transfer_training_options import TransferData, TransferLoss, TransferTrainConfig
from autolink.generation.translator import PoseTransfer, Translation, Translator, translate
from autolink.generation.translator_config import TranslatorConfig
from autolink.inference import detect_all
from autolink.loop import start
from autolink.losses import draw_moves, equivariance_loss, moved
from autolink.nested import Child, NestedAutoLink
from autolink.options import help_text, read_options
from autolink.pretrained import check_same_shape

EXAMPLES = (
    "python generation/train_local.py --child runs/mouth/nested --region mouth --data my_clips --out runs/mouth-local",
    "python generation/train_local.py --resume --out runs/mouth-local",
)

PRESET_NOTES = {"local": "a region of 64 px, an hour of a CPU core"}

MOVED = 0.6
"""Strength of the moves of a region: what leaves it is not seen."""

KNOWN = 4000
"""Crops at most from which it is learned how the child's keypoints usually lie."""


@dataclass(frozen=True)
class LocalData(TransferData):
    """What is learned from."""

    preset: Literal["local"] = "local"  # type: ignore[assignment]
    """Where the defaults come from; there is one."""
    data: str = ""
    """A folder of videos, or of pictures, or of both."""
    stage_one: str = "faces-transfer"
    """Checkpoint of the pose transfer that the region is laid into; its stage one is the child's parent."""
    child: str = ""
    """Checkpoint of the nested stage one that `train_autolink.py --nest` wrote."""
    region: str = ""
    """Which of its children."""
    moving_pairs: float = 0.5
    """Share of the pairs whose second frame is, of several, the one that differs most from the first."""


@dataclass(frozen=True)
class LocalLoss(TransferLoss):
    """What is minimised: a region is redrawn in the expression of its target."""

    feature_size: int = 96
    """Pictures are resized to this before the feature network."""
    adversarial_from: float = 0.6
    """Share of the steps after which the discriminator begins."""
    child_rate: float = 0.3
    """The child's learning rate as a share of the translator's; 0 leaves it as it is."""
    equivariance: float = 1.0
    """Weight of how far its keypoints do not turn, scale and move with the picture."""

    def check(self) -> None:
        """Weights and shares."""
        super().check()
        self.at_least(0, ["child_rate", "equivariance"])


@dataclass(frozen=True)
class LocalTrainConfig(LocalData, LocalLoss, TransferTrainConfig):
    """Train a child's translator, and the child along with it, on pairs of frames of its region."""

    model: TranslatorConfig = field(default_factory=lambda: TranslatorConfig(channels=(24, 48, 96, 128)))

    steps: int = 1200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.moving_pairs <= 1:
            raise ValueError(f"--moving-pairs must be in [0, 1], got {self.moving_pairs}")


class LearningTranslator(Translator):
    """A translator, and the child that learns along with it."""

    def __init__(self, translator: Translator, child: Child) -> None:
        super().__init__(translator.config)
        self.load_state_dict(translator.state_dict())
        self.child = child

    def train(self, mode: bool = True) -> Self:
        """The child keeps the statistics of its own training."""
        super().train(mode)
        self.child.eval()
        return self

    def alone(self) -> Translator:
        """The translator without the child."""
        translator = Translator(self.config)
        own = self.state_dict()
        translator.load_state_dict({name: own[name] for name in translator.state_dict()})
        return translator


class LocalTrainer(TransferTrainer):
    """As for a whole subject, but that the child learns along."""

    def __init__(
        self,
        config: LocalTrainConfig,
        accelerator: Accelerator,
        nested: NestedAutoLink,
        base: PoseTransfer,
        views: Views,
        known: Translator | None = None,
    ) -> None:
        if accelerator.num_processes > 1:
            raise UsageError("a region is trained by one process: run python generation/train_local.py without launch")
        self.local_config, self.nested, self.base = config, nested, base
        self.child = dict(nested.named())[config.region]
        super().__init__(config, accelerator, self.child, views, known)
        self.child.detector.requires_grad_(config.child_rate > 0)

    def learning(self, translator: Translator) -> Translator:
        """Child and translator."""
        return LearningTranslator(translator, self.child)

    def parameter_groups(self, network: Translator) -> list[dict[str, Any]]:
        """The child's learn at a rate of their own."""
        child = list(self.child.detector.parameters())
        own = {id(parameter) for parameter in self.child.parameters()}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in own]
        return [{"params": rest}, {"params": child, "share": self.local_config.child_rate}]

    def draw(self, rng: np.random.Generator) -> Pairs:
        """Pairs of which some differ as much as may be: a blink is rare."""
        config = self.local_config
        return draw_pairs(self.views, self.groups, config.batch, config.flip, rng, config.moving_pairs)

    def translate(self, network: Translator, sources: Tensor, targets: Tensor) -> tuple[Translation, Tensor]:
        """Sources (B, 3, size, size) in the poses of targets, and the targets' edge maps."""
        child = network.child if isinstance(network, LearningTranslator) else self.child
        keypoints, driving = child.keypoints(torch.cat([sources, targets])).split(len(sources))
        return translate(child, network, sources[:, None], keypoints[:, None], driving)

    def further_loss(self, targets: Tensor, rng: np.random.Generator) -> Tensor:
        """Keypoints turn, scale and move with the picture."""
        if not self.local_config.child_rate:
            return targets.new_zeros(())
        B = len(targets)
        moves = draw_moves(B, torch.Generator().manual_seed(int(rng.integers(2**62))), MOVED)
        here, there = self.child.keypoints(torch.cat([targets, moved(targets, moves)])).split(B)
        return self.local_config.equivariance * equivariance_loss(here, there, moves)

    def save_model(self, folder: Path) -> None:
        """The pose transfer with all its children, this one new."""
        assert isinstance(self.average, LearningTranslator)
        name, learned, config = self.local_config.region, self.average.child, self.child.config
        some = self.views.images[:: max(1, len(self.views.images) // KNOWN)]
        keypoints = torch.from_numpy(detect_all(learned, some, self.accelerator.device))
        child = Child.of(learned, keypoints, config.places, config.mirrored, config.layout, self.nested.parent)
        children, translators = self.base.local.parts() if self.base.local else ({}, {})
        nested = NestedAutoLink(self.base.stage_one, children | {name: child})
        local = LocalTransfer(nested, translators | {name: self.average.alone()})
        PoseTransfer(self.base.stage_one, self.base.translator, local).save_pretrained(folder)


def known_translator(config: LocalTrainConfig) -> Translator | None:
    """The region's translator of what --start-from names, None without that.

    Raises:
        UserError: it has none, or one of another shape.
    """
    if not config.start_from:
        return None
    local = PoseTransfer.from_pretrained(config.start_from).local
    known = local.parts()[1].get(config.region) if local else None
    if not known:
        raise UserError(f"--start-from {config.start_from} has no translator of {config.region}")
    check_same_shape(config.start_from, known.config, config.model, SHAPE)
    return known


def region_views(nested: NestedAutoLink, data: str, name: str, size: int) -> Views:
    """A child's region in a folder's clips, one in five of which is held out, and in its pictures, scene by scene.

    Scenes and what is held out of the pictures are as in `load_views`.
    """
    child = dict(nested.named())[name].config
    region = Region(name, child.places, child.mirrored)
    crops = region_crops(nested, Path(data), region, size, torch.device("cpu"))
    placed: dict[str, list[NDArray[np.uint8]]] = {}
    for group_name, group in zip(crops.names, crops.groups, strict=True):
        placed.setdefault(group_name, []).append(group)
    groups: list[NDArray[np.uint8]] = []
    test: list[bool] = []

    def add(names: list[str], held_out: bool) -> None:
        for place in zip(*(placed.pop(one) for one in names), strict=True):
            groups.append(np.concatenate(place))
            test.append(held_out)

    for scene, held_out in named_scenes(data):
        if shown := [one for one in scene if one in placed]:
            add(shown, held_out)
    for n, clip in enumerate(sorted(placed)):
        add([clip], n % 5 == 3)
    lengths = np.array([len(group) for group in groups], np.int64)
    return Views(np.concatenate(groups), lengths.cumsum() - lengths, lengths, np.array(test, bool), crops.skipped)


def run(arguments: list[str]) -> None:
    """The command: read options, train, say where the result is."""
    text = help_text(LocalTrainConfig, EXAMPLES, PRESET_NOTES)
    config = read_options({"local": LocalTrainConfig()}, text, arguments, {})
    for name in ("data", "child", "region"):
        if not getattr(config, name):
            raise UsageError(f"--{name} is needed: a folder of videos, a nested stage one, and which of its children")
    nested, base = NestedAutoLink.from_pretrained(config.child), PoseTransfer.from_pretrained(config.stage_one)
    children = dict(nested.named())
    if config.region not in children:
        raise UserError(f"--region {config.region}: {config.child} has the children {', '.join(children) or 'none'}")
    NestedAutoLink(base.stage_one, {config.region: children[config.region]})  # refuses another one's child
    keypoints = children[config.region].config.keypoints
    config = replace(config, model=with_keypoints(config, keypoints).model)
    known = known_translator(config)

    def build(accelerator: Accelerator, cache: Path | None) -> LocalTrainer:
        views = region_views(nested, config.data, config.region, config.model.size)
        return LocalTrainer(config, accelerator, nested, base, views, known)

    start(config, "python generation/train_local.py", build)


def main() -> None:
    """Entry point of `autolink train-local` and `python generation/train_local.py`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
