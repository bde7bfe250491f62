"""The objectives of pose transfer and of the GAN, one equation each."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autolink.generation.translator import Translation

COMPARED = 8
"""Side of the grid of places at which appearances are compared: fur has the same texture, not the same hairs."""


def translation_loss(
    result: Translation,
    targets: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor],
    pixel_weight: float,
    moved_weight: float,
) -> Tensor:
    """Γ(I', I) + pixel_weight |I' - I|_1 + moved_weight |S' - I|_1, S' being the moved source before any paint.

    Γ is equation 5 of the paper; targets (B, 3, H, W) in [-1, 1].
    """
    loss = perceptual(result.image, targets) + pixel_weight * F.l1_loss(result.image, targets)
    return loss + moved_weight * F.l1_loss(result.moved, targets)


def non_saturating_loss(generated: Tensor) -> Tensor:
    """Generator's loss of GANs, -log D(G) (Goodfellow et al., 2014): logits of any shape -> a scalar."""
    return F.softplus(-generated).mean()


def cross_entropy_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Discriminator's loss of GANs, -log D(x) - log(1 - D(G)) (Goodfellow et al., 2014): logits -> a scalar."""
    return F.softplus(-real).mean() + F.softplus(generated).mean()


def gradient_penalty(discriminator: Callable[[Tensor, Tensor], Tensor], images: Tensor, edges: Tensor) -> Tensor:
    """R1, |∇_x D(x)|² / 2 at real pictures (Mescheder et al., 2018, equation 9): a mean over pictures."""
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images, edges).sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2, 3)).mean()


def hinge_generator_loss(generated: Tensor) -> Tensor:
    """-D(G) (Lim and Ye, 2017): logits of any shape -> a scalar."""
    return -generated.mean()


def hinge_loss(real: Tensor, generated: Tensor, mismatched: Sequence[Tensor]) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G)) (Lim and Ye, 2017); a real picture beside what it does not show is a fake.

    Args:
        real, generated: logits (B, L).
        mismatched: logits (B, L) of real pictures with another one's edge map, another class (Reed et al., 2016);
            together they count as much as the generated ones.
    """
    fakes = F.relu(1 + generated).mean()
    if mismatched:
        fakes = (fakes + torch.stack([F.relu(1 + logits).mean() for logits in mismatched]).mean()) / 2
    return F.relu(1 - real).mean() + fakes


def structure_loss(found: Tensor, asked: Tensor) -> Tensor:
    """|k(G) - k|_2, a mean over keypoints: those found again on generated pictures and those asked for, (B, K, 2)."""
    distances: Tensor = (found - asked).norm(dim=2)
    return distances.mean()


def variety_loss(first: Tensor, second: Tensor, real: Tensor, share: float) -> Tensor:
    """max(0, 1 - d(G(z), G(z')) / (share d(x, x'))): mode seeking (Mao et al., 2019) up to a bound.

    Args:
        first, second: (B, 3, H, W) in [-1, 1], generated with the same structures and different noise.
        real: (B', 3, H, W) in [-1, 1]; each is compared with the next.
        share: how different the generated ones must be, as a share of how different real ones are.
    """
    wanted = share * difference(real, real.roll(1, 0))
    return F.relu(1 - difference(first, second) / wanted.clamp(min=1e-3))


def difference(first: Tensor, second: Tensor) -> Tensor:
    """d: how far pictures (B, 3, H, W) differ in coarse colours, brighter or darker as a whole not counting.

    A mean over all, in [-1, 1] units.
    """
    side = min(16, first.shape[-1])
    a, b = (F.adaptive_avg_pool2d(x, side) for x in (first, second))
    return ((a - a.mean((1, 2, 3), keepdim=True)) - (b - b.mean((1, 2, 3), keepdim=True))).abs().mean()


def appearance_loss(shown: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far features of pictures (B, C, h, w) at several depths are apart, over how large the wanted ones are.

    Means of an 8 x 8 grid are compared, and all depths count alike.
    """

    def coarse(feature: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(feature.float(), min(COMPARED, feature.shape[-1]))

    pairs = [(coarse(a), coarse(b)) for a, b in zip(shown, wanted, strict=True)]
    return torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in pairs]).mean()
