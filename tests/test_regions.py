import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from autolink.regions import (
    MeanLayout,
    composed,
    from_pixels,
    inside,
    inverted,
    moved,
    seen,
    similarity,
    square,
    to_pixels,
)

Array = NDArray[np.float64]


def turned(angle: float, scale: float, x: float, y: float) -> Tensor:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[c, -s, x], [s, c, y]], dtype=torch.float64)


def kabsch(points: Array, targets: Array, weights: Array) -> Array:
    """Umeyama's closed form by singular values: another way to the same similarity."""
    w = weights / weights.sum()
    p, t = points - w @ points, targets - w @ targets
    u, d, vt = np.linalg.svd((t * w[:, None]).T @ p)
    sign = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = (d * np.diag(sign)).sum() / (w @ (p**2).sum(1))
    matrix = scale * rotation
    similarity: Array = np.c_[matrix, w @ targets - matrix @ (w @ points)]
    return similarity


def test_the_similarity_is_umeyamas() -> None:
    rng = np.random.default_rng(0)
    points, targets, weights = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), rng.uniform(0.1, 1, 9)
    found = similarity(*(torch.from_numpy(x) for x in (points, targets, weights)))
    np.testing.assert_allclose(found.numpy(), kabsch(points, targets, weights), atol=1e-12)


def test_a_layout_finds_the_similarity_again_despite_lost_keypoints() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(12, 2, generator=generator, dtype=torch.float64) - 0.5
    layout = MeanLayout(tuple(map(tuple, points.tolist())), (1 / 12,) * 12)
    true = turned(0.4, 80, 120, 60)
    keypoints = moved(true, points)
    torch.testing.assert_close(layout.fit(keypoints), true)
    keypoints[3] += torch.tensor([200.0, -150.0])
    off = moved(layout.fit(keypoints), points) - moved(true, points)
    assert off.norm(dim=1).max() < 80 * 0.02  # of the layout's unit in pixels


def test_the_fit_turns_scales_and_moves_with_the_picture() -> None:
    generator = torch.Generator().manual_seed(1)
    layout = MeanLayout.measure(torch.rand(20, 7, 2, generator=generator))
    keypoints, change = torch.rand(5, 7, 2, generator=generator, dtype=torch.float64), turned(-0.8, 2.5, 30, -7)
    torch.testing.assert_close(layout.fit(moved(change, keypoints)), composed(change, layout.fit(keypoints)))


def test_the_mean_layout_is_the_shape_that_similarities_hide_and_weighs_the_steady() -> None:
    generator = torch.Generator().manual_seed(2)
    shape = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1.2], [0.4, 0.5], [1.5, 0.3]], dtype=torch.float64) - 0.5
    poses = []
    for _ in range(200):
        angle, scale, x, y = torch.rand(4, generator=generator).tolist()
        shaken = shape + torch.randn(6, 2, generator=generator) * torch.tensor([[0.01]] * 5 + [[0.3]])
        poses.append(moved(turned(angle - 0.5, 0.5 + scale, x, y), shaken))
    layout = MeanLayout.measure(torch.stack(poses))
    found = torch.tensor(layout.points, dtype=torch.float64)
    fitted = moved(similarity(shape, found, torch.tensor(layout.weights, dtype=torch.float64)), shape)
    assert (fitted - found)[:5].norm(dim=1).max() < 0.02
    assert layout.weights[5] < min(layout.weights[:5]) / 3
    assert sum(layout.weights) == pytest.approx(1)


def test_maps_compose_and_invert() -> None:
    a, b = turned(0.3, 2, 1, 5), turned(-1, 0.5, 4, 2)
    points = torch.randn(4, 2, dtype=torch.float64)
    torch.testing.assert_close(moved(composed(a, b), points), moved(a, moved(b, points)))
    torch.testing.assert_close(moved(inverted(a), moved(a, points)), points)


def test_a_region_shows_the_pixels_of_its_square() -> None:
    picture = torch.arange(9 * 12, dtype=torch.float32).view(1, 1, 9, 12).expand(1, 3, 9, 12)
    place = square(5, 4, 4)  # pixels 3 to 7 across, 2 to 6 down
    torch.testing.assert_close(seen(picture, place[None], 5)[0, 0], picture[0, 0, 2:7, 3:8])
    mirrored = square(5, 4, 4, mirrored=True)
    torch.testing.assert_close(seen(picture, mirrored[None], 5)[0, 0], picture[0, 0, 2:7, 3:8].flip(1))


def test_a_region_of_a_turned_picture_shows_the_same() -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    picture = torch.stack([torch.sin(x / 9), torch.cos(y / 7), torch.sin((x + y) / 11)])[None]
    quarter = picture.rot90(1, (2, 3))  # (x, y) -> (y, 95 - x)
    change = torch.tensor([[0, 1, 0], [-1, 0, 95]], dtype=torch.float64)
    place = composed(turned(0.2, 20, 50, 40), square(0, 0, 2))
    torch.testing.assert_close(
        seen(quarter, composed(change, place)[None], 24), seen(picture, place[None], 24), atol=1e-4, rtol=0
    )


def test_a_large_region_is_averaged_and_not_picked_from() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    small = seen(stripes, square(31.5, 31.5, 56)[None], 8)
    assert (small - 0.5).abs().max() < 0.1


def test_a_region_that_leaves_the_picture_counts_less() -> None:
    maps = torch.stack([square(50, 50, 20), square(0, 50, 20), square(-40, 50, 20)])
    whole, half, out = inside(maps, 100, 100).tolist()
    assert whole == 1 and out == 0 and half < 0.3


def test_pixels_and_back() -> None:
    keypoints = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    torch.testing.assert_close(to_pixels(keypoints, 101, 51), torch.tensor([[0.0, 0.0], [100.0, 50.0], [50.0, 37.5]]))
    torch.testing.assert_close(from_pixels(to_pixels(keypoints, 101, 51), 101, 51), keypoints)
