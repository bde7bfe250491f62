"""What a report says of stage one: regression error, reconstruction, graph, pictures."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autolink import draw
from autolink.data import ImageSet, load_data
from autolink.data.animals import LANDMARKS
from autolink.data.figures import JOINTS
from autolink.data.published import PUBLISHED, load_published
from autolink.device import to_network
from autolink.edge_map import edge_pairs
from autolink.eval import published
from autolink.eval.keypoints import KeypointsConfig, evaluate
from autolink.eval.metrics import FeatureDistance, l1
from autolink.eval.reporting.content import Conditions, Figure, Picture, Section
from autolink.eval.reporting.inputs import Subject
from autolink.inference import detect_all
from autolink.model import AutoLink

LANDMARK_NAMES = {"figures": JOINTS, "animals": LANDMARKS}

MASKED, MASK_BLOCKS, MASK_SEED = 0.9, 16, 0
"""How much is hidden before reconstruction, as in training."""

SHOWN, SHOWN_SIDE = 8, 192

ROWS = ("picture", "keypoints and graph", "edge map", "masked picture", "reconstruction")

RECONSTRUCTION = (
    f"rebuilt from edge map and picture, {MASKED:.0%} of whose {MASK_BLOCKS} x {MASK_BLOCKS} blocks being hidden; "
    "another picture's edge map in place of its own is the yardstick: what a graph that tells nothing scores"
)


def measure_keypoints(subject: Subject, root: Path | None, pictures: int, seed: int, device: torch.device) -> Section:
    """Everything about one checkpoint of stage one.

    Raises:
        UserError: the data cannot be read, or are too few for a fit.
    """
    model = AutoLink.from_pretrained(subject.folder).to(device)
    section = Section()
    data = _regression(section, model, subject, root, seed, device)
    section.notes += [f"skipped {name}: {reason}" for name, reason in data.skipped.items()]
    test = data.annotation.test if data.annotation is not None else np.zeros(len(data), bool)
    rows = np.flatnonzero(test) if test.any() else np.arange(len(data))
    rows = rows[np.linspace(0, len(rows) - 1, min(pictures, len(rows))).astype(int)]
    whose = "test pictures" if test.any() else "pictures, training pictures included"
    _reconstruction(section, model, np.ascontiguousarray(data.images[rows]), f"{len(rows):,} {whose}", subject, device)
    return section


def _regression(
    section: Section, model: AutoLink, subject: Subject, root: Path | None, seed: int, device: torch.device
) -> ImageSet:
    """The regression error by the protocol that belongs to the data, if they have landmarks; the data."""
    name = subject.data
    if root:
        protocol = PUBLISHED[name].protocol
        data = load_published(name, root, model.config.size, model.config.fit, annotated_only=bool(protocol))
        if protocol:
            assert data.annotation is not None
            result = published.measure(name, detect_all(model, data.images, device), data.annotation)
            _published_figures(section, result, name, seed)
    else:
        data = load_data(name, model.config.size, model.config.fit)
        if data.annotation is not None and data.annotation.landmarks.shape[1]:
            config = KeypointsConfig(str(subject.folder), name, seed=seed)
            _figures(section, evaluate(model, data, config, device), name, seed)
    if not section.figures:
        section.notes.append(f"{subject.data_name} has no landmarks, so there is no regression error.")
    return data


def _samples(result: dict) -> str:
    return f"{result['images']:,} test pictures, fitted on {result['train_images']:,}"


def _figures(section: Section, result: dict, data: str, seed: int) -> None:
    """Regression error of annotated pictures, in all and in detail."""
    names = LANDMARK_NAMES.get(data, ())
    conditions = Conditions(data, result["protocol"], _samples(result), seed=seed)
    unit, group = f"% of the {result['normalised_by']}", "Landmarks regressed from the keypoints"
    for key, name, interval in (
        ("error_with_bias", "Regression error", result["interval_95_with_bias"]),
        ("error_without_bias", "Regression error without bias", None),
    ):
        section.figures.append(
            Figure(
                key, name, result[key], conditions, unit, 2, "lower", group, interval_95=interval,
                yardstick=result["mean_pose_error"], yardstick_name="mean pose", headline=interval is not None,
            )
        )  # fmt: skip

    def named(row: dict) -> dict:
        number = row["landmark"]
        return row | {"name": names[number] if number < len(names) else f"landmark {number}", "unit": unit}

    section.landmarks = [named(row) for row in result["by_landmark"]]
    section.keypoints = [named(row) for row in result["by_keypoint"]]


def _published_figures(section: Section, result: dict, data: str, seed: int) -> None:
    """The figure of a published protocol, and the mended one where there is one."""
    protocol = f"{result['protocol_name']}: {result['protocol']}"
    conditions = Conditions(data, protocol, _samples(result), seed=seed)
    better = "higher" if "more is better" in result["unit"] else "lower"
    for key, name in (("error", "Error"), ("error_with_mended_pairs", "Error with the mended list of pairs")):
        if key in result:
            section.figures.append(
                Figure(
                    f"published_{key}", name, result[key], conditions, result["unit"], 2, better,
                    f"Protocol of {result['protocol_name']}", yardstick=result["mean_pose_error"],
                    yardstick_name="mean pose", headline=key == "error",
                )
            )  # fmt: skip


@torch.no_grad()
def _reconstruction(
    section: Section, model: AutoLink, pictures: NDArray[np.uint8], samples: str, subject: Subject, device: torch.device
) -> None:
    """Reconstruction figures, pictures and the graph at the keypoints' mean positions."""
    distance = FeatureDistance(device)
    dice = torch.Generator().manual_seed(MASK_SEED)
    found: dict[str, list[Tensor]] = {}
    points, shown = [], None
    for n in range(0, len(pictures), 64):
        images = to_network(torch.from_numpy(pictures[n : n + 64]), device)
        visible = torch.rand(len(images), 1, MASK_BLOCKS, MASK_BLOCKS, generator=dice) >= MASKED
        masked = images * F.interpolate(visible.float().to(device), size=images.shape[2:])
        output = model(images, visible.float().to(device))
        other = model.decoder(masked, output.edge_map.roll(1, 0))
        for name, made in (("own", output.reconstruction), ("other", other)):
            made = made.clamp(-1, 1)
            found.setdefault(f"{name}_l1", []).append(l1(made, images))
            found.setdefault(f"{name}_features", []).append(distance(made, images))
        points.append(output.keypoints.cpu().numpy())
        shown = shown or _sheet(model, pictures, masked, output.edge_map, output.reconstruction, points[0])
    means = {name: float(torch.cat(values).mean()) for name, values in found.items()}
    for key, name, features in (
        ("l1", "L1 in [0, 1] units", "none"),
        ("features", "Feature distance", "efficientnet-lite0"),
    ):
        section.figures.append(
            Figure(
                f"reconstruction_{key}", name, means[f"own_{key}"],
                Conditions(subject.data, RECONSTRUCTION, samples, features, seed=MASK_SEED), "", 4, "lower",
                "Reconstruction of masked pictures", yardstick=means[f"other_{key}"],
                yardstick_name="another picture's edge map",
            )
        )  # fmt: skip
    assert shown is not None
    section.pictures.append(shown)
    _graph(section, model, np.concatenate(points))


def _sheet(
    model: AutoLink, pictures: NDArray[np.uint8], masked: Tensor, edges: Tensor, rebuilt: Tensor, keypoints: NDArray
) -> Picture:
    """Some of the pictures, a column each, rows as in `ROWS`."""
    chosen = np.unique(np.linspace(0, len(masked) - 1, min(SHOWN, len(masked))).astype(int))
    factor = max(1, SHOWN_SIDE // model.config.size)
    weights = model.edge_weights.detach().cpu().numpy()

    def enlarged(values: Tensor) -> list[draw.Image]:
        shown = values[chosen].permute(0, 2, 3, 1).cpu().numpy()
        return [draw.enlarged(draw.to_image(value), factor) for value in shown]

    inputs = [draw.enlarged(pictures[n], factor) for n in chosen]
    places = (keypoints[chosen] + 1) / 2 * (inputs[0].shape[0] - 1)
    graphs = [draw.draw_graph(image, place, weights) for image, place in zip(inputs, places, strict=True)]
    lines = [draw.enlarged(draw.edge_map_image(e), factor) for e in edges[chosen, 0].cpu().numpy()]
    image = draw.grid([inputs, graphs, lines, enlarged(masked), enlarged(rebuilt)])
    alt = f"{len(chosen)} pictures in columns; the rows show {', '.join(ROWS)}"
    return Picture("keypoints", "Keypoints, edge maps and reconstructions", alt, ROWS, image)


def _graph(section: Section, model: AutoLink, keypoints: NDArray) -> None:
    """The learned graph at the mean positions of the keypoints (N, K, 2), and how much of it meets in each."""
    weights = model.edge_weights.detach().cpu().numpy()
    pairs = edge_pairs(model.config.keypoints).T.tolist()
    strongest = max(float(weights.max()), 1e-12)
    edges = [[i, j, float(w) / strongest] for (i, j), w in zip(pairs, weights, strict=True)]
    section.graph = {"positions": keypoints.mean(0).round(4).tolist(), "edges": edges}
    section.keypoints = section.keypoints or [{"keypoint": k} for k in range(model.config.keypoints)]
    for row in section.keypoints:
        links = [w for i, j, w in edges if row["keypoint"] in (i, j) and w >= draw.FAINTEST]
        row |= {"links": len(links), "strongest_link": max(links, default=0.0)}
