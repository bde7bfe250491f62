import torch
from torch import Tensor

from autolink.discovery import peaks, residual, unexplained


def smooth_noise(generator: torch.Generator, size: int) -> Tensor:
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")[0] * 255


def test_regions_that_change_are_found_and_those_that_shake_are_not() -> None:
    """Two patches show something else in every frame; the rest, and a strip of edges, only shake by a pixel."""
    generator = torch.Generator().manual_seed(0)
    clips = []
    for _ in range(6):
        ground, frames = smooth_noise(generator, 64), []
        ground[:, :, 50:52] = 255  # the strongest edges of all
        for _ in range(6):
            x, y = torch.randint(-1, 2, (2,), generator=generator).tolist()
            frame = ground.roll((y, x), (1, 2)).clone()
            for left, top in ((12, 16), (24, 44)):
                frame[:, top : top + 8, left : left + 8] = smooth_noise(generator, 8)
            frames.append(frame)
        clips.append(torch.stack(frames))
    found = peaks(residual(clips), 16, 2)
    expected = {(15, 19), (27, 47)}
    assert all(min(max(abs(x - u), abs(y - v)) for u, v in expected) <= 2 for x, y in found)
    assert len({min(expected, key=lambda e: abs(x - e[0])) for x, _ in found}) == 2


def test_a_shift_explains_itself() -> None:
    picture = smooth_noise(torch.Generator().manual_seed(1), 32)[None]
    assert unexplained(picture, picture.roll((1, -2), (2, 3)))[..., 6:-6, 6:-6].max() < 1e-3
    assert unexplained(picture, picture.flip(3)).mean() > 5


def test_nothing_is_found_where_nothing_stands_out() -> None:
    assert peaks(torch.ones(32, 32), 8, 3) == []
