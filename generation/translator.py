"""The translator: a source picture, redrawn in the pose of a driving edge map."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from autolink.checkpoints import Pretrained, stored
from autolink.edge_map import edge_pairs
from autolink.errors import UserError
from autolink.generation.motion_mixer import MotionMixer, blocks, doubled, warped
from autolink.generation.translator_config import TranslatorConfig
from autolink.layers import activation, channels_last, conv, down_block, initialise
from autolink.model import AutoLink
from autolink.pretrained import load_folder, save_folder
from autolink.video.layout import Layout, Shape

if TYPE_CHECKING:
    from autolink.generation.nested import LocalTransfer

LAYERS = 3
"""What a pixel of the result is mixed from: the moved source, the source as it stands, and paint."""

CARD = """---
library_name: autolink
pipeline_tag: video-to-video
license: unknown
tags: [pose-transfer, self-supervised]
---
Video pose transfer driven by the keypoints and the graph of AutoLink:
`autolink transfer --checkpoint FOLDER --src video.mp4 --driver pose.mp4`.
"""


class Translation(NamedTuple):
    """What one pass of the translator gives."""

    image: Tensor
    """(B, 3, size, size), about [-1, 1]."""
    moved: Tensor
    """(B, 3, size, size), the source moved, nothing painted."""
    layers: Tensor
    """(B, 3, size, size), shares of moved, standing and painted pixels; they sum to one."""
    painted: Tensor
    """(B, 3, size, size), what was painted."""
    flow: Tensor
    """(B, S, m, m, 2), where each source shows a pixel, (x, y) in [-1, 1]."""
    weight: Tensor
    """(B, S, 1, m, m), how much each source counts; they sum to one."""

    def on(self, sources: Tensor) -> Tensor:
        """The same result from larger copies of the sources: (B or 1, S, 3, H, H) -> (B, 3, H, H).

        What is moved or stands comes from the copies and is as sharp as they are; paint is enlarged.
        """
        side = sources.shape[-1]
        layers, painted = _resized(self.layers, side), _resized(self.painted, side)
        return _composed(_moved(sources, self.flow, self.weight), sources[:, 0], painted, layers)


def in_front(visible: Tensor) -> Tensor:
    """How much each source counts where the first hides the second, and so on: (B, S, 1, m, m) in (0, 1), sum one.

    An average of several would show all their small errors at once, as a double mouth.
    """
    visible = visible.clamp(min=1e-3)  # where none shows a place, all count
    hidden = F.pad((1 - visible).cumprod(1)[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0), value=1.0)
    weight = visible * hidden
    return weight / weight.sum(1, keepdim=True)


def _moved(pictures: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
    """Pictures or features of all sources, moved and weighed: (B or 1, S, c, H, H) -> (B, c, H, H)."""
    B, S, side = *flow.shape[:2], pictures.shape[-1]
    whole = _resized(flow.flatten(0, 1).permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    moved = warped(_each(pictures.flatten(0, 1), B * S), whole).view(B, S, -1, side, side)
    return (moved * _resized(weight.flatten(0, 1), side).view(B, S, 1, side, side)).sum(1)


def _composed(moved: Tensor, standing: Tensor, painted: Tensor, layers: Tensor) -> Tensor:
    return layers[:, :1] * moved + layers[:, 1:2] * standing + layers[:, 2:] * painted


class Translator(nn.Module):
    """Moves source features by proposals of the graph and paints what the source does not show."""

    pairs: Tensor
    layout: Tensor
    """(3,), mean centre (x, y) and RMS radius of the counted keypoints in training pictures."""
    counted: Tensor
    """(K,), the keypoints that tell where a subject is."""
    shape_mean: Tensor
    """(2 K,), what these look like together, see `autolink.video.layout.Shape`; zero beyond the counted."""
    shape_whitening: Tensor
    """(2 K, 2 K)."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.mixer = MotionMixer(config)
        self.first = nn.Sequential(conv(4, widths[0]), nn.BatchNorm2d(widths[0]), activation())
        self.encode = nn.ModuleList(down_block(a, b) for a, b in pairwise(widths))
        self.bottom = blocks(2 * widths[-1] + 1, widths[-1])
        self.decode = nn.ModuleList(blocks(a + b + 1, b) for a, b in pairwise(widths[::-1]))
        self.last = nn.Conv2d(widths[0], 3 + LAYERS, 3, padding=1)
        self.register_buffer("layout", torch.tensor([0.0, 0.0, 0.5]))
        self.register_buffer("counted", torch.ones(config.keypoints, dtype=torch.bool))
        self.register_buffer("shape_mean", torch.zeros(2 * config.keypoints))
        self.register_buffer("shape_whitening", torch.zeros(2 * config.keypoints, 2 * config.keypoints))
        self.register_buffer("pairs", edge_pairs(config.keypoints)[:, : config.bones].contiguous())
        initialise(self.encode)
        initialise(self.decode)
        channels_last(self)

    def choose_bones(self, edge_weights: Tensor) -> None:
        """Take the strongest edges of a stage one as bones."""
        strongest = edge_weights.topk(self.config.bones).indices.sort().values
        self.pairs.copy_(edge_pairs(self.config.keypoints)[:, strongest.cpu()])

    def remember_layout(self, layout: Layout) -> None:
        """Keep how training pictures were framed, so that a subject elsewhere can be framed alike."""
        self.layout.copy_(torch.tensor([*layout.centre, layout.radius]))
        self.counted.fill_(False)[list(layout.chosen)] = True
        if layout.shape:
            n = len(layout.shape.mean)
            self.shape_mean.zero_()[:n] = torch.from_numpy(layout.shape.mean)
            self.shape_whitening.zero_()[:n, :n] = torch.from_numpy(layout.shape.whitening)

    def remembered_layout(self) -> Layout:
        """The inverse of `remember_layout`."""
        x, y, radius = self.layout.tolist()
        chosen = tuple(self.counted.nonzero()[:, 0].tolist())
        n = 2 * len(chosen)
        mean, whitening = (part.double().cpu().numpy() for part in (self.shape_mean, self.shape_whitening))
        shape = Shape(mean[:n], whitening[:n, :n]) if mean.any() else None
        return Layout((x, y), radius, chosen, shape)

    def forward(
        self, sources: Tensor, source_edges: Tensor, source_keypoints: Tensor, driving: Tensor, edges: Tensor
    ) -> Translation:
        """Redraw the sources in the driving pose.

        Args:
            sources: (B, S, 3, size, size) in [-1, 1], pictures of one subject; a later one counts where those before
                it do not show a place. (1, S, ...) are encoded once for all B.
            source_edges: (B, S, 1, size, size), their edge maps.
            source_keypoints: (B, S, K, 2), (x, y) in [-1, 1].
            driving: (B, K, 2), the wanted keypoints.
            edges: (B, 1, size, size), their edge map.
        """
        B, S = len(driving), sources.shape[1]
        pictures = torch.cat([sources, source_edges], 2).flatten(0, 1)
        m = self.config.motion_size
        small = F.adaptive_avg_pool2d(pictures, m)
        motion = self.mixer(
            _each(small, B * S), _each(source_keypoints.flatten(0, 1), B * S), driving.repeat_interleave(S, 0),
            self.pairs, F.adaptive_avg_pool2d(edges, m).repeat_interleave(S, 0),
        )  # fmt: skip
        flow, visible = motion.flow.view(B, S, m, m, 2), motion.visible.view(B, S, 1, m, m).sigmoid()
        weight = in_front(visible)
        gate = visible * weight

        def gathered(features: Tensor) -> Tensor:
            return _moved(features.unflatten(0, (-1, S)), flow, gate)

        features = [self.first(pictures)]
        for encode in self.encode:
            features.append(encode(features[-1]))
        deep = features.pop()
        standing = _each(deep.unflatten(0, (-1, S))[:, 0], B)
        x = self.bottom(torch.cat([gathered(deep), standing, _pooled(edges, deep)], 1))
        for decode in self.decode:
            feature = features.pop()
            x = decode(torch.cat([doubled(x), gathered(feature), _pooled(edges, feature)], 1))
        out = self.last(x).float()
        moved, painted = _moved(sources, flow, weight), out[:, :3]
        layers = (out[:, 3:] + out.new_tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).softmax(1)
        return Translation(_composed(moved, sources[:, 0], painted, layers), moved, layers, painted, flow, weight)


def _each(x: Tensor, count: int) -> Tensor:
    """What there is once for a whole batch, as often as there are rows: (n, ...) -> (count, ...)."""
    return x if len(x) == count else x.expand(count // len(x), *x.shape).flatten(0, 1)


def _resized(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)


def _pooled(edges: Tensor, like: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(edges, like.shape[-1])


def translate(
    stage_one: AutoLink, translator: nn.Module, sources: Tensor, source_keypoints: Tensor, driving: Tensor
) -> tuple[Translation, Tensor]:
    """Redraw sources in a pose, and the edge map of that pose: (B, 1, size, size), differentiable where the pose is.

    Args:
        stage_one: whose graph is drawn.
        translator: a `Translator`, however it is wrapped for training.
        sources: (B, S, 3, size, size) in [-1, 1], or (1, S, ...) of one subject for all B.
        source_keypoints: (B, S, K, 2) or (1, S, K, 2), (x, y) in [-1, 1].
        driving: (B, K, 2), the wanted keypoints.
    """
    B, S, _, size, _ = sources.shape
    with torch.set_grad_enabled(driving.requires_grad):
        edges = stage_one.draw(torch.cat([source_keypoints.flatten(0, 1), driving]), size)
    source_edges, driving_edges = edges[: B * S].view(B, S, 1, size, size), edges[B * S :]
    return translator(sources, source_edges, source_keypoints, driving, driving_edges), driving_edges


class PoseTransfer(Pretrained):
    """A frozen stage one and the translator that it drives: one checkpoint folder, all that a transfer needs.

    The folder holds the translator (config.json, model.safetensors), in `stage_one/` the stage one that it was trained
    with and, where there are children, in `children/` what redraws their regions.
    """

    def __init__(self, stage_one: AutoLink, translator: Translator, local: "LocalTransfer | None" = None) -> None:
        super().__init__()
        if stage_one.config.keypoints != translator.config.keypoints:
            raise UserError(
                f"the translator was trained for {translator.config.keypoints} keypoints, the stage one has "
                f"{stage_one.config.keypoints}; give the stage one that it was trained with"
            )
        self.stage_one = stage_one.requires_grad_(False)
        self.translator = translator
        self.local = local

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder, ready to transfer.

        Raises:
            UserError: it is damaged or of another kind, or its two parts do not fit.
        """
        from autolink.generation.nested import LocalTransfer

        translator = load_folder("transfer", TranslatorConfig, Translator, folder)
        stage_one = AutoLink.from_folder(stored(folder / "stage_one"))
        return cls(stage_one, translator, LocalTransfer.beside(stage_one, folder)).eval()

    def save_pretrained(self, folder: str | Path, card: str = CARD, *, half: bool = False) -> None:
        """Write translator and stage one; `half` stores 16-bit weights."""
        save_folder("transfer", self.translator, self.translator.config, Path(folder), card, half)
        self.stage_one.save_pretrained(Path(folder) / "stage_one", half=half)
        if self.local:
            self.local.save_pretrained(Path(folder), card, half)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.translator.config.size

    @property
    def layout(self) -> Layout:
        """How subjects are framed in the pictures that both networks know."""
        return self.translator.remembered_layout()

    def forward(self, sources: Tensor, source_keypoints: Tensor, driving: Tensor) -> Translation:
        """Redraw sources in a pose: (B, S, 3, size, size) in [-1, 1], (B, S, K, 2), (B, K, 2); see `translate`."""
        return translate(self.stage_one, self.translator, sources, source_keypoints, driving)[0]

    @torch.no_grad()
    def transfer(self, sources: Tensor, driving: Tensor) -> Tensor:
        """Redraw sources of any size in a pose: (B, S, 3, H, W) in [-1, 1], (B, K, 2) -> (B, 3, size, size)."""
        B, S = sources.shape[:2]
        flat = sources.flatten(0, 1)
        keypoints = self.stage_one.keypoints(flat).view(B, S, -1, 2)
        if flat.shape[2:] != (self.size, self.size):
            flat = F.interpolate(flat, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        result: Translation = self(flat.view(B, S, 3, self.size, self.size), keypoints, driving)
        return result.image.clamp(-1, 1)
