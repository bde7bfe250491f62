from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from autolink import AutoLink, ModelConfig
from autolink.errors import UserError
from autolink.generation.adversarial import BETAS
from autolink.generation.gan import Gan, draw_structure
from autolink.generation.generator import GanConfig, Generator
from autolink.generation.losses import hinge_loss
from autolink.generation.projected import (
    GRID,
    Change,
    Discriminator,
    Look,
    ProjectedFeatures,
    TwoLooks,
    changed,
    changed_images,
    close_up,
    draw_change,
)

TINY = GanConfig(keypoints=5, channels=(8, 8, 8, 4), latent=6, edge_size=8, edge_channels=4, classes=("cat", "dog"))


def stage_one(seed: int = 0, keypoints: int = 5) -> AutoLink:
    torch.manual_seed(seed)
    return AutoLink(ModelConfig(keypoints=keypoints, size=32, detector_channels=(4, 8), decoder_channels=(4, 8))).eval()


def tiny_gan() -> Gan:
    first = stage_one()
    torch.manual_seed(1)
    generator = Generator(TINY)
    generator.graph.copy_(first.edge_weights.detach())
    return Gan(first, generator).eval()


def test_structure_comes_from_the_edge_map_and_appearance_from_noise_and_class() -> None:
    gan = tiny_gan()
    keypoints = torch.rand(2, 5, 2) * 1.6 - 0.8
    noise = torch.randn(2, 6)
    edges = gan.draw(keypoints)
    assert edges.shape == (2, 1, 32, 32)

    def image(e: int, n: int, c: int) -> torch.Tensor:
        with torch.no_grad():
            made: torch.Tensor = gan.generator(edges[e : e + 1], noise[n : n + 1], torch.tensor([c]))[0]
        return made

    base = image(0, 0, 0)
    assert base.shape == (1, 3, 32, 32) and base.abs().max() <= 1
    assert all((image(*other) - base).abs().mean() > 1e-4 for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def test_the_control_is_as_large_and_blind() -> None:
    edges, noise, classes = torch.rand(2, 1, 32, 32), torch.randn(1, 6).repeat(2, 1), torch.zeros(2, dtype=torch.long)
    blind_config = GanConfig(**{**vars(TINY), "conditional": False})
    blind, seeing = Generator(blind_config), Generator(TINY)
    assert sum(p.numel() for p in blind.parameters()) == sum(p.numel() for p in seeing.parameters())
    (first, second), _ = blind(edges, noise, classes)
    torch.testing.assert_close(first, second)
    features = [torch.randn(1, w, 16 >> n, 16 >> n).repeat(2, 1, 1, 1) for n, w in enumerate(ProjectedFeatures.widths)]
    verdicts = Discriminator(blind_config, 32)(features, torch.arange(2), edges, classes)
    torch.testing.assert_close(verdicts[0], verdicts[1])


def test_a_verdict_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY, 32).eval()
    features = [torch.randn(3, w, 16 >> n, 16 >> n) for n, w in enumerate(ProjectedFeatures.widths)]
    edges, classes = torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 1, 0])
    rows = torch.tensor([0, 1, 2, 0])
    together = discriminator(features, rows, edges, classes)
    for n, row in enumerate(rows.tolist()):
        one = slice(n, n + 1)
        alone = discriminator(
            [f[row : row + 1] for f in features], torch.zeros(1, dtype=torch.long), edges[one], classes[one]
        )
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-5)
    assert (together[0] - together[3]).abs().max() > 1e-4  # same picture, other edge map


def test_every_depth_counts_alike_at_any_size_of_features() -> None:
    for size in (16, 32, 96, 128):
        features = [torch.randn(2, w, *(max(1, size >> n),) * 2) for n, w in enumerate(ProjectedFeatures.widths, 1)]
        discriminator = Discriminator(TINY, size)
        verdicts = discriminator(features, torch.arange(2), torch.rand(2, 1, 32, 32), torch.tensor([0, 1]))
        assert verdicts.shape == (2, len(features) * GRID**2)
        deep = [*features[:-1], torch.randn_like(features[-1])]
        changed = discriminator(deep, torch.arange(2), torch.rand(2, 1, 32, 32), torch.tensor([0, 1])) - verdicts
        assert changed[:, -(GRID**2) :].abs().min() > 0


def test_the_discriminator_learns_to_tell_a_picture_from_one_of_another_structure_and_class() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY, 32)
    optimizer = torch.optim.AdamW(discriminator.parameters(), 5e-4, BETAS)
    rows, margins = torch.arange(16), []
    for _ in range(200):
        classes = torch.randint(2, (16,))
        edges = torch.zeros(16, 1, 32, 32)
        for edge, place in zip(edges, torch.randint(2, 28, (16, 2)).tolist(), strict=True):
            edge[0, place[0] : place[0] + 3, place[1] : place[1] + 3] = 1
        shown = edges + 0.5 * classes[:, None, None, None]  # a picture of a dot, lighter in the second class
        features = [
            F.adaptive_avg_pool2d(shown, 16 >> n).repeat(1, w, 1, 1) + 0.1 * torch.randn(16, w, 16 >> n, 16 >> n)
            for n, w in enumerate(ProjectedFeatures.widths)
        ]
        right, moved, other = (
            discriminator(features, rows, *asked)
            for asked in ((edges, classes), (edges.roll(1, 0), classes), (edges, 1 - classes))
        )
        optimizer.zero_grad()
        hinge_loss(right, moved, [other]).backward()
        optimizer.step()
        margins.append(torch.stack([(right - moved).mean(), (right - other).mean()]).detach())
    by_structure, by_class = torch.stack(margins[-50:]).mean(0)  # of one batch it is a matter of luck
    assert by_structure > 0.05 and by_class > 0.5


def test_augmentation_moves_picture_and_edge_map_alike() -> None:
    images = torch.rand(2, 1, 32, 32).repeat(1, 3, 1, 1) * 2 - 1
    still = Change(torch.tensor([[0.0, 1.0, 1.0]] * 2), torch.zeros(2, 2))
    same, edges = changed(images, images[:, :1], still)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-5)
    shifted = Change(still.light, torch.tensor([[0.25, 0.0], [0.0, 0.125]]))  # 4 of 32 pixels, 2 of 32
    moved, edges = changed(images, images[:, :1], shifted)
    torch.testing.assert_close(moved[0, :, :, :-4], images[0, :, :, 4:], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[1, :, :-2], images[1, :, 2:], rtol=0, atol=1e-4)
    torch.testing.assert_close(edges[0, :, :, :-4], images[0, :1, :, 4:], rtol=0, atol=1e-4)
    assert (edges[0, :, :, -4:] == 0).all()
    changes = draw_change(100, 1.0, torch.Generator().manual_seed(0))
    assert changes.shift.abs().max() <= 0.25 and (changes.light[:, 1] >= 0).all()
    none = draw_change(3, 0.0, torch.Generator())
    assert (none.shift == 0).all() and (none.light == torch.tensor([0.0, 1.0, 1.0])).all()


def test_a_close_up_shows_what_is_amid_the_keypoints_twice_as_large() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)  # x
    keypoints = torch.tensor([[[0.2, 0.0]] * 3 + [[-0.9, 0.9]] * 2, [[0.9, 0.0]] * 5])
    still = Change(torch.tensor([[0.0, 1.0, 1.0]] * 2), torch.zeros(2, 2))
    seen = changed_images(ramp, close_up(still, keypoints))
    torch.testing.assert_close(seen[0, 0, 5, [0, -1]], torch.tensor([-0.3, 0.7]), rtol=0, atol=0.03)
    torch.testing.assert_close(seen[1, 0, 5, [0, -1]], torch.tensor([0.0, 1.0]), rtol=0, atol=0.03)  # not beyond it
    moved = close_up(still._replace(shift=torch.full((2, 2), 0.1)), keypoints)
    torch.testing.assert_close(moved.shift, torch.tensor([[0.25, 0.05], [0.5, 0.05]]))


def test_two_looks_are_apart_and_the_close_one_sees_no_structure() -> None:
    torch.manual_seed(0)
    looks = TwoLooks(TINY, 32, close_up=True).eval()
    features, other = (
        [torch.randn(2, w, 16 >> n, 16 >> n) for n, w in enumerate(ProjectedFeatures.widths)] for _ in "ab"
    )
    rows, edges, classes = torch.arange(2), torch.rand(2, 1, 32, 32), torch.tensor([0, 1])
    whole, close = looks(Look(features, rows, edges, classes), Look(other, rows, edges, classes))
    assert close is not None and whole.shape == close.shape
    moved, same = looks(Look(features, rows, edges.roll(1, 0), classes), Look(other, rows, edges.roll(1, 0), classes))
    assert (moved - whole).abs().max() > 1e-4
    torch.testing.assert_close(same, close)
    assert (looks(Look(other, rows, edges, classes), Look(other, rows, edges, classes))[0] - close).abs().max() > 1e-4
    alone = TwoLooks(TINY, 32, close_up=False)
    assert alone(Look(features, rows, edges, classes), None)[1] is None
    assert sum(p.numel() for p in looks.parameters()) == 2 * sum(p.numel() for p in alone.parameters())


def test_features_are_fixed_and_alike_in_size() -> None:
    torch.manual_seed(0)
    real = torch.rand(4, 3, 32, 32) * 2 - 1
    features = ProjectedFeatures(64, real)
    torch.manual_seed(5)
    again = ProjectedFeatures(64, real)
    for one, other, width in zip(features(real), again(real), features.widths, strict=True):
        torch.testing.assert_close(one, other)
        assert one.shape[1] == width and 0.5 < one.std() < 4
    assert not any(p.requires_grad for p in features.parameters())
    images = real.clone().requires_grad_()
    sum(f.square().mean() for f in features(images)).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_drawn_structure_is_the_root_of_the_edge_map() -> None:
    model, keypoints = stage_one(), torch.rand(2, 5, 2) * 2 - 1
    drawn = draw_structure(model, keypoints, 32)
    torch.testing.assert_close(drawn.square() * model.edge_weights.max(), model.draw(keypoints, 32))
    kept = torch.zeros(10, dtype=torch.bool)
    assert (draw_structure(model, keypoints, 32, kept) == 0).all()


def test_truncation_draws_towards_the_class_mean() -> None:
    gan = tiny_gan()
    noise, classes = torch.randn(6, 6), torch.tensor([0, 1, 0, 1, 0, 1])
    whole, half, mean = (gan.styles(noise, classes, t) for t in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half, (whole + mean) / 2)
    torch.testing.assert_close(mean[0], mean[2])
    assert (mean[0] - mean[1]).abs().max() > 1e-4


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    gan = tiny_gan()
    gan.save_pretrained(tmp_path / "gan")
    names = {p.relative_to(tmp_path / "gan").as_posix() for p in (tmp_path / "gan").rglob("*") if p.is_file()}
    assert {"config.json", "model.safetensors", "stage_one/config.json", "stage_one/model.safetensors"} <= names
    again = Gan.from_pretrained(tmp_path / "gan")
    assert again.config == TINY
    keypoints, styles = torch.rand(3, 5, 2) - 0.5, torch.randn(3, 6)
    torch.testing.assert_close(again.generate(keypoints, styles), gan.generate(keypoints, styles))
    gan.save_pretrained(tmp_path / "half", half=True)
    small = Gan.from_pretrained(tmp_path / "half")
    assert (small.generate(keypoints, styles) - gan.generate(keypoints, styles)).abs().max() < 0.05


def test_another_stage_one_is_refused(tmp_path: Path) -> None:
    gan = tiny_gan()
    with pytest.raises(UserError, match="5 keypoints, the stage one has 6"):
        Gan(stage_one(keypoints=6), gan.generator)
    other = stage_one(seed=7)
    torch.nn.init.normal_(other.edge_logits)
    with pytest.raises(UserError, match="another stage one"):
        Gan(other, gan.generator)
    gan.save_pretrained(tmp_path / "gan")
    other.save_pretrained(tmp_path / "gan" / "stage_one")
    with pytest.raises(UserError, match="another stage one"):
        Gan.from_pretrained(tmp_path / "gan")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"channels": (8,)}, "--channels"), ({"channels": (8, 0)}, "--channels"), ({"edge_size": 12}, "--edge-size"),
     ({"edge_size": 128}, "--edge-size"), ({"latent": 0}, "--latent"), ({"keypoints": 1}, "--keypoints")],
)  # fmt: skip
def test_shapes_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GanConfig(**options)


def test_sizes_follow_from_widths(fails: Callable[..., str]) -> None:
    assert [GanConfig(channels=(8,) * n).size for n in (3, 5, 8)] == [16, 64, 512]
    assert "there is no class cow; this checkpoint knows cat, dog" in fails(2, lambda: tiny_gan().class_number("cow"))
